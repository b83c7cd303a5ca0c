"""`SqliteLog`: the event log in SQLite files, a folder per shard and a file per hour.

What `append` returned for is on disk: WAL, flushed at each commit. Trimming removes whole files,
but never the newest: its name and rows say which offsets were used.
"""

import bisect
import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from habitue.config import clock
from habitue.errors import Dropped, LogUnavailable
from habitue.faults import reach
from habitue.lake.eventlog import segmentfile
from habitue.lake.eventlog.cursors import highest
from habitue.lake.eventlog.records import Record
from habitue.lake.eventlog.segmentfile import Unusable

SEGMENT_BYTES = 256_000_000                # of bodies; then a new segment, whatever its age
UNKNOWN_ROWS = SEGMENT_BYTES               # at most so many may have been in an unreadable segment
SHARDS_FILE = "shards"
LOCK_FILE = "writer.lock"
BROKEN = (sqlite3.Error, OSError, Unusable)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Writer:
    """The end of a shard that this process appends to."""

    path: Path                             # the newest segment
    connection: sqlite3.Connection
    files: tuple[int, int]                 # inodes of its WAL and index, as SQLite opened them
    next: int                              # the offset that the next row gets
    made_at: float                         # by the clock of then
    held: int                              # bytes of bodies in the segment


