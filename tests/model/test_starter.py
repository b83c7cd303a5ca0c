"""Starter weights: they load over any shop, and know again a shop that they were trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from habitue.errors import BadSetting, SawTheFuture
from habitue.model.pretrain import pretrain
from habitue.model.starter import (
    SKETCH,
    Seen,
    Starter,
    open_starter,
    refuse_seen,
    same_shop,
    save_starter,
    sketch,
)
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences, part, upto
from habitue.sequences.snapshots import take_snapshots
from tests.model.small import TINY
from tests.sequences.small import CONFIG
from tests.shops import sequences_of

BUSY = replace(CONFIG, customers=60, rate_days=8.0)
KINDS = ("cart_added", "item_viewed", "order_placed", "order_refunded")


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(BUSY, 3)


@pytest.fixture(scope="module")
def starter(shop: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    corpus = Corpus(shop, take_snapshots(shop), max_events=32, kinds=KINDS)
    model = pretrain([corpus], replace(TINY, shop_dropout=0.1), kinds=KINDS, steps=4)
    folder = tmp_path_factory.mktemp("starters")
    seen = Seen(shop="busy", last_event=int(shop.time.max()), sketch=sketch(shop))
    save_starter(model, [seen], folder / "one")
    return open_starter("one", folder)


def test_a_shop_is_known_again_under_another_name_earlier_and_in_part(shop: Sequences) -> None:
    whole = sketch(shop)
    assert len(whole)
    assert np.all(np.diff(whole.astype(object)) > 0)
    renamed = replace(
        shop, shop="another", customers=np.array([f"k{name}" for name in shop.customers], object)
    )
    assert same_shop(whole, sketch(renamed))
    assert same_shop(whole, sketch(upto(shop, shop.cutoff - 200 * DAY)))
    assert same_shop(whole, sketch(part(shop, np.arange(0, 60, 4))))


def test_another_shop_is_no_shop_that_was_seen(shop: Sequences) -> None:
    whole = sketch(shop)
    for seed in range(4, 8):
        assert not same_shop(whole, sketch(sequences_of(BUSY, seed)))
    assert not same_shop(whole, np.empty(0, np.uint64))


def test_sketches_that_were_cut_are_compared_where_both_are_complete() -> None:
    rng = np.random.default_rng(0)
    everything = np.unique(rng.integers(0, 2**63, 50_000, dtype=np.uint64))
    half = np.sort(rng.permutation(everything)[:25_000])
    strange = np.unique(rng.integers(0, 2**63, 50_000, dtype=np.uint64))
    assert same_shop(everything[:SKETCH], half[:SKETCH])
    assert not same_shop(everything[:SKETCH], strange[:SKETCH])


def test_weights_that_saw_a_shop_after_the_cutoff_are_refused(
    starter: Starter, shop: Sequences
) -> None:
    earlier = upto(shop, shop.cutoff - 100 * DAY)
    with pytest.raises(SawTheFuture, match=r"(?s)'one' have seen .* as 'busy'.*hint: "):
        refuse_seen(starter, replace(earlier, shop="renamed"), earlier.cutoff)
    refuse_seen(starter, shop, shop.cutoff)
    other = sequences_of(BUSY, 9)
    refuse_seen(starter, other, other.cutoff - 100 * DAY)


def test_a_starter_loads_over_a_shop_that_it_never_saw(starter: Starter) -> None:
    other = sequences_of(CONFIG, 5)
    model = starter.over(other)
    state = model.state_dict()
    for name, tensor in starter.tensors.items():
        assert torch.equal(state[name], tensor), name
    assert not model.items.residual.weight.any()
    bought = np.bincount(
        other.sales_item, weights=other.sales_orders, minlength=len(other.items)
    )
    most = int(np.argmax(bought))
    assert model.items.bias[1 + most] == model.items.bias.max()
    assert torch.isfinite(model.items.vectors()).all()


def test_a_starter_keeps_what_was_trained_at_half_precision(starter: Starter) -> None:
    assert starter.kinds == KINDS
    assert [seen.shop for seen in starter.seen] == ["busy"]
    assert not any(name.startswith(("items.residual", "items.bias")) for name in starter.tensors)


def test_a_starter_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no starter weights named 'two'"):
        open_starter("two", tmp_path)


def test_a_shop_without_a_repeat_order_has_nothing_to_be_known_by(shop: Sequences) -> None:
    nobody = upto(shop, int(shop.time.min()) - 1)
    assert len(sketch(nobody)) == 0
