"""Rows of items are cut so that every event that something follows is learnt from once."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from habitue.sequences.order.corpus import ItemCorpus, without_last
from habitue.sequences.ragged import Ragged, offsets_of

rows_drawn = st.lists(st.lists(st.integers(0, 50), max_size=30), min_size=1, max_size=12)


def ragged(rows: list[list[int]]) -> Ragged:
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Ragged(flat, offsets_of(np.array([len(row) for row in rows])))


@given(rows=rows_drawn, seed=st.integers(0, 99), most=st.integers(1, 8))
def test_an_epoch_asks_for_every_item_after_the_first_of_a_row_once(rows, seed, most):
    corpus = ItemCorpus(ragged(rows), max_events=most)
    asked = []
    batches = list(corpus.epoch(queries=0, batch_tokens=16, seed=seed))
    for batch in batches:
        read = np.full(batch.kind.size, -1)
        read[batch.line_event] = batch.line_item
        asked += list(zip(read[batch.next_item_of], batch.next_item, strict=True))
        assert batch.kind.shape[1] <= most
    pairs = [pair for row in rows for pair in pairwise(row)]
    assert sorted(asked) == sorted(pairs)
    assert corpus.plan(queries=0, batch_tokens=16, seed=seed) == len(batches)


@given(rows=rows_drawn, most=st.integers(1, 8))
def test_asking_reads_the_last_events_of_every_row_that_has_any(rows, most):
    seen = {}
    for row, batch in ItemCorpus(ragged(rows), max_events=most).ask(batch_tokens=16):
        read = np.full(batch.kind.size, -1)
        read[batch.line_event] = batch.line_item
        for number, items in zip(row, read.reshape(batch.kind.shape), strict=True):
            seen[number] = items[items >= 0].tolist()
    assert seen == {number: row[-most:] for number, row in enumerate(rows) if row}


@given(rows=rows_drawn, count=st.integers(0, 4))
def test_rows_lose_their_last_items(rows, count):
    kept = without_last(ragged(rows), count)
    found = [
        kept.values[a:b].tolist() for a, b in zip(kept.offsets[:-1], kept.offsets[1:], strict=True)
    ]
    assert found == [row[: max(len(row) - count, 0)] for row in rows]
