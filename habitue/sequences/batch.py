"""Batches: chunks of sequences of like length, with the queries asked of them and their answers.

A chunk is one customer's events `start:end`; a query is asked of the first chunk that holds the
last event before it. Long sequences become overlapping chunks, so that every token has at least
half a chunk of past.

A large shop is worked on block by block of its customers, so that memory does not grow with it:
what a block needs beside its events is made when its turn comes, and let go after it.
"""

# B chunks · T events · K queries · L lines · A query columns · S shop columns · H hazard bins
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from habitue.sequences.aggregates import Running, past_end
from habitue.sequences.answers import Answers, Orders
from habitue.sequences.build import DAY, Sequences, part
from habitue.sequences.ragged import Ragged
from habitue.sequences.snapshots import Snapshots
from habitue.sequences.tokens import BIN_EDGES, Queries, event_columns, line_columns, queries_of

BLOCK_ROWS = 200_000                       # events and queries of a block of customers, about
LENGTH_BLUR = 0.2                          # standard deviation of the log
MAX_LINES = 24                             # of one order that the model reads; the largest stand


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of one optimiser step; padding stands at the end of each row."""

    kind: np.ndarray                       # (B, T) int64, 0 is padding, else 1 + kind
    columns: np.ndarray                    # (B, T, F) float32
    event_days: np.ndarray                 # (B, T) float64 days since the epoch
    line_item: np.ndarray                  # (L,) int64
    line_columns: np.ndarray               # (L, G) float32
    line_event: np.ndarray                 # (L,) int64, b * T + t
    query_days: np.ndarray                 # (B, K) float64
    query_columns: np.ndarray              # (B, K, A) float32
    shop_columns: np.ndarray               # (B, K, S) float32
    asked: np.ndarray                      # (B, K) bool
    log_prior_rate: np.ndarray             # (B, K, H) float32
    query_row: np.ndarray                  # (B, K) int64 row of the epoch's queries, -1 padding
    log_expected: np.ndarray               # (B, K) log prior expected orders within the horizon
    mean_value: np.ndarray                 # (B, K)
    # answers; None when only predicting
    wait_days: np.ndarray | None = None    # (B, K)
    ordered: np.ndarray | None = None      # (B, K) bool
    horizon_days: np.ndarray | None = None  # (B, K)
    orders: np.ndarray | None = None       # (B, K)
    revenue: np.ndarray | None = None      # (B, K)
    query_item: np.ndarray | None = None   # (P,) int64 items that followed a query
    query_item_of: np.ndarray | None = None    # (P,) int64, b * K + k
    next_kind: np.ndarray | None = None    # (B, T) int64 1 + kind of the next event, 0 unknown
    next_gap_days: np.ndarray | None = None    # (B, T) to the next later event, or the cutoff
    followed: np.ndarray | None = None     # (B, T) bool
    next_item: np.ndarray | None = None    # (N,) int64 items of the next order
    next_item_of: np.ndarray | None = None     # (N,) int64, b * T + t

    @property
    def tokens(self) -> int:
        """Events and queries that are not padding."""
        return int((self.kind > 0).sum() + self.asked.sum())


@runtime_checkable
class Batches(Protocol):
    """What can be trained on: passes over it, cut into batches as a seed has it."""

    def epoch(self, *, queries: int, batch_tokens: int, seed: int) -> Iterator[Batch]:
        """One pass; the same for the same seed."""

    def plan(self, *, queries: int, batch_tokens: int, seed: int) -> int:
        """Batches in that pass, without making them."""


class Corpus:
    """One shop's past, from which batches are cut block by block of its customers."""

    def __init__(
        self,
        sequences: Sequences,
        snapshots: Snapshots,
        *,
        max_events: int,
        kinds: tuple[str, ...] | None = None,      # that the model knows; none: all there are
    ) -> None:
        known = list(sequences.kinds if kinds is None else kinds)
        codes = [known.index(k) if k in known else len(known) for k in sequences.kinds]
        # 0 is padding, and what the model does not know stands last
        self._codes = np.array([*codes, 0], dtype=np.int64) + 1
        self.sequences = sequences
        self.snapshots = snapshots
        self.max_events = max_events
        self._kinds = kinds

    def part(self, customers: np.ndarray) -> "Corpus":
        """Some customers (indices) as a corpus of their own, read as those of the whole shop."""
        held = part(self.sequences, customers)
        return Corpus(held, self.snapshots, max_events=self.max_events, kinds=self._kinds)

    def epoch(self, *, queries: int, batch_tokens: int, seed: int) -> Iterator[Batch]:
        """One pass over every customer, with fresh query times; the same for the same seed.

        Customers meet in the batches of one block, into which they fall at random.
        """
        rng = np.random.default_rng(seed)
        for customers in self._shuffled(queries, rng):
            customer, time = sample_queries(self.sequences, queries, rng, customers)
            block, row = self.block(customer)
            asked = queries_of(block.running, self.snapshots, row, time)
            answers = block.orders.answers(asked, rng)
            yield from block.batches(asked, answers, batch_tokens, rng)

    def plan(self, *, queries: int, batch_tokens: int, seed: int) -> int:
        """Batches in an epoch, without making them or their queries."""
        rng = np.random.default_rng(seed)
        batches = 0
        for customers in self._shuffled(queries, rng):
            customer, time = sample_queries(self.sequences, queries, rng, customers)
            rng.random(len(customer))      # which the answers' horizons are drawn from
            chunks = _chunks(self.sequences, customer, time, self.max_events)
            batches += len(_cut(chunks, batch_tokens, rng))
        return batches

    def ask(self, customer: np.ndarray, time: np.ndarray, batch_tokens: int = 16_384) -> (
        tuple[Queries, Iterator[Batch]]
    ):
        """Batches that answer one query per (customer, time), without labels; all of one block."""
        block, row = self.block(customer)
        asked = queries_of(block.running, self.snapshots, row, time)
        return replace(asked, customer=customer), block.batches(asked, None, batch_tokens, None)

    def blocks(self, customer: np.ndarray) -> list[np.ndarray]:
        """Rows of queries, one for each `customer` (Q,), such that each block can be asked."""
        return _cut_rows(np.diff(self.sequences.offsets)[customer] + 1)

    def block(self, customer: np.ndarray) -> tuple["Block", np.ndarray]:
        """The customers of some queries (Q,), ready to be cut, and the row (Q,) of each query's.

        A small shop is one block, made once.
        """
        if len(self.sequences.time) + len(self.sequences.customers) <= BLOCK_ROWS:
            return self._whole, customer
        customers, row = np.unique(customer, return_inverse=True)
        return Block(self, part(self.sequences, customers)), row

    @cached_property
    def _whole(self) -> "Block":
        return Block(self, self.sequences)

    def kinds_of(self, sequences: Sequences) -> np.ndarray:
        """(E,) int64: 1 + the model's number of each event's kind."""
        return self._codes[sequences.kind]

    def _shuffled(self, queries: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Blocks of customers, ascending in each; one block needs no shuffling."""
        known = np.flatnonzero(np.diff(self.sequences.offsets) > 0)
        rows = np.diff(self.sequences.offsets)[known] + np.ceil(
            _wanted_queries(self.sequences, known, queries)
        )
        if len(_cut_rows(rows)) <= 1:
            return [known]
        order = rng.permutation(len(known))
        return [np.sort(known[order[block]]) for block in _cut_rows(rows[order])]


def _cut_rows(sizes: np.ndarray) -> list[np.ndarray]:
    """Rows 0, 1, … in runs whose sizes add up to about BLOCK_ROWS; the last one may go over it."""
    before = np.cumsum(sizes) - sizes
    return np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(before // BLOCK_ROWS)) + 1)


class Block:
    """Some customers' past, tokenised, and batches of it. Queries name them by their row in it."""

    def __init__(self, corpus: Corpus, sequences: Sequences) -> None:
        self.sequences = sequences
        self.snapshots = corpus.snapshots
        self.max_events = corpus.max_events
        self.kind = corpus.kinds_of(sequences)
        self._columns = event_columns(sequences, corpus.snapshots)
        self._lines = _largest_lines(sequences)
        self._line_columns = line_columns(sequences, corpus.snapshots)

    @cached_property
    def running(self) -> Running:
        """What queries of these customers are made from."""
        return Running(self.sequences)

    @cached_property
    def _next(self) -> "_Next":
        return _next_events(self.sequences, self.kind)

    @cached_property
    def orders(self) -> Orders:
        """What was ordered when; only training asks."""
        return Orders(self.sequences, self._lines)

    def batches(
        self,
        asked: Queries,
        answers: Answers | None,
        batch_tokens: int,
        rng: np.random.Generator | None,
    ) -> Iterator[Batch]:
        """Batches that hold every query once; with `rng` their order is drawn."""
        chunks = _chunks(self.sequences, asked.customer, asked.time, self.max_events)
        for rows in _cut(chunks, batch_tokens, rng):
            yield self._batch(chunks, rows, asked, answers)

    def _batch(
        self, chunks: "_Chunks", rows: np.ndarray, asked: Queries, answers: Answers | None
    ) -> Batch:
        start, end = chunks.start[rows], chunks.end[rows]
        length = end - start
        width = max(int(length.max()), 1)
        event = start[:, None] + np.arange(width)[None]
        real = event < end[:, None]                                    # (B, T)
        event = np.where(real, event, 0)
        held = chunks.queries.take(rows)
        sizes = np.diff(held.offsets)
        place = np.arange(int(sizes.max()))[None]
        is_asked = place < sizes[:, None]                              # (B, K)
        query = np.zeros(is_asked.shape, dtype=np.int64)
        query[is_asked] = held.values
        sequences = self.sequences
        assert len(sequences.time), "a batch needs at least one event"
        lines = self._lines.take(event[real])
        line_event = np.repeat(np.flatnonzero(real), np.diff(lines.offsets))
        horizon = np.full(query.shape, 90.0) if answers is None else answers.horizon_days[query]
        batch = Batch(
            kind=np.where(real, self.kind[event], 0),
            columns=np.where(real[..., None], self._columns[event], 0),
            event_days=np.where(real, sequences.time[event] / DAY, 0.0),
            line_item=sequences.line_item[lines.values].astype(np.int64),
            line_columns=self._line_columns[lines.values],
            line_event=line_event,
            query_days=asked.time[query] / DAY,
            query_columns=asked.columns[query],
            shop_columns=asked.shop_columns[query],
            asked=is_asked,
            log_prior_rate=asked.log_prior_rate[query],
            query_row=np.where(is_asked, query, -1),
            log_expected=log_expected_orders(asked.expected[query], horizon),
            mean_value=asked.mean_value[query],
        )
        if answers is None:
            return batch
        fresh = real & (event >= chunks.fresh[rows][:, None])
        return self._labelled(batch, answers, np.where(fresh, event, -1))

    def _labelled(self, batch: Batch, answers: Answers, event: np.ndarray) -> Batch:
        """The batch with what followed; event (B, T) is its row, -1 where nothing is learnt."""
        fresh, after = event >= 0, self._next
        query, is_asked = np.maximum(batch.query_row, 0), batch.asked
        order_after = np.where(fresh, after.order[event], -1)
        has_order = order_after >= 0
        items = self._lines.take(order_after[has_order])
        query_items = answers.items.take(query[is_asked])
        return replace(
            batch,
            wait_days=answers.wait_days[query],
            ordered=answers.ordered[query] & is_asked,
            horizon_days=np.where(is_asked, answers.horizon_days[query], 0),
            orders=answers.orders[query],
            revenue=answers.revenue[query],
            query_item=query_items.values.astype(np.int64),
            query_item_of=np.repeat(np.flatnonzero(is_asked), np.diff(query_items.offsets)),
            next_kind=np.where(fresh, after.kind[event], 0),
            next_gap_days=np.where(fresh, after.gap_days[event], 0.0),
            followed=fresh & (after.kind[event] > 0),
            next_item=self.sequences.line_item[items.values].astype(np.int64),
            next_item_of=np.repeat(np.flatnonzero(has_order), np.diff(items.offsets)),
        )


def sample_queries(
    sequences: Sequences,
    most: int,
    rng: np.random.Generator,
    customers: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(customer, time): instants spread evenly over the shop's life, for whoever had come by then.

    A customer known for the shop's whole life gets `most` queries, later ones fewer, at least one;
    a quarter of them fall on the instant of one of the customer's own events. Of `customers`
    (indices of some with events), or of everyone.
    """
    known = np.flatnonzero(np.diff(sequences.offsets) > 0) if customers is None else customers
    if not len(known):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    wanted = _wanted_queries(sequences, known, most)
    count = np.maximum(np.floor(wanted + rng.random(len(known))), 1).astype(np.int64)
    customer = np.repeat(known, count)
    begin = np.repeat(sequences.time[sequences.offsets[known]], count)
    time = begin + (rng.random(len(customer)) * (sequences.cutoff - begin)).astype(np.int64)
    at_event = rng.random(len(customer)) < 0.25
    low, high = sequences.offsets[customer], sequences.offsets[customer + 1]
    event = low + (rng.random(len(customer)) * (high - low)).astype(np.int64)
    return customer, np.where(at_event, sequences.time[event], time)


def _wanted_queries(sequences: Sequences, known: np.ndarray, most: int) -> np.ndarray:
    """(N,) float: `most` times the share of the shop's life that each customer was known for."""
    first = sequences.time[sequences.offsets[known]]
    span = max(sequences.cutoff - int(sequences.time.min(initial=sequences.cutoff)), 1)
    return most * (sequences.cutoff - first) / span


def log_expected_orders(expected: np.ndarray, horizon_days: np.ndarray) -> np.ndarray:
    """Log of the purchase process's expected orders within any horizon, between bin edges linear.

    expected (..., B + 1) by 0 and each bin edge; horizon (...,) days. Past the last edge it grows
    at the last bin's pace.
    """
    edges = np.concatenate([[0.0], BIN_EDGES])
    bin_ = np.clip(np.searchsorted(edges, horizon_days, side="left"), 1, len(edges) - 1)
    low = np.take_along_axis(expected, (bin_ - 1)[..., None], -1)[..., 0]
    high = np.take_along_axis(expected, bin_[..., None], -1)[..., 0]
    share = (horizon_days - edges[bin_ - 1]) / (edges[bin_] - edges[bin_ - 1])
    return np.log(np.maximum(low + share * (high - low), 1e-6)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Chunks:
    start: np.ndarray                      # (N,) first event row
    fresh: np.ndarray                      # (N,) first event row that no earlier chunk has trained
    end: np.ndarray                        # (N,) row after the last event
    queries: Ragged                        # rows of the queries asked of each chunk


def _chunks(
    sequences: Sequences, customer: np.ndarray, time: np.ndarray, max_events: int
) -> _Chunks:
    """The chunks that queries are asked of, by customer and place."""
    start = sequences.offsets[customer]
    end = past_end(sequences, customer, time)
    half = max_events // 2
    count = end - start
    # the smallest multiple of half a chunk that holds the query's past
    stop = np.where(count <= max_events, max_events, -(-count // half) * half)
    key = customer.astype(np.int64) * (2 << 32) + stop
    chunk, of = np.unique(key, return_inverse=True)
    owner, stop = chunk // (2 << 32), chunk % (2 << 32)
    last = np.zeros(len(chunk), dtype=np.int64)
    np.maximum.at(last, of, count)
    begin = sequences.offsets[owner]
    order = np.argsort(of, kind="stable")
    sizes = np.bincount(of, minlength=len(chunk))
    return _Chunks(
        start=begin + np.maximum(stop - max_events, 0),
        fresh=begin + np.maximum(stop - half, 0) * (stop > max_events),
        end=begin + last,
        queries=Ragged(order, np.concatenate([[0], np.cumsum(sizes)])),
    )


def _cut(
    chunks: _Chunks, batch_tokens: int, rng: np.random.Generator | None
) -> list[np.ndarray]:
    """Chunks of like length together, at most `batch_tokens` with padding in each group.

    With `rng` lengths are blurred and groups shuffled, so that no step sees one kind of customer.
    """
    sizes = np.diff(chunks.queries.offsets)
    length = chunks.end - chunks.start + sizes
    blurred = length if rng is None else length * np.exp(LENGTH_BLUR * rng.normal(size=len(length)))
    by_length = np.argsort(blurred, kind="stable")
    groups, begin = [], 0
    while begin < len(by_length):
        # the longest row of a group pads the rest
        ahead = by_length[begin : begin + batch_tokens]
        sizes_ahead = np.maximum.accumulate(length[ahead]) * np.arange(1, len(ahead) + 1)
        stop = begin + max(int(np.searchsorted(sizes_ahead, batch_tokens, side="right")), 1)
        groups.append(by_length[begin:stop])
        begin = stop
    return groups if rng is None else [groups[i] for i in rng.permutation(len(groups))]


@dataclass(frozen=True, slots=True)
class _Next:
    kind: np.ndarray                       # (E,) 1 + kind of the next later event, 0 without
    gap_days: np.ndarray                   # (E,) to it, or to the cutoff
    order: np.ndarray                      # (E,) row of the next later order, -1 without


def _next_events(sequences: Sequences, kind: np.ndarray) -> _Next:
    time, rows = sequences.time, np.arange(len(sequences.time))
    owner = sequences.customer_of_event
    # events of one instant form a group; what follows is the first event of the next group
    boundary = np.ones(len(rows) + 1, dtype=bool)
    boundary[1:-1] = (time[1:] != time[:-1]) | (owner[1:] != owner[:-1])
    starts = np.flatnonzero(boundary)
    after = starts[np.searchsorted(starts, rows, side="right")] if len(rows) else rows
    inside = after < sequences.offsets[owner.astype(np.int64) + 1]
    safe = np.where(inside, after, 0)
    order_rows = np.append(np.flatnonzero(sequences.is_order), len(rows))
    order = order_rows[np.searchsorted(order_rows, after)] if len(rows) else rows
    same = order < sequences.offsets[owner.astype(np.int64) + 1]
    end = np.where(inside, time[safe], sequences.cutoff) if len(rows) else time
    return _Next(
        kind=np.where(inside, kind[safe], 0) if len(rows) else rows,
        gap_days=(end - time) / DAY,
        order=np.where(same, order, -1),
    )


def _largest_lines(sequences: Sequences) -> Ragged:
    """Line rows of each event, the MAX_LINES of largest amount, each item once."""
    event = np.repeat(np.arange(len(sequences.time)), np.diff(sequences.line_offsets))
    amount = np.abs(sequences.line_amount)
    order = np.lexsort((sequences.line_item, -amount, event))
    _, first = np.unique(
        event[order] * max(len(sequences.items), 1) + sequences.line_item[order], return_index=True
    )
    kept = order[np.sort(first)]
    start = np.searchsorted(event[kept], np.arange(len(sequences.time)))
    rank = np.arange(len(kept)) - start[event[kept]]
    kept = kept[rank < MAX_LINES]
    sizes = np.bincount(event[kept], minlength=len(sequences.time))
    return Ragged(kept, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
