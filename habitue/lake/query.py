"""The one door for reading: SQL in, Arrow out, one shop at a time, as of an instant.

`read` registers the views below, restricted to the shop, and runs one SELECT over them. Nothing
else can be named: the statement's parse tree may hold only these views, its own CTEs, and a few
pure table functions, so no SQL that passes the door sees another shop's rows.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from habitue.errors import BadQuery, NoSuchShop
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake

STORED = """
-- one row per row of the Delta snapshot, of every shop; not reachable from outside
CREATE VIEW stored.{table} AS
SELECT * FROM read_parquet(
    getvariable('{table}_files'), hive_partitioning = true, hive_types = {{'bucket': INTEGER}})
"""

IS_ITEM = """
-- one boolean per item code: false for what the shop declared to be no item
CREATE MACRO is_item(code) AS
    NOT list_contains(getvariable('not_item_codes'), code)
    AND NOT coalesce(regexp_matches(code, getvariable('not_item_pattern')), false)
"""

EVENTS = """
-- one row per event of the shop that happened by the cutoff and was known by then
CREATE VIEW events AS
SELECT * FROM stored.events
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

CATALOGUE = """
-- one row per change of what is known of an item, by the cutoff
CREATE VIEW catalogue AS
SELECT * FROM stored.items
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

TELLINGS = """
-- one row per order, source that told of it and currency; `first` says which was told first
CREATE VIEW tellings AS
SELECT
    coalesce("order", id) AS "order",
    customer,
    source,
    currency,
    min(("time", name, received, digest)) AS first,
    min("time") AS "time",
    sum(value_minor)::BIGINT AS value_minor,
    -- sorted by content: the same whichever of several events told of which lines
    CASE WHEN count(*) = 1 THEN any_value(lines) ELSE list_sort(flatten(list(lines))) END AS lines
FROM events
WHERE name IN ('order_placed', 'order_updated')
GROUP BY ALL
"""

ORDERS = """
-- one row per order and customer; of several sources or currencies the one told first counts
CREATE VIEW orders AS
WITH
-- one row per order and customer
told AS (
    SELECT "order", customer, arg_min(source, first) AS source, arg_min("time", first) AS "time",
        arg_min(value_minor, first) AS value_minor, arg_min(currency, first) AS currency,
        arg_min(lines, first) AS lines
    FROM tellings GROUP BY "order", customer
),
-- one row per order and customer (or none) that a cancellation named
cancelled AS (
    SELECT "order", customer, min("time") AS cancelled_at
    FROM events WHERE name = 'order_cancelled' AND "order" IS NOT NULL
    GROUP BY "order", customer
)
SELECT told."order", told.source, told.customer, told."time", told.value_minor, told.currency,
    least(named.cancelled_at, unnamed.cancelled_at) AS cancelled_at, told.lines
FROM told
LEFT JOIN cancelled AS named
    ON named."order" = told."order" AND named.customer = told.customer
LEFT JOIN cancelled AS unnamed
    ON unnamed."order" = told."order" AND unnamed.customer IS NULL
"""

LINES = """
-- one row per order line, at the time it was told
CREATE VIEW lines AS
SELECT o."order", o.customer, told."time", told.line.item AS item,
    told.line.quantity AS quantity, told.line.unit_price AS unit_price,
    told.line.amount_minor AS amount_minor, is_item(told.line.item) AS is_item, o.cancelled_at
FROM (
    SELECT coalesce("order", id) AS "order", customer, source, currency, "time",
        unnest(lines) AS line
    FROM events WHERE name IN ('order_placed', 'order_updated')
) AS told
JOIN (SELECT "order", customer, source, currency, cancelled_at FROM orders) AS o
    ON o."order" = told."order" AND o.source = told.source
    AND o.customer IS NOT DISTINCT FROM told.customer
    AND o.currency IS NOT DISTINCT FROM told.currency
"""

ITEMS = """
-- one row per item of the catalogue: the latest that is known of each column
CREATE VIEW items AS
SELECT item,
    max("time") AS "time",
    arg_max(title, ("time", received, digest)) AS title,
    arg_max(category, ("time", received, digest)) AS category,
    arg_max(brand, ("time", received, digest)) AS brand,
    arg_max(price_minor, ("time", received, digest)) AS price_minor,
    arg_max(currency, ("time", received, digest)) AS currency,
    is_item(item) AS is_item
