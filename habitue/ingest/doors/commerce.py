"""What an event says of an order: its id, value and lines; and Segment's words for them.

Segment's e-commerce spec puts them into free-form properties, as RudderStack and PostHog do, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from habitue.events import (
    CART_ADDED,
    ITEM_VIEWED,
    NO_CURRENCY,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    ORDER_UPDATED,
    Line,
    Money,
)
from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.fields import MOST_MINOR, Told, currency, line, money, plain
from habitue.ingest.doors.keys import readable_id

MOST_LINES = 4_000
ORDERS = frozenset({ORDER_PLACED, ORDER_UPDATED, ORDER_REFUNDED, ORDER_CANCELLED})
TAKE_BACK = frozenset({ORDER_REFUNDED, ORDER_CANCELLED})

_OF_ONE_ITEM = frozenset({ITEM_VIEWED, CART_ADDED})
_ORDER_IDS = ("order_id", "orderId")
_ITEM_IDS = ("product_id", "productId", "sku", "id")
_VALUES = ("revenue", "total", "value")    # in this order; revenue is without tax and postage


@dataclass(frozen=True, slots=True)
class Bought:
    """What an event says of an order or of items."""

    name: str                              # canonical; a cancellation of no order is a refund
    order: str | None = None
    value: Money | None = None
    lines: tuple[Line, ...] = ()


def settled(told: Bought, pointer: str, faults: list[Fault]) -> Bought:
    """An order is worth its lines if nothing else is told, and less than nothing if taken back.

    A cancellation that names no order is a refund, whichever sign the source gave its amounts.
    """
    if told.name not in ORDERS:
        return told
    value = told.value if told.value is not None else _sum(told.lines, pointer, faults)
    if told.name not in TAKE_BACK:
        return Bought(told.name, told.order, value, told.lines)
    name = told.name if told.order is not None else ORDER_REFUNDED
    taken = None if value is None else Money(-abs(value.minor), value.currency)
    return Bought(name, told.order, taken, tuple(_taken(one) for one in told.lines))


def from_properties(
    name: str, properties: Mapping[str, Any], default: str | None, faults: list[Fault]
) -> Bought:
    """What properties in the words of Segment's spec say; `name` is canonical.

    Of an order, what cannot be read is a fault; of anything else it stays in the properties only.
    `default` is the currency of amounts that name none.
    """
    if name not in ORDERS:
        return _lenient(name, properties, default)
    of = currency(properties.get("currency"), "/properties/currency", faults) or default
    value = None
    for word in _VALUES:
        if value is None:
            value = money(_told(properties.get(word)), of, f"/properties/{word}", faults)
    lines = _lines(properties.get("products"), of, faults)
    order = _first_id(properties, _ORDER_IDS)
    return settled(Bought(name, order, value, lines), "/properties", faults)


def _lenient(name: str, properties: Mapping[str, Any], default: str | None) -> Bought:
    of = currency(properties.get("currency"), "", []) or default
    value = None
    for word in _VALUES:
        if value is None and of is not None:
            value = money(_told(properties.get(word)), of, "", [])
    lines: tuple[Line, ...] = ()
    if name in _OF_ONE_ITEM:
        only = _line(properties, of, "", [])
        if only is None:                      # its price or quantity cannot be read
            only = _line({"id": _first_id(properties, _ITEM_IDS)}, of, "", [])
        lines = () if only is None else (only,)
    return Bought(name, _first_id(properties, _ORDER_IDS), value, lines)


def _lines(products: object, of: str | None, faults: list[Fault]) -> tuple[Line, ...]:
    if products is None:
        return ()
    if not isinstance(products, list) or len(products) > MOST_LINES:
        detail = f"a list of at most {MOST_LINES} products was wanted"
        faults.append(Fault("/properties/products", "bad_lines", detail))
        return ()
    read: Iterable[Line | None] = (
        _line(one if isinstance(one, dict) else {}, of, f"/properties/products/{place}", faults)
        for place, one in enumerate(products)
    )
    return tuple(one for one in read if one is not None)


def _line(
    told: Mapping[str, Any], of: str | None, pointer: str, faults: list[Fault]
) -> Line | None:
    found = Told(
        item=_first_id(told, _ITEM_IDS),
        quantity=_told(told.get("quantity")),
        unit_price=_told(told.get("price")),
    )
    return line(found, of, pointer, faults)


def _taken(one: Line) -> Line:
    amount = Money(-abs(one.amount.minor), one.amount.currency)
    return Line(
        item=one.item, quantity=plain(-abs(one.quantity)), unit_price=one.unit_price, amount=amount
    )


def _sum(lines: tuple[Line, ...], pointer: str, faults: list[Fault]) -> Money | None:
    if not lines or lines[0].amount.currency == NO_CURRENCY:
        return None
    total = sum(one.amount.minor for one in lines)
    if abs(total) > MOST_MINOR:
        detail = "an order is worth at most 10^15 minor units"
        faults.append(Fault(pointer, "bad_amount", detail))
        return None
    return Money(total, lines[0].amount.currency)


def _first_id(told: Mapping[str, Any], words: tuple[str, ...]) -> str | None:
    return next((found for word in words if (found := readable_id(told.get(word)))), None)


def _told(value: object) -> object:
    """Empty text is how some clients write that they do not know."""
    return None if value == "" else value
