"""Commits that survive a crash: Parquet first, then the intention, then the Delta logs.

delta-rs never flushes to disk, and a batch touches several tables. So a commit writes and flushes
its Parquet files, then a journal that names them, then one Delta commit per table, and lays the
journal aside last. Before the journal exists nothing has happened (orphan files are vacuumed); once
it exists the commit is completed by whoever opens the lake next. Each Delta commit carries the
journal's sequence number as an application transaction, so completing twice changes nothing; and
with it the cursors that the commit moves, so that rows and cursors are stored together.

The journal laid aside tells the newest sequence and every cursor, so that no table need be opened.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema

from habitue.faults import reach
from habitue.lake import deltalog
from habitue.lake.deltalog import WrittenFile, opened, storage_of
from habitue.lake.schema import TABLES
from habitue.lake.storage.interface import Place

APPLICATION = "habitue"                    # whose transaction numbers are the journal's
BUCKETS_KEY = "habitue.buckets"
_STATISTICS = ("shop", "time")             # the log holds minima and maxima of nothing else
ROWS_PER_GROUP = 65_536
_CHECKPOINT_EVERY = 50                     # commits of a table
_RETENTION = {                             # how long the log tells of former versions
    "delta.logRetentionDuration": "interval 1 days",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one commit does to one table."""

    table: str
    files: tuple[WrittenFile, ...]         # added
    mode: Literal["append", "overwrite"] = "append"    # overwrite replaces the files' buckets
    removed: tuple[WrittenFile, ...] = ()
    version: int = -1                      # of its log entry, at least; -1: the next, who asks


class Journal(msgspec.Struct, frozen=True, omit_defaults=True):
    """The intention to make several changes, all or none."""

    sequence: int
    changes: tuple[Change, ...]
    cursors: dict[str, int] = {}           # that this commit moves
    known: dict[str, int] = {}             # every cursor after it
    versions: dict[str, int] = {}          # of tables after it, as far as known; for a bucket


def write_file(
    folder: Place, name: str, bucket: int, rows: pa.Table | Iterable[pa.Table]
) -> WrittenFile:
    """Write rows of one bucket as a Parquet file; neither flushed nor visible.

    Rows that come as an iterable become a group of rows each.
    """
    storage = storage_of(folder)
    path = f"bucket={bucket}/{storage.own(name)}"
    chunks = iter([rows] if isinstance(rows, pa.Table) else rows)
    first = next(chunks)
    ends = _Ends(first.schema)

    def fill(draft: Path) -> None:
        with pq.ParquetWriter(draft, first.schema, compression="zstd") as writer:
            for chunk in chain([first], chunks):
                writer.write_table(chunk, row_group_size=ROWS_PER_GROUP)
                ends.widen(chunk)

    return WrittenFile(
        size=storage.save(folder / path, fill),
        path=path,
        bucket=bucket,
        statistics=ends.as_json(),
        rows=ends.rows,
    )


def flush_files(folder: Place, files: Iterable[WrittenFile]) -> None:
    """Force written files to the disk, and the folders that they are in."""
    if not isinstance(folder, Path):
        storage_of(folder).settle()
        return
    places = set()
    for file in files:
        path = folder / file.path
        deltalog.flush(path)
        places.add(path.parent)
    for place in sorted(places):
        deltalog.flush(place)
    deltalog.flush(folder)


def newest(root: Place) -> Journal:
    """The last commit: its sequence (-1 before the first) and every cursor.

    A lake of the first release kept no journal; there the tables tell the sequence.
    """
    done = storage_of(root).done(root)
    if done is not None:
        return msgspec.json.decode(done, type=Journal)
    return Journal(max((sequence_of(table) for table in _tables(root)), default=-1), ())


def cursor(root: Place, application: str) -> int:
    """How far the rows of a source are in the lake; -1: none of them is."""
    last = newest(root)
    held = last.known.get(application)
    if held is not None:
        return held
    if last.versions:
        return -1                          # this lake has told every cursor from its beginning
    versions = [table.transaction_version(application) for table in _tables(root)]
    return max((version for version in versions if version is not None), default=-1)


def commit(root: Place, journal: Journal, *, buckets: int) -> None:
    """Make the journal's changes durable and visible: all of them, even across a crash."""
    storage = storage_of(root)
    if storage.is_shared:
        journal = _numbered(root, journal, buckets=buckets)
    storage.begin(root, msgspec.json.encode(journal))
    reach("commit.after_journal")
    _apply(root, journal, buckets=buckets)
    storage.lay_aside(root)
    for change in journal.changes:
        version = change.version if storage.is_shared else None
        _checkpoint(root / change.table, version)


def complete(root: Place, *, buckets: int) -> None:
    """Finish what a crash interrupted; the caller holds the lease."""
    storage = storage_of(root)
    begun = storage.begun(root)
    if begun is None:
        return
    mend(root)
    journal = msgspec.json.decode(begun, type=Journal)
    _apply(root, journal, buckets=buckets, is_again=True)
    storage.lay_aside(root)


def mend(root: Place) -> None:
    """Drop log entries that a power loss tore; the caller holds the lease."""
    for name in TABLES:
        deltalog.drop_torn_tip(root / name / "_delta_log")


