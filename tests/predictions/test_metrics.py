"""Every metric against a slow twin or a known value."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from habitue.predictions import metrics
from habitue.predictions.metrics import (
    absolute_bias,
    auc,
    bootstrap,
    brier,
    c_index,
    calibration_error,
    calibration_line,
    central_coverage,
    decile_mape,
    log_loss,
    mae,
    normalised_gini,
    paired_difference,
    perfect_calibration_error,
    pit_distance,
    randomised_pit,
    spearman,
    top_capture,
    verdict,
)
from habitue.predictions.rows import (
    COUNT_METRICS,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    NEXT_ORDER_METRICS,
    ORDER_METRICS,
    Asked,
    Spread,
    rows_for_counts,
    rows_for_next_order,
    rows_for_order,
)

ASKED = Asked("acme", "2011-06-09T00:00:00+00:00", 90.0, "bg_nbd")
few = st.integers(0, 4).map(float)         # small whole numbers, so that ties are common


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 40))
    column = arrays(np.float64, size, elements=few)
    return draw(column), draw(column)


@given(forecasts(), st.integers(0, 100))
def test_c_index_agrees_with_counting_every_pair(
    pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    days, predicted = pair
    observed = np.random.default_rng(seed).random(len(days)) < 0.6
    pairs = right = 0.0
    for i in range(len(days)):
        for j in range(len(days)):
            later = days[j] > days[i] or (days[j] == days[i] and not observed[j])
            if observed[i] and later and i != j:
                pairs += 1
                right += (predicted[j] > predicted[i]) + (predicted[j] == predicted[i]) / 2
    found = c_index(days, observed, predicted)
    assert found == pytest.approx(right / pairs) if pairs else np.isnan(found)


@given(forecasts())
def test_auc_agrees_with_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    happened, probability = (pair[0] > 1).astype(float), pair[1] / 4
    found = auc(happened, probability)
    if 0 < happened.sum() < len(happened):
        assert found == pytest.approx(roc_auc_score(happened, probability))
        assert log_loss(happened, probability) == pytest.approx(
            sklearn_log_loss(happened, np.clip(probability, 1e-6, 1 - 1e-6))
        )
    else:
        assert np.isnan(found)


@given(forecasts(), st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_rows(
    pair: tuple[np.ndarray, np.ndarray], shuffle: "st.random.Random"
) -> None:
    actual, predicted = pair
    order = np.array(shuffle.sample(range(len(actual)), len(actual)))
    happened, probability = (actual > 1).astype(float), predicted / 4
    for metric in COUNT_METRICS.values():
        again = metric(actual[order], predicted[order])
        assert metric(actual, predicted) == pytest.approx(again, nan_ok=True, abs=1e-9)
    for metric in ORDER_METRICS.values():
        again = metric(happened[order], probability[order])
        assert metric(happened, probability) == pytest.approx(again, nan_ok=True, abs=1e-6)
    for metric in NEXT_ORDER_METRICS.values():
        again = metric(actual[order], happened[order] > 0, predicted[order])
        assert metric(actual, happened > 0, predicted) == pytest.approx(again, nan_ok=True)


def test_ece_agrees_with_ten_plain_bins_where_nothing_ties() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(500)
    happened = (rng.random(500) < probability**2).astype(float)
    bins = np.array_split(np.argsort(probability), 10)
    plain = np.mean([abs(probability[bin_].mean() - happened[bin_].mean()) for bin_ in bins])
    assert calibration_error(happened, probability) == pytest.approx(plain)
    shares = [happened[bin_].sum() for bin_ in bins]
    assert top_capture(happened, probability) == pytest.approx(shares[-1] / happened.sum())


def test_customers_of_one_forecast_are_one_bin() -> None:
    happened = np.r_[np.ones(30), np.zeros(70)]
    assert calibration_error(happened, np.full(100, 0.3)) == pytest.approx(0, abs=1e-12)
    assert calibration_error(happened, np.full(100, 0.5)) == pytest.approx(0.2)


def test_the_band_of_perfect_calibration_holds_a_perfect_forecast_and_not_a_biased_one() -> None:
    """Seed 3; a perfect forecast falls above its 95th percentile once in 20 seeds."""
    rng = np.random.default_rng(3)
    probability = rng.beta(1, 3, 2_357)
    happened = (rng.random(2_357) < probability).astype(float)
    mean, p95 = perfect_calibration_error(probability, rng)
    assert mean < p95 < 0.035
    assert calibration_error(happened, probability) < p95
    assert calibration_error(happened, np.minimum(probability * 1.4, 1)) > p95


def test_a_calibrated_forecast_has_slope_one_and_an_overconfident_one_less() -> None:
    """Seed 4; four standard errors of the slope are about 0.12."""
    rng = np.random.default_rng(4)
    score = rng.normal(-1, 1.5, 10_000)
    probability = 1 / (1 + np.exp(-score))
    happened = (rng.random(10_000) < probability).astype(float)
    slope, intercept = calibration_line(happened, probability)
    assert slope == pytest.approx(1, abs=0.12)
    assert intercept == pytest.approx(0, abs=0.15)
    assert calibration_line(happened, 1 / (1 + np.exp(-2 * score)))[0] == pytest.approx(slope / 2)


def test_separable_outcomes_have_no_calibration_line() -> None:
    happened = np.array([0.0, 0.0, 1.0, 1.0])
    assert np.isnan(calibration_line(happened, np.array([0.1, 0.2, 0.8, 0.9]))).all()


def test_gini_of_the_perfect_order_is_one_and_of_its_reverse_minus_one() -> None:
    actual = np.array([0.0, 2.0, 1.0, 9.0, 4.0])
    assert normalised_gini(actual, np.exp(actual)) == pytest.approx(1)
    assert normalised_gini(actual, -actual) == pytest.approx(-1)
    assert spearman(actual, -actual) == pytest.approx(-1)


def test_a_decile_in_which_nothing_happened_is_wholly_wrong() -> None:
    actual = np.r_[np.zeros(10), np.ones(90)]
    assert decile_mape(actual, np.r_[np.full(10, 0.01), np.ones(90)]) == pytest.approx(0.1)


def test_pit_values_of_the_right_distribution_are_uniform_and_cover_nine_in_ten() -> None:
    """Seed 6, 5,000 customers: coverage within 4 standard errors (1.7%), KS below its 99.9%."""
    from scipy.stats import poisson

    rng = np.random.default_rng(6)
    rate = rng.gamma(1.0, 1.0, 5_000)
    actual = rng.poisson(rate)
    pit = randomised_pit(poisson.cdf(actual - 1, rate), poisson.cdf(actual, rate), rng)
    assert central_coverage(pit) == pytest.approx(0.9, abs=0.017)
    assert pit_distance(pit) < 1.95 / np.sqrt(5_000)
    wide = randomised_pit(poisson.cdf(actual - 1, rate * 2), poisson.cdf(actual, rate * 2), rng)
    assert pit_distance(wide) > 1.95 / np.sqrt(5_000)


def test_the_bootstrap_interval_holds_the_truth_nine_times_in_ten() -> None:
    """Seed 7, 200 data sets: 0.9 within 4 standard errors (8.5%)."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        sample = rng.normal(1.0, 1.0, 100)
        low, high = bootstrap(mae, np.zeros(100), sample, rng=rng, replicates=100)
        held += low <= 1.1666 <= high      # E|N(1, 1)|
    assert held / 200 == pytest.approx(0.9, abs=0.085)


