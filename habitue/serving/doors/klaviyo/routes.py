"""Every path of Klaviyo's, each held to the revisions of the API that are spoken here."""

import re
from dataclasses import replace
from functools import wraps

from starlette.responses import Response

from habitue.serving.app import Asked, Route
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
from habitue.serving.doors.klaviyo.wire.asking import refused

REVISION, OLDEST = "2026-10-15", "2024-10-15"          # Klaviyo keeps each for two years
_REVISION = re.compile(r"(\d{4}-\d\d-\d\d)(\.[a-z]+)?", re.ASCII)
# which paths take these; elsewhere they would be passed over in silence
_TAKEN = {
    "include": frozenset({"/api/events", "/api/events/{id}", "/api/profiles/{id}"}),
    "filter": frozenset(
        {"/api/profiles", "/api/events", "/api/segments", "/api/lists"}
        | {f"/api/catalog-{kind}" for kind in ("items", "variants")}
        | {
            f"/api/{kind}/{{id}}/{path}"
            for kind in ("segments", "lists") for path in ("profiles", "relationships/profiles")
        }
    ),
}  # fmt: skip


def check_revision(told: str | None) -> None:
    """Let a revision be asked for that is spoken here; without one it is ours.

    Klaviyo refuses what is older than two years, so nobody asks for that who asked there; what
    comes after ours is answered as ours is.

    Raises:
        Refused: it is none (400), or one that is spoken no more (410).
    """
    if told is None:
        return
    found = _REVISION.fullmatch(told.strip())
    if found is None:
        raise refused("revision", f"A revision is a day, such as {REVISION}.")
    if found[1] < OLDEST:
        raise refused(
            "revision",
            f"Revision {found[1]} is retired; revisions from {OLDEST} on are taken, and answered as"
            f" {REVISION} is.",
            code="gone", status=410,
        )  # fmt: skip


def _held(route: Route) -> Route:
    """A path that passes over nothing that is asked for."""
    parameters = [name for name, paths in _TAKEN.items() if route.path not in paths]

    @wraps(route.endpoint)
    async def endpoint(asked: Asked) -> Response:
        check_revision(asked.request.headers.get("revision"))
        for name in parameters:
            if asked.request.query_params.get(name):
                code = "invalid_filter" if name == "filter" else "invalid"
                raise refused(name, f"There is no '{name}' at this path.", code=code)
        return await route.endpoint(asked)

    return replace(route, endpoint=endpoint)


ROUTES: tuple[Route, ...] = tuple(
    _held(one)
    for one in (
        *writes.ROUTES, *profiles.ROUTES, *metrics.ROUTES, *events.ROUTES,
        *segments.ROUTES, *lists.ROUTES, *members.ROUTES, *catalog.ROUTES, *reports.ROUTES,
    )
)  # fmt: skip
