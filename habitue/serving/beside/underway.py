"""Which request that may be written is the oldest one underway: eight bytes by each server process.

A request is stamped when it comes and is in the log some milliseconds later. Whoever lets time pass
has to know that nothing which was stamped before is still to come.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from habitue.lake.live.told import microseconds

UNDERWAY_FILE = "underway"                 # stamps in µs since the epoch; 0: nothing is underway
SLOTS = 64                                 # for as many processes that answer
_STAMP = struct.Struct("<q")
_STAMPS = struct.Struct(f"<{SLOTS}q")


class Underway:
    """The server's requests that may be written, the oldest of which others can see."""

    def __init__(self, path: Path, slot: int = 0) -> None:
        """Nothing is underway; other processes have other slots."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, _STAMPS.size)
            self._shared = mmap.mmap(handle, _STAMPS.size)
        finally:
            os.close(handle)
        self._place = slot * _STAMP.size
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

    def _tell(self) -> None:
        _STAMP.pack_into(self._shared, self._place, next(iter(self._stamps.values()), 0))


def heard(path: Path) -> Callable[[], int | None]:
    """What tells the oldest request underway, µs; 0: there is none; None: no server ever told."""
    shared: mmap.mmap | None = None

    def oldest() -> int | None:
        nonlocal shared
        if shared is None:
            try:
                with path.open("rb") as file:
                    shared = mmap.mmap(file.fileno(), _STAMPS.size, access=mmap.ACCESS_READ)
            except (FileNotFoundError, ValueError):
                return None
        return min(filter(None, _STAMPS.unpack_from(shared, 0)), default=0)

    return oldest


def clear(path: Path) -> None:
    """No process answers: nothing is underway."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, _STAMPS.size)         # never shorter: others may have mapped it
        os.pwrite(handle, bytes(_STAMPS.size), 0)
    finally:
        os.close(handle)
