"""A customer's orders and their lines, as the lake's views believe them, and events as rows.

The twin of `habitue.lake.views.orders` and `habitue.audiences.rows`, of one customer: of each
order and customer the shop's first source is believed, else the one that told of it first.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from habitue.audiences.live.facts import TELLING, Event, Shop, View
from habitue.audiences.live.values import matches
from habitue.events import ITEM_ORDERED, NO_CURRENCY, ORDER_PLACED, currency_exponent

LAST_RANK = 2**31 - 1


class Row(msgspec.Struct, gc=False):  # many are kept, and they hold nothing that holds them
    """Something that happened, perhaps with one of its lines; fields as `Field` names them."""

    id: object
    time: int
    properties_text: str | None
    told: dict[str, Any] | None = None     # the fields; none: those of the event
    event: Event | None = None
    shop: Shop | None = None
    held: Any = None                       # see `properties`

    @property
    def fields(self) -> dict[str, Any]:
        """What it was told with."""
        if self.told is None:
            assert self.event is not None, "a row without fields is that of an event"
            assert self.shop is not None, "and its value is in the currency of a shop"
            self.told = _of_event(self.event, self.shop)
        return self.told

    @property
    def properties(self) -> Any:
        """The JSON object that it was told with."""
        if self.held is None and self.properties_text is not None:
            self.held = _read(self.properties_text)
        return self.held


def rows(view: View, event: str, *, lined: bool) -> Sequence[Row]:
    """The rows of an event, with those of its lines where they are compared; kept by the view."""
    found = view.rows.get((event, lined))
    if found is None:
        found = view.rows[event, lined] = tuple(_rows(view, event, lined=lined))
    return found


def _rows(view: View, event: str, *, lined: bool) -> Iterator[Row]:
    if event == ITEM_ORDERED:
        for order in orders(view):
            yield from order.ordered(view)
    elif event == ORDER_PLACED:
        for order in orders(view):
            yield from order.placed(view, lined=lined)
    else:
        yield from rows_of(view, view.events.get(event, ()), lined=lined)


def amount(minor: int | None, currency: str | None, shop: Shop) -> Decimal | None:
    """Major units of the shop's currency; none: in another one."""
    ours = shop.currency or NO_CURRENCY
    if minor is None or currency not in (None, ours):
        return None
    return Decimal(minor).scaleb(-currency_exponent(ours))


def rows_of(view: View, events: Iterable[Event], *, lined: bool) -> Iterator[Row]:
    """The rows of some events that tell of no order, as a view knows items."""
    for one in events:
        if not lined:
            yield Row(one.digest, one.time, one.properties, None, one, view.shop)
            continue
        lines = json.loads(one.lines)
        if not lines:
            held = _read(one.properties)
            code = held.get("item") if isinstance(held, dict) else None
            lines = [(code if isinstance(code, str) else None, None, None)]
        for code, quantity, _ in lines:
            fields = _of_event(one, view.shop) | _line(view, code, quantity)
            yield Row(one.digest, one.time, one.properties, fields)


def _read(properties: str) -> Any:
    """The JSON object that an event was told with; of a name that is there twice, the first."""
    return json.loads(properties, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


def _of_event(one: Event, shop: Shop) -> dict[str, Any]:
    return {"source": one.source, "value": amount(one.minor, one.currency, shop)}


def _line(view: View, code: str | None, quantity: str | None) -> dict[str, Any]:
    title, category, brand = view.item(code)
    return {
        "item": code, "quantity": None if quantity is None else Decimal(quantity),
        "title": title, "category": category, "brand": brand,
    }  # fmt: skip


class _Telling:
    """What one source tells of one order in one currency."""

    def __init__(self, events: list[Event], apart: list[Event], rank: int) -> None:
        self.source, self.currency = events[0].source, events[0].currency
        first = min((one.time, one.name, one.received, one.digest) for one in events)
        self.rank = (rank, first)
        self.time = min(one.time for one in events)
        minors = [one.minor for one in events if one.minor is not None]
        self.minor = sum(minors) if minors else None
        self.wants_lines = all(one.lines == "[]" for one in events)
        self.events, self.apart = events, apart


class _Order:
    """One order as it is believed."""

    def __init__(self, id: str, tellings: list[_Telling]) -> None:
        tellings.sort(key=lambda one: one.rank)
        first = tellings[0]
        self.id, self.source, self.time = id, first.source, first.time
        self.wants_lines = first.wants_lines
        # of each column the first that is told at all, as arg_min takes it
        self.minor = next((one.minor for one in tellings if one.minor is not None), None)
        self.currency = next((one.currency for one in tellings if one.currency is not None), None)
        mine = [one for one in tellings if one.source == self.source]
        self.events = [event for one in mine for event in one.events]
        self.apart = mine[0].apart

    def placed(self, view: View, *, lined: bool) -> Iterator[Row]:
        """The order as a row, or one for each of its lines, at least one."""
        told = min(
            (one for one in self.events if one.name == ORDER_PLACED),
            key=lambda one: (one.time, one.received, one.digest),
            default=None,
        )
        properties = None if told is None else told.properties
        fields = self._fields(view)
        if not lined:
            yield Row(self.id, self.time, properties, fields)
            return
        lines = [_line(view, code, quantity) for _, code, quantity, _ in self._lines()]
        for line in lines or [_line(view, None, None)]:
            yield Row(self.id, self.time, properties, fields | line)

    def ordered(self, view: View) -> Iterator[Row]:
        """The lines of the order that are items, each at the time at which it was told."""
        for place, (time, code, quantity, minor) in enumerate(self._lines()):
            if is_item(code, view.shop):
                value = amount(minor, self.currency, view.shop)
                fields = self._fields(view) | {"value": value} | _line(view, code, quantity)
                yield Row((self.id, place), time, None, fields)

    def _fields(self, view: View) -> dict[str, Any]:
        return {"source": self.source, "value": amount(self.minor, self.currency, view.shop)}

    def _lines(self) -> Iterator[tuple[int, str, str, int]]:
        same = [one for one in self.events if one.currency == self.currency]
        for one in [*same, *(self.apart if self.wants_lines else ())]:
            for code, quantity, minor in json.loads(one.lines):
                yield one.time, code, quantity, minor


def orders(view: View) -> Sequence[_Order]:
    """The orders of positive value that stand."""
    if view.orders is None:
        view.orders = [
            one
            for one in _believed(view)
            if one.minor is not None and one.minor > 0 and one.id not in view.cancelled
        ]
    return view.orders


def _believed(view: View) -> Iterator[_Order]:
    ranks = {source: place for place, source in enumerate(view.shop.order_sources, start=1)}
    apart: dict[tuple[str, str], list[Event]] = {}
    for one in view.events.get(ITEM_ORDERED, ()):
        if one.order is not None:
            apart.setdefault((one.order, one.source), []).append(one)
    grouped: dict[str, dict[tuple[str, str | None], list[Event]]] = {}
    for name in TELLING:
        for one in view.events.get(name, ()):
            told = grouped.setdefault(str(one.order), {})
            told.setdefault((one.source, one.currency), []).append(one)
    for order, by_source in grouped.items():
        yield _Order(
            order,
            [
                _Telling(events, apart.get((order, source), []), ranks.get(source, LAST_RANK))
                for (source, _), events in by_source.items()
            ],
        )


def is_item(code: str, shop: Shop) -> bool:
    """Whether a code is one of an item, and not what the shop declared to be none."""
    if code in shop.not_items:
        return False
    return not any(matches(pattern, code) for pattern in shop.not_item_patterns)
