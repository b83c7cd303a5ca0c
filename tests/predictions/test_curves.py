import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from scipy.integrate import quad

from habitue.model import objectives
from habitue.predictions.curves import (
    FAR_DAYS,
    cumulative_hazard,
    days_until,
    probability_of_order,
)
from habitue.sequences.tokens import BIN_EDGES


def curves(seed: int, count: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(-4, 1.5, (count, len(BIN_EDGES))).astype(np.float32)


@given(seed=integers(0, 10_000))
def test_numpy_gathers_the_same_hazard_as_the_objective_that_was_learnt(seed: int) -> None:
    log_rate = curves(seed)
    days = np.random.default_rng(seed).uniform(0, 1_500, 7)
    edges = torch.as_tensor(BIN_EDGES, dtype=torch.float32)
    learnt = objectives.cumulative_hazard(
        torch.from_numpy(log_rate), torch.from_numpy(days).float(), edges
    )
    assert cumulative_hazard(log_rate, days) == pytest.approx(learnt.numpy(), rel=1e-5)


@pytest.mark.parametrize("days", [0.0, 0.5, 14.0, 100.0, 2_000.0])
def test_the_gathered_hazard_is_an_integral(days: float) -> None:
    log_rate = curves(1, count=1)

    def rate(at: float) -> float:
        place = min(int(np.searchsorted(BIN_EDGES, at)), len(BIN_EDGES) - 1)
        return float(np.exp(np.float64(log_rate[0, place])))

    inside = [edge for edge in BIN_EDGES if edge < days] or None
    expected, _ = quad(rate, 0, days, points=inside, limit=200)
    assert cumulative_hazard(log_rate, np.array([days]))[0] == pytest.approx(expected, rel=1e-7)


@given(seed=integers(0, 10_000), silent=floats(0, 800), one=floats(0.1, 900), more=floats(0.1, 900))
def test_a_longer_horizon_is_likelier_to_hold_an_order(
    seed: int, silent: float, one: float, more: float
) -> None:
    log_rate, silence = curves(seed), np.full(7, silent)
    shorter = probability_of_order(log_rate, silence, one)
    longer = probability_of_order(log_rate, silence, one + more)
    assert np.all((shorter > 0) & (longer <= 1))
    assert np.all(longer >= shorter)


@given(seed=integers(0, 10_000), silent=floats(0, 800), share=floats(0.001, 0.99))
def test_the_day_on_which_a_probability_is_reached_has_that_probability(
    seed: int, silent: float, share: float
) -> None:
    log_rate, silence, wanted = curves(seed), np.full(7, silent), np.full(7, share)
    days = days_until(log_rate, silence, wanted)
    reached = probability_of_order(log_rate, silence, days)
    sooner = days < FAR_DAYS
    assert reached[sooner] == pytest.approx(wanted[sooner], rel=1e-6)
    assert np.all(reached[~sooner] <= share)


def test_a_curve_after_silence_is_what_survivors_see() -> None:
    log_rate = curves(2)
    silence, horizon = np.full(7, 33.0), 90.0

    def stays(days: float) -> np.ndarray:
        return np.exp(-cumulative_hazard(log_rate, np.full(7, days)))

    expected = 1 - stays(33.0 + horizon) / stays(33.0)
    assert probability_of_order(log_rate, silence, horizon) == pytest.approx(expected, rel=1e-9)


def test_what_hardly_ever_happens_is_not_expected_in_a_lifetime() -> None:
    never = np.full((1, len(BIN_EDGES)), -40.0, np.float32)
    assert days_until(never, np.zeros(1), np.array([0.5])).tolist() == [FAR_DAYS]
    assert days_until(never, np.zeros(1), np.array([0.0])).tolist() == [0.0]
