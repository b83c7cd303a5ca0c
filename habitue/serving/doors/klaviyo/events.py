"""Klaviyo's paths that read events: one by its id, or a page of them, with what they are about."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from starlette.responses import Response

from habitue.events import NO_CURRENCY, currency_exponent
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.metrics import FIELDS as METRIC_FIELDS
from habitue.serving.doors.klaviyo.metrics import metric, metric_id, names_by_id
from habitue.serving.doors.klaviyo.shown import (
    attributes_of,
    no_profile,
    one_profile,
    profile_resource,
)
from habitue.serving.doors.klaviyo.wire.asking import (
    EXTRA_LARGE,
    Page,
    fields,
    filtered,
    filters,
    included,
    page,
)
from habitue.serving.doors.klaviyo.wire.filters import BadFilter, Filter, moment, texts
from habitue.serving.doors.klaviyo.wire.resources import (
    address,
    collection,
    document,
    resource,
    text,
)
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.lake.live.paging import Event, Window
    from habitue.serving.answers.book import Book

FIELDS = ("timestamp", "event_properties", "datetime", "uuid")
INCLUDED = ("profile", "metric", "attributions")
_TIMES = ("greater-or-equal", "greater-than", "less-or-equal", "less-than")
FILTERS = {
    "metric_id": ("equals",), "profile_id": ("equals",), "datetime": _TIMES, "timestamp": _TIMES,
}  # fmt: skip
_SECOND = 1_000_000                        # µs
_LAST_SECOND = 253_402_300_800             # the year 10000


async def get_events(asked: Asked) -> Response:
    """List events, a page of them: `filter`, `sort`, `include`, `fields`, `page`."""
    wanted, beside = fields(asked, "event", FIELDS), _included(asked)
    asks = page(
        asked, default=200, most=1_000, sorts=("-datetime", "datetime", "timestamp"),
        scope="events",
    )  # fmt: skip
    told = filters(asked, FILTERS)
    window = filtered(lambda: _window(told, asks))
    profile, metrics = filtered(
        lambda: (_named(told, "profile_id"), _named(told, "metric_id"))
    )

    def read(book: "Book") -> "tuple[list[Event], list[dict[str, Any]]]":
        from habitue.lake.live import paging

        name = None if metrics is None else names_by_id(book, asked.shop).get(metrics)
        if metrics is not None and name is None:
            return [], []
        found = book.profiles.look(
            lambda connection: paging.events(
                connection, asked.shop.name, window, profile=profile, name=name
            )
        )
        return found, _beside(asked, book, found[: asks.size], beside)

    found, others = await asked.service.reading.ask(read)
    shown = found[: asks.size]
    following: tuple[Page, list[str | int], str] | None = None
    if len(found) > len(shown):
        last = shown[-1]
        following = (asks, [last.time, last.key, last.digest.hex()], "events")
    return collection(
        asked,
        [_event(asked, one, wanted) for one in shown],
        following=following,
        included=others if beside else None,
    )


async def get_event(asked: Asked) -> Response:
    """Show one event: `include`, `fields`."""
    wanted, beside = fields(asked, "event", FIELDS), _included(asked)
    one, others = await _one(asked, beside)
    return document(_event(asked, one, wanted), included=others if beside else None)


async def get_event_profile(asked: Asked) -> Response:
    """Show the profile of an event."""
    asked.need("profiles:read")
    one, _ = await _one(asked, frozenset())
    held = await asked.service.people.get(asked.shop, one.profile)
    if held is None:
        raise no_profile()
    return document(await one_profile(asked, held.id, attributes_of(held, asked.received), held))


async def get_event_metric(asked: Asked) -> Response:
    """Show the metric of an event."""
    wanted = fields(asked, "metric", METRIC_FIELDS)
    one, _ = await _one(asked, frozenset())
    counts = await asked.service.reading.ask(lambda book: book.profiles.names(asked.shop.name))
    if one.name not in counts:             # all such events were erased just now
        raise Refused(404, "not_found", "A metric with that id does not exist.")
    return document(metric(asked, one.name, counts[one.name], wanted))


async def get_event_profile_id(asked: Asked) -> Response:
    """Show the id of an event's profile."""
    one, _ = await _one(asked, frozenset())
    return _identified(asked, "profile", one.profile)


async def get_event_metric_id(asked: Asked) -> Response:
    """Show the id of an event's metric."""
    one, _ = await _one(asked, frozenset())
    return _identified(asked, "metric", metric_id(asked.shop.secret, one.name))


ROUTES = (
    Route(
        method="GET", path="/api/events", endpoint=get_events, source="klaviyo", limit=EXTRA_LARGE
    ),
    Route(
        method="GET", path="/api/events/{id}", endpoint=get_event, source="klaviyo",
        limit=EXTRA_LARGE,
    ),
    *(
        Route(
            method="GET", path=f"/api/events/{{id}}/{path}", endpoint=endpoint, source="klaviyo",
            limit=EXTRA_LARGE,
        )
        for path, endpoint in (
            ("profile", get_event_profile), ("metric", get_event_metric),
            ("relationships/profile", get_event_profile_id),
            ("relationships/metric", get_event_metric_id),
        )
    ),
)  # fmt: skip


