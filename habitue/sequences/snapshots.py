"""Shop-level numbers as they were known: medians daily; purchase process and descriptor monthly.

A snapshot dated d is computed from events before d alone and serves every instant from d until the
next one. So whatever a token or query at time t reads of its shop was complete before t.
"""

# M monthly snapshots · D days · Q queries · B bins · S shop columns · N orders
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from habitue.sequences.build import DAY, NEVER, Sequences, instant, microseconds
from habitue.sequences.classical import MbgNbd
from habitue.sequences.classical_fit import MBG_NBD_PRIOR, fit_mbg_nbd
from habitue.sequences.ragged import members, offsets_of

CUSTOMERS_AT_ONCE = 50_000                 # whose orders are counted
MEDIAN_OVER = 20_000                       # latest orders or lines that a daily median looks at
# what kind of shop it is: the model's shop descriptor, each roughly of unit scale
SHOP_COLUMNS = (
    "log_customers", "log_orders_per_customer", "repeat_share", "log_gap_days", "log_gap_spread",
    "log_value_spread", "log_lines_per_order", "log_items", "log_others_per_order", "log_age_days",
    "log_rate_shape", "log_rate_scale", "log_leaving", "log_staying",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """What was known of a shop on each day and in each month of its life."""

    first_day: int                         # days since the epoch
    order_median: np.ndarray               # (D,) median order value before the day, major units
    line_median: np.ndarray                # (D,) median line amount
    orders_before: np.ndarray              # (D + 1,) orders of identified customers before the day
    month_starts: np.ndarray               # (M,) µs
    processes: tuple[MbgNbd, ...]       # (M,) fitted on everything before the month's start
    descriptors: np.ndarray                # (M, S) float32, of everything before it

    def day(self, time: np.ndarray) -> np.ndarray:
        """Row of the daily columns that serves each instant (µs)."""
        return np.clip(time // DAY - self.first_day, 0, len(self.order_median) - 1)

    def month(self, time: np.ndarray) -> np.ndarray:
        """Index of the purchase process that serves each instant (µs)."""
        return np.maximum(np.searchsorted(self.month_starts, time, side="right") - 1, 0)

    def age_days(self, time: np.ndarray) -> np.ndarray:
        """Days from the shop's first event's day to each instant."""
        return np.maximum(time / DAY - self.first_day, 0.0)

    def orders_in(self, time: np.ndarray, since_days: int, until_days: int = 0) -> np.ndarray:
        """Orders in the whole days [today - since_days, today - until_days), today excluded."""
        last = len(self.orders_before) - 1
        day = np.clip(time // DAY - self.first_day, 0, last)
        late = np.clip(day - until_days, 0, last)
        early = np.clip(day - since_days, 0, last)
        return (self.orders_before[late] - self.orders_before[early]).astype(np.float64)


def take_snapshots(sequences: Sequences) -> Snapshots:
    """All snapshots of a shop up to its cutoff."""
    last_day = sequences.cutoff // DAY
    first_day = int(sequences.time.min() // DAY) if len(sequences.time) else int(last_day)
    days = np.arange(first_day, last_day + 1)
    counts = np.bincount(
        sequences.time[sequences.is_order] // DAY - first_day, minlength=len(days)
    )
    starts = _month_starts(first_day * DAY, sequences.cutoff)
    order_median, line_median = _medians_before(sequences, days, starts)
    processes = tuple(_fit_before(sequences, int(start)) for start in starts)
    return Snapshots(
        first_day=first_day,
        order_median=order_median,
        line_median=line_median,
        orders_before=np.concatenate([[0], np.cumsum(counts)]),
        month_starts=starts,
        processes=processes,
        descriptors=_descriptors(sequences, starts, processes),
    )


def _medians_before(
    sequences: Sequences, days: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(D,) medians of the latest order values and line amounts before each day; 1 without any.

    Month after month of `starts` (µs), so that only one month's lines are held at a time.
    """
    latest = [np.empty(0), np.empty(0)]    # before the month, at most MEDIAN_OVER of each
    found: tuple[list[float], list[float]] = ([], [])
    ends = [*starts[1:], (int(days[-1]) + 1) * DAY]
    for start, end in zip(starts, ends, strict=True):
        within = (sequences.time >= start) & (sequences.time < end)
        rows = np.flatnonzero(within & sequences.is_order)
        rows = rows[np.argsort(sequences.time[rows], kind="stable")]
        midnights = days[(days * DAY >= start) & (days * DAY < end)] * DAY
        orders = np.searchsorted(sequences.time[rows], midnights)
        lines, offsets = members(sequences.line_offsets, rows)
        value, amount = sequences.value[rows], sequences.line_amount[lines]
        # what was paid in another currency has no value here, and moves no median
        worth_before = np.concatenate([[0], np.cumsum(value > 0)])
        sold_before = np.concatenate([[0], np.cumsum(amount > 0)])
        told = (
            (value[value > 0], worth_before[orders]),
            (amount[amount > 0], sold_before[offsets[orders]]),
        )
        for i, (values, stops) in enumerate(told):
            held = np.concatenate([latest[i], values])
            found[i].extend(_median_upto(held, len(latest[i]) + stop) for stop in stops)
            latest[i] = held[-MEDIAN_OVER:]
    return np.array(found[0]), np.array(found[1])


def _median_upto(values: np.ndarray, stop: int) -> float:
    return float(np.median(values[max(stop - MEDIAN_OVER, 0) : stop])) if stop else 1.0


def _month_starts(first: int, cutoff: int) -> np.ndarray:
    """(M,) µs: the shop's first day, then the first of each month up to the cutoff."""
    starts = [first]
    begun = instant(first)
    year, month = begun.year, begun.month
    while True:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        start = microseconds(datetime(year, month, 1, tzinfo=UTC))
        if start > cutoff:
            return np.array(starts, dtype=np.int64)
        starts.append(start)


def _fit_before(sequences: Sequences, start: int) -> MbgNbd:
    """The purchase process of all customers whose first order came before `start` (µs)."""
    count = len(sequences.customers)
    blocks = [
        _purchases_before(sequences, slice(begin, begin + CUSTOMERS_AT_ONCE), start)
        for begin in range(0, max(count, 1), CUSTOMERS_AT_ONCE)
    ]
    repeats, last, age = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return fit_mbg_nbd(repeats, last, age, prior=MBG_NBD_PRIOR).model


def _purchases_before(
    sequences: Sequences, customers: slice, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat days, days from first to last order and to `start`, of some customers who had ordered.

    What `purchase_summaries` says of them, found from orders alone and without its running sums.
    """
    offsets = sequences.offsets[customers.start : customers.stop + 1]
    events = slice(int(offsets[0]), int(offsets[-1]))
    time = sequences.time[events]
    rows = np.flatnonzero((sequences.kind[events] == 0) & (time < start))
    owner = np.searchsorted(offsets, rows + offsets[0], side="right")
    time = time[rows]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    last = np.flatnonzero(np.diff(owner, append=-1))
    fresh = np.diff(time // DAY, prepend=-1) != 0      # the first order of a day
    fresh[first] = True
    days = offsets_of(fresh)
    repeats = days[last + 1] - days[first] - 1.0
    age, silent = ((start - 1 - time[edge]) / DAY for edge in (first, last))
    known = age > 0
    lasted = np.where(repeats > 0, np.clip(age - silent, 0.0, None), 0.0)
    return repeats[known], lasted[known], age[known]


def _descriptors(
    sequences: Sequences, starts: np.ndarray, processes: tuple[MbgNbd, ...]
) -> np.ndarray:
    """(M, S) float32 SHOP_COLUMNS of everything before each month's start; zeros before anything.

    Spreads and typical gaps are of the latest MEDIAN_OVER orders, so that a month costs no more in
    a large shop.
    """
    rows = np.flatnonzero(sequences.is_order)
    owner = np.searchsorted(sequences.offsets, rows, side="right")
    first = np.diff(owner, prepend=-1) != 0
    second = np.r_[False, first[:-1]][: len(rows)] & ~first
    gap = np.log1p(np.where(first, 0, np.diff(sequences.time[rows], prepend=0)) / DAY)
    by_time = np.argsort(sequences.time[rows], kind="stable")
    rows, first, second, gap = rows[by_time], first[by_time], second[by_time], gap[by_time]
    # in another currency an order is worth nothing here, and still an order
    value = np.log(np.maximum(sequences.value[rows], 0.01))
    customers, repeaters, lines = (
        np.concatenate([[0], np.cumsum(column)])
        for column in (first, second, np.diff(sequences.line_offsets)[rows])
    )
    others = np.sort(sequences.time[~sequences.is_order])
    launched = np.sort(_first_sales(sequences))
    table = np.zeros((len(starts), len(SHOP_COLUMNS)), np.float32)
    for month, (start, process) in enumerate(zip(starts, processes, strict=True)):
        orders = int(np.searchsorted(sequences.time[rows], start))
        if not orders:
            continue
        latest = slice(max(orders - MEDIAN_OVER, 0), orders)
        again = gap[latest][~first[latest]]
        table[month] = (
            np.log1p(customers[orders]) / 8,
            np.log(orders / customers[orders]),
            repeaters[orders] / customers[orders],
            np.median(again) / 4 if len(again) else 0.0,
            np.std(again) if len(again) else 0.0,
            np.std(value[latest]),
            np.log1p(lines[orders] / orders) / 2,
            np.log1p(np.searchsorted(launched, start)) / 8,
            np.log1p(np.searchsorted(others, start) / orders) / 3,
            np.log1p((start - sequences.time[rows[0]]) / DAY) / 6,
            np.log(process.r) / 2,
            np.log(process.alpha) / 4,
            np.log(process.a) / 2,
            np.log(process.b) / 2,
        )
    return np.clip(table, -4, 4)


def _first_sales(sequences: Sequences) -> np.ndarray:
    """(V,) µs at which each item was first in an event of a customer, or NEVER."""
    first = np.full(len(sequences.items), NEVER)
    events = np.repeat(sequences.time, np.diff(sequences.line_offsets))
    np.minimum.at(first, sequences.line_item, events)
    return first
