"""Fast aggregates beside a loop over each customer's own events."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers

from habitue.sequences.aggregates import (
    AGGREGATE_NAMES,
    LONG_AGO_DAYS,
    WINDOW_DAYS,
    aggregates,
    past_end,
    purchase_summaries,
)
from habitue.sequences.build import DAY, Sequences, upto
from tests.sequences.small import Asked, questions, tangled

Row = dict[str, float]


def rows_by(sequences: Sequences, customer: int, time: int) -> list[int]:
    """The customer's rows up to and including an instant."""
    own = range(sequences.offsets[customer], sequences.offsets[customer + 1])
    return [row for row in own if sequences.time[row] <= time]


def named(sequences: Sequences, rows: list[int], *names: str) -> list[int]:
    return [row for row in rows if sequences.kinds[sequences.kind[row]] in names]


def order_days(sequences: Sequences, rows: list[int]) -> list[int]:
    """The first order of each day."""
    first: dict[int, int] = {}
    for row in named(sequences, rows, "order_placed"):
        first.setdefault(int(sequences.time[row] // DAY), row)
    return list(first.values())


def value_of(sequences: Sequences, rows: list[int]) -> float:
    money = named(sequences, rows, "order_placed", "order_updated", "order_cancelled")
    return float(sum(sequences.value[row] for row in money))


def since(sequences: Sequences, rows: list[int], time: int, which: int) -> float:
    return float(time - sequences.time[rows[which]]) / DAY if rows else LONG_AGO_DAYS


def known(sequences: Sequences, customer: int, time: int) -> Row:
    """The aggregates of one customer at one instant, slowly."""
    rows = rows_by(sequences, customer, time)
    placed = named(sequences, rows, "order_placed")
    back = named(sequences, rows, "order_cancelled", "order_refunded")
    orders = len(placed) - len(named(sequences, rows, "order_cancelled"))
    days = order_days(sequences, rows)
    gaps = np.diff(sequences.time[days]) / DAY if len(days) > 1 else np.zeros(0)
    value = value_of(sequences, rows)
    mean = value / max(orders, 1)
    squares = sum(np.rint(sequences.value[row] ** 2) for row in placed) / max(orders, 1)
    mean_gap = float(gaps.mean()) if len(gaps) else 0.0
    since_order = since(sequences, placed, time, -1)
    lines = sum(sequences.line_offsets[row + 1] - sequences.line_offsets[row] for row in placed)
    found = {
        "days_since_order": since_order,
        "days_since_event": since(sequences, rows, time, -1),
        "days_since_first_order": since(sequences, placed, time, 0),
        "days_since_first_event": since(sequences, rows, time, 0),
        "orders": orders,
        "order_days": len(days),
        "events": len(rows),
        "value": value,
        "mean_value": mean,
        "last_value": float(sequences.value[placed[-1]]) if placed else 0.0,
        "value_deviation": float(np.sqrt(max(squares - mean**2, 0.0))),
        "mean_gap_days": mean_gap,
        "gap_deviation_days": float(gaps.std()) if len(gaps) else 0.0,
        "last_gap_days": float(gaps[-1]) if len(gaps) else 0.0,
        "recency_over_gap": since_order / max(mean_gap, 0.5) if mean_gap > 0 else 0.0,
        "refunds": len(back),
        "refunded_value": float(-sum(sequences.value[row] for row in back)),
        "lines_per_order": lines / max(orders, 1),
    }
    for window in WINDOW_DAYS:
        late = [row for row in rows if sequences.time[row] > time - window * DAY]
        cancelled = named(sequences, late, "order_cancelled")
        found[f"orders_{window}d"] = len(named(sequences, late, "order_placed")) - len(cancelled)
        found[f"value_{window}d"] = value_of(sequences, late)
        others = named(sequences, late, "item_viewed", "order_updated")
        found[f"other_events_{window}d"] = len(others)
    return found


@given(seed=integers(0, 10_000))
def test_aggregates_are_what_a_loop_over_the_customer_finds(seed: int) -> None:
    sequences = tangled(seed)
    asked = questions(sequences, seed, count=25)
    fast = aggregates(sequences, asked.customer, asked.time)
    assert fast.shape == (25, len(AGGREGATE_NAMES))
    for row, customer, time in zip(fast, asked.customer, asked.time, strict=True):
        slow = known(sequences, int(customer), int(time))
        expected = np.array([slow.pop(name) for name in AGGREGATE_NAMES])
        assert not slow
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-3)


@given(seed=integers(0, 10_000))
def test_purchase_summaries_are_what_a_loop_over_the_customer_finds(seed: int) -> None:
    sequences = replace(tangled(seed), kinds=("order_placed", *"abcd"))
    asked = questions(sequences, seed, count=25)
    fast = np.stack(purchase_summaries(sequences, asked.customer, asked.time), axis=1)
    for row, customer, time in zip(fast, asked.customer, asked.time, strict=True):
        rows = named(sequences, rows_by(sequences, int(customer), int(time)), "order_placed")
        days = order_days(sequences, rows)
        if not rows:
            assert row.tolist() == [0, 0, 0, 0]
            continue
        first, last = sequences.time[rows[0]], sequences.time[rows[-1]]
        later = [r for r in rows if sequences.time[r] // DAY > first // DAY]
        repeats = len(days) - 1
        mean = sum(sequences.value[r] for r in later) / repeats if repeats else 0.0
        expected = [repeats, (last - first) / DAY if repeats else 0.0, (time - first) / DAY, mean]
        assert row == pytest.approx(np.array(expected), rel=1e-9, abs=1e-7)


@given(seed=integers(0, 10_000))
def test_a_past_ends_where_a_loop_would_stop(seed: int) -> None:
    sequences = tangled(seed)
    asked = questions(sequences, seed)
    ends = past_end(sequences, asked.customer, asked.time)
    for end, customer, time in zip(ends, asked.customer, asked.time, strict=True):
        assert end - sequences.offsets[customer] == len(rows_by(sequences, customer, time))


@pytest.mark.parametrize("seed", range(5))
def test_aggregates_at_an_instant_do_not_depend_on_what_follows(seed: int) -> None:
    sequences = tangled(seed)
    asked = questions(sequences, seed, count=8)
    for customer, time in zip(asked.customer, asked.time, strict=True):
        past = upto(sequences, int(time))
        here = np.flatnonzero(past.customers == sequences.customers[customer])
        if not len(here):
            continue
        at = np.array([time])
        for function in (aggregates, purchase_summaries):
            whole = function(sequences, np.array([customer]), at)
            assert np.array_equal(whole, function(past, here, at))


def test_recencies_of_what_never_happened_are_long_ago_and_means_of_nothing_zero() -> None:
    sequences = tangled(0)
    before = Asked(np.arange(6), np.full(6, int(sequences.time.min()) - 1))
    found = dict(
        zip(AGGREGATE_NAMES, aggregates(sequences, before.customer, before.time).T, strict=True)
    )
    for name, column in found.items():
        expected = LONG_AGO_DAYS if name.startswith("days_since") else 0.0
        assert column.tolist() == [expected] * 6, name


def test_an_order_of_any_value_leaves_aggregates_numbers() -> None:
    sequences = tangled(0)
    worth = sequences.value.copy()
    worth[np.flatnonzero(sequences.is_order)[0]] = 1e16        # cents of it are as large as may be
    told = aggregates(
        replace(sequences, value=worth),
        np.arange(len(sequences.customers)),
        np.full(len(sequences.customers), sequences.cutoff),
    )
    assert np.all(np.isfinite(told))
    assert np.all(told[:, AGGREGATE_NAMES.index("value_deviation")] >= 0)
