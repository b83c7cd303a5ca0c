"""`arranged`: the list that is shown, from candidates and everything that has a say in it.

One pure function, which the server and `habitue recommend` share. What holds of its answer, in this
order: nothing that is left out is in it; nothing but what `only` rules name; at most so many of a
category; a pinned item in its place; the rest by score, boosted or discounted; what is buried last.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from habitue.recommendations.shelf.listed import BOUGHT, NO_FACTS, PINNED, Facts, Listed, Wanted
from habitue.recommendations.shelf.rules import Rule, pinned

_AHEAD = 20                                # items beyond those wanted of which stock is asked


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """What has a say in lists beside the scores."""

    rules: Sequence[Rule] = ()             # those in force
    facts: Mapping[str, Facts] = {}
    left_out: Collection[str] = frozenset()    # out of stock, unpublished, bought for good
    discounts: Mapping[str, float] = {}    # in logarithms, of what was shown and not minded


def arranged(candidates: Iterable[Listed], shelf: Shelf, wanted: Wanted) -> list[Listed]:
    """The first `wanted.k` of what may be shown, in order.

    Candidates must hold whatever is pinned; one that stands there twice counts once.
    """
    out = {*wanted.exclude, *wanted.context, *shelf.left_out}
    places = pinned(shelf.rules)
    speak = [rule for rule in shelf.rules if rule.kind in ("only", "hide")]
    allowed: dict[str, Listed] = {}
    for one in candidates:
        if one.item in out or (wanted.exclude_bought and one.reason in BOUGHT):
            continue
        if not speak or _is_allowed(one, speak, shelf.facts):
            allowed.setdefault(one.item, one)
    # pins come first, so that where only so many of a category are let through they are
    fixed = sorted((one for one in allowed if one in places), key=lambda one: places[one])
    rest = sorted(
        (one for one in allowed.values() if one.item not in places),
        key=_standing(shelf),
    )
    kept = _capped([*(allowed[one] for one in fixed), *rest], wanted.per_category)
    found = [one for one in kept if one.item not in places]
    for one in kept:
        if one.item in places:             # in the order of their places, so none moves another
            told = msgspec.structs.replace(one, reason=PINNED, evidence="chosen by the shop")
            found.insert(min(places[one.item] - 1, len(found)), told)
    return found[: wanted.k]


def arranged_asking(
    candidates: Sequence[Listed], shelf: Shelf, wanted: Wanted, gone: Callable[[set[str]], set[str]]
) -> list[Listed]:
    """The same list where `gone` tells which of some items cannot be sold.

    It is asked only of what would be shown, and a little beyond: of some hundred candidates most
    never are.
    """
    further = msgspec.structs.replace(wanted, k=2 * wanted.k + _AHEAD)
    pins, out, known = set(pinned(shelf.rules)), set(shelf.left_out), set[str]()
    while True:
        held = msgspec.structs.replace(shelf, left_out=out)
        found = arranged(candidates, held, further)
        # a pin counts towards a category wherever it stands
        if {one.item for one in found[: wanted.k]} | pins <= known:
            return found[: wanted.k]
        asked = ({one.item for one in found} | pins) - known
        missing = gone(asked)
        if not missing:
            return found[: wanted.k]
        known |= asked
        out |= missing


def _is_allowed(one: Listed, rules: Sequence[Rule], told: Mapping[str, Facts]) -> bool:
    """Whether no rule, of those that let through or hide, keeps an item out."""
    facts = told.get(one.item, NO_FACTS)
    only = [rule for rule in rules if rule.kind == "only"]
    if only and not any(rule.match.holds(one, facts) for rule in only):
        return False
    return not any(rule.kind == "hide" and rule.match.holds(one, facts) for rule in rules)


def _standing(shelf: Shelf) -> Callable[[Listed], tuple[bool, float]]:
    """What a list is sorted by: the buried last, else by score; equal ones stay as they came."""
    moving = [rule for rule in shelf.rules if rule.kind in ("boost", "bury")]

    def standing(one: Listed) -> tuple[bool, float]:
        score, is_buried = one.score - shelf.discounts.get(one.item, 0.0), False
        for rule in moving:
            if rule.match.holds(one, shelf.facts.get(one.item, NO_FACTS)):
                score += math.log(rule.factor) if rule.kind == "boost" else 0.0
                is_buried = is_buried or rule.kind == "bury"
        return is_buried, -score

    return standing


def _capped(listed: Iterable[Listed], most: int | None) -> list[Listed]:
    """At most so many of each category; of an item without one there may be any number."""
    if most is None:
        return list(listed)
    counts: Counter[str] = Counter()
    kept = []
    for one in listed:
        counts[one.category] += 1
        if not one.category or counts[one.category] <= most:
            kept.append(one)
    return kept
