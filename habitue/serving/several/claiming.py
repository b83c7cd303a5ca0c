"""Which profiles were told a moment ago, in whichever process: who makes one twice is refused.

Keys stand with the id that shows their profile: in memory, or, where several processes answer, in
a table that all map and lock for some microseconds. What is older the live state knows.
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

CLAIMS_FILE = "claims"
_MOST = 50_000                             # keys that one process remembers
_PLACES, _NEAR = 65_536, 8                 # of the table; where one of them may stand
_PLACE = struct.Struct("<Qd26s")           # which key, when, and the id of the profile


class Claim(NamedTuple):
    """Whose a key is."""

    shown: str                             # the id of the profile
    at: float                              # when it was told, seconds


class Claims(Protocol):
    """Keys of late, whose they are, and since when."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Let nobody else claim meanwhile."""
        ...

    def get(self, who: str) -> Claim | None:
        """Whose a key is; none: it is not remembered."""
        ...

    def put(self, who: str, claim: Claim) -> None:
        """Remember whose a key is; of too many the oldest is forgotten."""
        ...

    def drop(self, who: str) -> None:
        """Forget a key."""
        ...

    def close(self) -> None:
        """Give files back."""
        ...


class OwnClaims:
    """Those of one process that answers alone; see `Claims`."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Claim] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """See `Claims`."""
        with self._lock:
            yield

    def get(self, who: str) -> Claim | None:
        """See `Claims`."""
        return self._held.get(who)

    def put(self, who: str, claim: Claim) -> None:
        """See `Claims`."""
        self._held[who] = claim
        self._held.move_to_end(who)
        while len(self._held) > _MOST:
            self._held.popitem(last=False)

    def drop(self, who: str) -> None:
        """See `Claims`."""
        self._held.pop(who, None)

    def close(self) -> None:
        """See `Claims`."""


class SharedClaims:
    """Those of all processes, in a file; see `Claims`."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, _PLACES * _PLACE.size)
        self._table = mmap.mmap(self._handle, _PLACES * _PLACE.size)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """See `Claims`."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def get(self, who: str) -> Claim | None:
        """See `Claims`."""
        tag, places = _where(who)
        for place in places:
            held, at, shown = _PLACE.unpack_from(self._table, place)
            if held == tag:
                return Claim(shown.rstrip(b"\0").decode(errors="replace"), at)
        return None

    def put(self, who: str, claim: Claim) -> None:
        """See `Claims`."""
        tag, places = _where(who)
        told = {place: _PLACE.unpack_from(self._table, place) for place in places}
        mine = [place for place, (held, _, _) in told.items() if held == tag]
        place = mine[0] if mine else min(places, key=lambda one: float(told[one][1]))
        _PLACE.pack_into(self._table, place, tag, claim.at, claim.shown.encode())

    def drop(self, who: str) -> None:
        """See `Claims`."""
        tag, places = _where(who)
        for place in places:
            if _PLACE.unpack_from(self._table, place)[0] == tag:
                _PLACE.pack_into(self._table, place, 0, 0.0, b"")

    def close(self) -> None:
        """See `Claims`."""
        self._table.close()
        os.close(self._handle)


def _where(who: str) -> tuple[int, list[int]]:
    """By what a key is known, and where it may stand."""
    tag, first = struct.unpack("<QI", hashlib.blake2b(who.encode(), digest_size=12).digest())
    return tag or 1, [(first + near) % _PLACES * _PLACE.size for near in range(_NEAR)]
