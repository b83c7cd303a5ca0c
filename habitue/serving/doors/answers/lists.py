"""Answers about items: what to show whom, and what is bought by who buys an item."""

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.responses import Response

from habitue.serving.answers.told import Beside, Popular, Recommendations, Shown, SimilarItems
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, bad_parameter, parameters
from habitue.serving.doors.answers.asking import (
    customer_named,
    instant_of,
    told_of,
    told_of_nobody,
)
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.recommendations.shelf.listed import Listed, Wanted
    from habitue.serving.answers.book import Book

MOST_ITEMS = 100
MOST_CONTEXT = 50                          # items on a page and in a cart

Few = Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)]


class ListOf(msgspec.Struct, kw_only=True, frozen=True):
    """What is asked of a list."""

    k: Few = 10                            # how many items
    item: tuple[str, ...] = ()             # what is on the page; what goes with it is shown
    cart: tuple[str, ...] = ()             # … and what is in the cart
    exclude: tuple[str, ...] = ()          # items that are left out
    per_category: Few | None = None        # how many of one category at most; any, unless told


class ListFor(ListOf, kw_only=True, frozen=True):
    """What is asked of a customer's list."""

    id: str                                # what the shop calls them, or the id of their profile
    exclude_bought: bool = False           # whether to leave out what they buy again, too


class Item(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one item."""

    item: str                              # its code
    k: Few = 10                            # how many others


async def get_recommendations(asked: Asked) -> Response:
    """List items for one customer, known or not, by what they do and what is on the page."""
    from habitue.serving.answers.lists import listed_for

    asked_for = parameters(asked, ListFor)
    wanted = _wanted(asked_for, exclude_bought=asked_for.exclude_bought)

    def read(book: "Book") -> Recommendations:
        shop, now = asked.shop.name, instant_of(asked, None)
        known = customer_named(book, shop, asked_for.id)
        about = told_of(known, now) if known else told_of_nobody(asked_for.id, book.shop(shop), now)
        found = listed_for(book, shop, known, wanted, now)
        return Recommendations(**about, list_id=secrets.token_hex(8), items=_ranked(found))

    return answer(asked, await asked.service.reading.ask(read))


async def get_popular(asked: Asked) -> Response:
    """List items for somebody nothing is known of, by what is on the page and by what sells."""
    from habitue.serving.answers.lists import listed_for

    wanted = _wanted(parameters(asked, ListOf))

    def read(book: "Book") -> Popular:
        found = listed_for(book, asked.shop.name, None, wanted, instant_of(asked, None))
        return Popular(list_id=secrets.token_hex(8), items=_ranked(found))

    return answer(asked, await asked.service.reading.ask(read))


async def get_similar(asked: Asked) -> Response:
    """List items that are bought by who buys an item: `k`."""
    from habitue.scoring.told import Similar

    wanted = parameters(asked, Item)

    def read(book: "Book") -> SimilarItems:
        found = book.item(asked.shop.name, wanted.item)
        if found is None:
            raise Refused(404, "not_found", "no item of that code is known, or not yet")
        similar = msgspec.json.decode(found.similar, type=Similar)
        return SimilarItems(
            item=wanted.item, title=found.title, category=found.category,
            orders_28d=int(found.sold), similar=[Beside(*one) for one in similar[: wanted.k]],
        )  # fmt: skip

    return answer(asked, await asked.service.reading.ask(read))


ROUTES = (
    Route(
        method="GET", path="/v1/customers/{id}/recommendations", endpoint=get_recommendations,
        parameters=ListFor, reply=Recommendations,
    ),
    Route(
        method="GET", path="/v1/recommendations", endpoint=get_popular,
        parameters=ListOf, reply=Popular,
    ),
    Route(
        method="GET", path="/v1/items/{item}/similar", endpoint=get_similar,
        parameters=Item, reply=SimilarItems, tagged=True,
    ),
)  # fmt: skip


def _wanted(asked_for: ListOf, *, exclude_bought: bool = False) -> "Wanted":
    from habitue.recommendations.shelf.listed import Wanted

    context = tuple(dict.fromkeys((*asked_for.item, *asked_for.cart)))
    if len(context) > MOST_CONTEXT:
        raise bad_parameter("cart", f"`item` and `cart` name at most {MOST_CONTEXT} items")
    return Wanted(
        k=asked_for.k, context=context, exclude=frozenset(asked_for.exclude),
        exclude_bought=exclude_bought, per_category=asked_for.per_category,
    )  # fmt: skip


def _ranked(items: "Sequence[Listed]") -> list[Shown]:
    return [Shown(rank=rank, **msgspec.structs.asdict(one)) for rank, one in enumerate(items, 1)]
