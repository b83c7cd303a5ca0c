"""Imports and compactions that are killed at an instant of our choice, and what they leave behind.

A child is forked from a server that has already imported everything, so that kills land in its
work and not in the start of Python. It tells when a phase of its work begins; phases come again and
again. We wait for the wanted one, then for a random part of the time that it takes undisturbed, and
send SIGKILL.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from habitue.lake import journal
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.small import imported, row, written

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[[Path, Path], None]        # of the lake's folder and a file

# of the kills; most of them where one could tear something
AIMS = {"reading": 0.10, "writing": 0.20, "committing": 0.60, "settled": 0.10}
ROWS = 600                                 # of each file imported
BUCKETS = 2
COMPACTED_EVERY = 25                       # kills, so that the last checks cost as the first
PATIENCE_SECONDS = 60.0
_SHORTER, _LONGER = 0.8, 1.05              # a phase takes, where a kill missed it or met it


@dataclass(frozen=True, slots=True)
class Death:
    """When a child died: the phase that it told of last, and whether it left a journal."""

    phase: str                             # reading, writing, committing, settled or over
    journalled: bool                       # the commit was promised and not yet cleared away


@dataclass(frozen=True, slots=True)
class Held:
    """Order lines in the lake's files, in its receipts, and of events that are there twice."""

    rows: int
    settled: int
    doubled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A killed child, what the lake held before, and what once it was opened again."""

    death: Death
    before: Held
    after: Held
    again: Held                            # after the same work was done to its end
    sent: int = 0                          # rows that the work brings


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Many kills, counted."""

    phases: dict[str, int]                 # kills that landed in each
    journalled: int                        # kills that left a journal to complete
    expected: int                          # rows brought, each once
    found: int
    lost: int                              # rows missing after a kill or after the repetition
    doubled: int
    torn: int                              # kills after which a batch was there in part

    @property
    def kills(self) -> int:
        """How many kills landed."""
        return sum(self.phases.values())


