"""What to show to whom: the customer's list, what is on the page, and what the shop says of it.

All that is of this moment (stock, rules, what was bought or shown just now) is looked up here, when
it is asked for; the rest was worked out by the scorer.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from habitue.lake.live import catalogue
from habitue.lake.live.doings import NOTHING, Doings, doings
from habitue.lake.live.scored import ScoredItem
from habitue.recommendations.shelf.arranging import Shelf, arranged_asking
from habitue.recommendations.shelf.listed import (
    BOUGHT,
    POPULAR,
    READS_LIKE,
    Facts,
    Listed,
    Wanted,
    facts_of,
)
from habitue.recommendations.shelf.mixing import beside, mixed, named
from habitue.recommendations.shelf.rules import Rule, pinned
from habitue.recommendations.shelf.seen import DAYS, discounts, ignored
from habitue.scoring.told import Similar
from habitue.sequences.build import DAY
from habitue.serving.answers.book import Book, Known

RECENT = 5                                 # items looked at last: the context of who has no list
TRIGGER_HOURS = 24                         # so long what the last event was about is left out
_BEYOND = 200                              # of what sells, looked at where a list runs short
_SEARCHED = 5_000                          # of what sells, for items that `only` rules name


def listed_for(
    book: Book, shop: str, known: Known | None, wanted: Wanted, now: int
) -> list[Listed]:
    """What to show to somebody (none: to anybody) now (µs)."""
    rules = book.rules(shop, now)
    # one state of customers and stock throughout, for which the file is asked once
    return book.profiles.look(lambda _: _listed(book, shop, known, (wanted, rules, now)))


def _listed(
    book: Book, shop: str, known: Known | None, asked: tuple[Wanted, Sequence[Rule], int]
) -> list[Listed]:
    wanted, rules, now = asked
    done = _doings(book, shop, known, now)
    others = _named_by(book, shop, rules)
    candidates = _candidates(book, shop, known, done, wanted, others)

    def gone(items: set[str]) -> set[str]:
        return book.profiles.look(lambda one: catalogue.unavailable(one, shop, items, now))

    found = arranged_asking(
        candidates, _shelf(book, shop, done, candidates, asked), wanted, gone
    )
    if len(found) < wanted.k:              # most of what is listed cannot be shown
        candidates = mixed(candidates, [], _sellers(book.scored.best(shop, _BEYOND)))
        shelf = _shelf(book, shop, done, candidates, asked)
        found = arranged_asking(candidates, shelf, wanted, gone)
    return found


def _doings(book: Book, shop: str, known: Known | None, now: int) -> Doings:
    if known is None:
        return NOTHING
    since, customer = now - round(DAYS * DAY), known.profile.customer
    return book.profiles.look(
        lambda connection: doings(connection, shop, customer, now=now, since=since)
    )


def _candidates(
    book: Book, shop: str, known: Known | None, done: Doings, wanted: Wanted, others: list[Listed]
) -> list[Listed]:
    """What could be shown, best first: the own list, what goes with the context, the others."""
    whole = book.shop(shop) if known is None else known.shop
    popular = [] if whole is None else whole.popular
    own = [] if known is None or known.scored is None else book.listed(known.scored)
    context = wanted.context
    if not context and not own:            # a visitor: what they looked at is what is known
        context = tuple(dict.fromkeys(item for item, _ in reversed(done.touched)))[:RECENT]
    near = _near(book, shop, context)
    return mixed(own or popular, near, [*popular, *others])


def _near(book: Book, shop: str, context: Sequence[str]) -> list[Listed]:
    """What goes with a context, the best first."""
    if not context:
        return []
    around = {one.item: one for one in book.scored.items(shop, context)}
    similar = {
        item: msgspec.json.decode(one.similar, type=Similar) for item, one in around.items()
    }
    found = beside(similar)
    told = {one.item: one for one in _sellers(book.scored.named(shop, found))}
    return [
        named(told[item], how, around[how.companion].title or how.companion)
        for item, how in found.items()
        if item in told
    ]


def _named_by(book: Book, shop: str, rules: Sequence[Rule]) -> list[Listed]:
    """What rules want in lists, whoever they are for."""
    pins = pinned(rules)
    found = book.scored.named(shop, pins) if pins else []
    for rule in rules:
        if rule.kind == "only":
            found += book.scored.named(shop, rule.match.items)
            for category in rule.match.categories:
                found += book.scored.best(shop, _BEYOND, category=category)
            if not rule.match.items and not rule.match.categories:
                found += book.scored.best(shop, _SEARCHED)
    return _sellers(found)


def _sellers(items: Iterable[ScoredItem]) -> list[Listed]:
    """Items as what sells is listed."""
    return [
        Listed(
            item=one.item, title=one.title, category=one.category, score=one.sold,
            reason=READS_LIKE if one.reads_like else POPULAR,
            evidence=f"new, and reads like {one.reads_like}" if one.reads_like
            else f"in {round(one.sold)} orders in 28 days",
        )
        for one in items
    ]  # fmt: skip


def _shelf(
    book: Book,
    shop: str,
    done: Doings,
    candidates: Sequence[Listed],
    asked: tuple[Wanted, Sequence[Rule], int],
) -> Shelf:
    """What has a say in the list beside the scores of its candidates."""
    wanted, rules, now = asked
    names, out = {one.item for one in candidates}, set[str]()
    items, time = done.last
    if now - time <= TRIGGER_HOURS * DAY // 24:
        out.update(items)
    out |= set(done.bought) if wanted.exclude_bought else _spent(book, shop, done, candidates)
    return Shelf(
        rules=rules,
        facts=_facts(book, shop, names, now) if any(one.match.needs_facts for one in rules) else {},
        left_out=out,
        discounts=discounts(ignored(done.shown, done.touched)),
    )


def _spent(
    book: Book, shop: str, done: Doings, candidates: Sequence[Listed]
) -> set[str]:
    """What the customer bought once and hardly anybody buys again, of what others speak for."""
    once = {item for item, orders in done.bought.items() if orders == 1}
    asked = once & {one.item for one in candidates if one.reason not in BOUGHT}
    again = {one.item for one in book.scored.named(shop, asked) if one.again} if asked else set()
    return asked - again


def _facts(
    book: Book, shop: str, items: Collection[str], now: int
) -> Mapping[str, Facts]:
    held = book.profiles.look(lambda one: catalogue.items_of(one, shop, items, now))
    return {
        item: facts_of(one.brand, one.price_minor, one.currency) for item, one in held.items()
    }
