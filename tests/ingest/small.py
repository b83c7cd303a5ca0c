"""Small files to import, and a lake to import them into."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from habitue.events import Receipt
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import Mapping, parse_mapping
from habitue.lake.query import read
from habitue.lake.tables import Lake

NOW = datetime(2025, 6, 1, tzinfo=UTC)
COLUMNS = ("customer", "order", "time", "item", "quantity", "price", "title")
LINES = """
kind = "order_lines"
shop_timezone = "Europe/London"

[fields]
customer = "customer"
order = "order"
time = "time"
item = "item"
quantity = "quantity"
unit_price = "price"
currency = "=GBP"
title = "title"

[cancellation]
order_prefix = "C"
"""

Row = tuple[str, ...]                      # in the order of COLUMNS


def lines(extra: str = "") -> Mapping:
    return parse_mapping(LINES + extra)


def row(**changes: str) -> Row:
    told = {
        "customer": "c1", "order": "o1", "time": "2025-01-02 10:00:00", "item": "mug",
        "quantity": "1", "price": "2.50", "title": "A mug",
    }
    return tuple((told | changes)[name] for name in COLUMNS)


def written(path: Path, rows: Iterable[Row], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def imported(lake: Lake, path: Path, mapping: Mapping | None = None, shop: str = "acme") -> Receipt:
    return import_file(path, lake=lake, shop=shop, mapping=mapping or lines(), now=NOW)


def counts(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.appended, receipt.duplicate, receipt.rejected


def orders(lake: Lake) -> list[dict]:
    """Every order, its lines in an order of their own."""
    found = read(lake, 'SELECT * FROM orders ORDER BY "order", customer', shop="acme").to_pylist()
    for order in found:
        order["lines"] = sorted(order["lines"], key=str)
    return found


def events(lake: Lake) -> list[dict]:
    sql = "SELECT * FROM events ORDER BY time, id, digest"
    return read(lake, sql, shop="acme").to_pylist()
