"""Every path of Klaviyo's."""

from habitue.serving.app import Route
from habitue.serving.doors.klaviyo import events, members, metrics, profiles, segments, writes

ROUTES: tuple[Route, ...] = (
    *writes.ROUTES, *profiles.ROUTES, *metrics.ROUTES, *events.ROUTES,
    *segments.ROUTES, *members.ROUTES,
)  # fmt: skip
