"""Who follows the log for the live state: what was told is applied, and time that is over, too.

One thread applies, so nothing that was received by an instant is told after that instant was
looked at. It wakes when something may have come, and exactly when the time of somebody in an
audience is over.
"""

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from habitue.audiences.live import definitions, tables
from habitue.audiences.live.keeping import Keeper
from habitue.lake.eventlog.records import EventLog
from habitue.lake.live.bell import DEFINE_BELL, FOLLOW_BELL, SCORE_BELL, Bell
from habitue.lake.live.told import instant, microseconds
from habitue.lake.profiles import Profiles, Refuses
from habitue.lake.tables import Lake
from habitue.predictions.scores import drift
from habitue.serving.beside.scores import ScoreNews
from habitue.serving.beside.underway import Tells, Untold

LIVE_SECONDS = 0.03  # between looks, where nobody rings when something was appended to the log
BUSY_SECONDS = 0.005  # where something was lately: what comes meanwhile is applied together
BUSY_FOR = 1_000_000  # µs that something came by
LOG_SECONDS = 1.0  # between looks at the log itself, where the server tells of nothing new
LIVE_BYTES = 300_000  # of the log that are applied at once: who is behind falls no further
STAMPED = 1_000  # µs by which a request that was stamped is told to be underway
SETTLED = 20_000  # µs by which it is in the log, where no server tells what is underway
SCORES_HELD = 100_000  # µs that scores may wait where the log never ends
MOST_HELD = 80_000  # µs that time waits for a request
DEFINED_SECONDS = 0.5  # between looks whether an audience was saved, unless somebody rings
_MICROSECONDS = 1_000_000