FROM catalogue GROUP BY item
"""

REJECTED = """
-- one row per input that was not taken
CREATE VIEW rejected AS
SELECT * FROM stored.rejected
WHERE shop = getvariable('shop') AND received <= getvariable('known_at')
"""

RECEIPTS = """
-- one row per batch that was settled
CREATE VIEW receipts AS
SELECT * FROM stored.receipts
WHERE shop = getvariable('shop') AND received <= getvariable('known_at')
"""

SHOP_SETTINGS = """
-- one row: the settings in force now
CREATE VIEW shop_settings AS
SELECT * FROM stored.shops
WHERE shop = getvariable('shop') ORDER BY received DESC LIMIT 1
"""

NON_ITEMS = """
-- one row: what the shop declares to be no item
SELECT not_item_codes, not_item_patterns FROM stored.shops
WHERE shop = getvariable('shop') ORDER BY received DESC LIMIT 1
"""

PREDICTIONS = """
-- one row per customer, version, anchor, question and horizon, published for the cutoff or before
CREATE VIEW predictions AS
SELECT * FROM stored.predictions
WHERE shop = getvariable('shop')
  AND cutoff <= getvariable('cutoff')
  AND received <= getvariable('known_at')
"""



@dataclass(frozen=True, slots=True)
class View:
    """A view: what it rests on, and whether SQL from outside may name it."""

    name: str
    sql: str
    tables: tuple[str, ...] = ()           # that it reads itself
    views: tuple[str, ...] = ()            # that it names, and that stand before it
    is_public: bool = True


VIEWS = (
    View("events", EVENTS, tables=("events",)),
    View("tellings", TELLINGS, views=("events",), is_public=False),
    View("orders", ORDERS, views=("events", "tellings")),
    View("lines", LINES, tables=("shops",), views=("events", "orders")),
    View("catalogue", CATALOGUE, tables=("items",)),
    View("items", ITEMS, tables=("shops",), views=("catalogue",)),
    View("rejected", REJECTED, tables=("rejected",)),
    View("receipts", RECEIPTS, tables=("receipts",)),
    View("shop_settings", SHOP_SETTINGS, tables=("shops",)),
    View("predictions", PREDICTIONS, tables=("predictions",)),
)
NAMES = frozenset(view.name for view in VIEWS if view.is_public)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
_TABLE_KINDS = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"}
)
_FORBIDDEN_FUNCTIONS = frozenset({"getvariable", "getenv", "current_setting"})
_PLAIN = re.compile(r"(?!duckdb_|sqlite_|pragma_|pg_)[a-z_][a-z0-9_]*", re.IGNORECASE)


def read(
    lake: Lake,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    shop: str,
    cutoff: datetime | None = None,
    known_at: datetime | None = None,
) -> pa.Table:
    """The answer to one SELECT over the views, as of `cutoff` and what was known by `known_at`.

    Views: events, orders, lines, items, catalogue, rejected, receipts, shop_settings, predictions;
    `order` and `time` are words of SQL and stand in double quotes. Values are bound with `?`.
    Raises `NoSuchShop`, or `BadQuery` for anything but a SELECT over these views.
    """
    shops = lake.shops()
    if shop not in shops:
        raise NoSuchShop(shop, shops)
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        named = _names_in(connection, sql)
        _set_variables(connection, shop, cutoff, known_at)
        _open_views(connection, lake, named)
        try:
            answer = connection.sql(sql, params=list(parameters)).to_arrow_table()
        except duckdb.Error as error:
            raise BadQuery(f"the lake cannot answer this SQL: {error}\n{sql.strip()}") from error
    return answer


def _set_variables(
    connection: duckdb.DuckDBPyConnection,
    shop: str,
    cutoff: datetime | None,
    known_at: datetime | None,
) -> None:
    """What the views compare with; values reach them as variables, never as text."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET VARIABLE shop = ?", [shop])
    for name, instant in (("cutoff", cutoff), ("known_at", known_at)):
        bound = "infinity" if instant is None else _aware(name, instant).isoformat()
        connection.execute(f"SET VARIABLE {name} = CAST(? AS TIMESTAMPTZ)", [bound])