def test_the_same_forecast_twice_is_a_tie() -> None:
    rng = np.random.default_rng(8)
    actual, ours = rng.random(100), rng.random(100)
    difference, low, high = paired_difference(mae, actual, ours, ours, rng)
    assert (difference, low, high) == (0, 0, 0)
    assert verdict(low, high, higher_is_better=False) == "tie"


def test_a_clearly_better_forecast_wins_and_the_worse_one_loses() -> None:
    rng = np.random.default_rng(9)
    actual = rng.gamma(1.0, 5.0, 500)
    good, poor = actual + rng.normal(0, 1, 500), actual + rng.normal(2, 3, 500)
    _, low, high = paired_difference(absolute_bias, actual, good, poor, rng)
    assert verdict(low, high, higher_is_better=False) == "win"
    _, low, high = paired_difference(normalised_gini, actual, poor, good, rng)
    assert verdict(low, high, higher_is_better=True) == "loss"
    days, observed = np.minimum(actual, 4), actual <= 4
    _, low, high = paired_difference(c_index, (days, observed), good, poor, rng)
    assert verdict(low, high, higher_is_better=True) == "win"


def test_pairing_makes_intervals_narrower_than_independent_draws() -> None:
    rng = np.random.default_rng(10)
    actual = rng.poisson(1.0, 800).astype(float)
    ours = np.full(800, 0.9)
    theirs = ours + rng.normal(0, 0.05, 800)
    _, low, high = paired_difference(mae, actual, ours, theirs, rng)
    alone = bootstrap(mae, actual, ours, rng=rng)
    assert high - low < (alone[1] - alone[0]) / 3


