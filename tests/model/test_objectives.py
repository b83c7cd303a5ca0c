"""Every objective beside a plain, slow or borrowed twin."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch import Tensor
from torch.nn import functional

from habitue.model.inputs import Inputs, to_inputs
from habitue.model.objectives import (
    WEIGHTS,
    cumulative_hazard,
    expected_spend,
    exposures,
    item_loss,
    kind_loss,
    lognormal_mixture_nll,
    losses,
    mean_over,
    negative_binomial_nll,
    prior_log_spend,
    waiting_time_nll,
)
from habitue.sequences.tokens import BIN_EDGES
from tests.model.small import TINY, corpus_of, made, toy, training_of
from tests.sequences.small import tangled

EDGES = torch.as_tensor(BIN_EDGES, dtype=torch.float32)
RATES = torch.randn(len(BIN_EDGES), generator=torch.Generator().manual_seed(3)) - 4


def rate_at(days: float) -> float:
    """The hazard of RATES at an instant."""
    return float(RATES[min(int(np.searchsorted(BIN_EDGES, days)), len(BIN_EDGES) - 1)].exp())


def gathered(days: float) -> float:
    inside = [edge for edge in BIN_EDGES if edge < days]
    return float(quad(rate_at, 0, days, points=inside or None, limit=200)[0])


@pytest.mark.parametrize("days", [0.0, 0.4, 1.0, 10.0, 100.0, 729.0, 1500.0])
def test_the_cumulative_hazard_is_the_integral_of_the_hazard(days: float) -> None:
    found = cumulative_hazard(RATES[None], torch.tensor([days]), EDGES)
    assert float(found) == pytest.approx(gathered(days), rel=1e-5, abs=1e-7)


def test_exposures_sum_to_the_days_that_passed() -> None:
    days = torch.tensor([0.0, 0.3, 45.0, 730.0, 5000.0])
    assert torch.allclose(exposures(days, EDGES).sum(-1), days)


@pytest.mark.parametrize("days", [0.4, 10.0, 100.0, 1500.0])
def test_a_waiting_time_has_the_density_of_its_hazard(days: float) -> None:
    for observed, expected in (
        (True, gathered(days) - np.log(rate_at(days))),
        (False, gathered(days)),
    ):
        found = waiting_time_nll(RATES[None], torch.tensor([days]), torch.tensor([observed]), EDGES)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_constant_hazard_is_an_exponential() -> None:
    days = torch.tensor([0.2, 5.0, 80.0, 1200.0])
    found = waiting_time_nll(
        torch.full((4, len(BIN_EDGES)), -3.0), days, torch.ones(4, dtype=torch.bool), EDGES
    )
    law = torch.distributions.Exponential(torch.tensor(-3.0).exp())
    assert torch.allclose(found, -law.log_prob(days), rtol=1e-5)


def test_counts_have_scipy_s_negative_binomial() -> None:
    rng = np.random.default_rng(0)
    count = rng.integers(0, 30, 50).astype(float)
    log_mean, log_size = rng.normal(0, 1.5, 50), rng.normal(0, 1.5, 50)
    size = np.exp(log_size)
    expected = -stats.nbinom.logpmf(count, size, size / (size + np.exp(log_mean)))
    found = negative_binomial_nll(*(torch.from_numpy(a) for a in (count, log_mean, log_size)))
    assert found.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_spend_has_scipy_s_lognormals_in_its_mixture() -> None:
    rng = np.random.default_rng(1)
    value = rng.lognormal(1, 1, 40)
    weight = rng.dirichlet(np.ones(3), 40)
    location, scale = rng.normal(0, 1, (40, 3)), rng.uniform(0.2, 1.2, (40, 3))
    density = stats.lognorm.pdf(value[:, None], scale, scale=np.exp(location))
    found = lognormal_mixture_nll(
        *(torch.from_numpy(a) for a in (value, np.log(weight), location, scale))
    )
    assert found.numpy() == pytest.approx(-np.log((weight * density).sum(1)), rel=1e-9)


def test_expected_spend_is_the_mean_of_its_distribution() -> None:
    rng = np.random.default_rng(2)
    weight = rng.dirichlet(np.ones(3))
    location, scale = rng.normal(0, 1, 3), rng.uniform(0.2, 1.2, 3)
    mean = (weight * stats.lognorm.mean(scale, scale=np.exp(location))).sum()
    mixture = tuple(torch.from_numpy(a)[None].float() for a in (np.log(weight), location, scale))
    found = expected_spend(RATES[None], mixture, torch.tensor([90.0]), EDGES)
    assert float(found) == pytest.approx(-np.expm1(-gathered(90.0)) * mean, rel=1e-4)


def test_prior_spend_is_the_mean_order_s_value_times_orders_given_one() -> None:
    probability = -np.expm1(-gathered(90.0))
    for expected in (3.0, 0.5 * probability):
        found = prior_log_spend(
            torch.tensor([2.0]),
            torch.tensor([np.log(expected)]).float(),
            RATES[None],
            torch.tensor([90.0]),
            EDGES,
        )
        assert float(found.exp()) == pytest.approx(2 * max(expected / probability, 1.0), rel=1e-4)


def test_items_cost_the_cross_entropy_of_each_row_s_own() -> None:
    model = toy().requires_grad_(False)
    states = torch.randn(5, TINY.width, generator=torch.Generator().manual_seed(4))
    vectors = model.items.vectors()
    row, item = torch.tensor([0, 0, 0, 2, 4, 4]), torch.tensor([1, 3, 5, 0, 2, 1])
    for query in (True, False):
        log_chance = functional.log_softmax(
            model.item_scores(states, vectors, query=query), dim=-1
        )
        each = [-log_chance[r, item[row == r]].mean() for r in (0, 2, 4)]
        found = item_loss(model, vectors, states, row, item, query=query)
        assert float(found) == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


def test_of_very_many_rows_a_sample_is_scored_whose_mean_is_the_same() -> None:
    model = toy().requires_grad_(False)
    vectors = model.items.vectors()
    rows = 2 * TINY.item_rows
    states = torch.randn(1, TINY.width, generator=torch.Generator().manual_seed(5))
    one = item_loss(
        model, vectors, states, torch.tensor([0, 0]), torch.tensor([1, 4]), query=True
    )
    many = item_loss(
        model,
        vectors,
        states.expand(rows, -1),
        torch.arange(rows).repeat_interleave(2),
        torch.tensor([1, 4]).repeat(rows),
        query=True,
    )
    assert float(many) == pytest.approx(float(one), rel=1e-4)


def test_no_items_cost_nothing_and_can_still_be_descended() -> None:
    model = toy().requires_grad_(False)
    states = torch.ones(2, TINY.width, requires_grad=True)
    none = torch.empty(0, dtype=torch.int64)
    loss = item_loss(model, model.items.vectors(), states, none, none, query=True)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert states.grad is not None


def test_the_next_kind_costs_its_cross_entropy_where_one_followed() -> None:
    model = toy().requires_grad_(False)
    inputs = replace(
        made([(0.0, 1), (1.0, 2), (2.0, 3)], [(3.0, 1)]),
        next_kind=torch.tensor([[2, 1, 0]]),
        next_gap_days=torch.zeros(1, 3),
        followed=torch.tensor([[True, True, False]]),
    )
    events = torch.randn(1, 3, TINY.width, generator=torch.Generator().manual_seed(6))
    log_chance = functional.log_softmax(model.next_kind(events)[0], dim=-1)
    expected = -(log_chance[0, 2] + log_chance[1, 1]) / 2
    assert float(kind_loss(model, inputs, events)) == pytest.approx(float(expected), rel=1e-5)


def test_a_mean_is_over_what_its_mask_holds() -> None:
    values = torch.tensor([1.0, 2.0, float("nan")])
    assert float(mean_over(values, torch.tensor([True, True, False]))) == 1.5
    assert float(mean_over(values, torch.zeros(3, dtype=torch.bool))) == 0.0


def test_the_total_is_the_weighted_sum_of_finite_parts() -> None:
    sequences = tangled(1)
    training = training_of(sequences)
    batch = next(corpus_of(sequences).epoch(queries=3, batch_tokens=10_000, seed=0))
    found = losses(training.model.eval(), to_inputs(batch))
    assert set(found.parts) == set(WEIGHTS)
    assert all(np.isfinite(part) for part in found.parts.values())
    total = sum(WEIGHTS[name] * part for name, part in found.parts.items())
    assert float(found.total.detach()) == pytest.approx(total, rel=1e-5)
    found.total.backward()
    silent = [name for name, p in training.model.named_parameters() if p.grad is None]
    assert silent == []


def test_padding_teaches_nothing() -> None:
    sequences = tangled(2)
    model = training_of(sequences).model.eval()
    batch = next(corpus_of(sequences).epoch(queries=3, batch_tokens=10_000, seed=0))
    assert not batch.asked.all()
    inputs = to_inputs(batch)

    def total(inputs: Inputs) -> Tensor:
        return losses(model, inputs).total

    before = total(inputs)
    for tensor in (inputs.wait_days, inputs.orders, inputs.revenue, inputs.query_columns):
        tensor[~inputs.asked] = 7.0
    inputs.columns[inputs.kind == 0] = 9.0
    assert torch.allclose(before, total(inputs), rtol=1e-5)
