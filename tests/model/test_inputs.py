import numpy as np
import pytest
import torch

from habitue.model.inputs import make_vocabulary, query_quantiles, to_inputs
from habitue.sequences.build import Sequences
from habitue.sequences.snapshots import take_snapshots
from habitue.sequences.tokens import QUERY_COLUMNS
from tests.model.small import corpus_of
from tests.sequences.small import CONFIG
from tests.shops import sequences_of


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(CONFIG, seed=12)


def test_row_zero_is_the_item_that_nobody_has_seen(shop: Sequences) -> None:
    vocabulary = make_vocabulary(shop, text_buckets=128, query_edges=torch.zeros(1, 2))
    assert vocabulary.items == len(shop.items)
    assert vocabulary.evidence[0] == 0
    orders = [
        shop.sales_orders[shop.sales_item == item].sum() for item in range(len(shop.items))
    ]
    assert vocabulary.evidence[1:].tolist() == orders
    offsets = vocabulary.ngram_offset.tolist()
    assert offsets[:2] == [0, 0]
    assert len(offsets) == len(shop.items) + 1
    assert vocabulary.ngram.max() < 128


def test_a_trained_model_s_kinds_take_the_place_of_the_shop_s(shop: Sequences) -> None:
    edges = torch.zeros(1, 2)
    known = make_vocabulary(shop, text_buckets=8, query_edges=edges, kinds=("order_placed",))
    assert known.kinds == ("order_placed",)
    assert make_vocabulary(shop, text_buckets=8, query_edges=edges).kinds == shop.kinds


def test_quantiles_of_the_columns_ascend(shop: Sequences) -> None:
    edges = query_quantiles(shop, take_snapshots(shop), seed=0)
    assert edges.shape[0] == len(QUERY_COLUMNS)
    assert torch.all(edges.diff(dim=1) >= 0)
    assert torch.isfinite(edges).all()


def test_times_stay_exact_and_items_make_room_for_the_unknown_one(shop: Sequences) -> None:
    batch = next(corpus_of(shop).epoch(queries=2, batch_tokens=1_000, seed=0))
    inputs = to_inputs(batch)
    assert inputs.event_days.dtype == inputs.query_days.dtype == torch.float64
    assert inputs.columns.dtype == inputs.wait_days.dtype == torch.float32
    assert np.array_equal(inputs.line_item.numpy(), batch.line_item + 1)
    assert np.array_equal(inputs.event_days.numpy(), batch.event_days)


def test_a_batch_that_only_asks_has_no_answers(shop: Sequences) -> None:
    _, batches = corpus_of(shop).ask(np.array([0]), np.array([shop.cutoff]))
    inputs = to_inputs(next(batches))
    assert inputs.asked.tolist() == [[True]]
    assert len(inputs.wait_days) == len(inputs.next_item) == 0
