"""Keeping the lake quick while it is written to: merge small files, delete what was replaced.

`tidy` is one bounded step for whoever works in the background. Merging reads and writes beside the
commits and holds the lease only to put the merged file in place, so a commit never waits for it.
"""

import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate, chain, islice

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from habitue.errors import Busy
from habitue.faults import reach
from habitue.lake import deltalog, journal
from habitue.lake.deltalog import WrittenFile
from habitue.lake.schema import TABLES, Table
from habitue.lake.storage.interface import Place
from habitue.lake.tables import Lake, conformed_rows, merged_name, sorted_rows

log = logging.getLogger(__name__)

KEEP_HOURS = 24                            # former versions stay readable for so long
LARGE_BYTES = 32 << 20                     # a file of this size is merged no more
SMALL_BYTES = 1 << 20
_FAN = 8                                   # so many files of one size class are merged
_LEAST_BYTES = 16 << 10                    # of the lowest size class but one
_VACUUM_EVERY = timedelta(hours=1)
_MOST_FILES = 64                           # that are merged at once
_OPEN_ROWS = 1 << 20                       # of the groups that are being read then
_STEP_BYTES = 256 << 20                    # of Parquet that one step of tidying reads
_ROWS_IN_MEMORY = 131_072                  # of all long files that are merged at once
_SORTED_ROWS = 262_144                     # of short files, which are sorted in memory
_ROWS_PER_FILE = 4_000_000                 # of a merged file; then another begins
_BUFFER_BYTES = 1 << 16                    # of each column that is read at once
_VACUUMED = "vacuumed.json"
_LOOKS_AT_ONCE = 16                        # at the ends of files, which may be far away


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """How one table lies on the disk."""

    name: str
    files: int
    rows: int
    bytes: int
    small_files: int                       # below 1 MiB
    most_files: tuple[tuple[int, int], ...]    # (bucket, files): the three with the most
    version: int                           # of the newest snapshot
    oldest_version: int                    # that can still be read


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one step of tidying did."""

    merged: int = 0                        # files merged away
    deleted: int = 0                       # files that were replaced long enough ago


def tidy(lake: Lake, *, now: datetime, keep_hours: int = KEEP_HOURS) -> Tidied | None:
    """One step: merge what is due in the fullest table, else delete what is old; None: done.

    A step reads at most 256 MiB, or one bucket's share. Raises `Busy` where another process keeps
    house.
    """
    with housekeeping(lake):
        due = [(name, crowds) for name in TABLES if (crowds := list(_due(lake, name)))]
        if due:
            name, crowds = max(due, key=lambda one: sum(map(len, one[1])))
            return Tidied(merged=_merge(lake, name, _bounded(crowds)))
        vacuumed = _last_vacuum(lake)
        if vacuumed is not None and now - vacuumed.at < _VACUUM_EVERY:
            return None
        return Tidied(deleted=_vacuum(lake, now=now, keep_hours=keep_hours))


def compact(lake: Lake, names: Sequence[str] = tuple(TABLES)) -> int:
    """Merge each bucket's files, except large ones, into one; returns how many were merged away.

    The rows stay the same. What was replaced is deleted by a later `vacuum`.
    """
    with housekeeping(lake):
        merged = sum(_merge_all(lake, name) for name in names)
    log.info("compacted files_merged_away=%d", merged)
    return merged


def vacuum(lake: Lake, *, now: datetime, keep_hours: int = KEEP_HOURS) -> int:
    """Delete files that no version of the last `keep_hours` names; returns how many.

    So every snapshot of that time can be read, and a reader who began then is not disturbed. What
    a crash left unfinished goes, too, at the same age.
    """
    with housekeeping(lake):
        return _vacuum(lake, now=now, keep_hours=keep_hours)


def evolve(lake: Lake) -> dict[str, list[str]]:
    """Give tables of an earlier release the columns that were added since; which, by table."""
    with lake.lease():
        places = [lake.path / name for name in TABLES if lake.table(name) is not None]
        return {place.name: added for place in places if (added := journal.evolve(place))}


def lake_status(lake: Lake) -> list[TableStatus]:
    """How every table that has been written to lies on the disk."""
    found = []
    for name in TABLES:
        table = lake.table(name)
        if table is None:
            continue
        files = journal.active_files(table)
        buckets = sorted(
            ((bucket, len(held)) for bucket, held in _by_bucket(lake, name).items()),
            key=lambda one: (-one[1], one[0]),
        )
        found.append(
            TableStatus(
                name=name,
                files=len(files),
                rows=sum(file.rows for file in files),
                bytes=sum(file.size for file in files),
                small_files=sum(file.size < SMALL_BYTES for file in files),
                most_files=tuple(buckets[:3]),
                version=table.version(),
                oldest_version=_oldest_version(lake, name),
            )
        )
    return found


def unsummed(lake: Lake) -> dict[str, int]:
    """By table: entries of its log since they were last summed up, which opening it has to read."""
    held = {name: table for name in TABLES if (table := lake.table(name)) is not None}
    return {
        name: table.version() - deltalog.checkpointed(lake.path / name / "_delta_log")
        for name, table in held.items()
    }


def unreadable(lake: Lake) -> list[Place]:
    """Files that the lake needs and that are gone, cut short or no Parquet, by their ends alone.

    What is wrong within a column is not noticed.
    """
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        held = _active(lake)
        whole = pool.map(partial(_is_whole, lake), held)
        found = [file for file, is_whole in zip(held, whole, strict=True) if not is_whole]
    # one that was merged away meanwhile is needed no more
    needed = set(map(str, _active(lake))) if found else set()
    return [file for file in found if str(file) in needed]


def _active(lake: Lake) -> list[Place]:
    return [lake.path / name / file.path for name in TABLES for file in lake.written(name)]


def _is_whole(lake: Lake, file: Place) -> bool:
    try:
        with pq.ParquetFile(lake.storage.source(file)):
            return True
    except (OSError, pa.ArrowInvalid):
        return False


@contextmanager
def housekeeping(lake: Lake) -> Iterator[None]:
    """Be the only one who merges and deletes files; raises `Busy` where another does.

    Who erases takes it, too: no merge then writes again what is being erased.
    """
    lease = lake.storage.lease(lake.path / "housekeeping")
    try:
        if not lease.take():
            raise Busy(f"another process keeps house in {lake.path}; try again later")
        yield
    finally:
        lease.release()


def _by_bucket(lake: Lake, name: str) -> dict[int, list[WrittenFile]]:
    """A table's files by bucket."""
    held: dict[int, list[WrittenFile]] = defaultdict(list)
    for file in lake.written(name):
        held[file.bucket].append(file)
    return held


