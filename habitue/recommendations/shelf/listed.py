"""One item of a list, and what one request wants of it."""

import msgspec

from habitue.events import NO_CURRENCY, currency_exponent

BOUGHT = ("bought_often", "bought_once")   # reasons of items that the customer has
BOUGHT_TOGETHER = "bought_together"
POPULAR = "popular"
PINNED = "pinned"
READS_LIKE = "reads_like"


class Listed(msgspec.Struct, frozen=True):
    """One item of a customer's list."""

    item: str
    title: str
    category: str
    score: float                           # logarithms, comparable within the list only
    reason: str
    evidence: str                          # the reason in words


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What one request asks of a list."""

    k: int = 10
    context: tuple[str, ...] = ()          # what is on the page or in the cart; never in the list
    exclude: frozenset[str] = frozenset()
    exclude_bought: bool = False
    per_category: int | None = None        # at most so many of one category


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue says of an item beside its title and category."""

    brand: str = ""
    price: float | None = None             # major units of its currency


NO_FACTS = Facts()


def facts_of(brand: str | None, minor: int | None, currency: str | None) -> Facts:
    """Facts of an item from what the catalogue holds.

    >>> facts_of("Ton", 1250, "GBP").price
    12.5
    """
    price = None if minor is None else minor / 10 ** currency_exponent(currency or NO_CURRENCY)
    return Facts(brand=brand or "", price=price)
