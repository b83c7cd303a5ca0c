"""Audiences in batch: what the compiler writes beside what one would write by hand for DuckDB.

    python benchmarks/audiences.py --events 20000000 --customers 1000000

A shop is simulated straight into a lake. Each condition is answered by its compiled statement and
by a query written for it by hand, over the same views and one connection, in turns; their answers
must be equal. Seconds are the medians, without opening the lake, which is told apart; processor
time, of all threads, is what other work on the machine moves least.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from habitue.audiences.compile import Known, Told, asked, statement
from habitue.audiences.language.nodes import Condition
from habitue.audiences.language.parsing import parse
from habitue.audiences.members import AsOf, find
from habitue.lake.query import opened
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake

OURS = ("habitue/audiences", "habitue/lake/views", "benchmarks/audiences.py")
SHOP, ZONE = "simulated", "Europe/London"
START = datetime(2024, 1, 1, tzinfo=UTC)
CUTOFF = START + timedelta(days=730)
VERSION = "v1"
CHUNK = 1_000_000
ITEMS = 2_000

PROTOCOL = (
    "simulated, 2 years: {customers} customers; of the events a tenth orders of 1 to 3 lines, a "
    "fifth carts, the rest views; statements over the lake's views in one connection of DuckDB, "
    "hand-written and compiled in turns, median of {times}; the machine is shared with other work"
)

# one row per event; $low and $high are its numbers
EVENTS = """
SELECT 'simulated' AS shop, 'web' AS source, unhex(md5(CAST(i AS VARCHAR))) AS digest,
    'e' || i AS id, 'c' || (hash(i, 1) % $customers) AS customer,
    CASE WHEN kind = 0 THEN 'order_placed' WHEN kind < 3 THEN 'cart_added' ELSE 'item_viewed' END
        AS name,
    moment AS "time", moment AS received, false AS backfilled,
    CASE WHEN kind = 0 THEN CAST(500 + hash(i, 4) % 20000 AS BIGINT) END AS value_minor,
    CASE WHEN kind = 0 THEN 'GBP' END AS currency,
    CASE WHEN kind = 0 THEN 'e' || i END AS "order",
    CASE WHEN kind = 0 THEN list_transform(range(CAST(1 + hash(i, 5) % 3 AS BIGINT)), lambda n: {
        'item': 'i' || (hash(i, n, 6) % $items), 'quantity': CAST(1 + n AS DECIMAL(18, 3)),
        'unit_price': CAST(2.5 AS DECIMAL(18, 6)),
        'amount_minor': CAST(250 * (1 + n) AS BIGINT),
        'row': NULL}) END AS lines,
    '{"color": "' || ['red', 'blue', 'green', 'grey', 'pink'][CAST(1 + hash(i, 7) % 5 AS INT)]
        || '"}'
        AS properties
FROM (
    SELECT range AS i, hash(range, 2) % 10 AS kind,
        CAST($start AS TIMESTAMPTZ)
            + to_microseconds(CAST(hash(range, 3) % (730 * 86400000000) AS BIGINT)) AS moment
    FROM range($low, $high)
)
"""

# by table: one row per item, per customer, per customer with a consent, per customer and question
REST = {
    "items": """
SELECT 'simulated' AS shop, 'web' AS source, unhex(md5('i' || range)) AS digest,
    'i' || range AS item, CAST($start AS TIMESTAMPTZ) AS "time", "time" AS received,
    false AS backfilled, 'c' || range % 40 AS category FROM range($items)""",
    "profiles": """
SELECT 'simulated' AS shop, 'web' AS source, unhex(md5('p' || range)) AS digest,
    'c' || range AS customer, CAST($start AS TIMESTAMPTZ) AS "time", "time" AS received,
    false AS backfilled,
    '{"city": "' || ['Paris', 'Rome', 'Oslo'][CAST(1 + hash(range, 8) % 3 AS INT)]
        || '", "born": "'
        || CAST(DATE '1960-01-01' + CAST(hash(range, 9) % 15000 AS INT) AS VARCHAR)
        || '"}' AS put,
    CAST([] AS VARCHAR[]) AS clear, '{}' AS append, '{}' AS unappend FROM range($customers)""",
    "consents": """
