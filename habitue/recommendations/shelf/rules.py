"""A shop's rules of what is shown: pin, boost, bury, only these, hide; each for a time, as data.

A rule names what it is about by items, categories, brands or a range of prices; all that it names
must hold, and of a list one of it. Where several rules speak, `only` and `hide` are stronger than a
pin, and a pin than the others.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from habitue.errors import BadSetting
from habitue.events import Instant
from habitue.recommendations.shelf.listed import Facts, Listed

Kind: TypeAlias = Literal["pin", "boost", "bury", "only", "hide"]
KINDS: tuple[Kind, ...] = ("pin", "boost", "bury", "only", "hide")
MOST_FACTOR = 1_000.0
MOST_POSITION = 100


class Match(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a rule is about."""

    items: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    price_from: float | None = None        # major units, both ends included
    price_to: float | None = None

    def holds(self, one: Listed, facts: Facts) -> bool:
        """Whether an item is meant."""
        return (
            (not self.items or one.item in self.items)
            and (not self.categories or one.category in self.categories)
            and (not self.brands or facts.brand in self.brands)
            and self._is_priced(facts.price)
        )

    @property
    def needs_facts(self) -> bool:
        """Whether it asks for more of an item than a list says."""
        return bool(self.brands) or (self.price_from, self.price_to) != (None, None)

    def _is_priced(self, price: float | None) -> bool:
        if self.price_from is None and self.price_to is None:
            return True
        return (
            price is not None
            and (self.price_from is None or price >= self.price_from)
            and (self.price_to is None or price <= self.price_to)
        )


class Rule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One rule of a shop."""

    kind: Kind
    match: Match
    position: int = 1                      # of a pin, from 1
    factor: float = 2.0                    # of a boost: how many times as likely it counts
    since: Instant | None = None           # in force from then on; none: from when it was made
    until: Instant | None = None           # … and before then; none: until it is removed
    note: str = ""                         # for people


def checked(rule: Rule) -> Rule:
    """The rule, if it means something.

    Raises:
        BadSetting: it names nothing, or a number or a time is none; the message says which.
    """
    match = rule.match
    prices = (match.price_from, match.price_to)
    is_any = match.items or match.categories or match.brands or prices != (None, None)
    for is_bad, why in (
        (not is_any, "a rule names items, categories, brands or prices; this one names nothing"),
        (rule.kind == "pin" and not match.items, "a pin names the items that it pins"),
        (not 1 <= rule.position <= MOST_POSITION, f"a position is from 1 to {MOST_POSITION}"),
        (not 0 < rule.factor <= MOST_FACTOR, f"a factor is above 0 and at most {MOST_FACTOR:g}"),
        (_is_backwards(rule), "a rule ends after it begins, and both are instants with a zone"),
    ):
        if is_bad:
            raise BadSetting(f"{why}\nhint: `habitue rules add --help` shows rules that work")
    return rule


def in_force(rules: Iterable[Rule], at: Instant) -> list[Rule]:
    """Those of some rules that hold at an instant."""
    return [
        rule
        for rule in rules
        if (rule.since is None or rule.since <= at) and (rule.until is None or at < rule.until)
    ]


def pinned(rules: Sequence[Rule]) -> dict[str, int]:
    """The place (from 1) of each pinned item; of two rules the first stands.

    The items of one pin stand behind each other.
    """
    places: dict[str, int] = {}
    for rule in rules:
        if rule.kind == "pin":
            for further, item in enumerate(rule.match.items):
                places.setdefault(item, rule.position + further)
    return places


def _is_backwards(rule: Rule) -> bool:
    told = [one for one in (rule.since, rule.until) if one is not None]
    if any(one.tzinfo is None for one in told):
        return True
    return len(told) == 2 and told[0] >= told[1]
