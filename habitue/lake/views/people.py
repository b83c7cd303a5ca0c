"""Views of who customers are and what is known of them, and the tables that Python makes for them.

`customer_of` turns a key into its customer. While nothing links two keys it is the key itself, and
DuckDB leaves it out of the plan.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, TypeAlias

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from habitue.lake.identity import Resolution, resolve

Open: TypeAlias = Callable[[str], None]    # makes one more table of the lake readable

SAME_CUSTOMER = """
-- one customer per key: the key itself, where nothing links two keys
CREATE MACRO customer_of(key_asked) AS key_asked
"""

CUSTOMER_OF = """
-- one customer per key, as of the cutoff
CREATE MACRO customer_of(key_asked) AS coalesce(
    (SELECT known.customer FROM stored.identities AS known WHERE known.key = key_asked), key_asked)
"""

LINKS = """
-- one row per saying that two keys are one customer, or (undo) no longer are, by the cutoff
CREATE OR REPLACE VIEW links AS
SELECT * FROM stored.links
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

CONFLICTS = """
-- one row per pair of keys that was linked and is still two customers: why they were not made one
CREATE VIEW conflicts AS SELECT * FROM stored.conflicts
"""

IDENTIFIERS = """
-- one row per raw email or phone, and the key that stands for it everywhere else
CREATE VIEW identifiers AS
SELECT customer_of(key) AS customer, key, kind, value, "time", received
FROM stored.identifiers
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff') AND received <= getvariable('known_at')
"""

PROFILE_CHANGES = """
-- one row per change of a customer's properties, by the cutoff
CREATE VIEW profile_changes AS
SELECT * REPLACE (customer_of(customer) AS customer), customer AS key
FROM stored.profiles
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

PROFILES = """
-- one row per customer whose properties were ever told: what they are as of the cutoff
CREATE VIEW profiles AS SELECT * FROM stored.folded
"""

CONSENT_HISTORY = """
-- one row per change of a customer's consent to a channel, by the cutoff
CREATE VIEW consent_history AS
SELECT * REPLACE (customer_of(customer) AS customer), customer AS key
FROM stored.consents
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

CONSENTS = """
-- one row per customer and channel: the status in force, and since when it has been
CREATE VIEW consents AS
WITH told AS (
    SELECT *, status IS DISTINCT FROM lag(status) OVER (
        PARTITION BY customer, channel ORDER BY "time", received, digest) AS is_new
    FROM consent_history
)
SELECT customer, channel, arg_max(status, ("time", received, digest)) AS status,
    max("time") FILTER (is_new) AS since,
    arg_max({'method': method}, ("time", received, digest)).method AS method,
    arg_max(source, ("time", received, digest)) AS source
FROM told GROUP BY customer, channel
"""

_LINKS = """
-- one row per link of the shop as of the read
SELECT digest, source, key, other, "time", received, cause, undo, public FROM links
"""

_BACKFILLED = """CASE WHEN backfilled THEN "time" ELSE received END"""

# what holds customers' keys beside links: table -> column, and when a row was known
_KEYED = {
    "events": ("customer", _BACKFILLED),
    "profiles": ("customer", _BACKFILLED),
    "consents": ("customer", _BACKFILLED),
    "identifiers": ("key", "received"),
}

_KEYS = """
-- one row per key of the shop in a table as of the read, from one text up to another
SELECT DISTINCT {column} FROM stored.{table}
WHERE shop = getvariable('shop') AND {column} >= ? AND {column} < ?
  AND "time" <= getvariable('cutoff') AND {received} <= getvariable('known_at')
"""
_PROFILE, _PROFILE_END = "profile:", "profile;"        # ; follows : in the order of texts
_LAST = "\U0010ffff"

_CHANGES = """
-- one row per change of properties, each customer's in the order in which they count
SELECT customer, "time", put, clear, append, unappend FROM profile_changes
ORDER BY customer, "time", received, digest
"""

FOLDED = pa.schema(
    [
        ("customer", pa.string()),
        ("properties", pa.string()),                   # JSON object
        ("since", pa.timestamp("us", tz="UTC")),       # of the first change
        ("time", pa.timestamp("us", tz="UTC")),        # of the last
        ("changes", pa.int64()),
    ]
)


