"""`Desk`: what was asked of the models, and what became of it; whoever serves knows no model.

A question of everyone is answered once, in minutes, by a process of its own; why a customer is
predicted what they are, at once, by the scorer, while whoever asked waits. One file; what waits in
it is bounded, survives, and is taken in turn.
"""

import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from habitue.events import Instant
from habitue.lake.live.bell import SCORE_BELL, Bell

DESK_FILE = "asked.sqlite"
MOST_WAITING = 10                          # questions of one shop
MOST_WAITING_IN_ALL = 100
MOST_KEPT = 200                            # that were answered, of one shop; the oldest go first
MOST_TRIES = 3                             # of a question whose process ended in the middle
MOST_WHYS = 8                              # that wait at once, of all shops
STALE_US = 60_000_000                      # after which nobody waits for a why any more

Status: TypeAlias = Literal["waiting", "working", "complete", "failed"]

_TABLES = """
-- one row per question that a shop asked
CREATE TABLE IF NOT EXISTS questions (
    shop TEXT NOT NULL, id TEXT NOT NULL, question TEXT NOT NULL, status TEXT NOT NULL,
    asked INTEGER NOT NULL, updated INTEGER NOT NULL, tries INTEGER NOT NULL, told BLOB NOT NULL,
    PRIMARY KEY (shop, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS questions_in_turn ON questions (status, asked);

-- one row per customer of whom somebody waits to know why
CREATE TABLE IF NOT EXISTS whys (
    id TEXT PRIMARY KEY, shop TEXT NOT NULL, asked INTEGER NOT NULL, ask BLOB NOT NULL, told BLOB);
"""

_QUESTIONS = """
-- one row per question of a shop, the latest first
SELECT shop, id, question, status, asked, updated, tries, told FROM questions
WHERE shop = ? ORDER BY asked DESC, id
"""
_ONE = "SELECT shop, id, question, status, asked, updated, tries, told FROM questions WHERE"

# the oldest of those that are over and too many
_FORGET = """
DELETE FROM questions WHERE shop = ? AND status IN ('complete', 'failed') AND id IN (
    SELECT id FROM questions WHERE shop = ? AND status IN ('complete', 'failed')
    ORDER BY updated DESC LIMIT -1 OFFSET ?)
"""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one way to answer, on the window before the cutoff that nothing had seen."""

    question: str
    cutoff: str                            # of the window
    horizon_days: float
    method: str                            # `answer` is the chosen way, calibrated; others compare
    metric: str
    value: float | None
    low: float | None                      # 5th percentile over customers drawn again
    high: float | None                     # 95th
    verdict: str | None                    # of the answer against this one: win, tie, loss
    customers: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a question led to."""

    detail: str = ""                       # why there is no answer, and what to do
    version: str | None = None             # of the model that answered
    cutoff: Instant | None = None          # as of which
    method: str | None = None              # that was chosen
    customers: int = 0                     # who were answered for
    judged: list[Figure] = []              # how good such answers were, beside simpler ones


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a shop asked, and how far it is."""

    shop: str
    id: str
    question: str
    status: Status
    asked: Instant
    updated: Instant
    tries: int
    found: Found


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Of which customer it is asked why, and why what."""

    customer: str                          # the key that names them
    question: str
    horizon_days: float
    budget_seconds: float


