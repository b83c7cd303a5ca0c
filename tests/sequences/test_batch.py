from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from habitue.sequences import batch as batch_module
from habitue.sequences.answers import ITEMS_AHEAD_DAYS, Answers
from habitue.sequences.batch import (
    MAX_LINES,
    Batch,
    Corpus,
    log_expected_orders,
    sample_queries,
)
from habitue.sequences.build import DAY, NEVER, Sequences
from habitue.sequences.ragged import Ragged
from habitue.sequences.snapshots import take_snapshots
from habitue.sequences.tokens import BIN_EDGES, make_queries
from tests.sequences.small import (
    CONFIG,
    another_future,
    past_of,
    questions,
    sequences_at,
    tangled,
)
from tests.shops import end_of, events_of, sequences_of


def corpus_of(sequences: Sequences, max_events: int = 128) -> Corpus:
    return Corpus(sequences, take_snapshots(sequences), max_events=max_events)


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(CONFIG, seed=5)


def assert_equal(one: Batch, other: Batch) -> None:
    """Equal to the last bit."""
    for field in fields(Batch):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine is None:
            assert theirs is None
        else:
            assert mine.dtype == theirs.dtype, field.name
            assert np.array_equal(mine, theirs), field.name


def of_asked(batches: Iterator[Batch]) -> Iterator[tuple[int, Batch, int]]:
    """(row of the query, its batch, its row there)."""
    for batch in batches:
        for b, k in np.argwhere(batch.asked):
            yield int(batch.query_row[b, k]), batch, int(b)


