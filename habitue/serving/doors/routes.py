"""Every path of the service."""

from habitue.serving.app import Route
from habitue.serving.doors import (
    described,
    erasures,
    impressions,
    native,
    operating,
    rules,
    segment,
)
from habitue.serving.doors.answers import routes as answers
from habitue.serving.doors.klaviyo import routes as klaviyo

ROUTES: tuple[Route, ...] = (
    *native.ROUTES, *segment.ROUTES, *klaviyo.ROUTES, *erasures.ROUTES,
    *answers.ROUTES, *impressions.ROUTES, *rules.ROUTES, *operating.ROUTES, *described.ROUTES,
)  # fmt: skip
