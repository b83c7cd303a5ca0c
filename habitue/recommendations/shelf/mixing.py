"""A customer's own list, what goes with what is on the page, and what sells, as one list.

Where both speak, an item counts by its places in the two lists: the sum of 1 / (10 + place)
(reciprocal rank fusion, Cormack et al. 2009), which needs no common scale. Of who has no list of
their own, what sells is the list.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from habitue.recommendations.shelf.listed import BOUGHT_TOGETHER, READS_LIKE, Listed

EASE = 10                                  # how little the first places count before the next
MOST_BESIDE = 100                          # candidates that a context brings


class Beside(NamedTuple):
    """How well an item goes with a context, and which item of it says so most."""

    strength: float                        # mean similarity to the items of the context
    companion: str


def beside(similar: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, Beside]:
    """What goes with a context, the best first.

    `similar` has, for each item of the context, those that are bought beside it.

    >>> beside({"tea": [("cup", 0.5), ("pot", 0.4)], "milk": [("cup", 0.1)]})["cup"]
    Beside(strength=0.3, companion='tea')
    """
    total: dict[str, float] = {}
    most: dict[str, tuple[float, str]] = {}
    for companion, found in similar.items():
        for item, how in found:
            total[item] = total.get(item, 0.0) + how
            most[item] = max(most.get(item, (0.0, "")), (how, companion))
    best = sorted((one for one in total if one not in similar), key=lambda one: (-total[one], one))
    return {
        item: Beside(total[item] / len(similar), most[item][1]) for item in best[:MOST_BESIDE]
    }


def mixed(
    own: Sequence[Listed], near: Sequence[Listed], others: Iterable[Listed]
) -> list[Listed]:
    """Every candidate once, the best first, with scores in logarithms.

    All three are lists with the best first: the customer's own, what goes with the context, and
    what else may be shown. Of an item in two of them what `near` says is told.
    """
    fused = _fused(own, near) if near else list(own)
    floor = min((one.score for one in fused), default=0.0)
    known = {one.item for one in fused}
    for one in others:
        if one.item not in known:
            known.add(one.item)
            floor -= 0.01                  # all that is known of them is that they rank below
            fused.append(msgspec.structs.replace(one, score=round(floor, 4)))
    return fused


def named(one: Listed, how: Beside, companion: str) -> Listed:
    """An item as one that goes with another, which is called `companion`.

    A new one was never bought with anything, and keeps what is told of it.
    """
    score = round(math.log(max(how.strength, 1e-9)), 4)
    if one.reason == READS_LIKE:
        return msgspec.structs.replace(one, score=score)
    return msgspec.structs.replace(
        one, score=score, reason=BOUGHT_TOGETHER, evidence=f"often bought with {companion}"
    )


def _fused(own: Sequence[Listed], near: Sequence[Listed]) -> list[Listed]:
    total: dict[str, float] = {}
    for several in (own, near):
        for place, one in enumerate(several, start=1):
            total[one.item] = total.get(one.item, 0.0) + 1 / (EASE + place)
    told = {one.item: one for one in (*own, *near)}
    return [
        msgspec.structs.replace(told[item], score=round(math.log(total[item]), 4))
        for item in sorted(total, key=lambda item: -total[item])
    ]
