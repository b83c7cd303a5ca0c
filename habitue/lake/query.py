"""The one door for reading: SQL in, Arrow out, one shop at a time, as of an instant.

`read` registers the views of `habitue.lake.views`, restricted to the shop, and runs one SELECT over
them. Nothing else can be named: the statement's parse tree may hold only these views, its own CTEs,
and functions of values, so no SQL that passes the door sees another shop's rows. What the views
rest on is in the schemas `stored` and `hidden`, which no name without a dot reaches.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import duckdb
import pyarrow as pa

from habitue.errors import BadLake, BadQuery, NoSuchShop
from habitue.lake.identity import Resolution
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake, buckets_of
from habitue.lake.views import orders, people
from habitue.lake.views.catalogue import VIEWS, View

HELD_COLUMNS = """
-- no rows: the columns of some Parquet files, of which the older may lack some
SELECT * FROM read_parquet(
    getvariable('{table}_files'), union_by_name = true,
    hive_partitioning = true, hive_types = {{'bucket': INTEGER}}) LIMIT 0
"""

STORED = """
-- one row per row of the Delta snapshot, of every shop; not reachable from outside
CREATE VIEW stored.{table} AS
SELECT * FROM read_parquet(
    getvariable('{table}_files'), union_by_name = true,
    hive_partitioning = true, hive_types = {{'bucket': INTEGER}})
"""

STORED_BEFORE = """
-- the same of a table none of whose files has the columns that were added since: they are null
CREATE VIEW stored.{table} AS
SELECT * FROM stored.{table}_shape
UNION ALL BY NAME
SELECT * FROM read_parquet(
    getvariable('{table}_files'), union_by_name = true,
    hive_partitioning = true, hive_types = {{'bucket': INTEGER}})
"""

DECLARED = """
-- one row: what the shop declares to be no item, and whose telling of an order it believes
SELECT not_item_codes, not_item_patterns, order_sources FROM stored.shops
WHERE shop = getvariable('shop') ORDER BY received DESC LIMIT 1
"""

_FILE = ".parquet"                         # in what is said of a file that is broken

NAMES = frozenset(view.name for view in VIEWS if view.is_public)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
_TABLE_KINDS = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY"}
)
# functions that are no functions of values: they read or write what is around the statement
_FORBIDDEN_FUNCTIONS = re.compile(
    r"""
    __.*                                                            # inner parts of DuckDB
  | getvariable | getenv | current_setting                          # variables and settings
  | json_serialize_(sql|plan) | json_deserialize_sql | json_execute_serialized_sql   # SQL as text
  | query | query_table | sql_auto_complete | current_query
  | write_log | parse_duckdb_log_message                            # logs
  | (duckdb|pg|has|inet|pragma)_.* | (col|obj|shobj)_description    # the catalogue
  | current_(catalog|database|role|schemas?|user) | user | session_user
  | current_(connection|query|transaction)_id | txid_current
  | in_search_path | format_type | format_pg_type | map_to_pg_oid | get_block_size
  | nextval | currval | setval | stats | version | setseed | sleep_ms    # the session itself
    """,
    re.VERBOSE | re.IGNORECASE,
)
_VALUE_FUNCTIONS = """
-- one row per function that takes values and gives one
SELECT DISTINCT lower(function_name) FROM duckdb_functions()
WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro')
"""
# an extension is code from elsewhere, and a statement must not fetch it
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
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

    The views are those of `NAMES`, described in docs/reference/tables.md; `order` and `time` are
    words of SQL and stand in double quotes. Values are bound with `?`. Customers are resolved as
    of the read: `customer` is whom a key belonged to by then, and `key` the key as it was sent.
    Raises `NoSuchShop`, or `BadQuery` for anything but a SELECT over these views.
    """
    with _connected(lake, shop, cutoff, known_at) as connection:
        _open_views(connection, lake, shop, _names_in(connection, sql))
        try:
            return connection.sql(sql, params=list(parameters)).to_arrow_table()
        except duckdb.IOException:
            raise
        except duckdb.Error as error:
            raise BadQuery(f"the lake cannot answer this SQL: {error}\n{sql.strip()}") from error


@contextmanager
def opened(
    lake: Lake,
    views: set[str],
    *,
    shop: str,
    cutoff: datetime | None = None,
    known_at: datetime | None = None,
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Resolution]]:
    """A connection to some views for several statements of our own, and whose key is whose.

    Statements are not looked at: none of them may come from outside.
    """
    with _connected(lake, shop, cutoff, known_at) as connection:
        found = _open_views(connection, lake, shop, views | {"events"})
        assert found is not None, "events have customers"
        yield connection, found