class SqliteLog:
    """An event log in a folder. One process appends to a shard; any number read it.

    Threads may share it. `shards` counts when the log is made; later it may be left out.

    Raises:
        LogUnavailable: the folder's log was made with another number of shards.
    """

    def __init__(
        self,
        path: Path,
        *,
        shards: int | None = None,
        segment_seconds: float = 3600,
        segment_bytes: int = SEGMENT_BYTES,
        now: Callable[[], float] = clock,
    ) -> None:
        self.path = path
        self._shards = _shards_of(path, shards)
        self._segment_seconds, self._segment_bytes = segment_seconds, segment_bytes
        self._now = now
        self._guards = [threading.RLock() for _ in range(self._shards)]
        self._reading = [threading.RLock() for _ in range(self._shards)]
        self._locks: dict[int, int] = {}           # shard -> file descriptor of its held lock
        self._writers: dict[int, _Writer] = {}

    @property
    def shards(self) -> int:
        """How many there are; fixed when the log is made."""
        return self._shards

    def append(self, shard: int, bodies: Sequence[bytes]) -> range:
        """Append all or none in one transaction, durable on return; the offsets they got.

        Raises:
            LogUnavailable: nothing was appended; the storage is full, read-only or broken, or
                another process appends to this shard.
        """
        with self._guards[shard], self._told(shard, "appended to"):
            writer = self._due_writer(shard)
            try:
                _commit(writer, bodies)
                writer.next += len(bodies)
                writer.held += sum(map(len, bodies))
            except BaseException:
                self._abandon(shard)
                raise
            return range(writer.next - len(bodies), writer.next)

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        """Rows from `offset` on in order, at least one if there is one, up to `most_bytes`.

        Raises:
            LogUnavailable: rows at or after `offset` were trimmed away, are damaged, or are gone
                from the end of the log.
        """
        with self._reading[shard], self._told(shard, "read"):
            if (writer := self._writers.get(shard)) and offset == writer.next:
                return []                          # cheap, for those who ask again and again
            paths = segmentfile.segments(self._folder(shard))
            _refuse_outside(offset, paths)
            begin = bisect.bisect_right(paths, offset, key=segmentfile.first_of) - 1
            with contextlib.closing(_readable(paths[max(begin, 0) :], offset)) as records:
                found = _up_to(most_bytes, records)
            if not found and offset > (end := self.end(shard)):
                raise Unusable(f"it ends at {end}; the row before {offset} is gone")
            return found

    def end(self, shard: int) -> int:
        """The offset that the next row will get at the earliest.

        Raises:
            LogUnavailable: the newest segment cannot be read.
        """
        # not the writer's own count: a reader may see a commit before it is counted
        with self._reading[shard], self._told(shard, "read"):
            for path in reversed(segmentfile.segments(self._folder(shard))):
                if segmentfile.is_unfinished(path):
                    continue
                with contextlib.closing(segmentfile.open_to_read(path)) as connection:
                    return segmentfile.end_of(connection, path)
            return 0

    def trim(self, shard: int, below: int) -> int:
        """Drop whole segments whose rows are all below an offset; returns how many rows.

        The newest segment stays; where this process appends, it is ended first if its time is up.

        Raises:
            LogUnavailable: a file cannot be removed.
        """
        with self._guards[shard], self._told(shard, "trimmed"):
            if shard in self._writers:
                self._due_writer(shard)
            paths = segmentfile.segments(self._folder(shard))
            rows = 0
            for path, following in itertools.pairwise(paths):
                if segmentfile.first_of(following) > below:
                    break
                reach("log.trim")
                segmentfile.remove(path)
                rows += segmentfile.first_of(following) - segmentfile.first_of(path)
            segmentfile.sweep(self._folder(shard))
            return rows

    def rotate(self, shard: int, *, at: int = 0) -> None:
        """End the newest segment if it holds rows, so that they can be trimmed.

        The next row gets at least the offset `at`: a reader that is ahead of a damaged log says
        where it stands, so that no offset is used twice.

        Raises:
            LogUnavailable: the storage fails, or another process appends to this shard.
        """
        with self._guards[shard], self._told(shard, "rotated"):
            writer = self._writer(shard)
            if writer.next > segmentfile.first_of(writer.path) or at > writer.next:
                self._rotate(shard, writer, at)

    def close(self) -> None:
        """Give files, connections and the right to append back."""
        for shard, guard in enumerate(self._guards):
            with guard:
                self._release(shard)
                if (lock := self._locks.pop(shard, None)) is not None:
                    os.close(lock)

    def _folder(self, shard: int) -> Path:
        return self.path / f"shard-{shard:03}"

    @contextlib.contextmanager
    def _told(self, shard: int, what: str) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise LogUnavailable(
                f"the log {self._folder(shard)} cannot be {what}: {error}"
            ) from error

    def _due_writer(self, shard: int) -> _Writer:
        """The writer at the end of the shard, in a new segment if the time has come."""
        writer = self._writer(shard)
        age = abs(self._now() - writer.made_at)    # a clock that jumped back ends it, too
        full = writer.held >= self._segment_bytes
        used = writer.next > segmentfile.first_of(writer.path)
        if used and (full or age >= self._segment_seconds):
            return self._rotate(shard, writer)
        return writer

    def _writer(self, shard: int) -> _Writer:
        writer = self._writers.get(shard)
        if writer is not None and _inodes(writer.path) != writer.files:
            # someone removed a file under us: save what it held
            writer.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._release(shard)
            writer = None
        if writer is None:
            self._acquire(shard)
            writer = self._writers[shard] = self._opened(shard)
        return writer

    def _opened(self, shard: int) -> _Writer:
        """The newest segment, open; a new one where there is none."""
        folder = self._folder(shard)
        for draft in folder.glob(f"*{segmentfile.UNFINISHED}*"):
            draft.unlink()
        paths = segmentfile.segments(folder)
        segmentfile.flush(folder)                  # who made the newest may have died first
        known = highest(self.path, shard)
        if not paths:
            return self._made(shard, known, follows=0)
        if segmentfile.is_unfinished(paths[-1]):
            log.warning("replaced segment=%s reason=unfinished", paths[-1])
            segmentfile.remove(paths[-1])
            end = segmentfile.first_of(paths[-1])
            return self._made(shard, max(end + UNKNOWN_ROWS, known), follows=end)
        writer = _open(paths[-1])
        if known > writer.next:
            log.warning("lost rows of segment=%s from=%d to=%d", paths[-1], writer.next, known)
            writer.connection.close()
            return self._made(shard, known, follows=writer.next)
        return writer

    def _made(self, shard: int, first: int, *, follows: int) -> _Writer:
        made = segmentfile.Made(at=self._now(), follows=follows)
        return _open(segmentfile.make(self._folder(shard), first, made))

    def _rotate(self, shard: int, writer: _Writer, first: int = 0) -> _Writer:
        self._release(shard)                       # should this fail, the disk says where we are
        self._writers[shard] = self._made(shard, max(writer.next, first), follows=writer.next)
        reach("log.rotated")
        return self._writers[shard]

    def _acquire(self, shard: int) -> None:
        """Become the one process that appends to the shard, until closed."""
        if shard in self._locks:
            return
        _make_shards_file(self.path, self._shards)
        folder = self._folder(shard)
        folder.mkdir(exist_ok=True)
        segmentfile.flush(self.path)
        segmentfile.flush(self.path.parent)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise Unusable(
                "another process appends to it\nhint: one `habitue serve` per workspace"
            ) from error
        self._locks[shard] = lock

    def _abandon(self, shard: int) -> None:
        """Make sure that what failed is not seen later, even if its flush alone failed."""
        writer = self._writers[shard]
        with contextlib.suppress(sqlite3.Error):
            if writer.connection.in_transaction:
                writer.connection.execute("ROLLBACK")
        try:
            with self._reading[shard], segmentfile.cut(writer.path):
                self._release(shard)
        except (OSError, struct.error):
            log.exception("failed append may reappear segment=%s", writer.path)
            self._release(shard)

    def _release(self, shard: int) -> None:
        if (writer := self._writers.pop(shard, None)) is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.connection.close()


