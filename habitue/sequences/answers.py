"""What followed a query, up to the cutoff: the labels of the model's query heads."""

# Q queries
from dataclasses import dataclass

import numpy as np

from habitue.sequences.aggregates import distinct, past_end
from habitue.sequences.build import DAY, NEVER, Sequences
from habitue.sequences.ragged import Ragged
from habitue.sequences.tokens import Queries

ITEMS_AHEAD_DAYS = 28
MIN_HORIZON_DAYS = 7.0
MAX_HORIZON_DAYS = 400.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What followed each query."""

    wait_days: np.ndarray                  # (Q,) to the next order, or to the cutoff
    ordered: np.ndarray                    # (Q,) bool, False where the cutoff came first
    horizon_days: np.ndarray               # (Q,) of count and value; 0 where too little followed
    orders: np.ndarray                     # (Q,) within the horizon
    revenue: np.ndarray                    # (Q,) within the horizon, over the shop's median
    items: Ragged                          # items ordered within ITEMS_AHEAD_DAYS


class Orders:
    """Finds what was ordered after an instant."""

    def __init__(self, sequences: Sequences, lines: Ragged) -> None:
        self._sequences = sequences
        self._lines = lines
        counted = sequences.is_order & (sequences.cancelled_at == NEVER)
        self._rows = np.flatnonzero(counted)
        self._before = np.concatenate([[0], np.cumsum(counted)])       # orders before each row
        cents = np.rint(np.where(counted, sequences.value, 0) * 100).astype(np.int64)
        self._cents = np.concatenate([[0], np.cumsum(cents)])

    def answers(self, asked: Queries, rng: np.random.Generator) -> Answers:
        """Labels of the queries; the horizon of count and value is drawn at random."""
        sequences, customer, time = self._sequences, asked.customer, asked.time
        end = past_end(sequences, customer, time)
        following = np.append(self._rows, len(sequences.time))[self._before[end]]
        ordered = following < sequences.offsets[customer + 1]
        until = np.full(len(time), sequences.cutoff)
        until[ordered] = sequences.time[following[ordered]]
        left = (sequences.cutoff - time) / DAY
        horizon = _draw_horizons(left, rng)
        stop = past_end(sequences, customer, time + (horizon * DAY).astype(np.int64))
        cents = self._cents[stop] - self._cents[end]
        return Answers(
            wait_days=(until - time) / DAY,
            ordered=ordered,
            horizon_days=horizon,
            orders=(self._before[stop] - self._before[end]).astype(np.float32),
            revenue=(cents / 100 / asked.value_scale).astype(np.float32),
            items=self._items(end, customer, time, left),
        )

    def _items(
        self, end: np.ndarray, customer: np.ndarray, time: np.ndarray, left: np.ndarray
    ) -> Ragged:
        ahead = np.minimum(left, ITEMS_AHEAD_DAYS)
        stop = past_end(self._sequences, customer, time + (ahead * DAY).astype(np.int64))
        stop = np.where(left >= ITEMS_AHEAD_DAYS, stop, end)           # closed windows only
        sizes = self._before[stop] - self._before[end]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
        orders = self._rows[np.repeat(self._before[end], sizes) + within]
        lines = self._lines.take(orders)
        query = np.repeat(np.repeat(np.arange(len(time)), sizes), np.diff(lines.offsets))
        item = self._sequences.line_item[lines.values].astype(np.int64)
        pairs = distinct(query * max(len(self._sequences.items), 1) + item)
        query, item = np.divmod(pairs, max(len(self._sequences.items), 1))
        sizes = np.bincount(query, minlength=len(time))
        return Ragged(item, np.concatenate([[0], np.cumsum(sizes)]))


def _draw_horizons(left_days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(Q,) log-uniform between a week and all that is left; 0 where less than a week is."""
    most = np.clip(left_days, MIN_HORIZON_DAYS, MAX_HORIZON_DAYS)
    drawn = MIN_HORIZON_DAYS * (most / MIN_HORIZON_DAYS) ** np.sqrt(rng.random(len(most)))
    return np.where(left_days >= MIN_HORIZON_DAYS, drawn, 0.0)
