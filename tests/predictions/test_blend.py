"""Between a model and the purchase models: classical where little is known, never falling."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from scipy.stats import spearmanr

from habitue.predictions import metrics
from habitue.predictions.baselines import CLASSICAL
from habitue.predictions.blend import (
    Classical,
    Expectation,
    expect,
    factors_to_meet,
    fit_classical,
    mean_log_hazard,
    mean_log_orders,
    mixed_orders,
    mixed_rates,
    past_levels,
    totals_of,
)
from habitue.predictions.calendar import flat_level
from habitue.predictions.calibrate import without_window
from habitue.predictions.curves import (
    cumulative_hazard,
    gathered_by_edge,
    log_rates,
    probability_of_order,
)
from habitue.predictions.learn import Learnt, learn, train_model
from habitue.predictions.score import score
from habitue.predictions.scores.answers import Scores
from habitue.predictions.targets import outcomes
from habitue.sequences.aggregates import purchase_summaries
from habitue.sequences.build import DAY, Sequences, upto
from habitue.sequences.classical import ParetoNbd
from habitue.sequences.tokens import BIN_EDGES
from habitue.simulation import ShopConfig, flat
from tests.model.small import TINY, stirred
from tests.sequences.small import CONFIG, another_future, sequences_at
from tests.shops import end_of, events_of, sequences_of

HORIZONS = (7.0, 30.0, 90.0, 365.0)


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_at(events_of(CONFIG, seed=13), end_of(CONFIG))


@pytest.fixture(scope="module")
def classical(shop: Sequences) -> Classical:
    found = fit_classical(shop, shop.cutoff)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def thin(shop: Sequences, classical: Classical) -> Scores:
    """Of a model that says anything at all, where no window has closed."""
    trained = train_model(shop, TINY, "training")
    stirred(trained.model)
    return score(
        trained.model,
        trained.corpus,
        without_window(classical),
        cutoff=trained.cutoff,
        horizons_days=HORIZONS,
    )


def test_where_no_window_has_closed_the_forecast_is_the_purchase_models_own(
    shop: Sequences, classical: Classical, thin: Scores
) -> None:
    flat_year = replace(thin, level=flat_level(), log_rate=thin.bent.log_rate)
    at = (purchase_summaries(shop, thin.customer, np.full(len(thin.customer), shop.cutoff)))[:3]
    models, pareto = classical.purchases(), ParetoNbd(*classical.pareto_nbd)
    for days in (30.0, 90.0):
        # customers come in Pareto/NBD's order, at the three models' totals
        expected = np.exp(mean_log_orders(models, at, days)).sum() * classical.orders_per_day
        assert flat_year.orders(days).value.sum() == pytest.approx(expected, rel=1e-5)
        buyers = -np.expm1(-np.exp(mean_log_hazard(models, at, days))).sum()
        chance = flat_year.order(days).value
        assert chance.sum() == pytest.approx(buyers, rel=0.03)
        own = pareto.probability_of_order(*at, days)
        assert spearmanr(chance, own).statistic > 0.995
        assert chance == pytest.approx(own, abs=0.05)
    assert np.all(np.isfinite(thin.revenue(90.0).value))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_mixture_never_falls_with_the_horizon(share: float) -> None:
    rng = np.random.default_rng(0)
    model = rng.normal(-4, 1.5, (40, len(BIN_EDGES))).astype(np.float32)
    other = rng.normal(-5, 1.5, (40, len(BIN_EDGES))).astype(np.float32)
    expected = Expectation(
        np.log(gathered_by_edge(other)).astype(np.float32), np.zeros((40, 0)), np.zeros(40)
    )
    mixed = mixed_rates(model, expected, share, 72.0)
    grid = [probability_of_order(mixed, np.zeros(40), days) for days in np.linspace(1, 900, 60)]
    assert np.all(np.diff(grid, axis=0) >= 0)
    # beyond the closed window the purchase models' shape leads
    far, near = (cumulative_hazard(mixed, np.full(40, days)) for days in (365.0, 90.0))
    far_other, near_other = (cumulative_hazard(other, np.full(40, d)) for d in (365.0, 90.0))
    assert far / near == pytest.approx(far_other / near_other, rel=1e-4)
    # within it they are mixed on the log scale
    at = [np.log(cumulative_hazard(rate, np.full(40, 30.0))) for rate in (model, other, mixed)]
    assert at[2] == pytest.approx(share * at[0] + (1 - share) * at[1], abs=1e-4)


def test_the_shop_s_totals_are_the_purchase_models(shop: Sequences, classical: Classical) -> None:
    rng = np.random.default_rng(1)
    everyone = np.arange(len(shop.customers))
    now, days = np.full(len(everyone), shop.cutoff), np.array([30.0, 90.0])
    expected = expect(classical, shop, everyone, now, days)
    hazard = expected.log_hazard + rng.normal(0.5, 0.3, (len(everyone), 1))
    rates = log_rates(np.exp(hazard))
    orders = mixed_orders(expected.log_orders + 0.7, expected, 0.5, days, 90.0)
    wanted = totals_of(classical, shop, everyone, now, shop.cutoff, days)
    factors = factors_to_meet(rates, orders, wanted)
    found = -np.expm1(-gathered_by_edge(rates + factors.hazard)).sum(axis=0)
    assert found == pytest.approx(wanted.buyers, rel=1e-4)
    assert np.exp(orders + factors.orders).sum(axis=0) == pytest.approx(wanted.orders, rel=1e-5)


def test_levels_of_the_past_see_no_later_order() -> None:
    config = replace(CONFIG, customers=120)
    events, cutoff = events_of(config, seed=13), end_of(config) - 60 * DAY
    tables = (events, another_future(events, cutoff))
    found = [past_levels(sequences_at(table, cutoff), 60.0) for table in tables]
    assert len(found[0].orders)
    assert np.array_equal(found[0].orders, found[1].orders)
    assert np.array_equal(found[0].hazard, found[1].hazard)


@pytest.fixture(scope="module")
def steady() -> tuple[Sequences, Learnt]:
    """A shop without seasons, and what was learnt of it half a year before its end."""
    config = flat(
        ShopConfig(customers=500, items=30, days=600, arrival_days=300, views=0.2, carts=0.0)
    )
    whole = sequences_of(config, seed=7)
    return whole, learn(upto(whole, end_of(config) - 180 * DAY), TINY)


def test_intervals_of_a_simulated_shop_hold_nine_in_ten(steady: tuple[Sequences, Learnt]) -> None:
    whole, learnt = steady
    scores, rng = learnt.scores((90.0, 180.0)), np.random.default_rng(0)
    for days in (90.0, 180.0):
        rows = np.searchsorted(whole.customers, scores.names)
        what = outcomes(whole, rows, learnt.trained.cutoff, days)
        for spread in (
            scores.order_spread(days, what.orders), scores.revenue_spread(days, what.revenue)
        ):  # fmt: skip
            pit = metrics.randomised_pit(spread.below, spread.at, rng)
            # four standard errors of 450 customers are 0.057
            assert metrics.central_coverage(pit) == pytest.approx(0.9, abs=0.06)
        bought = scores.order(days)
        assert bought.low.sum() < what.observed.sum() < bought.high.sum()


def test_a_model_that_learnt_little_forecasts_no_worse_than_the_classical_ones(
    steady: tuple[Sequences, Learnt],
) -> None:
    whole, learnt = steady
    scores = learnt.scores((90.0,))
    rows = np.searchsorted(whole.customers, scores.names)
    what = outcomes(whole, rows, learnt.trained.cutoff, 90.0)
    happened = what.observed.astype(float)
    ours = metrics.brier(happened, scores.order(90.0).value)
    past = learnt.trained.corpus.sequences
    theirs = [
        metrics.brier(happened, method.fit(past, past.cutoff).predict(90.0).probability)
        for method in CLASSICAL
    ]
    assert ours < 1.03 * min(theirs)
    # the older way, the model alone, is still there for versions that were made by it
    alone = structs.replace(learnt.calibration, classical=None, share=1.0)
    assert learnt.trained.cutoff == past.cutoff
    older = replace(learnt, calibration=alone).scores((90.0,))
    assert not np.array_equal(older.log_rate, scores.log_rate)
