"""The model learns which item follows which from order alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from habitue.model.order import learn_order, next_scores, order_recipe
from habitue.sequences.ragged import Ragged, offsets_of

ITEMS = 12


def walks(count: int = 300, seed: int = 0) -> tuple[Ragged, np.ndarray]:
    """Rows that walk up the items by one; a row's last item follows the others."""
    start = np.random.default_rng(seed).integers(0, ITEMS, count)
    rows = (start[:, None] + np.arange(5)) % ITEMS
    return Ragged(rows[:, :4].ravel(), offsets_of(np.full(count, 4))), rows[:, 4]


def small(**changes):
    recipe = order_recipe(walks()[0], ITEMS)
    return replace(recipe, width=32, layers=1, epochs=25, batch_tokens=256, dropout=0.2, **changes)


@pytest.mark.parametrize("sampled", [False, True], ids=["exact", "sampled"])
def test_a_walk_is_learnt(sampled):
    rows, aims = walks()
    config = small(exact_items=5) if sampled else small()
    model = learn_order(rows, [""] * ITEMS, [""] * ITEMS, config)
    best = np.empty(len(aims), np.int64)
    for row, scores in next_scores(model, rows):
        best[row] = scores.argmax(axis=1)
    assert (best == aims).mean() > 0.95


def test_the_same_seed_learns_the_same():
    rows, _ = walks(60)
    one, other = (learn_order(rows, [""] * ITEMS, [""] * ITEMS, small()) for _ in range(2))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_reach_and_dropout_follow_the_size_of_the_data():
    assert order_recipe(walks()[0], ITEMS).max_events == 50
    long = Ragged(np.zeros(9_000, np.int64), np.array([0, 9_000]))
    assert order_recipe(long, 9_000).max_events == 200
    assert order_recipe(long, 9_000).dropout == 0.4
    assert order_recipe(long, 75).dropout == pytest.approx(0.25)
    assert order_recipe(long, 1).dropout == 0.1
