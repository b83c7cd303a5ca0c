"""Every path of Klaviyo's."""

from habitue.serving.app import Route
from habitue.serving.doors.klaviyo import events, metrics, profiles, writes

ROUTES: tuple[Route, ...] = (
    *writes.ROUTES, *profiles.ROUTES, *metrics.ROUTES, *events.ROUTES,
)  # fmt: skip
