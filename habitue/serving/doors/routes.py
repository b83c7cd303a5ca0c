"""Every path of the service."""

from habitue.serving.app import Route
from habitue.serving.doors import erasures, klaviyo, native, operating, segment

ROUTES: tuple[Route, ...] = (
    *native.ROUTES, *segment.ROUTES, *klaviyo.ROUTES, *erasures.ROUTES,
    *operating.ROUTES,
)  # fmt: skip
