"""What every recommender promises: shape, order, rules, repeatability, and no look ahead."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from habitue.config import TrainConfig
from habitue.predictions.learn import train_model
from habitue.recommendations.baselines import BASELINES
from habitue.recommendations.candidates import past_of
from habitue.recommendations.recommend import fit_recommender
from habitue.recommendations.rules import NOTHING, Rules, shown
from habitue.sequences.build import DAY, sequences_from_events
from habitue.simulation import ShopConfig, catalogue
from tests.shops import end_of, events_of

SHOP = ShopConfig(customers=120, items=40, days=400, arrival_days=380)
CUTOFF = end_of(SHOP) - 100 * DAY


def baseline(name):
    def build(sequences, cutoff, rules):
        return BASELINES[name](shown(sequences, past_of(sequences, cutoff), rules))

    return build


def mixture(sequences, cutoff, rules):
    return fit_recommender(sequences, cutoff=cutoff, rules=rules)


def mixture_with_model(sequences, cutoff, rules):
    # an opinion that depends on item codes and customers' keys alone, as a model's may
    taste = np.array([int(item[1:]) * 7919 % 101 for item in sequences.items]) / 101
    mood = np.array([int(key[1:]) % 13 for key in sequences.customers]) / 13

    def scores(customers):
        return -np.abs(taste - mood[customers, None]).astype(np.float32)

    return fit_recommender(
        sequences, cutoff=cutoff, rules=rules, model_scores=scores,
        fit_window_scores={cutoff - 28 * DAY: scores, cutoff - 56 * DAY: scores},
    )  # fmt: skip


def ours(sequences, cutoff, rules):
    scores = trained().item_scores(sequences, cutoff)
    known = np.isin(sequences.items, sequences_at(cutoff).items)

    def among_known(customers):
        # probabilities are shared with items yet to be launched, where the sequences hold them
        found = scores(customers)
        return found - logsumexp(found[:, known], axis=1, keepdims=True)

    return fit_recommender(sequences, cutoff=cutoff, rules=rules, model_scores=among_known)


@cache
def trained():
    tiny = TrainConfig(width=32, layers=1, epochs=1, queries=2)
    return train_model(sequences_at(CUTOFF), tiny, "training")


RECOMMENDERS = {
    "mixture": mixture,
    "mixture_with_model": mixture_with_model,
    "habitue": ours,
    **{name: baseline(name) for name in BASELINES},
}
every_recommender = pytest.mark.parametrize("build", RECOMMENDERS.values(), ids=RECOMMENDERS)


@cache
def sequences_at(cutoff):
    return sequences_from_events(
        events_of(SHOP, 1), catalogue(SHOP, 1), shop="simulated", cutoff=cutoff
    )


@dataclass(frozen=True)
class Lists:
    customers: list[str]
    items: list[list[str]]
    scores: np.ndarray


def lists(sequences, recommender, keys, k):
    customers = np.searchsorted(sequences.customers, keys)
    items, scores = recommender.recommend(customers, k)
    codes = [[sequences.items[item] for item in row if item != NOTHING] for row in items]
    return Lists(list(keys), codes, scores)


@every_recommender
@given(k=st.integers(1, 50), count=st.integers(0, 40))
@settings(max_examples=8)
def test_lists_have_k_places_best_first_without_repeats(build, k, count):
    sequences = sequences_at(CUTOFF)
    recommender = _built(build, Rules())

    items, scores = recommender.recommend(np.arange(count), k)

    assert items.shape == scores.shape == (count, k)
    assert items.dtype == np.int32
    assert scores.dtype == np.float32
    for row, values in zip(items, scores, strict=True):
        filled = row[row != NOTHING]
        assert len(filled) == min(k, len(sequences.items))
        assert (row[: len(filled)] == filled).all()
        assert len(set(filled.tolist())) == len(filled)
        assert (np.diff(values[: len(filled)]) <= 0).all()


@every_recommender
def test_no_list_holds_an_item_that_a_rule_excludes(build):
    sequences = sequences_at(CUTOFF)
    rules = Rules(skip_bought=True, sold_within_days=14, per_category=3)
    past = past_of(sequences, CUTOFF)
    items, _ = _built(build, rules).recommend(np.arange(len(sequences.customers)), 10)
    today = CUTOFF // DAY
    lately = (sequences.sales_day >= today - 14) & (sequences.sales_day < today)
    sold = set(sequences.sales_item[lately].tolist())

    assert (items >= 0).any(axis=1).all()
    assert len(sold) < len(sequences.items)
    for customer, row in enumerate(items):
        found = row[row != NOTHING]
        assert set(found.tolist()) <= sold - set(past.counts[customer].indices.tolist())
        assert np.unique(sequences.categories[found].astype(str), return_counts=True)[1].max() <= 3


@every_recommender
def test_the_same_sequences_give_the_same_lists(build):
    sequences = sequences_at(CUTOFF)
    keys = sequences.customers

    once = lists(sequences, build(sequences, CUTOFF, Rules()), keys, 10)
    again = lists(sequences, build(sequences, CUTOFF, Rules()), keys, 10)

    assert once.items == again.items
    np.testing.assert_array_equal(once.scores, again.scores)


@every_recommender
def test_a_customers_list_does_not_depend_on_who_is_asked_with_her(build):
    sequences = sequences_at(CUTOFF)
    recommender = _built(build, Rules())
    keys = sequences.customers[:15]

    together = lists(sequences, recommender, keys, 5)
    alone = [lists(sequences, recommender, [key], 5).items[0] for key in keys]
    backwards = lists(sequences, recommender, keys[::-1], 5)

    assert together.items == alone
    assert together.items == backwards.items[::-1]


@every_recommender
def test_customers_without_any_event_are_answered(build):
    sequences = sequences_at(end_of(SHOP))
    recommender = build(sequences, CUTOFF, Rules())
    strangers = np.flatnonzero(~past_of(sequences, CUTOFF).known)

    items, _ = recommender.recommend(strangers, 10)

    assert len(strangers) > 0
    assert (items >= 0).all()


@every_recommender
def test_deleting_everything_after_the_cutoff_changes_nothing(build):
    events = events_of(SHOP, 1)
    time = events["time"].cast(pa.int64()).to_numpy()
    past = events.filter(pa.array(time <= CUTOFF))
    whole = sequences_at(CUTOFF)
    cut = sequences_from_events(past, catalogue(SHOP, 1), shop="simulated", cutoff=CUTOFF)

    before = lists(cut, build(cut, CUTOFF, Rules()), cut.customers, 10)
    after = lists(whole, build(whole, CUTOFF, Rules()), whole.customers, 10)

    assert len(past) < len(events)
    assert before.customers == after.customers
    assert before.items == after.items
    np.testing.assert_array_equal(before.scores, after.scores)


@every_recommender
def test_sequences_that_go_on_after_the_cutoff_give_the_same_lists(build):
    """The longer sequences know customers and items of the future; neither may move a list."""
    short, longer = sequences_at(CUTOFF), sequences_at(end_of(SHOP))

    before = lists(short, build(short, CUTOFF, Rules()), short.customers, 10)
    after = lists(longer, build(longer, CUTOFF, Rules()), short.customers, 10)

    assert len(longer.customers) > len(short.customers)
    assert before.items == after.items
    np.testing.assert_allclose(before.scores, after.scores, rtol=1e-5, atol=1e-5)


@cache
def _built(build, rules):
    return build(sequences_at(CUTOFF), CUTOFF, rules)
