"""Events and queries as numbers: what each token of the model carries.

Everything a token at time s carries was known before s: its own customer's events up to s, and
shop-level numbers from the last snapshot completed before s.
"""

# E events · L lines · Q queries · A query columns · S shop columns · B hazard bins · V items
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from habitue.sequences.aggregates import (
    AGGREGATE_NAMES,
    LONG_AGO_DAYS,
    WINDOW_DAYS,
    Running,
    aggregates_of,
    summaries_of,
)
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.snapshots import Snapshots

# right edges of the hazard bins, in days; the hazard is constant within a bin, and past the last
BIN_EDGES = np.array(
    [1, 3, 7, 14, 21, 30, 45, 60, 75, 90, 120, 150, 180, 240, 300, 365, 545, 730], dtype=np.float64
)
QUERY_BLOCK = 50_000                       # queries made at once
EXPECTATION_DAYS = (30.0, 90.0, 180.0, 365.0)
EVENT_COLUMNS = (
    "log_value_over_median", "taken_back", "log_quantity", "log_lines", "log_gap", "log_age",
    "hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "year_sin", "year_cos",
)  # fmt: skip
LINE_COLUMNS = ("log_quantity", "log_amount_over_median")
QUERY_COLUMNS = (
    *AGGREGATE_NAMES,
    "ever_ordered", "ever_repeated",
    *(f"log_expected_orders_{days:.0f}d" for days in EXPECTATION_DAYS),
    "log_odds_alive",
    "log_shop_age", "shop_trend_28d", "shop_trend_91d", "log_shop_orders_28d",
    "year_sin", "year_cos", "half_year_sin", "half_year_cos", "weekday_sin", "weekday_cos",
)  # fmt: skip
_VALUES = frozenset(
    ("value", "mean_value", "last_value", "value_deviation", "refunded_value",
     *(f"value_{days}d" for days in WINDOW_DAYS))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Queries:
    """Questions "what comes after t", one row each, with all they may know."""

    customer: np.ndarray                   # (Q,) index into sequences.customers
    time: np.ndarray                       # (Q,) int64 µs
    columns: np.ndarray                    # (Q, A) float32, QUERY_COLUMNS, roughly of unit scale
    shop_columns: np.ndarray               # (Q, S) float32, SHOP_COLUMNS: what kind of shop asks
    log_prior_rate: np.ndarray             # (Q, B) float32, the purchase process's hazard per day
    expected: np.ndarray                   # (Q, B + 1) its expected orders by 0 and each bin edge
    mean_value: np.ndarray                 # (Q,) shrunk mean order value over the shop's median
    value_scale: np.ndarray                # (Q,) the shop's median order value


def event_columns(sequences: Sequences, snapshots: Snapshots) -> np.ndarray:
    """(E, len(EVENT_COLUMNS)) float32."""
    time, value = sequences.time, sequences.value
    scale = snapshots.order_median[snapshots.day(time)]
    first = np.repeat(
        time[np.minimum(sequences.offsets[:-1], max(len(time) - 1, 0))],
        np.diff(sequences.offsets),
    )
    gap = np.diff(time, prepend=time[:1])
    gap[sequences.offsets[:-1][np.diff(sequences.offsets) > 0]] = 0
    totals = np.concatenate([[0.0], np.cumsum(np.abs(sequences.line_quantity), dtype=np.float64)])
    quantity = totals[sequences.line_offsets[1:]] - totals[sequences.line_offsets[:-1]]
    columns = [
        np.log1p(np.abs(value) / scale),
        value < 0,
        np.log1p(np.round(quantity)) / 4,
        np.log1p(np.diff(sequences.line_offsets)) / 2,
        np.log1p(gap / DAY) / 3,
        np.log1p((time - first) / DAY) / 4,
        *local_clock(time, sequences.timezone),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def line_columns(sequences: Sequences, snapshots: Snapshots) -> np.ndarray:
    """(L, len(LINE_COLUMNS)) float32."""
    event = np.repeat(np.arange(len(sequences.time)), np.diff(sequences.line_offsets))
    scale = snapshots.line_median[snapshots.day(sequences.time[event])]
    columns = [
        np.log1p(np.abs(sequences.line_quantity)) / 3,
        np.log1p(np.abs(sequences.line_amount) / scale) / 2,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def make_queries(
    sequences: Sequences, snapshots: Snapshots, customer: np.ndarray, time: np.ndarray
) -> Queries:
    """What is known of each customer (Q,) at each instant (Q,), ready for the model.

    Made QUERY_BLOCK rows at a time, since a row in the making takes five times what it keeps.
    """
    return queries_of(Running(sequences), snapshots, customer, time)


def queries_of(
    running: Running, snapshots: Snapshots, customer: np.ndarray, time: np.ndarray
) -> Queries:
    """The same from sums that were made before, for whoever asks a shop more than once."""
    cuts = range(QUERY_BLOCK, len(customer), QUERY_BLOCK)
    blocks = [
        _queries_of(running, snapshots, *block)
        for block in zip(np.split(customer, cuts), np.split(time, cuts), strict=True)
    ]
    if len(blocks) == 1:
        return blocks[0]
    columns = {
        field.name: np.concatenate([getattr(block, field.name) for block in blocks])
        for field in fields(Queries)
    }
    return Queries(**columns)


def _queries_of(
    running: Running, snapshots: Snapshots, customer: np.ndarray, time: np.ndarray
) -> Queries:
    raw = aggregates_of(running, customer, time)
    scale = snapshots.order_median[snapshots.day(time)]
    x, t_x, total, _ = summaries_of(running, customer, time)
    probability, expected, alive = _prior(snapshots, time, x, t_x, total)
    ordered = raw[:, AGGREGATE_NAMES.index("orders")] > 0
    columns = [_unit_scale(name, raw[:, i], scale) for i, name in enumerate(AGGREGATE_NAMES)]
    at = np.searchsorted(BIN_EDGES, EXPECTATION_DAYS) + 1
    columns += [ordered, x > 0]
    columns += [np.log(np.maximum(expected[:, i], 1e-6)) / 2 for i in at]
    columns += [np.log(alive / (1 - alive)) / 4]
    columns += _shop_columns(snapshots, time)
    year, weekday = _year_and_week(time)
    columns += [np.sin(year), np.cos(year), np.sin(2 * year), np.cos(2 * year)]
    columns += [np.sin(weekday), np.cos(weekday)]
    all_values = raw[:, AGGREGATE_NAMES.index("mean_value")] / scale
    # a customer's own mean counts for as much as its orders do against one and a half of the shop's
    orders = raw[:, AGGREGATE_NAMES.index("orders")]
    shrunk = (orders * all_values + 1.5 * 1.3) / (orders + 1.5)
    return Queries(
        customer=customer,
        time=time,
        columns=np.clip(np.stack(columns, axis=1), -8, 8).astype(np.float32),
        shop_columns=snapshots.descriptors[snapshots.month(time)],
        log_prior_rate=_log_rate(probability),
        expected=expected.astype(np.float32),
        mean_value=np.maximum(shrunk, 1e-3).astype(np.float32),
        value_scale=scale.astype(np.float32),
    )


def local_clock(time: np.ndarray, timezone: str) -> list[np.ndarray]:
    """Sine and cosine of hour, weekday and day of year on the shop's clock; (E,) each."""
    local = time + _utc_offset(time, timezone)
    hour = 2 * np.pi * (local % DAY) / DAY
    year, weekday = _year_and_week(local)
    return [f(angle) for angle in (hour, weekday, year) for f in (np.sin, np.cos)]


def _utc_offset(time: np.ndarray, timezone: str) -> np.ndarray:
    """(E,) µs to add to UTC for the local clock; looked up once a day."""
    days, position = np.unique(time // DAY, return_inverse=True)
    zone = ZoneInfo(timezone)
    noon = [datetime.fromtimestamp(int(day) * 86_400 + 43_200, UTC) for day in days]
    offsets = [zone.utcoffset(at.astimezone(zone)) for at in noon]
    seconds = np.array([offset.total_seconds() if offset else 0.0 for offset in offsets])
    return (seconds[position] * 1_000_000).astype(np.int64) if len(days) else time


def _year_and_week(time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    days = time / DAY
    return 2 * np.pi * ((days % 365.2425) / 365.2425), 2 * np.pi * (((days + 3) % 7) / 7)


def _unit_scale(name: str, column: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if name in _VALUES:
        return np.log1p(np.maximum(column, 0) / scale) / 2
    if name.startswith("days_since"):
        return np.log1p(np.minimum(column, LONG_AGO_DAYS)) / 3
    if name == "recency_over_gap":
        return np.log1p(np.minimum(column, 100))
    return np.log1p(np.maximum(column, 0)) / 2


def _shop_columns(snapshots: Snapshots, time: np.ndarray) -> list[np.ndarray]:
    month, before = snapshots.orders_in(time, 28), snapshots.orders_in(time, 56, 28)
    quarter, earlier = snapshots.orders_in(time, 91), snapshots.orders_in(time, 182, 91)
    return [
        np.log1p(snapshots.age_days(time)) / 4,
        np.clip(np.log((month + 10) / (before + 10)), -1.5, 1.5),
        np.clip(np.log((quarter + 10) / (earlier + 10)), -1.5, 1.5),
        np.log1p(month) / 8,
    ]


def _prior(
    snapshots: Snapshots, time: np.ndarray, x: np.ndarray, t_x: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(order) (Q, B) and expected orders (Q, B + 1) by each bin edge, P(alive) (Q,)."""
    probability = np.zeros((len(time), len(BIN_EDGES)))
    expected = np.zeros((len(time), len(BIN_EDGES) + 1))
    alive = np.zeros(len(time))
    month = snapshots.month(time)
    for i in np.unique(month):
        q = month == i
        process, past = snapshots.processes[i], (x[q, None], t_x[q, None], total[q, None])
        probability[q] = process.probability_of_order(*past, BIN_EDGES[None])
        expected[q, 1:] = process.expected_orders(*past, BIN_EDGES[None])
        alive[q] = process.probability_alive(x[q], t_x[q], total[q])
    return probability, expected, np.clip(alive, 1e-4, 1 - 1e-4)


def _log_rate(probability: np.ndarray) -> np.ndarray:
    """(Q, B) float32 log hazard per day that gives P(order) at every bin edge."""
    cumulative = -np.log1p(-np.clip(probability, 0, 1 - 1e-9))
    cumulative = np.concatenate([np.zeros((len(cumulative), 1)), cumulative], axis=1)
    rate = np.diff(cumulative, axis=1) / np.diff(BIN_EDGES, prepend=0.0)
    return np.log(np.maximum(rate, 1e-7)).astype(np.float32)
