"""A shop that is told its history piece by piece, and the audiences that are followed in it."""

import random
import struct
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from habitue.audiences.compile import asked
from habitue.audiences.language.parsing import parse
from habitue.audiences.live import tables
from habitue.audiences.live.alike.places import Places
from habitue.audiences.live.definitions import Defined, taken, too_early
from habitue.audiences.live.facts import Predictions, Shop
from habitue.audiences.live.keeping import Keeper
from habitue.audiences.lookalike import unit
from habitue.events import Noun
from habitue.lake.live import store
from habitue.lake.live.told import instant, microseconds, told_by
from habitue.lake.profiles import Profiles
from habitue.predictions.scores import drift
from tests.audiences.histories import Embedded, History, Predicted
from tests.lake.small import day


class Living:
    """The live state of shop acme, with a clock that is told."""

    def __init__(self, path: Path, zone: str = "UTC") -> None:
        self.zone = zone
        self.now = microseconds(day(0))
        self.path = path
        self.steps = 1_000                 # that an audience is applied in when it is saved
        self.sentences: dict[str, str] = {}
        self.since: dict[str, int] = {}
        self.predictions: dict = {}
        self.versions: dict = {}
        self.places: Places | None = None
        self.meanings: dict = {}           # as whoever follows keeps them
        self.nouns: list[Noun] = []
        self._open()

    def _open(self) -> None:
        self.profiles = Profiles(self.path)
        self.keeper = Keeper(lambda: self.now, drift.opened)
        with self.profiles.writing() as connection:
            tables.make(connection)
        self.define()

    def restart(self) -> None:
        self.profiles.close()
        self._open()

    def define(self, at: datetime | None = None, **sentences: str | None) -> None:
        """Save or remove audiences, and apply them to everybody."""
        at = self.now if at is None else microseconds(at)
        self.now = max(self.now, at)
        for name, sentence in sentences.items():
            self.sentences.pop(name, None)
            self.since[name] = at
            if sentence is not None:
                self.sentences[name] = sentence
        with self.profiles.writing() as connection:
            scoring = self.keeper.readings.look(connection).get("acme")
        wanted = set().union(*(asked(parse(one)) for one in self.sentences.values()))
        scored = frozenset(one for one in wanted if scoring and scoring.reading.answers(*one))
        told = Defined(
            shop="acme", versions=self.versions,
            sentences=dict(self.sentences), since=dict(self.since),
            scored_since=scoring.since if scoring else 0, meanings=self.meanings,
            settings=Shop(
                currency="GBP", zone=self.zone, predictions=self.predictions, scored=scored,
                places=self.places,
            ),
        )  # fmt: skip
        with self.profiles.writing() as connection:
            while self.keeper.shops and too_early(connection, [told]):
                self._step(connection)
            self.keeper.follow(connection, taken(connection, [told], self.now))
            self._apply(connection)

    def publish(self, rows: Sequence[Predicted], embedded: Sequence[Embedded] = ()) -> None:
        """Take the sets of predictions that are in force by now, where they are others.

        And the embeddings.
        """
        now = instant(self.now)
        places = placed([one for one in embedded if one.anchor <= now and one.received <= now])
        is_moved = (places and places.named) != (self.places and self.places.named)
        if is_moved:
            self.places = places
        sets: dict = {}
        for one in rows:
            if one.cutoff <= now and one.received <= now:
                told = (one.cutoff, one.received, one.version)
                sets.setdefault((one.question, int(one.horizon_days)), {}).setdefault(
                    told, {}
                )[one.customer] = one.value
        latest = {key: max(held) for key, held in sets.items()}
        versions = {key: told[2] for key, told in latest.items()}
        if versions == self.versions and not is_moved:
            return
        self.versions = versions
        self.predictions = {
            key: Predictions(
                cutoff=microseconds(cutoff),
                visible=microseconds(max(cutoff, received)),
                values={
                    who: value
                    for who, value in sets[key][cutoff, received, version].items()
                    if value is not None
                },
            )
            for key, (cutoff, received, version) in latest.items()
        }
        self.define()

    def tell(self, nouns: Sequence[Noun]) -> None:
        """Tell what was received last at the end."""
        self.nouns += nouns
        received = max(microseconds(one.received) for one in nouns)
        self.now = max(self.now, received)
        with self.profiles.writing() as connection:
            touched = store.take(connection, told_by(nouns))
            self.keeper.told(connection, touched, received)

    def wait(self, until: datetime) -> None:
        """Let time pass."""
        self.now = max(self.now, microseconds(until))
        with self.profiles.writing() as connection:
            while self.keeper.fire(connection, self.now):
                pass
            self._apply(connection)

    def _apply(self, connection) -> None:
        """Apply what is new to everybody, or to as many as `steps` allow."""
        for _ in range(self.steps):
            if not self._step(connection):
                return

    def _step(self, connection) -> bool:
        """Apply what is new to some; all that was received by now was told."""
        is_more = self.keeper.backfill(connection)
        while self.keeper.due(connection) == 0 and self.keeper.fire(connection, self.now):
            pass
        return is_more

    def members(self, name: str) -> list[str]:
        sql = """SELECT keys.key FROM standing JOIN keys ON keys.id = standing.customer
            JOIN followed ON followed.id = standing.audience
            WHERE followed.name = ? AND joined IS NOT NULL"""
        with self.profiles.writing() as connection:
            return sorted(key for (key,) in connection.execute(sql, [name]))

    def changes(self, *, after: int = 0) -> list[tuple]:
        sql = """SELECT audience, customer, change, at, detected_at, cause FROM changes
            WHERE sequence > ? ORDER BY sequence"""
        with self.profiles.writing() as connection:
            return [
                (*row[:3], instant(row[3]), instant(row[4]), row[5])
                for row in connection.execute(sql, [after])
            ]

    def folded(self, name: str, at: datetime | None = None) -> list[str]:
        """Who is in an audience by the changes alone, up to an instant."""
        inside = set()
        for audience, customer, change, when, _, _ in self.changes():
            if audience == name and (at is None or when <= at):
                (inside.add if change == "entered" else inside.discard)(customer)
        return sorted(inside)


def placed(rows: Sequence[Embedded]) -> Places | None:
    """Where keys are by what was kept last; none: nothing was."""
    if not rows:
        return None
    last = max(rows, key=lambda one: (one.received, len(one.vector)))
    told: dict[str, Embedded] = {}
    for one in sorted(rows, key=lambda one: (one.anchor, one.received)):
        if (one.version, len(one.vector)) == (last.version, len(last.vector)):
            told[one.customer] = one
    keys, width = sorted(told), len(last.vector)
    raw = pa.chunked_array([[struct.pack(f"<{width}e", *told[key].vector) for key in keys]])
    times = [(microseconds(told[key].anchor), microseconds(told[key].received)) for key in keys]
    return Places(last.version, keys, times, unit(raw, width))


def batches(told: History, seed: int) -> list[list[Noun]]:
    """Everything in the order in which it was received, in pieces, some of it twice."""
    draw = random.Random(seed)
    nouns = sorted(
        [*told.events, *told.items, *told.changes, *told.consents], key=lambda one: one.received
    )
    pieces, place = [], 0
    while place < len(nouns):
        size = draw.choice([1, 1, 2, 5, 20])
        piece = nouns[place : place + size]
        pieces.append(piece + draw.choices(nouns[: place + 1], k=draw.choice([0, 0, 1])))
        place += size
    return pieces
