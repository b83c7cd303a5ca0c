"""How many connections may be open: in all, and of one address; who only waits leaves first."""

import resource
from collections import Counter, OrderedDict
from ipaddress import ip_network
from typing import Protocol

MOST_CONNECTIONS = 10_000
LOOPBACK = ("127.", "::1", "::ffff:127.")  # a proxy on this machine brings everybody


class Closable(Protocol):
    """A connection that can be told to go."""

    def leave(self) -> None:
        """Close at once; nothing is under way."""
        ...


class Crowd:
    """The connections of one server. A quarter of the places is for any one other machine.

    Where all places are taken, a connection without a request under way makes room for another.
    """

    def __init__(self, most: int, of_one: int | None = None) -> None:
        """Nobody is there yet."""
        self._most = most
        self._of_one = max(most // 4, 1) if of_one is None else of_one
        self._address: dict[Closable, str] = {}          # or, of IPv6, its network
        self._of: Counter[str] = Counter()
        # without a request under way, the longest first
        self._waiting: OrderedDict[Closable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._address)

    def let_in(self, connection: Closable, address: str) -> bool:
        """Whether there is a place, if need be of one that waits; it is taken then."""
        who = _network(address)
        if self._of[who] >= self._of_one and not address.startswith(LOOPBACK):
            return False
        if len(self) >= self._most and not self._dismiss_one():
            return False
        self._address[connection] = who
        self._of[who] += 1
        self._waiting[connection] = None
        return True

    def wait(self, connection: Closable) -> None:
        """Its request is answered."""
        if connection in self._address:
            self._waiting[connection] = None

    def work(self, connection: Closable) -> None:
        """A request of it is under way."""
        self._waiting.pop(connection, None)

    def let_out(self, connection: Closable) -> None:
        """Its place is free; nothing happens if it had none."""
        self._waiting.pop(connection, None)
        who = self._address.pop(connection, None)
        if who is not None:
            self._of[who] -= 1
            if not self._of[who]:
                del self._of[who]

    def _dismiss_one(self) -> bool:
        """Let the one go that waits the longest; False if all are at work."""
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.let_out(longest)
        longest.leave()
        return True


def _network(address: str) -> str:
    """The address, or of IPv6 the /64 that its owner can choose addresses from."""
    if ":" not in address or address.startswith("::ffff:"):
        return address
    return str(ip_network((address.partition("%")[0], 64), strict=False))


def places() -> int:
    """How many connections a process can have: half of the files that it may open, once raised.

    The other half is for the log, the lake and the directory.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):      # where "unlimited" is more than the system allows
            pass
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(min(soft // 2, MOST_CONNECTIONS), 1)
