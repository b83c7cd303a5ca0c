"""Every path of the service."""

from habitue.serving.app import Route
from habitue.serving.doors import klaviyo, native, operating

ROUTES: tuple[Route, ...] = (*native.ROUTES, *klaviyo.ROUTES, *operating.ROUTES)
