import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from habitue.errors import BadModel
from habitue.model.backbone import Model
from habitue.model.checkpoint import load, over, resume, save, save_training
from habitue.model.embed import read
from habitue.model.readings import Readings
from habitue.sequences.build import DAY, Sequences, upto
from tests.model.small import TINY, corpus_of, stirred, trained, training_of, vocabulary_of
from tests.sequences.small import CONFIG, sequences_at
from tests.shops import end_of, events_of


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_at(events_of(CONFIG, seed=10), end_of(CONFIG))


@pytest.fixture(scope="module")
def earlier(shop: Sequences) -> Sequences:
    return upto(shop, shop.cutoff - 250 * DAY)


@pytest.fixture(scope="module")
def model(shop: Sequences) -> Model:
    return stirred(trained(shop))


def readings(model: Model, shop: Sequences, names: list[str], at: int) -> Readings:
    rows = np.searchsorted(shop.customers.astype(str), names)
    times = np.full(len(rows), at)
    asked = (corpus_of(shop, model), rows, times)
    return read(model, *asked, horizons_days=(30.0, 90.0), keeps_states=True)


def alike(one: Readings, other: Readings, *, within: float = 0.0) -> bool:
    return all(
        np.allclose(getattr(one, field.name), getattr(other, field.name), rtol=0, atol=within)
        for field in fields(Readings)
        if field.name != "queries"
    )


def test_what_was_saved_is_read_back_to_the_last_bit(
    model: Model, shop: Sequences, tmp_path: Path
) -> None:
    save(model, shop, tmp_path)
    loaded = load(tmp_path, shop)
    assert loaded.config == model.config
    assert loaded.kinds == model.kinds
    names = shop.customers.tolist()
    assert alike(
        readings(model, shop, names, shop.cutoff), readings(loaded, shop, names, shop.cutoff)
    )


def test_items_that_came_later_change_no_reading_of_the_past(
    shop: Sequences, earlier: Sequences, tmp_path: Path
) -> None:
    model = stirred(trained(earlier))
    save(model, earlier, tmp_path)
    assert len(earlier.items) < len(shop.items)
    names = earlier.customers.tolist()
    before = readings(model, earlier, names, earlier.cutoff)
    for other in (load(tmp_path, shop), over(model, earlier.items, shop)):
        assert alike(before, readings(other, shop, names, earlier.cutoff), within=1e-5)


def test_items_that_went_change_no_reading_without_them(
    model: Model, shop: Sequences, earlier: Sequences, tmp_path: Path
) -> None:
    save(model, shop, tmp_path)
    names = earlier.customers.tolist()
    before = readings(model, shop, names, earlier.cutoff)
    after = readings(load(tmp_path, earlier), earlier, names, earlier.cutoff)
    assert alike(before, after, within=1e-5)


def test_an_item_never_seen_has_no_residual_and_the_average_popularity(
    shop: Sequences, earlier: Sequences
) -> None:
    model = stirred(trained(earlier))
    moved = over(model, earlier.items, shop)
    unseen = 1 + np.flatnonzero(~np.isin(shop.items, earlier.items))
    assert len(unseen)
    assert torch.all(moved.items.gate[unseen] == 0)
    mean = model.items.bias[1:].mean()
    assert torch.allclose(moved.items.bias[unseen], mean.expand(len(unseen)))


def test_a_kind_of_event_never_seen_is_read_as_unknown(
    model: Model, shop: Sequences, tmp_path: Path
) -> None:
    save(model, shop, tmp_path)
    kinds = tuple("quiz_finished" if kind == "item_viewed" else kind for kind in shop.kinds)
    other = replace(shop, kinds=kinds)
    names = shop.customers.tolist()
    before = readings(model, shop, names, shop.cutoff)
    after = readings(load(tmp_path, other), other, names, shop.cutoff)
    assert np.all(np.isfinite(after.log_rate))
    assert not alike(before, after, within=1e-3)


def test_a_checkpoint_half_written_leaves_the_one_before(
    shop: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resume.pt"
    training = training_of(shop)
    training.step = 3
    save_training(training, path)
    whole = path.read_bytes()

    def full_disk(content: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full_disk)
        training.step = 4
        with pytest.raises(OSError, match="no space"):
            save_training(training, path)
    assert path.read_bytes() == whole
    assert resume(TINY, vocabulary_of(shop), path).step == 3
    save_training(training, path)          # and what was left behind is in nobody's way
    assert resume(TINY, vocabulary_of(shop), path).step == 4


def test_weights_from_before_shops_were_described_add_nothing_of_them(
    model: Model, shop: Sequences, tmp_path: Path
) -> None:
    save(model, shop, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    older = {name: tensor for name, tensor in tensors.items() if not name.startswith("shop.")}
    assert len(older) < len(tensors)
    save_file(older, tmp_path / "model.safetensors")
    loaded = load(tmp_path, shop)
    assert torch.all(loaded.shop(torch.ones(1, loaded.shop[0].in_features)) == 0)
    names = shop.customers.tolist()
    # a model of one shop does without its description, so the answers are the same
    assert alike(
        readings(model, shop, names, shop.cutoff), readings(loaded, shop, names, shop.cutoff)
    )


def test_settings_that_came_later_take_their_defaults(
    model: Model, shop: Sequences, tmp_path: Path
) -> None:
    save(model, shop, tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    del told["train"]["shop_dropout"], told["train"]["bfloat16"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    assert load(tmp_path, shop).config == model.config


def of_a_newer_version(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["train"]["heads_up"] = 3
    (folder / "config.json").write_text(json.dumps(told))


def of_another_width(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["train"]["width"] = 64
    (folder / "config.json").write_text(json.dumps(told))


def of_fewer_items(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["items"] = told["items"][1:]
    (folder / "config.json").write_text(json.dumps(told))


def of_more_kinds(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    told["kinds"] = [*told["kinds"], "quiz_finished"]
    (folder / "config.json").write_text(json.dumps(told))


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["hazard.weight"]
    save_file(tensors, folder / "model.safetensors")


def with_a_tensor_too_many(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"returns.weight": torch.ones(2)}, folder / "model.safetensors")


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])


def without_description(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_a_broken_description(folder: Path) -> None:
    (folder / "config.json").write_text('{"train": {')


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (of_a_newer_version, "newer habitue.*heads_up"),
        (of_another_width, "size mismatch"),
        (of_fewer_items, "items, and has weights for"),
        (of_more_kinds, "kinds of events, and has weights for"),
        (without_a_tensor, "hazard.weight"),
        (with_a_tensor_too_many, "returns.weight"),
        (cut_short, "cannot be used"),
        (without_description, "config.json"),
        (with_a_broken_description, "cannot be used"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_to_do(
    model: Model,
    shop: Sequences,
    tmp_path: Path,
    harm: Callable[[Path], None],
    told: str,
) -> None:
    save(model, shop, tmp_path)
    harm(tmp_path)
    with pytest.raises(BadModel, match=told) as caught:
        load(tmp_path, shop)
    assert "hint: `habitue train`" in str(caught.value)
    assert "Traceback" not in str(caught.value)