@contextmanager
def _connected(
    lake: Lake, shop: str, cutoff: datetime | None, known_at: datetime | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    shops = lake.shops()
    if shop not in shops:
        raise NoSuchShop(shop, shops)
    try:
        with duckdb.connect(config=_CLOSED) as connection:
            lake.storage.attach(connection)
            _set_variables(connection, shop, cutoff, known_at)
            yield connection
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        if isinstance(error, duckdb.IOException) or _FILE in str(error):
            raise BadLake(str(error)) from error
        raise


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


def _open_views(
    connection: duckdb.DuckDBPyConnection, lake: Lake, shop: str, named: set[str]
) -> Resolution | None:
    """Make the named views and what they rest on; whose key is whose, where that was asked."""
    views = _needed(named)
    tables = {table for view in views for table in view.tables}
    connection.execute("CREATE SCHEMA stored")
    # apart from `stored`: a view finds the names of its own schema first, such as `events`
    connection.execute("CREATE SCHEMA hidden")
    held = _Tables(connection, lake)
    for name in sorted(tables - {"customers"}):
        held.open(name)
    if "shops" in tables:
        _set_declared(connection)
        connection.execute(orders.IS_ITEM)
        connection.execute(orders.SOURCE_RANK)
    found = _resolve(connection, shop, held) if "customers" in tables else None
    for view in views:
        if view.name == "profiles":
            _keep(connection, "folded", people.folded(connection))
        connection.execute(view.sql)
    return found


def _needed(named: set[str]) -> list[View]:
    """The named views and those that they rest on, in their order."""
    needed = set(named)
    for view in reversed(VIEWS):
        if view.name in needed:
            needed.update(view.views)
    return [view for view in VIEWS if view.name in needed]


class _Tables:
    """The lake's tables as a connection sees them, each opened once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
        self._connection = connection
        self._lake = lake
        self.names: set[str] = set()

    @property
    def buckets(self) -> int:
        """How many buckets the tables are cut into."""
        return self._lake.buckets

    def open(self, name: str) -> None:
        """Make a table readable as stored.NAME, with every column of its schema."""
        if name in self.names:
            return
        self.names.add(name)
        empty = TABLES[name].schema.empty_table()
        files = self._lake.files(name)
        if not files:
            _keep(self._connection, name, empty)
            return
        self._connection.execute(f"SET VARIABLE {name}_files = ?", [files])
        held = self._connection.sql(HELD_COLUMNS.format(table=name)).columns
        if set(empty.column_names) <= set(held):
            self._connection.execute(STORED.format(table=name))
        else:
            _keep(self._connection, f"{name}_shape", empty)
            self._connection.execute(STORED_BEFORE.format(table=name))


def _keep(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Make an Arrow table readable as stored.NAME."""
    connection.register("passing", rows)
    connection.execute(f"CREATE TABLE stored.{name} AS SELECT * FROM passing")
    connection.unregister("passing")


def _resolve(connection: duckdb.DuckDBPyConnection, shop: str, tables: _Tables) -> Resolution:
    """Make what turns keys into customers; where nothing links two keys it costs nothing."""
    tables.open("links")
    connection.execute(people.LINKS)
    found = people.identities(connection, shop, set(tables.names), tables.open)
    _keep(connection, "conflicts", found.conflicts())
    known = found.identities()
    if known.num_rows:
        shops = pa.repeat(shop, known.num_rows)
        buckets = buckets_of(known.append_column("shop", shops), tables.buckets)
        _keep(connection, "identities", known.append_column("bucket", pa.array(buckets)))
    connection.execute(people.CUSTOMER_OF if known.num_rows else people.SAME_CUSTOMER)
    if "events" in tables.names:
        connection.execute(orders.LINKED_EVENTS if known.num_rows else orders.OWN_EVENTS)
    return found


def _set_declared(connection: duckdb.DuckDBPyConnection) -> None:
    """Put what the shop declares where `is_item` and `source_rank` find it."""
    settings = connection.execute(DECLARED).fetchall()
    codes, patterns, sources = settings[0] if settings else (None, None, None)
    pattern = "|".join(f"(?:{one})" for one in patterns or ()) or None
    connection.execute("SET VARIABLE not_item_codes = CAST(? AS VARCHAR[])", [codes or []])
    connection.execute("SET VARIABLE not_item_pattern = CAST(? AS VARCHAR)", [pattern])
    connection.execute("SET VARIABLE order_sources = CAST(? AS VARCHAR[])", [sources or []])


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
        is_read = tree["error_type"] == "parser"    # else it is SQL, and no SELECT
        told = tree["error_message"] if is_read else "this is a statement of another kind"
        raise BadQuery(f"one SELECT was wanted: {told}\n{sql.strip()}")
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
    tables = {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"}
    return tables & NAMES


def _check_node(node: dict, known: frozenset[str]) -> None:
    """One rule per kind of node in DuckDB's parse tree."""
    _check_function(node.get("function_name"))
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
        case kind if _is_table(node) and kind not in _TABLE_KINDS:
            raise BadQuery(f"{kind} is not allowed in SQL over the lake")


def _check_function(name: str | None) -> None:
    """Refuse a function of anything but values, whatever kind of node it stands in."""
    if name is not None and name.lower() not in _TABLE_FUNCTIONS | _allowed_functions():
        raise BadQuery(f"the function {name!r} is not allowed in SQL over the lake")


@functools.cache
def _allowed_functions() -> frozenset[str]:
    """The functions of values that DuckDB brings; what a newer extension adds is not among them."""
    with duckdb.connect(config=_CLOSED) as connection:
        rows = connection.execute(_VALUE_FUNCTIONS).fetchall()
    return frozenset(name for (name,) in rows if not _FORBIDDEN_FUNCTIONS.fullmatch(name))


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
