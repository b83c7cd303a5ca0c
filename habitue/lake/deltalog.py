"""A Delta table's log, entry by entry: one commit is one JSON file whose number nobody used yet.

Written by hand, because an entry made by delta-rs costs as much as the table has files, is not
flushed, and cannot take single files away. Everything that reads Delta reads these tables.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from habitue.lake.storage.folder import Folder
from habitue.lake.storage.interface import Place, Storage

_DIGITS = 20                               # of an entry's number in its name


class WrittenFile(msgspec.Struct, frozen=True):
    """A Parquet file of a table that is on disk."""

    path: str                              # relative to the table's folder
    bucket: int
    size: int                              # bytes
    statistics: str = ""                   # JSON, as Delta writes it
    rows: int = 0


def storage_of(place: Place) -> Storage:
    """The storage that a file is in."""
    return _FOLDER if isinstance(place, Path) else place.storage


def opened(place: Place, *, version: int | None = None) -> DeltaTable | None:
    """The snapshot of a table's folder, the newest unless told; None where there is no table."""
    if isinstance(place, Path) and not DeltaTable.is_deltatable(str(place)):
        return None
    try:
        return DeltaTable(
            str(place), version=version, storage_options=storage_of(place).options
        )
    except TableNotFoundError:
        return None


def newest(log: Place) -> int:
    """The number of the newest entry, -1 where there is none."""
    version = checkpointed(log)
    if not isinstance(log, Path):
        after = f"{version:0{_DIGITS}d}.json" if version >= 0 else ""
        held = [one.path for one in storage_of(log).list(log, after=after)]
        numbers = [int(name.removesuffix(".json")) for name in held if _is_entry(name)]
        return max(numbers, default=version)
    if version < 0:
        return max((int(entry.stem) for entry in log.glob("[0-9]*.json")), default=-1)
    step = 1                               # entries have no gaps: ask for ever further ones
    while _entry(log, version + step).exists():
        version, step = version + step, 2 * step
    while step > 1:
        step //= 2
        if _entry(log, version + step).exists():
            version += step
    return version


def entries(log: Place) -> list[tuple[int, float]]:
    """(number, seconds since 1970) of each entry that can still be read back to."""
    files = storage_of(log).list(log)
    held = [
        (int(one.path.removesuffix(".json")), one.modified) for one in files if _is_entry(one.path)
    ]
    if held and held[0][0] == 0:
        return held
    checkpoints = [
        int(one.path.split(".")[0]) for one in files if one.path.endswith(".checkpoint.parquet")
    ]
    return [(version, at) for version, at in held if version >= min(checkpoints, default=0)]


def actions(
    folder: Place,
    *,
    added: Sequence[WrittenFile],
    removed: Sequence[WrittenFile],
    transactions: Mapping[str, int],
) -> list[dict[str, object]]:
    """What an entry says: transactions, files that are no longer there, and files that are.

    Times are those of the file system. An entry that takes away as many rows as it adds is told
    to move them, and to change none.
    """
    moment = storage_of(folder).moment
    modified = [moment(folder / file.path) for file in added]
    now = max(modified, default=0) or moment(folder / "_delta_log")
    changes = sum(file.rows for file in added) != sum(file.rows for file in removed)
    told: list[dict[str, object]] = [
        {
            "commitInfo": {
                "timestamp": now,
                "operation": "OPTIMIZE" if removed else "WRITE",
                "operationParameters": {},
                "engineInfo": "habitue",
            }
        }
    ]
    for application, version in sorted(transactions.items()):
        told.append({"txn": {"appId": application, "version": version, "lastUpdated": now}})
    for file in removed:
        told.append(
            {
                "remove": {
                    "path": file.path,
                    "deletionTimestamp": now,
                    "dataChange": changes,
                    "extendedFileMetadata": True,
                    "partitionValues": {"bucket": str(file.bucket)},
                    "size": file.size,
                }
            }
        )
    for file, at in zip(added, modified, strict=True):
        told.append(
            {
                "add": {
                    "path": file.path,
                    "partitionValues": {"bucket": str(file.bucket)},
                    "size": file.size,
                    "modificationTime": at,
                    "dataChange": changes,
                    "stats": file.statistics,
                }
            }
        )
    return told


def write(log: Place, version: int, told: Sequence[dict[str, object]]) -> None:
    """Make an entry, whole and durable; raises `FileExistsError` where its number is taken."""
    content = b"\n".join(msgspec.json.encode(one) for one in told) + b"\n"
    storage_of(log).put_new(log / _name(version), content)


def write_once(
    log: Place, version: int, told: Sequence[dict[str, object]], transaction: tuple[str, int]
) -> int:
    """Make an entry of that number or the next that is free, unless it was made before.

    Whoever promised it and whoever completes it for them begin at the same number, and know by its
    transaction (application, version) that the other was first. Returns the entry's number.
    """
    while True:
        try:
            write(log, version, told)
        except FileExistsError:
            if _says(storage_of(log).read(log / _name(version)) or b"", transaction):
                return version
            version += 1                   # somebody else's, such as columns that were added
        else:
            return version


def drop_torn_tip(log: Place) -> None:
    """Remove the newest entry or checkpoint where a power loss left it empty or cut short.

    Drafts that a kill left behind go, too. An object store has neither.
    """
    if not isinstance(log, Path):
        return
    for draft in log.glob(".*.draft"):
        draft.unlink()
    entries = sorted(log.glob("[0-9]*.json"))
    if entries and not _is_whole(entries[-1]):
        entries[-1].unlink()
        flush(log)
    pointer = log / "_last_checkpoint"
    if not pointer.exists():
        return
    try:
        pq.read_metadata(log / f"{checkpointed(log):0{_DIGITS}d}.checkpoint.parquet")
    except (OSError, ValueError):          # Arrow's complaints are values' complaints
        pointer.unlink()
        for checkpoint in sorted(log.glob("*.checkpoint.parquet"))[-1:]:
            checkpoint.unlink()
        flush(log)


def flush_log(log: Place, *, entries: int = 1) -> None:
    """Force the newest entries, and the checkpoint that may come with them, to the disk."""
    if not isinstance(log, Path):
        return
    last = newest(log)
    for version in range(max(last - entries + 1, 0), last + 1):
        entry = _entry(log, version)
        for path in (entry, entry.with_suffix(".checkpoint.parquet"), log / "_last_checkpoint"):
            if path.exists():
                flush(path)
    flush(log)


def flush(path: Place) -> None:
    """Force a file's or a folder's content to the disk; objects are durable once they are put."""
    if not isinstance(path, Path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_FOLDER = Folder(flush=lambda path: flush(path))   # found when called


def _entry(log: Path, version: int) -> Path:
    return log / _name(version)


def _name(version: int) -> str:
    return f"{version:0{_DIGITS}d}.json"


def _is_entry(name: str) -> bool:
    return name.endswith(".json") and name.removesuffix(".json").isdecimal()


def _says(entry: bytes, transaction: tuple[str, int]) -> bool:
    """Whether an entry is that of a transaction."""
    told = (json.loads(line).get("txn", {}) for line in entry.splitlines())
    return transaction in {(one.get("appId"), one.get("version")) for one in told}


def checkpointed(log: Place) -> int:
    """The entry of the last checkpoint, so that counting on from it is short; -1 for none."""
    try:
        return int(json.loads(storage_of(log).read(log / "_last_checkpoint") or b"")["version"])
    except ValueError:
        return -1


def _is_whole(entry: Path) -> bool:
    lines = entry.read_bytes().splitlines()
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return bool(lines)