def test_metrics_of_one_class_are_nan_and_never_warn() -> None:
    none, all_ = np.zeros(20), np.ones(20)
    probability = np.linspace(0, 1, 20)
    for happened in (none, all_):
        assert np.isnan(auc(happened, probability))
        assert brier(happened, probability) > 0
    low, high = bootstrap(auc, none, probability, rng=np.random.default_rng(0), replicates=3)
    assert np.isnan(low) and np.isnan(high)


def test_rows_name_every_metric_of_the_question_in_order() -> None:
    rng = np.random.default_rng(11)
    rate = rng.gamma(0.6, 1.5, 300)
    actual = rng.poisson(rate).astype(float)
    rows = rows_for_order(ASKED, actual > 0, 1 - np.exp(-rate), rng, replicates=20)
    assert " ".join(row["metric"] for row in rows) == (
        "auc brier brier_skill log_loss ece ece_perfect_mean ece_perfect_p95 slope intercept"
    )
    assert " ".join(rows[0]) == (
        "shop cutoff horizon_days question method metric value low high customers"
    )
    assert all(row["customers"] == 300 and row["question"] == "order" for row in rows)
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
    assert rows[5]["low"] is None
    spread = Spread(np.full(300, 0.2), np.full(300, 0.6), rate * 0, rate * 3)
    rows = rows_for_counts(ASKED, "orders", actual, rate, rng, spread)
    assert [row["metric"] for row in rows][-3:] == ["coverage_90", "pit_ks", "interval_width"]


def test_a_metric_without_a_value_is_null_in_its_row() -> None:
    rng = np.random.default_rng(12)
    rows = rows_for_order(ASKED, np.zeros(50, dtype=bool), rng.random(50), rng, replicates=5)
    assert rows[0]["metric"] == "auc"
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"]) == (None, None, None)
    lateness = rng.random(50)
    rows = rows_for_next_order(
        ASKED, np.full(50, 90.0), np.zeros(50, dtype=bool),
        {"c_index": lateness, "mae_weeks": lateness}, rng,
    )  # fmt: skip
    assert [row["value"] for row in rows] == [None, None]


def test_better_is_defined_once_for_each_metric() -> None:
    assert not HIGHER_IS_BETTER & LOWER_IS_BETTER
    named = {*ORDER_METRICS, *COUNT_METRICS, *NEXT_ORDER_METRICS, "pit_ks"}
    assert named - HIGHER_IS_BETTER - LOWER_IS_BETTER == {"bias", "slope", "intercept"}


def test_six_thousand_customers_are_measured_within_seconds() -> None:
    """Processor time, so that busy neighbours do not fail it; about 1 s here."""
    rng = np.random.default_rng(13)
    rate = rng.gamma(0.5, 1.6, 6_000)
    actual = rng.poisson(rate).astype(float)
    start = time.process_time()
    rows_for_order(ASKED, actual > 0, 1 - np.exp(-rate), rng)
    rows_for_counts(ASKED, "orders", actual, rate, rng)
    days = np.minimum(rng.exponential(90 / rate), 90)
    rows_for_next_order(ASKED, days, days < 90, {"c_index": -rate, "mae_weeks": days}, rng)
    assert time.process_time() - start < 6


def test_earlier_and_lower_are_counted_as_by_hand() -> None:
    level = np.array([2, 0, 2, 1, 2, 0])
    lower, equal = metrics._earlier_below(level)
    assert lower.tolist() == [0, 0, 1, 1, 2, 0]
    assert equal.tolist() == [0, 0, 1, 0, 2, 1]
    assert all(a <= b for a, b in pairwise(sorted(lower)))
