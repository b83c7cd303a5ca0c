"""A file as chunks of rows: the mapped columns by field, the rows as they came, and their places.

Parquet, CSV and NDJSON, the latter two also gzipped. CSV and NDJSON columns stay text, so that
money is read exactly as written.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from habitue.errors import BadFile, BadMapping
from habitue.ingest.mapping import FIELDS, Mapping, columns_of, constant, did_you_mean

_BLOCK_BYTES = 16 << 20
_BLOCK_ROWS = 262_144
STAGED = (*FIELDS, "cancelled_order")      # the columns of `Chunk.rows`

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that could not be parsed at all."""

    position: int                          # from 0
    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file, next to each other."""

    rows: pa.Table                         # a column for each of STAGED; null where not mapped
    raw: pa.Table                          # the same rows as they came
    position: np.ndarray                   # (rows,) int64 row of the file, from 0
    unread: tuple[Unread, ...] = ()        # further rows, not in `rows`
    share: float = 1.0                     # of the file that was read by now


def chunks(path: Path, mapping: Mapping) -> Iterator[Chunk]:
    """Every row of the file, in order.

    Raises `BadFile` or `BadMapping` where the file is missing, empty, cut short or without a
    mapped column; a row that cannot be parsed is a value, `Unread`.
    """
    form = _FORMATS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if form is None or (form == "parquet" and path.suffix == ".gz"):
        raise BadFile(
            f"{path.name}: files end in .parquet, .csv, .csv.gz, .ndjson or .ndjson.gz"
        )
    if not path.is_file():
        raise BadFile(f"{path} is no file\nhint: check the path")
    if path.stat().st_size == 0:
        raise BadFile(f"{path.name} is empty\nhint: export it again")
    readers: dict[str, Callable[[Path, Mapping], Iterator[Chunk]]] = {
        "parquet": _parquet, "csv": _csv, "ndjson": _ndjson,
    }
    rows = 0
    with _explained(path, mapping):
        for chunk in readers[form](path, mapping):
            rows += len(chunk.position) + len(chunk.unread)
            yield chunk
    if rows == 0:
        raise BadFile(f"{path.name} has columns but no rows\nhint: export it again")


@contextmanager
def _explained(path: Path, mapping: Mapping) -> Iterator[None]:
    """Turn what the readers raise into one sentence about the file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        first = str(error).splitlines()[0]
        hint = "the file may be cut short or damaged: export it again"
        if "UTF8" in first or "utf-8" in first:
            hint = 'set encoding = "latin-1" (or the one it was written in) in the mapping'
        raise BadFile(f"cannot read {path.name}: {first}\nhint: {hint}") from error
    except UnicodeDecodeError as error:
        raise BadFile(
            f"cannot read {path.name}: it is not {mapping.encoding}: {error.reason}\n"
            'hint: set encoding = "latin-1" (or the one it was written in) in the mapping'
        ) from error


def _parquet(path: Path, mapping: Mapping) -> Iterator[Chunk]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        _check_columns(path, mapping, schema.names)
        _check_types(path, mapping, schema)
        total, first = max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(batch_size=_BLOCK_ROWS):
            raw = pa.Table.from_batches([batch])
            position = np.arange(first, first + len(raw))
            first += len(raw)
            yield Chunk(
                rows=_by_field(raw, mapping), raw=raw, position=position, share=first / total
            )


