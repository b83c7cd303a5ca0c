"""Rows of a few customers found without a database are those that it finds."""

from functools import partial
from itertools import count

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.sequences.build import ShopRules, sequences_among, sequences_from_events
from habitue.sequences.flatten import (
    Terms,
    cancelled_orders,
    orders_told_again,
    rows_among,
    rows_of,
)

TIME = pa.timestamp("us", tz="UTC")
LINES = pa.list_(
    pa.struct([("item", pa.string()), ("quantity", pa.float64()), ("amount_minor", pa.int64())])
)
SCHEMA = pa.schema(
    [
        ("source", pa.string()), ("digest", pa.binary()), ("customer", pa.string()),
        ("name", pa.string()), ("time", TIME), ("received", TIME), ("value_minor", pa.int64()),
        ("currency", pa.string()), ("order", pa.string()), ("lines", LINES),
    ]
)  # fmt: skip
NAMES = (
    "order_placed", "order_placed", "order_cancelled", "order_updated", "item_viewed",
    "recommendations_shown",
)  # fmt: skip


def one_of(*values: object) -> st.SearchStrategy[object]:
    return st.sampled_from(values)


def lines() -> st.SearchStrategy[object]:
    line = st.fixed_dictionaries(
        {"item": one_of("tea", "cup", "é"), "quantity": one_of(1.0, 2.5),
         "amount_minor": one_of(100, 250)}
    )  # fmt: skip
    return st.none() | st.lists(line, max_size=3)


def events() -> st.SearchStrategy[list[dict[str, object]]]:
    """Few of everything, so that times are equal and orders are told and cancelled twice."""
    return st.lists(
        st.fixed_dictionaries(
            {
                "source": one_of("a", "b", "c"),
                "customer": one_of(None, "ann", "Bob", "zoë"),
                "name": one_of(*NAMES),
                "time": one_of(*range(4)),
                "received": one_of(*range(3)),
                "value_minor": one_of(None, -5, 0, 5, 700),
                "currency": one_of(None, "GBP", "EUR"),
                "order": one_of(None, "", "1", "2"),
                "lines": lines(),
            }
        ),
        max_size=12,
    )


def table(rows: list[dict[str, object]]) -> pa.Table:
    """With a digest for each, in no order."""
    number = count()
    told = [{**row, "digest": bytes([next(number) * 37 % 251] * 16)} for row in rows]
    return pa.Table.from_pylist(told, schema=SCHEMA)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    with duckdb.connect(config={"threads": 1}) as opened:
        yield opened


@given(rows=events())
def test_a_few_customers_rows_are_those_that_the_database_finds(
    connection: duckdb.DuckDBPyConnection, rows: list[dict[str, object]]
) -> None:
    part = table(rows)
    connection.register("events", part)
    read = partial(asked, connection)
    terms = Terms(
        currency="GBP", scale=100.0, is_item=lambda items: items, listed=pa.array([], pa.string()),
        cancelled=cancelled_orders(read), told=orders_told_again(read, shares=1),
    )  # fmt: skip
    slow, _ = rows_of(part, terms, connection)
    fast = rows_among(part, "GBP")
    assert fast is not None
    assert fast.to_pylist() == slow.to_pylist()
    assert fast.column_names == slow.column_names


def test_lines_that_were_told_apart_are_joined_by_the_database() -> None:
    row = {
        "source": "a", "customer": "ann", "name": "order_placed", "time": 2, "received": 2,
        "value_minor": 100, "currency": "GBP", "order": "1", "lines": [],
    }  # fmt: skip
    line = {"item": "tea", "quantity": 1.0, "amount_minor": 100}
    apart = {**row, "name": "item_ordered", "time": 1, "lines": [line]}
    part = table([row, apart])
    assert rows_among(part, "GBP") is None
    shop = sequences_from_events(part, shop="acme", cutoff=9)
    among = sequences_among(part, shop, ShopRules(), cutoff=9)
    assert among.items[among.line_item].tolist() == ["tea"]


def asked(connection: duckdb.DuckDBPyConnection, sql: str, values: list[object]) -> pa.Table:
    return connection.sql(sql, params=values).to_arrow_table()
