"""Shop-level numbers as they were known: medians daily, purchase-process parameters monthly.

A snapshot dated d is computed from events before d alone and serves every instant from d until the
next one. So whatever a token or query at time t reads of its shop was complete before t.
"""

# M monthly snapshots · D days · Q queries · B bins
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from habitue.sequences.aggregates import purchase_summaries
from habitue.sequences.build import DAY, Sequences, instant, microseconds
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
    order = sequences.is_order
    last_day = sequences.cutoff // DAY
    first_day = int(sequences.time.min() // DAY) if len(sequences.time) else int(last_day)
    days = np.arange(first_day, last_day + 1)
    counts = np.bincount(sequences.time[order] // DAY - first_day, minlength=len(days))
    line_event = np.repeat(np.arange(len(sequences.time)), np.diff(sequences.line_offsets))
    sold = order[line_event] & (sequences.line_amount > 0)
    starts = _month_starts(first_day * DAY, sequences.cutoff)
    return Snapshots(
        first_day=first_day,
        order_median=_medians_before(days, sequences.time[order], sequences.value[order]),
        line_median=_medians_before(
            days, sequences.time[line_event[sold]], sequences.line_amount[sold]
        ),
        orders_before=np.concatenate([[0], np.cumsum(counts)]),
        month_starts=starts,
        processes=tuple(_fit_before(sequences, start) for start in starts),
    )


def _medians_before(days: np.ndarray, time: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """(D,) median of the latest amounts before each day; 1 where there were none."""
    by_time = np.argsort(time, kind="stable")
    time, amount = time[by_time], amount[by_time]
    stops = np.searchsorted(time, days * DAY)
    return np.array(
        [np.median(amount[max(stop - MEDIAN_OVER, 0) : stop]) if stop else 1.0 for stop in stops]
    )


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
    """The purchase process of all customers whose first order came before `start`."""
    everyone = np.arange(len(sequences.customers))
    x, t_x, total, _ = purchase_summaries(sequences, everyone, np.full(len(everyone), start - 1))
    known = total > 0
    return fit_mbg_nbd(x[known], t_x[known], total[known], prior=MBG_NBD_PRIOR).model
