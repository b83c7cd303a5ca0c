"""The shop's year: what last year says of the level of the months ahead.

A model of single customers sees its shop's seasons too rarely to learn them: two Christmases at
best. A shop's total, though, follows last year's closely. So the total expected of known customers
is set between the model's own and

    orders of the last quarter * (last year's ahead / last year's quarter before) * known share,

each part a count of what happened before the cutoff. Hazards are bent by the same factors: where
more orders came than a purchase model expected, its hazards were too low by as much. Where last
year is not known, nothing is done.
"""

# P periods
from dataclasses import dataclass

import numpy as np

from habitue.predictions.targets import standing_orders
from habitue.sequences.build import DAY, NEVER, Sequences

YEAR_DAYS = 364                            # whole weeks, so that weekdays meet
QUARTER_DAYS = 91
PERIOD_EDGES = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 364.0)
ENOUGH_ORDERS = 50.0                       # a count this high has half the say
MOST = float(np.log(2.5))                  # a period's factor stays within 2.5 and its inverse
VALUE_SAY = 0.5                            # last year's change in order values is half believed


@dataclass(frozen=True, slots=True)
class Level:
    """Factors on what the model expects, by days since the cutoff. Ones where last year is unknown.

    Period i is (edges[i], edges[i + 1]]; the last factor holds beyond.
    """

    edges: np.ndarray                      # (P + 1,)
    orders: np.ndarray                     # (P,) on expected orders, and on hazards
    value: np.ndarray                      # (P,) on order values
    known: bool                            # False where last year is not


def flat_level() -> Level:
    """No opinion."""
    periods = len(PERIOD_EDGES) - 1
    ones = np.ones(periods)
    return Level(np.array(PERIOD_EDGES), ones, ones, known=False)


def year_ago_level(sequences: Sequences, expected: np.ndarray, cutoff: int) -> Level:
    """The level ahead of `cutoff` (µs), given what the model expects without it.

    expected (P + 1,): orders of all customers known at the cutoff, by each of PERIOD_EDGES.
    """
    count = _Count(sequences, cutoff)
    before = YEAR_DAYS + QUARTER_DAYS
    if count.begun > cutoff - (before - QUARTER_DAYS // 4) * DAY:
        return flat_level()
    quarter = count.orders(cutoff - QUARTER_DAYS * DAY, cutoff)
    base = count.orders(cutoff - before * DAY, cutoff - YEAR_DAYS * DAY)
    base_value = count.mean_value(cutoff - before * DAY, cutoff - YEAR_DAYS * DAY)
    factors, values = [], []
    for low, high, model in zip(
        PERIOD_EDGES[:-1], PERIOD_EDGES[1:], np.diff(expected), strict=True
    ):
        start, stop = (cutoff + int((edge - YEAR_DAYS) * DAY) for edge in (low, high))
        ahead = count.orders(start, stop)
        analog = quarter * ahead / max(base, 1.0) * count.known_share(low, high)
        trusted = min(quarter, base, ahead)
        say = trusted / (trusted + ENOUGH_ORDERS)
        shift = say * np.log((analog + 1) / (model + 1))
        factors.append(np.exp(np.clip(shift, -MOST, MOST)))
        value = _shift_of_values(base_value, count.mean_value(start, stop))
        values.append(np.exp(np.clip(say * VALUE_SAY * value, -MOST, MOST)))
    return Level(
        np.array(PERIOD_EDGES),
        np.array(factors),
        np.array(values),
        known=True,
    )


def _shift_of_values(base: float, ahead: float) -> float:
    """The logarithm by which orders are dearer ahead; 0 where either are worth nothing.

    So it is where the few orders of a period were free, or of an unknown currency.
    """
    return float(np.log(ahead / base)) if base > 0 and ahead > 0 else 0.0


class _Count:
    """Counts of standing orders in intervals (start, stop], all before the cutoff."""

    def __init__(self, sequences: Sequences, cutoff: int) -> None:
        standing = standing_orders(sequences, cutoff)
        rows = np.flatnonzero(standing & (sequences.time <= cutoff))
        rows = rows[np.argsort(sequences.time[rows], kind="stable")]
        owner = sequences.customer_of_event[rows]
        self.time = sequences.time[rows]
        self.value = np.minimum(sequences.value[rows], _cap(sequences.value[rows]))
        self.begun = int(self.time[0]) if len(rows) else cutoff
        first = np.full(len(sequences.customers), NEVER)
        np.minimum.at(first, owner, self.time)
        self.first = first[owner]
        self.owner = owner
        self.cutoff = cutoff

    def _span(self, start: int, stop: int) -> slice:
        return slice(*np.searchsorted(self.time, [start, stop], side="right"))

    def orders(self, start: int, stop: int) -> float:
        span = self._span(start, stop)
        return float(span.stop - span.start)

    def mean_value(self, start: int, stop: int) -> float:
        values = self.value[self._span(start, stop)]
        return float(values.mean()) if len(values) else 1.0

    def known_share(self, low: float, high: float) -> float:
        """Share of orders `low` to `high` days after an instant by customers known at it.

        Taken at the latest instant at which so many days had passed, within the last half year.
        """
        at = self.cutoff - int(min(high, 182.0) * DAY)
        span = self._span(at + int(min(low, 152.0) * DAY), self.cutoff)
        known = (self.first[span] <= at).sum()
        return float((known + 1) / (span.stop - span.start + 1))


def _cap(value: np.ndarray) -> float:
    """Wholesale orders would speak for a season: values above the 99th percentile count as it."""
    return float(np.quantile(value, 0.99)) if len(value) else 1.0
