"""The classical models: published parameters, an independent oracle, and what must always hold."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from habitue.sequences.classical import (
    BgNbd,
    GammaGamma,
    MbgNbd,
    ParetoNbd,
    Purchases,
)
from habitue.sequences.classical_fit import (
    BG_NBD_PRIOR,
    MBG_NBD_PRIOR,
    PARETO_NBD_PRIOR,
    coarsened,
    fit_bg_nbd,
    fit_gamma_gamma,
    fit_mbg_nbd,
    fit_pareto_nbd,
    gamma_gamma_prior,
    summarise,
)

WEEK = 7.0
MODELS = (
    BgNbd(0.243, 30.9, 0.793, 2.426),
    BgNbd(2.0, 14.0, 1.0, 3.0),
    MbgNbd(0.525, 43.3, 0.891, 1.614),
    ParetoNbd(0.553, 74.0, 0.606, 81.7),
    ParetoNbd(3.0, 200.0, 1.0, 15.0),
)
CUSTOMERS = (
    np.array([0.0, 0.0, 1.0, 2.0, 7.0, 30.0, 400.0]),
    np.array([0.0, 0.0, 3.0, 212.9, 272.0, 100.0, 250.0]),
    np.array([1.0, 272.0, 272.0, 272.0, 272.0, 272.0, 272.0]),
)
shapes = st.floats(-4.0, 4.0).map(np.exp)
scales = st.floats(0.0, 7.0).map(np.exp)
models = st.one_of(
    st.builds(BgNbd, shapes, scales, shapes, shapes),
    st.builds(MbgNbd, shapes, scales, shapes, shapes),
    st.builds(ParetoNbd, shapes, scales, shapes, scales),
)


@st.composite
def customers(draw: st.DrawFn) -> tuple[float, float, float]:
    age = draw(st.floats(0.0, 2_000.0))
    repeats = draw(st.integers(0, 500))
    return float(repeats), draw(st.floats(0.0, age)) if repeats else 0.0, age


@pytest.fixture(scope="module")
def peer() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lifetimes")


@pytest.fixture(scope="module")
def cdnow(peer: Any) -> tuple[np.ndarray, ...]:
    """(x, t_x, T, mean repeat value) of CDNOW's 2,357 customers, in weeks and dollars."""
    folder = Path(peer.__file__).parent / "datasets"
    table = np.loadtxt(
        folder / "cdnow_customers_summary_with_transactions.csv",
        delimiter=",", skiprows=1, unpack=True,
    )  # fmt: skip
    return tuple(table[1:5])


