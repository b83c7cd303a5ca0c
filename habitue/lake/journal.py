"""Commits that survive a crash: Parquet first, then the intention, then the Delta logs.

delta-rs never flushes to disk, and a batch touches several tables. So a commit writes and flushes
its Parquet files, then a journal that names them, then one Delta commit per table, and removes the
journal last. Before the journal exists nothing has happened (orphan files are vacuumed); once it
exists the commit is completed by whoever opens the lake next. Each Delta commit carries the
journal's sequence number as an application transaction, so completing twice changes nothing.
"""

import json
import os
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction

from habitue.lake.schema import TABLES

APPLICATION = "habitue"                    # whose transaction numbers are the journal's
BUCKETS_KEY = "habitue.buckets"
_STATISTICS = ("shop", "time")             # the log holds minima and maxima of nothing else
_ROWS_PER_GROUP = 65_536


class WrittenFile(msgspec.Struct, frozen=True):
    """A Parquet file that is on disk and may be added to its table."""

    path: str                              # relative to the table's folder
    bucket: int
    size: int                              # bytes
    statistics: str                        # JSON, as Delta writes it


class Change(msgspec.Struct, frozen=True):
    """What one commit does to one table."""

    table: str
    files: tuple[WrittenFile, ...]
    mode: Literal["append", "overwrite"] = "append"    # overwrite replaces the files' buckets


class Journal(msgspec.Struct, frozen=True):
    """The intention to make several changes, all or none."""

    sequence: int
    changes: tuple[Change, ...]


def write_file(folder: Path, name: str, bucket: int, rows: pa.Table) -> WrittenFile:
    """Write rows of one bucket as a Parquet file and flush it; not visible until committed."""
    place = folder / f"bucket={bucket}"
    place.mkdir(parents=True, exist_ok=True)
    path = place / name
    pq.write_table(rows, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    _flush(path)
    _flush(place)
    return WrittenFile(
        path=f"bucket={bucket}/{name}",
        bucket=bucket,
        size=path.stat().st_size,
        statistics=_statistics(rows),
    )


def commit(root: Path, journal: Journal, *, buckets: int) -> None:
    """Make the journal's changes durable and visible: all of them, even across a crash."""
    place = root / "journal.json"
    draft = root / "journal.draft"
    draft.write_bytes(msgspec.json.encode(journal))
    _flush(draft)
    draft.rename(place)
    _flush(root)
    _apply(root, journal, buckets=buckets)
    place.unlink()
    _flush(root)


def complete(root: Path, *, buckets: int) -> None:
    """Finish what a crash interrupted; the caller holds the lease."""
    for name in TABLES:
        _drop_torn_tip(root / name / "_delta_log")
    place = root / "journal.json"
    if not place.exists():
        return
    journal = msgspec.json.decode(place.read_bytes(), type=Journal)
    _apply(root, journal, buckets=buckets)
    place.unlink()
    _flush(root)


def open_table(root: Path, name: str, *, buckets: int) -> DeltaTable:
    """The Delta table of that name, made empty where there is none."""
    place = root / name
    if DeltaTable.is_deltatable(str(place)):
        return DeltaTable(place)
    schema = TABLES[name].schema
    table = DeltaTable.create(
        place,
        schema=schema,
        partition_by=["bucket"],
        configuration={
            "delta.dataSkippingStatsColumns": ",".join(_held(schema)),
            BUCKETS_KEY: str(buckets),
        },
        raise_if_key_not_exists=False,
    )
    flush_log(place / "_delta_log")
    _flush(root)
    return table


def sequence_of(table: DeltaTable) -> int:
    """The last journal that changed this table, or -1."""
    version = table.transaction_version(APPLICATION)
    return -1 if version is None else version


def _apply(root: Path, journal: Journal, *, buckets: int) -> None:
    """One Delta commit per table, skipping those that are already in."""
    for change in journal.changes:
        table = open_table(root, change.table, buckets=buckets)
        if sequence_of(table) >= journal.sequence:
            continue
        replaced = sorted({str(file.bucket) for file in change.files})
        table.create_write_transaction(
            [_add_action(root / change.table, file) for file in change.files],
            change.mode,
            table.schema(),
            ["bucket"],
            partition_filters=(
                [("bucket", "in", replaced)] if change.mode == "overwrite" else None
            ),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(APPLICATION, journal.sequence)]
            ),
        )
        flush_log(root / change.table / "_delta_log")


def _add_action(folder: Path, file: WrittenFile) -> AddAction:
    modified = int((folder / file.path).stat().st_mtime * 1000)
    return AddAction(
        file.path, file.size, {"bucket": str(file.bucket)}, modified, True, file.statistics
    )


def _statistics(rows: pa.Table) -> str:
    """Minima and maxima of shop and time, in Delta's JSON."""
    lowest: dict[str, str] = {}
    highest: dict[str, str] = {}
    for name in _held(rows.schema):
        ends = pc.min_max(rows[name])
        lowest[name], highest[name] = _plain(ends["min"]), _plain(ends["max"])
    nulls = dict.fromkeys(lowest, 0)       # neither column may be null
    return json.dumps(
        {
            "numRecords": rows.num_rows,
            "minValues": lowest,
            "maxValues": highest,
            "nullCount": nulls,
        }
    )


def _plain(value: pa.Scalar) -> str:
    if pa.types.is_timestamp(value.type):
        return value.as_py().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value.as_py())


def _held(schema: pa.Schema) -> list[str]:
    return [name for name in _STATISTICS if name in schema.names]


def _drop_torn_tip(log: Path) -> None:
    """Remove the newest log entry where a power loss left it empty or cut short."""
    entries = sorted(log.glob("[0-9]*.json"))
    if entries and not _is_whole(entries[-1]):
        entries[-1].unlink()
        _flush(log)


def _is_whole(entry: Path) -> bool:
    lines = entry.read_bytes().splitlines()
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return bool(lines)


def flush_log(log: Path, *, entries: int = 1) -> None:
    """Force the newest log entries, and the checkpoint that may come with them, to the disk."""
    for entry in sorted(log.glob("[0-9]*.json"))[-entries:]:
        for path in (entry, entry.with_suffix(".checkpoint.parquet"), log / "_last_checkpoint"):
            if path.exists():
                _flush(path)
    _flush(log)


def _flush(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
