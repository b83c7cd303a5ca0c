"""A customer's list of items within what one request leaves out of it."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import msgspec

from habitue.scoring.told import Listed

BOUGHT = ("bought_often", "bought_once")   # reasons of items that the customer has


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of a list."""

    k: int = 10
    exclude: frozenset[str] = frozenset()
    exclude_bought: bool = False
    per_category: int | None = None


def chosen(listed: Iterable[Listed], beyond: Iterable[Listed], wanted: Wanted) -> list[Listed]:
    """The first k that are let through, from the customer's list and then from what is popular."""
    found: list[Listed] = []
    for one in _let_through(listed, beyond, wanted):
        found.append(one)
        if len(found) == wanted.k:
            break
    return found


def _let_through(
    listed: Iterable[Listed], beyond: Iterable[Listed], wanted: Wanted
) -> Iterator[Listed]:
    seen: set[str] = set(wanted.exclude)
    categories: Counter[str] = Counter()
    for one in _in_order(listed, beyond, seen, wanted):
        if wanted.per_category is not None and one.category:
            if categories[one.category] >= wanted.per_category:
                continue
            categories[one.category] += 1
        yield one


def _in_order(
    listed: Iterable[Listed], beyond: Iterable[Listed], seen: Collection[str], wanted: Wanted
) -> Iterator[Listed]:
    told = set(seen)
    for one in (*listed, *beyond):
        if one.item in told:
            continue
        told.add(one.item)  # what is left out of a list does not come back as popular
        if not (wanted.exclude_bought and one.reason in BOUGHT):
            yield one
