"""One segment of the log: an SQLite file whose name is the offset of its first row.

A segment is made under another name, flushed and then renamed, so that a file of a segment's name
always holds its tables. Rows carry a checksum, because SQLite checks its WAL but not its pages.
"""

import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from habitue.faults import reach
from habitue.lake.eventlog.records import Record

SUFFIX = ".sqlite"
UNFINISHED = ".new"
BESIDE = ("", "-wal", "-shm", "-journal")  # the files of one segment, in the order of removal
EMPTY_BYTES = 3 * 4096                     # the pages of a segment without rows
WAL_PAGES = 1_000                          # then they move to the main file: 4 MB, a few ms
WAL_BYTES = 16_000_000                     # what is kept of a WAL that had to grow larger
WAIT_SECONDS = 10.0                        # for another process to finish recovery
WAL_HEADER_BYTES = 32                      # then frames: 24 bytes and a page each
INDEX_HEADER = struct.Struct("=I10xHI12x8s8x")  # of -shm: format, bytes of a page, frames, salt
INDEX_FORMAT = 3_007_000

TABLES = """
CREATE TABLE made (at REAL NOT NULL, follows INTEGER NOT NULL);
CREATE TABLE rows (offset INTEGER PRIMARY KEY, sum INTEGER NOT NULL, body BLOB NOT NULL);
"""
APPEND = "INSERT INTO rows (offset, sum, body) VALUES (?, ?, ?)"
# one row per body, in the order of the log
READ = "SELECT offset, sum, body FROM rows WHERE offset >= ? ORDER BY offset"
LAST = "SELECT max(offset) FROM rows"
MADE = "SELECT at, follows FROM made"


class Unusable(Exception):
    """Why the log cannot be used; whoever catches it says which log, as LogUnavailable."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a segment says of itself."""

    at: float                              # seconds since 1970, by the clock of then
    follows: int                           # the offset at which the segment before it ended


def named(folder: Path, first: int) -> Path:
    """Where the segment whose first row has this offset is, or would be."""
    return folder / f"{first:020}{SUFFIX}"


def first_of(path: Path) -> int:
    """The offset of a segment's first row, by its name."""
    return int(path.name.removesuffix(SUFFIX))


def segments(folder: Path) -> list[Path]:
    """The segments of a shard, oldest first; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)


def make(folder: Path, first: int, made: Made) -> Path:
    """A new, empty segment, durable with its place in the folder."""
    path = named(folder, first)
    draft = path.with_name(path.name + UNFINISHED)
    remove(draft)
    with closing(_connect(draft, "rwc")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {TABLES} COMMIT")
        connection.execute("INSERT INTO made VALUES (?, ?)", (made.at, made.follows))
    flush(draft)
    reach("log.made")
    draft.rename(path)
    flush(folder)
    return path


def remove(path: Path) -> None:
    """Remove a segment and what SQLite keeps beside it; the segment first."""
    for ending in BESIDE:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what an interrupted trim or a late reader left of segments that are gone; flush."""
    paths = segments(folder)
    for path in folder.iterdir() if paths else ():
        name, found, _ = path.name.partition(SUFFIX)
        if found and path < paths[0] and name != paths[0].stem:
            path.unlink(missing_ok=True)
    if paths:
        flush(folder)


def flush(path: Path) -> None:
    """Have a file, or a folder's entries, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_unfinished(path: Path) -> bool:
    """Whether a file of a segment's name holds less than an empty segment, and no WAL."""
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_size < EMPTY_BYTES and not (wal.exists() and wal.stat().st_size)


def open_to_append(path: Path) -> sqlite3.Connection:
    """A connection that flushes at each commit."""
    connection = _connect(path, "rw")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing; also where nothing can be written."""
    wal = path.with_name(path.name + "-wal")
    plain = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    return _connect(path, "ro&immutable=1" if plain else "ro")


@contextmanager
def cut(path: Path) -> Iterator[None]:
    """Cut off the WAL after its last commit, which the index knows; then close the connection.

    A commit whose flush failed is whole in the file, and SQLite would believe it when it recovers.
    The index stays open meanwhile: closing a file gives up the locks that SQLite has on it.
    """
    wal, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    with index.open("rb") as file:
        header, copy = file.read(INDEX_HEADER.size), file.read(INDEX_HEADER.size)
        layout, page_bytes, frames, salt = INDEX_HEADER.unpack(header)
        with wal.open("r+b") as written:
            ours = frames == 0 or written.read(WAL_HEADER_BYTES)[16:24] == salt
            if header == copy and layout == INDEX_FORMAT and ours:
                end = WAL_HEADER_BYTES + frames * (24 + page_bytes)
                written.truncate(min(end, wal.stat().st_size))
        yield


def insert(connection: sqlite3.Connection, first: int, bodies: Sequence[bytes]) -> None:
    """Append rows in the transaction that is open."""
    rows = [(offset, _sum(offset, body), body) for offset, body in enumerate(bodies, first)]
    connection.executemany(APPEND, rows)


def rows_from(connection: sqlite3.Connection, offset: int) -> Iterator[Record]:
    """Rows from an offset on.

    Raises:
        Unusable: a row is not what was written.
    """
    with closing(connection.execute(READ, (offset,))) as cursor:
        for found, checksum, body in cursor:
            if checksum != _sum(found, body):
                raise Unusable(f"row {found} is damaged")
            yield Record(found, body)


def end_of(connection: sqlite3.Connection, path: Path) -> int:
    """The offset after the segment's last row."""
    (last,) = connection.execute(LAST).fetchone()
    return first_of(path) if last is None else int(last) + 1


def made(connection: sqlite3.Connection) -> Made:
    """What the segment says of itself."""
    at, follows = connection.execute(MADE).fetchone()
    return Made(at, follows)


def _sum(offset: int, body: bytes) -> int:
    return zlib.crc32(body, offset & 0xFFFFFFFF)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # one of our locks guards each connection, so that threads may share it
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