def identities(
    connection: duckdb.DuckDBPyConnection, shop: str, tables: set[str], open_table: Open
) -> Resolution:
    """The customers of a shop's keys as of the read, which opens `tables` and perhaps more.

    That some key has the profile id of a `profile:` key can only be told by trying them all, so
    the keys of every table are gathered; but not where nothing names a customer in that way.
    """
    links = connection.sql(_LINKS).to_arrow_table()
    named = pa.chunked_array([*links["key"].chunks, *links["other"].chunks], pa.string())
    if pc.any(pc.starts_with(named, _PROFILE)).as_py() or any(
        _keys(connection, table, _PROFILE, _PROFILE_END) for table in tables & set(_KEYED)
    ):
        for table in _KEYED:
            open_table(table)
        seen = [key for table in _KEYED for key in _keys(connection, table, "", _LAST)]
        return resolve(links, shop=shop, seen=seen)
    return resolve(links, shop=shop)


def _keys(
    connection: duckdb.DuckDBPyConnection, table: str, start: str, end: str
) -> list[str]:
    column, received = _KEYED[table]
    sql = _KEYS.format(table=table, column=column, received=received)
    return [key for (key,) in connection.execute(sql, [start, end]).fetchall()]


def folded(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """One row per customer: their changes of properties folded into one object."""
    rows = connection.sql(_CHANGES).to_arrow_table().to_pylist()
    found = []
    for customer, changes in groupby(rows, key=lambda row: row["customer"]):
        told = list(changes)
        found.append(
            {
                "customer": customer,
                "properties": fold(told).decode(),
                "since": told[0]["time"],
                "time": told[-1]["time"],
                "changes": len(told),
            }
        )
    return pa.Table.from_pylist(found, schema=FOLDED)


def fold(changes: Iterable[Mapping[str, Any]]) -> bytes:
    """Properties, a JSON object, after changes in their order.

    Each change holds the columns of a row of the table profiles; within one the order is put,
    clear, append, unappend. What is appended to no list makes one, and what a list holds already
    is not added again; taking what is not there out of a list, or out of no list, changes nothing.
    Values stay as they came, to the digit.

    >>> told = {"clear": [], "unappend": "{}"}
    >>> fold([told | {"put": '{"a": 1, "b": 2.50}', "append": '{"a": [1, 3]}'}])
    b'{"a":[1,3],"b":2.50}'
    """
    held: dict[str, msgspec.Raw | list[msgspec.Raw]] = {}
    for change in changes:
        held |= _OBJECT.decode(change["put"])
        for name in change["clear"]:
            held.pop(name, None)
        for name, value in _OBJECT.decode(change["append"]).items():
            held[name] = _with(_listed(held.get(name, [])), _listed(value))
        for name, value in _OBJECT.decode(change["unappend"]).items():
            if _is_list(old := held.get(name, _NOTHING)):
                gone = set(map(_same, _listed(value)))
                held[name] = [one for one in _listed(old) if _same(one) not in gone]
    return msgspec.json.encode(held)


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_NOTHING = msgspec.Raw(b"null")


def _with(held: list[msgspec.Raw], more: list[msgspec.Raw]) -> list[msgspec.Raw]:
    found = set(map(_same, held))
    extra = {_same(one): one for one in more if _same(one) not in found}
    return [*held, *extra.values()]


def _is_list(value: msgspec.Raw | list[msgspec.Raw]) -> bool:
    return isinstance(value, list) or bytes(value).lstrip().startswith(b"[")


def _listed(value: msgspec.Raw | list[msgspec.Raw]) -> list[msgspec.Raw]:
    if isinstance(value, list):
        return value
    return _LIST.decode(value) if _is_list(value) else [value]


def _same(value: msgspec.Raw) -> bytes:
    """What equal JSON values share, however they are written; 1 and true are not equal."""
    try:
        return msgspec.json.encode(msgspec.json.decode(value), order="deterministic")
    except (OverflowError, msgspec.ValidationError):
        return bytes(value).strip()        # a number that nothing here can hold
