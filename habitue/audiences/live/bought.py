"""What a customer's orders come to: the numbers that a profile tells, and conditions compare.

From the orders that stand: refunds are taken off, cancelled orders are out, and an order that two
sources told of counts once. The twin of `habitue.audiences.rows.BOUGHT`.
"""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from habitue.audiences.live.facts import Shop, View
from habitue.audiences.live.orders import amount, orders
from habitue.events import ORDER_REFUNDED

_DAY = 86_400_000_000                      # µs
_NINTHS = 10**9                            # a number has nine places


@dataclass(frozen=True, slots=True)
class Bought:
    """What one customer's standing orders come to."""

    orders: int
    total: Decimal                         # major units of the shop's currency, refunds taken off
    valued: int                            # orders in that currency
    first: int                             # µs
    last: int


def known_of(told: Bought, what: str) -> Decimal | None:
    """One of the numbers, to nine places; none: there is not enough to tell it."""
    match what:
        case "net_spend":
            return told.total
        case "average_order_value":
            total = int(told.total.scaleb(9))
            return _shared(total, told.valued) if told.valued else None
    assert what == "average_days_between_orders", "there are no more"
    if told.orders < 2:
        return None
    return _shared((told.last - told.first) * _NINTHS, (told.orders - 1) * _DAY)


NOTHING = Bought(0, Decimal(0), 0, 0, 0)


def bought(view: View) -> Bought:
    """What the orders that stand of one customer come to, as far as is known."""
    settings = view.shop
    back = _taken_back(view, settings)
    total, times, valued = back.pop("", Decimal(0)), [], 0
    for one in orders(view):
        value = amount(one.minor, one.currency, settings)
        left = None if value is None else value + back.pop(one.id, Decimal(0))
        if left is not None and left <= 0:
            continue                       # all of it was taken back
        total, valued = total + (left or 0), valued + (left is not None)
        times.append(one.time)
    if not times:
        return NOTHING
    # what takes back an order that nobody told of is still taken off
    total += sum(value for order, value in back.items() if order not in view.cancelled)
    return Bought(len(times), total, valued, min(times), max(times))


def _taken_back(view: View, settings: Shop) -> dict[str, Decimal]:
    """By order: what was taken back of it, below nothing; "": without naming one.

    Where two sources tell of it, that one is believed which is believed of the order.
    """
    ranks = {source: place for place, source in enumerate(settings.order_sources)}
    believed = {one.id: one.source for one in orders(view)}
    told: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for one in view.events.get(ORDER_REFUNDED, ()):
        value = amount(one.minor, one.currency, settings)
        if value is not None:
            by_source = told[one.order or ""]
            by_source[one.source] = by_source.get(one.source, Decimal(0)) - abs(value)
    found = {"": sum(told.pop("", {}).values(), Decimal(0))}
    for order, by_source in told.items():
        first = min(by_source, key=lambda one: (one != believed.get(order), ranks.get(one, 999)))
        found[order] = by_source[first]
    return found


def _shared(total: int, by: int) -> Decimal:
    """A whole number of ninths by another number, half of one away from nought."""
    found = (2 * abs(total) + by) // (2 * by)
    return Decimal(found if total >= 0 else -found).scaleb(-9)
