"""Starter weights: what holds of most shops, for a shop that has not trained yet.

A starter is `config.json` and `model.safetensors` like any version, but over no items, and it says
of every shop that it was trained on how far it saw it. A shop is known again by a sketch of its
orders, whatever it is called, whether or not more has happened since, and also when only some of
its customers are asked about.
"""

# V items · N orders that follow another · K hashes of a sketch
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from habitue.config import TrainConfig
from habitue.errors import BadSetting, SawTheFuture
from habitue.model.backbone import Model
from habitue.model.checkpoint import CONFIG, ITEM_ROWS, WEIGHTS
from habitue.model.inputs import make_vocabulary
from habitue.model.pretrain import start_at_popularity
from habitue.model.texts.vectors import item_vectors
from habitue.sequences.build import Sequences, instant

SKETCH = 1_024                             # hashes kept of a shop's orders, the smallest
SAME_SHOP = 0.5                            # share of hashes in common that makes it the same
LEAST_COMMON = 3                           # and so many of them: two are a coincidence
_SEEN = "seen.{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A shop that a starter was trained on."""

    shop: str
    last_event: int                        # µs
    sketch: np.ndarray                     # (K,) uint64, ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Weights that are of no shop."""

    name: str
    config: TrainConfig
    kinds: tuple[str, ...]
    tensors: dict[str, torch.Tensor]
    seen: tuple[Seen, ...]

    def over(self, sequences: Sequences) -> Model:
        """The weights over a shop's items, which are known by content and popularity alone."""
        vocabulary = make_vocabulary(
            sequences,
            text_buckets=self.config.text_buckets,
            kinds=self.kinds,
            query_edges=self.tensors["query_encoding.edges"],
            text=item_vectors(self.config.text_encoder, sequences),
        )
        model = Model(self.config, vocabulary)
        model.load_state_dict(self.tensors, strict=False)
        torch.nn.init.zeros_(model.items.residual.weight)
        start_at_popularity(model, vocabulary)
        return model.eval()


def sketch(sequences: Sequences) -> np.ndarray:
    """(K,) uint64: the SKETCH smallest hashes of a shop's orders, ascending.

    An order that follows another of its customer is known by both times and both values.
    """
    rows = np.flatnonzero(sequences.is_order)
    owner = sequences.customer_of_event[rows]
    again = np.flatnonzero(np.diff(owner, prepend=-1) == 0) if len(rows) else rows
    now, before = rows[again], rows[again - 1]
    parts = (
        sequences.time[now],
        sequences.time[before],
        np.rint(sequences.value[now] * 100).astype(np.int64),
        np.rint(sequences.value[before] * 100).astype(np.int64),
    )
    mixed = np.full(len(again), 0x9E3779B97F4A7C15, np.uint64)
    for part in parts:
        mixed = _mixed(mixed ^ part.astype(np.uint64))
    return np.unique(mixed)[:SKETCH]


def same_shop(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two sketches are of one shop, or of one shop and a part of it.

    Where both were cut at SKETCH hashes, only the range that both cover is compared.
    """
    if not len(one) or not len(other):
        return False
    reach = min(_reach(one), _reach(other))
    mine, theirs = one[one <= reach], other[other <= reach]
    common = len(np.intersect1d(mine, theirs))
    return common >= LEAST_COMMON and common >= SAME_SHOP * min(len(mine), len(theirs))


def open_starter(name: str, folder: Path) -> Starter:
    """A starter of a folder, by name.

    Raises:
        BadSetting: there is none of that name.
    """
    if not (folder / name / CONFIG).is_file():
        held = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}")))
        raise BadSetting(f"no starter weights named {name!r}\nhint: choose one of {held or 'none'}")
    told = json.loads((folder / name / CONFIG).read_text())
    tensors = load_file(folder / name / WEIGHTS)
    return Starter(
        name=name,
        config=TrainConfig(**told["train"]),
        kinds=tuple(told["kinds"]),
        tensors={key: t.float() for key, t in tensors.items() if not key.startswith("seen.")},
        seen=tuple(
            Seen(
                shop=shop["shop"],
                last_event=shop["last_event"],
                sketch=tensors[_SEEN.format(number)].numpy().view(np.uint64),
            )
            for number, shop in enumerate(told["seen"])
        ),
    )


def save_starter(model: Model, seen: Iterable[Seen], folder: Path) -> None:
    """Write a starter: shared weights at half precision, and what they saw."""
    shops = list(seen)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if name != "query_encoding.edges" else tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if name not in ITEM_ROWS
    }
    for number, shop in enumerate(shops):
        tensors[_SEEN.format(number)] = torch.from_numpy(shop.sketch.view(np.int64))
    save_file(tensors, folder / WEIGHTS)
    told = {
        "architecture": "habitue",
        "train": asdict(model.config),
        "kinds": list(model.kinds),
        "items": [],
        "seen": [{"shop": shop.shop, "last_event": shop.last_event} for shop in shops],
    }
    (folder / CONFIG).write_text(json.dumps(told, indent=1) + "\n")


def refuse_seen(starter: Starter, sequences: Sequences, at: int) -> None:
    """Raise `SawTheFuture` where a starter saw this shop after `at` (µs)."""
    mine = sketch(sequences)
    for shop in starter.seen:
        if shop.last_event > at and same_shop(mine, shop.sketch):
            raise SawTheFuture(
                f"the weights {starter.name!r} have seen the shop {sequences.shop!r}, as"
                f" {shop.shop!r}, up to {instant(shop.last_event):%Y-%m-%d %H:%M} UTC, which is"
                f" after {instant(at):%Y-%m-%d %H:%M} UTC: their answers would be remembered, not"
                " predicted\nhint: name weights that never saw this shop, or a later cutoff"
            )


def _reach(hashes: np.ndarray) -> int:
    """Up to which hash a sketch is complete."""
    return int(hashes[-1]) if len(hashes) >= SKETCH else int(np.iinfo(np.uint64).max)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), on every number."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
