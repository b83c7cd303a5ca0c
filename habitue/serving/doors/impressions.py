"""Our own path for what was shown: which items of a list, at which places, to whom.

It becomes an event like any other, `recommendations_shown`, on disk before it is acknowledged, so
that what was shown can be held against what followed: for rotation now, and for judging another way
of listing later, which needs the places, and the propensities where items were drawn by chance.
"""

from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.events import RECOMMENDATIONS_SHOWN, Instant
from habitue.ingest.doors import native as translator
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, body, faulty
from habitue.serving.doors.native import Answer, Tally
from habitue.serving.replies import Fault

MOST_BYTES = 200_000
MOST_ITEMS = 200

Code = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Chance = Annotated[float, msgspec.Meta(gt=0, le=1)]
Listed = Annotated[tuple[Code, ...], msgspec.Meta(min_length=1, max_length=MOST_ITEMS)]


class Impression(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Items of one list that somebody was shown."""

    list_id: Code                          # as the list told it
    items: Listed                          # their codes, in the order in which they stood
    first: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1   # the place of the first of them
    customer: str | int | None = None      # to whom, as in an event; nobody, unless told
    email: str | None = None
    phone: str | None = None
    anonymous_id: str | int | None = None
    propensities: tuple[Chance, ...] = ()  # with which each was drawn; none: it was not by chance
    slot: Annotated[str, msgspec.Meta(max_length=200)] = ""    # where: "home page", "cart"
    time: Instant | None = None            # when; now, unless told


async def post_impressions(asked: Asked) -> Response:
    """Take note of what was shown, so that what nobody minds makes room for something else."""
    told = await body(asked, Impression, most_bytes=MOST_BYTES)
    if told.propensities and len(told.propensities) != len(told.items):
        detail = "`propensities` has one for each item, or there are none"
        raise faulty("bad_json", [Fault(detail=detail, pointer="/propensities")])
    tally = Tally()
    tally.add(await asked.take(msgspec.json.encode(event_of(told)), translator.translate))
    return answer(asked, tally.answer(asked.receipt))


def event_of(told: Impression) -> dict[str, Any]:
    """An impression as the event that it becomes; told twice it is one."""
    last = told.first + len(told.items) - 1
    properties: dict[str, Any] = {
        "list_id": told.list_id,
        "items": told.items,
        "positions": list(range(told.first, last + 1)),
    }
    if told.propensities:
        properties["propensities"] = told.propensities
    if told.slot:
        properties["slot"] = told.slot
    keys = ("customer", "email", "phone", "anonymous_id", "time")
    who = {name: getattr(told, name) for name in keys if getattr(told, name) is not None}
    return {
        "name": RECOMMENDATIONS_SHOWN, "id": f"{told.list_id} {told.first}-{last}",
        "properties": properties, **who,
    }  # fmt: skip


ROUTES = (
    Route(
        method="POST", path="/v1/impressions", endpoint=post_impressions, public=True,
        body=(Impression,), reply=Answer, status=202,
    ),
)  # fmt: skip
