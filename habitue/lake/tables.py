"""`Lake`: Delta tables in one folder, appended to all or nothing, and compacted.

One set of tables for all shops, partitioned by bucket, rows sorted within each file. Whoever
writes holds the lake's lease; readers need none.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from habitue.errors import BadWorkspace, Busy, Overtaken
from habitue.events import bucket_of
from habitue.faults import reach
from habitue.lake import journal
from habitue.lake.deltalog import WrittenFile, newest, opened, storage_of
from habitue.lake.journal import Change, Journal
from habitue.lake.schema import DEFAULT_BUCKETS, TABLES, Table
from habitue.lake.storage.bucket import SCHEME, object_place
from habitue.lake.storage.interface import Lease, Storage

log = logging.getLogger(__name__)

Rows: TypeAlias = pa.Table | Iterable[pa.Table]

class Lake:
    """The tables under one folder or s3://bucket/prefix. Reading is `habitue.lake.query.read`.

    The number of buckets is fixed when the first table is made and read from it ever after. What is
    derived from the lake lies `beside` it: in the folder that it is in, unless told.
    """

    def __init__(
        self, path: Path | str, *, buckets: int = DEFAULT_BUCKETS, beside: Path | None = None
    ) -> None:
        """Open the folder, completing a commit that a crash cut short; makes nothing yet."""
        # a place in a bucket has of a path what the lake asks for, see `ObjectPlace`
        self.path: Any = object_place(path) if _is_address(path) else Path(path)
        self.storage: Storage = storage_of(self.path)
        self._beside = beside
        self._buckets = buckets
        self._is_fixed = False             # whether that number was read from a table
        self._is_mended = False            # whether what a power loss tore was looked for
        self._current: set[str] = set()    # tables that were seen to have every column
        self._shops: tuple[int, list[str]] = (-1, [])  # of which commit, and which
        self._depth = 0                    # how often this object holds the lease
        self._lease: Lease | None = None   # held, or held last
        self._thread = threading.RLock()
        if isinstance(self.path, Path) and self.path.exists() and not self.path.is_dir():
            raise BadWorkspace(f"{self.path} is a file; a lake is a folder")
        self._recover()

    def __reduce__(self) -> tuple[partial["Lake"], tuple[()]]:
        """What travels to another process is where the lake is; there it is opened again."""
        place = self.path.absolute() if isinstance(self.path, Path) else str(self.path)
        return partial(Lake, place, buckets=self._buckets, beside=self._beside), ()

    @property
    def beside(self) -> Path:
        """The local folder of what is derived from the lake."""
        if self._beside is None and not isinstance(self.path, Path):
            raise BadWorkspace(f"say in which folder to keep what is derived from {self.path}")
        return self._beside or self.path.parent

    @property
    def buckets(self) -> int:
        """How many buckets the tables are cut into."""
        if not self._is_fixed and (table := self.table("events")) is not None:
            self._buckets = int(table.metadata().configuration[journal.BUCKETS_KEY])
            self._is_fixed = True
        return self._buckets

    def table(self, name: str) -> DeltaTable | None:
        """The newest snapshot of a table; None before anything was appended to it."""
        return opened(self.path / name)

    def files(self, name: str, *, bucket: int | None = None) -> list[str]:
        """Paths of the Parquet files of a table's newest snapshot, or of one bucket of it."""
        table = self.table(name)
        files = [] if table is None else sorted(table.file_uris())
        return files if bucket is None else [one for one in files if f"/bucket={bucket}/" in one]

    def version(self, name: str) -> int:
        """The number of a table's newest snapshot, which its files go with; -1: there is none."""
        return newest(self.path / name / "_delta_log")

    def source(self, file: str) -> Any:
        """What `pyarrow.parquet` opens to read one of `files`."""
        return self.storage.source(file)

    def written(self, name: str) -> list[WrittenFile]:
        """The files of a table's newest snapshot with their sizes, sorted by path."""
        table = self.table(name)
        return [] if table is None else journal.active_files(table)

    def shops(self) -> list[str]:
        """Every shop that has settings, sorted; read again after a commit."""
        sequence, (of, names) = self.sequence, self._shops
        if sequence < 0 or of != sequence:
            found: set[str] = set()
            for file in self.files("shops"):
                found.update(pq.read_table(self.source(file), columns=["shop"])["shop"].to_pylist())
            # asked before: a commit since is one more reason to look again
            self._shops = sequence, names = sequence, sorted(found)
        return list(names)

    def begin(self, shop: str, at: datetime) -> None:
        """Let a shop be asked about before it has told anything: with the usual settings."""
        if shop in self.shops():
            return
        with self.lease():
            if shop not in self.shops():
                self.append({"shops": usual_settings({shop: at})})

    @property
    def sequence(self) -> int:
        """The number of the last commit, -1 before the first."""
        return journal.newest(self.path).sequence

    def cursor(self, application: str) -> int:
        """How far the rows of a source, such as "log-3", are in the lake; -1: none of them is."""
        return journal.cursor(self.path, application)

    def append(
        self, rows: Mapping[str, Rows], *, cursors: Mapping[str, int] | None = None
    ) -> int:
        """Append to several tables, all or nothing, durable on return; returns the commit's number.

        Tables are in the order of `rows`; each value is one Arrow table or an iterable of them,
        read once and written as it comes. A missing `bucket` column is filled in. `cursors` are
        moved in the same commit, and only forward: whoever comes too late changes nothing.

        Raises:
            Overtaken: one of the cursors is already there or beyond.
        """
        moved = dict(cursors or {})
        with self.lease():
            for application, version in moved.items():
                if (held := self.cursor(application)) >= version:
                    raise Overtaken(application, wanted=version, held=held)
            reach("commit.before_files")
            if not self._is_fixed:
                journal.open_table(self.path, "events", buckets=self._buckets)
            buckets = self.buckets
            former = journal.newest(self.path)
            sequence = former.sequence + 1
            changes = []
            for name, chunks in rows.items():
                self._bring_up(name)
                files = self._write(TABLES[name], chunks, sequence, buckets)
                if files:
                    changes.append(Change(name, tuple(files)))
            if moved and not changes:
                changes.append(Change("receipts", ()))     # a commit of cursors alone
            if not changes:
                return former.sequence
            reach("commit.before_journal")
            known = former.known | moved
            written = Journal(sequence, tuple(changes), cursors=moved, known=known)
            journal.commit(self.path, written, buckets=buckets)
            return sequence

    def replace(
        self, name: str, removed: Sequence[WrittenFile], added: Sequence[WrittenFile]
    ) -> bool:
        """Put files that hold the same rows in the place of others; both are on disk.

        False, and nothing has changed, where one of the others is gone already.
        """
        with self.lease():
            held = {file.path for file in self.written(name)}
            if not held.issuperset(file.path for file in removed):
                return False
            former = journal.newest(self.path)
            change = Change(name, tuple(added), removed=tuple(removed))
            written = Journal(former.sequence + 1, (change,), known=former.known)
            journal.commit(self.path, written, buckets=self.buckets)
            return True

    def compact(self, names: Sequence[str] = tuple(TABLES)) -> int:
        """Merge each bucket's files, sorted; returns how many were merged away."""
        from habitue.lake.maintenance import compact  # it rests on this module

        return compact(self, names)

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
            lease = self._lease = self.storage.lease(self.path / "lease")
            try:
                self._take(lease, wait_seconds, pause)
                self._depth += 1
                if not self._is_mended:
                    journal.mend(self.path)
                    self._is_mended = True
                journal.complete(self.path, buckets=self._buckets)
                yield
            finally:
                self._depth = 0
                lease.release()
        finally:
            self._thread.release()

    def confirm(self) -> None:
        """Make sure that the lease that is held still is; raises `Busy` where it was lost."""
        if self._lease is not None:
            self._lease.confirm()

    def _take(self, lease: Lease, wait_seconds: float, pause: Callable[[float], None]) -> None:
        for _ in range(1 + int(wait_seconds / lease.pause_seconds)):
            if lease.take():
                return
            pause(lease.pause_seconds)
        raise Busy(_busy(self.path, wait_seconds))

    def _recover(self) -> None:
        """Complete a commit that a crash cut short; where its writer lives, leave it to them."""
        if self.storage.begun(self.path) is None:
            return
        try:
            with self.lease(wait_seconds=0.0, pause=lambda _: None):
                pass
        except Busy:
            log.info("commit in progress by another process path=%s", self.path)

    def _bring_up(self, name: str) -> None:
        """Give a table that an earlier release made its missing columns, once."""
        if name not in self._current:
            if self.table(name) is not None:
                journal.evolve(self.path / name)
            self._current.add(name)

    def _write(
        self, table: Table, chunks: Rows, sequence: int, buckets: int
    ) -> list[WrittenFile]:
        """Parquet files of the rows, one per bucket and chunk, flushed but not yet visible."""
        files: list[WrittenFile] = []
        place = self.path / table.name
        for chunk in [chunks] if isinstance(chunks, pa.Table) else chunks:
            for bucket, rows in _by_bucket(table, chunk, buckets):
                name = f"part-{sequence:08d}-{len(files):05d}.parquet"
                files.append(journal.write_file(place, name, bucket, rows))
        if files:
            journal.flush_files(place, files)
        return files


