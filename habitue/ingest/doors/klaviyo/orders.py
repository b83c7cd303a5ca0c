"""What an event's properties say of an order: its id, its lines, and the money.

Klaviyo checks no properties, and so neither do we: a line that cannot be read stays in the event's
properties, as it came, and is no reason to refuse the event.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from habitue.events import (
    CART_ADDED,
    CHECKOUT_STARTED,
    ITEM_ORDERED,
    ITEM_VIEWED,
    NO_CURRENCY,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    Line,
    Money,
    currency_exponent,
)
from habitue.ingest.doors.fields import (
    MOST_MINOR,
    Told,
    currency,
    line,
    money,
    number,
    price,
)
from habitue.ingest.doors.keys import readable_id
from habitue.ingest.doors.klaviyo.reading import At

_ORDERS = ("OrderId", "OrderID", "Order ID", "order_id", "orderId", "$order_id")
_ITEMS = (
    "AddedItemProductID", "ProductID", "ProductId", "Product ID", "product_id", "SKU", "sku",
    "VariantID",
)
_QUANTITIES = ("AddedItemQuantity", "Quantity", "quantity", "Item Quantity")
_PRICES = ("AddedItemPrice", "ItemPrice", "Item Price", "item_price", "Price", "price")
_TOTALS = ("RowTotal", "Row Total", "row_total")
_VALUES = ("$value",)
_CURRENCIES = ("$value_currency", "$currency_code", "currency_code", "Currency")

_OF_ONE_ITEM = frozenset({ITEM_ORDERED, ITEM_VIEWED, CART_ADDED})
_OF_ITEMS = frozenset({ORDER_PLACED, CHECKOUT_STARTED})
_TAKEN_BACK = frozenset({ORDER_REFUNDED, ORDER_CANCELLED})


@dataclass(frozen=True, slots=True)
class Bought:
    """What an event says of an order."""

    name: str                              # of the event: a cancellation of no order is a refund
    order: str | None = None
    value: Money | None = None
    lines: tuple[Line, ...] = ()


def bought(name: str, attributes: At, unique_id: str | None, default: str | None) -> Bought:
    """What an event of that canonical name says of an order; any other may have a value.

    `default` is the currency of amounts that name none. An order is named by its OrderId, else by
    the event's `unique_id`, which most clients set to it; but a product that was ordered, and a
    refund, only by an OrderId.
    """
    told = attributes["properties"].value
    properties = told if isinstance(told, dict) else {}
    of = _currency(attributes["value_currency"], properties, default)
    value = _value(attributes["value"], properties, of)
    order = next((one for key in _ORDERS if (one := readable_id(properties.get(key)))), None)
    if name in _OF_ONE_ITEM:
        only = _line(properties, of, value)
        named = order if name == ITEM_ORDERED else None
        return Bought(name, named, value, () if only is None else (only,))
    lines = tuple(_lines(properties, of, value)) if name in _OF_ITEMS else ()
    if name == ORDER_PLACED:
        return Bought(name, order or unique_id, value or _sum(lines, of), lines)
    if name in _TAKEN_BACK:
        named = order or (unique_id if name == ORDER_CANCELLED else None)
        return Bought(name if named else ORDER_REFUNDED, named, _taken(value))
    return Bought(name, value=value, lines=lines)


def _value(at: At, properties: Mapping[str, Any], currency: str) -> Money | None:
    if not at.is_told:
        return money(_first(properties, _VALUES), currency, "", [])
    if isinstance(at.value, str | bool | dict | list):
        at.fault("bad_amount", "'value' must be a number.")
        return None
    found = money(at.value, currency, "", [])
    if found is None:
        at.fault("bad_amount", "'value' is out of range.")
    return found


def _taken(value: Money | None) -> Money | None:
    """Less than nothing, whichever sign the client gave it."""
    return None if value is None else Money(-abs(value.minor), value.currency)


def _currency(at: At, properties: Mapping[str, Any], default: str | None) -> str:
    told = currency(at.value, "", [])
    if told is None and at.value not in (None, ""):
        at.fault("bad_currency", "'value_currency' must be three letters, as EUR.")
    return told or currency(_first(properties, _CURRENCIES), "", []) or default or NO_CURRENCY


def _lines(properties: Mapping[str, Any], of: str, value: Money | None) -> Iterator[Line]:
    """The lines of an order: its Items, else itself as the only one, else its ItemNames."""
    items = properties.get("Items", properties.get("items"))
    if isinstance(items, list) and items:
        for item in items:
            if isinstance(item, dict) and (found := _line(item, of, None)) is not None:
                yield found
    elif (only := _line(properties, of, value)) is not None:
        yield only
    else:
        names = properties.get("ItemNames")
        for name in names if isinstance(names, list) else []:
            # what each cost is not told
            if (named := line(Told(item=name), of, "", [])) is not None:
                yield named


def _line(told: Mapping[str, Any], of: str, value: Money | None) -> Line | None:
    """One line; its price is told for one piece, or for all, or is the event's value."""
    quantity = price(_first(told, _QUANTITIES, 1), "", [])
    if not quantity:                       # none, or not to be read
        return None
    each = number(_first(told, _PRICES))
    if each is None and (total := number(_first(told, _TOTALS))) is not None:
        each = total / quantity
    if each is None and value is not None:
        each = Decimal(value.minor).scaleb(-currency_exponent(of)) / quantity
    item = next((one for name in _ITEMS if (one := readable_id(told.get(name)))), None)
    return line(Told(item=item, quantity=quantity, unit_price=each), of, "", [])


def _sum(lines: tuple[Line, ...], of: str) -> Money | None:
    total = sum((line.amount.minor for line in lines), 0)
    return Money(total, of) if lines and abs(total) <= MOST_MINOR else None


def _first(told: Mapping[str, Any], names: tuple[str, ...], default: object = None) -> object:
    """The first of these members that is there."""
    return next((told[name] for name in names if told.get(name) is not None), default)