def _due(lake: Lake, name: str) -> Iterator[list[WrittenFile]]:
    """Files of a bucket and a size class that are due to be merged.

    A class is eight times the one below, so a row is written again once per class, and a bucket
    has at most seven files of each.
    """
    for files in _by_bucket(lake, name).values():
        classes: dict[int, list[WrittenFile]] = defaultdict(list)
        for file in files:
            if file.size < LARGE_BYTES:
                classes[_class_of(file.size)].append(file)
        yield from (_at_once(held) for held in classes.values() if len(held) >= _FAN)


def _at_once(files: Sequence[WrittenFile]) -> list[WrittenFile]:
    """As many of the files as may be open at once, at least two where there are two."""
    opened = accumulate(min(file.rows, journal.ROWS_PER_GROUP) for file in files)
    fitting = sum(rows <= _OPEN_ROWS for rows in opened)
    return list(files[: min(max(fitting, 2), _MOST_FILES)])


def _bounded(crowds: list[list[WrittenFile]]) -> list[list[WrittenFile]]:
    """As many of them as fit into one step, at least one; the fullest first."""
    crowds = sorted(crowds, key=len, reverse=True)
    sizes = accumulate(sum(file.size for file in crowd) for crowd in crowds)
    fitting = sum(size <= _STEP_BYTES for size in sizes)
    return crowds[: max(fitting, 1)]


def _merge_all(lake: Lake, name: str) -> int:
    """Merge a table's buckets until each has one file that is not large, some files at a time."""
    merged = 0
    for bucket in _by_bucket(lake, name):
        while True:
            files = [file for file in _by_bucket(lake, name)[bucket] if file.size < LARGE_BYTES]
            smallest = _at_once(sorted(files, key=lambda file: file.size))
            done = _merge(lake, name, [smallest]) if len(smallest) > 1 else 0
            if not done:
                break
            merged += done
    return merged


def _class_of(size: int) -> int:
    """The size class of so many bytes: 0 below 16 KiB, 1 below 128 KiB, and so on."""
    number = 0
    while size >= _LEAST_BYTES:
        size //= _FAN
        number += 1
    return number


def _merge(lake: Lake, name: str, crowds: Sequence[Sequence[WrittenFile]]) -> int:
    """Put one file, or a few where it would be huge, in the place of each crowd of a bucket."""
    place, sequence = lake.path / name, lake.sequence + 1
    added: list[WrittenFile] = []
    for crowd in crowds:
        rows = _merged(TABLES[name], [place / file.path for file in crowd])
        for chunks in _cut(rows):
            path = merged_name(crowd, sequence, len(added))
            added.append(journal.write_file(place, path, crowd[0].bucket, chunks))
    journal.flush_files(place, added)
    reach("compact.before_journal")
    removed = [file for crowd in crowds for file in crowd]
    if not lake.replace(name, removed, added):
        for file in added:                 # what was merged is no longer what is there
            lake.storage.delete(place / file.path)
        return 0
    log.info(
        "merged table=%s files=%d into=%d rows=%d",
        name, len(removed), len(added), sum(file.rows for file in added),
    )
    return len(removed) - len(added)