def _open_views(connection: duckdb.DuckDBPyConnection, lake: Lake, named: set[str]) -> None:
    """Make the named views and what they rest on."""
    needed = set(named)
    for view in reversed(VIEWS):
        if view.name in needed:
            needed.update(view.views)
    views = [view for view in VIEWS if view.name in needed]
    tables = {table for view in views for table in view.tables}
    connection.execute("CREATE SCHEMA stored")
    for name in sorted(tables):
        files = lake.files(name)
        if files:
            connection.execute(f"SET VARIABLE {name}_files = ?", [files])
            connection.execute(STORED.format(table=name))
        else:
            connection.register("nothing", TABLES[name].schema.empty_table())
            connection.execute(f"CREATE TABLE stored.{name} AS SELECT * FROM nothing")
            connection.unregister("nothing")
    if "shops" in tables:
        _set_non_items(connection)
        connection.execute(IS_ITEM)
    for view in views:
        connection.execute(view.sql)


def _set_non_items(connection: duckdb.DuckDBPyConnection) -> None:
    """Put the shop's codes and patterns that are no items where `is_item` finds them."""
    settings = connection.execute(NON_ITEMS).fetchall()
    codes, patterns = settings[0] if settings else (None, None)
    pattern = "|".join(f"(?:{one})" for one in patterns or ()) or None
    connection.execute("SET VARIABLE not_item_codes = CAST(? AS VARCHAR[])", [codes or []])
    connection.execute("SET VARIABLE not_item_pattern = CAST(? AS VARCHAR)", [pattern])


def _aware(name: str, instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise BadQuery(f"{name} must say its time zone; {instant.isoformat()} does not")
    return instant


def _names_in(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The views that the SQL names; refuses SQL that names anything else."""
    serialize = "SELECT json_serialize_sql(CAST(? AS VARCHAR))"
    ((serialized,),) = connection.execute(serialize, [sql]).fetchall()
    tree = json.loads(serialized)
    if tree["error"]:
        raise BadQuery(f"one SELECT was wanted: {tree['error_message']}\n{sql.strip()}")
    if len(tree["statements"]) != 1:
        raise BadQuery(f"one SELECT was wanted, found {len(tree['statements'])} statements")
    nodes = list(_nodes(tree))
    named = {entry["key"].lower() for node in nodes for entry in _cte_entries(node)}
    for name in named:
        # a CTE is visible in its own scope only; elsewhere the same name could mean a file
        if not _PLAIN.fullmatch(name):
            raise BadQuery(f"a CTE needs a plain name of letters and digits, not {name!r}")
    for node in nodes:
        _check_node(node, NAMES | named)
    return {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"}


def _check_node(node: dict, known: frozenset[str]) -> None:
    """One rule per kind of node in DuckDB's parse tree."""
    match node.get("type"):
        case "BASE_TABLE":
            path = node["qualified_name"]["path"]
            if len(path) != 1 or path[0].lower() not in known:
                held = ", ".join(sorted(NAMES))
                raise BadQuery(f"the lake has no view {'.'.join(path)!r}; it has: {held}")
        case "TABLE_FUNCTION":
            function = node["function"]["function_name"].lower()
            if function not in _TABLE_FUNCTIONS:
                raise BadQuery(f"table function {function!r} is not allowed in SQL over the lake")
        case "FUNCTION" if node["function_name"].lower() in _FORBIDDEN_FUNCTIONS:
            raise BadQuery(f"{node['function_name']!r} is not allowed in SQL over the lake")
        case kind if _is_table(node) and kind not in _TABLE_KINDS:
            raise BadQuery(f"{kind} is not allowed in SQL over the lake")


def _is_table(node: dict) -> bool:
    return "sample" in node and "alias" in node


def _cte_entries(node: dict) -> list[dict]:
    held = node.get("cte_map")
    return held["map"] if isinstance(held, dict) else []


def _nodes(tree: object) -> Iterator[dict]:
    """Every object of a JSON tree, the root included."""
    if isinstance(tree, dict):
        yield tree
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for value in inner:
        yield from _nodes(value)
