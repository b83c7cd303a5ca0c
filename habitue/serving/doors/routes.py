"""Every path of the service."""

from habitue.serving.app import Route
from habitue.serving.doors import klaviyo, native, operating, segment

ROUTES: tuple[Route, ...] = (
    *native.ROUTES, *segment.ROUTES, *klaviyo.ROUTES, *operating.ROUTES,
)  # fmt: skip
