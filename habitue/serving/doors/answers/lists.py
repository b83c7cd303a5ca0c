"""Answers about items: what to show whom, and what is bought by who buys an item."""

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from habitue.serving.app import Asked, Route
from habitue.serving.doors.answers.asking import (
    asked_at,
    known_customer,
    many,
    told_of,
    whole_number,
    yes,
)
from habitue.serving.replies import Refused, encoded

if TYPE_CHECKING:
    from habitue.scoring.told import Similar
    from habitue.serving.answers.book import Book

MOST_ITEMS = 100


async def get_recommendations(asked: Asked) -> Response:
    """List items for one customer: `k`, `exclude`, `exclude_bought`, `per_category`."""
    from habitue.serving.answers.lists import Wanted, chosen

    wanted = Wanted(
        k=whole_number(asked, "k", 10, MOST_ITEMS),
        exclude=frozenset(many(asked, "exclude")),
        exclude_bought=yes(asked, "exclude_bought"),
        per_category=whole_number(asked, "per_category", 0, MOST_ITEMS) or None,
    )

    def read(book: "Book") -> dict[str, Any]:
        shop = book.shop(asked.shop.name)
        popular = [] if shop is None else shop.popular
        if "id" not in asked.request.path_params:
            return {"customer": None, "items": _ranked(chosen([], popular, wanted))}
        known = known_customer(book, asked)
        mine = [] if known.scored is None else book.listed(known.scored)
        told = told_of(known, asked_at(asked))
        told["items"] = _ranked(chosen(mine, popular, wanted))
        return told

    return encoded(await asked.service.reading.ask(read))


async def get_popular(asked: Asked) -> Response:
    """List what sells, for somebody nothing is known of: `k`, `exclude`, `per_category`."""
    return await get_recommendations(asked)


async def get_similar(asked: Asked) -> Response:
    """List items that are bought by who buys an item: `k`."""
    item, most = asked.request.path_params["item"], whole_number(asked, "k", 10, MOST_ITEMS)

    def read(book: "Book") -> "Similar":
        found = book.item(asked.shop.name, item)
        if found is None:
            raise Refused(404, "not_found", "no item of that code is known, or not yet")
        return found

    found = await asked.service.reading.ask(read)
    return encoded(
        {
            "item": item, "title": found.title, "category": found.category,
            "orders_28d": found.orders_28d,
            "similar": [{"item": one, "similarity": how} for one, how in found.similar[:most]],
        }
    )  # fmt: skip


ROUTES = (
    Route(method="GET", path="/v1/customers/{id}/recommendations", endpoint=get_recommendations),
    Route(method="GET", path="/v1/recommendations", endpoint=get_popular),
    Route(method="GET", path="/v1/items/{item}/similar", endpoint=get_similar),
)


def _ranked(items: "list[Any]") -> list[dict[str, Any]]:
    return [{"rank": rank, **msgspec.structs.asdict(one)} for rank, one in enumerate(items, 1)]