@pytest.mark.parametrize("max_events", [4, 10, 128])
def test_every_query_is_asked_once_of_a_chunk_that_holds_its_latest_past(max_events: int) -> None:
    sequences = tangled(1, most_events=60)
    asked = questions(sequences, 1, count=200)
    corpus = corpus_of(sequences, max_events)
    _, batches = corpus.ask(asked.customer, asked.time, batch_tokens=100)
    rows = []
    for row, batch, b in of_asked(batches):
        rows.append(row)
        real = batch.kind[b] > 0
        held = batch.event_days[b][real]
        assert real.sum() <= max_events
        own = slice(*sequences.offsets[asked.customer[row] : asked.customer[row] + 2])
        past = sequences.time[own][sequences.time[own] <= asked.time[row]] / DAY
        seen = held[held <= asked.time[row] / DAY]
        assert len(seen) >= min(len(past), max_events // 2)
        assert np.array_equal(seen, past[len(past) - len(seen) :])
    assert sorted(rows) == list(range(200))


@pytest.mark.parametrize("seed", range(3))
def test_the_arrays_of_a_question_hold_nothing_of_what_follows_it(seed: int) -> None:
    events = events_of(CONFIG, seed)
    time = end_of(CONFIG) - int(np.random.default_rng(seed).integers(1, 200 * DAY))
    whole = sequences_at(events, end_of(CONFIG))
    names = whole.customers[whole.time[whole.offsets[:-1]] <= time].tolist()
    batch = asked_at(whole, names, time)
    assert (batch.kind > 0).sum() > len(names)
    for other in (past_of(events, time), another_future(events, time)):
        again = asked_at(sequences_at(other, end_of(CONFIG)), names, time)
        for field in fields(Batch):
            if field.name not in ("kind", "line_item") and getattr(batch, field.name) is not None:
                mine, theirs = getattr(batch, field.name), getattr(again, field.name)
                assert np.array_equal(mine, theirs), field.name


def asked_at(sequences: Sequences, names: list[str], time: int) -> Batch:
    """One batch with a query of each named customer at one instant."""
    rows = np.searchsorted(sequences.customers.astype(str), names)
    corpus = corpus_of(sequences)
    _, batches = corpus.ask(rows, np.full(len(rows), time), batch_tokens=10**9)
    return next(batches)


def test_nothing_after_the_cutoff_changes_an_epoch() -> None:
    events = events_of(CONFIG, seed=7)
    cutoff = end_of(CONFIG) - 80 * DAY
    epochs = [
        list(corpus_of(s).epoch(queries=3, batch_tokens=512, seed=1))
        for s in (
            sequences_at(events, cutoff),
            sequences_at(past_of(events, cutoff), cutoff),
            sequences_at(another_future(events, cutoff), cutoff),
        )
    ]
    assert len(epochs[0]) > 1
    for batches in zip(*epochs, strict=True):
        assert_equal(batches[0], batches[1])
        assert_equal(batches[0], batches[2])


def test_an_epoch_repeats_with_its_seed_and_differs_with_another(shop: Sequences) -> None:
    corpus = corpus_of(shop)
    one, again, other = (
        list(corpus.epoch(queries=2, batch_tokens=512, seed=seed)) for seed in (1, 1, 2)
    )
    for mine, theirs in zip(one, again, strict=True):
        assert_equal(mine, theirs)
    assert not np.array_equal(one[0].query_days, other[0].query_days)


@pytest.mark.parametrize("batch_tokens", [64, 700, 100_000])
def test_the_plan_counts_the_batches_and_each_keeps_to_its_size(
    shop: Sequences, batch_tokens: int
) -> None:
    corpus = corpus_of(shop, max_events=16)
    batches = list(corpus.epoch(queries=3, batch_tokens=batch_tokens, seed=3))
    assert corpus.plan(queries=3, batch_tokens=batch_tokens, seed=3) == len(batches)
    for batch in batches:
        rows = len(batch.kind)
        # a row longer than the batch is one of its own
        longest = max((batch.kind > 0).sum(1) + batch.asked.sum(1))
        assert rows == 1 or rows * longest <= batch_tokens
        assert batch.tokens == (batch.kind > 0).sum() + batch.asked.sum()


def test_a_shop_of_many_blocks_asks_everyone_once_and_says_the_same_of_each(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = corpus_of(shop)
    customer, time = sample_queries(shop, 3, np.random.default_rng(0))
    asked, _ = whole.ask(customer, time)
    monkeypatch.setattr(batch_module, "BLOCK_ROWS", 60)
    corpus = corpus_of(shop)
    blocks = corpus.blocks(customer)
    assert len(blocks) > 5
    assert np.array_equal(np.concatenate(blocks), np.arange(len(customer)))
    for rows in blocks:
        part, _ = corpus.ask(customer[rows], time[rows])
        for field in fields(part):
            mine, theirs = getattr(asked, field.name)[rows], getattr(part, field.name)
            assert np.array_equal(mine, theirs), field.name


def test_an_epoch_of_many_blocks_repeats_and_reads_every_customer(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "BLOCK_ROWS", 60)
    corpus = corpus_of(shop)
    one, again = (list(corpus.epoch(queries=3, batch_tokens=512, seed=4)) for _ in "ab")
    assert corpus.plan(queries=3, batch_tokens=512, seed=4) == len(one) > 5
    for mine, theirs in zip(one, again, strict=True):
        assert_equal(mine, theirs)
    # events of an instant of one's own are read once, or in none of the chunks that were asked
    times, count = np.unique(shop.time / DAY, return_counts=True)
    firsts = set((shop.time[shop.offsets[:-1]] / DAY).tolist()) & set(times[count == 1].tolist())
    read = np.concatenate([batch.event_days[batch.kind > 0] for batch in one])
    assert firsts <= set(read.tolist())


def test_no_event_is_learnt_from_twice_in_an_epoch(shop: Sequences) -> None:
    times, count = np.unique(shop.time, return_counts=True)
    once = set(np.rint(times[count == 1] / 1e6).astype(int).tolist())
    learnt = []
    for batch in corpus_of(shop, max_events=6).epoch(queries=8, batch_tokens=512, seed=0):
        assert batch.followed is not None
        learnt += np.rint(batch.event_days[batch.followed] * DAY / 1e6).astype(int).tolist()
    counted = [second for second in learnt if second in once]
    assert len(counted) == len(set(counted))
    # chunks of which nothing is asked are not read
    assert len(counted) > 0.2 * len(once)


@settings(max_examples=10)
@given(seed=integers(0, 10_000))
def test_what_follows_an_event_is_what_a_loop_finds(seed: int) -> None:
    sequences = tangled(seed)
    corpus = corpus_of(sequences)
    at = np.full(len(sequences.customers), sequences.cutoff)
    asked = make_queries(sequences, corpus.snapshots, np.arange(len(at)), at)
    block, _ = corpus.block(np.arange(len(at)))
    answers = block.orders.answers(asked, np.random.default_rng(0))
    batch = next(block.batches(asked, answers, 10**9, None))
    assert batch.next_item_of is not None
    assert batch.next_item is not None
    for b, customer in enumerate(asked.customer[batch.query_row[:, 0]]):
        begin, end = sequences.offsets[customer : customer + 2]
        for row in range(begin, end):
            later = [r for r in range(begin, end) if sequences.time[r] > sequences.time[row]]
            orders = [r for r in later if sequences.kind[r] == 0]
            t = row - begin
            assert batch.next_kind is not None
            assert batch.next_gap_days is not None
            assert batch.next_kind[b, t] == (block.kind[later[0]] if later else 0)
            until = sequences.time[later[0]] if later else sequences.cutoff
            assert batch.next_gap_days[b, t] == (until - sequences.time[row]) / DAY
            items = batch.next_item[batch.next_item_of == b * batch.kind.shape[1] + t]
            assert sorted(items.tolist()) == sorted(items_of(sequences, orders[:1]))


def items_of(sequences: Sequences, orders: list[int]) -> set[int]:
    lines = [sequences.line_item[slice(*sequences.line_offsets[r : r + 2])] for r in orders]
    return set(np.concatenate([*lines, np.empty(0, int)]).astype(int).tolist())


@settings(max_examples=10)
@given(seed=integers(0, 10_000))
def test_the_answer_of_a_query_is_what_a_loop_finds_after_it(seed: int) -> None:
    sequences = tangled(seed)
    sequences.cancelled_at[::7] = sequences.cutoff - DAY
    asked = questions(sequences, seed, count=20)
    queries = make_queries(sequences, take_snapshots(sequences), asked.customer, asked.time)
    rng = np.random.default_rng(seed)
    answers = corpus_of(sequences).block(np.arange(6))[0].orders.answers(queries, rng)
    for q in range(20):
        begin, end = sequences.offsets[asked.customer[q] : asked.customer[q] + 2]
        later = [
            row
            for row in range(begin, end)
            if sequences.time[row] > asked.time[q]
            and sequences.kind[row] == 0
            and sequences.cancelled_at[row] == NEVER
        ]
        assert_answered(sequences, answers, later, q, int(asked.time[q]))
        scale = queries.value_scale[q]
        horizon = answers.horizon_days[q]
        held = [r for r in later if sequences.time[r] <= asked.time[q] + int(horizon * DAY)]
        assert answers.orders[q] == len(held)
        value = sum(sequences.value[r] for r in held) / scale
        assert answers.revenue[q] == pytest.approx(value, rel=1e-5, abs=1e-6)


def assert_answered(
    sequences: Sequences, answers: Answers, later: list[int], q: int, time: int
) -> None:
    left = (sequences.cutoff - time) / DAY
    until = sequences.time[later[0]] if later else sequences.cutoff
    assert answers.ordered[q] == bool(later)
    assert answers.wait_days[q] == (until - time) / DAY
    horizon = answers.horizon_days[q]
    assert horizon == 0 if left < 7 else 7 <= horizon <= min(left, 400) + 1e-9
    soon = [r for r in later if sequences.time[r] <= time + ITEMS_AHEAD_DAYS * DAY]
    items = answers.items.values[slice(*answers.items.offsets[q : q + 2])]
    closed = left >= ITEMS_AHEAD_DAYS
    assert sorted(items.tolist()) == sorted(items_of(sequences, soon) if closed else [])


@given(days=floats(0.01, 900.0), seed=integers(0, 100))
def test_expected_orders_are_linear_between_bin_edges(days: float, seed: int) -> None:
    expected = np.cumsum(np.random.default_rng(seed).uniform(0.01, 1, len(BIN_EDGES) + 1)) - 0.01
    edges = np.concatenate([[0.0], BIN_EDGES])
    found = log_expected_orders(expected[None], np.array([days]))[0]
    pace = (expected[-1] - expected[-2]) / (edges[-1] - edges[-2])
    beyond = max(days - edges[-1], 0.0) * pace
    assert np.exp(found) == pytest.approx(np.interp(days, edges, expected) + beyond, rel=1e-4)


def test_queries_fall_between_the_first_event_and_the_cutoff(shop: Sequences) -> None:
    customer, time = sample_queries(shop, 5, np.random.default_rng(0))
    first = shop.time[shop.offsets[:-1]]
    assert set(customer.tolist()) == set(range(len(shop.customers)))
    assert np.all(time >= first[customer])
    assert np.all(time <= shop.cutoff)
    at_event = np.isin(time, shop.time).mean()
    assert 0.1 < at_event < 0.45
    span = (shop.cutoff - first) / (shop.cutoff - shop.time.min())
    counts = np.bincount(customer)
    assert np.all(counts >= np.maximum(np.floor(5 * span), 1))
    assert np.all(counts <= np.maximum(np.floor(5 * span) + 1, 1))


def test_an_order_of_many_lines_is_read_by_its_dearest() -> None:
    sequences = tangled(8)
    lines = MAX_LINES + 10
    wide = Sequences(
        **{field.name: getattr(sequences, field.name) for field in fields(Sequences)}
        | {
            "line_offsets": np.minimum(np.arange(len(sequences.time) + 1), 1) * lines,
            "line_item": np.arange(lines, dtype=np.int32),
            "line_quantity": np.ones(lines, dtype=np.float32),
            "line_amount": np.arange(lines, dtype=np.float64),
            "items": np.array([f"i{n:03d}" for n in range(lines)], dtype=object),
            "titles": np.array([""] * lines, dtype=object),
            "categories": np.array([""] * lines, dtype=object),
        }
    )
    batch = next(corpus_of(wide).ask(np.array([0]), np.array([wide.cutoff]))[1])
    assert sorted(batch.line_item.tolist()) == list(range(10, lines))


def test_kinds_the_model_does_not_know_share_the_last_row() -> None:
    sequences = tangled(9)
    known = ("order_placed", "item_viewed")
    corpus = Corpus(sequences, take_snapshots(sequences), max_events=64, kinds=known)
    kind = corpus.block(np.arange(len(sequences.customers)))[0].kind
    names = np.array(sequences.kinds)[sequences.kind]
    assert set(kind[names == "order_placed"]) == {1}
    assert set(kind[names == "item_viewed"]) == {2}
    assert set(kind[~np.isin(names, known)]) == {3}


@given(seed=integers(0, 1000))
def test_rows_of_a_ragged_array_can_be_taken_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 100, size).tolist() for size in rng.integers(0, 4, 6)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    flat = [value for row in rows for value in row]
    ragged = Ragged(np.array(flat, dtype=np.int64), offsets)
    wanted = rng.integers(0, 6, 9)
    taken = ragged.take(wanted)
    found = [taken.values[slice(*taken.offsets[i : i + 2])].tolist() for i in range(9)]
    assert found == [rows[i] for i in wanted]
