"""The verbs `ask` and `embeddings`: any question about the future, and what the model knows.

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
from habitue.errors import BadSetting, SawTheFuture
from habitue.evaluation import Progress, step_progress
from habitue.lake import query
from habitue.lake.schema import TABLES, TIME
from habitue.model import checkpoint
from habitue.model.backbone import Model
from habitue.predictions.probes import blocks
from habitue.predictions.probes.answer import Answer, Judged, answer
from habitue.predictions.probes.happened import find
from habitue.predictions.probes.language import Target
from habitue.predictions.probes.lessons import Past
from habitue.predictions.probes.reading import Reading, known_items
from habitue.predictions.score import anchors
from habitue.publishing import ANSWER, AsOf, Source, fingerprint, keep
from habitue.registry import Version
from habitue.sequences.build import (
    Sequences,
    build_sequences,
    instant,
    microseconds,
    upto,
)
from habitue.sequences.snapshots import take_snapshots
from habitue.transfer.adapt import made_again
from habitue.transfer.levels import Training
from habitue.transfer.opening import Origin, origin_in
from habitue.transfer.standing import INSUFFICIENT, Standing, standing_of

TRIALS = "trials"                          # the folder of a workspace that keeps them
MOST_TRIALS = 8                            # kept; the oldest go first
CUSTOMERS, ITEMS = "customer", "item"      # of whom there are embeddings
_ROWS_AT_ONCE = 50_000                     # kept in the lake

# one row per embedding of a version that the lake holds
_HELD = "SELECT {of}, anchor FROM {of}_embeddings WHERE version = ? AND width = ?"


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
    shop = Reading(sequences, take_snapshots(sequences))
    model = checkpoint.load(found.folder, sequences, texts=source.registry.texts)
    told = answer(
        Past(target, sequences, shop.snapshots, happened),
        trial=lambda at: shop.embed(trial(source, found, sequences, at, progress)),
        embed=shop.embed(model),
        seed=seed,
    )
    anchor = anchors(shop.corpus(model), told.customer, sequences.cutoff)
    table = rows_of(told, target, sequences, found.version, anchor)
    if now is not None and as_of.known_at is None and not told.missing:
        keep(source, table, now)
    return Reply(table, told.judged, told.method, told.missing)


def trial(
    source: Source, version: Version, sequences: Sequences, at: int, progress: Progress | None
) -> Model:
    """A model like a version that has seen nothing after an instant (µs)."""
    try:
        source.registry.refuse_future(version.version, source.shop, instant(at))
    except SawTheFuture:
        told = json.loads((version.folder / checkpoint.CONFIG).read_text())
        origin, past = origin_in(version.folder), upto(sequences, at)
        training = Training(config=TrainConfig(**told["train"]), progress=step_progress(progress))
        folder = trial_of(source.registry.workspace, past, training, origin, source.shelf)
        return checkpoint.load(folder, sequences, texts=source.registry.texts)
    return checkpoint.load(version.folder, sequences, texts=source.registry.texts)


def embeddings(
    source: Source,
    as_of: AsOf,
    *,
    width: int = 256,
    of: str = CUSTOMERS,
    now: datetime | None = None,
) -> pa.Table:
    """What a version knows of every customer or item; kept in the lake when `now` is told.

    Columns: customer or item, anchor, cutoff, version, and `embedding`, `width` times float16.

    Raises:
        NoSuchModel, SawTheFuture: no version can answer as of the cutoff.
        BadSetting: no such width.
    """
    if width not in blocks.WIDTHS or of not in (CUSTOMERS, ITEMS):
        raise BadSetting(
            f"no embeddings of {of}s {width} wide\nhint: of customers or items,"
            f" {', '.join(map(str, blocks.WIDTHS))} wide"
        )
    found = source.registry.version(source.shop, as_of.version)
    source.registry.refuse_future(found.version, source.shop, as_of.cutoff)
    known_at = None if as_of.known_at is None else microseconds(as_of.known_at)
    sequences = build_sequences(
        source.lake, source.shop, cutoff=microseconds(as_of.cutoff), known_at=known_at
    )
    basis = _basis(source, found, sequences, width, of)
    shop = Reading(sequences, take_snapshots(sequences))
    model = checkpoint.load(found.folder, sequences, texts=source.registry.texts)
    if of == ITEMS:
        names, anchor = sequences.items, np.full(len(sequences.items), sequences.cutoff)
        known = known_items(model, sequences)
    else:
        customer = np.flatnonzero(np.diff(sequences.offsets) > 0)
        names = sequences.customers[customer]
        anchor = anchors(shop.corpus(model), customer, sequences.cutoff)
        known = shop.known(model, customer, anchor, sequences.cutoff)
    flat = pa.array(basis.embed(known).ravel())
    count = len(names)
    table = pa.table(
        {
            of: pa.array(names, pa.string()),
            "anchor": pa.array(anchor, TIME),
            "cutoff": pa.array(np.full(count, sequences.cutoff), TIME),
            "version": pa.repeat(found.version, count),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, width),
        }
    )
    if now is not None and as_of.known_at is None:
        _keep(source, table, width, of, now)
    return table


def _basis(
    source: Source, version: Version, sequences: Sequences, width: int, of: str
) -> blocks.Basis:
    """How a version's blocks are brought to a width, from its own past alone; made once."""
    shop = hashlib.blake2b(source.shop.encode(), digest_size=6).hexdigest()

    def write(path: Path) -> None:
        past = upto(sequences, microseconds(version.cutoff))
        model = checkpoint.load(version.folder, past, texts=source.registry.texts)
        if of == ITEMS:
            blocks.fit_basis(known_items(model, past), width, seed=0).save(path)
            return
        known = Reading(past, take_snapshots(past)).sample(model)
        blocks.fit_basis(known, width, seed=0).save(path)

    name = f"embedding-{of}-{width}-{shop}.npz"
    return blocks.load(source.registry.derive(version.version, name, write))


