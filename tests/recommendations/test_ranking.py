"""Weights are learnt from closed horizons, drawn to defaults, and kept only where they help."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from habitue.recommendations import ranking
from habitue.recommendations.candidates import ordered_within, past_of
from habitue.recommendations.ranking import (
    DEFAULTS,
    NEW_FEATURES,
    REPEAT_FEATURES,
    Design,
    design,
    fit,
    horizon_starts,
    learn,
    personal_features,
    score,
)
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from habitue.simulation import ShopConfig, truth
from tests.shops import end_of, orders_of, sequences_of

SHOP = ShopConfig(customers=400, items=60, lines=2.0, views=0.0, carts=0.0)
START = datetime(2024, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def sequences():
    return sequences_of(SHOP, 21)


def test_fit_finds_the_slopes_that_made_the_choices():
    """2,000 choices among 20; the standard error of a slope is about .025."""
    rng = np.random.default_rng(5)
    width = len(REPEAT_FEATURES) + len(NEW_FEATURES)
    slopes = np.zeros(width)
    slopes[[1, 4, 17]] = [1.0, -0.7, 0.5]
    features = rng.standard_normal((2000, 20, width)).astype(np.float32)
    chosen = (features @ slopes + rng.gumbel(size=(2000, 20))).argmax(axis=1)
    choices = Design(
        features=features.reshape(-1, width),
        ordered=(np.arange(20) == chosen[:, None]).ravel(),
        customer=np.repeat(np.arange(2000), 20),
    )

    found = fit([choices])

    assert np.concatenate([found.repeat, found.new]) == pytest.approx(slopes, abs=0.12)


def test_without_evidence_the_weights_are_the_defaults():
    width = len(REPEAT_FEATURES) + len(NEW_FEATURES)
    features = np.random.default_rng(0).standard_normal((20, width)).astype(np.float32)
    nothing = Design(
        features=features, ordered=np.zeros(20, bool), customer=np.repeat([0, 1], 10)
    )

    found = fit([nothing])

    assert found.repeat == pytest.approx(DEFAULTS.repeat, abs=1e-4)
    assert found.new == pytest.approx(DEFAULTS.new, abs=1e-4)


def test_every_bought_item_is_compared_and_customers_who_order_nothing_are_not(sequences):
    start = end_of(SHOP) - 28 * DAY
    past = past_of(sequences, start)
    relevant = ordered_within(sequences, start, end_of(SHOP))
    taking_part = np.flatnonzero(past.known & (np.diff(relevant.indptr) > 0))

    compared = design(past, relevant, None)

    assert len(np.unique(compared.customer)) == len(taking_part)
    bought = compared.features[:, REPEAT_FEATURES.index("bought")]
    assert bought.sum() == past.counts[taking_part].nnz
    # of 60 items all are candidates, so every relevant one is found
    assert compared.ordered.sum() == relevant[taking_part].nnz


def test_learning_looks_at_closed_horizons_only(sequences):
    cutoff = end_of(SHOP) - 100 * DAY
    seen = []

    def watched(at):
        def scores(customers):
            seen.append(at)
            return np.zeros((len(customers), len(sequences.items)), dtype=np.float32)

        return scores

    starts = horizon_starts(cutoff, 28)
    mixture = learn(
        sequences, cutoff=cutoff, horizon_days=28, models={at: watched(at) for at in starts}
    )

    assert starts == (cutoff - 56 * DAY, cutoff - 28 * DAY)
    assert set(seen) == set(mixture.horizons) == set(starts)


def test_what_follows_the_cutoff_does_not_change_what_is_learnt(sequences):
    cutoff = end_of(SHOP) - 100 * DAY
    short = sequences_of(SHOP, 21, cutoff=cutoff)

    now, later = (
        learn(held, cutoff=cutoff, horizon_days=28, models=None) for held in (short, sequences)
    )

    np.testing.assert_array_equal(now.weights.repeat, later.weights.repeat)
    np.testing.assert_array_equal(now.weights.new, later.weights.new)
    assert now.recall == later.recall


def test_a_shop_without_a_closed_horizon_gets_the_defaults():
    rows = [("ann", 1, ["tea"]), ("bob", 2, ["jam"])]
    cutoff = microseconds(START) + 10 * DAY
    young = sequences_from_events(orders_of(rows, start=START), shop="corner", cutoff=cutoff)

    mixture = learn(young, cutoff=cutoff, horizon_days=28, models=None)

    assert mixture.weights is DEFAULTS
    assert mixture.horizons == ()
    assert mixture.recall is None


def test_weights_that_do_clearly_worse_on_the_latest_horizon_are_thrown_away(
    sequences, monkeypatch
):
    backwards = replace(DEFAULTS, repeat=-DEFAULTS.repeat, new=-DEFAULTS.new)
    monkeypatch.setattr(ranking, "fit", lambda designs: backwards)

    mixture = learn(sequences, cutoff=end_of(SHOP), horizon_days=28, models=None)

    assert mixture.weights is DEFAULTS
    assert mixture.recall < mixture.default_recall


def test_horizons_without_a_models_scores_are_not_learnt_from(sequences):
    mixture = learn(sequences, cutoff=end_of(SHOP), horizon_days=28, models={})

    assert mixture.weights is DEFAULTS


def test_a_model_that_knows_the_truth_is_trusted_and_one_that_guesses_is_not(sequences):
    """Against the default slope of .5 for new items; the fit is deterministic at this seed."""
    known = truth(SHOP, 21)
    place = np.searchsorted(known.keys, sequences.customers)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((len(place), len(sequences.items))).astype(np.float32)
    starts = horizon_starts(end_of(SHOP), 28)

    def oracle(at):
        return lambda customers: np.log(
            np.maximum(known.item_preference(place[customers], at), 1e-9)
        ).astype(np.float32)

    trusted = learn(
        sequences,
        cutoff=end_of(SHOP),
        horizon_days=28,
        models={at: oracle(at) for at in starts},
    )
    doubted = learn(
        sequences,
        cutoff=end_of(SHOP),
        horizon_days=28,
        models={at: lambda customers: noise[customers] for at in starts},
    )

    assert trusted.weights.new[-1] > 0.5
    assert doubted.weights.new[-1] < 0.4


def test_a_batch_scores_as_its_customers_do_alone(sequences):
    past = past_of(sequences, end_of(SHOP))
    def scored(customers):
        return score(past, DEFAULTS, customers, personal_features(past, customers, None))

    together = scored(np.arange(20))
    alone = np.concatenate([scored(np.array([customer])) for customer in range(20)])

    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
