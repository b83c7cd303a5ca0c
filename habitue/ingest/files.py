"""A file's rows, typed and judged: each is staged for import or rejected with a reason.

The rows are staged in DuckDB, which keeps them out of Python and spills to disk what does not fit
in memory. Money stays exact: a price is decimal(18,6) by its shortest text, an amount is rounded
half-even to its currency's minor unit in whole numbers.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from habitue.errors import BadFile
from habitue.events import currency_exponent
from habitue.ingest.mapping import Kind, Mapping, constant
from habitue.ingest.sources import Chunk, chunks, raw_json
from habitue.lake.schema import TIME

Progress = Callable[[float], None]         # called with the share that is done, 0 to 1

MEMORY_LIMIT = "800MB"                     # of the staging area; beyond it rows spill to disk
_PAYLOAD_BYTES = 4096
_SURELY_WRONG = 100                        # rows that must all fail before a column is blamed

REJECTION = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("pointer", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("payload", pa.string()),
    ]
)

STAGE = """
-- one row per row of the file that was taken
CREATE TABLE staged (
    position BIGINT, customer VARCHAR, "order" VARCHAR, "time" TIMESTAMPTZ, item VARCHAR,
    quantity DECIMAL(18, 6), unit_price DECIMAL(18, 6), amount_minor BIGINT, value_minor BIGINT,
    currency VARCHAR, title VARCHAR, category VARCHAR, brand VARCHAR, event VARCHAR, id VARCHAR,
    properties VARCHAR, cancels BOOLEAN, cancelled_order VARCHAR
)
"""

SCALES = """
-- one row per currency seen: how many 10^-12 parts of it make one minor unit
CREATE TABLE scales (currency VARCHAR PRIMARY KEY, divisor HUGEINT)
"""

CLEAN = "CREATE MACRO clean(x) AS nullif(trim(CAST(x AS VARCHAR)), '')"

# ten to the sixth units of a decimal(18,6), as a whole number
MICROS = "CREATE MACRO micros(x) AS CAST(CAST(x AS DECIMAL(28, 6)) * 1000000 AS HUGEINT)"

HALF_EVEN = """
-- a whole number divided by another, rounded to the nearest, ties to even
CREATE MACRO half_even(whole, divisor) AS
    sign(whole)::HUGEINT * (
        abs(whole) // divisor
        + CASE WHEN 2 * (abs(whole) % divisor) > divisor THEN 1
               WHEN 2 * (abs(whole) % divisor) = divisor THEN (abs(whole) // divisor) % 2
               ELSE 0 END)
"""

# an instant from what the file says; times without a zone are the shop's, and where the clock
# showed a time twice the later instant is taken
INSTANTS = {
    "text": """
CREATE MACRO as_instant(told) AS CASE
    WHEN regexp_matches(told, ':[0-9]{2}(\\.[0-9]+)?\\s*(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)$')
    THEN TRY_CAST(told AS TIMESTAMPTZ)
    ELSE TRY(timezone(getvariable('zone'), TRY_CAST(told AS TIMESTAMP))) END
""",
    "local": """
CREATE MACRO as_instant(told) AS TRY(timezone(getvariable('zone'), CAST(told AS TIMESTAMP)))
""",
    "instant": "CREATE MACRO as_instant(told) AS CAST(told AS TIMESTAMPTZ)",
    "format": """
CREATE MACRO as_instant(told) AS TRY(timezone(
    getvariable('zone'), TRY_CAST(try_strptime(told, getvariable('time_format')) AS TIMESTAMP)))
""",
    "zoned_format": """
CREATE MACRO as_instant(told) AS
    TRY_CAST(try_strptime(told, getvariable('time_format')) AS TIMESTAMPTZ)
""",
    "epoch_seconds": """
CREATE MACRO as_instant(told) AS make_timestamptz(
    CAST(CAST(TRY_CAST(told AS DECIMAL(18, 6)) AS DECIMAL(28, 6)) * 1000000 AS BIGINT))
""",
    # digits beyond those of a decimal(18,6) would be a year past 30,000
    "epoch_milliseconds": """
CREATE MACRO as_instant(told) AS make_timestamptz(
    CAST(CAST(TRY_CAST(told AS DECIMAL(18, 3)) AS DECIMAL(28, 3)) * 1000 AS BIGINT))
""",
}

_TIME_REASONS = """
    WHEN "time" IS NULL OR NOT isfinite("time") OR "time" < TIMESTAMPTZ '1970-01-01 00:00:00+00'
        THEN 'bad_time'
    WHEN "time" > getvariable('latest') THEN 'future_time'
"""
_VALUE_REASONS = """
    WHEN value_text IS NOT NULL AND value IS NULL THEN
        CASE WHEN isfinite(TRY_CAST(value_text AS DOUBLE)) THEN 'bad_value'
             WHEN TRY_CAST(value_text AS DOUBLE) IS NULL THEN 'bad_value'
             ELSE 'non_finite_value' END
"""
_PRICE_REASONS = """
    WHEN unit_price IS NULL AND price_text IS NOT NULL
        AND NOT isfinite(coalesce(TRY_CAST(price_text AS DOUBLE), 0)) THEN 'non_finite_price'
"""
_AMOUNT_REASONS = """
    WHEN abs(amount) > 1000000000000000 OR abs(worth) > 1000000000000000
        THEN 'amount_out_of_range'
"""
_PROPERTIES_REASONS = """
    WHEN properties IS NOT NULL AND NOT json_valid(properties) THEN 'bad_properties'
"""

# why a row is not taken; the first that applies
REASONS: dict[Kind, str] = {
    "order_lines": f"""
    WHEN "order" IS NULL THEN 'no_order'
    WHEN item IS NULL THEN 'no_item'
    {_TIME_REASONS}
    WHEN quantity IS NULL THEN 'bad_quantity'
    {_PRICE_REASONS}
    WHEN unit_price IS NULL THEN 'bad_price'
    WHEN divisor IS NULL THEN 'bad_currency'
    {_AMOUNT_REASONS}
""",
    "orders": f"""
    WHEN id IS NULL AND getvariable('id_mapped') THEN 'missing_id'
    WHEN "order" IS NULL AND getvariable('order_mapped') THEN 'no_order'
    {_TIME_REASONS}
    {_VALUE_REASONS}
    WHEN value IS NULL THEN 'bad_value'
    WHEN divisor IS NULL THEN 'bad_currency'
    {_AMOUNT_REASONS}
    {_PROPERTIES_REASONS}
""",
    "events": f"""
    WHEN event IS NULL THEN 'no_event'
    WHEN id IS NULL AND getvariable('id_mapped') THEN 'missing_id'
    {_TIME_REASONS}
    {_VALUE_REASONS}
    WHEN quantity_text IS NOT NULL AND quantity IS NULL THEN 'bad_quantity'
    {_PRICE_REASONS}
    WHEN price_text IS NOT NULL AND unit_price IS NULL THEN 'bad_price'
    WHEN coalesce(value, unit_price) IS NOT NULL AND divisor IS NULL THEN 'bad_currency'
    {_AMOUNT_REASONS}
    {_PROPERTIES_REASONS}
""",
    "items": f"""
    WHEN item IS NULL THEN 'no_item'
    {_TIME_REASONS}
    {_PRICE_REASONS}
    WHEN price_text IS NOT NULL AND unit_price IS NULL THEN 'bad_price'
    WHEN unit_price IS NOT NULL AND divisor IS NULL THEN 'bad_currency'
    {_AMOUNT_REASONS}
""",
}

_POINTERS = {                              # the field that a reason is about
    "no_order": "order", "no_item": "item", "no_event": "event", "missing_id": "id",
    "bad_time": "time", "future_time": "time", "bad_quantity": "quantity",
    "non_finite_price": "unit_price", "bad_price": "unit_price", "bad_value": "value",
    "non_finite_value": "value", "bad_currency": "currency", "amount_out_of_range": "unit_price",
    "bad_properties": "properties",
}

JUDGED = """
-- one row per row of the chunk: typed, and why it is not taken, if so
CREATE OR REPLACE TEMP TABLE judged AS
WITH told AS (
    SELECT place, position, clean(customer) AS customer, clean("order") AS "order",
        as_instant("time") AS "time", clean(item) AS item, clean(quantity) AS quantity_text,
        clean(unit_price) AS price_text, clean(value) AS value_text,
        upper(clean(currency)) AS currency, clean(title) AS title, clean(category) AS category,
        clean(brand) AS brand, clean(event) AS event, clean(id) AS id,
        clean(properties) AS properties, clean(cancelled_order) AS cancelled_order
    FROM chunk
),
numbers AS (
    SELECT told.*, scales.divisor,
        TRY_CAST(quantity_text AS DECIMAL(18, 6)) AS quantity,
        TRY_CAST(price_text AS DECIMAL(18, 6)) AS unit_price,
        TRY_CAST(value_text AS DECIMAL(18, 6)) AS value
    FROM told LEFT JOIN scales USING (currency)
),
amounts AS (
    SELECT *,
        half_even(micros(coalesce(quantity, 1)) * micros(unit_price), divisor) AS amount,
        half_even(micros(value) * 1000000, divisor) AS worth
    FROM numbers
)
SELECT *, CASE {reasons} END AS reason FROM amounts
"""

TAKE = """
-- one row per row of the chunk that is taken
INSERT INTO staged
SELECT position, customer, "order", "time", item, quantity, unit_price, amount::BIGINT,
    worth::BIGINT, currency, title, category, brand, event, id, properties,
    coalesce(starts_with("order", getvariable('cancels')), false), cancelled_order
FROM judged WHERE reason IS NULL
"""

REFUSED = """
-- one row per row of the chunk that is not taken
SELECT place, position, reason FROM judged WHERE reason IS NOT NULL ORDER BY place
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A file whose rows are typed and judged, waiting in DuckDB to become events."""

    connection: duckdb.DuckDBPyConnection
    mapping: Mapping
    rows: int                              # of the file
    rejected: pa.Table                     # in the REJECTION schema, by position

    @property
    def taken(self) -> int:
        """Rows that are not rejected."""
        return self.rows - len(self.rejected)


@contextmanager
def stage(
    path: Path, mapping: Mapping, *, zone: str, now: datetime, progress: Progress
) -> Iterator[Staged]:
    """Read a whole file; nothing has reached the lake yet.

    `zone` is that of times which name none. Raises `BadFile` or `BadMapping`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="habitue-import-") as spill,
        duckdb.connect(config={"temp_directory": spill, "memory_limit": MEMORY_LIMIT}) as staging,
    ):
        _prepare(staging, mapping, zone, now)
        rows = 0
        refused = [REJECTION.empty_table()]
        for chunk in chunks(path, mapping):
            rows += len(chunk.position) + len(chunk.unread)
            refused.append(_judge(staging, mapping, chunk, now))
            progress(chunk.share)
        rejected = pa.concat_tables(refused).sort_by("position")
        _blame_a_column(path, mapping, rejected, rows)
        yield Staged(connection=staging, mapping=mapping, rows=rows, rejected=rejected)


