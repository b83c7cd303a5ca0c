"""Maps fitted on outcomes that were drawn from a known mixture of two forecasts."""

import msgspec
import numpy as np
import pytest
from scipy.stats import nbinom

from habitue.predictions.blend import Classical, Levels
from habitue.predictions.calibrate import (
    LEAST_CUSTOMERS,
    ONE_WINDOW_SAYS,
    UNKNOWN_DRIFT,
    Calibration,
    Window,
    calibrated_orders,
    calibrated_rates,
    fit_calibration,
    negative_binomial_nll,
    spend_level,
    without_window,
)
from habitue.predictions.curves import cumulative_hazard, probability_of_order
from habitue.sequences.tokens import BIN_EDGES

CLASSICAL = Classical(
    bg_nbd=(0.6, 60.0, 0.8, 2.0),
    mbg_nbd=(0.6, 60.0, 0.8, 2.0),
    pareto_nbd=(0.6, 60.0, 0.6, 90.0),
    gamma_gamma=(3.0, 3.5, 40.0),
    orders_per_day=1.0,
)
NO_LEVELS = Levels(orders=np.zeros(0), hazard=np.zeros(0))


def closed(
    customers: int = 8_000,
    *,
    share: float = 0.5,
    level: float = 0.0,
    dispersion: float = 0.0,
    seed: int = 0,
) -> Window:
    """A window in which what came lay so far on the way from the classical models to ours."""
    rng = np.random.default_rng(seed)
    classical = rng.normal(-0.7, 0.9, customers)
    apart = rng.normal(0.0, 0.8, customers)
    size = np.exp(1.0 + dispersion)
    bent = np.exp(level + classical + share * apart)
    orders = nbinom.rvs(size, size / (size + bent), random_state=rng)

    def log_hazard(log_mean: np.ndarray) -> np.ndarray:
        """Of the first order that such a count has."""
        return np.log(np.e * np.log1p(np.exp(log_mean) / np.e))

    return Window(
        window_days=90.0,
        log_hazard=log_hazard(classical + apart),
        classical_hazard=log_hazard(classical),
        log_orders=classical + apart,
        classical_orders=classical,
        log_dispersion=np.full(customers, 1.0),
        orders=orders.astype(float),
    )


def test_the_default_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    log_rate = rng.normal(-4, 1, (5, len(BIN_EDGES))).astype(np.float32)
    assert calibrated_rates(log_rate, Calibration()) == pytest.approx(log_rate, abs=1e-5)
    assert np.array_equal(calibrated_orders(log_rate, Calibration()), log_rate)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_the_model_is_found_whatever_the_level(share: float) -> None:
    # the standard error of 8,000 customers is 0.03; the usual share pulls a little
    for level in (0.0, -0.5):
        found = fit_calibration(closed(share=share, level=level), CLASSICAL, NO_LEVELS)
        assert found.order_share == pytest.approx(share, abs=0.09)
        assert found.share == pytest.approx(share, abs=0.12)
        assert (found.window_days, found.customers) == (90.0, 8_000)


def test_a_model_that_knew_nothing_gets_less_than_the_usual_share() -> None:
    found = fit_calibration(closed(share=0.0), CLASSICAL, NO_LEVELS)
    assert 0.0 <= found.order_share < 0.1
    assert 0.0 <= found.share < 0.15


def test_what_few_orders_say_is_little() -> None:
    found = fit_calibration(closed(LEAST_CUSTOMERS), CLASSICAL, NO_LEVELS)
    many = fit_calibration(closed(), CLASSICAL, NO_LEVELS)
    for name in ("share", "order_share", "spend_share"):
        assert getattr(found, name) < 0.6 * getattr(many, name)


def test_one_window_s_level_is_hardly_believed_and_four_alike_are_more() -> None:
    one, _, _, _ = Levels(orders=np.array([-0.4]), hazard=np.array([-0.4])).ahead()
    four, deviation, _, _ = Levels(orders=np.full(4, -0.4), hazard=np.full(4, -0.4)).ahead()
    assert -0.1 < one < 0.0
    assert -0.4 < four < 2 * one
    unlike = np.array([-0.4, 0.4, -0.4, 0.4])
    none, wide, _, _ = Levels(orders=unlike, hazard=unlike).ahead()
    assert none == pytest.approx(0.0, abs=1e-9)
    assert wide > deviation


def test_counts_that_spread_more_than_forecast_are_given_more_dispersion() -> None:
    found = fit_calibration(closed(dispersion=-1.0), CLASSICAL, NO_LEVELS)
    assert found.log_dispersion == pytest.approx(-1.0, abs=0.25)


def test_dearer_orders_than_forecast_raise_the_spend() -> None:
    rng = np.random.default_rng(0)
    actual = 50.0 * np.exp(0.3 + rng.normal(-0.02, 0.2, 4_000))
    assert spend_level(np.full(4_000, 50.0), actual) == pytest.approx(
        ONE_WINDOW_SAYS * 0.3, abs=0.03
    )
    assert spend_level(np.full(9, 50.0), actual[:9]) == 0.0


def test_too_few_customers_or_no_order_leave_the_purchase_models_alone() -> None:
    few = closed(LEAST_CUSTOMERS - 1)
    none = closed(level=-60.0)
    assert not none.orders.any()
    for window in (few, none):
        found = fit_calibration(window, CLASSICAL, NO_LEVELS)
        assert found == without_window(CLASSICAL)
        assert (found.share, found.order_share, found.spend_share) == (0.0, 0.0, 0.0)
    assert without_window(None) == Calibration()
    assert Calibration().drift == UNKNOWN_DRIFT


def test_a_version_from_before_the_purchase_models_is_read_as_it_was() -> None:
    told = b'{"window_days":90.0,"customers":800,"centre":-1.0,"log_level":0.1,"power":1.2,'
    told += b'"order_centre":-0.5,"order_level":0.1,"order_power":0.9,"log_dispersion":0.3,'
    told += b'"spend_level":-0.1,"drift":0.15}'
    found = msgspec.json.decode(told, type=Calibration)
    assert found.classical is None
    assert (found.share, found.power, found.drift, found.rate_drift) == (1.0, 1.2, 0.15, None)
    new = fit_calibration(closed(), CLASSICAL, NO_LEVELS)
    assert msgspec.json.decode(msgspec.json.encode(new), type=Calibration) == new


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_curve_is_mapped_at_every_edge_and_never_falls(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_rate = rng.normal(-4, 1, (6, len(BIN_EDGES))).astype(np.float32)
    calibration = Calibration(centre=-1.0, log_level=0.3, power=float(rng.uniform(0.7, 1.4)))
    found = calibrated_rates(log_rate, calibration)
    for edge in BIN_EDGES:
        before, after = (
            cumulative_hazard(rate, np.full(6, edge)) for rate in (log_rate, found)
        )
        expected = 0.3 - 1.0 + calibration.power * (np.log(before) + 1.0)
        assert np.log(after) == pytest.approx(expected, abs=1e-4)
    days = np.linspace(1, 900, 50)
    grid = [probability_of_order(found, np.zeros(6), horizon) for horizon in days]
    assert np.all(np.diff(grid, axis=0) >= 0)


def test_counts_have_scipy_s_negative_binomial() -> None:
    rng = np.random.default_rng(2)
    count, log_mean, log_size = rng.integers(0, 20, 40), rng.normal(size=40), rng.normal(size=40)
    size = np.exp(log_size)
    expected = -nbinom.logpmf(count, size, size / (size + np.exp(log_mean)))
    assert negative_binomial_nll(count.astype(float), log_mean, log_size) == pytest.approx(expected)
