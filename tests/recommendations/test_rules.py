"""Rules let nothing through that they forbid, and ties always fall the same way."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from habitue.recommendations.candidates import past_of
from habitue.recommendations.rules import NOTHING, Rules, choose, shown, top_k
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from tests.shops import orders_of

START = datetime(2024, 3, 4, tzinfo=UTC)
SCORES = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5, 2.0]),
)


@pytest.fixture(scope="module")
def sequences():
    rows = [
        ("ann", 1, ["apple", "tea"]),
        ("bob", 30, ["bread", "cheese", "tea"]),
        (None, 31, ["jam"]),
    ]
    cutoff = microseconds(START) + 40 * DAY
    return sequences_from_events(orders_of(rows, start=START), shop="corner", cutoff=cutoff)


@given(scores=SCORES, k=st.integers(1, 14))
def test_top_k_is_a_stable_sort_cut_short(scores, k):
    items, values = top_k(scores, k)

    for row, found, value in zip(scores, items, values, strict=True):
        best = [i for i in np.argsort(-row, kind="stable") if row[i] > -np.inf][:k]
        assert found.tolist() == best + [NOTHING] * (k - len(best))
        assert value[: len(best)].tolist() == row[best].tolist()


def test_no_items_is_no_answer_and_no_error():
    items, values = top_k(np.zeros((2, 0), dtype=np.float32), 3)

    assert (items == NOTHING).all()
    assert np.isneginf(values).all()


def test_bought_items_are_left_out_for_their_buyer_only(sequences):
    limits = shown(sequences, past_of(sequences, sequences.cutoff), Rules(skip_bought=True))
    customers = np.arange(2)

    items, _ = choose(np.zeros((2, 5), np.float32), customers, limits, 5)

    assert sequences.items[items[0, :3]].tolist() == ["bread", "cheese", "jam"]
    assert sequences.items[items[1, :2]].tolist() == ["apple", "jam"]
    assert (items[1, 2:] == NOTHING).all()


def test_items_that_nobody_ordered_lately_are_left_out(sequences):
    limits = shown(sequences, past_of(sequences, sequences.cutoff), Rules(sold_within_days=20))

    items, _ = choose(np.zeros((1, 5), np.float32), np.array([0]), limits, 5)

    assert sequences.items[items[0, :4]].tolist() == ["bread", "cheese", "jam", "tea"]
    assert items[0, 4] == NOTHING


def test_the_rule_is_void_where_the_shop_sold_nothing_at_all(sequences):
    limits = shown(sequences, past_of(sequences, sequences.cutoff), Rules(sold_within_days=5))

    assert limits.on_sale.all()


@settings(max_examples=15)
@given(scores=SCORES, limit=st.integers(1, 3), seed=st.integers(0, 9))
def test_no_category_is_crowded_and_the_best_of_each_stay(scores, limit, seed):
    count = scores.shape[1]
    category = np.random.default_rng(seed).integers(-1, 3, count)
    limits = _unlimited(count, category, Rules(per_category=limit))

    items, _ = choose(scores, np.zeros(len(scores), np.int64), limits, count)

    for row, found in zip(scores, items, strict=True):
        kept, seen = [], []
        for item in np.argsort(-row, kind="stable"):
            if row[item] == -np.inf:
                break
            if category[item] < 0 or seen.count(category[item]) < limit:
                kept.append(item)
                seen.append(category[item])
        assert found[found >= 0].tolist() == kept


def test_unknown_categories_are_not_one_category(sequences):
    limits = shown(sequences, past_of(sequences, sequences.cutoff), Rules(per_category=1))

    items, _ = choose(np.zeros((1, 5), np.float32), np.array([0]), limits, 5)

    assert (items >= 0).all()


def _unlimited(count, category, rules):
    rows = [(None, 1, [f"i{number:02d}" for number in range(count)])]
    cutoff = microseconds(START) + 2 * DAY
    shop = sequences_from_events(
        orders_of([*rows, ("ann", 1, ["i00"])], start=START), shop="corner", cutoff=cutoff
    )
    return shown(shop, replace(past_of(shop, cutoff), category=category), rules)
