"""The verb `ask`: any question about the future, answered for every customer.

A published version gives the embeddings that answer. How good the answer is can only be said by a
model that has not seen the windows that judge it: the version itself where it is old enough, else
a trial, trained like it on what happened before them and kept for the next question.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from habitue.config import TrainConfig
from habitue.errors import SawTheFuture
from habitue.evaluation import Progress, step_progress
from habitue.lake import query
from habitue.model import checkpoint
from habitue.model.backbone import Model
from habitue.model.embed import embed
from habitue.predictions.learn import train_model
from habitue.predictions.probes.answer import Answer, Judged, answer
from habitue.predictions.probes.happened import find
from habitue.predictions.probes.language import Target
from habitue.predictions.probes.lessons import Embed, Past
from habitue.predictions.score import anchors
from habitue.publishing import ANSWER, AsOf, Source, fingerprint, keep, shop_status
from habitue.registry import Version
from habitue.sequences.batch import Corpus
from habitue.sequences.build import Sequences, build_sequences, instant, microseconds, upto
from habitue.sequences.snapshots import Snapshots, take_snapshots

TRIALS = "trials"                          # the folder of a workspace that keeps them
MOST_TRIALS = 8                            # kept; the oldest go first


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a target: the rows of everyone, and how it did before."""

    table: pa.Table                        # publishing.ANSWER, one row per customer
    judged: tuple[Judged, ...]
    method: str                            # that was chosen
    missing: str                           # what an answer would need; "" where there is one


def ask(
    source: Source,
    as_of: AsOf,
    target: Target,
    *,
    now: datetime | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Reply:
    """Answer a target for everyone; kept in the lake's `predictions` when `now` is told.

    Raises:
        NoSuchModel, SawTheFuture: no version can answer as of the cutoff.
        BadTarget: the shop has no such event, or its events no such field.
    """
    found = source.registry.version(source.shop, as_of.version)
    source.registry.refuse_future(found.version, source.shop, as_of.cutoff)
    known = None if as_of.known_at is None else microseconds(as_of.known_at)
    sequences = build_sequences(
        source.lake, source.shop, cutoff=microseconds(as_of.cutoff), known_at=known
    )
    read = partial(
        query.read, source.lake, shop=source.shop, cutoff=as_of.cutoff, known_at=as_of.known_at
    )
    happened = find(target, sequences, read)
    shop = Watched(source, sequences, take_snapshots(sequences))
    model = checkpoint.load(found.folder, sequences)
    told = answer(
        Past(target, sequences, shop.snapshots, happened),
        trial=lambda at: shop.embed(shop.trial(found, at, progress)),
        embed=shop.embed(model),
        seed=seed,
    )
    anchor = anchors(shop.corpus(model), told.customer, sequences.cutoff)
    table = rows_of(told, target, sequences, found.version, anchor)
    if now is not None and as_of.known_at is None and not told.missing:
        keep(source, table, now)
    return Reply(table, told.judged, told.method, told.missing)


@dataclass(frozen=True, slots=True)
class Watched:
    """A shop as of a cutoff, as models read it."""

    source: Source
    sequences: Sequences
    snapshots: Snapshots

    def corpus(self, model: Model) -> Corpus:
        """The shop as one model reads it."""
        return Corpus(
            self.sequences,
            self.snapshots,
            max_events=model.config.max_events,
            kinds=model.kinds,
        )

    def embed(self, model: Model) -> Embed:
        """The embeddings of a model over this shop: query states at anchors."""
        corpus = self.corpus(model)

        def states(customer: np.ndarray, at: np.ndarray) -> np.ndarray:
            return embed(model, corpus, customer, anchors(corpus, customer, at))

        return states

    def trial(self, version: Version, at: int, progress: Progress | None) -> Model:
        """A model like a version that has seen nothing after an instant (µs)."""
        end = instant(at)
        try:
            self.source.registry.refuse_future(version.version, self.source.shop, end)
        except SawTheFuture:
            pass
        else:
            return checkpoint.load(version.folder, self.sequences)
        told = json.loads((version.folder / checkpoint.CONFIG).read_text())
        past = upto(self.sequences, at)
        config, workspace = TrainConfig(**told["train"]), self.source.registry.workspace
        folder = trial_of(workspace, past, config, progress)
        return checkpoint.load(folder, self.sequences)


def trial_of(
    workspace: Path, past: Sequences, config: TrainConfig, progress: Progress | None
) -> Path:
    """The folder of a model of a shop's past, trained now unless it was before."""
    name = hashlib.blake2b(
        f"{fingerprint(past)} {past.cutoff} {config}".encode(), digest_size=8
    ).hexdigest()
    folder = workspace / TRIALS / name
    if not folder.exists():
        draft = folder.with_name(f".{name}")
        shutil.rmtree(draft, ignore_errors=True)
        trained = train_model(past, config, "trial", step_progress(progress))
        draft.mkdir(parents=True)
        checkpoint.save(trained.model, past, draft)
        draft.replace(folder)
        held = sorted(folder.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for old in held[:-MOST_TRIALS]:
            shutil.rmtree(old)
    return folder


def rows_of(
    told: Answer, target: Target, sequences: Sequences, version: str, anchor: np.ndarray
) -> pa.Table:
    """The rows of publishing.ANSWER of everyone who was asked about; `anchor` (C,) µs."""
    count, interval = len(told.customer), told.interval
    status = "insufficient" if told.missing else shop_status(sequences)
    columns = {
        "customer": pa.array(sequences.customers[told.customer], pa.string()),
        "question": pa.repeat(str(target), count),
        "horizon_days": np.full(count, target.horizon_days),
        "value": pa.array(interval.value, pa.float64(), from_pandas=True),
        "low": pa.array(interval.low, pa.float64(), from_pandas=True),
        "high": pa.array(interval.high, pa.float64(), from_pandas=True),
        "date": pa.nulls(count, ANSWER.field("date").type),
        "status": pa.repeat(status, count),
        "anchor": pa.array(anchor, ANSWER.field("anchor").type),
        "cutoff": pa.array(np.full(count, sequences.cutoff), ANSWER.field("cutoff").type),
        "version": pa.repeat(version, count),
    }
    return pa.table(columns, schema=ANSWER)
