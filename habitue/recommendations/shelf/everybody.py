"""Lists for everybody at an instant, on the same shelf as the server's: from arrays to rows.

What the scorer keeps of a shop for the server is read here, too: lists, what sells, what goes with
what.
"""

# C customers · V items
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from habitue.recommendations.candidates import Past, bought_again
from habitue.recommendations.recommend import (
    RECOMMENDATIONS,
    FittedRecommender,
    lender_of,
    name_of,
    recommend,
    recommend_by_batch,
)
from habitue.recommendations.shelf.arranging import Shelf, arranged
from habitue.recommendations.shelf.listed import POPULAR, READS_LIKE, Facts, Listed, Wanted
from habitue.recommendations.shelf.mixing import beside, mixed, named
from habitue.recommendations.shelf.rules import Rule, pinned
from habitue.sequences.build import Sequences

LISTED = 50                                # items kept of a list: what is left out eats some
SIMILAR = 50                               # … and of what is bought beside an item
STRANGER = -1                              # the row of somebody of whom nothing is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a shop says of its items and lists at the cutoff."""

    rules: Sequence[Rule] = ()
    facts: Mapping[str, Facts] = field(default_factory=dict)
    unavailable: frozenset[str] = frozenset()
    # by customer: of what they were shown and did not mind, in logarithms
    discounts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A shop's recommender and sequences, with what the shop says."""

    fitted: FittedRecommender
    sequences: Sequences
    said: Said

    def place_of(self, item: str) -> int | None:
        """Where an item stands in the sequences; none: it is not known."""
        place = int(np.searchsorted(self.sequences.items, item))
        is_known = place < len(self.sequences.items) and self.sequences.items[place] == item
        return place if is_known else None


def shelved(
    stand: Stand, wanted: Wanted, people: Mapping[str, int] | None = None
) -> pa.Table:
    """Lists in the RECOMMENDATIONS schema, of some people (all that are known, by default).

    `people` are rows of the sequences, or STRANGER, by the name under which they are told.
    """
    open_stand = replace(stand, fitted=_within(stand, wanted))
    known = np.flatnonzero(stand.fitted.past.known)
    is_plain = not (stand.said.rules or stand.said.discounts or wanted.context or wanted.exclude)
    if people is None and is_plain:
        return recommend(open_stand.fitted, stand.sequences, k=wanted.k, customers=known)
    if people is None:
        people = {str(stand.sequences.customers[row]): int(row) for row in known}
    tables = list(_tables(open_stand, wanted, people))
    return pa.concat_tables([RECOMMENDATIONS.empty_table(), *tables])


def lists_of(
    fitted: FittedRecommender, sequences: Sequences, customers: np.ndarray, *, k: int = LISTED
) -> Iterator[dict[str, list[Listed]]]:
    """The lists of some customers by name, a batch at a time."""
    for lists in recommend_by_batch(fitted, sequences, k=k, customers=customers):
        names, item = lists.sequences, lists.item
        # a float32 times a power of ten is exact in float64, so this is what `round` gives
        score = np.round(lists.score.astype(np.float64), 4)
        columns = (names.items[item], names.titles[item], names.categories[item], score)
        listed = [
            Listed(code, title, category, worth, reason.value, evidence)
            for code, title, category, worth, (reason, evidence) in zip(
                *(column.tolist() for column in columns), lists.reasons, strict=True
            )
        ]
        first = np.flatnonzero(lists.place == 0)
        ends = np.append(first[1:], len(listed))[: len(first)]     # nobody has a list: none
        yield {
            names.customers[lists.customer[low]]: listed[low:high]
            for low, high in zip(first.tolist(), ends.tolist(), strict=True)
        }


def popular_of(past: Past, sequences: Sequences, most: int = LISTED) -> list[Listed]:
    """What to show to whom nothing is known of: what sold most lately, or ever."""
    sold = next((one for one in past.popularity[1:] if one.any()), past.sold)
    best = np.argsort(-sold, kind="stable")[:most]
    return [
        _seller(past, sequences, int(item), float(sold[item])) for item in best if sold[item] > 0
    ]


def similar_to(past: Past, sequences: Sequences, item: int) -> list[tuple[str, float]]:
    """What is bought by who buys an item, the likest first."""
    low, high = past.neighbours.indptr[item], past.neighbours.indptr[item + 1]
    best = np.argsort(-past.neighbours.data[low:high], kind="stable")[:SIMILAR] + low
    return [
        (str(sequences.items[past.neighbours.indices[at]]),
         round(float(past.neighbours.data[at]), 4))
        for at in best
    ]  # fmt: skip


