"""Which request that may be written is the oldest one underway: told by the server, in eight bytes.

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

UNDERWAY_FILE = "underway"                 # the stamp in µs since the epoch; 0: nothing is underway
_STAMP = struct.Struct("<q")


class Underway:
    """The server's requests that may be written, the oldest of which others can see."""

    def __init__(self, path: Path) -> None:
        """Nothing is underway."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, _STAMP.size)
            self._shared = mmap.mmap(handle, _STAMP.size)
        finally:
            os.close(handle)
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
        _STAMP.pack_into(self._shared, 0, next(iter(self._stamps.values()), 0))


def heard(path: Path) -> Callable[[], int | None]:
    """What tells the oldest request underway, µs; 0: there is none; None: no server ever told."""
    shared: mmap.mmap | None = None

    def oldest() -> int | None:
        nonlocal shared
        if shared is None:
            try:
                with path.open("rb") as file:
                    shared = mmap.mmap(file.fileno(), _STAMP.size, access=mmap.ACCESS_READ)
            except (FileNotFoundError, ValueError):
                return None
        return int(_STAMP.unpack_from(shared, 0)[0])

    return oldest
