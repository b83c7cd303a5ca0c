"""Every path of the service."""

from habitue.serving.app import Route
from habitue.serving.doors import answers, erasures, klaviyo, native, operating, segment

ROUTES: tuple[Route, ...] = (
    *native.ROUTES, *segment.ROUTES, *klaviyo.ROUTES, *erasures.ROUTES,
    *answers.ROUTES, *operating.ROUTES,
)  # fmt: skip