def _identified(asked: Asked, kind: str, id: str) -> Response:
    links = {"self": f"{address(asked)}{asked.request.url.path}"}
    return document({"type": kind, "id": id, "links": links})


def _included(asked: Asked) -> frozenset[str]:
    """What is told beside events; a key that reads no profiles is told none here either."""
    found = included(asked, INCLUDED)
    if "profile" in found:
        asked.need("profiles:read")
    return found


async def _one(
    asked: Asked, beside: frozenset[str]
) -> "tuple[Event, list[dict[str, Any]]]":
    """The event that the path names, and what is told beside it.

    Raises:
        Refused: there is none of that id.
    """
    told = asked.request.path_params["id"]

    def read(book: "Book") -> "tuple[Event | None, list[dict[str, Any]]]":
        from habitue.lake.live import paging

        try:
            digest = bytes.fromhex(told)
        except ValueError:
            return None, []
        one = book.profiles.look(lambda held: paging.event(held, asked.shop.name, digest))
        return one, [] if one is None else _beside(asked, book, [one], beside)

    found, others = await asked.service.reading.ask(read)
    if found is None:
        raise Refused(404, "not_found", "An event with that id does not exist.")
    return found, others


def _event(asked: Asked, one: "Event", wanted: frozenset[str] | None) -> dict[str, Any]:
    from habitue.lake.live.told import instant

    attributes = {
        "timestamp": one.time // _SECOND, "event_properties": _properties(one),
        "datetime": text(instant(one.time)), "uuid": str(UUID(bytes=one.digest)),
    }  # fmt: skip
    related = {
        "profile": ("profile", one.profile),
        "metric": ("metric", metric_id(asked.shop.secret, one.name)),
    }
    return resource(
        asked, "event", one.digest.hex(), attributes, related=related, wanted=wanted
    )


def _properties(one: "Event") -> dict[str, Any]:
    """What the event was told with, and what of it is kept apart, where that is not told there."""
    told = msgspec.json.decode(one.properties)
    found: dict[str, Any] = told if isinstance(told, dict) else {}
    if one.minor is not None:
        found.setdefault("$value", _amount(one.minor, one.currency))
    if one.currency not in (None, NO_CURRENCY):
        found.setdefault("$currency_code", one.currency)
    lines = msgspec.json.decode(one.lines)
    if lines and not {"Items", "ProductID", "item"} & found.keys():
        found["Items"] = [
            {"ProductID": item, "Quantity": float(quantity),
             "RowTotal": _amount(minor, one.currency)}
            for item, quantity, minor in lines
        ]  # fmt: skip
    return found


def _amount(minor: int, currency: str | None) -> float:
    return float(Decimal(minor).scaleb(-currency_exponent(currency or NO_CURRENCY)))


def _beside(
    asked: Asked, book: "Book", found: "Sequence[Event]", wanted: frozenset[str]
) -> list[dict[str, Any]]:
    """The profiles and metrics that some events are about, each once."""
    others: list[dict[str, Any]] = []
    if "profile" in wanted:
        keys = [f"profile:{shown}" for shown in dict.fromkeys(one.profile for one in found)]
        others += [
            profile_resource(asked, one.id, attributes_of(one, asked.received), None)
            for one in book.profiles.find(asked.shop.name, *keys)
        ]
    if "metric" in wanted:
        counts = book.profiles.names(asked.shop.name)
        names = dict.fromkeys(one.name for one in found if one.name in counts)
        others += [metric(asked, name, counts[name], None) for name in names]
    return others


def _window(told: Sequence[Filter], asks: Page) -> "Window":
    from habitue.lake.live import paging
    from habitue.lake.live.told import microseconds

    earliest: int | None = None
    latest: int | None = None
    for one in told:
        if one.field == "datetime":
            begin = end = microseconds(moment(one))
        elif one.field == "timestamp":
            begin = _seconds(one) * _SECOND
            end = begin + _SECOND - 1      # a timestamp is all of its second
        else:
            continue
        match one.operator:
            case "greater-or-equal" | "greater-than":
                at = begin if one.operator == "greater-or-equal" else end + 1
                earliest = at if earliest is None else max(at, earliest)
            case _:
                at = end if one.operator == "less-or-equal" else begin - 1
                latest = at if latest is None else min(at, latest)
    return paging.Window(
        by="time", descending=asks.descending, after=asks.after, most=asks.size + 1,
        within={"told.time": (earliest, latest)},
    )  # fmt: skip


def _seconds(one: Filter) -> int:
    value = one.value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LAST_SECOND:
        raise BadFilter("'timestamp' is compared with seconds since 1970, a whole number")
    return value


def _named(told: Sequence[Filter], field: str) -> str | None:
    """The id that a filter names; none: any."""
    found = {texts(one)[0] for one in told if one.field == field}
    if len(found) > 1:
        raise BadFilter(f"'{field}' equals one id")
    return next(iter(found), None)
