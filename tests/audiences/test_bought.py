"""What a customer's orders come to: what is told twice, taken back or cancelled, by hand."""

from decimal import Decimal

import pytest

from habitue.audiences.live import bought as told_of
from habitue.audiences.live.bought import Bought
from habitue.audiences.live.facts import Event, Facts, Shop

SHOP = Shop(currency="USD", order_sources=("till", "mail"))


def event(
    name: str, order: str | None, minor: int | None, *, time: int = 1, source: str = "till",
    currency: str = "USD",
) -> Event:  # fmt: skip
    digest = f"{name}{order}{minor}{time}{source}".encode()
    return Event(time, time, digest, time, name, source, order, minor, currency, "[]", "{}")


def bought(*events: Event, unnamed: tuple[str, ...] = ()) -> Bought:
    told = sorted(events, key=lambda one: (one.time, one.received, one.digest))
    facts = Facts(customer=1, name="c", keys=("c",), visible=0, events=told)
    facts.cancellations = [(order, 2, 2) for order in unnamed]
    return told_of.bought(facts.at(SHOP, 100))


def placed(order: str, minor: int = 1_000, **told: object) -> Event:
    return event("order_placed", order, minor, **told)


def back(order: str | None, minor: int, **told: object) -> Event:
    return event("order_refunded", order, minor, time=5, **told)


ONE = placed("a")


@pytest.mark.parametrize(
    ("events", "orders", "total"),
    [
        ([], 0, "0"),
        ([ONE], 1, "10"),
        ([ONE, placed("b", 250, time=3)], 2, "12.5"),
        ([ONE, placed("a", 990, source="mail")], 1, "10"),           # told by two sources
        ([placed("a", 990, source="mail", time=0), ONE], 1, "10"),
        ([ONE, back("a", -400)], 1, "6"),
        ([ONE, back("a", -400), back("a", -400, source="mail")], 1, "6"),
        ([ONE, back("a", -400, source="mail")], 1, "6"),             # only the other told of it
        ([ONE, back("a", -1_000)], 0, "0"),                          # nothing of it stands
        ([ONE, placed("b"), back("a", -1_000)], 1, "10"),
        ([ONE, back(None, -300)], 1, "7"),
        ([ONE, back("gone", -300)], 1, "7"),
        ([ONE, placed("b"), event("order_cancelled", "b", None, time=3)], 1, "10"),
        ([ONE, placed("b"), event("order_cancelled", "b", None, time=3), back("b", -1_000)],
         1, "10"),
        ([ONE, placed("free", 0)], 1, "10"),
        ([ONE, placed("b", currency="EUR")], 2, "10"),               # no amount in ours
    ],
)  # fmt: skip
def test_what_stands_is_counted_once(events, orders, total):
    found = bought(*events)
    assert (found.orders, found.total) == (orders, Decimal(total))


def test_what_a_cancellation_of_nobody_names_is_out():
    assert bought(ONE, placed("b"), unnamed=("b",)).orders == 1


def test_what_is_not_known_yet_does_not_count():
    assert bought(ONE, placed("b", time=101)).orders == 1
