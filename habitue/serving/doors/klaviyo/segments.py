"""Klaviyo's paths of segments: the saved audiences, who is in one, and since when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response

from habitue.directory import Limit
from habitue.errors import HabitueError
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.metrics import names_by_id
from habitue.serving.doors.klaviyo.shown import no_profile
from habitue.serving.doors.klaviyo.wire.asking import (
    LARGE,
    SMALL,
    additional,
    fields,
    filtered,
    filters,
    page,
    wrong,
)
from habitue.serving.doors.klaviyo.wire.filters import BadFilter, Filter, moment, texts
from habitue.serving.doors.klaviyo.wire.resources import collection, document, resource, text
from habitue.serving.replies import Refused, empty

if TYPE_CHECKING:
    from habitue.audiences.language.klaviyo import Names
    from habitue.serving.answers.book import Book
    from habitue.serving.answers.segments import Places, Segment

MOST_BYTES = 1_048_576
MOST_NAME = 200
FIELDS = (
    "name", "definition", "created", "updated", "is_active", "is_processing", "is_starred",
    "profile_count",
)  # fmt: skip
_NAMED, _AFTER, _IS = ("any", "equals"), ("greater-than",), ("equals",)
FILTERS = {
    "id": _NAMED, "name": _NAMED, "created": _AFTER, "updated": _AFTER, "is_active": _IS,
    "is_starred": _IS,
}  # fmt: skip
SORTS = ("name", "id", "created", "updated")
_CHANGED = ("name", "definition", "is_starred", "is_active")

Found = TypeVar("Found")


async def get_segments(asked: Asked) -> Response:
    """List segments, a page of them: `filter`, `sort`, `fields`, `page`."""
    wanted = fields(asked, "segment", FIELDS)
    asks = page(asked, default=10, most=10, sorts=SORTS, scope="segments")
    told = filters(asked, FILTERS)

    def read(places: "Places", names: "Names") -> list[tuple[tuple[str, str], dict[str, Any]]]:
        from habitue.serving.answers.segments import segments_of

        kept = [
            one for one in segments_of(places).values()
            if filtered(partial(_let, told, one))
        ]  # fmt: skip
        placed = sorted(((_place(one, asks.by), one) for one in kept), reverse=asks.descending,
                        key=lambda pair: pair[0])  # fmt: skip
        after = None if asks.after is None else tuple(map(str, asks.after))
        return [
            (place, segment(asked, one, names, wanted))
            for place, one in placed
            if after is None or (place < after if asks.descending else place > after)
        ]

    found = await _ask(asked, read)
    shown = found[: asks.size]
    more = (asks, shown[-1][0], "segments") if len(found) > len(shown) else None
    return collection(asked, [one for _, one in shown], following=more)


async def get_segment(asked: Asked) -> Response:
    """Show one segment; `additional-fields[segment]=profile_count` tells how many are in it."""
    wanted = fields(asked, "segment", FIELDS)
    more = additional(asked, "segment", ("profile_count",))

    def read(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.audiences.changes.reading import count

        one = held(places, asked)
        shown = segment(asked, one, names, wanted)
        if more:
            shown["attributes"]["profile_count"] = places.book.profiles.look(
                lambda connection: count(connection, asked.shop.name, one.audience)
            )
        return shown

    return document(await _ask(asked, read))


async def create_segment(asked: Asked) -> Response:
    """Save a segment by its definition; it is applied to everybody at once."""
    told = _told(await asked.body(most_bytes=MOST_BYTES))
    name, definition = _name(told), _definition(told)

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import Segment, put, segment_id, segments_of

        if asked.shop.name not in places.lake.shops():
            raise wrong("/data", "The shop has told nothing yet; send an event first.")
        if any(name in (one.label, one.audience) for one in segments_of(places).values()):
            refused = wrong("/data/attributes/name", "There is a segment of that name already.")
            raise refused
        made = Segment(
            id=segment_id(asked.shop.secret, name), audience=name, label=name,
            condition=_sentence(definition, names), created=asked.received,
            updated=asked.received, starred=bool(told.get("is_starred")),
        )  # fmt: skip
        _saved(lambda: put(places, made, is_saved=True))
        return segment(asked, made, names, None)

    return document(await _ask(asked, write), 201)


async def update_segment(asked: Asked) -> Response:
    """Change a segment: `name`, `definition`, `is_starred`; or, alone, `is_active`."""
    told = _told(await asked.body(most_bytes=MOST_BYTES))
    changed = {name: told[name] for name in _CHANGED if told.get(name) is not None}
    if "is_active" in changed and len(changed) > 1:
        raise wrong("/data/attributes", "'is_active' must be the only attribute that is told.")

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import put, segments_of

        one = held(places, asked)
        found = replace(one, updated=asked.received)
        if "name" in changed:
            found = replace(found, label=_name(told))
            if any(found.label in (other.label, other.audience) and other.id != one.id
                   for other in segments_of(places).values()):  # fmt: skip
                raise wrong("/data/attributes/name", "There is a segment of that name already.")
        if "is_starred" in changed:
            found = replace(found, starred=_yes(told, "is_starred"))
        if "is_active" in changed:
            found = replace(found, active=_yes(told, "is_active"))
        if "definition" in changed:
            found = replace(found, condition=_sentence(_definition(told), names))
        is_saved = (found.condition, found.active) != (one.condition, one.active)
        found = replace(found, applied=one.applied and not is_saved)
        _saved(lambda: put(places, found, is_saved=is_saved))
        return segment(asked, found, names, None)

    return document(await _ask(asked, write))


async def delete_segment(asked: Asked) -> Response:
    """Take a segment away; whoever was in it leaves."""

    def write(places: "Places", _: "Names") -> None:
        from habitue.serving.answers.segments import drop

        drop(places, held(places, asked))

    await _ask(asked, write)
    return empty(204)


async def get_profile_segments(asked: Asked) -> Response:
    """List the segments that a profile is in."""
    wanted, shown = fields(asked, "segment", FIELDS), asked.request.path_params["id"]

    def read(places: "Places", names: "Names") -> list[dict[str, Any]]:
        from habitue.serving.answers.segments import segments_of

        profile = places.book.profiles.get(asked.shop.name, shown)
        if profile is None:
            raise no_profile()
        of = {name for name, _ in places.book.memberships(asked.shop.name, profile.customer)}
        return [
            segment(asked, one, names, wanted)
            for one in sorted(segments_of(places).values(), key=lambda one: one.label)
            if one.audience in of
        ]

    return collection(asked, await _ask(asked, read))


ROUTES = (
    Route(method="GET", path="/api/segments", endpoint=get_segments, source="klaviyo", limit=LARGE),
    Route(
        method="POST", path="/api/segments", endpoint=create_segment, source="klaviyo",
        limit=Limit(1, 15),
    ),
    Route(
        method="GET", path="/api/segments/{id}", endpoint=get_segment, source="klaviyo",
        limit=LARGE,
    ),
    Route(
        method="PATCH", path="/api/segments/{id}", endpoint=update_segment, source="klaviyo",
        limit=Limit(1, 15),
    ),
    Route(
        method="DELETE", path="/api/segments/{id}", endpoint=delete_segment, source="klaviyo",
        limit=Limit(1, 15),
    ),
    Route(
        method="GET", path="/api/profiles/{id}/segments", endpoint=get_profile_segments,
        source="klaviyo", limit=SMALL,
    ),
)  # fmt: skip


def segment(
    asked: Asked, one: "Segment", names: "Names", wanted: frozenset[str] | None
) -> dict[str, Any]:
    """A segment as a resource."""
    from habitue.serving.answers.segments import definition_of

    attributes = {
        "name": one.label, "definition": definition_of(one, names), "created": text(one.created),
        "updated": text(one.updated), "is_active": one.active,
        "is_processing": one.active and not one.applied and not one.problem,
        "is_starred": one.starred, "problem": one.problem or None,
    }  # fmt: skip
    return resource(asked, "segment", one.id, attributes, wanted=wanted)


def held(places: "Places", asked: Asked) -> "Segment":
    """The segment that the path names."""
    from habitue.serving.answers.segments import segments_of

    found = segments_of(places).get(asked.request.path_params["id"])
    if found is None:
        raise Refused(404, "not_found", "A segment with that id does not exist.")
    return found


def places_of(asked: Asked, book: "Book") -> "Places":
    """Where the shop's segments are kept."""
    from habitue.serving.answers.segments import Places

    place = asked.service.place
    return Places(book, place.lake(), place.directory, asked.shop)


