"""What runs beside the server, in a process of its own: the readers of the log, and the sweeping.

Each shard's committer takes what is new into the lake, a second reader keeps the live profiles up
to date, and what both have read is dropped from the log after a while. The process ends with the
server however that ends: the kernel kills it, and the pipe between the two closes.

Commits are made in the main thread. Beside it, the live profiles follow the log by some
milliseconds, and small files of the lake are merged.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from habitue import faults, privacy
from habitue.config import clock, utc_now
from habitue.directory import ERASURE
from habitue.errors import Busy, HabitueError
from habitue.ingest.commit import Committer, Settled
from habitue.lake.eventlog.cursors import trimmable
from habitue.lake.eventlog.records import EventLog, decode
from habitue.lake.live.bell import Bell
from habitue.lake.maintenance import tidy
from habitue.lake.profiles import PROFILES_FILE
from habitue.refusals import Refusals
from habitue.serving.app import Place
from habitue.serving.beside.following import DEFINED_SECONDS, Following, clock_of
from habitue.serving.beside.settlement import PROGRESS_FILE, Progress
from habitue.serving.beside.underway import UNDERWAY_FILE, Heard

log = logging.getLogger(__name__)

MOST_ROWS = 50_000                         # of one commit
PACE_SECONDS = 1.0                         # between commits, while less than that many rows wait
SETTLE_SECONDS = 8.0                       # the longest that a last settling may take
TRIM_SECONDS = 10.0                        # between looks at what may be dropped from the log
GRACE_ROWS = 1_000                         # that stay in the log below the lowest cursor
CATCH_UP_SECONDS = 30.0                    # between looks at what came into the lake by another way
ERASE_SECONDS = 2.0                        # between looks whether somebody is to be erased
TIDY_SECONDS = 15.0                        # between looks at the lake's files
_RATE_SECONDS = 10.0
_KILL_WITH_PARENT = 1                      # PR_SET_PDEATHSIG of prctl(2)


@dataclass(slots=True)
class Committing:
    """The committers of all shards, and how far they have come."""

    log: EventLog
    committers: list[Committer]
    cursors: list[int]                     # by shard: the next offset that the lake lacks
    most_rows: int = MOST_ROWS
    settled: Counter[str] = field(default_factory=Counter)
    recent: list[tuple[float, int]] = field(default_factory=list)   # (when, rows) of commits
    last_commit: float | None = None
    failure: str | None = None

    def round(self) -> bool:
        """One step of each; whether one was as large as it may be, so that more waits."""
        is_more = False
        for shard, committer in enumerate(self.committers):
            if self.log.end(shard) == self.cursors[shard]:
                continue                   # the lake need not be asked how far it is
            settled = committer.step(most_rows=self.most_rows)
            if settled is not None:
                self._count(shard, settled)
                is_more |= settled.rows >= self.most_rows
        return is_more

    def attempt(self) -> bool:
        """A round; what fails is told, written down and tried again in the next."""
        try:
            is_more, self.failure = self.round(), None
        except (HabitueError, OSError) as error:
            told = f"{type(error).__name__}: {error}"
            if told != self.failure:
                log.warning("committing failed, trying again: %s", told)
            self.failure = told
            return False
        return is_more

    @property
    def is_behind(self) -> bool:
        """Whether the log holds what the lake lacks."""
        return any(at < self.log.end(shard) for shard, at in enumerate(self.cursors))

    def tell(self, path: Path) -> None:
        """Write down how far it has come, for the server and for `habitue status`."""
        now = clock()
        self.recent = [(at, rows) for at, rows in self.recent if now - at < _RATE_SECONDS]
        progress = Progress(
            pid=os.getpid(), time=now, cursors=tuple(self.cursors),
            behind_since=self._behind_since(), settled=dict(self.settled),
            last_commit=self.last_commit, failure=self.failure,
            rows_per_second=sum(rows for _, rows in self.recent) / _RATE_SECONDS,
        )  # fmt: skip
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(progress))
        draft.replace(path)

    def _count(self, shard: int, settled: Settled) -> None:
        self.cursors[shard] = settled.cursor
        self.last_commit = clock()
        self.recent.append((self.last_commit, settled.rows))
        for name in ("appended", "duplicate", "rejected"):
            self.settled[name] += getattr(settled, name)

    def _behind_since(self) -> float | None:
        """When the oldest request came in that the lake lacks; None where it lacks none."""
        oldest = []
        for shard, cursor in enumerate(self.cursors):
            if cursor < self.log.end(shard):
                record = self.log.read(shard, cursor, most_bytes=1)[0]
                oldest.append(decode(record.body).received.timestamp())
        return min(oldest, default=None)


class Beside:
    """A thread that does one thing again and again; what fails is told and tried again."""

    def __init__(
        self, name: str, step: Callable[[], bool], *, pause_seconds: Callable[[], float] | float,
        rest: Callable[[float], object] | None = None,
    ) -> None:  # fmt: skip
        """Start it; `step` says whether to go on without a pause, `rest` spends one."""
        self._step, self._name, self._pause = step, name, pause_seconds
        self._ending = threading.Event()
        self._rest = rest or self._ending.wait
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it begin nothing more."""
        self._ending.set()

    def end(self) -> None:
        """Let it end what it does."""
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        failure = ""
        while not self._ending.is_set():
            is_more = False
            try:
                is_more, failure = self._step(), ""
            except Busy:
                pass                       # someone else does it
            except Exception as error:     # noqa: BLE001 (nobody would miss a thread that ended)
                told = f"{type(error).__name__}: {error}"
                if told != failure:
                    log.warning("%s failed, trying again: %s", self._name, told)
                failure = told
            pause = self._pause if isinstance(self._pause, float) else self._pause()
            self._rest(0 if is_more else pause)


