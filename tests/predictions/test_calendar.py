"""The level ahead, on shops whose seasons were written down."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from habitue.predictions.calendar import (
    MOST,
    PERIOD_EDGES,
    Level,
    flat_level,
    year_ago_level,
)
from habitue.sequences.build import DAY, Sequences, microseconds
from tests.sequences.small import sequences_at
from tests.shops import orders_of

START = datetime(2022, 1, 3, tzinfo=UTC)
DAYS = 2 * 364
CUTOFF = microseconds(START) + DAYS * DAY
PERIODS = len(PERIOD_EDGES) - 1


def shop_of(ahead: float, *, per_day: int = 4, days: int = DAYS, value: float = 1.0) -> Sequences:
    """Even orders, but `ahead` times as many (and as dear) in the half year after a year ago.

    Every customer came in the first month, so that all later orders are of known customers.
    """
    rng = np.random.default_rng(0)
    rows: list[tuple[str | None, float, list[str]]] = []
    for day in range(days):
        since = day - (days - 364)
        count = round(per_day * (ahead if 0 <= since < 182 else 1))
        for _ in range(count):
            who = f"c{rng.integers(0, 100):03d}"
            rows.append((who, day + float(rng.uniform(0.01, 0.99)), []))
    events = orders_of(rows, start=START)
    sequences = sequences_at(events, microseconds(START) + days * DAY)
    since = (sequences.time - microseconds(START)) / DAY - (days - 364)
    dear = np.where((since >= 0) & (since < 182), value, 1.0)
    return replace(sequences, value=sequences.value * dear)


def level_of(sequences: Sequences, per_day: float = 4.0) -> Level:
    """The level beside a model that expects orders at an even pace from everyone."""
    edges = np.array(PERIOD_EDGES)
    return year_ago_level(sequences, per_day * edges, sequences.cutoff)


def test_twice_the_orders_in_last_year_s_same_months_doubles_the_level() -> None:
    level = level_of(shop_of(2.0))
    assert level.known
    assert level.orders[:6] == pytest.approx(np.full(6, 2.0), rel=0.25)
    assert level.orders[:6].mean() > level.orders[6:].mean() + 0.4


def test_an_even_year_leaves_the_level_as_it_is() -> None:
    level = level_of(shop_of(1.0))
    assert level.orders == pytest.approx(np.ones(PERIODS), rel=0.15)
    assert level.value == pytest.approx(np.ones(PERIODS), rel=0.02)


def test_few_orders_say_less_than_many() -> None:
    few, many = level_of(shop_of(2.0, per_day=1), 1.0), level_of(shop_of(2.0, per_day=8), 8.0)
    assert 1.0 < few.orders[:6].mean() < many.orders[:6].mean()


def test_a_model_that_knows_the_season_is_left_alone() -> None:
    sequences = shop_of(2.0)
    edges = np.array(PERIOD_EDGES)
    expected = 8 * np.minimum(edges, 182) + 4 * np.maximum(edges - 182, 0)
    level = year_ago_level(sequences, expected, sequences.cutoff)
    assert level.orders == pytest.approx(np.ones(PERIODS), rel=0.2)


def test_dearer_orders_in_last_year_s_same_months_are_half_believed() -> None:
    level = level_of(shop_of(1.0, value=1.5))
    assert np.all((level.value[:6] > 1.1) & (level.value[:6] < 1.3))


@pytest.mark.parametrize("begin", [-91, 0, 300])
def test_orders_worth_nothing_say_nothing_of_what_orders_are_worth(begin: int) -> None:
    sequences = shop_of(1.0)
    since = (sequences.time - sequences.cutoff) / DAY + 364
    free = (since >= begin) & (since < begin + 91)
    level = level_of(replace(sequences, value=np.where(free, 0.0, sequences.value)))
    assert np.all(np.isfinite(level.value))
    of_free = level.value[-1:] if begin == 300 else level.value[:3]
    assert of_free == pytest.approx(np.ones(len(of_free)))


@pytest.mark.parametrize("days", [30, 364, 420])
def test_a_shop_without_last_year_has_a_flat_level(days: int) -> None:
    level = level_of(shop_of(1.0, days=days))
    assert not level.known
    for name in ("orders", "value"):
        assert np.array_equal(getattr(level, name), getattr(flat_level(), name))


@pytest.mark.parametrize("expected", [0.001, 10_000.0])
def test_no_factor_leaves_its_bounds_however_wrong_the_model(expected: float) -> None:
    level = level_of(shop_of(2.0), expected)
    for factors in (level.orders, level.value):
        assert np.all(np.abs(np.log(factors)) <= MOST + 1e-9)
        assert np.all(np.isfinite(factors))


def test_nothing_after_the_cutoff_moves_the_level() -> None:
    whole = shop_of(2.0)
    at = whole.cutoff - 100 * DAY
    cancelled = replace(
        whole,
        cancelled_at=np.where(np.arange(len(whole.time)) % 2, at + DAY, whole.cancelled_at),
        value=np.where(whole.time > at, 9.0, whole.value),
    )
    edges = np.array(PERIOD_EDGES)
    one, other = (year_ago_level(s, 4 * edges, at) for s in (whole, cancelled))
    assert one.known
    for name in ("orders", "value"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