def in_days(cdnow: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, t_x, T, _ = cdnow
    return x, np.round(t_x * WEEK), np.round(T * WEEK)


def test_bg_nbd_reproduces_the_published_fit_of_cdnow(cdnow: tuple[np.ndarray, ...]) -> None:
    fitted = fit_bg_nbd(*in_days(cdnow))
    model = fitted.model
    found = [model.r, model.alpha / WEEK, model.a, model.b]
    assert np.round(found, 3).tolist() == [0.243, 4.414, 0.793, 2.426]
    assert round(fitted.log_likelihood + cdnow[0].sum() * np.log(WEEK), 1) == -9582.4
    assert fitted.converged
    assert fitted.warnings == ()


def test_pareto_nbd_reproduces_the_published_fit_of_cdnow(cdnow: tuple[np.ndarray, ...]) -> None:
    fitted = fit_pareto_nbd(*in_days(cdnow))
    model = fitted.model
    found = [model.r, model.alpha / WEEK, model.s, model.beta / WEEK]
    assert np.round(found, 3) == pytest.approx([0.553, 10.578, 0.606, 11.669], abs=1.1e-3)
    assert round(fitted.log_likelihood + cdnow[0].sum() * np.log(WEEK), 1) == -9595.0
    assert fitted.converged


def test_gamma_gamma_reproduces_the_published_fit_of_cdnow(cdnow: tuple[np.ndarray, ...]) -> None:
    fitted = fit_gamma_gamma(cdnow[0], cdnow[3])
    model = fitted.model
    assert [model.p, model.q, model.v] == pytest.approx([6.250, 3.744, 15.443], rel=5e-4)
    assert fitted.customers == 946


def test_a_fit_in_weeks_is_a_fit_in_days(cdnow: tuple[np.ndarray, ...]) -> None:
    x, t_x, T = in_days(cdnow)
    days = fit_mbg_nbd(x, t_x, T)
    weeks = fit_mbg_nbd(x, t_x / WEEK, T / WEEK)
    assert weeks.model.alpha * WEEK == pytest.approx(days.model.alpha, rel=1e-4)
    assert weeks.model.b == pytest.approx(days.model.b, rel=1e-4)
    offset = x.sum() * np.log(WEEK)
    assert weeks.log_likelihood == pytest.approx(days.log_likelihood + offset, abs=1e-6)


@pytest.mark.parametrize("name", ["BetaGeoFitter", "ModifiedBetaGeoFitter", "ParetoNBDFitter"])
def test_expectations_and_the_chance_to_be_alive_agree_with_lifetimes(peer: Any, name: str) -> None:
    import pandas as pd

    model = {"B": MODELS[0], "M": MODELS[2], "P": MODELS[3]}[name[0]]
    fitter = getattr(peer, name)()
    fitter.params_ = pd.Series({field: getattr(model, field) for field in model.__slots__})
    x, t_x, T = (column[1:6] for column in CUSTOMERS)
    expected = fitter.conditional_expected_number_of_purchases_up_to_time(180.0, x, t_x, T)
    assert model.expected_orders(x, t_x, T, 180.0) == pytest.approx(np.asarray(expected), rel=1e-6)
    alive = fitter.conditional_probability_alive(x, t_x, T)
    assert model.probability_alive(x, t_x, T) == pytest.approx(np.asarray(alive), rel=1e-6)


@pytest.mark.parametrize("fit_name", ["bg", "mbg", "pareto"])
def test_no_neighbour_of_the_fit_is_likelier(fit_name: str, cdnow: tuple[np.ndarray, ...]) -> None:
    fit: Callable[..., Any] = {"bg": fit_bg_nbd, "mbg": fit_mbg_nbd, "pareto": fit_pareto_nbd}[
        fit_name
    ]
    summary = in_days(cdnow)
    fitted = fit(*summary)
    model = fitted.model
    best = simple_log_likelihood(model, *summary)
    assert best == pytest.approx(fitted.log_likelihood, abs=1e-6)
    for field in model.__slots__:
        for factor in (0.99, 1.01):
            values = {name: getattr(model, name) for name in model.__slots__}
            other = type(model)(**{**values, field: values[field] * factor})
            assert simple_log_likelihood(other, *summary) < best


def simple_log_likelihood(model: Purchases, x: np.ndarray, t_x: np.ndarray, T: np.ndarray) -> float:
    """The slow twin: the density of a customer's orders if alive, over the chance to be alive."""
    from scipy.special import betaln, gammaln

    orders = gammaln(model.r + x) - gammaln(model.r) + model.r * np.log(model.alpha)
    orders -= (model.r + x) * np.log(model.alpha + T)
    match model:
        case BgNbd(_, _, a, b):
            stays = betaln(a, b + x) - betaln(a, b)
        case MbgNbd(_, _, a, b):
            stays = betaln(a, b + x + 1) - betaln(a, b)
        case ParetoNbd(_, _, s, beta):
            stays = s * np.log(beta / (beta + T))
    return float((orders + stays - np.log(model.probability_alive(x, t_x, T))).sum())


@given(model=models, customer=customers(), days=st.floats(0.0, 2_000.0), more=st.floats(0.0, 500.0))
def test_probabilities_and_expectations_keep_their_bounds_and_grow_with_the_horizon(
    model: Purchases, customer: tuple[float, float, float], days: float, more: float
) -> None:
    horizons = np.array([days, days + more])
    chance = model.probability_of_order(*customer, horizons)
    orders = model.expected_orders(*customer, horizons)
    alive = model.probability_alive(*customer)
    assert np.all((chance >= 0) & (chance <= alive) & (alive <= 1))
    assert np.all(np.isfinite(orders))
    assert np.all(orders >= chance * (1 - 1e-6))
    assert chance[1] >= chance[0] - 1e-12
    assert orders[1] >= orders[0] * (1 - 1e-6)


@given(model=models, customer=customers())
def test_nothing_is_expected_of_no_time(
    model: Purchases, customer: tuple[float, float, float]
) -> None:
    assert model.probability_of_order(*customer, 0.0) == 0
    assert model.expected_orders(*customer, 0.0) == pytest.approx(0, abs=1e-9)
    brief = model.expected_orders(*customer, 1e-4)
    assert model.probability_of_order(*customer, 1e-4) == pytest.approx(brief, rel=0.05, abs=1e-9)


@given(model=models, customer=customers(), share=st.floats(0.01, 0.99))
def test_days_until_inverts_the_probability_of_an_order(
    model: Purchases, customer: tuple[float, float, float], share: float
) -> None:
    wanted = share * model.probability_of_order(*customer, 400.0)
    days = model.days_until(*customer, wanted)
    assert 0 <= days <= 400.0 * (1 + 1e-9)
    assert model.probability_of_order(*customer, days) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_an_order_that_never_becomes_likely_is_infinitely_far(model: Purchases) -> None:
    assert model.days_until(0, 0.0, 5_000.0, 1.0) == np.inf
    assert model.days_until(0, 0.0, 5_000.0, 0.0) == 0


@pytest.mark.parametrize("model", MODELS)
def test_expectations_agree_with_simulated_futures(model: Purchases) -> None:
    """Seed 5; 4 standard errors of 20,000 futures: a false alarm in 2,000 runs over all models."""
    rng = np.random.default_rng(5)
    x, t_x, T, horizon, futures = 3.0, 180.0, 240.0, 300.0, 20_000
    orders = simulated_orders(model, (x, t_x, T), horizon, futures, rng)
    expected = float(model.expected_orders(x, t_x, T, horizon))
    chance = float(model.probability_of_order(x, t_x, T, horizon))
    error = orders.std() / np.sqrt(futures)
    assert abs(orders.mean() - expected) < 4 * error
    assert abs((orders > 0).mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / futures)


def simulated_orders(
    model: Purchases,
    customer: tuple[float, float, float],
    horizon: float,
    futures: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Orders of one customer in many futures, event by event from the model's own story."""
    x, _, T = customer
    alive = rng.random(futures) < model.probability_alive(*customer)
    rate = rng.gamma(model.r + x, 1 / (model.alpha + T), futures)
    leaves_at = np.full(futures, np.inf)
    chance_to_leave = np.zeros(futures)
    match model:
        case BgNbd(_, _, a, b):
            chance_to_leave = rng.beta(a, b + x, futures)
        case MbgNbd(_, _, a, b):
            chance_to_leave = rng.beta(a, b + x + 1, futures)
        case ParetoNbd(_, _, s, beta):
            leaves_at = rng.exponential(1 / rng.gamma(s, 1 / (beta + T), futures))
    now, orders, active = np.zeros(futures), np.zeros(futures), alive
    while active.any():
        now = now + rng.exponential(1 / rate)
        active = active & (now <= np.minimum(horizon, leaves_at))
        orders += active
        active = active & (rng.random(futures) >= chance_to_leave)
    return orders


def test_heavy_buyers_do_not_overflow() -> None:
    """Orders are expected at about the rate seen, where textbook formulas give 0 or infinity."""
    for model in MODELS:
        orders = model.expected_orders(5_000.0, 500.0, 500.0, 10.0)
        assert 70 < orders < 110


@given(model=models, customer=customers(), days=st.floats(1e-6, 2_000.0))
@example(BgNbd(*np.exp([1.0, 0.0, 1.0, 1.0])), (101.0, 0.0, 0.0), 10.0)      # scipy's 2F1 is NaN
@example(BgNbd(*np.exp([1.0, 0.0, 1.0, 1.0])), (97.0, 0.0, 0.0), 10.0)       # scipy's 2F1 is wrong
@example(BgNbd(2.0, 14.0, 1.0, 3.0), (5.0, 60.0, 90.0), 90.0)                # 0 / 0
@example(ParetoNbd(*np.exp([0.0, 6.0, 6e-8, 0.0])), (0.0, 0.0, 0.0), 6e-5)   # two equal 2F1
@example(ParetoNbd(2.8, 0.23, 895.7, 348.7), (0.0, 0.0, 0.35), 1.0)          # scipy's 2F1 overflows
def test_the_closed_forms_in_forty_digits_say_the_same(
    model: Purchases, customer: tuple[float, float, float], days: float
) -> None:
    x, _, T = customer
    if isinstance(model, ParetoNbd):
        first = model.probability_of_order(*customer, days)
        exact = exact_first((model.r + x, model.alpha + T), (model.s, model.beta + T), days)
        assert first == pytest.approx(exact * model.probability_alive(*customer), rel=1e-9)
        assert model.probability_alive(*customer) == pytest.approx(exact_alive(model, customer))
        return
    b = model.b + x + isinstance(model, MbgNbd)
    exact = exact_orders(model.r + x, model.a, b, days / (model.alpha + T))
    alive = model.probability_alive(*customer)
    assert model.expected_orders(*customer, days) == pytest.approx(exact * alive, rel=1e-9)


def exact_orders(shape: float, a: float, b: float, wait: float) -> float:
    """Expected orders until leaving, before Euler's transformation; a = 1 is a limit."""
    with mpmath.workdps(40):
        a = mpmath.mpf(a) + (mpmath.mpf(10) ** -15 if abs(a - 1) < 1e-15 else 0)
        c = a + b - 1
        return float(c / (a - 1) * (1 - mpmath.hyp2f1(shape, a - 1, c, -mpmath.mpf(wait))))


def exact_first(one: tuple[float, float], other: tuple[float, float], within: float) -> float:
    """P(of exponential times with gamma rates the one comes before the other and `within`)."""
    with mpmath.workdps(40):
        (k, scale), (m, other_scale) = (tuple(map(mpmath.mpf, pair)) for pair in (one, other))
        later, other_later = scale + within, other_scale + within
        neither = (scale / later) ** k * (other_scale / other_later) ** m
        return float(
            exact_share(k, scale, m, other_scale) - neither * exact_share(k, later, m, other_later)
        )


def exact_share(k: Any, scale: Any, m: Any, other_scale: Any) -> Any:
    """Mean of rate / (rate + other rate), whose ratio is beta distributed."""
    if scale <= other_scale:
        return k / (k + m) * mpmath.hyp2f1(1, m, k + m + 1, 1 - scale / other_scale)
    ratio = other_scale / scale
    return k / (k + m) * ratio * mpmath.hyp2f1(1, k + 1, k + m + 1, 1 - ratio)


def exact_alive(model: ParetoNbd, customer: tuple[float, float, float]) -> float:
    """P(alive): neither an order nor leaving since the last order, over that or leaving first."""
    x, t_x, T = customer
    with mpmath.workdps(40):
        rates = ((model.s, model.beta + t_x), (model.r + x, model.alpha + t_x))
        left = exact_first(*rates, mpmath.mpf(T) - t_x)
        neither = mpmath.mpf(1)
        for shape, scale in rates:
            neither *= (scale / (mpmath.mpf(scale) + T - t_x)) ** shape
        return float(neither / (neither + left))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 50])
