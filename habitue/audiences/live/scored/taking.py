"""What the keeper knows of scores: how curves are read, shop by shop, and what it takes over."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from habitue.audiences.live.asking.looking import Look
from habitue.audiences.live.asking.remembered import Held
from habitue.audiences.live.facts import Facts, Shop
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.curves import Reading, Scoring
from habitue.audiences.live.scored.drift import Drifting

Opens: TypeAlias = Callable[[bytes], Reading]


class Readings:
    """How the curves of each shop are read, by the scoring of the shop that they rest on."""

    def __init__(self, opens: Opens | None) -> None:
        """Without `opens` no curve can be read, and none is."""
        self._opens = opens
        self._held: dict[str, dict[int | None, Reading]] = {}

    def of(self, shop: str) -> dict[int | None, Reading]:
        """Of one shop; what is added later is added to the same dictionary."""
        return self._held.setdefault(shop, {})

    def look(self, connection: sqlite3.Connection) -> dict[str, Scoring]:
        """Open what was not opened yet; the shops of which every customer has a curve."""
        found: dict[str, Scoring] = {}
        if self._opens is None:
            return found
        for shop, whole, told, since in curves.wholes(connection):
            held = self.of(shop)
            if whole not in held:
                held[whole] = self._opens(told)
            if since is not None:
                found[shop] = Scoring(held[whole], since)
        return found


def foresee(
    shop: Shop, held: Mapping[int, Held], looks: Mapping[int, Sequence[Look]]
) -> None:
    """Find together, of many customers, what is about to be asked of each of their curves."""
    if not shop.scored:
        return
    waiting: defaultdict[Drifting, list[tuple[Facts, int]]] = defaultdict(list)
    for customer, one in held.items():
        for look in looks[customer]:
            for drifting in _drifting(shop, look):
                waiting[drifting].append((one.facts, look.steps[0]))
    for drifting, asked in waiting.items():
        drifting.foresee(shop, asked)


def _drifting(shop: Shop, look: Look) -> list[Drifting]:
    """The comparisons of a look that curves answer."""
    told = [audience.ready for audience, _ in look.audiences if audience.ready is not None]
    return [one for ready in told for one in ready.drifting if one.asked in shop.scored]


def by_shop(told: Iterable[tuple[str, curves.Rescored]]) -> dict[str, dict[str, curves.Rescored]]:
    """What is told of customers, by shop and name; of two sayings the last."""
    found: dict[str, dict[str, curves.Rescored]] = {}
    for shop, one in told:
        found.setdefault(shop, {})[one.customer] = one
    return found
