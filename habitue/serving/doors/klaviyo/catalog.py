"""Klaviyo's paths that read the catalogue: items, variants, and the categories that they name.

The catalogue is one list here: a variant is an item of its own, so both kinds show all of it. What
was told of an item in any way is shown, however it came; one that was deleted is not published.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.events import NO_CURRENCY, currency_exponent
from habitue.ingest.doors.klaviyo.catalog import external_of, item_id
from habitue.serving.app import Asked, Endpoint, Route
from habitue.serving.doors.klaviyo.wire.asking import (
    EXTRA_LARGE,
    Page,
    fields,
    filtered,
    filters,
    page,
)
from habitue.serving.doors.klaviyo.wire.filters import BadFilter, Filter, texts
from habitue.serving.doors.klaviyo.wire.resources import collection, document, resource, text
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.lake.live.catalogue import LiveItem
    from habitue.serving.answers.book import Book

FIELDS = (
    "external_id", "title", "description", "price", "url", "image_full_url",
    "image_thumbnail_url", "images", "custom_metadata", "published", "created", "updated",
)  # fmt: skip
VARIANT_FIELDS = (*FIELDS, "sku", "inventory_policy", "inventory_quantity")
FILTERS = {
    "ids": ("any",), "category.id": ("equals",), "title": ("contains",), "published": ("equals",),
}  # fmt: skip
MOST = 100
_AT_ONCE = 1_000                           # looked at for a page that filters leave few of
_EVERY = 1_000_000                         # looked at to put the catalogue into another order

Shows = Callable[["LiveItem"], bool]


def _listing(kind: str, known: Sequence[str]) -> Endpoint:
    """A path that lists the catalogue, each item as a resource of a kind."""

    async def endpoint(asked: Asked) -> Response:
        wanted = fields(asked, kind, known)
        asks = page(asked, default=MOST, most=MOST, sorts=("id", "created"), scope=kind)
        told = filters(asked, FILTERS)
        shows = filtered(lambda: _shows(told))
        named = _named(told)
        found = await asked.service.reading.ask(
            lambda book: _page(book, asked, asks, shows, named)
        )
        shown = found[: asks.size]
        more = (asks, list(_place(shown[-1], asks)), kind) if len(found) > len(shown) else None
        resources = [_resource(asked, kind, one, wanted) for one in shown]
        return collection(asked, resources, following=more)

    endpoint.__doc__ = f"List the catalogue as {kind}s, a page of it: `filter`, `sort`, `fields`."
    return endpoint


def _showing(kind: str, known: Sequence[str]) -> Endpoint:
    """A path that shows one item as a resource of a kind."""

    async def endpoint(asked: Asked) -> Response:
        wanted, item = fields(asked, kind, known), external_of(asked.request.path_params["id"])

        def read(book: "Book") -> "LiveItem | None":
            return _items(book, asked, [] if item is None else [item]).get(item or "")

        found = await asked.service.reading.ask(read)
        if found is None:
            raise Refused(404, "not_found", f"A {kind} with that id does not exist.")
        return document(_resource(asked, kind, found, wanted))

    endpoint.__doc__ = f"Show one item as a {kind}."
    return endpoint


async def get_categories(asked: Asked) -> Response:
    """List the categories that items are in."""
    wanted = fields(asked, "catalog-category", ("external_id", "name", "updated"))
    asks = page(asked, default=MOST, most=MOST, sorts=("id",), scope="catalog-category")

    def read(book: "Book") -> list[tuple[str, int]]:
        from habitue.lake.live.catalogue import categories

        return book.profiles.look(lambda one: categories(one, asked.shop.name, _now(asked)))

    after = "" if asks.after is None else str(asks.after[0])
    found = [one for one in await asked.service.reading.ask(read) if one[0] > after]
    shown = found[: asks.size]
    return collection(
        asked,
        [_category(asked, *one, wanted) for one in shown],
        following=(asks, [shown[-1][0]], "catalog-category") if len(found) > len(shown) else None,
    )


ROUTES = (
    *(
        Route(method="GET", path=f"/api/{kind}s{more}", endpoint=make(kind, known),
              source="klaviyo", limit=EXTRA_LARGE)
        for kind, known in (("catalog-item", FIELDS), ("catalog-variant", VARIANT_FIELDS))
        for more, make in (("", _listing), ("/{id}", _showing))
    ),
    Route(
        method="GET", path="/api/catalog-categories", endpoint=get_categories, source="klaviyo",
        limit=EXTRA_LARGE,
    ),
)  # fmt: skip


def _page(
    book: "Book", asked: Asked, asks: Page, shows: Shows, named: Sequence[str] | None
) -> "list[LiveItem]":
    """The items of a page, and one more where there are more."""
    from habitue.lake.live import catalogue

    if named is not None or asks.by == "created":
        every = partial(catalogue.page, shop=asked.shop.name, after="", most=_EVERY)
        names = named if named is not None else book.profiles.look(every)
        held = [one for one in _items(book, asked, names).values() if shows(one)]
        placed = sorted(held, key=lambda one: _place(one, asks), reverse=asks.descending)
        after = None if asks.after is None else tuple(asks.after)
        if after is not None:
            placed = [
                one for one in placed
                if (_place(one, asks) < after if asks.descending else _place(one, asks) > after)
            ]  # fmt: skip
        return placed[: asks.size + 1]
    found: list[LiveItem] = []
    codes = ["" if asks.after is None else str(asks.after[0])]
    while len(found) <= asks.size and codes:
        ask = partial(catalogue.page, shop=asked.shop.name, after=codes[-1], most=_AT_ONCE)
        codes = book.profiles.look(ask)
        found += [one for one in _items(book, asked, codes).values() if shows(one)]
    return found[: asks.size + 1]


def _items(book: "Book", asked: Asked, items: Sequence[str]) -> "dict[str, LiveItem]":
    from habitue.lake.live.catalogue import items_of

    shop, now = asked.shop.name, _now(asked)
    return book.profiles.look(lambda one: items_of(one, shop, items, now))


def _now(asked: Asked) -> int:
    from habitue.lake.live.told import microseconds

    return microseconds(asked.service.now())


def _place(one: "LiveItem", asks: Page) -> tuple[int | str, ...]:
    return (one.created, one.item) if asks.by == "created" else (one.item,)


def _named(told: Sequence[Filter]) -> list[str] | None:
    """The items whose ids a filter names; none: it names no ids."""
    ids = [one for one in told if one.field == "ids"]
    if not ids:
        return None
    both = set.intersection(*(set(filtered(partial(texts, one))) for one in ids))
    return [item for shown in both if (item := external_of(shown)) is not None]


def _shows(told: Sequence[Filter]) -> Shows:
    """Whether filters let an item through.

    Raises:
        BadFilter: a filter compares with what cannot be.
    """
    tests = [_test(one) for one in told if one.field != "ids"]
    return lambda item: all(test(item) for test in tests)


def _test(one: Filter) -> Shows:
    if one.field == "published":
        if not isinstance(one.value, bool):
            raise BadFilter("'published' is compared with true or false")
        return lambda item: (item.published is not False) is one.value
    (part,) = texts(one)
    if one.field == "title":
        return lambda item: part.lower() in (item.title or "").lower()
    return lambda item: item.category == (external_of(part) or part)


def _resource(
    asked: Asked, kind: str, one: "LiveItem", wanted: frozenset[str] | None
) -> dict[str, Any]:
    from habitue.lake.live.told import instant

    price = None
    if one.price_minor is not None:
        price = one.price_minor / 10 ** currency_exponent(one.currency or NO_CURRENCY)
    attributes: dict[str, Any] = {
        "external_id": one.item, "title": one.title, "description": None, "price": price,
        "url": None, "image_full_url": one.image, "image_thumbnail_url": one.image,
        "images": [] if one.image is None else [one.image],
        "custom_metadata": {} if one.brand is None else {"brand": one.brand},
        "published": one.published is not False, "created": text(instant(one.created)),
        "updated": text(instant(one.updated)),
    }  # fmt: skip
    if kind == "catalog-variant":
        attributes |= {
            "sku": one.item, "inventory_policy": 1, "inventory_quantity": one.stock,
        }  # fmt: skip
    return resource(asked, kind, item_id(one.item), attributes, wanted=wanted)


def _category(
    asked: Asked, name: str, updated: int, wanted: frozenset[str] | None
) -> dict[str, Any]:
    from habitue.lake.live.told import instant

    attributes = {"external_id": name, "name": name, "updated": text(instant(updated))}
    return resource(asked, "catalog-category", item_id(name), attributes, wanted=wanted)
