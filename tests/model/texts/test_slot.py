"""The slot in the item tower: off, it is not there; on, items are known by what a reader says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from habitue.errors import BadSetting
from habitue.model.backbone import TEXT_DIRECTIONS, Model, whitening
from habitue.model.checkpoint import fresh, load, over, save
from habitue.model.inputs import Vocabulary
from habitue.model.objectives import item_loss
from habitue.model.texts.folder import pinned
from habitue.model.texts.vectors import item_vectors
from habitue.sequences.build import Sequences
from tests.model.small import TINY, toy, vocabulary_of
from tests.model.texts.small import encoder_folder
from tests.sequences.small import tangled

TITLES = ["RED MUG", "BLUE MUG", "RED LAMP", "BLUE LAMP", "RED CUP", "GLASSWARE", "", "CUPS"]


@pytest.fixture
def shop() -> Sequences:
    return replace(tangled(3), titles=np.array(TITLES, dtype=object))


@pytest.fixture
def name(tmp_path: Path) -> str:
    return pinned(str(encoder_folder(tmp_path / "encoder")))


def with_text(shop: Sequences, name: str) -> tuple[Model, Vocabulary]:
    config = replace(TINY, text_encoder=name)
    vocabulary = replace(vocabulary_of(shop, config), text=item_vectors(name, shop))
    return fresh(config, vocabulary).eval(), vocabulary


def test_without_an_encoder_the_model_has_no_more_weights_than_before():
    assert not any("text" in name for name in toy().state_dict())


def test_what_is_read_moves_items_that_have_text_and_no_others(shop, name):
    model, _ = with_text(shop, name)
    plain = fresh(replace(TINY, text_encoder=name), vocabulary_of(shop)).eval()
    moved = {n: t for n, t in model.state_dict().items() if "items.text" not in n}
    plain.load_state_dict(moved)
    with torch.no_grad():
        apart = (model.items.vectors() - plain.items.vectors()).abs().amax(dim=1)
    written = torch.tensor([False, *map(bool, TITLES)])
    assert (apart[written] > 1e-3).all()
    assert (apart[~written] == 0).all()


def test_a_model_that_was_saved_reads_as_it_did(shop, name, tmp_path):
    model, _ = with_text(shop, name)
    (tmp_path / "saved").mkdir()
    save(model, shop, tmp_path / "saved")
    loaded = load(tmp_path / "saved", shop, texts=tmp_path / "texts")
    assert loaded.config.text_encoder == name
    assert torch.equal(loaded.items.vectors(), model.items.vectors())
    assert list((tmp_path / "texts").glob("*.lmdb"))


def test_an_item_that_came_later_is_read_by_the_same_encoder_and_whitened_alike(shop, name):
    model, _ = with_text(shop, name)
    rearranged = replace(
        shop,
        items=np.append(shop.items, "later"),
        titles=np.append(shop.titles, "BLUE CUP"),
        categories=np.append(shop.categories, ""),
    )
    moved = over(model, shop.items, rearranged)
    assert torch.allclose(moved.items.vectors()[:-1], model.items.vectors(), atol=1e-6)
    assert moved.items.vectors()[-1].abs().sum() > 0
    assert moved.items.gate[-1] == 0


def test_a_model_does_not_open_without_its_encoder(shop, name, tmp_path):
    model, _ = with_text(shop, name)
    (tmp_path / "saved").mkdir()
    save(model, shop, tmp_path / "saved")
    encoder_folder(tmp_path / "encoder", seed=1)
    with pytest.raises(BadSetting, match="not the one that the model was trained with"):
        load(tmp_path / "saved", shop)
    for file in (tmp_path / "encoder").iterdir():
        file.unlink()
    with pytest.raises(BadSetting, match=r"lacks config\.json"):
        load(tmp_path / "saved", shop)


def test_whitening_makes_every_direction_about_as_wide_and_ignores_rows_of_zeros():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(500, 6, generator=generator) * torch.tensor([9.0, 3, 2, 1, 1, 1]) + 4
    mean, turn = whitening(torch.cat([torch.zeros(50, 6), wide]))
    spread = ((wide - mean) @ turn).std(dim=0)
    assert torch.allclose(mean, wide.mean(dim=0), atol=1e-5)
    assert spread.max() / spread.min() < 9 / 1 / 2
    assert whitening(torch.zeros(3, 400))[1].shape == (400, TEXT_DIRECTIONS)


def test_items_nobody_ordered_are_not_pushed_away_where_they_do_not_compete():
    model = toy(evidence=20.0)
    model.items.gate[3] = 0.0              # item 2, of nobody
    states = torch.randn(4, TINY.width, generator=torch.Generator().manual_seed(1))
    row, item = torch.arange(4), torch.tensor([0, 1, 3, 4])

    def pushed() -> torch.Tensor:
        model.zero_grad()
        vectors = model.items.vectors().detach().requires_grad_()
        item_loss(model, vectors, states, row, item, query=False).backward()
        return vectors.grad[3].abs().sum()

    assert pushed() > 0
    model.config = replace(model.config, unseen_compete=False)
    assert pushed() == 0


def test_an_item_that_never_competed_is_as_likely_beforehand_as_the_mean_of_the_others():
    model = toy(evidence=20.0)
    model.items.gate[3] = 0.0
    bias = model.items.bias[1:].detach()
    assert torch.equal(model.items.biases(), bias)
    model.items.unseen_compete = False
    others = torch.arange(len(bias)) != 2
    assert model.items.biases()[2] == bias[others].mean()
    assert torch.equal(model.items.biases()[others], bias[others])