SELECT 'simulated' AS shop, 'web' AS source, unhex(md5('s' || range)) AS digest,
    'c' || range AS customer, 'email' AS channel,
    ['subscribed', 'unsubscribed'][CAST(1 + hash(range, 10) % 2 AS INT)] AS status,
    CAST($start AS TIMESTAMPTZ) AS "time", "time" AS received, false AS backfilled
FROM range(0, $customers, 2)""",
    "predictions": """
SELECT 'simulated' AS shop, 'c' || range AS customer, 'v1' AS version,
    CAST($end AS TIMESTAMPTZ) AS cutoff, cutoff AS anchor, 'churn' AS question,
    90.0 AS horizon_days, (hash(range, 11) % 1000) / 1000.0 AS value, 'full' AS status,
    cutoff AS received FROM range($customers)""",
}

# what stands in a query by hand for the orders of 90 days, and so on
SINCE = "{moment} > TIMESTAMPTZ '2025-12-31' - INTERVAL {hours} HOUR"
ORDERS = "customer IS NOT NULL AND value_minor > 0 AND cancelled_at IS NULL"
EVERYONE = """
    SELECT customer FROM events WHERE customer IS NOT NULL
    UNION SELECT customer FROM profile_changes UNION SELECT customer FROM consent_history
    UNION SELECT customer FROM identifiers UNION SELECT key FROM links
    UNION SELECT other FROM links"""


def since(days: int, column: str = '"time"') -> str:
    """SQL by hand: in the last so many days."""
    return SINCE.format(moment=column, hours=24 * days)


LINES = """
    SELECT l.customer, l.quantity FROM lines l
    JOIN orders o ON o."order" = l."order" AND o.customer = l.customer
    JOIN items i ON i.item = l.item
    WHERE o.value_minor > 0 AND l.cancelled_at IS NULL AND i.category = 'c3'"""

MIXED = (
    "did order_placed >= 2 times in 90 days and churn_90d > 0.7 and did not cart_added in 7 days"
)
# condition -> the query of one who knows DuckDB and the views
BY_HAND = {
    "did order_placed >= 2 times in 90 days": f"""
        SELECT customer FROM orders WHERE {ORDERS} AND {since(90)}
        GROUP BY customer HAVING count(*) >= 2""",
    "did not order_placed in 26 weeks": f"""
        SELECT customer FROM ({EVERYONE}) ANTI JOIN (
            SELECT customer FROM orders WHERE {ORDERS} AND {since(182)}) USING (customer)""",
    "sum of order_placed value >= 200 in 365 days": f"""
        SELECT customer FROM orders WHERE {ORDERS} AND {since(365)}
        GROUP BY customer HAVING sum(value_minor) FILTER (currency = 'GBP') >= 20000""",
    'did cart_added in 30 days where color = "red"': f"""
        SELECT DISTINCT customer FROM events WHERE name = 'cart_added' AND {since(30)}
            AND customer IS NOT NULL AND properties ->> '$.color' = 'red'""",
    'did order_placed in 90 days where category = "c3"': f"""
        SELECT DISTINCT customer FROM ({LINES} AND {since(90, 'o."time"')})""",
    'sum of item_ordered quantity >= 4 in 180 days where category = "c3"': f"""
        SELECT customer FROM ({LINES} AND l.is_item AND {since(180, 'l."time"')})
        GROUP BY customer HAVING sum(quantity) >= 4""",
    "did cart_added in 3 days then not order_placed within 1 hour": f"""
        SELECT DISTINCT customer FROM (
            SELECT c.customer, c."time", o."time" AS next FROM (
                SELECT customer, "time" FROM events WHERE name = 'cart_added' AND {since(3)}) AS c
            ASOF LEFT JOIN (SELECT customer, "time" FROM orders WHERE {ORDERS} AND {since(3)}) AS o
                ON o.customer = c.customer AND c."time" < o."time")
        WHERE (next IS NULL OR next > "time" + INTERVAL 1 HOUR)
            AND "time" + INTERVAL 1 HOUR <= TIMESTAMPTZ '2025-12-31'""",
    "did cart_added in 30 days then order_placed within 1 day": f"""
        SELECT DISTINCT customer FROM (
            SELECT c.customer, c."time", o."time" AS next FROM (
                SELECT customer, "time" FROM events WHERE name = 'cart_added' AND {since(30)}) AS c
            ASOF JOIN (SELECT customer, "time" FROM orders WHERE {ORDERS} AND {since(30)}) AS o
                ON o.customer = c.customer AND c."time" < o."time")
        WHERE next <= "time" + INTERVAL 24 HOUR""",
    'profile.city = "Paris" and consent.email = "subscribed"': """
        SELECT customer FROM profiles
        JOIN (SELECT customer FROM consents WHERE channel = 'email' AND status = 'subscribed')
            USING (customer)
        WHERE properties ->> '$.city' = 'Paris'""",
    "churn_90d > 0.7": """
        SELECT customer FROM predictions WHERE version = 'v1' AND question = 'churn'
            AND horizon_days = 90 AND cutoff = TIMESTAMPTZ '2025-12-31' AND value > 0.7""",
    'rfm = "champions"': f"""
        WITH totals AS (
            SELECT customer, max("time") AS last, count(*) AS number,
                coalesce(sum(value_minor) FILTER (currency = 'GBP'), 0) AS worth
            FROM orders WHERE {ORDERS} GROUP BY customer),
        back AS (SELECT customer, sum(abs(value_minor)) AS worth FROM events
            WHERE name = 'order_refunded' AND currency = 'GBP' GROUP BY customer),
        ranked AS (SELECT customer,
            1 + 3 * (rank() OVER (ORDER BY last) - 1) // count(*) OVER () AS r,
            1 + 3 * (rank() OVER (ORDER BY number) - 1) // count(*) OVER () AS f,
            1 + 3 * (rank() OVER (ORDER BY totals.worth - coalesce(back.worth, 0)) - 1)
                // count(*) OVER () AS m
            FROM totals LEFT JOIN back USING (customer))
        SELECT customer FROM ranked WHERE r = 3 AND f = 3 AND m >= 2""",
    'did order_placed last month where weekday = "saturday"': f"""
        SELECT DISTINCT customer FROM orders WHERE {ORDERS}
            AND "time" >= TIMESTAMPTZ '2025-11-01' AND "time" < TIMESTAMPTZ '2025-12-01'
            AND isodow(timezone('Europe/London', "time")) = 6""",
    "anniversary of profile.born in the next 7 days": """
        SELECT customer FROM (
            SELECT customer, CAST(properties ->> '$.born' AS DATE) AS born FROM profiles)
        WHERE strftime(born, '%m-%d') IN (
            '01-01', '01-02', '01-03', '01-04', '01-05', '01-06', '01-07')""",
    MIXED: f"""
        SELECT customer FROM (
            SELECT customer FROM orders WHERE {ORDERS} AND {since(90)}
            GROUP BY customer HAVING count(*) >= 2)
        SEMI JOIN (
            SELECT customer FROM predictions WHERE version = 'v1' AND question = 'churn'
                AND horizon_days = 90 AND cutoff = TIMESTAMPTZ '2025-12-31' AND value > 0.7)
            USING (customer)
        ANTI JOIN (
            SELECT customer FROM events WHERE name = 'cart_added' AND {since(7)}) USING (customer)
        """,
}  # fmt: skip


def main() -> None:
    """Run what is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", help="how the condition begins")
    parser.add_argument("--lake", type=Path, help="a folder to keep the lake in, or that holds it")
    parser.add_argument("--results", type=Path, default=RESULTS / "audiences.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    with tempfile.TemporaryDirectory() as folder:
        lake = simulated(options.lake or Path(folder), options.events, options.customers)
        for said in BY_HAND:
            if options.only is None or said.startswith(options.only):
                ledger.put(measured(lake, said, options, ledger))


def simulated(folder: Path, events: int, customers: int) -> Lake:
    """A lake of one shop, made now where the folder holds none."""
    lake = Lake(folder)
    if SHOP in lake.shops():
        return lake
    told = {"customers": customers, "items": ITEMS, "start": START.isoformat()}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        shops = pa.Table.from_pylist(
            [{"shop": SHOP, "received": START, "timezone": ZONE, "currency": "GBP"}],
            schema=schema_of("shops"),
        )
        lake.append({"shops": shops})
        lake.append({"events": chunks(connection, events, told)})
        for name, sql in REST.items():
            wanted = {key: value for key, value in told.items() if f"${key}" in sql}
            wanted |= {"end": CUTOFF.isoformat()} if "$end" in sql else {}
            lake.append({name: fitted(connection.sql(sql, params=wanted).to_arrow_table(), name)})
    return lake


def chunks(
    connection: duckdb.DuckDBPyConnection, events: int, told: dict[str, object]
) -> Iterator[pa.Table]:
    """The events, a million at a time."""
    for low in range(0, events, CHUNK):
        bounds = {"low": low, "high": min(low + CHUNK, events)}
        yield fitted(connection.sql(EVENTS, params=told | bounds).to_arrow_table(), "events")


def schema_of(name: str) -> pa.Schema:
    """A table's columns, without the bucket that the lake fills in."""
    return pa.schema([field for field in TABLES[name].schema if field.name != "bucket"])


def fitted(rows: pa.Table, name: str) -> pa.Table:
    """Rows with every column of their table."""
    return pa.table(
        [
            rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pa.nulls(len(rows), field.type)
            for field in schema_of(name)
        ],
        schema=schema_of(name),
    )


def measured(
    lake: Lake, said: str, options: argparse.Namespace, ledger: Ledger
) -> list[Row]:
    """The rows of one condition: seconds by hand and compiled, and of all of `find`."""
    condition = parse(said)
    seconds, size = compared(lake, condition, said, options.times)
    began = time.perf_counter()
    found = find(lake, SHOP, condition, AsOf(CUTOFF))
    seconds["whole"] = time.perf_counter() - began
    assert found.size == size, f"{found.size} instead of {size}: {said}"
    values = {f"seconds_{name}": value for name, value in seconds.items()}
    values |= {
        "ratio": seconds["compiled"] / seconds["by_hand"],
        "ratio_of_processor_time": seconds["cpu_compiled"] / seconds["cpu_by_hand"],
        "members": size,
    }
    told = [values["ratio"], values["ratio_of_processor_time"], *seconds.values()]
    print(*(f"{one:7.2f}" for one in told), f"{size:9,} {said}", flush=True)
    protocol = PROTOCOL.format(customers=options.customers, times=options.times)
    return [
        Row(
            data=f"simulated_{options.events}", protocol=protocol, method=said, metric=metric,
            value=value, seconds=seconds["whole"], peak_mb=peak_mb(), commit=ledger.commit,
            hardware=ledger.machine,
        )
        for metric, value in values.items()
    ]  # fmt: skip


def compared(
    lake: Lake, condition: Condition, said: str, times: int
) -> tuple[dict[str, float], int]:
    """Median seconds of both statements, whose answers are equal, and how many they find."""
    told = dict.fromkeys(asked(condition), Told(VERSION, CUTOFF, is_one=True))
    known = Known(at=CUTOFF, currency="GBP", predicted=told, zone=ZONE, is_linked=False)
    asks = statement(condition, known)
    views = set(asks.views) | {"events", "orders"}
    views |= {"lines", "items"} if "category" in said else set()
    sorted_by_hand = f"SELECT customer FROM ({BY_HAND[said]}) ORDER BY customer"
    took = Took({}, {})
    with opened(lake, views, shop=SHOP, cutoff=CUTOFF) as (connection, _):
        for _ in range(times):
            by_hand = timed(connection, "by_hand", (sorted_by_hand, {}), took)
            compiled = timed(connection, "compiled", (asks.sql, asks.values), took)
            theirs, ours = by_hand.to_pylist(), compiled.to_pylist()
            assert theirs == ours, f"{len(theirs)} by hand, {len(ours)} compiled: {said}"
    return took.medians(), len(ours)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of statements by their names, each time that they ran."""

    seconds: dict[str, list[float]]
    cpu: dict[str, list[float]]            # of all threads

    def medians(self) -> dict[str, float]:
        """Of each name; those of processor time begin with cpu."""
        told = self.seconds | {f"cpu_{name}": each for name, each in self.cpu.items()}
        return {name: statistics.median(each) for name, each in told.items()}


def timed(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    asks: tuple[str, dict[str, object]],
    took: Took,
) -> pa.ChunkedArray:
    """Who a statement finds; its seconds are added to those before."""
    began, cpu = time.perf_counter(), time.process_time()
    found = connection.sql(asks[0], params=asks[1]).to_arrow_table()
    took.seconds.setdefault(name, []).append(time.perf_counter() - began)
    took.cpu.setdefault(name, []).append(time.process_time() - cpu)
    return found["customer"]


if __name__ == "__main__":
    main()
