"""The tables of the live state in SQLite, and what keeps them true: `take`, `forget`.

Nothing is folded or summed over keys here: a key's rows are its own for ever, so that joining and
parting customers changes nothing but whose key is whose. That is worked out anew, from all links
of the keys concerned, whenever a link could change it; so what comes late or out of order ends as
if it had come in time.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeAlias

import msgspec
import pyarrow as pa

from habitue.lake.identity import resolve
from habitue.lake.keys import kind_of, profile_id
from habitue.lake.live import fresh, happened
from habitue.lake.live.happened import Touched
from habitue.lake.live.told import Row, Told, visible

TABLES = """
-- one row per shard of the log: the next offset to be read
CREATE TABLE IF NOT EXISTS cursors (shard INTEGER PRIMARY KEY, next INTEGER NOT NULL);

-- one row: the lake's last commit whose rows are known here
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- one row per noun that was taken, and the key that it told of (null: an event without a customer)
CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, key INTEGER) WITHOUT ROWID;

-- one row per key; `customer` is the id of the key that names its customer, and from `visible` on
-- something is known of it
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY, shop TEXT NOT NULL, key TEXT NOT NULL, profile TEXT NOT NULL,
    customer INTEGER, first INTEGER NOT NULL, updated INTEGER, last_event INTEGER,
    visible INTEGER NOT NULL, UNIQUE (shop, key));
CREATE INDEX IF NOT EXISTS keys_by_profile ON keys (profile, shop);
CREATE INDEX IF NOT EXISTS keys_by_customer ON keys (customer);