def test_a_shop_of_few_customers_gets_finite_parameters(count: int) -> None:
    rng = np.random.default_rng(count)
    age = rng.integers(0, 400, count)
    repeats = rng.poisson(1.0, count) * (age > 0)
    last = np.where(repeats > 0, rng.integers(0, 400, count) % np.maximum(age, 1), 0)
    for fit, prior in (
        (fit_bg_nbd, BG_NBD_PRIOR),
        (fit_mbg_nbd, MBG_NBD_PRIOR),
        (fit_pareto_nbd, PARETO_NBD_PRIOR),
    ):
        for believed in (prior, None):
            model = fit(repeats, last, age, prior=believed).model
            assert all(np.isfinite(getattr(model, field)) for field in model.__slots__)
            assert np.all(np.isfinite(model.expected_orders(repeats, last, age, 90.0)))
    spend = fit_gamma_gamma(repeats, np.full(count, 20.0), prior=gamma_gamma_prior(20.0)).model
    assert np.all(np.isfinite(spend.expected_value(repeats, np.full(count, 20.0))))


def test_without_customers_the_prior_is_the_answer_and_the_fit_says_so() -> None:
    fitted = fit_bg_nbd([], [], [], prior=BG_NBD_PRIOR)
    model = fitted.model
    assert [model.r, model.alpha, model.a, model.b] == pytest.approx(BG_NBD_PRIOR.medians)
    assert fitted.warnings == ("only 0 customers",)


