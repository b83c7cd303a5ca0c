"""What is known of one customer at an instant: the twin of the lake's views, of one customer.

Every row counts from its `visible` on: it has happened, and was known. So what is known at an
instant is a subset of the rows, and the same subset until the next row's `visible`.
"""

import json
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import msgspec

from habitue.audiences.compile import NEXT_ORDER_DAYS
from habitue.audiences.language.nodes import Similar
from habitue.audiences.live.asking.steering import ORDERS, of_event
from habitue.audiences.live.scored.curves import Curve, Reading
from habitue.events import ORDER_PLACED, ORDER_UPDATED
from habitue.lake.views.people import fold

NEVER = 1 << 62  # µs: after every instant
_DAY = 86_400_000_000  # µs
MOST_NEWS = 50  # that no view was made of
TELLING = (ORDER_PLACED, ORDER_UPDATED)


class Event(msgspec.Struct, gc=False):  # many are kept, and they hold nothing that holds them
    """One event of a customer, as the live state keeps it."""

    time: int
    received: int
    digest: bytes
    visible: int
    name: str
    source: str
    order: str | None  # of what tells of an order: never none
    minor: int | None
    currency: str | None
    lines: str  # JSON: [item, quantity, minor units] of each
    properties: str  # JSON


class Change(NamedTuple):
    """One change of a customer's properties, or of their consent."""

    time: int
    received: int
    digest: bytes
    visible: int
    told: tuple[str, ...]  # put, clear, append, unappend; or channel, status


class ItemChange(NamedTuple):
    """One change of what is known of an item."""

    time: int
    received: int
    digest: bytes
    visible: int
    told: tuple[str | None, str | None, str | None]  # title, category, brand


@dataclass(slots=True, kw_only=True)
class Predictions:
    """One set of predictions: of one version, published for one cutoff."""

    cutoff: int
    visible: int
    values: Mapping[str, float]  # by key


class Nearby(Protocol):
    """Who is similar to an audience."""

    def of(self, name: str, time: int) -> tuple[bool, int]:
        """Whether a customer is similar at an instant, and until when."""
        ...

    def causes(self, name: str, after: int, until: int) -> dict[int, str]:
        """The instants in (after, until] at which it is another answer, and why."""
        ...


@dataclass(slots=True, kw_only=True)
class Shop:
    """What all customers of a shop share while they are looked at."""

    currency: str | None = None
    zone: str = "UTC"
    order_sources: tuple[str, ...] = ()
    not_items: frozenset[str] = frozenset()
    not_item_patterns: tuple[str, ...] = ()
    items: dict[str, list[ItemChange]] = field(default_factory=dict)
    instants: list[int] = field(default_factory=list)  # from which on more is known of items
    predictions: dict[tuple[str, int], Predictions] = field(default_factory=dict)
    scored: frozenset[tuple[str, int]] = frozenset()           # questions that curves answer
    readings: dict[int | None, Reading] = field(default_factory=dict)      # of curves, by `whole`
    groups: Mapping[int, str] = field(default_factory=dict)      # by customer
    places: Any = None                     # `alike.places.Places`: of customers, by key
    near: Mapping[Similar, Nearby] = field(default_factory=dict)

    def is_like(self, other: "Shop") -> bool:
        """Whether the settings are those of another."""
        names = ("currency", "zone", "order_sources", "not_items", "not_item_patterns")
        return all(getattr(self, name) == getattr(other, name) for name in names)


