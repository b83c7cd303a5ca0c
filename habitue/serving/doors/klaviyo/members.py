"""Klaviyo's paths of who is in a segment or on a list, and since when."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.profiles import keys_of, spans
from habitue.serving.doors.klaviyo.segments import held, places_of
from habitue.serving.doors.klaviyo.shown import (
    attributes_of,
    beside,
    profile_resource,
    wanted_of,
)
from habitue.serving.doors.klaviyo.wire.asking import LARGE, Page, filtered, filters, page
from habitue.serving.doors.klaviyo.wire.filters import Filter
from habitue.serving.doors.klaviyo.wire.resources import collection

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile
    from habitue.serving.answers.book import Book

_NAMED = ("any", "equals")
FILTERS = {
    "email": _NAMED, "phone_number": _NAMED, "profile_id": _NAMED,
    "joined_group_at": ("greater-or-equal", "greater-than", "less-or-equal", "less-than"),
}  # fmt: skip


async def get_members(asked: Asked) -> Response:
    """List the profiles in a segment or on a list, each with `joined_group_at`."""
    wanted, more = wanted_of(asked, also=("joined_group_at",))
    asks, told, keys = _asked_for(asked)

    def read(book: "Book") -> "list[tuple[LiveProfile, int, int, dict[str, Any]]]":
        rows = _page(asked, book, asks, told, keys)
        profiles = book.profiles.chosen(lambda _: [id for id, _ in rows])
        others = beside(asked, book, profiles[: asks.size], more)
        others += [{}] * (len(profiles) - len(others))
        return [
            (profile, id, joined, other)
            for profile, (id, joined), other in zip(profiles, rows, others, strict=True)
        ]

    found = await asked.service.reading.ask(read)
    shown = found[: asks.size]
    return collection(
        asked,
        [
            profile_resource(
                asked, one.id,
                attributes_of(one, asked.received) | other | {"joined_group_at": _text(joined)},
                wanted,
            )
            for one, _, joined, other in shown
        ],
        following=_following(asked, asks, len(found), [(id, joined) for _, id, joined, _ in shown]),
    )  # fmt: skip


async def get_member_ids(asked: Asked) -> Response:
    """List the ids of the profiles in a segment or on a list."""
    asks, told, keys = _asked_for(asked)

    def read(book: "Book") -> "list[tuple[str, int, int]]":
        rows = _page(asked, book, asks, told, keys)
        profiles = book.profiles.chosen(lambda _: [id for id, _ in rows])
        return [
            (one.id, id, joined) for one, (id, joined) in zip(profiles, rows, strict=True)
        ]

    found = await asked.service.reading.ask(read)
    shown = found[: asks.size]
    return collection(
        asked,
        [{"type": "profile", "id": id} for id, _, _ in shown],
        following=_following(asked, asks, len(found), [(id, joined) for _, id, joined in shown]),
    )


ROUTES = tuple(
    Route(
        method="GET", path=f"/api/{kind}s/{{id}}/{path}", endpoint=endpoint, source="klaviyo",
        limit=LARGE,
    )
    for kind in ("segment", "list")
    for path, endpoint in (("profiles", get_members), ("relationships/profiles", get_member_ids))
)  # fmt: skip


def _asked_for(asked: Asked) -> tuple[Page, tuple[Filter, ...], list[list[str]]]:
    """The page, the filters, and the keys that each filter by a name lets through."""
    asks = page(
        asked, default=20, most=100, sorts=("-joined_group_at", "joined_group_at"),
        scope=_scope(asked),
    )  # fmt: skip
    told = filters(asked, FILTERS)
    filtered(lambda: spans(told, ("joined_group_at",)))
    secret = asked.shop.secret
    keys = filtered(lambda: [keys_of(one, secret) for one in told if one.operator in _NAMED])
    return asks, told, keys


def _page(
    asked: Asked,
    book: "Book",
    asks: Page,
    told: Sequence[Filter],
    keys: Sequence[Sequence[str]],
) -> list[tuple[int, int]]:
    """The ids of the keys that name the members, and since when they are in; one more of them."""
    from habitue.audiences.changes.reading import page as members
    from habitue.lake.live.paging import Window

    kind = asked.route.path.split("/")[2].removesuffix("s")
    group, shop = held(places_of(asked, book), asked, kind), asked.shop.name
    among: set[int] | None = None
    for some in keys:
        found = book.ids(shop, [one.customer for one in book.profiles.find(shop, *some)])
        among = set(found.values()) if among is None else among & set(found.values())
    span = spans(told, ("joined_group_at",)).get("joined_group_at", (None, None))
    window = Window(
        by="joined", descending=asks.descending, after=asks.after, most=asks.size + 1,
        within={"standing.joined": span},
    )  # fmt: skip
    return book.profiles.look(
        lambda connection: members(connection, shop, group.audience, window, among)
    )


def _following(
    asked: Asked, asks: Page, count: int, shown: Sequence[tuple[int, int]]
) -> tuple[Page, Sequence[str | int], str] | None:
    if count <= len(shown):
        return None
    id, joined = shown[-1]
    return asks, [joined, id], _scope(asked)


def _scope(asked: Asked) -> str:
    """A cursor of one segment or list is none of another."""
    return f"members {asked.request.path_params['id']}"


def _text(time: int) -> str:
    from habitue.lake.live.told import instant

    return instant(time).isoformat()