def test_a_prior_yields_to_many_customers(cdnow: tuple[np.ndarray, ...]) -> None:
    free, held = fit_bg_nbd(*in_days(cdnow)), fit_bg_nbd(*in_days(cdnow), prior=BG_NBD_PRIOR)
    assert held.log_likelihood == pytest.approx(free.log_likelihood, abs=0.05)
    assert held.model.alpha == pytest.approx(free.model.alpha, rel=0.01)


def test_weights_count_customers() -> None:
    x, t_x, T = [0, 1, 2, 5], [0, 20, 80, 190], [200, 180, 150, 200]
    once = fit_bg_nbd(x, t_x, T, weights=[30, 20, 10, 5], prior=BG_NBD_PRIOR)
    times = [30, 20, 10, 5]
    spread = fit_bg_nbd(*(np.repeat(column, times) for column in (x, t_x, T)), prior=BG_NBD_PRIOR)
    assert once.model == spread.model
    assert once.customers == 65


def test_equal_customers_are_counted_once_and_none_is_lost() -> None:
    summary = summarise([2, 0, 2, 0, 2], [9, 0, 9, 0, 8], [30, 30, 30, 31, 30])
    rows = list(zip(summary.repeats, summary.last, summary.age, summary.weights, strict=True))
    assert rows == [(0, 0, 30, 1), (0, 0, 31, 1), (2, 8, 30, 1), (2, 9, 30, 2)]


