"""Klaviyo's paths of segments: the saved audiences. What lists share with them is here, too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response

from habitue.directory import Limit
from habitue.errors import BadAudience, HabitueError, NoSuchAudience
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.metrics import names_by_id
from habitue.serving.doors.klaviyo.shown import no_profile
from habitue.serving.doors.klaviyo.wire.asking import (
    LARGE,
    SMALL,
    additional,
    all_wrong,
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
    return await listed(asked, "segment", FIELDS, FILTERS)


async def listed(
    asked: Asked, kind: str, known: Sequence[str], by: Mapping[str, Sequence[str]]
) -> Response:
    """A page of segments, or of lists, with the fields and filters that are known of them."""
    wanted, scope = fields(asked, kind, known), f"{kind}s"
    asks = page(asked, default=10, most=10, sorts=SORTS, scope=scope)
    told = filters(asked, by)

    def read(places: "Places", names: "Names") -> list[tuple[tuple[str, str], dict[str, Any]]]:
        from habitue.serving.answers.segments import segments_of

        kept = [
            one for one in segments_of(places, kind).values()
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

    found = await ask(asked, read)
    shown = found[: asks.size]
    more = (asks, shown[-1][0], scope) if len(found) > len(shown) else None
    return collection(asked, [one for _, one in shown], following=more)


async def get_segment(asked: Asked) -> Response:
    """Show one segment; `additional-fields[segment]=profile_count` tells how many are in it."""
    return await shown_one(asked, "segment", FIELDS)


async def shown_one(asked: Asked, kind: str, known: Sequence[str]) -> Response:
    """One segment or list, and where that is asked for how many are in it."""
    wanted, more = fields(asked, kind, known), additional(asked, kind, ("profile_count",))

    def read(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.audiences.changes.reading import count

        one = held(places, asked, kind)
        shown = segment(asked, one, names, wanted)
        if more:
            shown["attributes"]["profile_count"] = places.book.profiles.look(
                lambda connection: count(connection, asked.shop.name, one.audience)
            )
        return shown

    return document(await ask(asked, read))


async def create_segment(asked: Asked) -> Response:
    """Save a segment by its definition; it is applied to everybody at once."""
    told = attributes_told(await asked.body(most_bytes=MOST_BYTES))
    name, definition = name_told(told), _definition(told)

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import Segment, put, segment_id

        check_name(places, name)
        made = Segment(
            id=segment_id(asked.shop.secret, name), audience=name, label=name,
            condition=_sentence(definition, names), created=asked.received,
            updated=asked.received, starred=bool(told.get("is_starred")),
        )  # fmt: skip
        saved(lambda: put(places, made, is_saved=True))
        return segment(asked, made, names, None)

    return document(await ask(asked, write), 201)


def check_name(places: "Places", name: str, id: str = "") -> None:
    """Let a segment or list be called so; its `id`, where there is one.

    Raises:
        Refused: another has the name, or is the audience that has it.
    """
    from habitue.serving.answers.segments import groups_of

    for one in groups_of(places).values():
        if name in (one.label, one.audience) and one.id != id:
            told = f"There is a {one.kind} of that name already."
            raise wrong("/data/attributes/name", told)


async def update_segment(asked: Asked) -> Response:
    """Change a segment: `name`, `definition`, `is_starred`; or, alone, `is_active`."""
    told = attributes_told(await asked.body(most_bytes=MOST_BYTES))
    changed = {name: told[name] for name in _CHANGED if told.get(name) is not None}
    if "is_active" in changed and len(changed) > 1:
        raise wrong("/data/attributes", "'is_active' must be the only attribute that is told.")

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import put

        one = held(places, asked, "segment")
        found = replace(one, updated=asked.received)
        if "name" in changed:
            found = replace(found, label=name_told(told))
            check_name(places, found.label, one.id)
        if "is_starred" in changed:
            found = replace(found, starred=_yes(told, "is_starred"))
        if "is_active" in changed:
            found = replace(found, active=_yes(told, "is_active"))
        if "definition" in changed:
            found = replace(found, condition=_sentence(_definition(told), names))
        is_saved = (found.condition, found.active) != (one.condition, one.active)
        found = replace(found, applied=one.applied and not is_saved)
        saved(lambda: put(places, found, is_saved=is_saved))
        return segment(asked, found, names, None)

    return document(await ask(asked, write))


async def delete_segment(asked: Asked) -> Response:
    """Take a segment away; whoever was in it leaves."""
    return await dropped(asked, "segment")


async def dropped(asked: Asked, kind: str) -> Response:
    """Take a segment or list away."""

    def write(places: "Places", _: "Names") -> None:
        from habitue.serving.answers.segments import drop

        drop(places, held(places, asked, kind))

    await ask(asked, write)
    return empty(204)


async def get_profile_segments(asked: Asked) -> Response:
    """List the segments that a profile is in."""
    return await listed_of_profile(asked, "segment", FIELDS)


async def get_profile_segment_ids(asked: Asked) -> Response:
    """List the ids of the segments that a profile is in."""
    return await identified_of_profile(asked, "segment")


async def listed_of_profile(asked: Asked, kind: str, known: Sequence[str]) -> Response:
    """The segments that a profile is in, or the lists that it is on."""
    wanted = fields(asked, kind, known)
    return collection(asked, await of_profile(asked, kind, wanted))


async def identified_of_profile(asked: Asked, kind: str) -> Response:
    """The same as ids alone."""
    found = await of_profile(asked, kind, frozenset())
    return collection(asked, [{"type": kind, "id": one["id"]} for one in found])


async def of_profile(
    asked: Asked, kind: str, wanted: frozenset[str] | None
) -> list[dict[str, Any]]:
    """The segments, or lists, of the profile that the path names, by name.

    Raises:
        Refused: nobody has its id.
    """

    def read(places: "Places", names: "Names") -> list[dict[str, Any]]:
        from habitue.serving.answers.segments import segments_of

        profile = places.book.profiles.get(asked.shop.name, asked.request.path_params["id"])
        if profile is None:
            raise no_profile()
        of = {name for name, _ in places.book.memberships(asked.shop.name, profile.customer)}
        return [
            segment(asked, one, names, wanted)
            for one in sorted(segments_of(places, kind).values(), key=lambda one: one.label)
            if one.audience in of
        ]

    return await ask(asked, read)


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
    Route(
        method="GET", path="/api/profiles/{id}/relationships/segments",
        endpoint=get_profile_segment_ids, source="klaviyo", limit=SMALL,
    ),
)  # fmt: skip


def segment(
    asked: Asked, one: "Segment", names: "Names", wanted: frozenset[str] | None
) -> dict[str, Any]:
    """A segment or list as a resource."""
    from habitue.serving.answers.segments import LIST, definition_of

    if one.kind == LIST:
        told = {
            "name": one.label, "created": text(one.created), "updated": text(one.updated),
            "opt_in_process": "single_opt_in",
        }  # fmt: skip
        return resource(asked, "list", one.id, told, wanted=wanted)
    attributes = {
        "name": one.label, "definition": definition_of(one, names), "created": text(one.created),
        "updated": text(one.updated), "is_active": one.active,
        "is_processing": one.active and not one.applied and not one.problem,
        "is_starred": one.starred, "problem": one.problem or None,
    }  # fmt: skip
    return resource(asked, "segment", one.id, attributes, wanted=wanted)


def held(places: "Places", asked: Asked, kind: str) -> "Segment":
    """The segment or list that the path names."""
    from habitue.serving.answers.segments import segments_of

    found = segments_of(places, kind).get(asked.request.path_params["id"])
    if found is None:
        raise Refused(404, "not_found", f"A {kind} with that id does not exist.")
    return found


def places_of(asked: Asked, book: "Book") -> "Places":
    """Where the shop's segments are kept."""
    from habitue.serving.answers.segments import Places

    place = asked.service.place
    return Places(book, place.lake(), place.directory, asked.shop)


