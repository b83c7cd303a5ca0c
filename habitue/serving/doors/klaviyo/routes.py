"""Every path of Klaviyo's."""

from habitue.serving.app import Route
from habitue.serving.doors.klaviyo import (
    catalog,
    events,
    lists,
    members,
    metrics,
    profiles,
    reports,
    segments,
    writes,
)

ROUTES: tuple[Route, ...] = (
    *writes.ROUTES, *profiles.ROUTES, *metrics.ROUTES, *events.ROUTES,
    *segments.ROUTES, *lists.ROUTES, *members.ROUTES, *catalog.ROUTES, *reports.ROUTES,
)  # fmt: skip
