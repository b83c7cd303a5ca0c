import numpy as np
import pytest
import torch
from torch import Tensor

from habitue.model.backbone import (
    HorizonHead,
    Model,
    QuantileEncoding,
    distances,
    positions,
    rotate,
    turns,
)
from habitue.model.checkpoint import fresh
from habitue.sequences.tokens import BIN_EDGES
from tests.model.small import TINY, made, toy, vocabulary_of
from tests.sequences.small import tangled

EVENTS = [(0.0, 1), (1.0, 2), (1.0, 3), (3.5, 4), (8.0, 5)]
QUERIES = [(0.5, 1), (3.5, 2), (20.0, 3)]


@pytest.fixture(scope="module")
def model() -> Model:
    return toy()


@torch.no_grad()
def states(
    model: Model, events: list[tuple[float, int]], queries: list[tuple[float, int]] = QUERIES
) -> tuple[Tensor, Tensor]:
    found = model(made(events, queries), model.items.vectors())
    return found[0][0], found[1][0]


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


def test_an_event_does_not_change_when_later_events_are_added(model: Model) -> None:
    before, _ = states(model, EVENTS)
    after, _ = states(model, [*EVENTS, (9.0, 6), (30.0, 7)])
    assert same(before, after[: len(EVENTS)])


def test_an_event_does_not_change_when_another_of_its_instant_follows(model: Model) -> None:
    before, _ = states(model, EVENTS)
    after, _ = states(model, [*EVENTS, (8.0, 6)])
    assert same(before, after[: len(EVENTS)])


def test_an_event_does_not_change_when_queries_are_asked(model: Model) -> None:
    before, _ = states(model, EVENTS)
    after, _ = states(model, EVENTS, [(0.0, 4), (1.0, 5), (2.0, 6), (90.0, 7)])
    assert same(before, after)


def test_events_of_one_instant_do_not_see_each_other(model: Model) -> None:
    before, _ = states(model, EVENTS)
    after, _ = states(model, [(0.0, 1), (1.0, 9), *EVENTS[2:]])
    assert same(before[[0, 2]], after[[0, 2]])
    assert not same(before[1], after[1])
    assert not same(before[3], after[3])


def test_a_query_sees_every_event_up_to_its_instant_and_none_after(model: Model) -> None:
    _, before = states(model, EVENTS)
    for place, (day, _) in enumerate(EVENTS):
        changed = [(d, 9 if i == place else n) for i, (d, n) in enumerate(EVENTS)]
        _, after = states(model, changed)
        for k, (asked, _) in enumerate(QUERIES):
            assert same(before[k], after[k]) == (day > asked)


def test_a_query_does_not_change_when_events_after_it_are_deleted(model: Model) -> None:
    _, before = states(model, EVENTS)
    _, after = states(model, EVENTS[:4])
    assert same(before[:2], after[:2])
    assert not same(before[2], after[2])


def test_a_query_does_not_see_other_queries(model: Model) -> None:
    _, before = states(model, EVENTS)
    _, after = states(model, EVENTS, [QUERIES[0], (3.5, 8), QUERIES[2]])
    assert same(before[[0, 2]], after[[0, 2]])
    assert not same(before[1], after[1])


def test_only_distances_in_time_matter_once_columns_are_given(model: Model) -> None:
    one = states(model, EVENTS)
    moved = states(
        model, [(day + 100, n) for day, n in EVENTS], [(day + 100, n) for day, n in QUERIES]
    )
    stretched = states(
        model, [(day * 9, n) for day, n in EVENTS], [(day * 9, n) for day, n in QUERIES]
    )
    assert same(one[0], moved[0])
    assert same(one[1], moved[1])
    assert not same(one[1], stretched[1])


def test_a_query_stands_after_the_last_event_that_it_sees() -> None:
    assert positions(made(EVENTS, QUERIES)).tolist() == [[0, 1, 2, 3, 4, 1, 4, 5]]


