"""A `Past` is what a slow reader of the orders would write down, and knows nothing later."""

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.recommendations.candidates import (
    BATCH_CELLS,
    batches,
    category_taste,
    co_purchases,
    frequency,
    ordered_within,
    pairs_of,
    past_of,
    popularity,
    similar_items,
)
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from habitue.simulation import ShopConfig
from tests.shops import end_of, events_of, orders_of, sequences_of

START = datetime(2024, 3, 4, tzinfo=UTC)
SHOP = ShopConfig(customers=80, items=30, days=300, arrival_days=200)


@pytest.fixture(scope="module")
def whole():
    return sequences_of(SHOP, 1)


def corner(rows, *, days):
    events = orders_of(rows, start=START)
    return sequences_from_events(events, shop="corner", cutoff=microseconds(START) + days * DAY)


def told(sequences, at):
    """By hand: for each (customer, item) the times of the orders that held it."""
    times = defaultdict(list)
    for customer, (low, high) in enumerate(
        zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ):
        for event in range(low, high):
            lines = slice(sequences.line_offsets[event], sequences.line_offsets[event + 1])
            if sequences.kind[event] or sequences.time[event] > at:
                continue
            for item in set(sequences.line_item[lines].tolist()):
                times[customer, item].append(int(sequences.time[event]))
    return times


@settings(max_examples=10)
@given(days=st.integers(0, 300))
def test_counts_gaps_and_recency_are_what_a_slow_reader_finds(whole, days):
    sequences = whole
    at = end_of(SHOP) - days * DAY
    past, slow = past_of(sequences, at), told(sequences, at)
    pairs = pairs_of(past, np.arange(len(sequences.customers)))

    assert len(pairs.row) == len(slow)
    for row, item, entry in zip(pairs.row, pairs.item, pairs.entry, strict=True):
        times = slow[row, item]
        assert past.counts.data[entry] == len(times)
        assert past.last_days[entry] == pytest.approx((at - times[-1]) / DAY)
        if len(times) > 1:
            gap = (times[-1] - times[0]) / DAY / (len(times) - 1)
            assert past.gap_days[entry] == pytest.approx(gap)
        else:
            assert np.isnan(past.gap_days[entry])


def test_the_latest_order_weighs_one_and_each_one_before_it_less():
    sequences = corner([("ann", 0, ["tea"]), ("ann", 5, ["jam"]), ("ann", 9, ["tea"])], days=10)
    past = past_of(sequences, sequences.cutoff)

    by_item = dict(zip(sequences.items[past.counts.indices], past.fading, strict=True))

    assert by_item == {"tea": pytest.approx(1 + 0.7**2), "jam": pytest.approx(0.7)}


def test_what_a_customer_remembers_sums_to_one():
    past = past_of(sequences_of(SHOP, 2), end_of(SHOP))

    total = np.asarray(past.recent.sum(axis=1)).ravel()

    assert total[past.known] == pytest.approx(1)
    assert past.recent.data.min() > 0


def test_a_cancelled_order_counts_until_it_is_cancelled_and_not_from_then_on():
    sequences = corner([("ann", 1, ["tea"])], days=10)
    cancelled = replace(sequences, cancelled_at=sequences.time + 5 * DAY)

    before = past_of(cancelled, sequences.cutoff - 5 * DAY)
    after = past_of(cancelled, sequences.cutoff)

    assert before.counts.nnz == 1
    assert after.counts.nnz == 0


def test_popularity_counts_anonymous_orders_of_whole_days_only():
    sequences = corner(
        [(None, 1.5, ["tea"]), ("ann", 2.5, ["tea", "tea", "jam"]), (None, 3.1, ["jam"])], days=4
    )
    at = microseconds(START) + int(3.5 * DAY)

    assert popularity(sequences, at, 7).tolist() == [1, 2]             # jam, tea
    assert popularity(sequences, at, 1).tolist() == [1, 1]
    assert popularity(sequences, sequences.cutoff, 7).tolist() == [2, 2]


@settings(max_examples=10)
@given(days=st.floats(1, 250))
def test_nothing_after_an_instant_changes_the_past_of_that_instant(days):
    at = end_of(SHOP) - round(days * DAY)
    events = events_of(SHOP, 3)
    time = events["time"].cast(pa.int64()).to_numpy()
    short = sequences_from_events(events.filter(pa.array(time <= at)), shop="s", cutoff=at)
    longer = sequences_from_events(events, shop="s", cutoff=end_of(SHOP))
    past, again = past_of(short, at), past_of(longer, at)
    customer = np.searchsorted(longer.customers, short.customers)
    item = np.searchsorted(longer.items, short.items)

    assert again.known.sum() == len(short.customers)
    assert (again.counts[customer][:, item] != past.counts).nnz == 0
    for column in ("last_days", "gap_days", "fading", "spend"):
        np.testing.assert_array_equal(getattr(past, column), getattr(again, column))
    np.testing.assert_array_equal(past.popularity, again.popularity[:, item])
    np.testing.assert_array_equal(past.repeat_rate, again.repeat_rate[item])
    assert (again.neighbours[item][:, item] != past.neighbours).nnz == 0


