"""What answers for a shop as of an instant: a version it published, or the weights that ship.

A version is the weights, the calibration and the recommender's mixture of one shop up to a cutoff.
Before its first version, and where a starter is asked for by name, the weights that ship answer,
calibrated on the shop's own closed window where it has one.
"""

# V items
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from habitue.config import HERE, Launch
from habitue.evaluation import learn_recommender
from habitue.lake.tables import Lake
from habitue.model import checkpoint
from habitue.model.launch import over
from habitue.model.starter import Seen, Starter, open_starter, refuse_seen
from habitue.predictions.calibrate import Calibration
from habitue.predictions.learn import Learnt, Trained, corpus_of
from habitue.recommendations.candidates import past_of
from habitue.recommendations.newcomers import with_newcomers
from habitue.recommendations.ranking import Mixture, Weights
from habitue.recommendations.recommend import FittedRecommender
from habitue.recommendations.rules import Rules, shown
from habitue.registry import CHAMPION, Registry, Saw, Version
from habitue.sequences.build import Sequences, build_sequences, instant, microseconds
from habitue.transfer.adapt import FROM_NOTHING, Adapted, starter_for, unadapted
from habitue.transfer.shelf import SHELF, is_starter
from habitue.transfer.standing import Standing, standing_of

CALIBRATION, MIXTURE, ORIGIN = "calibration.json", "mixture.json", "origin.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A shop, where its events and its models are, and the weights that it may begin from."""

    lake: Lake
    registry: Registry
    shop: str
    shelf: Path = SHELF


@dataclass(frozen=True, slots=True)
class AsOf:
    """Until when is looked, with which version (none: the champion), and what was known by when."""

    cutoff: datetime
    version: str | None = None
    known_at: datetime | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the weights of a version come from."""

    way: str
    starter: str | None = None
    costs: dict[str, float] = {}           # nats a customer on the closed window, by way
    least_drift: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Weights opened over a shop as of a cutoff."""

    sequences: Sequences
    version: str
    learnt: Learnt
    standing: Standing
    mixed: Callable[[], Mixture]           # the recommender's; learnt when it is wanted

    def recommender(self, rules: Rules) -> FittedRecommender:
        """Ready to answer for any customer, within rules."""
        past = with_newcomers(past_of(self.sequences, self.sequences.cutoff), self.sequences)
        return FittedRecommender(
            mixture=self.mixed(),
            past=past,
            model=self.learnt.trained.item_scores(self.sequences, self.sequences.cutoff),
            shown=shown(self.sequences, past, rules),
        )


def open_as_of(source: Source, as_of: AsOf, launch: Launch = HERE) -> Held:
    """The version that is asked for, or the champion, or before there is one a starter.

    Raises:
        NoSuchModel: nothing of that name was published, or ships.
        SawTheFuture: what was asked for, or all that ships, saw the shop after the cutoff.
    """
    found = None
    if not from_the_shelf(source, as_of.version):
        found = source.registry.version(source.shop, as_of.version)
        source.registry.refuse_future(found.version, source.shop, as_of.cutoff)
    known = None if as_of.known_at is None else microseconds(as_of.known_at)
    sequences = build_sequences(
        source.lake,
        source.shop,
        cutoff=microseconds(as_of.cutoff),
        known_at=known,
        over=partial(over, launch=launch),
    )
    if found is not None:
        return _published(sequences, found, source.registry.texts)
    return _shipped(sequences, as_of.version, source.shelf)


def from_the_shelf(source: Source, version: str | None) -> bool:
    """Whether weights that ship are meant: by name, or because the shop has none of its own."""
    if version in (None, CHAMPION):
        return CHAMPION not in source.registry.aliases(source.shop)
    return is_starter(version, source.shelf)


def name_of(starter: Starter) -> str:
    """A starter's name and weights, as predictions name their version."""
    digest = hashlib.blake2b(digest_size=4)
    for tensor in starter.tensors.values():
        digest.update(tensor.numpy().tobytes())
    return f"{starter.name}-{digest.hexdigest()}"


def origin_of(adapted: Adapted) -> Origin:
    """What a version keeps of where it comes from."""
    return Origin(
        way=adapted.way,
        starter=None if adapted.starter is None else adapted.starter.name,
        costs=adapted.costs,
        least_drift=adapted.learnt.least_drift,
    )


def origin_in(folder: Path) -> Origin:
    """Where a version comes from; those from before there were starters, from nothing."""
    told = folder / ORIGIN
    if not told.exists():
        return Origin(way=FROM_NOTHING)
    return msgspec.json.decode(told.read_bytes(), type=Origin)


def seen_before(starter: Starter, seen: Seen) -> Saw:
    """What a version that begins from a starter saw by way of it."""
    digest = hashlib.blake2b(seen.sketch.tobytes(), digest_size=16).hexdigest()
    return Saw(
        shop=f"{seen.shop} ({starter.name})",
        fingerprint=digest,
        last_event=instant(seen.last_event),
    )


def _published(sequences: Sequences, version: Version, texts: Path) -> Held:
    folder = version.folder
    model = checkpoint.load(folder, sequences, texts=texts)
    calibration = msgspec.json.decode((folder / CALIBRATION).read_bytes(), type=Calibration)
    trained = Trained(model=model, corpus=corpus_of(sequences, model), cutoff=sequences.cutoff)
    return Held(
        sequences=sequences,
        version=version.version,
        learnt=Learnt(
            trained=trained,
            calibration=calibration,
            earlier=None,
            least_drift=origin_in(folder).least_drift,
        ),
        standing=standing_of(sequences, own=True),
        mixed=lambda: read_mixture(folder / MIXTURE),
    )


def _shipped(sequences: Sequences, name: str | None, shelf: Path) -> Held:
    if is_starter(name, shelf):
        assert name is not None, "a starter has a name"
        starter = open_starter(name, shelf)
        refuse_seen(starter, sequences, sequences.cutoff)
        learnt = unadapted(starter, sequences)
    else:
        starter, learnt = starter_for(sequences, shelf)
    return Held(
        sequences=sequences,
        version=name_of(starter),
        learnt=learnt,
        standing=standing_of(sequences, own=False),
        mixed=lambda: learn_recommender(learnt, sequences).mixture,
    )


def write_mixture(mixture: Mixture, path: Path) -> None:
    """Keep a recommender's mixture."""
    numbers = {
        "repeat": mixture.weights.repeat.tolist(),
        "new": mixture.weights.new.tolist(),
        "horizons": list(mixture.horizons),
        "recall": mixture.recall,
        "default_recall": mixture.default_recall,
    }
    path.write_text(json.dumps(numbers))


def read_mixture(path: Path) -> Mixture:
    """A mixture that was kept."""
    numbers = json.loads(path.read_text())
    weights = Weights(np.array(numbers["repeat"]), np.array(numbers["new"]))
    return Mixture(
        weights=weights,
        horizons=tuple(numbers["horizons"]),
        recall=numbers["recall"],
        default_recall=numbers["default_recall"],
    )