def _merged(table: Table, paths: Sequence[Place]) -> Iterator[pa.Table]:
    """The rows of sorted files in one order, in chunks; memory holds a batch of each file.

    Short files are sorted together first. Then, in each round, all rows up to the least of the
    batches' last rows are final.
    """
    with ExitStack() as stack:
        sources = [stack.enter_context(_opened(path)) for path in paths]
        sources.sort(key=lambda source: source.metadata.num_rows)
        totals = accumulate(source.metadata.num_rows for source in sources)
        short = sum(total <= _SORTED_ROWS for total in totals)
        size = max(_ROWS_IN_MEMORY // max(len(paths) - short, 1), 1)
        batches = [_batches(table, source, size) for source in sources[short:]]
        parts = [part for source in sources[:short] for part in _batches(table, source, size)]
        if parts:
            whole = sorted_rows(table, pa.concat_tables(parts))
            batches.append(whole.slice(start, size) for start in range(0, len(whole), size))
        heads = dict(enumerate(next(one) for one in batches))
        while heads:
            bound = min(_key(table, head, len(head) - 1) for head in heads.values())
            ready = [_take(table, heads, batches[one], one, bound) for one in list(heads)]
            yield sorted_rows(table, pa.concat_tables(ready))


def _take(
    table: Table,
    heads: dict[int, pa.Table],
    batches: Iterator[pa.Table],
    number: int,
    bound: tuple[tuple[object, ...], ...],
) -> pa.Table:
    """The rows of one file's batch up to a bound; what is left stays, and with it the next batch.

    So a round takes about a batch of every file, and not of one alone.
    """
    head = heads.pop(number)
    stop = bisect_right(range(len(head)), bound, key=partial(_key, table, head))
    rest = head.slice(stop)
    if len(rest) <= stop:
        rest = pa.concat_tables([rest, *islice(batches, 1)])
    if len(rest):
        heads[number] = rest
    return head.slice(0, stop)


def _opened(path: Place) -> pq.ParquetFile:
    source = deltalog.storage_of(path).source(path)
    return pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def _batches(table: Table, source: pq.ParquetFile, size: int) -> Iterator[pa.Table]:
    for batch in source.iter_batches(batch_size=size):
        if batch.num_rows:
            yield conformed_rows(table, pa.Table.from_batches([batch]))


def _key(table: Table, rows: pa.Table, row: int) -> tuple[tuple[object, ...], ...]:
    """What a row is sorted by, nulls last."""
    values = (rows[name][row].as_py() for name in table.sort)
    return tuple((1,) if value is None else (0, value) for value in values)


def _cut(chunks: Iterable[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Chunks apart by file, each a group of rows; what is given is read before the next."""
    groups = _groups(chunks)
    for first in groups:
        yield chain([first], islice(groups, _ROWS_PER_FILE // journal.ROWS_PER_GROUP - 1))


def _groups(chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of one size, the last one smaller."""
    held: list[pa.Table] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(map(len, held)) >= journal.ROWS_PER_GROUP:
            whole = pa.concat_tables(held)
            full = len(whole) - len(whole) % journal.ROWS_PER_GROUP
            for start in range(0, full, journal.ROWS_PER_GROUP):
                yield whole.slice(start, journal.ROWS_PER_GROUP)
            held = [whole.slice(full)]
    if sum(map(len, held)):
        yield pa.concat_tables(held)


class _Vacuumed(msgspec.Struct, frozen=True):
    """When files were last deleted, and of what age: versions from `before` on are whole."""

    at: datetime
    before: datetime


def _vacuum(lake: Lake, *, now: datetime, keep_hours: int) -> int:
    deleted = 0
    told = _Vacuumed(at=now, before=now - timedelta(hours=keep_hours))
    lake.storage.replace(lake.path / _VACUUMED, msgspec.json.encode(told))
    for name in TABLES:
        table = lake.table(name)
        if table is None:
            continue
        old = table.vacuum(
            retention_hours=keep_hours, dry_run=True, enforce_retention_duration=False, full=True
        )
        for path in old:
            reach("vacuum.before_delete")
            lake.storage.delete(lake.path / name / path)
        deleted += len(old)
        table.cleanup_metadata()
    log.info("vacuumed files_deleted=%d", deleted)
    return deleted


def _last_vacuum(lake: Lake) -> _Vacuumed | None:
    told = lake.storage.read(lake.path / _VACUUMED)
    try:
        return msgspec.json.decode(told or b"", type=_Vacuumed)
    except msgspec.DecodeError:
        return None                        # never, or a power loss tore what it told


def _oldest_version(lake: Lake, name: str) -> int:
    """The oldest version of a table that can be read whole."""
    entries = deltalog.entries(lake.path / name / "_delta_log")
    vacuumed = _last_vacuum(lake)
    if vacuumed is None:
        return entries[0][0]
    before = [version for version, at in entries if at <= vacuumed.before.timestamp()]
    return before[-1] if before else entries[0][0]