@given(
    baskets=st.lists(st.sets(st.integers(0, 6), min_size=1), min_size=1, max_size=12),
    shrink=st.floats(0, 10),
)
def test_similarity_is_the_shrunk_cosine_without_the_diagonal(baskets, shrink):
    bought = np.zeros((len(baskets), 7), dtype=np.float32)
    for row, basket in enumerate(baskets):
        bought[row, list(basket)] = 1
    together = bought.T @ bought
    norm = np.sqrt(np.diag(together))
    expected = together / np.maximum(np.outer(norm, norm) + shrink, 1e-9)
    np.fill_diagonal(expected, 0)

    found = similar_items(sp.csr_matrix(bought), shrink=shrink)

    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)


def test_only_the_nearest_neighbours_are_kept():
    bought = sp.csr_matrix(np.random.default_rng(0).uniform(size=(50, 40)) < 0.3, dtype=np.float32)

    every, few = similar_items(bought), similar_items(bought, keep=5)

    assert np.diff(few.indptr).min() >= 5
    for item in range(40):
        lowest = few[item].data.min()
        assert (every[item].data > lowest).sum() <= 5


def test_co_purchases_speak_for_what_others_bought_beside_it():
    rows = [(f"c{n}", n, ["tea", "biscuits"]) for n in range(5)]
    sequences = corner([*rows, ("ann", 5, ["tea"]), ("bob", 5, ["saw"])], days=10)
    past = past_of(sequences, sequences.cutoff)
    ann, bob = np.searchsorted(sequences.customers, ["ann", "bob"])
    biscuits = np.searchsorted(sequences.items, "biscuits")

    scores = co_purchases(past, np.array([ann, bob]))

    assert scores[0, biscuits] > 0
    assert scores[1].max() == 0


def test_taste_is_the_customers_share_of_a_category_over_the_shops():
    rows = [("ann", 1, ["tea"]), ("ann", 2, ["tea"]), ("bob", 3, ["saw", "tea", "nail", "glue"])]
    sequences = corner(rows, days=10)            # glue, nail, saw, tea
    categories = np.array(["", "tools", "tools", "drinks"], dtype=object)
    past = past_of(replace(sequences, categories=categories), sequences.cutoff)

    taste = category_taste(past, np.array([0]))

    # the shop sold 3 drinks and 2 tools; ann 2 drinks, shrunk by 5 items of the shop's shares
    drinks, tools = (2 + 5 * 0.6) / (7 * 0.6), (0 + 5 * 0.4) / (7 * 0.4)
    assert taste[0] == pytest.approx(np.log([1, tools, tools, drinks]), rel=1e-5)


def test_frequency_and_ordered_within_agree_with_the_events():
    sequences = sequences_of(SHOP, 4)
    middle = end_of(SHOP) - 60 * DAY
    slow = told(sequences, end_of(SHOP))
    counts = Counter({pair: len(times) for pair, times in slow.items()})
    later = {pair for pair, times in slow.items() if times[-1] > middle}

    dense = frequency(past_of(sequences, end_of(SHOP)), np.arange(len(sequences.customers)))
    ordered = ordered_within(sequences, middle, end_of(SHOP))

    assert all(dense[pair] == count for pair, count in counts.items())
    assert dense.sum() == counts.total()
    assert set(zip(*ordered.nonzero(), strict=True)) == later
    assert ordered.data.max() == 1


def test_batches_hold_every_customer_once_and_stay_within_memory():
    customers = np.arange(1000)

    parts = batches(customers, BATCH_CELLS // 300)

    assert np.concatenate(parts).tolist() == customers.tolist()
    assert max(len(part) for part in parts) == 300
    assert [len(part) for part in batches(np.arange(3), 2 * BATCH_CELLS)] == [1, 1, 1]


def test_a_shop_without_orders_has_an_empty_past():
    sequences = corner([("ann", 1, ["tea"])], days=10)

    past = past_of(sequences, sequences.cutoff - 20 * DAY)

    assert not past.known.any()
    assert past.counts.nnz == past.neighbours.nnz == past.popularity.sum() == 0
