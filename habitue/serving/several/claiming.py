"""Which profiles were told a moment ago, in whichever process: who makes one twice is refused.

Keys stand with the id that shows their profile: in memory, or, where several processes answer, in
a table that all map and lock for some microseconds. What is older the live state knows.
"""

import contextlib
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from habitue.serving.several.sharing import Table

CLAIMS_FILE = "claims"
_MOST = 50_000                             # keys that one process remembers
_CLAIM = struct.Struct("<Qd26s")           # which key, when, and the id of the profile


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
        self._table = Table(path, _CLAIM)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """See `Claims`."""
        return self._table.alone()

    def get(self, who: str) -> Claim | None:
        """See `Claims`."""
        found = self._table.get(who)
        if found is None:
            return None
        at, shown = found
        return Claim(shown.rstrip(b"\0").decode(errors="replace"), at)

    def put(self, who: str, claim: Claim) -> None:
        """See `Claims`."""
        self._table.put(who, claim.at, claim.shown.encode())

    def drop(self, who: str) -> None:
        """See `Claims`."""
        self._table.drop(who)

    def close(self) -> None:
        """See `Claims`."""
        self._table.close()
