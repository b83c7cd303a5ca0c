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
from typing import Any

import msgspec

from habitue.serving.metrics import Counted

WINDOWS_FILE, COUNTED_FILES = "windows", "counted-*.json"
_PLACES, _NEAR = 65_536, 8                 # of a table; where a record may stand in it
_COUNT = struct.Struct("<QII")             # of whom and how long a window, which window, how many


class Table:
    """Records by a name, in a file that processes share.

    Of a record the first value says whose it is, the second how old: where there is no room for
    another, the oldest nearby is forgotten.
    """

    def __init__(self, path: Path, form: struct.Struct) -> None:
        """`form` packs a record: two numbers, and what else it holds."""
        self._form = form
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, _PLACES * form.size)
        self._held = mmap.mmap(self._handle, _PLACES * form.size)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other process read or write meanwhile."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def get(self, who: str) -> tuple[Any, ...] | None:
        """What is held under a name beside whose it is, its age first; none: nothing."""
        tag, places = self._where(who)
        for place in places:
            held, *told = self._form.unpack_from(self._held, place)
            if held == tag:
                return tuple(told)
        return None

    def put(self, who: str, *told: object) -> None:
        """Hold something under a name, in the place of what was held."""
        tag, places = self._where(who)
        ages = {place: self._form.unpack_from(self._held, place)[:2] for place in places}
        mine = [place for place, (held, _) in ages.items() if held == tag]
        place = mine[0] if mine else min(places, key=lambda one: float(ages[one][1]))
        self._form.pack_into(self._held, place, tag, *told)

    def drop(self, who: str) -> None:
        """Hold nothing under a name."""
        tag, places = self._where(who)
        for place in places:
            if self._form.unpack_from(self._held, place)[0] == tag:
                self._held[place : place + self._form.size] = bytes(self._form.size)

    def close(self) -> None:
        """Give the file back."""
        self._held.close()
        os.close(self._handle)

    def _where(self, who: str) -> tuple[int, list[int]]:
        """By what a name is known (never 0, which is nobody), and where its record may stand."""
        digest = hashlib.blake2b(who.encode(), digest_size=12).digest()
        tag, first = struct.unpack("<QI", digest)
        places = [(first + near) % _PLACES * self._form.size for near in range(_NEAR)]
        return tag or 1, places


class SharedCounts:
    """Counts of requests by key and window, in a file that processes share; see `Windows`."""

    def __init__(self, path: Path) -> None:
        self._table = Table(path, _COUNT)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Let nobody else count meanwhile."""
        return self._table.alone()

    def get(self, who: str, seconds: int, window: int) -> int:
        """How many were counted in a window."""
        of, used = self._table.get(f"{who} {seconds}") or (0, 0)
        return used if of == window & 0xFFFFFFFF else 0

    def put(self, who: str, seconds: int, window: int, used: int) -> None:
        """Write down how many were counted in a window."""
        self._table.put(f"{who} {seconds}", window & 0xFFFFFFFF, used)

    def close(self) -> None:
        """Give the file back."""
        self._table.close()


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
