"""`Profiles`: who a shop's customers are right now, within milliseconds of what was told.

A second reader of the event log, beside the committer, with a cursor of its own. One transaction
applies rows and cursor, so a crash repeats nothing and loses nothing; what was told before is
known by its digest for ever. The state is derived: on doubt, `rebuild` it from the lake. It says
what the lake says once the lake has caught up.
"""

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from habitue.events import Instant, Noun
from habitue.lake.eventlog.records import Record, decode
from habitue.lake.keys import STRENGTH, kind_of
from habitue.lake.live import fresh, store
from habitue.lake.live.checkpoints import MOST_PAGES, Checkpoints
from habitue.lake.live.happened import Touched
from habitue.lake.live.told import COLUMNS, Told, held_in, instant, microseconds, told_by
from habitue.lake.tables import Lake, data_sequence
from habitue.lake.views.people import fold

PROFILES_FILE = "profiles.sqlite"
_WAIT_SECONDS = 30.0
_ROWS_AT_ONCE = 50_000                     # of one of the lake's files
_FORMAT = 5                                # of the tables
_UNTOLD = -1                               # before the lake's first commit

Answer = TypeVar("Answer")
Refuses: TypeAlias = Callable[[Noun], bool]
Then: TypeAlias = Callable[[sqlite3.Connection, Touched, int | None], None]
By: TypeAlias = Literal["id", "created", "updated"]
_COLUMN_OF: dict[By, str] = {"id": "profile", "created": "created", "updated": "updated"}

# one row per customer of a shop, in an order, after a place in it
_PAGE = """
SELECT id FROM customers WHERE shop = ? AND ({column}, profile) {beyond} (?, ?)
ORDER BY {column} {direction}, profile {direction} LIMIT ?
"""

_CUSTOMERS = """
-- one row per key that is known, of those asked for
SELECT asked.key, asked.customer, name.key FROM keys AS asked
JOIN keys AS name ON name.id = asked.customer
WHERE asked.shop = ? AND asked.key IN (SELECT value FROM json_each(?))
"""

_BY_PROFILE = """
-- at most one row: the customer whom a profile id shows
SELECT keys.customer, name.key FROM keys JOIN keys AS name ON name.id = keys.customer
WHERE keys.profile = ? AND keys.shop = ? LIMIT 1
"""

_NAMED = """
-- one row per key of a customer: the id that shows their profile, the key that names them, the key
SELECT customers.profile, name.key, keys.key
FROM customers JOIN keys ON keys.customer = customers.id JOIN keys AS name ON name.id = customers.id
WHERE customers.id = ?
"""

_HEADS = """
-- one row per customer
SELECT customers.id, keys.shop, customers.profile, keys.key, customers.created, customers.updated
FROM customers JOIN keys USING (id) WHERE customers.id IN (SELECT value FROM json_each(?))
"""

_KEYS = """
-- one row per key of some customers
SELECT customer, id, key, last_event FROM keys
WHERE customer IN (SELECT value FROM json_each(?))
"""

_OF_KEYS = """
-- rows of some customers' keys, each customer's in the order in which they count
SELECT keys.customer, {columns} FROM {table} AS told JOIN keys ON keys.id = told.key
WHERE keys.customer IN (SELECT value FROM json_each(?)) ORDER BY keys.customer, {order}
"""


class LiveConsent(msgspec.Struct, frozen=True):
    """A customer's consent to a channel: the status in force, and since when it has been."""

    status: str
    since: Instant
    method: str | None = None


class LiveProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one customer now."""

    shop: str
    id: str                                # by which the profile is shown, 26 characters
    customer: str                          # the strongest key
    keys: tuple[str, ...]                  # all of them, the strongest first
    email: str | None                      # raw; of several the one told last
    phone: str | None
    properties: msgspec.Raw                # JSON object
    consents: dict[str, LiveConsent]       # by channel
    created: Instant                       # the time of the first thing told of them
    updated: Instant                       # when properties, consent or keys last reached us
    last_event: Instant | None
    counts: dict[str, int]                 # events by name


class Named(NamedTuple):
    """Who somebody is, and nothing else that is known of them."""

    id: str                                # by which the profile is shown
    customer: str                          # the strongest key
    keys: tuple[str, ...]                  # all of them


class NameCount(msgspec.Struct, frozen=True):
    """How often an event name occurred in a shop, and when first and last."""

    events: int
    first: Instant
    last: Instant


class Profiles:
    """The live state in one SQLite file. One process applies; any number read."""

    def __init__(
        self, path: Path | str, *, refuses: Refuses | None = None, then: Then | None = None
    ) -> None:
        """Open the file, made where it is missing; `refuses` tells nouns of erased customers.

        `then` is told what was new, and when the last of it was received (none: it came from the
        lake), and writes in the same transaction.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._refuses, self._then = refuses, then
        self._checkpoints: Checkpoints | None = None
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            self.path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        for pragma in (
            "journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON",
            "cache_size = -65536", "temp_store = MEMORY",
        ):  # fmt: skip
            self._connection.execute(f"PRAGMA {pragma}")
        if self._read("PRAGMA user_version") != [(_FORMAT,)]:
            with self.writing() as connection:    # a reader waits for no writer
                _make(connection)
        if then is not None:               # somebody waits for what is written
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {MOST_PAGES}")
            self._checkpoints = Checkpoints(self.path)

    def close(self) -> None:
        """Give the file back."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        with self._lock:
            self._connection.close()

    def cursor(self, shard: int) -> int:
        """The offset of the log's shard from which on nothing was applied yet."""
        rows = self._read("SELECT next FROM cursors WHERE shard = ?", shard)
        return rows[0][0] if rows else 0

    def apply(self, shard: int, records: Sequence[Record]) -> None:
        """Take what some rows of the log tell, and move the cursor beyond them, all or nothing."""
        with self.writing() as connection:
            cursor = self.cursor(shard)
            ahead = [record for record in records if record.offset >= cursor]
            parts = [decode(record.body) for record in ahead]
            entries = (entry.nouns for part in parts for entry in part.entries)
            nouns = [noun for nouns in entries if self._welcomes(nouns) for noun in nouns]
            received = max((microseconds(one.received) for one in parts), default=None)
            self._take(connection, told_by(nouns), received)
            if ahead:
                _set_cursor(connection, shard, ahead[-1].offset + 1)

    def catch_up(self, lake: Lake, *, shards: int = 1) -> int:
        """Take what the lake holds and the log did not tell, such as imports; returns files read.

        A lake that is behind what is known here was put back from a copy: all is told anew.
        """
        with self.writing() as connection:
            held = connection.execute("SELECT value FROM about WHERE name = 'sequence'").fetchone()
            known = held[0] if held else _UNTOLD
            # asked before the files are listed: these hold at least what the cursors say
            sequence = lake.sequence
            cursors = {shard: lake.cursor(f"log-{shard}") for shard in range(shards)}
            if sequence < known:
                _clear(connection)
                known = _UNTOLD
            files = [
                (name, file)
                for name in COLUMNS
                for file in lake.files(name)
                if data_sequence(file) > known
            ]
            for name, file in files:
                for told in held_in(
                    lake.source(file), name, most_rows=_ROWS_AT_ONCE,
                    is_known=lambda digests: store.known_among(connection, digests),
                ):  # fmt: skip
                    self._take(connection, told, None)
            for shard, offset in cursors.items():
                if offset > self.cursor(shard):
                    _set_cursor(connection, shard, offset)
            connection.execute("INSERT OR REPLACE INTO about VALUES ('sequence', ?)", [sequence])
        return len(files)

    def rebuild(self, lake: Lake, *, shards: int = 1) -> None:
        """Forget everything and take what the lake holds; go on with the log from its cursors."""
        with self.writing() as connection:
            _clear(connection)
            self.catch_up(lake, shards=shards)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction for those who keep something beside, all or nothing."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield self._connection

    def look(self, question: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Ask something of those who keep beside; it must not write."""
        with self._reading():
            return question(self._connection)

    def find(self, shop: str, *keys: str) -> list[LiveProfile]:
        """The customers whom some keys belong to, each once; keys that are unknown find nobody."""
        with self._reading():
            found = self._customers(shop, keys)
            return self._load([id for id, _ in dict.fromkeys(found.values())])

    def get(self, shop: str, profile: str) -> LiveProfile | None:
        """The customer whom a profile id shows."""
        with self._reading():
            found = self._read(_BY_PROFILE, profile, shop)
            return self._load([found[0][0]])[0] if found else None

    def named(self, shop: str, told: str) -> Named | None:
        """Who is named by a key, or by the id of their profile, in less time than to load them."""
        with self._reading():
            found = list(self._customers(shop, [told]).values()) or self._read(
                _BY_PROFILE, told, shop
            )
            rows = self._read(_NAMED, found[0][0]) if found else []
        return Named(rows[0][0], rows[0][1], tuple(key for _, _, key in rows)) if rows else None

    def page(
        self,
        shop: str,
        *,
        most: int = 20,
        by: By = "id",
        descending: bool = False,
        after: LiveProfile | None = None,
    ) -> list[LiveProfile]:
        """The shop's customers in an order, from the one that follows `after` on."""
        column, start = _COLUMN_OF[by], "" if by == "id" else 0
        place: tuple[Any, str] = (start, "") if not descending else (
            "\U0010ffff" if by == "id" else 1 << 62, "\U0010ffff"
        )
        if after is not None:
            value = after.id if by == "id" else microseconds(getattr(after, by))
            place = (value, after.id)
        sql = _PAGE.format(
            column=column,
            beyond="<" if descending else ">",
            direction="DESC" if descending else "ASC",
        )
        with self._reading():
            return self._load([id for (id,) in self._read(sql, shop, *place, most)])

    def chosen(self, question: Callable[[sqlite3.Connection], Sequence[int]]) -> list[LiveProfile]:
        """The customers whose ids (of the keys that name them) a question gives, in its order."""
        with self._reading():
            return self._load(question(self._connection))

    def customers_of(self, shop: str, keys: Sequence[str]) -> dict[str, str]:
        """The customer of each key that is known."""
        with self._reading():
            return {key: name for key, (_, name) in self._customers(shop, keys).items()}

    def conflict(self, shop: str, keys: Sequence[str]) -> str | None:
        """The id of a profile that has one of these identifiers already; None: nobody has.

        Anonymous ids are no obstacle: they are attached. Of several profiles that of the strongest
        key is told.
        """
        known = sorted((key for key in keys if kind_of(key) != "anonymous"), key=_order)
        with self._reading():
            found = self._customers(shop, known)
            first = next((found[key] for key in known if key in found), None)
            return None if first is None else store.shown_id(shop, first[1])

    def names(self, shop: str) -> dict[str, NameCount]:
        """Every event name of a shop, and how often it occurred, anonymous events included."""
        rows = self._read("SELECT name, events, first, last FROM names WHERE shop = ?", shop)
        return {
            name: NameCount(events, instant(first), instant(last))
            for name, events, first, last in sorted(rows)
        }

    def forget(
        self,
        shop: str,
        keys: Sequence[str],
        *,
        beside: Callable[[sqlite3.Connection], None] | None = None,
    ) -> int:
        """Remove some keys and all that is known through them; returns how many were known.

        What others keep beside is removed by them, in the same transaction.
        """
        with self.writing() as connection:
            if beside is not None:
                beside(connection)
            asked = msgspec.json.encode(list(keys)).decode()
            sql = "SELECT id FROM keys WHERE shop = ? AND key IN (SELECT value FROM json_each(?))"
            ids = [id for (id,) in connection.execute(sql, [shop, asked])]
            store.forget(connection, ids)
        with self._lock:                   # what was removed is gone from the write-ahead log, too
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(ids)

    def _take(self, connection: sqlite3.Connection, told: Told, received: int | None) -> None:
        touched = store.take(connection, told)
        fresh.note(connection, touched, received)
        if self._then is not None:
            self._then(connection, touched, received)
        elif touched.rows:
            store.note_aside(connection)

    def _customers(self, shop: str, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Of each key that is known: its customer's id and name, in the order of the keys."""
        rows = self._read(_CUSTOMERS, shop, msgspec.json.encode(list(keys)).decode())
        found = {key: (id, name) for key, id, name in rows}
        for key in keys:
            if key not in found and kind_of(key) == "profile":
                for id, name in self._read(_BY_PROFILE, key.removeprefix("profile:"), shop):
                    found[key] = (id, name)
        return {key: found[key] for key in keys if key in found}

    def _load(self, ids: Sequence[int]) -> list[LiveProfile]:
        """Customers by the ids of the keys that name them, in that order."""
        asked = msgspec.json.encode(list(ids)).decode()
        heads = {row[0]: row for row in self._read(_HEADS, asked)}
        keys = _grouped(self._read(_KEYS, asked))
        in_order = "time, received, digest"
        counts = self._of_keys("counts", "name, events", "name", asked)
        changes = self._of_keys("profiles", "put, clear, append, unappend", in_order, asked)
        consents = self._of_keys("consents", "channel, status, method, time", in_order, asked)
        raw = self._of_keys("identifiers", "kind, value", "time, value", asked)
        return [
            _profile(
                heads[id], keys[id],
                _Known(counts[id], changes[id], consents[id], dict(raw[id])),
            )
            for id in ids
        ]  # fmt: skip

    def _of_keys(
        self, table: str, columns: str, order: str, asked: str
    ) -> Mapping[int, list[tuple[Any, ...]]]:
        told = ", ".join(f"told.{column}" for column in columns.split(", "))
        by = ", ".join(f"told.{column}" for column in order.split(", "))
        return _grouped(self._read(_OF_KEYS.format(table=table, columns=told, order=by), asked))

    def _welcomes(self, nouns: Sequence[Noun]) -> bool:
        """Whether an input enters: as a whole or not at all, as it does the lake."""
        return self._refuses is None or not any(map(self._refuses, nouns))

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state throughout several statements."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute(begin)
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            if self._checkpoints is not None:
                self._checkpoints.wake()


class _Known(msgspec.Struct, frozen=True):
    """The rows of one customer's keys, in the order in which they count."""

    counts: list[tuple[Any, ...]]
    changes: list[tuple[Any, ...]]
    consents: list[tuple[Any, ...]]
    raw: dict[str, str]


def _profile(
    head: tuple[Any, ...], keys: Sequence[tuple[Any, ...]], known: _Known
) -> LiveProfile:
    _, shop, id, customer, created, updated = head
    held = sorted((key for _, key, _ in keys), key=lambda key: (key != customer, _order(key)))
    last = [time for _, _, time in keys if time is not None]
    counts: defaultdict[str, int] = defaultdict(int)
    for name, events in known.counts:
        counts[name] += events
    return LiveProfile(
        shop=shop,
        id=id,
        customer=customer,
        keys=tuple(held),
        email=known.raw.get("email"),
        phone=known.raw.get("phone"),
        properties=msgspec.Raw(fold(_change(row) for row in known.changes)),
        consents=_consents(known.consents),
        created=instant(created),
        updated=instant(updated),
        last_event=instant(max(last)) if last else None,
        counts=dict(counts),
    )


def _change(row: tuple[Any, ...]) -> dict[str, Any]:
    put, clear, append, unappend = row
    cleared = msgspec.json.decode(clear)
    return {"put": put, "clear": cleared, "append": append, "unappend": unappend}


def _consents(rows: Sequence[tuple[Any, ...]]) -> dict[str, LiveConsent]:
    found: dict[str, LiveConsent] = {}
    for channel, status, method, time in rows:
        held = found.get(channel)
        since = held.since if held and held.status == status else instant(time)
        found[channel] = LiveConsent(status, since, method)
    return found


def _grouped(rows: Sequence[tuple[Any, ...]]) -> Mapping[int, list[tuple[Any, ...]]]:
    found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for owner, some in groupby(rows, key=lambda row: row[0]):
        found[owner] += [row[1:] for row in some]
    return found


def _order(key: str) -> tuple[int, str]:
    return STRENGTH[kind_of(key)], key


def _set_cursor(connection: sqlite3.Connection, shard: int, offset: int) -> None:
    connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", [shard, offset])


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables; those of an older format are dropped, and filled again from the lake."""
    if connection.execute("PRAGMA user_version").fetchone() == (_FORMAT,):
        return                             # someone else was first
    for table in store.NAMES_OF_TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in store.TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_FORMAT}")


def _clear(connection: sqlite3.Connection) -> None:
    for table in store.NAMES_OF_TABLES:
        connection.execute(f"DELETE FROM {table}")
