"""What became of a request that was acknowledged: pending until the lake holds all of it.

The log knows which offsets a request got; the worker tells how far the lake has come. Of requests
that this process does not remember it knows that they lie below the end the log had at its start.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from habitue.lake.eventlog.records import EventLog

PROGRESS_FILE = "progress.json"            # in the workspace's folder `online`
_MOST_REMEMBERED = 200_000                 # requests


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the worker has come; written at every commit and every few seconds."""

    pid: int
    time: float                            # when it was written, in seconds since 1970
    cursors: tuple[int, ...] = ()          # by shard: the next offset that the lake lacks
    behind_since: float | None = None      # when the oldest uncommitted request came in
    settled: dict[str, int] = {}           # appended, duplicate, rejected since the worker began
    last_commit: float | None = None
    rows_per_second: float = 0.0
    failure: str | None = None             # what keeps it from committing, if anything


def read_progress(path: Path) -> Progress | None:
    """What the worker last told; None before it told anything."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def depth_rows(event_log: EventLog, cursors: Sequence[int]) -> int:
    """Parts of requests from each shard's cursor on; no cursor is one at the begin."""
    ends = [event_log.end(shard) for shard in range(event_log.shards)]
    return sum(ends) - sum(cursors)


def depth_bytes(folder: Path) -> int:
    """What a log in files takes on disk, what was committed and not yet trimmed included."""
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


class Settlement:
    """Which requests the lake holds by now."""

    def __init__(self, event_log: EventLog, progress: Path, *, is_alone: bool = True) -> None:
        """Take everything that the log holds now as not settled yet.

        Where others take requests, too, a receipt that is not known here may be one of theirs.
        """
        self._path, self._log, self._is_alone = progress, event_log, is_alone
        self._floor = [event_log.end(shard) for shard in range(event_log.shards)]
        self._offsets: OrderedDict[str, Mapping[int, int]] = OrderedDict()

    @property
    def progress(self) -> Progress | None:
        """What the worker last told."""
        return read_progress(self._path)

    @property
    def depth_rows(self) -> int:
        """Parts of requests in the log that the lake lacks."""
        progress = self.progress
        return depth_rows(self._log, progress.cursors if progress else ())

    def remember(self, receipt: str, offsets: Mapping[int, int]) -> None:
        """A request is in the log, up to these offsets of each shard."""
        self._offsets[receipt] = {**self._offsets.get(receipt, {}), **offsets}
        while len(self._offsets) > _MOST_REMEMBERED:
            _, forgotten = self._offsets.popitem(last=False)
            for shard, offset in forgotten.items():
                self._floor[shard] = max(self._floor[shard], offset + 1)

    def is_settled(self, receipt: str) -> bool:
        """Whether the lake holds all of a request that was acknowledged."""
        progress = self.progress
        cursors: Sequence[int] = progress.cursors if progress else ()
        if len(cursors) != len(self._floor):
            return False
        offsets = self._offsets.get(receipt)
        if offsets is None and not self._is_alone:
            # whoever has a receipt got it after the flush, so its rows are below the end now
            offsets = {shard: self._log.end(shard) - 1 for shard in range(self._log.shards)}
            self.remember(receipt, offsets)
        if offsets is None:
            return all(at >= floor for at, floor in zip(cursors, self._floor, strict=True))
        return all(cursors[shard] > offset for shard, offset in offsets.items())
