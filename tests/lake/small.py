"""Small lakes, and events to put in them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from habitue.events import Event, Line, Money
from habitue.ingest.gate import Gate
from habitue.lake.tables import Lake

START = datetime(2025, 3, 3, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def event(id: str, at: float, **changes: object) -> Event:
    """An order of one line worth 2.50 by customer c1 of shop acme, unless told otherwise."""
    told: dict[str, object] = {
        "shop": "acme",
        "source": "till",
        "id": id,
        "customer": "c1",
        "name": "order_placed",
        "time": day(at),
        "received": day(at),
        "value": Money(250, "GBP"),
        "order": id,
        "lines": (line("mug", 250),),
    }
    return Event(**(told | changes))


def line(item: str, minor: int) -> Line:
    return Line(
        item=item,
        quantity=Decimal(1),
        unit_price=Decimal(minor) / 100,
        amount=Money(minor, "GBP"),
    )


def filled(lake: Lake, *events: Event) -> Lake:
    """The lake after these events came through the gate, a batch for each shop and source."""
    for shop, source in sorted({(one.shop, one.source) for one in events}):
        batch = [one for one in events if (one.shop, one.source) == (shop, source)]
        Gate(lake).append(batch, shop=shop, source=source, received=day(10))
    return lake
