"""What each server process tells those who follow the log, in memory that all of them share.

Which request that may be written is the oldest one underway: a request is stamped when it comes and
is in the log some milliseconds later, and whoever lets time pass has to know that nothing which was
stamped before is still to come. And how often something was appended: while that stands still the
log need not be looked at.
"""

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from habitue.lake.live.bell import FOLLOW_BELL, Bell
from habitue.lake.live.told import microseconds

UNDERWAY_FILE = "underway"
SLOTS = 64                                 # for as many processes that answer
_ONE = struct.Struct("<q")
# of all processes: stamps in µs since the epoch (0: nothing is underway), then how often each of
# them appended
_ALL = struct.Struct(f"<{2 * SLOTS}q")


class Tells(Protocol):
    """What is known of the processes that answer; none: no server ever told."""

    def oldest(self) -> int | None:
        """The oldest request underway, µs; 0: there is none."""
        ...

    def appended(self) -> int | None:
        """A number that is another one after anything was appended."""
        ...


class Underway:
    """The server's requests that may be written, the oldest of which others can see."""

    def __init__(self, path: Path, slot: int = 0) -> None:
        """Nothing is underway; other processes have other slots."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, _ALL.size)
            self._shared = mmap.mmap(handle, _ALL.size)
        finally:
            os.close(handle)
        self._place, self._count_at = slot * _ONE.size, (SLOTS + slot) * _ONE.size
        self._counting = threading.Lock()
        self._bell = Bell(path.with_name(FOLLOW_BELL))
        self._stamps: dict[object, int] = {}       # in the order in which they came
        self._tell()

    @contextmanager
    def one(self, received: datetime) -> Iterator[None]:
        """A request from when it is stamped until it is answered."""
        key = object()
        self._stamps[key] = microseconds(received)
        self._tell()
        try:
            yield
        finally:
            del self._stamps[key]
            self._tell()

    def appended(self) -> None:
        """Something is in the log that was not there before; from any thread."""
        with self._counting:
            (count,) = _ONE.unpack_from(self._shared, self._count_at)
            _ONE.pack_into(self._shared, self._count_at, count + 1)
        self._bell.ring()

    def close(self) -> None:
        """Give the bell back; nothing is appended any more."""
        self._bell.close()

    def _tell(self) -> None:
        _ONE.pack_into(self._shared, self._place, next(iter(self._stamps.values()), 0))


class Heard:
    """What processes that answer tell in a file; see `Tells`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shared: mmap.mmap | None = None

    def oldest(self) -> int | None:
        """See `Tells`."""
        told = self._told()
        return None if told is None else min(filter(None, told[:SLOTS]), default=0)

    def appended(self) -> int | None:
        """See `Tells`."""
        told = self._told()
        return None if told is None else sum(told[SLOTS:])

    def _told(self) -> tuple[int, ...] | None:
        if self._shared is None:
            try:
                with self._path.open("rb") as file:
                    self._shared = mmap.mmap(file.fileno(), _ALL.size, access=mmap.ACCESS_READ)
            except (FileNotFoundError, ValueError):
                return None
        return _ALL.unpack_from(self._shared, 0)


class Untold:
    """What is known where no server tells anything; see `Tells`."""

    def oldest(self) -> int | None:
        """See `Tells`."""
        return None

    def appended(self) -> int | None:
        """See `Tells`."""
        return None


def clear(path: Path) -> None:
    """No process answers: nothing is underway."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, _ALL.size)            # never shorter: others may have mapped it
        os.pwrite(handle, bytes(SLOTS * _ONE.size), 0)
    finally:
        os.close(handle)
