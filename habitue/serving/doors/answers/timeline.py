"""What a customer did, the latest first, a page of it."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.events import NO_CURRENCY, Instant, currency_exponent
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, parameters
from habitue.serving.doors.answers import pages
from habitue.serving.doors.answers.asking import OfCustomer, known_customer

if TYPE_CHECKING:
    from habitue.lake.live.paging import Event
    from habitue.serving.answers.book import Book

MOST_PAGE = 200


class TimelineOf(OfCustomer, kw_only=True, frozen=True):
    """Which part of what a customer did."""

    name: str | None = None                # events of this name; of any, unless told
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_PAGE)] = 50           # of a page
    cursor: str | None = None              # where the page begins, as `next` tells it


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an order."""

    item: str
    quantity: float
    amount: float | None                   # major units


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a customer."""

    id: str                                # by which it is known to be one event, told twice or not
    time: Instant
    name: str
    value: float | None                    # major units
    currency: str | None
    lines: list[Line]
    properties: dict[str, Any]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what a customer did, the latest first."""

    customer: str
    events: list[Happened]
    next: str | None                       # where the next page is; none: this is the last


async def get_timeline(asked: Asked) -> Response:
    """List what a customer did, the latest first, whichever of their keys it came with."""
    wanted = parameters(asked, TimelineOf)
    after = pages.place(asked, wanted.cursor)

    def read(book: "Book") -> Timeline:
        from habitue.lake.live import paging

        profile = known_customer(book, asked).profile
        window = paging.Window(by="time", descending=True, after=after, most=wanted.limit + 1)
        found = book.profiles.look(
            lambda held: paging.events(
                held, asked.shop.name, window, profile=profile.id, name=wanted.name
            )
        )
        shown, same = found[: wanted.limit], {"name": wanted.name, "limit": wanted.limit}
        last = shown[-1] if len(found) > len(shown) else None
        return Timeline(
            customer=profile.customer, events=[_happened(one) for one in shown],
            next=None if last is None else pages.following(
                asked, [last.time, last.key, last.digest.hex()], same
            ),
        )  # fmt: skip

    return answer(asked, await asked.service.reading.ask(read))


ROUTES = (
    Route(
        method="GET", path="/v1/customers/{id}/timeline", endpoint=get_timeline,
        parameters=TimelineOf, reply=Timeline, tagged=True,
    ),
)  # fmt: skip


def _happened(one: "Event") -> Happened:
    from habitue.lake.live.told import instant

    told = msgspec.json.decode(one.properties)
    return Happened(
        id=one.digest.hex(), time=instant(one.time), name=one.name,
        value=_amount(one.minor, one.currency),
        currency=None if one.currency == NO_CURRENCY else one.currency,
        lines=[
            Line(item=item, quantity=float(quantity), amount=_amount(minor, one.currency))
            for item, quantity, minor in msgspec.json.decode(one.lines)
        ],
        properties=told if isinstance(told, dict) else {},
    )  # fmt: skip


def _amount(minor: int | None, currency: str | None) -> float | None:
    if minor is None:
        return None
    return float(Decimal(minor).scaleb(-currency_exponent(currency or NO_CURRENCY)))
