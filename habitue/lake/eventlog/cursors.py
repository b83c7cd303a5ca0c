"""Where readers of the log stand whose own state has no place for it, and what may be trimmed."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path

from habitue.errors import LogUnavailable
from habitue.lake.eventlog import segmentfile

CURSORS_FILE = "cursors.sqlite"
TABLE = """
-- one row per reader and shard; the next offset it will read
CREATE TABLE IF NOT EXISTS cursors (
    name TEXT NOT NULL, shard INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (name, shard)
) WITHOUT ROWID
"""
HIGHEST = "SELECT coalesce(max(offset), 0) FROM cursors WHERE shard = ?"
GET = "SELECT offset FROM cursors WHERE name = ? AND shard = ?"
SET = "INSERT OR REPLACE INTO cursors (name, shard, offset) VALUES (?, ?, ?)"


def trimmable(cursors: Iterable[int]) -> int:
    """The offset below which every reader is done: the lowest cursor; 0 without readers.

    A reader that has not begun may say -1.

    >>> trimmable([120, 95]), trimmable([120, -1]), trimmable([])
    (95, 0, 0)
    """
    return max(0, min(cursors, default=0))


def highest(folder: Path, shard: int) -> int:
    """The farthest that any reader of a shard has come; 0 without readers."""
    path = folder / CURSORS_FILE
    if not path.exists():
        return 0
    with contextlib.closing(segmentfile.open_to_read(path)) as connection:
        return int(connection.execute(HIGHEST, (shard,)).fetchone()[0])


class Cursors:
    """Named cursors beside the log, each the next offset to read; durable when set.

    Threads and processes may share them.

    Raises:
        LogUnavailable: the file cannot be opened, made, written or read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CURSORS_FILE
        self._guard = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path,
                timeout=segmentfile.WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute(TABLE)
                segmentfile.flush(folder)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise LogUnavailable(f"the cursors {self.path} cannot be opened: {error}") from error

    def get(self, name: str, shard: int) -> int:
        """The next offset that a reader will read; 0 if it has never been set."""
        try:
            with self._guard:
                row = self._connection.execute(GET, (name, shard)).fetchone()
        except sqlite3.Error as error:
            raise LogUnavailable(f"the cursors {self.path} cannot be read: {error}") from error
        return int(row[0]) if row else 0

    def set(self, name: str, shard: int, offset: int) -> None:
        """Remember the next offset that a reader will read, on disk on return."""
        try:
            with self._guard:
                self._connection.execute(SET, (name, shard, offset))
        except sqlite3.Error as error:
            raise LogUnavailable(f"the cursors {self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Give the file back."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