def _prepare(
    staging: duckdb.DuckDBPyConnection, mapping: Mapping, zone: str, now: datetime
) -> None:
    staging.execute("SET TimeZone = 'UTC'")
    for statement in (STAGE, SCALES, CLEAN, MICROS, HALF_EVEN):
        staging.execute(statement)
    cancels = mapping.cancellation.order_prefix if mapping.cancellation else None
    for name, value in (
        ("zone", zone),
        ("time_format", mapping.time_format),
        ("latest", now + timedelta(hours=24)),
        ("cancels", cancels),
        ("id_mapped", mapping.fields.id is not None),
        ("order_mapped", mapping.fields.order is not None),
    ):
        staging.execute(f"SET VARIABLE {name} = ?", [value])


def _judge(
    staging: duckdb.DuckDBPyConnection, mapping: Mapping, chunk: Chunk, now: datetime
) -> pa.Table:
    """Stage the rows of a chunk that are taken; the others in the REJECTION schema."""
    places = pa.array(np.arange(len(chunk.position)))
    table = chunk.rows.append_column("place", places).append_column(
        "position", pa.array(chunk.position)
    )
    if mapping.fields.time is None:        # a catalogue without dates is in force from now on
        told = pa.repeat(pa.scalar(now, TIME), len(table))
        table = table.set_column(table.schema.get_field_index("time"), "time", told)
    staging.execute(
        INSTANTS[_time_form(mapping, table.schema.field("time").type)].replace(
            "CREATE MACRO", "CREATE OR REPLACE MACRO"
        )
    )
    staging.register("chunk", table)
    _add_scales(staging)
    staging.execute(JUDGED.format(reasons=REASONS[mapping.kind]))
    staging.execute(TAKE)
    refused = staging.sql(REFUSED).to_arrow_table()
    staging.unregister("chunk")
    payloads = raw_json(chunk, refused["place"].to_numpy())
    rows = [
        (position, reason, payload)
        for position, reason, payload in zip(
            refused["position"].to_pylist(), refused["reason"].to_pylist(), payloads, strict=True
        )
    ] + [(unread.position, unread.reason, unread.text) for unread in chunk.unread]
    return pa.table(
        [
            [position for position, _, _ in rows],
            [_pointer(mapping, reason) for _, reason, _ in rows],
            [reason for _, reason, _ in rows],
            [_cut(payload) for _, _, payload in rows],
        ],
        schema=REJECTION,
    )


