"""Public data sets as shops: recognised by their columns, imported as a stranger would import them.

Another file with the same columns is read the same way.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from habitue.ingest.importing import import_file
from habitue.ingest.mapping import Fields, Mapping, parse_mapping
from habitue.lake.tables import Lake
from habitue.sequences.build import Sequences, build_sequences

IMPORTED = datetime(2024, 1, 1, tzinfo=UTC)
ALWAYS = 253_000_000_000_000_000           # µs: after anything that happened
DEMO_MAPPING = Path(__file__).parent.parent / "habitue/demo/data/online_retail_ii.toml"

# one row per customer and day; an order of nothing is still an order, so it is worth a cent
_CDNOW_SQL = """
SELECT customer_id::VARCHAR AS customer, date AS time, customer_id || ' ' || date AS "order",
       greatest(sum(amount_usd), 0.01) AS value
FROM read_parquet($path) GROUP BY customer_id, date ORDER BY 1, 2
"""
# one row per customer and day; no values are known
_GROCERY_SQL = """
SELECT DISTINCT cust::VARCHAR AS customer, date AS time, cust || ' ' || date AS "order",
       1.0 AS value
FROM read_parquet($path) ORDER BY 1, 2
"""
# one row per order line; of the two sheets' overlap the second is kept
_ONLINE_RETAIL_SQL = """
SELECT * EXCLUDE (sheet) FROM read_parquet($path)
WHERE sheet <> 'year_2009_2010' OR invoice_date < TIMESTAMP '2010-12-01'
"""
# one row per line of a basket with a positive value; a product's titles stand in the file beside
_COMPLETE_JOURNEY_SQL = """
SELECT household_id AS customer, basket_id AS "order", transaction_timestamp AS time,
       product_id AS item, greatest(quantity, 1) AS quantity,
       sales_value / greatest(quantity, 1) AS price,
       concat_ws(' ', product_category, product_type) AS title, department AS category
FROM read_parquet($path) AS lines
LEFT JOIN read_parquet(replace($path, 'transactions_sample', 'products')) AS products
    USING (product_id)
WHERE sales_value > 0
"""
_ORDERS = Mapping(
    kind="orders",
    fields=Fields(customer="customer", order="order", time="time", value="value", currency="=USD"),
    shop_timezone="UTC",
)
_LINES = Mapping(
    kind="order_lines",
    fields=Fields(
        customer="customer", order="order", time="time", item="item", quantity="quantity",
        unit_price="price", currency="=USD", title="title", category="category",
    ),
    shop_timezone="UTC",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of file: how it is known, cleaned and imported, and when it is judged."""

    name: str
    column: str                            # that no other kind of file has
    sql: str
    mapping: Callable[[], Mapping]
    cutoffs: tuple[datetime, ...]
    horizons_days: tuple[float, ...]
    has_values: bool
    protocol: str


SOURCES = (
    Source(
        name="cdnow",
        column="n_cds",
        sql=_CDNOW_SQL,
        mapping=lambda: _ORDERS,
        cutoffs=(datetime(1997, 9, 30, tzinfo=UTC),),
        horizons_days=(273.0, 30.0, 60.0, 91.0, 182.0),
        has_values=True,
        protocol="same-day purchases merged",
    ),
    Source(
        name="grocery",
        column="cust",
        sql=_GROCERY_SQL,
        mapping=lambda: _ORDERS,
        cutoffs=(datetime(2006, 12, 31, tzinfo=UTC),),
        horizons_days=(364.0, 91.0),
        has_values=False,
        protocol="same-day purchases merged, no values",
    ),
    Source(
        name="online_retail_ii",
        column="invoice_no",
        sql=_ONLINE_RETAIL_SQL,
        mapping=lambda: parse_mapping(DEMO_MAPPING.read_bytes()),
        cutoffs=tuple(datetime(2011, month, 9, tzinfo=UTC) for month in (3, 6, 9)),
        horizons_days=(90.0, 180.0),
        has_values=True,
        protocol="sheets merged, identified customers, invoices of positive value",
    ),
    Source(
        name="complete_journey",
        column="household_id",
        sql=_COMPLETE_JOURNEY_SQL,
        mapping=lambda: _LINES,
        cutoffs=(datetime(2017, 7, 1, tzinfo=UTC), datetime(2017, 9, 30, tzinfo=UTC)),
        horizons_days=(90.0,),
        has_values=True,
        protocol="baskets of households, of which a random 5% of lines is known",
    ),
)


def source_of(path: Path) -> Source:
    """The kind of file that `path` is, by its columns."""
    with duckdb.connect() as connection:
        told = connection.execute("DESCRIBE SELECT * FROM read_parquet($1)", [str(path)]).fetchall()
    columns = {name for name, *_ in told}
    for source in SOURCES:
        if source.column in columns:
            return source
    known = ", ".join(f"{source.name} ({source.column})" for source in SOURCES)
    raise SystemExit(f"{path.name}: wanted the columns of one of {known}; found {sorted(columns)}")


def sequences_of(path: Path, cutoff: int | None = None) -> Sequences:
    """The shop, imported into a lake that is thrown away, as of a cutoff or its last event (µs)."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        fill(lake, path, path.stem)
        sequences = build_sequences(lake, path.stem, cutoff=ALWAYS if cutoff is None else cutoff)
    if cutoff is not None:
        return sequences
    # nothing is known after the last event, so no horizon that ends later can be judged
    return replace(sequences, cutoff=int(sequences.time.max()))


def fill(lake: Lake, path: Path, shop: str) -> None:
    """Import a file into a lake, cleaned as its kind of file is."""
    source = source_of(path)
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / f"{path.stem}.parquet"
        with duckdb.connect() as connection:
            table = connection.sql(source.sql, params={"path": str(path)}).to_arrow_table()
            connection.register("cleaned", table)
            connection.execute(f"COPY cleaned TO '{clean}' (FORMAT parquet)")
        import_file(clean, lake=lake, shop=shop, mapping=source.mapping(), now=IMPORTED)
