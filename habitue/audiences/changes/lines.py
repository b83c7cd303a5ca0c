"""One change as it is told to others: a line of JSON."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa


def told(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Each row of a table of changes, its instants as texts."""
    for row in table.to_pylist():
        for name in ("at", "detected_at"):
            row[name] = row[name].isoformat().replace("+00:00", "Z")
        yield row


def line(row: dict[str, Any]) -> bytes:
    """A change that is told as JSON, without the end of the line."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