async def ask(asked: Asked, question: "Callable[[Places, Names], Found]") -> Found:
    """Ask with the names that stand for ids, in a thread."""

    def answer(book: "Book") -> Found:
        from habitue.audiences.language.klaviyo import Names
        from habitue.serving.answers.segments import GroupIds, MetricIds, groups_of

        places = places_of(asked, book)
        own = asked.shop.names.get("klaviyo", {})
        events = MetricIds(names_by_id(book, asked.shop), own)
        audiences = GroupIds((one.id, one.audience) for one in groups_of(places).values())
        return question(places, Names(events, audiences))

    return await asked.service.reading.ask(answer)


def attributes_told(body: bytes) -> dict[str, Any]:
    """The attributes of the resource in a body.

    Raises:
        Refused: there are none.
    """
    try:
        told = msgspec.json.decode(body, type=dict[str, dict[str, Any]])
    except (msgspec.DecodeError, RecursionError):
        raise wrong("/data", "A resource with its attributes was wanted.") from None
    found = told.get("data", {}).get("attributes")
    if not isinstance(found, dict):
        raise wrong("/data/attributes", "An object was wanted.")
    return found


def name_told(told: Mapping[str, Any]) -> str:
    """The name among attributes.

    Raises:
        Refused: it is none.
    """
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
    """What a definition means.

    Raises:
        Refused: it means nothing that is supported; each condition at fault is told by its pointer.
    """
    from habitue.serving.answers.segments import sentence_of

    try:
        return sentence_of(definition, names)
    except HabitueError as error:
        faults = list(_faults(definition, names)) or [_fault(error)]
    raise all_wrong([(f"/data/attributes/definition{at}", message) for at, message in faults])


def _faults(definition: Mapping[str, Any], names: "Names") -> Iterator[tuple[str, str]]:
    """Where each condition that is refused by itself stands, and why it is."""
    from habitue.serving.answers.segments import sentence_of

    alone = "/condition_groups/0/conditions/0"
    groups = definition.get("condition_groups")
    for group, held in enumerate(groups if isinstance(groups, list) else []):
        conditions = held.get("conditions") if isinstance(held, dict) else None
        for place, one in enumerate(conditions if isinstance(conditions, list) else []):
            try:
                sentence_of({"condition_groups": [{"conditions": [one]}]}, names)
            except HabitueError as error:
                at, message = _fault(error)
                here = f"/condition_groups/{group}/conditions/{place}"
                yield f"{here}{at.removeprefix(alone)}", message


def _fault(error: HabitueError) -> tuple[str, str]:
    """The pointer that a message begins with, if any, and what it says."""
    pointer, message = "", str(error).partition("\n")[0]
    while message.startswith("/") and ": " in message:
        pointer, _, message = message.partition(": ")
    return pointer.rstrip("/"), message


def saved(work: Callable[[], None]) -> None:
    """Keep what a client told.

    Raises:
        Refused: it means nothing that can be kept.
    """
    try:
        work()
    except (BadAudience, NoSuchAudience) as error:
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
