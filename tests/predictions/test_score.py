"""Scores of a small trained shop, and of a forecast that is the truth."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import nbinom

from habitue.model.checkpoint import over
from habitue.model.readings import Readings
from habitue.predictions import metrics
from habitue.predictions import score as score_module
from habitue.predictions.calendar import PERIOD_EDGES, Level, flat_level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.curves import FAR_DAYS, cumulative_hazard, probability_of_order
from habitue.predictions.learn import Trained, corpus_of, train_model
from habitue.predictions.score import anchors, levelled_rates, score
from habitue.predictions.scores import answers as answers_module
from habitue.predictions.scores.answers import Bent, Scores, capped_dates, count_quantile
from habitue.predictions.targets import known_customers
from habitue.sequences.build import DAY, Sequences, microseconds, upto
from habitue.sequences.tokens import BIN_EDGES
from tests import travelling
from tests.model.small import TINY, stirred
from tests.sequences.small import CONFIG, sequences_at
from tests.shops import end_of, events_of

HORIZONS = (7.0, 30.0, 90.0, 365.0)


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_at(events_of(CONFIG, seed=13), end_of(CONFIG))


@pytest.fixture(scope="module")
def trained(shop: Sequences) -> Trained:
    found = train_model(shop, TINY, "training")
    stirred(found.model)
    return found


@pytest.fixture(scope="module")
def scores(trained: Trained) -> Scores:
    return scored(trained, Calibration())


def scored(trained: Trained, calibration: Calibration) -> Scores:
    return score(
        trained.model,
        trained.corpus,
        calibration,
        cutoff=trained.cutoff,
        horizons_days=HORIZONS,
    )


def true_scores(customers: int = 4_000) -> tuple[Scores, np.ndarray, np.ndarray]:
    """A forecast, and the orders and spend of 90 days drawn from it."""
    rng = np.random.default_rng(0)
    mean, size = np.exp(rng.normal(-0.3, 1.0, customers)), 2.0
    # the constant hazard under which a count of none is as likely as the binomial says
    log_rate = np.log(size * np.log1p(mean / size) / 90.0)
    days = np.array(sorted({*PERIOD_EDGES[1:], 90.0}))
    weight, location, scale = (np.tile(a, (customers, 1)) for a in SPEND)
    none = np.zeros(customers)
    ahead = (customers, 1)
    log_orders = (np.log(mean)[:, None] + np.log(days / 90.0)).astype(np.float32)
    readings = Readings(
        log_rate=np.repeat(log_rate[:, None], len(BIN_EDGES), axis=1).astype(np.float32),
        horizons_days=np.array([90.0]),
        order_horizons_days=days,
        log_orders=log_orders,
        log_dispersion=np.full(ahead, np.log(size), np.float32),
        spend_log_weight=np.log(np.broadcast_to(weight[:, None], (*ahead, 2))),
        spend_location=np.broadcast_to(location[:, None], (*ahead, 2)),
        spend_scale=np.broadcast_to(scale[:, None], (*ahead, 2)),
    )
    orders = nbinom.rvs(size, size / (size + mean), random_state=rng).astype(float)
    part = (rng.random(customers) > SPEND[0][0]).astype(int)
    spend = np.exp(rng.normal(SPEND[1][part], SPEND[2][part]))
    found = Scores(
        names=np.arange(customers).astype(str).astype(object),
        customer=np.arange(customers),
        anchor=np.zeros(customers, np.int64),
        silent_days=none,
        log_rate=readings.log_rate,
        readings=readings,
        bent=Bent(
            log_rate=readings.log_rate, log_orders=log_orders, log_value=None, factors=None
        ),
        expected_orders=np.exp(log_orders).sum(axis=0),
        calibration=Calibration(drift=0.0, window_days=90.0),
        level=flat_level(),
        horizons_days=(90.0,),
    )
    return found, orders, np.where(orders > 0, spend, 0.0)


SPEND = (np.array([0.7, 0.3]), np.array([3.0, 4.0]), np.array([0.4, 0.8]))


def test_the_intervals_of_the_truth_hold_nine_in_ten() -> None:
    scores, orders, spend = true_scores()
    rng = np.random.default_rng(1)
    # four standard errors of 4,000 customers are 0.019
    for spread in (scores.order_spread(90.0, orders), scores.revenue_spread(90.0, spend)):
        pit = metrics.randomised_pit(spread.below, spread.at, rng)
        assert metrics.central_coverage(pit) == pytest.approx(0.9, abs=0.02)
        assert metrics.pit_distance(pit) < 0.031


def test_the_means_of_the_truth_are_what_came() -> None:
    scores, orders, spend = true_scores()
    happened = orders > 0
    chance = scores.order(90.0).value
    assert chance.mean() == pytest.approx(happened.mean(), abs=0.03)
    assert scores.orders(90.0).value.sum() == pytest.approx(orders.sum(), rel=0.1)
    assert scores.revenue(90.0).value.sum() == pytest.approx(spend.sum(), rel=0.1)


def test_an_uncertain_level_widens_counts_and_spend_and_keeps_their_means() -> None:
    sure, _, _ = true_scores(300)
    unsure = replace(sure, calibration=replace_drift(sure.calibration, 0.5))
    for question in ("orders", "revenue"):
        one, other = getattr(sure, question)(90.0), getattr(unsure, question)(90.0)
        assert other.value == pytest.approx(one.value, rel=1e-5)
        assert (other.high - other.low).mean() > 1.01 * (one.high - one.low).mean()


def replace_drift(calibration: Calibration, drift: float) -> Calibration:
    return Calibration(window_days=calibration.window_days, drift=drift)


def test_a_probability_lies_within_its_interval_and_churn_is_what_is_left(scores: Scores) -> None:
    for horizon in HORIZONS:
        order, churn = scores.order(horizon), scores.churn(horizon)
        assert np.all((order.low >= 0) & (order.low <= order.value))
        assert np.all((order.value <= order.high) & (order.high <= 1))
        assert np.array_equal(churn.value, 1 - order.value)
        assert np.all((churn.low <= churn.value) & (churn.value <= churn.high))
    wide = replace(scores, calibration=Calibration(drift=1.0)).order(90.0)
    narrow = scores.order(90.0)
    assert np.all(wide.high - wide.low > narrow.high - narrow.low)


def test_counts_and_spend_are_finite_and_their_intervals_in_order(scores: Scores) -> None:
    for horizon in HORIZONS:
        for found in (scores.orders(horizon), scores.revenue(horizon)):
            for column in (found.value, found.low, found.high):
                assert np.all(np.isfinite(column) & (column >= 0))
            assert np.all(found.low <= found.high)


def test_the_interval_of_spend_holds_its_quantiles(scores: Scores) -> None:
    found = scores.revenue(90.0)
    for share, edge in ((0.05, found.low), (0.95, found.high)):
        at = scores.revenue_spread(90.0, edge).at
        positive = edge > 0
        assert at[positive] == pytest.approx(np.full(positive.sum(), share), abs=1e-4)
        assert np.all(at[~positive] >= share)
    assert (found.high > 0).any()


def test_spend_at_several_horizons_is_what_it_is_at_each_alone(scores: Scores) -> None:
    for together, horizon in zip(scores.revenues(HORIZONS), HORIZONS, strict=True):
        alone = scores.revenue(horizon)
        for name in ("value", "low", "high"):
            assert np.array_equal(getattr(together, name), getattr(alone, name))
    nobody = scores.take(slice(0, 0)).revenues(HORIZONS)
    assert [len(one.low) for one in nobody] == [0] * len(HORIZONS)


def test_quantiles_of_counts_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    size, mean = np.exp(rng.uniform(-5, 4, 20_000)), np.exp(rng.uniform(-14, 6, 20_000))
    chance = size / (size + mean)
    for share in (0.05, 0.5, 0.95):
        expected = nbinom.ppf(share, size, chance)
        assert np.array_equal(count_quantile(share, size, chance), expected)


def test_a_longer_horizon_is_likelier_to_hold_an_order(scores: Scores) -> None:
    chances = np.array([scores.order(horizon).value for horizon in (1.0, *HORIZONS, 500.0)])
    assert np.all(np.diff(chances, axis=0) >= 0)


def test_dates_are_when_the_curve_reaches_their_share(scores: Scores) -> None:
    dates = scores.next_order()
    assert np.all(np.diff(dates, axis=1) >= 0)
    for share, days in zip((0.1, 0.5, 0.9), dates.T, strict=True):
        near = days < FAR_DAYS
        reached = probability_of_order(scores.log_rate, scores.silent_days, days)
        assert reached[near] == pytest.approx(np.full(near.sum(), share), rel=1e-5)
    forecast = scores.predict(90.0)
    assert np.all((forecast.next_order_days > 0) & (forecast.next_order_days <= 90.0 + 1e-9))
    assert np.all(np.diff(forecast.next_order_days, axis=1) > 0)
    assert np.isnan(capped_dates(np.array([FAR_DAYS, 3.0]))).tolist() == [True, False]


def test_a_horizon_longer_than_the_closed_window_is_extrapolated(scores: Scores) -> None:
    judged = replace(scores, calibration=Calibration(window_days=90.0))
    assert not judged.predict(90.0).extrapolated
    assert judged.predict(365.0).extrapolated


def test_customers_answered_in_blocks_are_answered_alike(
    trained: Trained, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "BLOCK", 7)
    again = scored(trained, Calibration())
    assert np.array_equal(again.log_rate, scores.log_rate)
    blocks = list(again.blocks())
    assert len(blocks) > 3
    assert np.concatenate([block.names for block in blocks]).tolist() == scores.names.tolist()
    for question in ("order", "orders", "revenue"):
        whole = getattr(scores, question)(90.0)
        parts = [getattr(block, question)(90.0) for block in blocks]
        for name in ("value", "low", "high"):
            found = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(found, getattr(whole, name)), (question, name)


def test_everyone_with_an_order_is_scored_once(scores: Scores, shop: Sequences) -> None:
    known = known_customers(shop, shop.cutoff)
    assert scores.names.tolist() == shop.customers[known].tolist()


def test_an_anchor_is_the_last_event_or_the_monday_after_it(
    trained: Trained, shop: Sequences
) -> None:
    everyone = np.arange(len(shop.customers))
    for back in (0, 3, 50):
        cutoff = shop.cutoff - back * DAY + 1_000_000
        found = anchors(trained.corpus, everyone, cutoff)
        for customer, anchor in zip(everyone, found, strict=True):
            own = shop.time[slice(*shop.offsets[customer : customer + 2])]
            past = own[own <= cutoff]
            assert cutoff - 7 * DAY < anchor <= cutoff
            if anchor not in past:
                at = datetime.fromtimestamp(anchor / 1e6, UTC)
                assert (at.weekday(), at.hour, at.minute) == (0, 0, 0)
                assert not np.any(past > anchor)


def test_scores_at_an_earlier_instant_are_those_of_the_shop_then(
    trained: Trained, shop: Sequences
) -> None:
    at = shop.cutoff - 100 * DAY
    past = upto(shop, at)
    whole = scored(replace(trained, cutoff=at), Calibration())
    model = over(trained.model, shop.items, past)
    there = scored(Trained(model=model, corpus=corpus_of(past, model), cutoff=at), Calibration())
    assert whole.names.tolist() == there.names.tolist()
    assert len(whole.names)
    assert whole.log_rate == pytest.approx(there.log_rate, abs=1e-4)
    for question in ("order", "orders", "revenue"):
        mine, theirs = (getattr(s, question)(90.0).value for s in (whole, there))
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_a_flat_level_leaves_every_curve_and_a_factor_is_met_where_it_holds() -> None:
    log_rate = np.random.default_rng(0).normal(-4, 1, (5, len(BIN_EDGES))).astype(np.float32)
    flat = flat_level()
    assert np.array_equal(levelled_rates(log_rate, flat), log_rate)
    factors = np.ones(len(PERIOD_EDGES) - 1)
    factors[0] = 2.0
    level = Level(flat.edges, factors, flat.value, known=True)
    found = levelled_rates(log_rate, level)
    for days in (14.0, 30.0):
        before, after = (cumulative_hazard(rate, np.full(5, days)) for rate in (log_rate, found))
        assert after == pytest.approx(2 * before, rel=1e-5)
    before, after = (
        cumulative_hazard(rate, np.full(5, 90.0)) - cumulative_hazard(rate, np.full(5, 30.0))
        for rate in (log_rate, found)
    )
    assert after == pytest.approx(before, rel=1e-4)


def test_the_level_multiplies_orders_by_the_share_of_its_periods() -> None:
    scores, _, _ = true_scores(200)
    orders = np.ones(len(PERIOD_EDGES) - 1)
    orders[:3] = 1.5                       # of the first 90 days
    level = replace(scores.level, orders=orders)
    before, after = scores.orders(90.0).value, replace(scores, level=level).orders(90.0).value
    assert after == pytest.approx(1.5 * before, rel=1e-5)


def test_a_horizon_that_was_not_read_is_refused(scores: Scores) -> None:
    with pytest.raises(AssertionError, match="name them when scoring"):
        scores.orders(44.0)


def test_a_monday_is_a_monday() -> None:
    assert datetime.fromtimestamp(4 * 86_400, UTC).weekday() == 0
    assert microseconds(datetime(1970, 1, 5, tzinfo=UTC)) == 4 * DAY


def test_customers_who_are_read_elsewhere_get_the_same_scores(
    trained: Trained, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches hold others, so sums are rounded elsewhere: model reruns agree within 1e-5."""
    monkeypatch.setattr(score_module, "over", travelling.over)
    away = score(
        trained.model,
        trained.corpus,
        Calibration(),
        cutoff=trained.cutoff,
        horizons_days=HORIZONS,
        launch=travelling.AWAY,
    )
    assert away.names.tolist() == scores.names.tolist()
    np.testing.assert_array_equal(away.anchor, scores.anchor)
    np.testing.assert_allclose(away.log_rate, scores.log_rate, atol=1e-5)
    for days in HORIZONS:
        for question in ("order", "orders", "revenue"):
            mine, theirs = (getattr(one, question)(days).value for one in (away, scores))
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, err_msg=question)