def usual_settings(heard: Mapping[str, datetime]) -> pa.Table:
    """Settings of shops that have declared none, and when they were first heard of."""
    zones = pa.array(["UTC"] * len(heard), pa.string())
    return pa.table({"shop": list(heard), "received": list(heard.values()), "timezone": zones})


def merged_name(files: Sequence[WrittenFile], sequence: int, part: int = 0) -> str:
    """The name of a file that holds the rows of several.

    It begins with the newest commit that brought any of them: who knows that commit's rows
    knows these.
    """
    newest = max(data_sequence(file.path) for file in files)
    return f"part-{newest:08d}-{part:05d}-merged-{sequence:08d}.parquet"


def data_sequence(path: str) -> int:
    """The number of the newest commit that brought rows of this file."""
    return int(Path(path).name.split("-")[1])


def _by_bucket(table: Table, rows: pa.Table, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Rows apart by bucket, each sorted, in the table's columns without the partition column."""
    if rows.num_rows == 0:
        return
    if "bucket" in rows.schema.names:
        bucket = rows["bucket"].to_numpy()
    else:
        bucket = buckets_of(rows, buckets)
    conformed = conformed_rows(table, rows).combine_chunks()
    by_bucket = conformed.append_column("bucket", pa.array(bucket, pa.int32()))
    keys = [(name, "ascending") for name in ("bucket", *table.sort)]
    order = pc.sort_indices(by_bucket, sort_keys=keys)
    ordered, bucket = conformed.take(order), bucket[order.to_numpy()]
    edges = [0, *(np.flatnonzero(np.diff(bucket)) + 1), len(bucket)]
    for start, stop in pairwise(edges):
        yield int(bucket[start]), ordered.slice(start, stop - start)


def conformed_rows(table: Table, rows: pa.Table) -> pa.Table:
    """The table's columns without the partition column; a column that is not told is null."""
    stored = pa.schema([field for field in table.schema if field.name != "bucket"])
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(len(rows), field.type)
        for field in stored
    ]
    return pa.Table.from_arrays(columns, schema=stored)


