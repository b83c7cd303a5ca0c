"""Klaviyo's paths that read the catalogue: items, variants, and the categories that they name.

The catalogue is one list here: a variant is an item of its own, so both kinds show all of it. What
was told of an item in any way is shown, however it came; one that was deleted is not published.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.events import NO_CURRENCY, currency_exponent
from habitue.ingest.doors.keys import readable_id
from habitue.ingest.doors.klaviyo.catalog import external_of, item_id
from habitue.serving.app import Asked, Endpoint, Route
from habitue.serving.doors.klaviyo.segments import attributes_told
from habitue.serving.doors.klaviyo.wire.asking import (
    EXTRA_LARGE,
    LARGE,
    Page,
    all_wrong,
    fields,
    filtered,
    filters,
    page,
    wrong,
)
from habitue.serving.doors.klaviyo.wire.filters import BadFilter, Filter, texts
from habitue.serving.doors.klaviyo.wire.resources import collection, document, resource, text
from habitue.serving.replies import Refused, empty

if TYPE_CHECKING:
    from habitue.lake.live.catalogue import LiveItem
    from habitue.serving.answers.book import Book
    from habitue.serving.answers.categories import Category

FIELDS = (
    "external_id", "title", "description", "price", "url", "image_full_url",
    "image_thumbnail_url", "images", "custom_metadata", "published", "created", "updated",
)  # fmt: skip
VARIANT_FIELDS = (*FIELDS, "sku", "inventory_policy", "inventory_quantity")
FILTERS = {
    "ids": ("any",), "category.id": ("equals",), "title": ("contains",), "published": ("equals",),
}  # fmt: skip
CATEGORY_FIELDS = ("external_id", "name", "updated")
MOST_CATEGORY_BYTES, MOST_NAME = 1_048_576, 200
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
    """List the categories that items are in, or that were told of."""
    wanted = fields(asked, "catalog-category", CATEGORY_FIELDS)
    asks = page(asked, default=MOST, most=MOST, sorts=("id",), scope="catalog-category")
    after = "" if asks.after is None else str(asks.after[0])
    held = await _categories(asked)
    found = [held[one] for one in sorted(held) if one > after]
    shown = found[: asks.size]
    more = (asks, [shown[-1].external], "catalog-category") if len(found) > len(shown) else None
    return collection(asked, [_category(asked, one, wanted) for one in shown], following=more)


async def get_category(asked: Asked) -> Response:
    """Show one category."""
    wanted = fields(asked, "catalog-category", CATEGORY_FIELDS)
    return document(_category(asked, await _one_category(asked), wanted))


async def create_category(asked: Asked) -> Response:
    """Tell of a category before any item is in it, or what it is called."""
    from habitue.serving.answers.categories import Category, put, told_of

    told = attributes_told(await asked.body(most_bytes=MOST_CATEGORY_BYTES))
    external, directory = readable_id(told.get("external_id")), asked.service.place.directory
    if external is None:
        raise wrong("/data/attributes/external_id", "An external id is text, and not empty.")
    one = Category(external, _called(told), asked.received, asked.received)

    def write() -> None:
        if external in told_of(directory, asked.shop):
            raise all_wrong(
                [("/data/attributes/external_id", "There is a category of that id already.")],
                status=409, code="duplicate",
            )  # fmt: skip
        put(directory, asked.shop, one)

    await asyncio.to_thread(write)
    return document(_category(asked, one, None), 201)


async def update_category(asked: Asked) -> Response:
    """Call a category otherwise."""
    from habitue.serving.answers.categories import put

    told = attributes_told(await asked.body(most_bytes=MOST_CATEGORY_BYTES))
    held = await _one_category(asked)
    one = replace(held, name=_called(told), updated=asked.received)
    await asyncio.to_thread(put, asked.service.place.directory, asked.shop, one)
    return document(_category(asked, one, None))


async def delete_category(asked: Asked) -> Response:
    """Forget what a category is called; while items are in it it goes by the id that they name."""
    from habitue.serving.answers.categories import drop

    one = await _one_category(asked)
    await asyncio.to_thread(drop, asked.service.place.directory, asked.shop, one)
    return empty(204)


ROUTES = (
    *(
        Route(method="GET", path=f"/api/{kind}s{more}", endpoint=make(kind, known),
              source="klaviyo", limit=EXTRA_LARGE)
        for kind, known in (("catalog-item", FIELDS), ("catalog-variant", VARIANT_FIELDS))
        for more, make in (("", _listing), ("/{id}", _showing))
    ),
    *(
        Route(
            method=method, path=f"/api/catalog-categories{more}", endpoint=endpoint,
            source="klaviyo", limit=EXTRA_LARGE if method == "GET" else LARGE,
        )
        for method, more, endpoint in (
            ("GET", "", get_categories), ("POST", "", create_category),
            ("GET", "/{id}", get_category), ("PATCH", "/{id}", update_category),
            ("DELETE", "/{id}", delete_category),
        )
    ),
)  # fmt: skip


async def _categories(asked: Asked) -> "dict[str, Category]":
    """The categories that items are in, and those that were told of."""

    def read(book: "Book") -> "dict[str, Category]":
        from habitue.lake.live.catalogue import categories
        from habitue.lake.live.told import instant
        from habitue.serving.answers.categories import Category, told_of

        named = book.profiles.look(lambda one: categories(one, asked.shop.name, _now(asked)))
        told = told_of(asked.service.place.directory, asked.shop)
        found = {
            external: Category(external, external, instant(at), instant(at))
            for external, at in named
        }
        return found | told

    return await asked.service.reading.ask(read)


async def _one_category(asked: Asked) -> "Category":
    """The category that the path names.

    Raises:
        Refused: there is none of that id.
    """
    shown = asked.request.path_params["id"]
    found = (await _categories(asked)).get(external_of(shown) or shown)
    if found is None:
        raise Refused(404, "not_found", "A catalog-category with that id does not exist.")
    return found


def _called(told: Mapping[str, Any]) -> str:
    name = told.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or "\0" in name:
        raise wrong("/data/attributes/name", f"A name is text of 1 to {MOST_NAME} characters.")
    return name


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
    asked: Asked, one: "Category", wanted: frozenset[str] | None
) -> dict[str, Any]:
    attributes = {
        "external_id": one.external, "name": one.name, "updated": text(one.updated),
    }  # fmt: skip
    return resource(asked, "catalog-category", item_id(one.external), attributes, wanted=wanted)
