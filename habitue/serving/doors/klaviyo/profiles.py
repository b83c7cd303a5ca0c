"""Klaviyo's paths that read profiles: one by its id, or a page of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.ingest.doors.keys import email_key, normalised_email, normalised_phone, phone_key
from habitue.lake.keys import external_key
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo import segments
from habitue.serving.doors.klaviyo.shown import (
    attributes_of,
    beside,
    no_profile,
    one_profile,
    profile_resource,
    wanted_of,
)
from habitue.serving.doors.klaviyo.wire.asking import (
    LARGE,
    Page,
    filtered,
    filters,
    included,
    page,
)
from habitue.serving.doors.klaviyo.wire.filters import Filter, moment, texts
from habitue.serving.doors.klaviyo.wire.resources import collection, document

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile
    from habitue.serving.answers.book import Book

INCLUDED = {"lists": "list", "segments": "segment"}
SORTS = ("id", "email", "created", "updated")
_NAMED = ("equals", "any")
_TIMES = ("greater-than", "less-than", "greater-or-equal", "less-or-equal")
FILTERS: Mapping[str, Sequence[str]] = {
    "id": _NAMED, "email": _NAMED, "phone_number": _NAMED, "external_id": _NAMED,
    "_kx": ("equals",), "created": _TIMES, "updated": _TIMES,
}  # fmt: skip


async def get_profile(asked: Asked) -> Response:
    """Show a profile as it is now: `fields`, `additional-fields`; `include`: lists, segments."""
    shown = asked.request.path_params["id"]
    kinds = [one for one in INCLUDED if one in included(asked, tuple(INCLUDED))]
    if kinds:
        asked.need("audiences:read")
    held = await asked.service.people.get(asked.shop, shown)
    if held is None:
        raise no_profile()
    one = await one_profile(asked, shown, attributes_of(held, asked.received), held)
    others: list[dict[str, Any]] = []
    for kind in kinds:
        of = await segments.of_profile(asked, INCLUDED[kind], None)
        told = one["relationships"][kind]
        one["relationships"][kind] = told | {
            "data": [{"type": INCLUDED[kind], "id": each["id"]} for each in of]
        }
        others += of
    return document(one, included=others if kinds else None)


async def get_profiles(asked: Asked) -> Response:
    """List profiles, a page of them: `filter`, `sort`, `fields`, `additional-fields`, `page`."""
    wanted, more = wanted_of(asked)
    asks = page(asked, default=20, most=100, sorts=SORTS, scope="profiles")
    told = filters(asked, FILTERS)
    by_name, within = filtered(lambda: _sorted_out(asked, told))

    def read(book: "Book") -> "tuple[list[LiveProfile], list[dict[str, Any]]]":
        if by_name:
            found = _named(book, asked, by_name, asks, within)
        else:
            found = _paged(book, asked, asks, within)
        return found, beside(asked, book, found[: asks.size], more)

    found, others = await asked.service.reading.ask(read)
    shown = found[: asks.size]
    last = (asks, _place(shown[-1], asks.by), "profiles") if len(found) > asks.size else None
    return collection(
        asked,
        [
            profile_resource(asked, one.id, attributes_of(one, asked.received) | other, wanted)
            for one, other in zip(shown, others, strict=True)
        ],
        following=last,
    )


ROUTES = (
    Route(
        method="GET", path="/api/profiles", endpoint=get_profiles, source="klaviyo", limit=LARGE
    ),
    Route(
        method="GET", path="/api/profiles/{id}", endpoint=get_profile, source="klaviyo",
        limit=LARGE,
    ),
)  # fmt: skip

Within = dict[str, tuple[int | None, int | None]]


def spans(told: Sequence[Filter], columns: Sequence[str]) -> Within:
    """Of each column of instants the earliest and latest (µs) that filters let through."""
    from habitue.lake.live.told import microseconds

    found: Within = {}
    for one in told:
        if one.field not in columns:
            continue
        earliest, latest = found.get(one.field, (None, None))
        at = microseconds(moment(one))
        match one.operator:
            case "greater-than" | "greater-or-equal":
                at += one.operator == "greater-than"
                earliest = at if earliest is None else max(at, earliest)
            case _:
                at -= one.operator == "less-than"
                latest = at if latest is None else min(at, latest)
        found[one.field] = (earliest, latest)
    return found


def keys_of(one: Filter, secret: bytes) -> list[str]:
    """The keys of the customers that a filter names; what can be no identifier names nobody.

    Raises:
        BadFilter: it is compared with something else than text.
    """
    match one.field:
        case "email":
            emails = [normalised_email(email) for email in texts(one)]
            return [email_key(secret, email) for email in emails if email is not None]
        case "phone_number":
            phones = [normalised_phone(phone) for phone in texts(one)]
            return [phone_key(secret, phone) for phone in phones if phone is not None]
        case "external_id":
            return [external_key(external) for external in texts(one)]
        case _:
            return [f"profile:{shown}" for shown in texts(one)]


def _sorted_out(asked: Asked, told: Sequence[Filter]) -> tuple[list[list[str]], Within]:
    """The keys that each filter by a name lets through, and the spans of instants."""
    named = [one for one in told if one.operator in _NAMED]
    return [keys_of(one, asked.shop.secret) for one in named], spans(told, ("created", "updated"))


def _named(
    book: "Book", asked: Asked, by_name: Sequence[Sequence[str]], asks: Page, within: Within
) -> "list[LiveProfile]":
    """Those whom all the filters by a name let through, from the page's place on."""
    found = [
        {one.id: one for one in book.profiles.find(asked.shop.name, *keys)} for keys in by_name
    ]
    kept = [
        one
        for id, one in found[0].items()
        if all(id in other for other in found[1:])
        and all(_is_within(getattr(one, name), span) for name, span in within.items())
    ]
    kept.sort(key=lambda one: _place(one, asks.by), reverse=asks.descending)
    if asks.after is None:
        return kept
    after = tuple(asks.after)
    return [
        one
        for one in kept
        if (_place(one, asks.by) < after if asks.descending else _place(one, asks.by) > after)
    ]


def _paged(book: "Book", asked: Asked, asks: Page, within: Within) -> "list[LiveProfile]":
    """The page that is asked for, and one profile more where there is one."""
    from habitue.lake.live import paging

    window = paging.Window(
        by=asks.by, descending=asks.descending, after=asks.after, most=asks.size + 1,
        within=within,
    )  # fmt: skip
    return book.profiles.chosen(
        lambda connection: paging.customers(connection, asked.shop.name, window)
    )


def _place(one: "LiveProfile", by: str) -> tuple[Any, str]:
    """Where a profile stands in an order."""
    from habitue.lake.live.told import microseconds

    match by:
        case "created" | "updated":
            return microseconds(getattr(one, by)), one.id
        case "email":
            return one.email or "", one.id
        case _:
            return one.id, one.id


def _is_within(time: datetime, span: tuple[int | None, int | None]) -> bool:
    from habitue.lake.live.told import microseconds

    at, (earliest, latest) = microseconds(time), span
    return (earliest is None or at >= earliest) and (latest is None or at <= latest)
