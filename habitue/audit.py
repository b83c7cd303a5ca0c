"""Who did what with a shop's keys and its customers' rights, and how often each key was used.

Acts (a key made, rotated or revoked; somebody erased or exported) are a row each, written in the
transaction that does them. The use of keys is counted by key, route, status and minute in a file
of its own: in memory first, so that a request costs an addition. Nothing here tells of customers:
a route stands with `{id}` where their id was.
"""

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

AUDIT_FILE = "audit.sqlite"
KEPT = timedelta(days=90)                  # that uses are kept by the minute
BY_HAND = "command line"                   # who did what no key did
BY_SERVICE = "service"                     # … and what a service finishes that somebody began
_MOST_COUNTED = 100_000                    # in memory, where the file cannot be written
_WAIT_SECONDS = 30.0

ACTS = """
-- one row per act, in the directory
CREATE TABLE IF NOT EXISTS acts (
    number INTEGER PRIMARY KEY, shop TEXT NOT NULL, time TEXT NOT NULL, who TEXT NOT NULL,
    act TEXT NOT NULL, about TEXT NOT NULL, detail TEXT NOT NULL)
"""
_USES = """
-- one row per key, route, status and minute
CREATE TABLE IF NOT EXISTS uses (
    shop TEXT, key TEXT, route TEXT, status INTEGER, minute INTEGER, count INTEGER NOT NULL,
    PRIMARY KEY (shop, key, route, status, minute)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uses_by_minute ON uses (minute);

-- one row per key: the last minute in which it was used
CREATE TABLE IF NOT EXISTS last_uses (key TEXT PRIMARY KEY, minute INTEGER NOT NULL) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO uses VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_LAST = """
INSERT INTO last_uses VALUES (?, ?)
ON CONFLICT DO UPDATE SET minute = max(minute, excluded.minute)
"""
_READ = """
-- one row per key, route, status and minute of some time
SELECT key, route, status, minute, count FROM uses
WHERE shop = ? AND minute >= ? AND minute < ? ORDER BY minute, key, route, status
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that was done, by a key or by hand."""

    shop: str
    time: datetime
    act: str                               # key.create, key.rotate, key.revoke, erasure.request, …
    about: str                             # the id of the key, or of the job
    who: str = BY_HAND                     # or the id of the key that asked
    detail: str = ""


class Use(NamedTuple):
    """What is counted together."""

    shop: str
    key: str                               # its id
    route: str                             # method and path, ids left out
    status: int
    minute: int                            # since 1970


@dataclass(frozen=True, slots=True)
class Used:
    """How often a key was used in one way within a minute."""

    key: str
    route: str
    status: int
    minute: datetime
    count: int


def insert(connection: sqlite3.Connection, act: Act) -> None:
    """Write an act down, in the transaction that does it."""
    connection.execute(
        "INSERT INTO acts (shop, time, who, act, about, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (act.shop, act.time.astimezone(UTC).isoformat(), act.who, act.act, act.about, act.detail),
    )


def read(connection: sqlite3.Connection, shop: str) -> list[Act]:
    """The acts of a shop, oldest first."""
    rows = connection.execute(
        "SELECT shop, time, who, act, about, detail FROM acts WHERE shop = ? ORDER BY number",
        (shop,),
    )
    return [
        Act(
            shop=shop, time=datetime.fromisoformat(time), who=who, act=act, about=about,
            detail=detail,
        )
        for shop, time, who, act, about, detail in rows
    ]  # fmt: skip


class Uses:
    """Uses of keys that are not written down yet. Threads may share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counted: Counter[Use] = Counter()

    def add(self, use: Use) -> None:
        """Count one."""
        with self._guard:
            if use in self._counted or len(self._counted) < _MOST_COUNTED:
                self._counted[use] += 1

    def write(self, audit: "Audit") -> None:
        """Write down what was counted since; it is kept if that fails."""
        with self._guard:
            counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            audit.add(counted)
        except BaseException:
            with self._guard:
                self._counted.update(counted)
            raise


class Audit:
    """The file of the uses of keys. Processes may share it."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made with the first write."""
        self.path = path

    def add(self, counted: Mapping[Use, int]) -> None:
        """Add to what is written down, and let go what is older than is kept."""
        newest = max(use.minute for use in counted)
        with self._writing() as connection:
            connection.executemany(_ADD, [(*use, count) for use, count in counted.items()])
            connection.executemany(_LAST, [(use.key, use.minute) for use in counted])
            connection.execute("DELETE FROM uses WHERE minute < ?", (newest - _minutes(KEPT),))

    def used(self, shop: str, since: datetime, until: datetime) -> list[Used]:
        """How a shop's keys were used in some time, by the minute."""
        rows = self._read(_READ, shop, minute_of(since), minute_of(until) + 1)
        return [
            Used(key, route, status, _time(minute), count)
            for key, route, status, minute, count in rows
        ]

    def last_uses(self) -> dict[str, datetime]:
        """The minute in which each key was used last."""
        return {key: _time(minute) for key, minute in self._read("SELECT * FROM last_uses")}

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            # private from its first instant
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(f"PRAGMA journal_mode = WAL; {_USES}")
            with connection:
                yield connection


def minute_of(time: datetime) -> int:
    """Minutes since 1970."""
    return int(time.timestamp() // 60)


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)


def _time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
