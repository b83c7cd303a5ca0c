"""Klaviyo's paths of lists: audiences of whom a shop puts on them, one by one or 1,000 at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response

from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.klaviyo import lists as translator
from habitue.ingest.doors.klaviyo.problems import Problem, errors_body
from habitue.ingest.doors.klaviyo.reading import At
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo import segments
from habitue.serving.doors.klaviyo.wire.asking import LARGE, MEDIUM, SMALL, wrong
from habitue.serving.doors.klaviyo.wire.resources import document
from habitue.serving.replies import Refused, empty

if TYPE_CHECKING:
    from habitue.audiences.language.klaviyo import Names
    from habitue.serving.answers.book import Book
    from habitue.serving.answers.segments import Places

FIELDS = ("name", "created", "updated", "opt_in_process", "profile_count")
FILTERS = {one: segments.FILTERS[one] for one in ("id", "name", "created", "updated")}


async def get_lists(asked: Asked) -> Response:
    """List lists, a page of them: `filter`, `sort`, `fields`, `page`."""
    return await segments.listed(asked, "list", FIELDS, FILTERS)


async def get_list(asked: Asked) -> Response:
    """Show one list; `additional-fields[list]=profile_count` tells how many are on it."""
    return await segments.shown_one(asked, "list", FIELDS)


async def create_list(asked: Asked) -> Response:
    """Make a list by its name, with nobody on it."""
    told = segments.attributes_told(await asked.body(most_bytes=segments.MOST_BYTES))
    name = segments.name_told(told)
    _check_process(told)

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import LIST, Segment, list_id, on_list, put

        segments.check_name(places, name)
        id = list_id()
        made = Segment(
            id=id, kind=LIST, audience=name, label=name, created=asked.received,
            updated=asked.received, condition=on_list(id, asked.shop.secret),
        )  # fmt: skip
        segments.saved(lambda: put(places, made, is_saved=True))
        return segments.segment(asked, made, names, None)

    return document(await segments.ask(asked, write), 201)


async def update_list(asked: Asked) -> Response:
    """Call a list otherwise."""
    told = segments.attributes_told(await asked.body(most_bytes=segments.MOST_BYTES))
    _check_process(told)

    def write(places: "Places", names: "Names") -> dict[str, Any]:
        from habitue.serving.answers.segments import put

        one = segments.held(places, asked, "list")
        if told.get("name") is None:
            return segments.segment(asked, one, names, None)
        found = replace(one, label=segments.name_told(told), updated=asked.received)
        segments.check_name(places, found.label, one.id)
        put(places, found, is_saved=False)
        return segments.segment(asked, found, names, None)

    return document(await segments.ask(asked, write))


async def delete_list(asked: Asked) -> Response:
    """Take a list away; whoever was on it leaves."""
    return await segments.dropped(asked, "list")


async def add_profiles(asked: Asked) -> Response:
    """Put up to 1,000 profiles on a list, all or none."""
    return await _tell(asked, "append")


async def remove_profiles(asked: Asked) -> Response:
    """Take up to 1,000 profiles off a list, all or none."""
    return await _tell(asked, "unappend")


async def get_profile_lists(asked: Asked) -> Response:
    """List the lists that a profile is on."""
    return await segments.listed_of_profile(asked, "list", FIELDS)


async def get_profile_list_ids(asked: Asked) -> Response:
    """List the ids of the lists that a profile is on."""
    return await segments.identified_of_profile(asked, "list")


ROUTES = (
    Route(method="GET", path="/api/lists", endpoint=get_lists, source="klaviyo", limit=LARGE),
    Route(method="POST", path="/api/lists", endpoint=create_list, source="klaviyo", limit=MEDIUM),
    Route(method="GET", path="/api/lists/{id}", endpoint=get_list, source="klaviyo", limit=LARGE),
    Route(
        method="PATCH", path="/api/lists/{id}", endpoint=update_list, source="klaviyo",
        limit=MEDIUM,
    ),
    Route(
        method="DELETE", path="/api/lists/{id}", endpoint=delete_list, source="klaviyo",
        limit=MEDIUM,
    ),
    Route(
        method="POST", path="/api/lists/{id}/relationships/profiles", endpoint=add_profiles,
        source="klaviyo", limit=MEDIUM,
    ),
    Route(
        method="DELETE", path="/api/lists/{id}/relationships/profiles", endpoint=remove_profiles,
        source="klaviyo", limit=MEDIUM,
    ),
    Route(
        method="GET", path="/api/profiles/{id}/lists", endpoint=get_profile_lists,
        source="klaviyo", limit=SMALL,
    ),
    Route(
        method="GET", path="/api/profiles/{id}/relationships/lists",
        endpoint=get_profile_list_ids, source="klaviyo", limit=SMALL,
    ),
)  # fmt: skip


async def _tell(asked: Asked, act: Literal["append", "unappend"]) -> Response:
    body = await asked.body(most_bytes=segments.MOST_BYTES)
    one = await segments.ask(asked, lambda places, _: segments.held(places, asked, "list"))
    named = translator.named_profiles(body)
    await check_profiles(asked, named)

    def translate(_: bytes, door: Door) -> Intake:
        return translator.tell_members([each.value for each in named], one.id, act, door)

    await asked.take(body, translate)
    return empty(204)


async def check_profiles(asked: Asked, named: Sequence[At]) -> None:
    """Let profiles be told of that are known, those of the last moments included.

    Raises:
        Refused: some are not; it names each.
    """
    ids = {one.value for one in named}
    known = await asked.service.reading.ask(partial(_known, asked.shop.name, ids))
    people = asked.service.people
    problems = [
        _problem(one, "profile")
        for one in named
        if one.value not in known and not people.recent(asked.shop, [f"profile:{one.value}"])
    ]
    if problems:
        raise _missing(problems)


async def check_lists(asked: Asked, body: bytes) -> None:
    """Let a request name lists beside its profiles that there are, and a key that may change them.

    Raises:
        Refused: some are not there, and it names each; or the key may not.
    """
    named = translator.lists_named(body)
    if not named:
        return
    asked.need("audiences:write")
    held = await segments.ask(asked, _ids_of_lists)
    problems = [_problem(one, "list") for one in named if one.value not in held]
    if problems:
        raise _missing(problems)


def _ids_of_lists(places: "Places", _: "Names") -> set[str]:
    from habitue.serving.answers.segments import LIST, segments_of

    return set(segments_of(places, LIST))


def _missing(problems: list[Problem]) -> Refused:
    refused = Refused(404, "not_found", problems[0].detail, pointer=problems[0].pointer)
    refused.body = errors_body(problems)
    return refused


def _problem(named: At, kind: str) -> Problem:
    return Problem(
        status=404, code="not_found", title="Not found.", pointer=named.pointer,
        detail=f"A {kind} with the id '{named.value}' does not exist.",
    )  # fmt: skip


def _known(shop: str, ids: set[str], book: "Book") -> set[str]:
    return {id for id in ids if book.profiles.get(shop, id) is not None}


def _check_process(told: Mapping[str, Any]) -> None:
    """Refuse to be trusted with what is not done here: nobody is asked to confirm."""
    if told.get("opt_in_process") not in (None, "single_opt_in"):
        raise wrong(
            "/data/attributes/opt_in_process",
            "Only 'single_opt_in' is known here, where nobody is written to who should confirm.",
        )