def buckets_of(rows: pa.Table, buckets: int) -> np.ndarray:
    """Each row's bucket: by customer, else by key, else by shop alone; without any, by digest."""
    key = next((name for name in ("customer", "key") if name in rows.schema.names), None)
    shops, shop = _coded(rows["shop"])
    keys, one = ([""], np.zeros(len(rows), np.int64)) if key is None else _coded(rows[key])
    pairs, place = np.unique(shop * len(keys) + one, return_inverse=True)
    of_pairs = [
        -1 if keys[pair % len(keys)] is None
        else bucket_of(shops[pair // len(keys)], keys[pair % len(keys)], b"", buckets)
        for pair in pairs.tolist()
    ]
    found = np.array(of_pairs, dtype=np.int32)[place]
    for row in np.flatnonzero(found < 0):
        found[row] = bucket_of("", None, rows["digest"][row].as_py(), buckets)
    return found


def _coded(column: pa.ChunkedArray) -> tuple[list[str | None], np.ndarray]:
    """The different values of a column, nulls among them, and each row's place among them."""
    coded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


def sorted_rows(table: Table, rows: pa.Table) -> pa.Table:
    """Rows in the order of the table's files, nulls last."""
    return rows.take(pc.sort_indices(rows, [(name, "ascending") for name in table.sort]))


def _is_address(path: Path | str) -> TypeGuard[str]:
    return isinstance(path, str) and path.startswith(SCHEME)


def _busy(path: object, wait_seconds: float) -> str:
    return (
        f"another process has been writing to {path} for more than {wait_seconds:g} seconds\n"
        "hint: wait for the import, training or maintenance that is running there, and try again"
    )
