"""What processes behind one port count together: requests of keys, and what the metrics tell.

Requests in a window stand in a table that all map into memory and lock for some microseconds. Of
the metrics each process writes down its own once a second; whoever is asked adds all of them up.
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from habitue.serving.metrics import Counted

WINDOWS_FILE, COUNTED_FILES = "windows", "counted-*.json"
_PLACES, _NEAR = 65_536, 8                 # of the table; where one of them may stand
_PLACE = struct.Struct("<QII")             # who and how long a window, which window, how many


class SharedCounts:
    """Counts of requests by key and window, in a file that processes share; see `Windows`.

    Where more keys ask at once than there is room for, the oldest count is forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, _PLACES * _PLACE.size)
        self._table = mmap.mmap(self._handle, _PLACES * _PLACE.size)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else count meanwhile."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def get(self, who: str, seconds: int, window: int) -> int:
        """How many were counted in a window."""
        tag, places = _where(who, seconds)
        for place in places:
            held, of, used = _PLACE.unpack_from(self._table, place)
            if (held, of) == (tag, window & 0xFFFFFFFF):
                return int(used)
        return 0

    def put(self, who: str, seconds: int, window: int, used: int) -> None:
        """Write down how many were counted in a window."""
        tag, places = _where(who, seconds)
        told = {place: _PLACE.unpack_from(self._table, place) for place in places}
        mine = [place for place, (held, _, _) in told.items() if held == tag]
        place = mine[0] if mine else min(places, key=lambda one: told[one][1])
        _PLACE.pack_into(self._table, place, tag, window & 0xFFFFFFFF, used)

    def close(self) -> None:
        """Give the file back."""
        self._table.close()
        os.close(self._handle)


def _where(who: str, seconds: int) -> tuple[int, list[int]]:
    """By what a count is known, and where it may stand."""
    digest = hashlib.blake2b(f"{who} {seconds}".encode(), digest_size=12).digest()
    tag, first = struct.unpack("<QI", digest)
    return tag, [(first + near) % _PLACES * _PLACE.size for near in range(_NEAR)]


def counted_file(online: Path, slot: int) -> Path:
    """Where the process of a slot writes down what it counted."""
    return online / COUNTED_FILES.replace("*", str(slot))


def counted(online: Path, *, but: int | None = None) -> list[Counted]:
    """What each process behind the port has counted by its last word."""
    paths = [path for path in sorted(online.glob(COUNTED_FILES))
             if but is None or path != counted_file(online, but)]  # fmt: skip
    return [one for path in paths if (one := read_counted(path)) is not None]


def read_counted(path: Path) -> Counted | None:
    """What one process has written down; none: nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counted)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