class Waits(NamedTuple):
    """Somebody who waits to know why."""

    id: str
    shop: str
    why: Why


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Why, or why that cannot be told."""

    detail: str = ""                       # why not
    passes: bool = False                   # whether asking again in a while may help
    version: str = ""
    at: Instant | None = None              # the instant of which it is told
    explanation: msgspec.Raw = msgspec.Raw(b"null")        # predictions.explain.why.Explanation


class TooMany(Exception):
    """So much waits that more would wait in vain."""


class Desk:
    """The file. Every call is its own transaction, and from any thread or process."""

    def __init__(self, path: Path) -> None:
        """Open it, made where it is missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._bell = Bell(path.with_name(SCORE_BELL))
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()
        self._bell.close()

    # -- questions of everyone

    def ask(self, shop: str, question: str, *, id: str, now: int) -> Question:
        """Let a question wait under an id; one that waits already is told as it stands.

        Raises:
            TooMany: of this shop, or of all.
        """
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            waiting = self._rows(
                f"{_ONE} status IN ('waiting', 'working')"
            )
            for one in waiting:
                if (one.shop, one.question) == (shop, question):
                    return one
            mine = sum(one.shop == shop for one in waiting)
            if mine >= MOST_WAITING or len(waiting) >= MOST_WAITING_IN_ALL:
                raise TooMany
            row = (shop, id, question, "waiting", now, now, 0, msgspec.json.encode(Found()))
            self._connection.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._connection.execute(_FORGET, [shop, shop, MOST_KEPT])
        return _question(row)

    def question(self, shop: str, id: str) -> Question | None:
        """One question of a shop."""
        with self._lock:
            found = self._rows(f"{_ONE} shop = ? AND id = ?", shop, id)
        return found[0] if found else None

    def questions(self, shop: str) -> list[Question]:
        """Those that a shop asked, the latest first."""
        with self._lock:
            return self._rows(_QUESTIONS, shop)

    def waits(self) -> bool:
        """Whether a question waits, or was left in the middle."""
        with self._lock:
            sql = "SELECT 1 FROM questions WHERE status IN ('waiting', 'working') LIMIT 1"
            return self._connection.execute(sql).fetchone() is not None

    def take(self, now: int) -> Question | None:
        """The question whose turn it is; one process at a time takes them.

        One that was left in the middle too often is given up.
        """
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            while True:
                found = self._rows(
                    f"{_ONE} status IN ('working', 'waiting') ORDER BY tries, asked, id LIMIT 1"
                )
                if not found:
                    return None
                if found[0].tries < MOST_TRIES:
                    break
                detail = "answering it ended in the middle each time; `habitue status` may say why"
                self._put(found[0], "failed", Found(detail=detail), now)
            self._put(found[0], "working", Found(), now)
            return found[0]

    def settle(self, question: Question, found: Found, now: int) -> None:
        """What became of a question that was taken; where `detail` says why not, it failed."""
        with self._lock, self._connection:
            self._put(question, "failed" if found.detail else "complete", found, now)

    # -- why one customer

    def wonder(self, shop: str, why: Why, *, id: str, now: int) -> None:
        """Let it be asked why.

        Raises:
            TooMany: so many wait that this one would wait in vain.
        """
        self.tidy(now)
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            count = self._connection.execute("SELECT count(*) FROM whys WHERE told IS NULL")
            if count.fetchone()[0] >= MOST_WHYS:
                raise TooMany
            row = (id, shop, now, msgspec.json.encode(why), None)
            self._connection.execute("INSERT INTO whys VALUES (?, ?, ?, ?, ?)", row)
        self._bell.ring()

    def wondering(self, now: int) -> Waits | None:
        """Who waits the longest to know why, of those who still do."""
        sql = """SELECT id, shop, ask FROM whys WHERE told IS NULL AND asked >= ?
            ORDER BY asked, id LIMIT 1"""
        with self._lock:
            row = self._connection.execute(sql, [now - STALE_US]).fetchone()
        return None if row is None else Waits(row[0], row[1], msgspec.json.decode(row[2], type=Why))

    def tell(self, id: str, told: bytes) -> None:
        """Why, for who asked; nothing is kept where nobody waits."""
        with self._lock, self._connection:
            self._connection.execute("UPDATE whys SET told = ? WHERE id = ?", [told, id])

    def told(self, id: str) -> bytes | None:
        """Why; none: not known yet."""
        with self._lock:
            row = self._connection.execute("SELECT told FROM whys WHERE id = ?", [id]).fetchone()
        return None if row is None else row[0]

    def tidy(self, now: int) -> None:
        """Forget whom nobody waits for any more, as after a crash."""
        sql, stale = "FROM whys WHERE asked < ?", [now - STALE_US]
        with self._lock, self._connection:
            if self._connection.execute(f"SELECT 1 {sql} LIMIT 1", stale).fetchone() is not None:
                self._connection.execute(f"DELETE {sql}", stale)

    def drop(self, id: str) -> None:
        """Forget who asked why; nothing of the customer is left here."""
        with self._lock, self._connection:
            self._connection.execute("DELETE FROM whys WHERE id = ?", [id])

    # -- helpers; whoever calls holds the lock

    def _rows(self, sql: str, *values: object) -> list[Question]:
        return [_question(row) for row in self._connection.execute(sql, values).fetchall()]

    def _put(self, question: Question, status: Status, found: Found, now: int) -> None:
        tries = question.tries + (status == "working")
        self._connection.execute(
            "UPDATE questions SET status = ?, updated = ?, tries = max(tries, ?), told = ?"
            " WHERE shop = ? AND id = ?",
            [status, now, tries, msgspec.json.encode(found), question.shop, question.id],
        )


def _instant(time: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


def _question(row: Sequence[Any]) -> Question:
    shop, id, question, status, asked, updated, tries, told = row
    return Question(
        shop=shop, id=id, question=question, status=status, asked=_instant(asked),
        updated=_instant(updated), tries=tries, found=msgspec.json.decode(told, type=Found),
    )  # fmt: skip
