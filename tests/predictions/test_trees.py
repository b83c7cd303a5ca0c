"""Boosted trees: what they may look at, what they learn, and when they admit that they cannot."""

import numpy as np
import pytest

from habitue.predictions import trees
from habitue.predictions.baselines import BuyTillYouDie
from habitue.predictions.metrics import auc, bias
from habitue.predictions.targets import known_customers, outcomes
from habitue.predictions.trees import BoostedTrees
from habitue.sequences.build import DAY, Sequences
from habitue.simulation import ShopConfig, flat
from tests.shops import end_of, sequences_of

CONFIG = flat(
    ShopConfig(customers=900, items=20, days=540, arrival_days=400, views=0.3, carts=0.0)
)
CUTOFF = end_of(CONFIG) - 90 * DAY


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(CONFIG, seed=11)


@pytest.fixture(scope="module")
def lessons(shop: Sequences) -> trees._Lessons:
    return trees._lessons(shop, CUTOFF, 60.0, 450.0, seed=0)


def test_forecasts_rank_customers_and_come_near_the_whole(shop: Sequences) -> None:
    """Seed 11: about 1,000 orders of 900 customers; the total within 15%, AUC above 0.75."""
    forecast = BoostedTrees().fit(shop, CUTOFF).predict(90.0)
    truth = outcomes(shop, known_customers(shop, CUTOFF), CUTOFF, 90.0)
    assert auc(truth.observed.astype(float), forecast.probability) > 0.75
    assert bias(truth.orders, forecast.orders) == pytest.approx(0, abs=0.15)
    assert bias(truth.revenue, forecast.revenue) == pytest.approx(0, abs=0.2)
    assert forecast.probability.mean() == pytest.approx(truth.observed.mean(), abs=0.05)
    assert not forecast.extrapolated


def test_lessons_end_before_the_cutoff_and_reach_back_in_steps(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float, int | None]] = []
    real = trees.outcomes

    def spy(
        sequences: Sequences, customers: np.ndarray, at: int, days: float, known_at: int | None
    ) -> trees.Outcomes:
        asked.append((at, days, known_at))
        return real(sequences, customers, at, days, known_at)

    monkeypatch.setattr(trees, "outcomes", spy)
    trees._lessons(shop, CUTOFF, 60.0, 450.0, seed=0)
    instants = np.array([at for at, _, _ in asked])
    assert len(instants) == trees.INSTANTS
    assert instants.max() == CUTOFF - 60 * DAY
    assert np.all(np.diff(instants) < 0)
    assert {(days, known_at) for _, days, known_at in asked} == {(60.0, CUTOFF)}
    assert instants.min() >= CUTOFF - (450 - trees.LEAST_PAST_DAYS) * DAY


def test_rounds_are_chosen_on_rows_that_come_after_all_that_was_learnt(
    lessons: trees._Lessons,
) -> None:
    assert lessons.in_time_order
    assert lessons.early.any()
    assert lessons.late.any()
    assert not np.any(lessons.early & lessons.late)
    assert not np.all(lessons.early | lessons.late)      # those whose horizons overlap are neither


def test_with_little_past_some_customers_are_set_aside_instead(shop: Sequences) -> None:
    lessons = trees._lessons(shop, CUTOFF, 300.0, 450.0, seed=0)
    assert not lessons.in_time_order
    assert np.all(lessons.early ^ lessons.late)
    assert 0.1 < lessons.late.mean() < 0.3
    assert not BoostedTrees().fit(shop, CUTOFF)._calendar_helps(lessons)


def test_a_horizon_longer_than_the_past_is_prolonged_and_says_so(shop: Sequences) -> None:
    fitted = BoostedTrees().fit(shop, CUTOFF)
    far, farther = fitted.predict(500.0), fitted.predict(700.0)
    assert far.extrapolated
    assert farther.extrapolated
    assert np.all(farther.probability >= far.probability)
    assert np.all(farther.orders >= far.orders)
    assert farther.orders.sum() > 1.02 * far.orders.sum()
    assert np.all(far.next_order_days <= 500.0)


def test_where_hardly_anyone_ordered_the_answer_is_the_classical_one() -> None:
    config = ShopConfig(customers=12, items=5, days=200, arrival_days=60)
    shop, cutoff = sequences_of(config, seed=2), end_of(config)
    ours = BoostedTrees().fit(shop, cutoff).predict(30.0)
    classical = BuyTillYouDie("mbg_nbd").fit(shop, cutoff).predict(30.0)
    assert np.array_equal(ours.probability, classical.probability)
    assert not ours.extrapolated
    # the shop's first day: no horizon of any length has passed
    first = int(shop.time[shop.is_order].min())
    assert BoostedTrees().fit(shop, first + DAY // 2).predict(30.0).extrapolated


def test_the_seed_decides(shop: Sequences) -> None:
    one = BoostedTrees(seed=0).fit(shop, CUTOFF).predict(30.0)
    two = BoostedTrees(seed=0).fit(shop, CUTOFF).predict(30.0)
    other = BoostedTrees(seed=1).fit(shop, CUTOFF).predict(30.0)
    assert np.array_equal(one.orders, two.orders)
    assert not np.array_equal(one.orders, other.orders)


def test_many_customers_are_drawn_evenly_over_the_instants(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MOST_ROWS", 1_200)
    lessons = trees._lessons(shop, CUTOFF, 60.0, 450.0, seed=0)
    assert 1_000 < len(lessons.features) <= 1_200


def test_features_of_an_instant_do_not_see_past_it(shop: Sequences) -> None:
    at = CUTOFF - 60 * DAY
    customers = known_customers(shop, at)
    past = sequences_of(CONFIG, seed=11, cutoff=at)
    assert np.array_equal(
        past.customers[known_customers(past, at)], shop.customers[customers]
    )
    ours = trees._features(shop, customers, at, 60.0)
    theirs = trees._features(past, known_customers(past, at), at, 60.0)
    assert np.array_equal(ours, theirs)