-- one row per customer, by the id of the key that names it
CREATE TABLE IF NOT EXISTS customers (
    id INTEGER PRIMARY KEY, shop TEXT NOT NULL, profile TEXT NOT NULL, created INTEGER NOT NULL,
    updated INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS customers_by_id ON customers (shop, profile);
CREATE INDEX IF NOT EXISTS customers_by_created ON customers (shop, created, profile);
CREATE INDEX IF NOT EXISTS customers_by_updated ON customers (shop, updated, profile);

-- one row per key and event name
CREATE TABLE IF NOT EXISTS counts (
    key INTEGER, name TEXT, events INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (key, name)) WITHOUT ROWID;

-- one row per shop and event name
CREATE TABLE IF NOT EXISTS names (
    shop TEXT, name TEXT, events INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (shop, name)) WITHOUT ROWID;

-- one row per link; the smaller id stands left
CREATE TABLE IF NOT EXISTS links (
    digest BLOB NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL, "left" INTEGER NOT NULL,
    "right" INTEGER NOT NULL, source TEXT NOT NULL, cause TEXT NOT NULL, undo INTEGER NOT NULL,
    public INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS links_by_left ON links ("left", "right");
CREATE INDEX IF NOT EXISTS links_by_right ON links ("right");

-- one row per change of properties
CREATE TABLE IF NOT EXISTS profiles (
    digest BLOB NOT NULL, key INTEGER NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL,
    visible INTEGER NOT NULL, put TEXT NOT NULL, clear TEXT NOT NULL, append TEXT NOT NULL,
    unappend TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS profiles_by_key ON profiles (key);

-- one row per change of consent
CREATE TABLE IF NOT EXISTS consents (
    digest BLOB NOT NULL, key INTEGER NOT NULL, time INTEGER NOT NULL, received INTEGER NOT NULL,
    visible INTEGER NOT NULL, channel TEXT NOT NULL, status TEXT NOT NULL, method TEXT);
CREATE INDEX IF NOT EXISTS consents_by_key ON consents (key);

-- one row per raw email or phone
CREATE TABLE IF NOT EXISTS identifiers (
    key INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL);
""" + happened.TABLES + fresh.TABLES

NAMES_OF_TABLES = (
    "cursors", "about", "seen", "keys", "customers", "counts", "names", "links", "profiles",
    "consents", "identifiers", *happened.NAMES_OF_TABLES, *fresh.NAMES_OF_TABLES,
)  # fmt: skip

_KEYS = """
-- one row per key that is known, of those asked for
SELECT key, id, customer, first FROM keys
WHERE shop = ? AND key IN (SELECT value FROM json_each(?))
"""

_PUT_KEY = """
INSERT INTO keys (shop, key, profile, first, updated, last_event, visible)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (shop, key) DO UPDATE SET first = min(first, excluded.first),
    visible = min(visible, excluded.visible),
    updated = max(coalesce(updated, excluded.updated), coalesce(excluded.updated, updated)),
    last_event = max(coalesce(last_event, excluded.last_event),
        coalesce(excluded.last_event, last_event))
"""

_PUT_COUNT = """
INSERT INTO counts (key, name, events, last) VALUES (?, ?, ?, ?)
ON CONFLICT (key, name) DO UPDATE
SET events = events + excluded.events, last = max(last, excluded.last)
"""

_PUT_NAME = """
INSERT INTO names (shop, name, events, first, last) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (shop, name) DO UPDATE SET events = events + excluded.events,
    first = min(first, excluded.first), last = max(last, excluded.last)
"""

_TOLD_BEFORE = """
-- one row: whether a pair of keys was ever parted, and when it was first linked by such a key
SELECT coalesce(max(undo), 0), min(CASE WHEN undo = 0 AND public = ? THEN time END)
FROM links WHERE "left" = ? AND "right" = ?
"""

_SAME_PROFILE = """
-- one row per key that shares its profile id with one of those asked for
SELECT other.id FROM keys JOIN keys AS other USING (profile, shop)
WHERE keys.id IN (SELECT value FROM json_each(?)) AND other.id <> keys.id
"""

_REACHED = """
-- one row per key that some chain of links, whatever became of them, leads to
WITH RECURSIVE reached (id) AS (
    SELECT value FROM json_each(?)
    UNION SELECT links."right" FROM links JOIN reached ON links."left" = reached.id
    UNION SELECT links."left" FROM links JOIN reached ON links."right" = reached.id
    UNION SELECT other.id FROM reached JOIN keys ON keys.id = reached.id
        JOIN keys AS other ON other.profile = keys.profile AND other.shop = keys.shop
)
SELECT keys.id, keys.shop, keys.key, keys.customer FROM reached JOIN keys USING (id)
"""

_LINKS = """
-- one row per link of some keys
SELECT links.digest, "left".key, "right".key, links.time, links.received, links.source,
    links.cause, links.undo, links.public
FROM links JOIN keys AS "left" ON "left".id = links."left"
    JOIN keys AS "right" ON "right".id = links."right"
WHERE links."left" IN (SELECT value FROM json_each(?))
"""

_PUT_CUSTOMERS = """
-- one row per customer of those asked for
INSERT OR REPLACE INTO customers (id, shop, profile, created, updated)
SELECT name.id, name.shop, name.profile, min(held.first),
    coalesce(max(held.updated), min(held.first))
FROM keys AS held JOIN keys AS name ON name.id = held.customer
WHERE held.customer IN (SELECT value FROM json_each(?)) GROUP BY name.id
"""

_STAMP = pa.timestamp("us", tz="UTC")
_LINK_COLUMNS = {
    "digest": pa.binary(), "key": pa.string(), "other": pa.string(), "time": _STAMP,
    "received": _STAMP, "source": pa.string(), "cause": pa.string(), "undo": pa.bool_(),
    "public": pa.bool_(),
}  # fmt: skip
_AT_ONCE = 500                             # values bound to one statement


def take(connection: sqlite3.Connection, told: Told) -> Touched:
    """Add what is told for the first time; repeats change nothing. Returns whom it is about."""
    new = _first_of_each(connection, told)
    touched = Touched()
    keys = _Keys(connection, new)
    connection.executemany(
        "INSERT INTO seen VALUES (?, ?)",
        [(row[0], keys.id_of(row)) for rows in new.values() for row in rows],
    )
    _note(new, keys, touched)
    joined = set(keys.new)
    _count(connection, new.get("events", ()), keys)
    happened.keep(connection, new, [keys.id_of(row) for row in new.get("events", ())], touched)
    joined |= _link(connection, new.get("links", ()), keys)
    connection.executemany(
        "INSERT INTO profiles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(row[0], keys.id_of(row), *row[3:5], visible(row), *row[6:])
         for row in new.get("profiles", ())],
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO consents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(row[0], keys.id_of(row), *row[3:5], visible(row), *row[6:])
         for row in new.get("consents", ())],
    )  # fmt: skip
    connection.executemany(
        "INSERT OR IGNORE INTO identifiers VALUES (?, ?, ?, ?)",
        [(keys.id_of(row), row[3], *row[6:]) for row in new.get("identifiers", ())],
    )
    former = _resolve(connection, joined, keys.new)
    _refresh(connection, keys.changed)
    since = max((visible(row) for row in new.get("links", ())), default=0)
    touched.moved = {key: (customer, since) for key, customer in former.items()}
    return touched


def _note(new: Told, keys: "_Keys", touched: Touched) -> None:
    """Note from when on each row counts, and of whom."""
    for name, rows in new.items():
        for row in rows:
            if row[2] is not None:
                what = row[6] if name == "events" else name
                touched.add(keys.id(row[1], row[2]), what, visible(row))
            if name == "links":
                touched.add(keys.id(row[1], row[6]), name, visible(row))


def forget(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Remove some keys and everything that is known through them."""
    gone = _json(ids)
    among = "IN (SELECT value FROM json_each(?))"
    beside = {row[0] for row in connection.execute(_REACHED, [gone])} - set(ids)
    of_links = f'"left" {among} OR "right" {among}'
    digests = connection.execute(f"SELECT digest FROM links WHERE {of_links}", [gone, gone])
    connection.executemany("DELETE FROM seen WHERE digest = ?", digests.fetchall())
    connection.execute(f"DELETE FROM links WHERE {of_links}", [gone, gone])
    connection.execute(
        f"""UPDATE names SET events = events - lost FROM (
            SELECT keys.shop, counts.name, sum(events) AS lost
            FROM counts JOIN keys ON keys.id = counts.key WHERE counts.key {among} GROUP BY 1, 2
        ) AS counted WHERE counted.shop = names.shop AND counted.name = names.name""",
        [gone],
    )
    connection.execute("DELETE FROM names WHERE events <= 0")
    for table in ("seen", "counts", "profiles", "consents", "identifiers", "fresh"):
        connection.execute(f"DELETE FROM {table} WHERE key {among}", [gone])
    happened.forget(connection, ids)
    note_aside(connection)                 # ids are used again
    for table in ("customers", "keys"):
        connection.execute(f"DELETE FROM {table} WHERE id {among}", [gone])
    _resolve(connection, beside, ())
    _refresh(connection, beside)


def note_aside(connection: sqlite3.Connection) -> None:
    """Let whoever remembers rows know that some came or went and they were not told."""
    connection.execute(
        "INSERT INTO about VALUES ('aside', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
    )


def known_among(connection: sqlite3.Connection, digests: Iterable[bytes]) -> set[bytes]:
    """Those of the digests that were taken before."""
    found: set[bytes] = set()
    for some in _batches(digests):
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT digest FROM seen WHERE digest IN ({marks})", some)
        found.update(digest for (digest,) in rows)
    return found


class _Keys:
    """The keys that some rows tell of, each with its id; those that were unknown are made."""

    def __init__(self, connection: sqlite3.Connection, told: Told) -> None:
        spans = _spans(told)
        self._ids: dict[tuple[str, str], int] = {}
        self.new: set[int] = set()
        self.changed: set[int] = set()     # those whose customers row may be another now
        before = {one[:2]: one for one in self._held(connection, spans)}
        connection.executemany(
            _PUT_KEY,
            [  # of a key that is known the profile id stands
                (shop, key, "" if (shop, key) in before else shown_id(shop, key), *span)
                for (shop, key), span in spans.items()
            ],
        )
        for shop, key, id, _, first in list(self._held(connection, spans)):
            self._ids[shop, key] = id
            former = before.get((shop, key))
            if former is None:
                self.new.add(id)
            if former is None or spans[shop, key][1] is not None or former[4] != first:
                self.changed.add(id)

    def id_of(self, row: Row) -> int | None:
        """The id of a row's key."""
        return None if row[2] is None else self._ids[row[1], row[2]]

    def id(self, shop: str, key: str) -> int:
        """The id of a key."""
        return self._ids[shop, key]

    def _held(
        self, connection: sqlite3.Connection, spans: Iterable[tuple[str, str]]
    ) -> Iterator[tuple[str, str, int, int | None, int]]:
        of_shop: dict[str, list[str]] = {}
        for shop, key in spans:
            of_shop.setdefault(shop, []).append(key)
        for shop, keys in of_shop.items():
            for row in connection.execute(_KEYS, [shop, _json(keys)]).fetchall():
                yield (shop, *row)


def shown_id(shop: str, key: str) -> str:
    """The id by which a customer of this name is shown: of a profile id we do not know, itself."""
    is_profile = kind_of(key) == "profile"
    return key.removeprefix("profile:") if is_profile else profile_id(shop, key)


_Span: TypeAlias = tuple[int, int | None, int | None, int]


def _spans(told: Told) -> dict[tuple[str, str], _Span]:
    """Of each key: its first time, when what is no event last came, the last event's time, and
    from when on anything counts.
    """
    spans: dict[tuple[str, str], _Span] = {}
    for shop, key, time, event, change, since in _moments(told):
        first, updated, last, known = spans.get((shop, key), (time, change, event, since))
        spans[shop, key] = (
            min(first, time), _later(updated, change), _later(last, event), min(known, since)
        )  # fmt: skip
    return spans


def _moments(told: Told) -> Iterator[tuple[str, str, int, int | None, int | None, int]]:
    """Shop, key and time of each row; the time if it is an event, else when it was received; and
    from when on it counts.
    """
    for name, rows in told.items():
        is_event, is_link = name == "events", name == "links"
        for row in rows:
            _, shop, key, time, received, _, *rest = row
            event, change = (time, None) if is_event else (None, received)
            if key is not None:
                yield shop, key, time, event, change, visible(row)
            if is_link:
                yield shop, rest[0], time, event, change, visible(row)


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _first_of_each(connection: sqlite3.Connection, told: Told) -> dict[str, list[Row]]:
    """The rows whose digest is told for the first time."""
    digests = (row[0] for rows in told.values() for row in rows)
    seen = known_among(connection, digests)
    new: dict[str, list[Row]] = {}
    for name, rows in told.items():
        kept = new[name] = []
        for row in rows:
            if row[0] not in seen:
                seen.add(row[0])
                kept.append(row)
    return new


def _count(connection: sqlite3.Connection, events: Iterable[Row], keys: _Keys) -> None:
    counts: dict[tuple[int, str], tuple[int, int]] = {}
    names: dict[tuple[str, str], tuple[int, int, int]] = {}
    for row in events:
        shop, key, time, name = row[1], row[2], row[3], row[6]
        number, first, last = names.get((shop, name), (0, time, time))
        names[shop, name] = (number + 1, min(first, time), max(last, time))
        if key is not None:
            place = (keys.id(shop, key), name)
            number, last = counts.get(place, (0, time))
            counts[place] = (number + 1, max(last, time))
    connection.executemany(_PUT_COUNT, [(*place, *told) for place, told in counts.items()])
    connection.executemany(_PUT_NAME, [(*place, *told) for place, told in names.items()])


def _link(connection: sqlite3.Connection, links: Iterable[Row], keys: _Keys) -> set[int]:
    """Add links; the keys whose customers they may change.

    Telling a pair again later changes nothing, unless the two were ever parted.
    """
    touched = set()
    for digest, shop, key, time, received, _, other, source, cause, undo, public in links:
        left, right = sorted((keys.id(shop, key), keys.id(shop, other)))
        parted, first = connection.execute(_TOLD_BEFORE, [public, left, right]).fetchone()
        if undo or parted or first is None or time <= first:
            touched |= {left, right}
        connection.execute(
            "INSERT INTO links VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (digest, time, received, left, right, source, cause, undo, public),
        )
    return touched


def _resolve(
    connection: sqlite3.Connection, touched: Collection[int], new: Collection[int]
) -> dict[int, int | None]:
    """Work out anew whose the touched keys are, and all keys that links lead to from them.

    Returns the keys whose customer is another now, and who it was; of a new key, nobody.
    """
    connection.execute("UPDATE keys SET customer = id WHERE customer IS NULL")
    wanted = set(touched) - set(new)
    if new:
        shared = connection.execute(_SAME_PROFILE, [_json(new)]).fetchall()
        linked = connection.execute(
            'SELECT "left" FROM links WHERE "left" IN (SELECT value FROM json_each(?))'
            ' UNION SELECT "right" FROM links WHERE "right" IN (SELECT value FROM json_each(?))',
            [_json(new), _json(new)],
        ).fetchall()
        wanted |= {id for (id,) in chain(shared, linked)}
    reached = connection.execute(_REACHED, [_json(wanted)]).fetchall() if wanted else []
    of_shop: dict[str, dict[str, int]] = {}
    for id, shop, key, _ in reached:
        of_shop.setdefault(shop, {})[key] = id
    moved = []
    former = {id: customer for id, _, _, customer in reached}
    for shop, ids in of_shop.items():
        rows = connection.execute(_LINKS, [_json(ids.values())]).fetchall()
        found = resolve(_links(rows), shop=shop, seen=list(ids))
        for key, name in zip(found.keys.to_pylist(), found.names.tolist(), strict=True):
            customer = ids[str(found.keys[name])]
            if former[ids[key]] != customer:
                moved.append((customer, ids[key]))
    connection.executemany("UPDATE keys SET customer = ? WHERE id = ?", moved)
    _refresh(connection, {id for id, *_ in reached})
    changed = {key: former[key] for _, key in moved}
    return {**changed, **dict.fromkeys(new)}


def _refresh(connection: sqlite3.Connection, keys: Collection[int]) -> None:
    """Make the customers of some keys anew, and drop those that name nobody any more."""
    if not keys:
        return
    asked = _json(keys)
    connection.execute(
        "DELETE FROM customers WHERE id IN (SELECT value FROM json_each(?))"
        " AND id NOT IN (SELECT customer FROM keys WHERE customer IN"
        " (SELECT value FROM json_each(?)))",
        [asked, asked],
    )
    rows = connection.execute(
        "SELECT DISTINCT customer FROM keys WHERE id IN (SELECT value FROM json_each(?))", [asked]
    )
    connection.execute(_PUT_CUSTOMERS, [_json(id for (id,) in rows.fetchall())])


def _links(rows: Sequence[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(_LINK_COLUMNS)
    arrays = [
        pa.array(map(bool, column) if kind == pa.bool_() else column, kind)
        for column, kind in zip(columns, _LINK_COLUMNS.values(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=list(_LINK_COLUMNS))


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _batches(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    waiting = iter(values)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some