def _add_scales(staging: duckdb.DuckDBPyConnection) -> None:
    """Learn the minor units of the currencies that this chunk is the first to name."""
    seen = staging.execute(
        "-- one row per currency of the chunk that looks like one and was not seen before\n"
        "SELECT DISTINCT upper(clean(currency)) AS code FROM chunk "
        "WHERE regexp_full_match(code, '[A-Z]{3}') "
        "AND code NOT IN (SELECT currency FROM scales)"
    ).fetchall()
    for (code,) in seen:
        staging.execute(
            "INSERT INTO scales VALUES (?, ?)", [code, 10 ** (12 - currency_exponent(code))]
        )


def _time_form(mapping: Mapping, kind: pa.DataType) -> str:
    """Which of INSTANTS reads this column."""
    if pa.types.is_timestamp(kind):
        return "local" if kind.tz is None else "instant"
    if pa.types.is_date(kind):
        return "local"
    if mapping.time_format is None:
        return "text"
    if mapping.time_format in INSTANTS:
        return mapping.time_format
    return "zoned_format" if "%z" in mapping.time_format else "format"


def _blame_a_column(path: Path, mapping: Mapping, rejected: pa.Table, rows: int) -> None:
    """Where every row fails for one reason, the mapping or the export is wrong, not the rows."""
    if len(rejected) < max(rows, _SURELY_WRONG):
        return
    reasons = Counter(rejected["reason"].to_pylist())
    if len(reasons) == 1:
        reason, pointer = rejected["reason"][0].as_py(), rejected["pointer"][0].as_py()
        raise BadFile(
            f"{path.name}: not one of {rows:,} rows could be taken ({reason}, column {pointer!r}); "
            f"the first is {rejected['payload'][0].as_py()[:200]}\n"
            f"hint: check that the mapping names the right column for {_field(reason)!r}, and "
            "what the column holds"
        )


def _field(reason: str) -> str:
    return _POINTERS.get(reason, "")


def _pointer(mapping: Mapping, reason: str) -> str:
    """The column at fault; the field where the mapping sets it, empty where it is the row."""
    field = _field(reason)
    column = getattr(mapping.fields, field, None) if field else ""
    return field if column is None or constant(column) is not None else column


def _cut(payload: str) -> str:
    return payload.encode()[:_PAYLOAD_BYTES].decode(errors="ignore")