async def _ask(asked: Asked, question: "Callable[[Places, Names], Found]") -> Found:
    """Ask with the names that stand for ids, in a thread."""

    def ask(book: "Book") -> Found:
        from habitue.audiences.language.klaviyo import Names
        from habitue.serving.answers.segments import MetricIds, segments_of

        places = places_of(asked, book)
        events = MetricIds(names_by_id(book, asked.shop))
        audiences = {one.id: one.audience for one in segments_of(places).values()}
        return question(places, Names(events, audiences))

    return await asked.service.reading.ask(ask)


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body, type=dict[str, dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        raise wrong("/data", "A segment resource was wanted.") from None
    found = told.get("data", {}).get("attributes")
    if not isinstance(found, dict):
        raise wrong("/data/attributes", "An object was wanted.")
    return found


def _name(told: Mapping[str, Any]) -> str:
    name = told.get("name")
    is_good = isinstance(name, str) and name.strip() and len(name) <= MOST_NAME
    if not is_good or not str(name).isprintable() or '"' in str(name) or "\\" in str(name):
        raise wrong(
            "/data/attributes/name",
            f"A name is text of at most {MOST_NAME} characters without quotes and backslashes.",
        )
    return str(name).strip()


def _definition(told: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(told.get("definition"), dict):
        raise wrong("/data/attributes/definition", "A definition was wanted.")
    found: dict[str, Any] = told["definition"]
    return found


def _yes(told: Mapping[str, Any], name: str) -> bool:
    if not isinstance(told[name], bool):
        raise wrong(f"/data/attributes/{name}", "True or false was wanted.")
    return bool(told[name])


def _sentence(definition: Mapping[str, Any], names: "Names") -> str:
    """What a definition means; one that is refused is told with the pointer to its condition."""
    from habitue.serving.answers.segments import sentence_of

    try:
        return sentence_of(definition, names)
    except HabitueError as error:
        pointer, message = "", str(error).partition("\n")[0]
        while message.startswith("/") and ": " in message:
            pointer, _, message = message.partition(": ")
        raise wrong(f"/data/attributes/definition{pointer.rstrip('/')}", message) from None


def _saved(work: Callable[[], None]) -> None:
    try:
        work()
    except HabitueError as error:
        message = str(error).partition("\n")[0]
        raise wrong("/data/attributes/definition", message) from None


def _let(told: Sequence[Filter], one: "Segment") -> bool:
    """Whether all filters let a segment through."""
    return all(_lets(by, one) for by in told)


def _lets(by: Filter, one: "Segment") -> bool:
    """Whether a filter lets a segment through."""
    match by.field:
        case "id" | "name":
            return (one.id if by.field == "id" else one.label) in texts(by)
        case "created" | "updated":
            return bool(getattr(one, by.field) > moment(by))
    if not isinstance(by.value, bool):
        raise BadFilter(f"'{by.field}' is compared with true or false")
    return (one.active if by.field == "is_active" else one.starred) is by.value


def _place(one: "Segment", by: str) -> tuple[str, str]:
    match by:
        case "created" | "updated":
            return getattr(one, by).isoformat(timespec="microseconds"), one.id
        case "name":
            return one.label, one.id
    return one.id, one.id
