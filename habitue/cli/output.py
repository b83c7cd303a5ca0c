"""Answers: a table for people, JSON for programs, a file for other tools."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

PIPED_WIDTH = 160                          # characters, where there is no terminal to ask
_CHUNK = 10_000                            # rows turned into Python objects at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How one command's rows are shown."""

    as_json: bool = False
    out: Path | None = None
    rows: int = 20

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix not in WRITERS:
            raise click.BadParameter(
                f"{self.out.name} should end in one of: {', '.join(WRITERS)}", param_hint="--out"
            )

    @property
    def for_people(self) -> bool:
        """Whether nothing but a table on the screen was asked for."""
        return not self.as_json and self.out is None

    def show(self, table: "pa.Table", *, title: str = "") -> None:
        """Write the file that was asked for; print JSON, or a table for people."""
        table = _with_hexadecimal(table)
        if self.out is not None:
            write(table, self.out)
            say(f"wrote {table.num_rows:,} rows to {self.out}")
        if self.as_json:
            print_json_rows(table)
        elif table.num_rows == 0:
            say("no rows")
        elif self.for_people:
            print_table(table, rows=self.rows, title=title)


def say(message: str) -> None:
    """A remark for people, on stderr."""
    click.echo(message, err=True)


def print_json(value: object) -> None:
    """One value as indented JSON, on stdout."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2))


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own number."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")


def print_json_rows(table: "pa.Table") -> None:
    """A JSON list, one row a line, on stdout."""
    lines = json_lines(table)
    click.echo("[", nl=False)
    separator = "\n"
    for line in lines:
        click.echo(separator + line, nl=False)
        separator = ",\n"
    click.echo("\n]")


def json_lines(table: "pa.Table") -> Iterator[str]:
    """Every row as one JSON object; times in ISO 8601, decimals as text."""
    import msgspec

    for batch in table.to_batches(max_chunksize=_CHUNK):
        for row in batch.to_pylist():
            yield msgspec.json.encode(row).decode()


def print_table(table: "pa.Table", *, rows: int, title: str = "") -> None:
    """The first rows for people, on stdout; how many there are in all, on stderr."""
    shown = table.slice(0, min(rows, table.num_rows)) if rows else table
    numeric = [place for place, field in enumerate(table.schema) if _is_number(field.type)]
    print_grid(
        table.column_names,
        ([cell(value) for value in row.values()] for row in shown.to_pylist()),
        numeric=numeric,
        title=title,
    )
    if shown.num_rows < table.num_rows:
        say(f"{shown.num_rows:,} of {table.num_rows:,} rows; --rows 0, --json or --out show all")


def print_grid(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: Collection[int],
    title: str = "",
) -> None:
    """Text in columns, on stdout; the places of `numeric` ones are set to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD)
    for place, name in enumerate(columns):
        right = place in numeric
        grid.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(text) for text in row))
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if title:
        console.print(Text(title, style="bold"))
    console.print(grid)


def cell(value: Any) -> str:
    """One value for people: four significant digits, times to the minute.

    >>> cell(0.123456), cell(12345.678), cell(None), cell(3)
    ('0.1235', '12,346', '', '3')
    """
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list():
            return ", ".join(cell(one) for one in value)
        case dict():
            return " ".join(f"{name}={cell(one)}" for name, one in value.items())
    return str(value)


def write(table: "pa.Table", path: Path) -> None:
    """Write a file in the format its name ends in, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        WRITERS[path.suffix](table, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write_csv(table: "pa.Table", path: Path) -> None:
    from pyarrow import csv

    csv.write_csv(_flat(table), path)


def _write_parquet(table: "pa.Table", path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")


def _write_ndjson(table: "pa.Table", path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in json_lines(table))


WRITERS: dict[str, Callable[["pa.Table", Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".ndjson": _write_ndjson,
}


def _flat(table: "pa.Table") -> "pa.Table":
    """The table with lists and structs as JSON text, since CSV has neither."""
    import msgspec
    import pyarrow as pa

    return _as_text(table, pa.types.is_nested, lambda one: msgspec.json.encode(one).decode())


def _with_hexadecimal(table: "pa.Table") -> "pa.Table":
    """The table with bytes, which are digests here, as people write them."""
    import pyarrow as pa

    return _as_text(table, pa.types.is_binary, bytes.hex)


def _as_text(
    table: "pa.Table", chosen: Callable[["pa.DataType"], bool], written: Callable[[Any], str]
) -> "pa.Table":
    """The table with every column of a chosen type written as text."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if chosen(field.type):
            values = (None if one is None else written(one) for one in table[place].to_pylist())
            table = table.set_column(place, field.name, pa.array(values, pa.string()))
    return table


def _is_number(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