def open_table(root: Place, name: str, *, buckets: int) -> Place:
    """The folder of the Delta table of that name, made empty where there is none."""
    place = root / name
    if deltalog.newest(place / "_delta_log") >= 0:
        return place
    schema = TABLES[name].schema
    DeltaTable.create(
        place if isinstance(place, Path) else str(place),
        storage_options=storage_of(place).options,
        schema=schema,
        partition_by=["bucket"],
        configuration={
            "delta.dataSkippingStatsColumns": ",".join(_held(schema)),
            BUCKETS_KEY: str(buckets),
            **_RETENTION,
        },
        raise_if_key_not_exists=False,
    )
    deltalog.flush_log(place / "_delta_log")
    deltalog.flush(place)
    deltalog.flush(root)
    return place


def evolve(place: Place) -> list[str]:
    """Tell a table of an earlier release the columns that it lacks; returns their names.

    Its files stay as they are; readers see nulls there. The caller holds the lease.
    """
    table, wanted = _table(place), TABLES[place.name].schema
    held = {field.name for field in table.schema().fields}
    missing = [field for field in wanted if field.name not in held]
    settings = table.metadata().configuration
    if missing:
        added = Schema.from_arrow(pa.schema([field.with_nullable(True) for field in missing]))
        table.alter.add_columns(added.fields)
        deltalog.flush_log(place / "_delta_log")
    if not _RETENTION.items() <= settings.items():
        table.alter.set_table_properties(_RETENTION)
        deltalog.flush_log(place / "_delta_log")
    return [field.name for field in missing]


def sequence_of(table: DeltaTable) -> int:
    """The last journal that changed this table, or -1."""
    version = table.transaction_version(APPLICATION)
    return -1 if version is None else version


def active_files(table: DeltaTable) -> list[WrittenFile]:
    """The files of a snapshot, sorted by path; without their statistics."""
    held = table.get_add_actions(flatten=True)
    names = ("path", "partition.bucket", "size_bytes", "num_records")
    rows = zip(*(held[name].to_pylist() for name in names), strict=True)
    return sorted(
        (WrittenFile(path, int(bucket), size, rows=count) for path, bucket, size, count in rows),
        key=lambda file: file.path,
    )


def _apply(root: Place, journal: Journal, *, buckets: int, is_again: bool = False) -> None:
    """One Delta commit per table; where a crash came between, those that are in are skipped."""
    transactions = {APPLICATION: journal.sequence, **journal.cursors}
    for change in journal.changes:
        is_numbered = change.version >= 0
        place = root / change.table
        if not is_numbered:
            open_table(root, change.table, buckets=buckets)
            if is_again and sequence_of(_table(place)) >= journal.sequence:
                continue
        told = deltalog.actions(
            place,
            added=change.files,
            removed=_removed(place, change),
            transactions=transactions,
        )
        log = place / "_delta_log"
        if is_numbered:
            promised = (APPLICATION, journal.sequence)
            deltalog.write_once(log, change.version, told, promised)
        else:
            deltalog.write(log, deltalog.newest(log) + 1, told)
        reach("commit.between_tables")


def _numbered(root: Place, journal: Journal, *, buckets: int) -> Journal:
    """The journal with the numbers that its log entries will have.

    Two writers who complete the same journal, one of them long after, then aim at the same entry,
    and one of them finds it made.
    """
    versions = dict(newest(root).versions)
    changes = []
    for change in journal.changes:
        if change.table not in versions:
            log = open_table(root, change.table, buckets=buckets) / "_delta_log"
            versions[change.table] = deltalog.newest(log)
        versions[change.table] += 1
        changes.append(msgspec.structs.replace(change, version=versions[change.table]))
    return msgspec.structs.replace(journal, changes=tuple(changes), versions=versions)


def _table(place: Place) -> DeltaTable:
    """The newest snapshot of a table that is there."""
    table = opened(place)
    assert table is not None, f"{place} holds no table"
    return table


def _removed(place: Place, change: Change) -> tuple[WrittenFile, ...]:
    """Files that a change takes away."""
    if change.mode == "append":
        return change.removed
    replaced = {file.bucket for file in change.files}     # told by the first release's compaction
    return tuple(file for file in active_files(_table(place)) if file.bucket in replaced)


def _checkpoint(place: Place, version: int | None) -> None:
    """Sum the log up now and then, so that opening the table stays quick."""
    log = place / "_delta_log"
    if (version or deltalog.newest(log)) % _CHECKPOINT_EVERY == _CHECKPOINT_EVERY - 1:
        _table(place).create_checkpoint()
        deltalog.flush_log(log)


def _tables(root: Place) -> list[DeltaTable]:
    tables = [opened(root / name) for name in TABLES]
    return [table for table in tables if table is not None]


class _Ends:
    """Rows of a file counted, with minima and maxima of shop and time."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._ends: dict[str, list[pa.Scalar]] = {name: [] for name in _held(schema)}

    def widen(self, rows: pa.Table) -> None:
        """Take more rows in."""
        self.rows += rows.num_rows
        for name, seen in self._ends.items():
            ends = pc.min_max(rows[name])
            seen += [ends["min"], ends["max"]]

    def as_json(self) -> str:
        """As Delta writes it; neither column may be null."""
        values = {name: [one.as_py() for one in seen] for name, seen in self._ends.items()}
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _plain(min(seen)) for name, seen in values.items()},
                "maxValues": {name: _plain(max(seen)) for name, seen in values.items()},
                "nullCount": dict.fromkeys(values, 0),
            }
        )


def _plain(value: datetime | str) -> str:
    if isinstance(value, str):
        return value
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _held(schema: pa.Schema) -> list[str]:
    return [name for name in _STATISTICS if name in schema.names]
