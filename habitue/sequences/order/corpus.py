"""Sequences that say which item followed which, and nothing else: no times, no values, no queries.

Public data sets of next-item prediction are of this kind. An item's place stands for its time, one
day a place, so that the model reads them as it reads a shop.
"""

# N customers · E events · B chunks · T events of a chunk
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from habitue.sequences.batch import LENGTH_BLUR, Batch
from habitue.sequences.ragged import Ragged, members
from habitue.sequences.snapshots import SHOP_COLUMNS
from habitue.sequences.tokens import BIN_EDGES, EVENT_COLUMNS, LINE_COLUMNS, QUERY_COLUMNS

KIND = 1                                   # every event is of the one kind there is


class ItemCorpus:
    """Rows of items in order, cut into batches for training or for asking what comes next."""

    def __init__(self, rows: Ragged, *, max_events: int) -> None:
        self.rows = rows
        self.max_events = max_events

    def epoch(self, *, queries: int, batch_tokens: int, seed: int) -> Iterator[Batch]:
        """One pass over every event that something follows; the same for the same seed.

        Long rows are cut into chunks that do not overlap, at another place in every epoch.
        """
        rng = np.random.default_rng(seed)
        chunks = self._drawn(rng)
        for group in _groups(chunks, batch_tokens, rng):
            yield self._batch(chunks.take(group), learn=True)

    def plan(self, *, queries: int, batch_tokens: int, seed: int) -> int:
        """Batches in an epoch, without making them."""
        rng = np.random.default_rng(seed)
        return len(_groups(self._drawn(rng), batch_tokens, rng))

    def ask(self, batch_tokens: int = 16_384) -> Iterator[tuple[np.ndarray, Batch]]:
        """Rows, and a batch of each one's last `max_events` events, for what comes after them."""
        end = self.rows.offsets[1:]
        start = np.maximum(self.rows.offsets[:-1], end - self.max_events)
        chunks = _Chunks(start, end, end)
        for group in _groups(chunks, batch_tokens, None):
            yield group, self._batch(chunks.take(group), learn=False)

    def _drawn(self, rng: np.random.Generator) -> "_Chunks":
        """Chunks of at most `max_events` events; the first of each row is shorter by chance."""
        sizes, most = np.diff(self.rows.offsets), self.max_events
        # the last event of a row is learnt from, not read
        read = np.maximum(sizes - 1, 0)
        first = np.where(read > most, rng.integers(1, most + 1, len(read)), most)
        count = np.where(read > 0, 1 + np.ceil(np.maximum(read - first, 0) / most), 0)
        count = count.astype(np.int64)
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        owner = np.repeat(np.arange(len(read)), count)
        begin = np.where(place == 0, 0, first[owner] + (place - 1) * most)
        stop = np.minimum(first[owner] + place * most, read[owner])
        at = self.rows.offsets[owner]
        return _Chunks(at + begin, at + stop, self.rows.offsets[owner + 1])

    def _batch(self, chunks: "_Chunks", *, learn: bool) -> Batch:
        length = chunks.end - chunks.start
        event = chunks.start[:, None] + np.arange(int(length.max()))[None]
        real = event < chunks.end[:, None]                                 # (B, T)
        place, count = np.flatnonzero(real), len(chunks.start)
        none = np.zeros((count, 0))
        rows = event[real]
        return Batch(
            kind=np.where(real, KIND, 0),
            columns=np.zeros((*real.shape, len(EVENT_COLUMNS)), np.float32),
            event_days=np.where(real, event - chunks.start[:, None], 0).astype(np.float64),
            line_item=self.rows.values[rows],
            line_columns=np.zeros((len(rows), len(LINE_COLUMNS)), np.float32),
            line_event=place,
            query_days=none,
            query_columns=np.zeros((count, 0, len(QUERY_COLUMNS)), np.float32),
            shop_columns=np.zeros((count, 0, len(SHOP_COLUMNS)), np.float32),
            asked=none.astype(bool),
            log_prior_rate=np.zeros((count, 0, len(BIN_EDGES)), np.float32),
            query_row=none.astype(np.int64),
            log_expected=none.astype(np.float32),
            mean_value=none.astype(np.float32),
            next_item=self.rows.values[rows + 1] if learn else None,
            next_item_of=place if learn else None,
        )


@dataclass(frozen=True, slots=True)
class _Chunks:
    start: np.ndarray                      # (B,) first event
    end: np.ndarray                        # (B,) after the last event
    stop: np.ndarray                       # (B,) after the last event of the row

    def take(self, rows: np.ndarray) -> "_Chunks":
        return _Chunks(self.start[rows], self.end[rows], self.stop[rows])


def without_last(rows: Ragged, count: int) -> Ragged:
    """Every row without its last `count` items; what is shorter is empty."""
    sizes = np.maximum(np.diff(rows.offsets) - count, 0)
    places, _ = members(rows.offsets, np.arange(len(sizes)))
    within = places - np.repeat(rows.offsets[:-1], np.diff(rows.offsets))
    kept = within < np.repeat(sizes, np.diff(rows.offsets))
    return Ragged(rows.values[places[kept]], np.concatenate([[0], np.cumsum(sizes)]))


def _groups(
    chunks: _Chunks, batch_tokens: int, rng: np.random.Generator | None
) -> list[np.ndarray]:
    """Chunks of like length together, about `batch_tokens` with padding in each group."""
    length = chunks.end - chunks.start
    known = np.flatnonzero(length > 0)
    blur = 1.0 if rng is None else np.exp(LENGTH_BLUR * rng.normal(size=len(known)))
    order = known[np.argsort(length[known] * blur, kind="stable")]
    groups, begin = [], 0
    while begin < len(order):
        ahead = order[begin : begin + batch_tokens]
        padded = np.maximum.accumulate(length[ahead]) * np.arange(1, len(ahead) + 1)
        size = max(int(np.searchsorted(padded, batch_tokens, side="right")), 1)
        groups.append(ahead[:size])
        begin += size
    return groups if rng is None else [groups[i] for i in rng.permutation(len(groups))]
