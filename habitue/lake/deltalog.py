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

_DIGITS = 20                               # of an entry's number in its name


class WrittenFile(msgspec.Struct, frozen=True):
    """A Parquet file of a table that is on disk."""

    path: str                              # relative to the table's folder
    bucket: int
    size: int                              # bytes
    statistics: str = ""                   # JSON, as Delta writes it
    rows: int = 0


def newest(log: Path) -> int:
    """The number of the newest entry, -1 where there is none."""
    version = _checkpointed(log)
    if version < 0:
        return max((int(entry.stem) for entry in log.glob("[0-9]*.json")), default=-1)
    while _entry(log, version + 1).exists():
        version += 1
    return version


def entries(log: Path) -> list[tuple[int, float]]:
    """(number, seconds since 1970) of each entry that can still be read back to."""
    held = [(int(entry.stem), entry.stat().st_mtime) for entry in sorted(log.glob("[0-9]*.json"))]
    if held and held[0][0] == 0:
        return held
    checkpoints = [int(one.name.split(".")[0]) for one in log.glob("*.checkpoint.parquet")]
    return [(version, at) for version, at in held if version >= min(checkpoints, default=0)]


def actions(
    folder: Path,
    *,
    added: Sequence[WrittenFile],
    removed: Sequence[WrittenFile],
    transactions: Mapping[str, int],
) -> list[dict[str, object]]:
    """What an entry says: transactions, files that are no longer there, and files that are.

    Times are those of the file system. An entry that takes away as many rows as it adds is told
    to move them, and to change none.
    """
    modified = [_modified(folder / file.path) for file in added]
    now = max(modified, default=0) or _modified(folder / "_delta_log")
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


def write(log: Path, version: int, told: Sequence[dict[str, object]]) -> None:
    """Make an entry, whole and durable; raises `FileExistsError` where its number is taken."""
    draft = log / f".{version:0{_DIGITS}d}.draft"
    draft.write_bytes(b"\n".join(msgspec.json.encode(one) for one in told) + b"\n")
    flush(draft)
    try:
        os.link(draft, _entry(log, version))
    finally:
        draft.unlink()
    flush(log)


def drop_torn_tip(log: Path) -> None:
    """Remove the newest entry or checkpoint where a power loss left it empty or cut short.

    Drafts that a kill left behind go, too.
    """
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
        pq.read_metadata(log / f"{_checkpointed(log):0{_DIGITS}d}.checkpoint.parquet")
    except (OSError, ValueError):          # Arrow's complaints are values' complaints
        pointer.unlink()
        for checkpoint in sorted(log.glob("*.checkpoint.parquet"))[-1:]:
            checkpoint.unlink()
        flush(log)


def flush_log(log: Path, *, entries: int = 1) -> None:
    """Force the newest entries, and the checkpoint that may come with them, to the disk."""
    last = newest(log)
    for version in range(max(last - entries + 1, 0), last + 1):
        entry = _entry(log, version)
        for path in (entry, entry.with_suffix(".checkpoint.parquet"), log / "_last_checkpoint"):
            if path.exists():
                flush(path)
    flush(log)


def flush(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(log: Path, version: int) -> Path:
    return log / f"{version:0{_DIGITS}d}.json"


def _checkpointed(log: Path) -> int:
    """The entry of the last checkpoint, so that counting on from it is short; -1 for none."""
    try:
        return int(json.loads((log / "_last_checkpoint").read_bytes())["version"])
    except (FileNotFoundError, ValueError):
        return -1


def _modified(path: Path) -> int:
    """Milliseconds since 1970."""
    return path.stat().st_mtime_ns // 1_000_000


def _is_whole(entry: Path) -> bool:
    lines = entry.read_bytes().splitlines()
    try:
        for line in lines:
            json.loads(line)
    except ValueError:
        return False
    return bool(lines)