@dataclass(slots=True, kw_only=True)
class Facts:
    """All that is known of one customer, and from when on each row counts."""

    customer: int  # the id of the key that names them
    name: str
    keys: tuple[str, ...]
    visible: int  # from then on there is such a customer
    events: list[Event] = field(default_factory=list)  # in their order: time, received, digest
    changes: Sequence[Change] = ()
    consents: Sequence[Change] = ()
    cancellations: Sequence[tuple[str, int, int]] = ()         # order, time, visible
    curves: Sequence[Curve] = ()           # as they came to count
    views: dict[tuple[int, int], "View"] = field(default_factory=dict)
    own: tuple[int, ...] | None = None  # see `instants`
    news: dict[int, list[Event]] = field(default_factory=dict)  # told since, by their `visible`

    def at(self, shop: Shop, time: int) -> "View":
        """What is known at an instant."""
        instants = self.instants()
        known, items = bisect_right(instants, time), bisect_right(shop.instants, time)
        view = self.views.get((known, items))
        if view is None:
            later = (*instants[known : known + 1], *shop.instants[items : items + 1])
            span = (time, min(later, default=NEVER))
            view = self._extended(known, items, span) or View(self, shop, *span)
            self.views[known, items] = view
        return view

    def _extended(self, known: int, items: int, span: tuple[int, int]) -> "View | None":
        """The view of so many instants out of an earlier one and what was told since."""
        more: list[Event] = []
        while known > 0:
            known -= 1
            told = self.news.get(self.instants()[known])
            if told is None:
                return None
            more = [*told, *more]
            if (before := self.views.get((known, items))) is not None:
                return before.extended(span, more)
        return None

    def add(self, events: Sequence[Event]) -> None:
        """Take more events; what is known of earlier instants stands where it can."""
        for one in events:
            insort(self.events, one, key=in_order)
        for one in sorted(events, key=lambda one: one.visible):
            self.visible = min(self.visible, one.visible)
            if self.own is None:
                return
            if one.visible > self.own[-1]:
                self.own = (*self.own, one.visible)
                self.news[one.visible] = [one]
            elif one.visible == self.own[-1] and self._is_unseen():
                self.news[one.visible].append(one)
            else:
                self.reset()

    def is_first_of(self, orders: Sequence[str]) -> bool:
        """Whether one event tells of each of some orders, and no other one does."""
        told = sum(1 for one in self.events if one.order in orders)
        return told == len(orders) == len(set(orders))

    def reset(self) -> None:
        """Forget what was worked out."""
        self.views.clear()
        self.news.clear()
        self.own = None

    def prune(self) -> None:
        """Keep the latest view only: earlier instants are over."""
        if len(self.news) > MOST_NEWS:
            self.reset()
        if not self.views:
            return
        last = max(self.views)
        if len(self.views) > 1:
            self.views = {last: self.views[last]}
        self.views[last].prune()
        seen = self.instants()[last[0] - 1] if last[0] else -NEVER
        for instant in [one for one in self.news if one <= seen]:
            del self.news[instant]

    def _is_unseen(self) -> bool:
        """Whether the last instant has news, and no view yet."""
        instants = self.instants()
        return instants[-1] in self.news and all(known < len(instants) for known, _ in self.views)

    def instants(self) -> tuple[int, ...]:
        """The instants from which on more is known of the customer, in order."""
        if self.own is None:
            told = {one.visible for one in self.events}
            told |= {one.visible for one in (*self.changes, *self.consents)}
            told |= {since for _, _, since in self.cancellations}
            told |= {one.visible for one in self.curves}
            self.own = tuple(sorted({*told, self.visible}))
        return self.own


    def curve(self, time: int) -> Curve | None:
        """The curve that counts at an instant."""
        return next((one for one in reversed(self.curves) if one.visible <= time), None)