class Following:
    """The live state behind the log: profiles, and the audiences that rest on them."""

    def __init__(
        self,
        path: Path,
        log: EventLog,
        lake: Lake,
        *,
        refuses: Refuses,
        clock: Callable[[], int],
        underway: Tells | None = None,
    ) -> None:
        """Open the state where it stopped; nothing is applied before it is known what to follow."""
        self._log, self._lake, self._clock = log, lake, clock
        self._underway: Tells = underway or Untold()
        self.keeper = Keeper(clock, drift.opened)
        self.profiles = Profiles(path, refuses=refuses, then=self.keeper.told)
        self._scores = ScoreNews(path.parent, self.profiles, self.keeper)
        with self.profiles.writing() as connection:
            tables.make(connection)
        self._held: list[object] = []
        self._kept = definitions.Kept()        # of the lake's files that are held
        self._is_stale = threading.Event()
        self._due = self._scores_at = self._busy_until = 0
        self._is_early = False
        # what was told to be appended when nothing was left to read, and until when that suffices
        self._read, self._read_until = -1, -math.inf
        self._is_quiet = False  # nothing is new, so that the bell may be waited for
        self._sequence = -2  # of the lake, when what it says was taken over
        self.bell, self.defined, self._scorer = (
            Bell(path.with_name(one)) for one in (FOLLOW_BELL, DEFINE_BELL, SCORE_BELL)
        )
        self._define()

    def close(self) -> None:
        """Give the files back."""
        for bell in (self.bell, self.defined, self._scorer):
            bell.close()
        self._scores.close()
        self.profiles.close()

    def step(self) -> bool:
        """Apply what the log holds, then what time has done; whether there is more."""
        if self._is_stale.is_set():
            with self.profiles.writing():
                self.keeper.forget()
            self._held.clear()
            self._define()
            self._is_stale.clear()
        try:
            return self._applied()
        except BaseException:
            self._is_stale.set()  # what is in memory may be ahead of what was written
            raise

    def catch_up(self) -> None:
        """Take what came into the lake by another way, such as imports."""
        try:
            self.profiles.catch_up(self._lake, shards=self._log.shards)
            self._due = 0                      # whatever came may have moved it
            self._scores.again()
            self.bell.ring()
        except BaseException:
            self._is_stale.set()
            raise

    def pause(self) -> float:
        """Seconds until there may be something to do."""
        until = (self._due - self._told_by()) / _MICROSECONDS
        most = LOG_SECONDS if self._is_quiet else LIVE_SECONDS
        return min(max(until, 0.001), BUSY_SECONDS if self._is_busy else most)

    def rest(self, seconds: float) -> None:
        """Wait so long; where nothing happens, until something does."""
        if self._is_quiet and not self._is_busy:
            self.bell.wait(seconds)
        else:
            time.sleep(seconds)

    @property
    def _is_busy(self) -> bool:
        """Whether something came lately."""
        return self._clock() < self._busy_until

    def follow(self) -> bool:
        """A step, after which some more may gather; never to be repeated without a pause."""
        began = self._clock()
        if self.step():
            self._busy_until = began + BUSY_FOR
        return False

    def define(self) -> bool:
        """Notice audiences that were saved, and apply them to some customers; whether to go on."""
        if self._is_stale.is_set():
            return False
        self._define()
        if not self.keeper.is_applying:
            return False
        try:
            with self.profiles.writing() as connection:
                is_more, before = self.keeper.backfill(connection), self._due
                self._look_ahead(connection)
            if self._due < before:
                self.bell.ring()               # who waits, waits too long
        except BaseException:
            self._is_stale.set()
            raise
        time.sleep(0.001)  # let the log be followed in between
        return is_more

    def _applied(self) -> bool:
        now = self._told_by()  # before the log is read
        appended, began = self._underway.appended(), time.monotonic()
        is_read = appended == self._read and began < self._read_until
        self._is_quiet = is_read and not self._is_due(now)
        if self._is_quiet:
            return False
        is_due, shards = self._due <= now, range(self._log.shards)
        is_asked = is_due or self._scores_at <= now < self._busy_until
        ends = [self._log.end(shard) for shard in shards] if is_asked else []
        is_more = self._take()
        if not is_more and appended is not None:
            self._read, self._read_until = appended, began + LOG_SECONDS
        # what came by then was told, however much came since
        is_told = not is_more or (
            is_asked and all(self.profiles.cursor(one) >= end for one, end in enumerate(ends))
        )
        if is_told:
            self._scores_at = now + SCORES_HELD
            is_more |= self._scores.take(now)
        if is_due and is_told:
            with self.profiles.writing() as connection:
                is_more |= self.keeper.fire(connection, now)
                self._look_ahead(connection)
        elif is_more:
            self.profiles.look(self._look_ahead)
        return is_more

    def _look_ahead(self, connection: sqlite3.Connection) -> None:
        """Note when time is over next, while nobody else writes."""
        self._due = self.keeper.due(connection)

    def _is_due(self, now: int) -> bool:
        """Whether scores or time move somebody; before they do, the log itself is looked at."""
        return self._due <= now or self._scores.waits()

    def _take(self) -> bool:
        """Apply what the log holds; whether there was anything."""
        is_more = False
        for shard in range(self._log.shards):
            cursor = self.profiles.cursor(shard)
            records = self._log.read(shard, cursor, most_bytes=LIVE_BYTES)
            if records:
                self.profiles.apply(shard, records)
                is_more = True
        if is_more:
            self._scorer.ring()
        return is_more

    def _told_by(self) -> int:
        """The instant up to which all that came is in the log, unless it takes very long."""
        now, oldest = self._clock(), self._underway.oldest()
        if oldest is None:
            return now - SETTLED
        return max(min(now - STAMPED, oldest - 1 if oldest else now), now - MOST_HELD)

    def _define(self) -> None:
        """Follow what the lake says, where that is something else than before."""
        if self._is_early and self.keeper.is_applying:
            return
        scored = self.profiles.look(self.keeper.readings.look)
        sequence = self._lake.sequence  # asked first: the tables are of it, or of a later one
        held: list[object] = [{shop: (one.since, one.reading) for shop, one in scored.items()}]
        if self._held and self._sequence == sequence and held[0] == self._held[0]:
            return
        held += [
            self._lake.version(name)
            for name in ("audiences", "shops", "predictions", "customer_embeddings")
        ]
        if held == self._held:
            self._sequence = sequence
            return
        if held[2:3] != self._held[2:3]:       # the shops
            self._kept.settings.clear()
        now = instant(self._clock())
        told = definitions.defined(self._lake, now, scored, self._kept)
        with self.profiles.writing() as connection:
            self._is_early = bool(self.keeper.shops) and definitions.too_early(connection, told)
            if self._is_early:
                return                     # it is applied to everybody first
            shops = definitions.taken(connection, told, self._clock())
            self.keeper.follow(connection, shops)
        self._held, self._sequence = held, sequence


def clock_of(now: Callable[[], datetime]) -> Callable[[], int]:
    """µs since the epoch by a clock."""
    return lambda: microseconds(now())
