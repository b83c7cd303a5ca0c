"""Shop-level numbers as they were known: medians daily, purchase-process parameters monthly.

A snapshot dated d is computed from events before d alone and serves every instant from d until the
next one. So whatever a token or query at time t reads of its shop was complete before t.
"""

# M monthly snapshots · D days · Q queries · B bins
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from habitue.sequences.build import DAY, Sequences, instant, members, microseconds
from habitue.sequences.classical import MbgNbd
from habitue.sequences.classical_fit import MBG_NBD_PRIOR, fit_mbg_nbd

MEDIAN_OVER = 20_000                       # latest orders or lines that a daily median looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """What was known of a shop on each day and in each month of its life."""

    first_day: int                         # days since the epoch
    order_median: np.ndarray               # (D,) median order value before the day, major units
    line_median: np.ndarray                # (D,) median line amount
    orders_before: np.ndarray              # (D + 1,) orders of identified customers before the day
    month_starts: np.ndarray               # (M,) µs
    processes: tuple[MbgNbd, ...]       # (M,) fitted on everything before the month's start

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
    return Snapshots(
        first_day=first_day,
        order_median=order_median,
        line_median=line_median,
        orders_before=np.concatenate([[0], np.cumsum(counts)]),
        month_starts=starts,
        processes=_fits_before(sequences, starts),
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
        amount = sequences.line_amount[lines]
        sold_before = np.concatenate([[0], np.cumsum(amount > 0)])
        told = (
            (sequences.value[rows], orders),
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


def _fits_before(sequences: Sequences, starts: np.ndarray) -> tuple[MbgNbd, ...]:
    """The purchase process of all customers whose first order came before each start (M,) µs.

    What `purchase_summaries` tells of everyone, from orders alone and without its running sums.
    """
    rows = np.flatnonzero(sequences.is_order)
    time, owner = sequences.time[rows], sequences.customer_of_event[rows]
    fresh = np.ones(len(rows), dtype=bool)             # a customer's first order of a day
    fresh[1:] = (np.diff(time // DAY) != 0) | (np.diff(owner) != 0)
    _, first = np.unique(owner, return_index=True)
    return tuple(_fit_before(time, owner, fresh, first, int(start) - 1) for start in starts)


def _fit_before(
    time: np.ndarray, owner: np.ndarray, fresh: np.ndarray, first: np.ndarray, at: int
) -> MbgNbd:
    """From all orders (N,) by customer and time, and the rows of first orders, as of `at` (µs)."""
    past = time <= at
    days = np.bincount(owner[past & fresh])
    last = np.flatnonzero(past)
    # within a customer the past comes first: its last row is where another customer's begins
    last = last[np.diff(owner[last], append=-1) != 0]
    first = first[time[first] <= at]
    repeats = days[owner[first]] - 1.0
    tenure = (at - time[first]) / DAY
    recency = (at - time[last]) / DAY
    known = tenure > 0
    lasted = np.where(repeats > 0, np.clip(tenure - recency, 0.0, None), 0.0)
    return fit_mbg_nbd(
        repeats[known], lasted[known], tenure[known], prior=MBG_NBD_PRIOR
    ).model