def test_everyone_sees_itself_and_padding_is_seen_by_nobody_else() -> None:
    inputs = made(EVENTS, QUERIES)
    inputs.kind[0, 3:] = 0
    bucket, seen = distances(inputs)
    assert torch.all(seen[0].diagonal())
    assert seen[0, :, 3].sum() == seen[0, :, 4].sum() == 1
    assert seen[0, 7].tolist() == [True, True, True, False, False, False, False, True]
    assert torch.all(bucket[0, 7, :5].diff() <= 0)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=rng)

    def product(at: int, other: int) -> float:
        turned = rotate(q, turns(torch.tensor([[at]]), 16)) * rotate(
            k, turns(torch.tensor([[other]]), 16)
        )
        return float(turned.sum())

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 5), abs=1e-4)


def test_the_first_forecast_is_the_prior() -> None:
    sequences = tangled(1)
    model = fresh(TINY, vocabulary_of(sequences)).eval()
    state = torch.randn(2, 3, TINY.width, generator=torch.Generator().manual_seed(1))
    prior = torch.randn(2, 3, len(BIN_EDGES))
    expected, horizon = torch.randn(2, 3), torch.full((2, 3), 90.0)
    assert torch.equal(model.log_rates(state, prior), prior)
    mean, log_dispersion = model.order_counts(state, expected, horizon)
    assert torch.equal(mean, expected)
    assert torch.equal(log_dispersion, torch.zeros(2, 3))


def test_the_same_seed_begins_with_the_same_weights() -> None:
    vocabulary = vocabulary_of(tangled(1))
    one, other = fresh(TINY, vocabulary), fresh(TINY, vocabulary)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_item_without_evidence_is_its_content_alone() -> None:
    unsold, sold = toy(evidence=0.0), toy(evidence=20.0)
    for model, follows in ((unsold, False), (sold, True)):
        before = model.items.vectors()
        with torch.no_grad():
            model.items.residual.weight += 1.0
        moved = (model.items.vectors() - before)[1:]
        assert torch.allclose(moved, torch.full_like(moved, 0.5 if follows else 0.0), atol=1e-5)


def test_the_unknown_item_is_never_scored(model: Model) -> None:
    scores = model.item_scores(torch.zeros(2, TINY.width), model.items.vectors(), query=True)
    assert scores.shape == (2, 6)


def test_spend_is_a_mixture_whose_weights_sum_to_one(model: Model) -> None:
    state = torch.randn(1, 4, TINY.width, generator=torch.Generator().manual_seed(2))
    weight, _, scale = model.spend_given_order(state, torch.zeros(1, 4), torch.full((1, 4), 90.0))
    assert torch.allclose(weight.exp().sum(-1), torch.ones(1, 4), atol=1e-6)
    assert torch.all((scale > 0.1) & (scale < 1.2))


def test_a_horizon_moves_a_head_without_breaks() -> None:
    head = HorizonHead(8, 1)
    days = torch.linspace(20.0, 400.0, 2_000)[None]
    with torch.no_grad():
        found = head(torch.ones(1, 2_000, 8), days)[0, :, 0]
    assert found.std() > 1e-3
    assert found.diff().abs().max() < 0.01


def test_a_number_fills_its_bins_up_to_where_it_stands() -> None:
    edges = torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 6.0]])
    x = torch.tensor([[[2.0, 5.5]]])
    filled = QuantileEncoding(edges)(x)[0, 0]
    assert filled.tolist() == [1.0, 0.5, 1.0, 0.5, 2.0, 5.5]


def test_an_order_is_known_by_all_its_lines(model: Model) -> None:
    one = made(EVENTS, QUERIES)
    vectors = model.items.vectors()
    before = model.events(one, vectors)
    swapped = np.arange(len(one.line_item))
    swapped[[0, 1]] = [1, 0]
    one.line_item[:] = one.line_item[swapped]
    one.line_columns[:] = one.line_columns[swapped]
    assert torch.allclose(before, model.events(one, vectors), atol=1e-6)
    one.line_item[0] = 1 + one.line_item[0] % 6
    assert not torch.allclose(before[0, 0], model.events(one, vectors)[0, 0], atol=1e-4)
