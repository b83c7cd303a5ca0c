"""The softmax in chunks is the plain one; the sampled one stands for it."""

import pytest
import torch
from torch.nn import functional

from habitue.model import objectives as softmax
from habitue.model.objectives import catalogue_loss, sampled_loss

ROWS, ITEMS, WIDTH = 37, 101, 8


def pairs(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """States, items, bias and weighted pairs; some rows have several, some none."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(ROWS, WIDTH, generator=draw, requires_grad=True)
    vectors = torch.randn(ITEMS, WIDTH, generator=draw, requires_grad=True)
    bias = torch.randn(ITEMS, generator=draw, requires_grad=True)
    row = torch.randint(ROWS, (60,), generator=draw).sort().values
    item = torch.randint(ITEMS, (60,), generator=draw)
    weight = torch.rand(60, generator=draw)
    return states, vectors, bias, row, item, weight


def plain(states, vectors, bias, row, item, weight):
    scores = functional.log_softmax(states @ vectors.T + bias, dim=-1)
    return -(weight * scores[row, item]).sum()


@pytest.mark.parametrize("cells", [ITEMS, 7 * ITEMS, 10**6], ids=["row", "some rows", "all"])
def test_loss_and_gradients_in_chunks_are_those_of_the_plain_softmax(monkeypatch, cells):
    monkeypatch.setattr(softmax, "CHUNK_CELLS", cells)
    ours, theirs = pairs(), pairs()
    loss, expected = 3 * catalogue_loss(*ours), 3 * plain(*theirs)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_a_sample_of_everything_is_the_plain_softmax():
    states, vectors, bias, row, item, weight = pairs()
    everything = torch.arange(ITEMS)
    # each row's own item is struck out of the sample, which leaves V - 1 of V
    found = sampled_loss(states, vectors, bias, row, item, weight, everything)
    raised = torch.log(torch.tensor((ITEMS - 1) / ITEMS))
    scores = states @ vectors.T + bias + raised
    aimed = scores[row, item] - raised
    rest = scores[row].scatter(1, item[:, None], -torch.inf).logsumexp(-1)
    torch.testing.assert_close(found, (weight * (torch.logaddexp(aimed, rest) - aimed)).sum())


def test_many_samples_agree_with_the_whole_catalogue_on_average():
    # seed 0; the mean of 400 samples of 50 lies within 3% of the exact loss (a Jensen gap of 1%)
    whole = [one.detach() * 0.3 if one.is_floating_point() else one for one in pairs()]
    whole[5] = torch.full((60,), 1 / 60)
    exact = plain(*whole)
    draw = torch.Generator().manual_seed(0)
    drawn = [torch.randint(ITEMS, (50,), generator=draw) for _ in range(400)]
    mean = torch.stack([sampled_loss(*whole, sample) for sample in drawn]).mean()
    assert abs(float(mean / exact) - 1) < 0.03
