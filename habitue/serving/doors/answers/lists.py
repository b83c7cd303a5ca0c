"""Answers about items: what to show whom, and what is bought by who buys an item."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.responses import Response

from habitue.serving.answers.told import Beside, Popular, Recommendations, Shown, SimilarItems
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, parameters
from habitue.serving.doors.answers.asking import instant_of, known_customer, told_of
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.scoring.told import Listed
    from habitue.serving.answers.book import Book
    from habitue.serving.answers.lists import Wanted

MOST_ITEMS = 100

Few = Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)]


class ListOf(msgspec.Struct, kw_only=True, frozen=True):
    """What is asked of a list."""

    k: Few = 10                            # how many items
    exclude: tuple[str, ...] = ()          # items that are left out
    per_category: Few | None = None        # how many of one category at most; any, unless told


class ListFor(ListOf, kw_only=True, frozen=True):
    """What is asked of a customer's list."""

    id: str                                # what the shop calls them, or the id of their profile
    exclude_bought: bool = False           # whether to leave out what the customer has bought


class Item(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one item."""

    item: str                              # its code
    k: Few = 10                            # how many others


async def get_recommendations(asked: Asked) -> Response:
    """List items for one customer: `k`, `exclude`, `exclude_bought`, `per_category`."""
    from habitue.serving.answers.lists import chosen

    asked_for = parameters(asked, ListFor)
    wanted = _wanted(asked_for, exclude_bought=asked_for.exclude_bought)

    def read(book: "Book") -> Recommendations:
        known = known_customer(book, asked)
        shop = book.shop(asked.shop.name)
        mine = [] if known.scored is None else book.listed(known.scored)
        found = chosen(mine, [] if shop is None else shop.popular, wanted)
        return Recommendations(**told_of(known, instant_of(asked, None)), items=_ranked(found))

    return answer(asked, await asked.service.reading.ask(read))


async def get_popular(asked: Asked) -> Response:
    """List what sells, for somebody nothing is known of: `k`, `exclude`, `per_category`."""
    from habitue.serving.answers.lists import chosen

    wanted = _wanted(parameters(asked, ListOf))

    def read(book: "Book") -> Popular:
        shop = book.shop(asked.shop.name)
        return Popular(items=_ranked(chosen([], [] if shop is None else shop.popular, wanted)))

    return answer(asked, await asked.service.reading.ask(read))


async def get_similar(asked: Asked) -> Response:
    """List items that are bought by who buys an item: `k`."""
    wanted = parameters(asked, Item)

    def read(book: "Book") -> SimilarItems:
        found = book.item(asked.shop.name, wanted.item)
        if found is None:
            raise Refused(404, "not_found", "no item of that code is known, or not yet")
        return SimilarItems(
            item=wanted.item, title=found.title, category=found.category,
            orders_28d=found.orders_28d,
            similar=[Beside(*one) for one in found.similar[: wanted.k]],
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
        parameters=Item, reply=SimilarItems,
    ),
)  # fmt: skip


def _wanted(asked_for: ListOf, *, exclude_bought: bool = False) -> "Wanted":
    from habitue.serving.answers.lists import Wanted

    return Wanted(
        k=asked_for.k, exclude=frozenset(asked_for.exclude), exclude_bought=exclude_bought,
        per_category=asked_for.per_category,
    )  # fmt: skip


def _ranked(items: "Sequence[Listed]") -> list[Shown]:
    return [Shown(rank=rank, **msgspec.structs.asdict(one)) for rank, one in enumerate(items, 1)]
