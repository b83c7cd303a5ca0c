"""Shops that nobody plans for: a sensible answer, or an error that says what is missing."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from habitue.errors import NotEnoughHistory
from habitue.predictions.learn import learn
from habitue.predictions.scores.answers import Scores
from habitue.sequences.build import DAY, Sequences, microseconds
from tests.model.small import TINY
from tests.sequences.small import sequences_at
from tests.shops import orders_of

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
HORIZONS = (7.0, 30.0, 90.0, 365.0)
Row = tuple[str | None, float, list[str]]


def some(customers: int, orders: int, *, days: float = 200.0, seed: int = 0) -> list[Row]:
    """Orders of one item by so many customers, at random in so many days."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, customers, orders)
    return [
        (f"c{who}", float(day), [f"i{rng.integers(5)}"])
        for who, day in zip(drawn, np.sort(rng.uniform(0, days, orders)), strict=True)
    ]


def shop_of(rows: list[Row], *, days: float = 210.0) -> Sequences:
    return sequences_at(orders_of(rows, start=MONDAY), microseconds(MONDAY) + round(days * DAY))


def changed(rows: list[Row], **columns: list[object]) -> Sequences:
    events = orders_of(rows, start=MONDAY)
    for name, values in columns.items():
        field = events.schema.field(name)
        place = events.column_names.index(name)
        events = events.set_column(place, field, pa.array(values, field.type))
    return sequences_at(events, microseconds(MONDAY) + 210 * DAY)


def assert_sensible(scores: Scores) -> None:
    """Finite, within bounds, ordered, and more the further one looks."""
    before = np.zeros(len(scores.names))
    for days in HORIZONS:
        for question in (scores.order, scores.orders, scores.revenue):
            found = question(days)
            assert np.all(np.isfinite(found.value))
            assert np.all(found.value >= 0)
            assert np.all(found.low <= found.high)
        chance = scores.order(days)
        assert np.all((chance.low <= chance.value) & (chance.value <= chance.high))
        assert np.all((chance.value >= before - 1e-9) & (chance.value <= 1))
        before = chance.value
    dates = scores.next_order()
    assert np.all(np.isfinite(dates))
    assert np.all(np.diff(dates, axis=1) >= 0)


def free_of_charge() -> Sequences:
    rows = some(20, 80)
    return changed(rows, value_minor=[0] * 80, lines=[[] for _ in rows])


def half_of_it_free() -> Sequences:
    rows = some(20, 80)
    return changed(rows, value_minor=[0 if number % 2 else 2_500 for number in range(80)])


def in_three_currencies() -> Sequences:
    return changed(some(20, 90), currency=[("GBP", "EUR", "USD")[n % 3] for n in range(90)])


def without_values() -> Sequences:
    return changed(some(20, 80), currency=[None] * 80, value_minor=[None] * 80)


def all_at_once() -> Sequences:
    return shop_of([(f"c{number % 15}", 100.0, ["mug"]) for number in range(60)])


def one_customer_alone() -> Sequences:
    return shop_of(some(1, 60))


def everyone_once() -> Sequences:
    return shop_of([(f"c{number}", number * 3.0, ["mug"]) for number in range(60)])


def nothing_on_the_lines() -> Sequences:
    return shop_of([(who, day, []) for who, day, _ in some(20, 80)])


def one_who_never_stops() -> Sequences:
    """One customer with a hundred times what all the others have."""
    often = [("machine", day, ["mug"]) for day in np.linspace(0, 200, 8_000)]
    return shop_of(sorted(often + some(20, 80), key=lambda row: row[1]))


def one_order_each_a_year_ago() -> Sequences:
    return shop_of([(f"c{n}", n / 60, ["mug"]) for n in range(60)], days=900.0)


@pytest.mark.parametrize(
    "odd",
    [
        half_of_it_free, in_three_currencies, all_at_once, one_customer_alone, everyone_once,
        nothing_on_the_lines, one_who_never_stops, one_order_each_a_year_ago,
    ],
    ids=lambda odd: odd.__name__,
)  # fmt: skip
def test_an_odd_shop_is_answered_with_sense(odd: Callable[[], Sequences]) -> None:
    shop = odd()
    scores = learn(shop, TINY).scores(HORIZONS)
    assert scores.names.tolist() == sorted(set(shop.customers[shop.customer_of_event]))
    assert_sensible(scores)


@pytest.mark.parametrize("orders", [0, 1, 19])
def test_too_few_orders_are_refused_with_their_number(orders: int) -> None:
    with pytest.raises(NotEnoughHistory, match=f"^{orders} orders") as caught:
        learn(shop_of(some(5, orders)), TINY)
    assert "hint:" in str(caught.value)


@pytest.mark.parametrize("worthless", [free_of_charge, without_values])
def test_orders_worth_nothing_are_none_and_the_error_says_so(
    worthless: Callable[[], Sequences],
) -> None:
    with pytest.raises(NotEnoughHistory, match="without a positive value"):
        learn(worthless(), TINY)


@pytest.mark.slow
def test_a_customer_with_a_million_events_is_one_customer() -> None:
    rows = some(40, 200)
    events = orders_of(rows, start=MONDAY)
    one = events.slice(0, 1)
    count = 1_000_000
    start = microseconds(MONDAY)
    times = pa.array(start + np.arange(count) * (200 * DAY // count), pa.int64())
    digests = pa.array([n.to_bytes(16, "big") for n in range(1_000, count + 1_000)])
    views = pa.table(
        {
            name: column.take(pa.array(np.zeros(count, np.int64)))
            for name, column in zip(one.column_names, one.columns, strict=True)
        }
    )
    for name, values in (
        ("time", times), ("digest", digests), ("customer", pa.array(["machine"] * count)),
        ("name", pa.array(["item_viewed"] * count)), ("order", pa.nulls(count, pa.string())),
        ("value_minor", pa.nulls(count, pa.int64())),
    ):  # fmt: skip
        place = views.column_names.index(name)
        field = events.schema.field(name)
        views = views.set_column(place, field, values.cast(field.type))
    whole = pa.concat_tables([events, views.cast(events.schema)])
    shop = sequences_at(whole, start + 210 * DAY)
    assert len(shop.time) == count + 200
    assert_sensible(learn(shop, TINY).scores(HORIZONS))