class View:
    """What is known of one customer from one row's `visible` to the next one's."""

    def __init__(self, facts: Facts, shop: Shop, time: int, until: int) -> None:
        self.shop = shop
        self.until = until  # when more is known
        self.exists = facts.visible <= time
        self.matches: dict[Any, Any] = {}  # by what is compared of events: the rows that it means
        # rows that an earlier view had, and the events that came since
        self.behind: dict[Any, tuple[Any, tuple[Event, ...]]] = {}
        self.rows: dict[tuple[str, bool], Sequence[Any]] = {}  # by event: with its lines, or not
        self.orders: Sequence[Any] | None = None
        self._facts, self._time = facts, time

    def extended(self, span: tuple[int, int], more: Sequence[Event]) -> "View":
        """The view from when on these events are known, too; what they do not touch is shared."""
        view = View(self._facts, self.shop, *span)
        names = {one.name for one in more}
        for name in ("properties", "consents", "consents_since"):
            if name in self.__dict__:
                view.__dict__[name] = self.__dict__[name]
        if names.isdisjoint(ORDERS):
            view.orders = self.orders
        view.rows = {
            place: rows for place, rows in self.rows.items()
            if names.isdisjoint(of_event(place[0]))
        }  # fmt: skip
        view.behind = {
            meaning: (rows, (*events, *more) if meaning.event in names else events)
            for meaning, (rows, events) in self.behind.items()
        }
        for meaning, rows in self.matches.items():
            if names.isdisjoint(meaning.reads):
                view.matches[meaning] = rows
            elif meaning.is_extended():
                view.behind[meaning] = (rows, tuple(more))
        return view

    def prune(self) -> None:
        """Keep what was found, and not what it was found in: that can be made again."""
        self.rows, self.orders = {}, None
        self.__dict__.pop("events", None)

    @cached_property
    def events(self) -> Mapping[str, Sequence[Event]]:
        """Events by name, each in their order."""
        found: defaultdict[str, list[Event]] = defaultdict(list)
        for one in self._facts.events:
            if one.visible <= self._time:
                found[one.name].append(one)
        return found

    @cached_property
    def properties(self) -> dict[str, Any]:
        """The customer's properties."""
        rows = [one for one in self._facts.changes if one.visible <= self._time]
        folded = fold(
            {"put": put, "clear": msgspec.json.decode(clear), "append": more, "unappend": less}
            for put, clear, more, less in (one.told for one in rows)
        )
        held: dict[str, Any] = json.loads(folded)
        return held

    @cached_property
    def consents(self) -> dict[str, str]:
        """The status of each channel."""
        rows = [one for one in self._facts.consents if one.visible <= self._time]
        return {one.told[0]: one.told[1] for one in rows}

    @cached_property
    def consents_since(self) -> dict[str, int]:
        """Since when each channel has had its status."""
        rows = [one for one in self._facts.consents if one.visible <= self._time]
        found: dict[str, tuple[str, int]] = {}
        for one in rows:
            channel, status = one.told
            if channel not in found or found[channel][0] != status:
                found[channel] = (status, one.time)
        return {channel: since for channel, (_, since) in found.items()}

    @cached_property
    def cancelled(self) -> frozenset[str]:
        """The orders that a cancellation names, whoever it is told of."""
        named = {one.order for one in self.events.get("order_cancelled", ()) if one.order}
        return frozenset(
            named | {order for order, _, since in self._facts.cancellations if since <= self._time}
        )

    @property
    def name(self) -> str:
        """The key that names the customer."""
        return self._facts.name

    @property
    def group(self) -> str | None:
        """The group by recency, frequency and value; none: no order stands."""
        return self.shop.groups.get(self._facts.customer)

    @cached_property
    def curve(self) -> Curve | None:
        """The customer's curve; none: they were never scored."""
        return self._facts.curve(self._time)

    def predicted(self, question: str, days: int) -> float | None:
        """What is predicted of the customer: under their own name, else under that of a key."""
        held = self.shop.predictions.get((question, days))
        if held is None:
            return None
        told = [key for key in self._facts.keys if key in held.values]
        mine = [key for key in told if key == self._facts.name] or sorted(told)[-1:]
        return held.values[mine[0]] if mine else None

    def next_order(self) -> int | None:
        """The instant by which the next order is as likely as not."""
        days = self.predicted("next_order", NEXT_ORDER_DAYS)
        if days is None:
            return None
        cutoff = self.shop.predictions["next_order", NEXT_ORDER_DAYS].cutoff
        return cutoff + int(days * _DAY)

    def item(self, code: str | None) -> tuple[str | None, str | None, str | None]:
        """Title, category and brand of an item: the latest that is known of each."""
        found: list[str | None] = [None, None, None]
        for change in self.shop.items.get(code or "", ()):
            if change.visible <= self._time:
                for place, told in enumerate(change.told):
                    found[place] = found[place] if told is None else told
        return (found[0], found[1], found[2])


def in_order(one: Event) -> tuple[int, int, bytes]:
    """The order in which events of a customer stand."""
    return (one.time, one.received, one.digest)