class Worker:
    """All that runs beside a server, until it is closed."""

    def __init__(
        self, place: Place, places: privacy.Places, *, most_rows: int = MOST_ROWS
    ) -> None:
        """Open everything where it stopped; the live state first takes what imports brought."""
        self.online = place.online
        self.online.mkdir(mode=0o700, exist_ok=True)
        self.log, self.lake = place.log, place.lake()
        self.places = places
        # one for each thread that takes nouns in
        self.refusals = [Refusals(place.directory, clock=time.monotonic) for _ in range(2)]
        shards = range(self.log.shards)
        self.committing = Committing(
            self.log,
            [Committer(self.lake, self.log, n, refuses=self.refusals[0]) for n in shards],
            [max(self.lake.cursor(f"log-{n}"), 0) for n in shards],
            most_rows=most_rows,
        )
        self.live = Following(
            self.online / PROFILES_FILE, self.log, self.lake, refuses=self.refusals[1],
            clock=clock_of(utc_now), underway=Heard(self.online / UNDERWAY_FILE),
        )  # fmt: skip
        self.profiles = self.live.profiles
        self._beside = [
            Beside(
                "live profiles",
                self.live.follow,
                pause_seconds=self.live.pause,
                rest=self.live.rest,
            ),
            Beside(
                "audiences",
                self.live.define,
                pause_seconds=DEFINED_SECONDS,
                rest=self.live.defined.wait,
            ),
            Beside("catching up", self._catch_up, pause_seconds=CATCH_UP_SECONDS),
            Beside("tidying", self._tidy, pause_seconds=TIDY_SECONDS),
            Beside("erasing", self._erase, pause_seconds=ERASE_SECONDS),
        ]

    def run(self, heard: Callable[[float], bytes | None], *, pace_seconds: float) -> None:
        """Follow the log until the server is gone, or says to settle and end."""
        next_trim = 0.0
        while True:
            began = time.monotonic()
            is_more = self.committing.attempt()
            self._tell()
            if began >= next_trim:
                with contextlib.suppress(HabitueError):
                    self.trim()
                next_trim = began + TRIM_SECONDS
            pause = 0.0 if is_more else max(pace_seconds - (time.monotonic() - began), 0.01)
            match heard(pause):
                case b"":
                    return
                case b"settle":
                    self.settle()
                    return

    def settle(self, *, within_seconds: float = SETTLE_SECONDS) -> None:
        """Commit all that the log holds, as far as the time suffices."""
        deadline = time.monotonic() + within_seconds
        while self.committing.is_behind and time.monotonic() < deadline:
            self.committing.attempt()
            if self.committing.failure:
                time.sleep(0.1)
        self._tell()

    def trim(self) -> None:
        """Drop from the log what every reader has read, but for a little.

        While somebody is being erased nothing is left.
        """
        grace = 0 if self.places.directory.open_jobs(ERASURE) else GRACE_ROWS
        for shard, cursor in enumerate(self.committing.cursors):
            readers = (cursor, self.profiles.cursor(shard))
            self.log.trim(shard, max(trimmable(readers) - grace, 0))

    def close(self) -> None:
        """End the threads and give files back."""
        for thread in self._beside:
            thread.stop()
        self.live.bell.ring()              # some may be waiting for one
        self.live.defined.ring()
        for thread in self._beside:
            thread.end()
        for committer in self.committing.committers:
            committer.close()
        self.live.close()
        for one in self.refusals:
            one.close()

    def _tell(self) -> None:
        with contextlib.suppress(HabitueError, OSError):   # a full disk is told to those who send
            self.committing.tell(self.online / PROGRESS_FILE)

    def _catch_up(self) -> bool:
        """Tell the live profiles what came into the lake by another way, such as imports."""
        self.live.catch_up()
        return False

    def _erase(self) -> bool:
        """Take erasures as far as they can go; in a thread of its own."""
        failures = []
        for job in privacy.pending(self.places):
            try:
                privacy.advance(self.places, job, now=utc_now())
                self.trim()
            except (HabitueError, OSError) as error:
                failures.append(error)     # those after it are not to wait for it
        if failures:
            raise failures[0]
        return False

    def _tidy(self) -> bool:
        """Merge and delete files of the lake; in a thread of its own.

        Whoever waits to be erased goes first: only one may keep house, and a long merging would
        leave no moment for them.
        """
        if any(job.status == "queued" for job in privacy.pending(self.places)):
            return False
        return tidy(self.lake, now=utc_now()) is not None


def hear(seconds: float, bell: Bell | None = None) -> bytes | None:
    """What the server said within so many seconds: None for nothing, b"" when it is gone.

    Where there is a bell, no longer than until it is rung.
    """
    told = sys.stdin.fileno()
    ready, _, _ = select.select([told] if bell is None else [told, bell], [], [], seconds)
    if bell is not None and bell in ready:
        bell.silence()
    return os.read(told, 100).strip() if told in ready else None


def live_with(parent: int, *, again: bool) -> None:
    """Live as long as the server, and end when it says so, not when its terminal does.

    The kernel is asked to kill this process when its parent ends; where there is no such kernel,
    the pipe to the server closes. A fault that a test asked for did its work in the process that
    this one follows.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)                        # it ended before we asked
    if again:
        faults.arm("")
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
