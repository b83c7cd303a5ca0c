"""Calibration on a closed window: towards what happened, half way, with intervals that hold."""

import numpy as np
import pytest
from scipy.special import expit, logit

from habitue.predictions import metrics
from habitue.predictions.probes.maps import AmountMap, RateMap, fit_map

SEED = 7


def test_rates_move_half_way_to_what_happened():
    rng = np.random.default_rng(SEED)
    x = rng.normal(-1, 1, 20_000)
    happened = (rng.random(20_000) < expit(x)).astype(float)
    told = fit_map("exists", expit(x - 0.8), happened)
    assert isinstance(told, RateMap)
    mapped = logit(told.interval(expit(x - 0.8)).value)
    assert np.mean(mapped - x) == pytest.approx(-0.4, abs=0.05)
    assert told.drift > 0.3


def test_rates_that_were_right_hardly_move_and_are_trusted():
    rng = np.random.default_rng(SEED)
    p = rng.uniform(0.05, 0.9, 20_000)
    told = fit_map("exists", p, (rng.random(20_000) < p).astype(float))
    interval = told.interval(p)
    np.testing.assert_allclose(interval.value, p, atol=0.02)
    assert np.all((interval.low < interval.value) & (interval.value < interval.high))
    assert told.drift == pytest.approx(0.1, abs=0.01)


def test_rates_keep_their_order():
    rng = np.random.default_rng(SEED)
    p = rng.uniform(0, 1, 500)
    told = fit_map("exists", p, (rng.random(500) < 1 - p).astype(float))
    values = told.interval(np.linspace(0, 1, 50)).value
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("aggregation", ["count", "sum"])
def test_intervals_of_amounts_hold_nine_in_ten_of_another_window(aggregation):
    rng = np.random.default_rng(SEED)
    mean = rng.gamma(0.7, 1.5, 8_000)

    def came() -> np.ndarray:
        count = rng.negative_binomial(0.8, 0.8 / (0.8 + mean))
        if aggregation == "count":
            return count.astype(float)
        return np.array([rng.lognormal(3, 0.6, one).sum() for one in count])

    worth = 1.0 if aggregation == "count" else float(np.exp(3 + 0.18))
    told = fit_map(aggregation, mean * worth, came())
    assert isinstance(told, AmountMap)
    actual = came()
    spread = told.spread(mean * worth, actual)
    pit = metrics.randomised_pit(spread.below, spread.at, rng)
    # of 8,000 customers, three standard errors of a share of 0.9 are 0.01, and so are the window's
    assert metrics.central_coverage(pit) == pytest.approx(0.9, abs=0.02)
    assert metrics.pit_distance(pit) < 0.03
    interval = told.interval(mean * worth)
    assert np.all(interval.low <= interval.high)
    assert np.all(interval.low >= 0)
    if aggregation == "count":
        assert np.all(interval.high == np.round(interval.high))


def test_amounts_move_half_way_on_the_logarithm():
    told = fit_map("sum", np.full(400, 2.0), np.full(400, 8.0))
    assert told.interval(np.array([2.0])).value[0] == pytest.approx(4.0)


def test_a_window_in_which_nothing_was_expected_breaks_nothing():
    told = fit_map("sum", np.zeros(300), np.zeros(300))
    interval = told.interval(np.zeros(3))
    np.testing.assert_allclose(interval.high, 0, atol=1e-9)
    spread = told.spread(np.zeros(3), np.zeros(3))
    assert np.all(np.isfinite(spread.at))