def _seller(past: Past, sequences: Sequences, item: int, sold: float) -> Listed:
    lender = lender_of(past, item)
    return Listed(
        item=str(sequences.items[item]), title=str(sequences.titles[item]),
        category=str(sequences.categories[item]), score=round(sold, 4),
        reason=POPULAR if lender < 0 else READS_LIKE,
        evidence=f"in {int(sold)} orders" if lender < 0
        else f"new, and reads like {name_of(sequences, lender)}",
    )  # fmt: skip


def _within(stand: Stand, wanted: Wanted) -> FittedRecommender:
    """The recommender, of what can be sold, and with this request's limits."""
    fitted, shown = stand.fitted, stand.fitted.shown
    can_be_sold = ~np.isin(stand.sequences.items.astype(str), sorted(stand.said.unavailable))
    rules = replace(
        shown.rules, skip_bought=wanted.exclude_bought, skip_spent=True,
        per_category=wanted.per_category,
    )  # fmt: skip
    return replace(
        fitted, shown=replace(shown, rules=rules, on_sale=shown.on_sale & can_be_sold)
    )


def _tables(stand: Stand, wanted: Wanted, people: Mapping[str, int]) -> Iterator[pa.Table]:
    popular = popular_of(stand.fitted.past, stand.sequences)
    near, named_by_rules = near_of(stand, wanted.context), _named_by(stand)
    rows = np.array([row for row in people.values() if row != STRANGER], dtype=np.int64)
    names = {str(stand.sequences.customers[row]): name for name, row in people.items()}
    # a limit per category is for the arranged list, not for what it is made of
    rules = replace(stand.fitted.shown.rules, per_category=None)
    free = replace(stand.fitted, shown=replace(stand.fitted.shown, rules=rules))

    def arrange(name: str, own: Sequence[Listed]) -> pa.Table:
        shelf = Shelf(
            rules=stand.said.rules, facts=stand.said.facts,
            left_out=_left_out(stand, wanted, people[name]),
            discounts=stand.said.discounts.get(name, {}),
        )  # fmt: skip
        candidates = mixed(own or popular, near, [*popular, *named_by_rules])
        return _table(name, arranged(candidates, shelf, wanted))

    for name, row in people.items():
        if row == STRANGER:
            yield arrange(name, [])
    for lists in lists_of(free, stand.sequences, rows, k=LISTED + wanted.k):
        for customer, own in lists.items():
            yield arrange(names[customer], own)


def near_of(stand: Stand, context: Sequence[str]) -> list[Listed]:
    """What goes with a context, the best first."""
    shop, past = stand.sequences, stand.fitted.past
    places = {item: place for item in context if (place := stand.place_of(item)) is not None}
    similar = {item: similar_to(past, shop, place) for item, place in places.items()}
    found = []
    for item, how in beside(similar).items():
        place = stand.place_of(item)
        assert place is not None, "it is bought beside another"
        title = str(shop.titles[places[how.companion]]) or how.companion
        found.append(named(_seller(past, shop, place, 0.0), how, title))
    return found


def _named_by(stand: Stand) -> list[Listed]:
    """What rules want in lists, whoever they are for; what sells most first."""
    rules, facts = stand.said.rules, stand.said.facts
    only = [rule.match for rule in rules if rule.kind == "only"]
    past, wanted = stand.fitted.past, pinned(rules)
    sold = past.popularity[1]
    found = [
        _seller(past, stand.sequences, place, float(sold[place])) for item in wanted
        if (place := stand.place_of(item)) is not None
    ]  # fmt: skip
    for place in np.argsort(-sold, kind="stable") if only else ():
        one = _seller(past, stand.sequences, int(place), float(sold[place]))
        if any(match.holds(one, facts.get(one.item, Facts())) for match in only):
            found.append(one)
            if len(found) >= len(wanted) + 4 * LISTED:
                break
    return found


def _left_out(stand: Stand, wanted: Wanted, row: int) -> set[str]:
    """What must not be shown to somebody: nothing to sell, or bought and not bought again."""
    shown, past = stand.fitted.shown, stand.fitted.past
    out = {*stand.said.unavailable, *stand.sequences.items[~shown.on_sale].astype(str)}
    if row == STRANGER:
        return out
    bought = slice(past.counts.indptr[row], past.counts.indptr[row + 1])
    items, orders = past.counts.indices[bought], past.counts.data[bought]
    if not wanted.exclude_bought:
        items = items[(orders == 1) & ~bought_again(past)[items]]
    return out | set(stand.sequences.items[items].astype(str))


def _table(customer: str, found: Sequence[Listed]) -> pa.Table:
    columns = {
        "customer": [customer] * len(found),
        "rank": np.arange(1, len(found) + 1, dtype=np.int32),
        "item": [one.item for one in found],
        "title": [one.title for one in found],
        "score": np.array([one.score for one in found], dtype=np.float32),
        "reason": [one.reason for one in found],
        "evidence": [one.evidence for one in found],
    }
    return pa.table(columns, schema=RECOMMENDATIONS)
