"""Weights on disk: published versions that any catalogue can load, and places to resume from.

A version is `config.json` and `model.safetensors`, as on a model hub. Items are kept by code: a
catalogue that has changed since takes the residuals of the items it still has, and content alone
for the rest.
"""

# V items · D width
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from habitue.config import TrainConfig
from habitue.errors import BadModel, BadSetting
from habitue.model.backbone import Model
from habitue.model.inputs import Vocabulary, make_vocabulary
from habitue.model.texts.vectors import item_vectors
from habitue.model.train import Training, begin
from habitue.sequences.build import Sequences

WEIGHTS, CONFIG = "model.safetensors", "config.json"
ITEM_ROWS = ("items.residual.weight", "items.bias", "items.gate")


def save(model: Model, sequences: Sequences, folder: Path) -> None:
    """Write the weights, and what they mean, into an existing folder."""
    described = {
        "architecture": "habitue",
        "train": asdict(model.config),
        "kinds": list(model.kinds),
        "items": [str(item) for item in sequences.items],
    }
    tensors = {name: t.contiguous() for name, t in model.state_dict().items()}
    save_file(tensors | {"items.gate": model.items.gate.contiguous()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(described, indent=1))


def load(folder: Path, sequences: Sequences, *, texts: Path | None = None) -> Model:
    """The model of a folder, over the items of `sequences`.

    In the folder `texts` the vectors of item texts are kept, where a sentence encoder reads them.

    Raises:
        BadModel: the folder's files cannot be read, do not belong together, or are of a version
            of habitue whose models differ.
        BadSetting: the encoder that it was trained with is not there, or another one is.
    """
    described, tensors = _read(folder)
    try:
        config = TrainConfig(**described["train"])
        kinds, items = tuple(described["kinds"]), described["items"]
        _refuse_mismatch(tensors, kinds, items)
        text = item_vectors(config.text_encoder, sequences, kept=texts)
        return _over(config, tensors, kinds, items, sequences, text)
    except BadSetting:
        raise                              # of the encoder: it says what to do
    except (TypeError, KeyError, RuntimeError) as error:
        why = str(error).splitlines()
        raise BadModel(folder, " ".join(line.strip() for line in why[:2])) from error
    except ValueError as error:
        raise BadModel(folder, str(error)) from error


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A folder's description and weights."""
    try:
        described = json.loads((folder / CONFIG).read_text())
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadModel(folder, str(error)) from error
    told = described.get("train", {}) if isinstance(described, dict) else {}
    newer = sorted(set(told) - {field.name for field in fields(TrainConfig)})
    if newer:
        raise BadModel(folder, f"a newer habitue wrote it, with settings named {', '.join(newer)}")
    return described, tensors


def _refuse_mismatch(
    tensors: dict[str, torch.Tensor], kinds: tuple[str, ...], items: list[str]
) -> None:
    """Raise ValueError where names and rows of weights are not as many."""
    for what, named, rows in (
        ("kinds of events", len(kinds) + 2, len(tensors["kind.weight"])),
        ("items", len(items) + 1, len(tensors["items.bias"])),
    ):
        if named != rows:
            raise ValueError(f"it names {named} {what}, and has weights for {rows}")


def over(model: Model, items: np.ndarray, sequences: Sequences) -> Model:
    """The same weights over another catalogue; `items` (V,) are those the model was trained on."""
    tensors = {name: t.clone() for name, t in model.state_dict().items()}
    tensors["items.gate"] = model.items.gate.clone()
    text = item_vectors(model.config.text_encoder, sequences)
    names = [str(item) for item in items]
    return _over(model.config, tensors, model.kinds, names, sequences, text)


def _over(
    config: TrainConfig,
    tensors: dict[str, torch.Tensor],
    kinds: tuple[str, ...],
    items: list[str],
    sequences: Sequences,
    text: torch.Tensor | None,
) -> Model:
    vocabulary = make_vocabulary(
        sequences,
        text_buckets=config.text_buckets,
        kinds=kinds,
        query_edges=tensors["query_encoding.edges"],
        text=text,
    )
    model = Model(config, vocabulary)
    rows = _rows_of(sequences.items, items)
    for name in ITEM_ROWS:
        tensors[name] = _rearranged(tensors[name], rows)
    gate = tensors.pop("items.gate")
    # weights from before shops were described have none of these, which then add nothing
    undescribed = {n: t for n, t in model.state_dict().items() if n.startswith("shop.")}
    model.load_state_dict(undescribed | tensors)
    model.items.gate.copy_(gate)
    return model.eval()


def save_training(training: Training, path: Path) -> None:
    """A place to resume from, replaced in one step."""
    draft = path.with_suffix(".draft")
    content = {
        "model": training.model.state_dict(),
        "optimiser": training.optimiser.state_dict(),
        "step": training.step,
        "tokens": training.tokens,
    }
    with draft.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def resume(
    config: TrainConfig, vocabulary: Vocabulary, path: Path, device: str = "cpu"
) -> Training:
    """The training that `save_training` wrote; of the same configuration and shop."""
    training = begin(fresh(config, vocabulary).to(device))
    content = torch.load(path, weights_only=True, map_location=device)
    training.model.load_state_dict(content["model"])
    training.optimiser.load_state_dict(content["optimiser"])
    training.step, training.tokens = content["step"], content["tokens"]
    return training


def fresh(config: TrainConfig, vocabulary: Vocabulary) -> Model:
    """A model with the initial weights of its seed."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Model(config, vocabulary)


def _rows_of(items: np.ndarray, trained: list[str]) -> np.ndarray:
    """(V + 1,) row of each item in the trained tables; 0, the unknown one, where it has none."""
    place = {item: row for row, item in enumerate(trained, start=1)}
    return np.array([0, *(place.get(item, 0) for item in items)])


def _rearranged(table: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    taken = table[torch.from_numpy(rows)].clone()
    # an item without evidence of its own starts where the average item stands
    unknown = torch.from_numpy(rows == 0)
    if table.ndim == 1 and len(table) > 1:
        taken[unknown] = table[1:].mean()
    return taken