def _csv(path: Path, mapping: Mapping) -> Iterator[Chunk]:
    parse = csv.ParseOptions(
        delimiter=mapping.delimiter,
        newlines_in_values=True,
        invalid_row_handler=lambda row: "skip",
    )
    with _bytes(path) as (stream, _):
        names = csv.open_csv(
            stream, read_options=_csv_options(mapping), parse_options=parse
        ).schema.names
    _check_columns(path, mapping, names)
    ragged: list[Unread] = []

    def set_aside(row: csv.InvalidRow) -> str:
        ragged.append(Unread(row.number - 2, "bad_row", row.text))     # line 1 is the header
        return "skip"

    parse.invalid_row_handler = set_aside
    with _bytes(path) as (stream, share):
        reader = csv.open_csv(
            stream,
            read_options=_csv_options(mapping),
            parse_options=parse,
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
        yield from _numbered(reader, ragged, mapping, share)


def _numbered(
    reader: csv.CSVStreamingReader,
    ragged: list[Unread],
    mapping: Mapping,
    share: Callable[[], float],
) -> Iterator[Chunk]:
    """Batches with the places of their rows, which skip those of the ragged ones."""
    first = told = 0
    for batch in reader:
        raw = pa.Table.from_batches([batch])
        taken = np.array([row.position for row in ragged], dtype=np.int64)
        candidates = np.arange(first, first + len(raw) + len(taken))
        position = np.setdiff1d(candidates, taken)[: len(raw)]
        first = int(position[-1]) + 1 if len(position) else first
        yield Chunk(
            rows=_by_field(raw, mapping),
            raw=raw,
            position=position,
            unread=tuple(ragged[told:]),
            share=share(),
        )
        told = len(ragged)
    if len(ragged) > told:
        empty = reader.schema.empty_table()
        yield Chunk(
            rows=_by_field(empty, mapping),
            raw=empty,
            position=np.empty(0, np.int64),
            unread=tuple(ragged[told:]),
        )


def _csv_options(mapping: Mapping) -> csv.ReadOptions:
    # UTF-8 under its other name is decoded before rows are cut; else, of a row of the wrong length
    # that is none, the library tells stderr instead of us
    is_utf8 = codecs.lookup(mapping.encoding).name == "utf-8"
    # one thread: only then are invalid rows numbered
    return csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES,
        encoding="utf-8-sig" if is_utf8 else mapping.encoding,
    )  # fmt: skip


READABLE = """
-- one row per line: whether it is a JSON object
SELECT CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END AS readable
FROM lines ORDER BY position
"""

KEYS = """
-- one row per key that any of the objects has
SELECT DISTINCT unnest(json_keys(line)) AS key FROM objects ORDER BY key
"""

NDJSON = """
-- one row per object: the mapped keys as text
SELECT json_extract_string(line, ?) AS found FROM objects ORDER BY position
"""


def _ndjson(path: Path, mapping: Mapping) -> Iterator[Chunk]:
    with _bytes(path) as (stream, share), duckdb.connect() as connection:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=["line"]
            ),
            # a line is one value: no byte of it separates or quotes
            parse_options=csv.ParseOptions(delimiter="\x01", quote_char=False),
            convert_options=csv.ConvertOptions(column_types={"line": pa.string()}),
        )
        first = 0
        for batch in reader:
            position = pa.array(np.arange(first, first + len(batch)))
            lines = pa.Table.from_batches([batch]).append_column("position", position)
            if len(lines):
                yield _ndjson_chunk(connection, path, mapping, lines, share())
            first += len(lines)


def _ndjson_chunk(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    mapping: Mapping,
    lines: pa.Table,
    share: float,
) -> Chunk:
    connection.register("lines", lines)
    readable = connection.sql(READABLE).to_arrow_table()["readable"]
    objects, others = lines.filter(readable), lines.filter(pc.invert(readable))
    connection.register("objects", objects)
    if lines["position"][0].as_py() == 0:
        _check_columns(path, mapping, [key for (key,) in connection.execute(KEYS).fetchall()])
    columns = list(columns_of(mapping).values())
    keys = ['$."' + column.replace("\\", "\\\\").replace('"', '\\"') + '"' for column in columns]
    found = connection.sql(NDJSON, params=[keys]).to_arrow_table()["found"].combine_chunks()
    values = found.flatten()               # object by object, key by key
    table = pa.table(
        {
            column: values.take(pa.array(np.arange(place, len(values), len(columns))))
            for place, column in enumerate(columns)
        }
    )
    return Chunk(
        rows=_by_field(table, mapping),
        raw=objects.select(["line"]),
        position=objects["position"].to_numpy(),
        unread=tuple(
            Unread(place, "bad_json", text)
            for place, text in zip(
                others["position"].to_pylist(), others["line"].to_pylist(), strict=True
            )
        ),
        share=share,
    )