@given(seed=st.integers(0, 1_000), rows=st.integers(60, 300))
def test_coarsening_keeps_customers_orders_and_mean_times(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    age = rng.integers(1, 700, 2_000)
    repeats = rng.poisson(1.5, 2_000)
    summary = summarise(repeats, np.where(repeats > 0, rng.integers(0, age), 0), age)
    coarse = coarsened(summary, rows)
    assert len(coarse.repeats) <= rows
    assert np.all(coarse.last <= coarse.age)
    for column in ("repeats", "last", "age"):
        fine_sum = summary.weights @ getattr(summary, column)
        assert coarse.weights @ getattr(coarse, column) == pytest.approx(fine_sum)


def test_a_fit_recovers_the_parameters_that_made_the_shop() -> None:
    """Seed 1, 200,000 customers: tolerance of ten standard errors of the least certain."""
    truth = BgNbd(0.5, 40.0, 0.8, 2.5)
    summary = simulated_shop(truth, 200_000, np.random.default_rng(1))
    model = fit_bg_nbd(*summary).model
    for field in truth.__slots__:
        assert getattr(model, field) == pytest.approx(getattr(truth, field), rel=0.1)


def simulated_shop(
    truth: BgNbd, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    age = rng.integers(90, 365, count).astype(np.float64)
    rate = rng.gamma(truth.r, 1 / truth.alpha, count)
    chance_to_leave = rng.beta(truth.a, truth.b, count)
    now, last, repeats = np.zeros(count), np.zeros(count), np.zeros(count)
    active = np.ones(count, dtype=bool)
    with np.errstate(divide="ignore"):
        mean_gap = np.minimum(1 / rate, 1e9)
    while active.any():
        now = now + rng.exponential(mean_gap)
        active = active & (now <= age)
        last = np.where(active, now, last)
        repeats += active
        active = active & (rng.random(count) >= chance_to_leave)
    return repeats, last, age


def test_coarsened_pareto_fits_stay_near_the_exact_ones(
    cdnow: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = fit_pareto_nbd(*in_days(cdnow)).model
    monkeypatch.setattr("habitue.sequences.classical_fit.PARETO_ROWS", 400)
    coarse = fit_pareto_nbd(*in_days(cdnow)).model
    x, t_x, T = in_days(cdnow)
    total = exact.expected_orders(x, t_x, T, 270.0).sum()
    assert coarse.expected_orders(x, t_x, T, 270.0).sum() == pytest.approx(total, rel=0.01)


def test_gamma_gamma_shrinks_towards_the_shop_and_less_with_more_orders() -> None:
    model = GammaGamma(6.25, 3.744, 15.443)
    shop = model.expected_value(0, 0.0)
    assert shop == pytest.approx(6.25 * 15.443 / 2.744)
    few, many = model.expected_value(1, 100.0), model.expected_value(50, 100.0)
    assert shop < few < many < 100


def test_order_values_may_be_put_into_cells_without_moving_the_fit(
    cdnow: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = fit_gamma_gamma(cdnow[0], cdnow[3]).model
    monkeypatch.setattr("habitue.sequences.classical_fit.VALUE_ROWS", 100)
    cells = fit_gamma_gamma(cdnow[0], cdnow[3]).model
    assert cells.expected_value(3, 50.0) == pytest.approx(exact.expected_value(3, 50.0), rel=1e-3)
