"""The audiences of one shop that are followed, and which of them a row is looked at for."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from habitue.audiences.live.asking.looking import Audience
from habitue.audiences.live.asking.news import Work
from habitue.audiences.live.asking.steering import NEW_ORDER
from habitue.audiences.live.facts import Shop
from habitue.audiences.live.loading import wanted
from habitue.events import ORDER_PLACED

Kinds: TypeAlias = tuple[str, ...]
Steered: TypeAlias = Sequence[tuple[Audience, bool | None]]  # with the answer that stays


@dataclass(slots=True, kw_only=True)
class Followed:
    """The audiences of one shop, and what all its customers share."""

    name: str
    shop: Shop
    audiences: list[Audience]
    reads: frozenset[str] = frozenset()  # of all of them
    by_kind: dict[str, list[Audience]] = field(default_factory=dict)
    # by the kinds that were told: those of them that some audiences read, and these audiences
    by_kinds: dict[Kinds, list[tuple[Kinds, Steered]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = {one.id: one.ready.reads for one in self.audiences if one.ready is not None}
        kinds = set().union(*told.values()) if told else set()
        self.reads = wanted(kinds)
        self.by_kind = {
            kind: [one for one in self.audiences if kind in told.get(one.id, ())] for kind in kinds
        }
        self.by_kind[NEW_ORDER] = self.by_kind.get(ORDER_PLACED, [])

    def goes_on(self, former: "Followed") -> bool:
        """Whether what was found of customers so far stands: they are read no further than then."""
        is_predicted = any((*one.shop.predictions, *one.shop.scored) for one in (self, former))
        return (
            self.reads <= former.reads and self.shop.is_like(former.shop) and not is_predicted
        )

    def told(self, kinds: Kinds) -> list[tuple[Kinds, Steered]]:
        """The audiences that read some kinds of rows, by which of them they read; kept."""
        found = self.by_kinds.get(kinds)
        if found is None:
            reading: defaultdict[Kinds, list[tuple[Audience, bool | None]]] = defaultdict(list)
            for one in self.audiences:
                mine = tuple(kind for kind in kinds if one in self.by_kind.get(kind, ()))
                reading[mine].append((one, one.settled(mine)))
            reading.pop((), None)
            found = [(mine, reading[mine]) for mine in sorted(reading, key=_first(kinds))]
            self.by_kinds[kinds] = found
        return found


def reading(shop: Followed, work: Work) -> list[tuple[Kinds, Steered]]:
    """The audiences that a customer is looked at for, by the kinds of rows that they read."""
    reading = shop.told(tuple(work.kinds))
    if not work.everything:
        return reading
    each: list[tuple[Kinds, Steered]] = [
        (kinds, [(one, None)]) for kinds, audiences in reading for one, _ in audiences
    ]
    told = {one.id for _, audiences in each for one, _ in audiences}
    rest = [(one, None) for one in shop.audiences if one.id not in told]
    return [*each, ((), rest)] if rest else each


def _first(kinds: Kinds) -> Callable[[Kinds], int]:
    return lambda mine: kinds.index(mine[0])