def _keep(source: Source, table: pa.Table, width: int, of: str, now: datetime) -> None:
    """Append the embeddings that the lake does not hold yet, by whose, version, anchor, width."""
    version = table["version"][0].as_py() if len(table) else ""
    held = query.read(source.lake, _HELD.format(of=of), [version, width], shop=source.shop)
    fresh = table.drop_columns("embedding").append_column("row", pa.array(range(len(table))))
    fresh = fresh.join(held, [of, "anchor"], join_type="left anti")
    rows = np.sort(fresh["row"].to_numpy())
    if not len(rows):
        return
    name = f"{of}_embeddings"
    told = {"shop": source.shop, "width": width, "received": now}

    def chunk(places: np.ndarray) -> pa.Table:
        part = table.take(pa.array(places))
        numbers = part["embedding"].combine_chunks().flatten().to_numpy().astype("<f2")
        bytes_of = [row.tobytes() for row in numbers.reshape(len(part), width)]
        columns = {
            field.name: pa.repeat(pa.scalar(told[field.name], field.type), len(part))
            if field.name in told
            else pa.array(bytes_of, field.type)
            if field.name == "embedding"
            else part[field.name]
            for field in TABLES[name].schema
            if field.name != "bucket"
        }
        return pa.table(columns)

    cuts = range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE)
    source.lake.append({name: (chunk(places) for places in np.split(rows, cuts))})


def trial_of(
    workspace: Path, past: Sequences, training: Training, origin: Origin, shelf: Path
) -> Path:
    """The folder of a model of a shop's past, trained now unless it was before."""
    told = f"{fingerprint(past)} {past.cutoff} {training.config} {origin.way} {origin.starter}"
    name = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    folder = workspace / TRIALS / name
    if not folder.exists():
        draft = folder.with_name(f".{name}")
        shutil.rmtree(draft, ignore_errors=True)
        trained = made_again(origin.way, origin.starter, past, training, shelf)
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
    standing = standing_of(sequences, own=True)
    if told.missing:
        standing = Standing(INSUFFICIENT, told.missing)
    columns = {
        "customer": pa.array(sequences.customers[told.customer], pa.string()),
        "question": pa.repeat(str(target), count),
        "horizon_days": np.full(count, target.horizon_days),
        "value": pa.array(interval.value, pa.float64(), from_pandas=True),
        "low": pa.array(interval.low, pa.float64(), from_pandas=True),
        "high": pa.array(interval.high, pa.float64(), from_pandas=True),
        "date": pa.nulls(count, ANSWER.field("date").type),
        "status": pa.repeat(standing.status, count),
        "missing": pa.repeat(pa.scalar(standing.missing, pa.string()), count),
        "anchor": pa.array(anchor, ANSWER.field("anchor").type),
        "cutoff": pa.array(np.full(count, sequences.cutoff), ANSWER.field("cutoff").type),
        "version": pa.repeat(version, count),
    }
    return pa.table(columns, schema=ANSWER)
