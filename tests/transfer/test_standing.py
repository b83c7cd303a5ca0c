"""Full, transfer, insufficient: by what a shop's own past can carry."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from habitue.sequences.build import DAY, Sequences, microseconds, sequences_from_events, upto
from habitue.transfer.standing import standing_of
from tests.shops import orders_of

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def shop_of(customers: int, orders: int, days: float) -> Sequences:
    """So many customers with one order after the other, over so many days."""
    rows = [(f"c{n % customers:04}", days * n / orders, ["mug"]) for n in range(orders)]
    events = orders_of(rows, start=MONDAY)
    return sequences_from_events(
        events, None, shop="corner", cutoff=microseconds(MONDAY) + round(days * DAY)
    )


def test_a_shop_with_enough_of_everything_is_full() -> None:
    found = standing_of(shop_of(500, 1_500, 200), own=True)
    assert (found.status, found.missing) == ("full", None)


@pytest.mark.parametrize(
    ("customers", "orders", "days", "missing"),
    [
        (499, 1_500, 200, "500 customers with an order, and there are 499"),
        (500, 1_500, 170, "180 days of past, and there are 170"),
        (500, 1_000, 200, "someone with 3 orders, and the most anyone has is 2"),
    ],
)
def test_what_is_missing_for_full_is_told(
    customers: int, orders: int, days: float, missing: str
) -> None:
    found = standing_of(shop_of(customers, orders, days), own=True)
    assert (found.status, found.missing) == ("transfer", missing)


def test_a_shop_that_fell_silent_is_not_full() -> None:
    shop = shop_of(500, 1_500, 200)
    found = standing_of(replace(shop, cutoff=shop.cutoff + 40 * DAY), own=True)
    assert found.status == "transfer"
    assert "an order within 30 days, and the last is 40 days ago" in str(found.missing).split("; ")


def test_weights_that_were_not_trained_on_the_shop_are_never_full() -> None:
    found = standing_of(shop_of(500, 1_500, 200), own=False)
    assert found.status == "transfer"
    assert found.missing == "a training on this shop (`habitue train`)"


def test_below_twenty_orders_nothing_is_sufficient() -> None:
    shop = shop_of(7, 19, 200)
    for one, count in ((shop, 19), (upto(shop, shop.cutoff - 300 * DAY), 0)):
        found = standing_of(one, own=True)
        assert found.status == "insufficient"
        assert found.missing == f"20 orders in all, and there are {count}"