def raw_json(chunk: Chunk, rows: np.ndarray) -> list[str]:
    """The chosen rows of a chunk, as they came, as JSON."""
    chosen = chunk.raw.take(pa.array(rows))
    if chosen.schema.names == ["line"]:
        return chosen["line"].to_pylist()
    return [json.dumps(row, default=str, ensure_ascii=False) for row in chosen.to_pylist()]


def _by_field(raw: pa.Table, mapping: Mapping) -> pa.Table:
    """A column for each of STAGED: the mapped one, the constant, or nulls."""
    columns = columns_of(mapping)
    arrays = []
    for field in STAGED:
        fixed = constant(getattr(mapping.fields, field, None) or "")
        if field in columns:
            arrays.append(raw[columns[field]])
        elif fixed is not None:
            arrays.append(pa.repeat(pa.scalar(fixed), len(raw)))
        else:
            arrays.append(pa.nulls(len(raw), pa.string()))
    return pa.table(arrays, names=list(STAGED))


def _check_columns(path: Path, mapping: Mapping, held: list[str]) -> None:
    if twice := sorted({name for name in held if held.count(name) > 1}):
        raise BadFile(f"{path.name} has more than one column {twice[0]!r}\nhint: rename one")
    for field, column in columns_of(mapping).items():
        if column not in held:
            section = "cancellation.order" if field == "cancelled_order" else f"fields.{field}"
            hint = did_you_mean(column, held)
            if len(held) == 1 and any(mark in held[0] for mark in ";\t|"):
                hint = f"the columns seem to be apart by something other than {mapping.delimiter!r}"
                hint += '; set delimiter in the mapping, e.g. delimiter = ";"'
            raise BadMapping(
                f"{path.name} has no column {column!r}, which the mapping names as {section}\n"
                f"hint: {hint}"
            )


_NUMBERS = frozenset({"quantity", "unit_price", "value"})


def _check_types(path: Path, mapping: Mapping, schema: pa.Schema) -> None:
    """Refuse Parquet columns whose type cannot hold the field."""
    for field, column in columns_of(mapping).items():
        kind = schema.field(column).type
        if not _can_hold(field, kind, mapping):
            wanted = {"time": "a timestamp, a date or text", "properties": "JSON text"}.get(
                field, "a number or text" if field in _NUMBERS else "text or a whole number"
            )
            hint = "cast it when you export the file"
            if field == "time" and pa.types.is_integer(kind):
                hint = 'for counts since 1970 set time_format = "epoch_seconds" in the mapping'
            raise BadFile(
                f"{path.name}: column {column!r} (fields.{field}) is {kind}; "
                f"{wanted} was wanted\nhint: {hint}"
            )


def _can_hold(field: str, kind: pa.DataType, mapping: Mapping) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if text or pa.types.is_null(kind):
        return True
    whole = pa.types.is_integer(kind)
    number = whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if field == "time":
        epoch = (mapping.time_format or "").startswith("epoch_")
        return pa.types.is_timestamp(kind) or pa.types.is_date(kind) or (epoch and number)
    return field != "properties" and number


@contextmanager
def _bytes(path: Path) -> Iterator[tuple[pa.NativeFile, Callable[[], float]]]:
    """A file's bytes, unpacked where it is gzipped, and how much of it was read."""
    total = path.stat().st_size
    with pa.OSFile(str(path)) as file:
        stream = pa.CompressedInputStream(file, "gzip") if path.suffix == ".gz" else file
        yield stream, lambda: min(file.tell() / total, 1.0)
