"""Klaviyo's paths that add up: events over time, and how segments grew and shrank.

Events are counted in the lake, which is about a second behind; members come from the changes that
the live state keeps, so they are told from when on an audience was followed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from habitue.directory import Limit
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.metrics import names_by_id
from habitue.serving.doors.klaviyo.segments import places_of
from habitue.serving.doors.klaviyo.wire.asking import SMALL, wrong
from habitue.serving.doors.klaviyo.wire.filters import (
    BadFilter,
    Filter,
    checked,
    moment,
    parsed,
    texts,
)
from habitue.serving.doors.klaviyo.wire.resources import address, document, text
from habitue.serving.doors.klaviyo.wire.spans import INTERVALS, KEYS, named, parts, zone

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book
    from habitue.serving.answers.reports import Members

MOST_BYTES = 65_536
MEASUREMENTS = ("count", "sum_value", "unique")
STATISTICS = ("total_members", "members_added", "members_removed", "net_members_changed")
_ADVERBS = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}
_AT = "/data/attributes"
_TIMES = {"datetime": ("greater-or-equal", "less-than")}
_SEGMENTS = {"segment_id": ("equals", "any")}


async def aggregate_metric(asked: Asked) -> Response:
    """Count the events of a metric, by hour, day, week or month: count, sum_value, unique."""
    told = await _attributes(asked, "metric-aggregate")
    measures = _several(told, "measurements", MEASUREMENTS)
    if told.get("by"):
        raise wrong(f"{_AT}/by", "Events are not grouped by anything but time here.")
    begin, end = _span(told)
    unit = _one(told, "interval", INTERVALS, "day")
    within = zone(str(told.get("timezone") or "UTC"))
    if within is None:
        raise wrong(f"{_AT}/timezone", "No time zone has that name.")
    dates = _parts(begin, end, unit, within)

    def read(book: "Book") -> dict[str, list[float]]:
        from habitue.serving.answers.reports import counted

        name = names_by_id(book, asked.shop).get(str(told.get("metric_id")))
        if name is None:
            raise wrong(f"{_AT}/metric_id", "A metric with that id does not exist.")
        lake = asked.service.place.lake()
        return counted(lake, asked.shop.name, name, [*dates, end], begin,
                       book.settings(lake, asked.shop.name).currency)  # fmt: skip

    found = await asked.service.reading.ask(read)
    row = {"dimensions": [], "measurements": {one: found[one] for one in measures}}
    attributes = {"dates": [text(one) for one in dates], "data": [row]}
    return document(_told(asked, "metric-aggregate", attributes))


async def report_segment_values(asked: Asked) -> Response:
    """Say how many entered and left segments in a span, and how many were in at its end."""
    told = await _attributes(asked, "segment-values-report")
    statistics = _several(told, "statistics", STATISTICS)
    found, _ = await _members(asked, told, None)
    results = [
        {
            "groupings": {"segment_id": id},
            "statistics": {one: getattr(each, one)[0] for one in statistics},
        }
        for id, each in found.items()
    ]
    return document(_told(asked, "segment-values-report", {"results": results}))


async def report_segment_series(asked: Asked) -> Response:
    """Say the same for every hour, day, week or month of a span."""
    told = await _attributes(asked, "segment-series-report")
    statistics = _several(told, "statistics", STATISTICS)
    unit = _ADVERBS[_one(told, "interval", tuple(_ADVERBS), None)]
    found, dates = await _members(asked, told, unit)
    results = [
        {
            "groupings": {"segment_id": id},
            "statistics": {one: getattr(each, one) for one in statistics},
        }
        for id, each in found.items()
    ]
    attributes = {"results": results, "date_times": [text(one) for one in dates]}
    return document(_told(asked, "segment-series-report", attributes))


ROUTES = (
    Route(
        method="POST", path="/api/metric-aggregates", endpoint=aggregate_metric,
        source="klaviyo", limit=SMALL,
    ),
    Route(
        method="POST", path="/api/segment-values-reports", endpoint=report_segment_values,
        source="klaviyo", limit=Limit(1, 2),
    ),
    Route(
        method="POST", path="/api/segment-series-reports", endpoint=report_segment_series,
        source="klaviyo", limit=Limit(1, 2),
    ),
)  # fmt: skip


async def _members(
    asked: Asked, told: Mapping[str, Any], unit: str | None
) -> "tuple[dict[str, Members], list[datetime]]":
    """By segment, what happened in each part of the span; without a unit it is one part."""
    wanted = _wanted_segments(told)

    def read(book: "Book") -> "tuple[dict[str, Members], list[datetime]]":
        from habitue.serving.answers.reports import members_over
        from habitue.serving.answers.segments import segments_of

        places = places_of(asked, book)
        settings = book.settings(places.lake, asked.shop.name)
        within = zone(settings.zone) or asked.received.tzinfo
        assert within is not None, "an instant has a zone"
        begin, end = _timeframe(told, asked.received, within)
        dates = [begin] if unit is None else _parts(begin, end, unit, within)
        held = segments_of(places)
        chosen = {id: held[id].audience for id in held if wanted is None or id in wanted}
        return members_over(book, asked.shop.name, chosen, begin, [*dates, end]), dates

    return await asked.service.reading.ask(read)


async def _attributes(asked: Asked, kind: str) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(await asked.body(most_bytes=MOST_BYTES), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise wrong("", "A JSON object was wanted.") from None
    held = told.get("data")
    if not isinstance(held, dict) or held.get("type") != kind:
        raise wrong("/data/type", f"'type' must be '{kind}'.")
    found = held.get("attributes")
    if not isinstance(found, dict):
        raise wrong(_AT, "An object was wanted.")
    return found


def _several(told: Mapping[str, Any], name: str, known: Sequence[str]) -> list[str]:
    found = told.get(name)
    if not isinstance(found, list) or not found or any(one not in known for one in found):
        raise wrong(f"{_AT}/{name}", f"Some of {', '.join(known)} were wanted, in a list.")
    return list(dict.fromkeys(found))


def _one(
    told: Mapping[str, Any], name: str, known: Sequence[str], otherwise: str | None
) -> str:
    found = told.get(name, otherwise)
    if found not in known:
        raise wrong(f"{_AT}/{name}", f"One of {', '.join(known)} was wanted.")
    return str(found)


def _span(told: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """The span that filters of an aggregate name; both ends are needed."""
    sent = told.get("filter")
    if not isinstance(sent, list) or not all(isinstance(one, str) for one in sent):
        raise wrong(f"{_AT}/filter", "A list of filters was wanted.")
    held = [one for part in sent for one in _filters(part, _TIMES)]
    begins = [moment(one) for one in held if one.operator == "greater-or-equal"]
    ends = [moment(one) for one in held if one.operator == "less-than"]
    if not begins or not ends or max(begins) >= min(ends):
        raise wrong(
            f"{_AT}/filter",
            "Both ends of a span were wanted: greater-or-equal(datetime,…), less-than(datetime,…).",
        )
    return max(begins), min(ends)


def _filters(sent: str, known: Mapping[str, Sequence[str]]) -> tuple[Filter, ...]:
    try:
        found = checked(parsed(sent), known)
        for one in found:                  # so that a value that cannot be is told here
            if one.field == "datetime":
                moment(one)
            else:
                texts(one)
    except BadFilter as error:
        raise wrong(f"{_AT}/filter", f"Invalid filter provided: {error}.") from None
    return found


def _wanted_segments(told: Mapping[str, Any]) -> set[str] | None:
    sent = told.get("filter")
    if sent is None:
        return None
    if not isinstance(sent, str):
        raise wrong(f"{_AT}/filter", "A filter was wanted.")
    return set.intersection(*(set(texts(one)) for one in _filters(sent, _SEGMENTS)))


def _timeframe(
    told: Mapping[str, Any], now: datetime, within: Any
) -> tuple[datetime, datetime]:
    sent = told.get("timeframe")
    place = f"{_AT}/timeframe"
    if not isinstance(sent, dict):
        raise wrong(place, 'A time frame was wanted: {"key": "last_30_days"}, or start and end.')
    if "key" in sent:
        found = named(str(sent["key"]), now, within)
        if found is None:
            raise wrong(f"{place}/key", f"One of {', '.join(KEYS)} was wanted.")
        return found
    ends = [_instant(sent.get(name), f"{place}/{name}", within) for name in ("start", "end")]
    if ends[0] >= ends[1]:
        raise wrong(place, "A time frame ends after it begins.")
    return ends[0], ends[1]


def _instant(sent: object, place: str, within: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(sent))
    except ValueError:
        raise wrong(place, "An instant was wanted: 2026-04-19T00:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=within)


def _parts(begin: datetime, end: datetime, unit: str, within: Any) -> list[datetime]:
    try:
        return parts(begin, end, unit, within)
    except (ValueError, OverflowError):
        raise wrong(_AT, "The span has too many parts; ask for longer ones.") from None


def _told(asked: Asked, kind: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    links = {"self": f"{address(asked)}{asked.request.url.path}"}
    return {"type": kind, "id": asked.receipt, "attributes": attributes, "links": links}
