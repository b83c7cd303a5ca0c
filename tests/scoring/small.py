"""A small shop of which the lake holds what happened up to an instant, and the rest comes later."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from habitue.ingest.gate import Gate
from habitue.lake.tables import Lake
from habitue.publishing import Source
from habitue.registry import Registry
from habitue.sequences.build import DAY, instant
from habitue.simulation import ShopConfig, catalogue
from tests.shops import end_of, events_of

SHOP = ShopConfig(
    shop="acme", customers=60, items=20, days=240, arrival_days=235, refunds=0.1, rate_days=20.0
)
CUTOFF = end_of(SHOP) - 40 * DAY           # µs: until then the lake is filled at first
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def source_of(folder: Path) -> Source:
    """The shop's past, with what it sells."""
    lake = Lake(folder / "lake")
    lake.append({"items": catalogue(SHOP, 1)})
    source = Source(lake, Registry(folder), SHOP.shop)
    receive(source, between(0, CUTOFF))
    return source


def between(begin: int, end: int) -> pa.Table:
    """The events in (begin, end], µs."""
    events = events_of(SHOP, 1)
    time = events["time"]
    later = pc.greater(time, pa.scalar(instant(begin)).cast(time.type))
    return events.filter(
        pc.and_(later, pc.less_equal(time, pa.scalar(instant(end)).cast(time.type)))
    )


def receive(source: Source, events: pa.Table) -> None:
    """Take events into the lake."""
    (door,) = events["source"].unique().to_pylist()
    Gate(source.lake).append(events, shop=source.shop, source=door, received=NOW)