def tally(kills: list[Kill]) -> Tally:
    """The sum of what kills left; the last of them has the totals."""
    last, wholes = kills[-1], [(one.before.rows, one.before.rows + one.sent) for one in kills]
    expected = last.before.rows + last.sent
    return Tally(
        phases=dict(Counter(one.death.phase for one in kills)),
        journalled=sum(one.death.journalled for one in kills),
        expected=expected,
        found=last.again.rows,
        lost=sum(max(one.before.rows + one.sent - one.again.rows, 0) for one in kills)
        + sum(max(one.before.rows - one.after.rows, 0) for one in kills),
        doubled=sum(one.after.doubled + one.again.doubled for one in kills),
        torn=sum(
            one.after.rows not in whole or one.after.rows != one.after.settled
            for one, whole in zip(kills, wholes, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class Course:
    """How work goes undisturbed, by phase; seconds are corrected by what kills meet."""

    turns: dict[str, int]                  # how often a phase comes
    seconds: dict[str, float]              # that it takes each time


def killed_imports(folder: Path, kills: int, seed: int) -> Iterator[Kill]:
    """Import file after file into one lake, killing each import once and then repeating it."""
    rng = random.Random(seed)
    lake, path = Lake(folder / "lake", buckets=BUCKETS), folder / "a.csv"
    imported(lake, _file(path, "first"))
    course = _undisturbed(_import, lake.path, _file(path, "second"))
    landed = attempt = 0
    while landed < kills:
        attempt += 1
        before = held(lake)
        death = _killed(_import, lake.path, _file(path, str(attempt)), course, rng)
        lake = Lake(lake.path, buckets=BUCKETS)          # completes what was promised
        after = held(lake)
        imported(lake, path)
        if death is None:                                # over before its death
            continue
        landed += 1
        yield Kill(death=death, before=before, after=after, again=held(lake), sent=ROWS)
        if landed % COMPACTED_EVERY == 0:
            lake.compact()


def killed_compactions(folder: Path, kills: int, seed: int) -> Iterator[Kill]:
    """Compact one lake again and again, killing each compaction once and then repeating it."""
    rng = random.Random(seed)
    lake, path = Lake(folder / "lake", buckets=BUCKETS), folder / "a.csv"
    for name in ("first", "second", "third"):
        imported(lake, _file(path, name))
    course = _undisturbed(_compact, lake.path, path)
    landed = attempt = 0
    while landed < kills:
        attempt += 1
        for part in range(2):
            imported(lake, _file(path, f"{attempt}-{part}"))
        before = held(lake)
        death = _killed(_compact, lake.path, path, course, rng)
        lake = Lake(lake.path, buckets=BUCKETS)
        after = held(lake)
        lake.compact()
        if death is not None:
            landed += 1
            yield Kill(death=death, before=before, after=after, again=held(lake))


def held(lake: Lake) -> Held:
    """What the files hold, read without the lake's views, and what the receipts say."""
    events = ds.dataset(lake.files("events"), format="parquet").to_table(["digest", "lines"])
    lines = pc.list_value_length(events["lines"])
    of_events = pa.table({"digest": events["digest"], "lines": lines}).group_by("digest")
    first = of_events.aggregate([("lines", "max")])["lines_max"]
    rows = pc.sum(lines).as_py()
    receipts = read(lake, "SELECT sum(appended)::BIGINT AS n FROM receipts", shop="acme")
    return Held(rows, receipts["n"][0].as_py(), rows - pc.sum(first).as_py())


def _file(path: Path, name: str) -> Path:
    """A file of orders of three lines each that no file of another name has."""
    return written(
        path, (row(order=f"{name}-{n // 3}", customer=f"c{n % 97}") for n in range(ROWS))
    )


def _import(folder: Path, path: Path) -> None:
    imported(Lake(folder, buckets=BUCKETS), path)


def _compact(folder: Path, path: Path) -> None:
    Lake(folder, buckets=BUCKETS).compact()


def _killed(
    work: Work, folder: Path, path: Path, course: Course, rng: random.Random
) -> Death | None:
    """Do the work in a child and kill it at some instant of it; None if it was over by then.

    The child is dead on return, and its journal not yet completed.
    """
    aim = rng.choices(list(AIMS), weights=list(AIMS.values()))[0]
    turn, delay = rng.randint(1, course.turns[aim]), rng.uniform(0, course.seconds[aim])
    child, told = _started(work, folder, path)
    seen = Counter[str]()
    phase = ""
    while phase != "over" and seen[aim] < turn:
        assert told.poll(PATIENCE_SECONDS), f"no {aim} after {phase}"
        phase, _ = told.recv()
        seen[phase] += 1
    child.join(timeout=delay)
    child.kill()
    child.join()
    phase = [phase, *(later for later, _ in _rest(told))][-1]
    course.seconds[aim] *= _LONGER if phase == aim else _SHORTER
    if phase == "over":
        return None
    assert child.exitcode == -signal.SIGKILL, f"died of its own: {child.exitcode}"
    return Death(phase, (folder / "journal.json").exists())


def _undisturbed(work: Work, folder: Path, path: Path) -> Course:
    """The course of the work, where nobody kills."""
    child, told = _started(work, folder, path)
    moments = list(_rest(told))
    child.join()
    assert child.exitcode == 0
    turns = Counter(phase for phase, _ in moments[:-1])
    seconds = dict.fromkeys(turns, 0.0)
    for (phase, began), (_, ended) in pairwise(moments):
        seconds[phase] += (ended - began) / turns[phase]
    return Course(dict(turns), seconds)


def _started(work: Work, folder: Path, path: Path) -> tuple[BaseProcess, Connection]:
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    told, tell = context.Pipe(duplex=False)
    child = context.Process(target=_told, args=(work, folder, path, tell), daemon=True)
    child.start()
    tell.close()
    return child, told


def _rest(told: Connection) -> Iterator[tuple[str, float]]:
    """What a child tells until its death."""
    try:
        while True:
            yield told.recv()
    except EOFError:
        told.close()


def _told(work: Work, folder: Path, path: Path, tell: Connection) -> None:
    """In the child: do the work, telling of its phases as they begin."""

    def begins(phase: str) -> None:
        tell.send((phase, time.monotonic()))

    def telling(call: Callable[P, T], before: str, after: str = "") -> Callable[P, T]:
        def told(*values: P.args, **named: P.kwargs) -> T:
            begins(before)
            result = call(*values, **named)
            if after:
                begins(after)
            return result

        return told

    vars(journal).update(
        write_file=telling(journal.write_file, "writing"),
        commit=telling(journal.commit, "committing", "settled"),
    )
    begins("reading")
    work(folder, path)
    begins("over")
