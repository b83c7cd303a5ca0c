"""Training over many shops: weights are shared, items and batches are not."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from habitue.config import TrainConfig
from habitue.model.backbone import Model
from habitue.model.checkpoint import ITEM_ROWS, fresh
from habitue.model.inputs import make_vocabulary
from habitue.model.pretrain import Shops, beside, draw, pretrain, shared_edges
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences
from habitue.sequences.snapshots import take_snapshots
from habitue.simulation import ShopConfig
from tests.model.small import TINY, made, toy
from tests.sequences.small import CONFIG
from tests.shops import sequences_of

MANY = replace(TINY, shop_dropout=0.1)
KINDS = ("cart_added", "item_viewed", "order_placed", "order_refunded")


def corpus_of(config: ShopConfig, seed: int) -> Corpus:
    shop = sequences_of(config, seed)
    return Corpus(shop, take_snapshots(shop), max_events=32, kinds=KINDS)


@pytest.fixture(scope="module")
def corpora() -> list[Corpus]:
    small = replace(CONFIG, customers=12, items=7, views=0.0, carts=0.0, shop="small")
    return [corpus_of(CONFIG, 1), corpus_of(small, 2)]


@pytest.fixture(scope="module")
def learnt(corpora: list[Corpus]) -> Model:
    return pretrain(corpora, MANY, kinds=KINDS, steps=6)


def models_of(corpora: list[Corpus], config: TrainConfig = MANY) -> Shops:
    edges = shared_edges(corpora, seed=0)
    words = [
        make_vocabulary(c.sequences, text_buckets=256, query_edges=edges, kinds=KINDS)
        for c in corpora
    ]
    first = fresh(config, words[0])
    return Shops([beside(first, vocabulary) for vocabulary in words])


def test_shops_share_every_weight_but_the_rows_of_their_items(corpora: list[Corpus]) -> None:
    shops = models_of(corpora)
    one, other = (dict(shops.shop(number).named_parameters()) for number in (0, 1))
    assert one.keys() == other.keys()
    shared = {name for name in one if one[name] is other[name]}
    assert set(one) - shared == {"items.residual.weight", "items.bias"}
    for number, corpus in enumerate(corpora):
        assert len(shops.shop(number).items.bias) == len(corpus.sequences.items) + 1


def test_a_batch_holds_one_shop_s_items_alone(corpora: list[Corpus]) -> None:
    numbers = set()
    for number, batch in draw(corpora, MANY, 40):
        numbers.add(number)
        items = len(corpora[number].sequences.items)
        for name in ("line_item", "query_item", "next_item"):
            assert getattr(batch, name).max(initial=0) < items
        own = set(np.round(corpora[number].sequences.time / 86_400e6, 6))
        assert set(np.round(batch.event_days[batch.kind > 0], 6)) <= own
    assert numbers == {0, 1}


def test_a_shop_is_drawn_by_the_root_of_its_customers(corpora: list[Corpus]) -> None:
    one, other = (len(corpus.sequences.customers) for corpus in corpora)
    drawn = [number for number, _ in draw(corpora, MANY, 400)]
    wanted = np.sqrt(one) / (np.sqrt(one) + np.sqrt(other))
    # 400 draws: four standard errors
    assert abs(np.mean(np.array(drawn) == 0) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 400)


def test_another_shop_s_catalogue_changes_nothing_of_a_shop_s_own_steps(
    corpora: list[Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every step of shop 0, what shop 1 sells and is called leaves the weights bit-equal."""

    def of_the_first(these: list[Corpus], config: TrainConfig, steps: int) -> Iterator:
        stream = these[0].epoch(queries=3, batch_tokens=256, seed=5)
        for _, batch in zip(range(steps), stream, strict=False):
            yield 0, batch

    monkeypatch.setattr("habitue.model.pretrain.draw", of_the_first)
    sold = corpora[1].sequences
    renamed: Sequences = replace(
        sold,
        items=np.array([f"x{item}" for item in sold.items], dtype=object),
        titles=np.array(["quite another thing"] * len(sold.items), dtype=object),
        line_item=np.zeros_like(sold.line_item),
    )
    elsewhere = Corpus(renamed, corpora[1].snapshots, max_events=32, kinds=KINDS)
    one = pretrain(corpora, MANY, kinds=KINDS, steps=3)
    other = pretrain([corpora[0], elsewhere], MANY, kinds=KINDS, steps=3)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_same_seed_gives_the_same_weights_and_they_hold_no_item(
    corpora: list[Corpus], learnt: Model
) -> None:
    again = pretrain(corpora, MANY, kinds=KINDS, steps=6)
    for name, tensor in learnt.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
        if name in ITEM_ROWS:
            assert len(tensor) == 1
    assert not learnt.training


def test_what_follows_what_is_learnt_from_all_shops_together(corpora: list[Corpus]) -> None:
    losses: list[float] = []
    pretrain(
        corpora,
        MANY,
        kinds=KINDS,
        steps=40,
        watch=lambda step: losses.append(step.parts["next_kind"]),
    )
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_shop_is_described_only_where_a_model_was_trained_on_many() -> None:
    inputs = made([(0.0, 1), (5.0, 2)], [(9.0, 3)])
    other = replace(inputs, shop_columns=inputs.shop_columns + 1)
    alone = toy()
    assert torch.equal(alone.queries(inputs), alone.queries(other))
    alone.config = replace(alone.config, shop_dropout=0.1)
    assert not torch.equal(alone.queries(inputs), alone.queries(other))


def test_queries_do_without_their_shop_as_often_as_told() -> None:
    model = toy()
    inputs = made([(0.0, 1)], [(9.0, number) for number in range(4_000)])
    model.config = replace(model.config, shop_dropout=0.25)
    with_all = model.eval().queries(inputs)
    torch.manual_seed(0)
    left_out = (model.train().queries(inputs) != with_all).any(-1).float().mean()
    # 4,000 draws: four standard errors
    assert abs(float(left_out) - 0.25) < 4 * (0.25 * 0.75 / 4_000) ** 0.5
