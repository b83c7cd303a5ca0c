"""`Lake`: Delta tables in one folder, appended to all or nothing, and compacted.

One set of tables for all shops, partitioned by bucket, rows sorted within each file. Whoever
writes holds the lake's lease; readers need none.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from habitue.errors import BadWorkspace, Busy
from habitue.events import bucket_of
from habitue.lake import journal
from habitue.lake.journal import Change, Journal, WrittenFile
from habitue.lake.schema import DEFAULT_BUCKETS, TABLES, Table

log = logging.getLogger(__name__)

Rows: TypeAlias = pa.Table | Iterable[pa.Table]

_LEASE_PAUSE_SECONDS = 0.05
_KEEP_REPLACED_HOURS = 7 * 24              # a reader may still hold the files that were replaced


class Lake:
    """The tables under one folder. Reading is `habitue.lake.query.read`.

    The number of buckets is fixed when the first table is made and read from it ever after.
    """

    def __init__(self, path: Path | str, *, buckets: int = DEFAULT_BUCKETS) -> None:
        """Open the folder, completing a commit that a crash cut short; makes nothing yet."""
        self.path = Path(path)
        self._buckets = buckets
        self._depth = 0                    # how often this object holds the lease
        self._thread = threading.RLock()
        if self.path.exists() and not self.path.is_dir():
            raise BadWorkspace(f"{self.path} is a file; a lake is a folder")
        if (self.path / "journal.json").exists():
            self._recover()

    @property
    def buckets(self) -> int:
        """How many buckets the tables are cut into."""
        table = self.table("events")
        if table is None:
            return self._buckets
        return int(table.metadata().configuration[journal.BUCKETS_KEY])

    def table(self, name: str) -> DeltaTable | None:
        """The newest snapshot of a table; None before anything was appended to it."""
        place = str(self.path / name)
        return DeltaTable(place) if DeltaTable.is_deltatable(place) else None

    def files(self, name: str) -> list[str]:
        """Paths of the Parquet files of a table's newest snapshot."""
        table = self.table(name)
        return [] if table is None else sorted(table.file_uris())

    def shops(self) -> list[str]:
        """Every shop that has settings, sorted."""
        names: set[str] = set()
        for file in self.files("shops"):
            names.update(pq.read_table(file, columns=["shop"])["shop"].to_pylist())
        return sorted(names)

    def append(self, rows: Mapping[str, Rows]) -> None:
        """Append to several tables, all or nothing, durable on return.

        Tables are in the order of `rows`; each value is one Arrow table or an iterable of them,
        read once and written as it comes. A missing `bucket` column is filled in.
        """
        with self.lease():
            buckets = self.buckets
            journal.open_table(self.path, "events", buckets=buckets)
            sequence = self._next_sequence()
            changes = []
            for name, chunks in rows.items():
                files = self._write(TABLES[name], chunks, sequence, buckets)
                if files:
                    changes.append(Change(name, tuple(files)))
            if changes:
                journal.commit(self.path, Journal(sequence, tuple(changes)), buckets=buckets)

    def compact(self, names: Sequence[str] = tuple(TABLES)) -> int:
        """Merge each bucket's files into one, sorted; the rows stay the same.

        Returns how many files were merged away. Replaced files are deleted a week later.
        """
        merged = 0
        with self.lease():
            for name in names:
                merged += sum(self._compact_bucket(name, files) for files in self._crowded(name))
                table = self.table(name)
                if table is not None:
                    table.vacuum(retention_hours=_KEEP_REPLACED_HOURS, dry_run=False)
                    # a vacuum commits twice: what it is about to do, and that it did
                    journal.flush_log(self.path / name / "_delta_log", entries=2)
        log.info("compacted files_merged_away=%d", merged)
        return merged

    @contextmanager
    def lease(
        self, *, wait_seconds: float = 60.0, pause: Callable[[float], None] = time.sleep
    ) -> Iterator[None]:
        """Be the only writer, across threads and processes; may be entered again by its holder.

        Raises `Busy` when another writer keeps it longer than about `wait_seconds`.
        """
        if not self._thread.acquire(timeout=wait_seconds):
            raise Busy(_busy(self.path, wait_seconds))
        try:
            if self._depth:
                yield
                return
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / "lease", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._lock(handle, wait_seconds, pause)
                self._depth += 1
                journal.complete(self.path, buckets=self._buckets)
                yield
            finally:
                self._depth = 0
                os.close(handle)           # closing gives the lease back
        finally:
            self._thread.release()

    def _lock(self, handle: int, wait_seconds: float, pause: Callable[[float], None]) -> None:
        for _ in range(1 + int(wait_seconds / _LEASE_PAUSE_SECONDS)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pause(_LEASE_PAUSE_SECONDS)
            else:
                return
        raise Busy(_busy(self.path, wait_seconds))

    def _recover(self) -> None:
        """Complete a commit that a crash cut short; where its writer lives, leave it to them."""
        try:
            with self.lease(wait_seconds=0.0, pause=lambda _: None):
                pass
        except Busy:
            log.info("commit in progress by another process path=%s", self.path)

    def _next_sequence(self) -> int:
        tables = [table for name in TABLES if (table := self.table(name)) is not None]
        return 1 + max((journal.sequence_of(table) for table in tables), default=-1)

    def _write(
        self, table: Table, chunks: Rows, sequence: int, buckets: int
    ) -> list[WrittenFile]:
        """Parquet files of the rows, one per bucket and chunk, flushed but not yet visible."""
        files: list[WrittenFile] = []
        for chunk in [chunks] if isinstance(chunks, pa.Table) else chunks:
            for bucket, rows in _by_bucket(table, chunk, buckets):
                name = f"part-{sequence:08d}-{len(files):05d}.parquet"
                files.append(journal.write_file(self.path / table.name, name, bucket, rows))
        return files

    def _crowded(self, name: str) -> list[list[str]]:
        """The files of every bucket that has more than one."""
        held: dict[str, list[str]] = {}
        for file in self.files(name):
            held.setdefault(Path(file).parent.name, []).append(file)
        return [files for files in held.values() if len(files) > 1]

    def _compact_bucket(self, name: str, files: list[str]) -> int:
        bucket = int(Path(files[0]).parent.name.removeprefix("bucket="))
        parts = [pq.read_table(file, partitioning=None) for file in files]
        rows = _sorted_rows(TABLES[name], pa.concat_tables(parts))
        sequence = self._next_sequence()
        merged = journal.write_file(
            self.path / name, f"part-{sequence:08d}-00000.parquet", bucket, rows
        )
        change = Change(name, (merged,), mode="overwrite")
        journal.commit(self.path, Journal(sequence, (change,)), buckets=self.buckets)
        return len(files) - 1


def _by_bucket(table: Table, rows: pa.Table, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Rows apart by bucket, each sorted, in the table's columns without the partition column."""
    if rows.num_rows == 0:
        return
    if "bucket" in rows.schema.names:
        bucket = rows["bucket"].to_numpy()
    else:
        bucket = buckets_of(rows, buckets)
    columns = [field for field in table.schema if field.name != "bucket"]
    stored = pa.schema(columns)
    conformed = rows.select(stored.names).cast(stored)
    for number in np.unique(bucket):
        chosen = np.flatnonzero(bucket == number)
        part = conformed if len(chosen) == len(bucket) else conformed.take(pa.array(chosen))
        yield int(number), _sorted_rows(table, part)


def buckets_of(rows: pa.Table, buckets: int) -> np.ndarray:
    """Each row's bucket: by customer where the table has customers, else by shop alone."""
    shops = rows["shop"].to_pylist()
    if "customer" not in rows.schema.names:
        known = {shop: bucket_of(shop, "", b"", buckets) for shop in set(shops)}
        return np.array([known[shop] for shop in shops], dtype=np.int32)
    customers = rows["customer"].to_pylist()
    digests = rows["digest"].to_pylist() if "digest" in rows.schema.names else [b""] * len(shops)
    cache: dict[tuple[str, str], int] = {}
    found = np.empty(len(shops), dtype=np.int32)
    for row, (shop, customer, digest) in enumerate(zip(shops, customers, digests, strict=True)):
        if customer is None:
            found[row] = bucket_of(shop, None, digest, buckets)
            continue
        if (shop, customer) not in cache:
            cache[shop, customer] = bucket_of(shop, customer, digest, buckets)
        found[row] = cache[shop, customer]
    return found


def _sorted_rows(table: Table, rows: pa.Table) -> pa.Table:
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in table.sort])
    return rows.take(order)


def _busy(path: Path, wait_seconds: float) -> str:
    return (
        f"another process has been writing to {path} for more than {wait_seconds:g} seconds\n"
        "hint: wait for the import, training or maintenance that is running there, and try again"
    )