def _commit(writer: _Writer, bodies: Sequence[bytes]) -> None:
    writer.connection.execute("BEGIN IMMEDIATE")
    segmentfile.insert(writer.connection, writer.next, bodies)
    reach("log.before_commit")
    writer.connection.execute("COMMIT")
    reach("log.after_commit")


def _open(path: Path) -> _Writer:
    connection = segmentfile.open_to_append(path)
    try:
        end, made = segmentfile.end_of(connection, path), segmentfile.made(connection)
        held = path.stat().st_size - segmentfile.EMPTY_BYTES
        return _Writer(path, connection, _inodes(path), end, made.at, held)
    except BaseException:
        connection.close()
        raise


def _inodes(path: Path) -> tuple[int, int]:
    """Which WAL and index lie beside a segment now; 0 for none."""
    found = []
    for ending in ("-wal", "-shm"):
        try:
            found.append(path.with_name(path.name + ending).stat().st_ino)
        except FileNotFoundError:
            found.append(0)
    return found[0], found[1]


def _refuse_outside(offset: int, paths: Sequence[Path]) -> None:
    if paths and offset < (first := segmentfile.first_of(paths[0])):
        raise Dropped(
            f"the log {paths[0].parent} cannot be read: rows from {offset} on were trimmed; it"
            f" begins at {first}"
        )


def _readable(paths: Sequence[Path], offset: int) -> Generator[Record, None, None]:
    """Rows from an offset on, and never past one that is missing."""
    expected = offset
    for path in paths:
        if segmentfile.is_unfinished(path):
            continue
        with contextlib.closing(segmentfile.open_to_read(path)) as connection:
            made = segmentfile.made(connection)
            if path != paths[0]:
                _refuse_gap(expected, made.follows)
                expected = max(expected, segmentfile.first_of(path))
            for record in segmentfile.rows_from(connection, expected):
                _refuse_gap(expected, record.offset)
                yield record
                expected += 1


def _refuse_gap(expected: int, found: int) -> None:
    if expected < found:
        raise Unusable(f"rows {expected} to {found - 1} are gone")


def _up_to(most_bytes: int, records: Iterable[Record]) -> list[Record]:
    """The first records; what breaks after the first is told to the one who asks from there."""
    found: list[Record] = []
    room = most_bytes
    try:
        for record in records:
            room -= len(record.body)
            if found and room < 0:
                break
            found.append(record)
    except BROKEN:
        if not found:
            raise
    return found


def _shards_of(path: Path, wanted: int | None) -> int:
    file = path / SHARDS_FILE
    if not file.exists():
        return wanted or 1
    made = int(file.read_text())
    if wanted not in (None, made):
        raise LogUnavailable(f"the log {path} was made with {made} shards, not {wanted}")
    return made


def _make_shards_file(path: Path, shards: int) -> None:
    """Write down, once and for all, how many shards there are."""
    file = path / SHARDS_FILE
    if not file.exists():
        path.mkdir(parents=True, exist_ok=True)
        draft = path / f"{SHARDS_FILE}.{os.getpid()}.{threading.get_ident()}"
        draft.write_text(f"{shards}\n")
        segmentfile.flush(draft)
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)                   # unlike a rename, never over another's
        draft.unlink()
    if (made := _shards_of(path, None)) != shards:
        raise Unusable(f"it was made with {made} shards, not {shards}")
