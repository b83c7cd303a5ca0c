"""Simulated shops for tests: a few lines from a `ShopConfig` to events, catalogue and sequences."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from habitue.lake import schema
from habitue.sequences.build import Sequences, microseconds, sequences_from_events
from habitue.simulation import DAY, ShopConfig, catalogue, simulate


def events_of(config: ShopConfig, seed: int) -> pa.Table:
    """All of a simulated shop's events, in the EVENTS schema."""
    return pa.concat_tables(list(simulate(config, seed))).combine_chunks()


def end_of(config: ShopConfig) -> int:
    """The instant (µs) at which the simulation stops."""
    return microseconds(config.start) + config.days * DAY


def sequences_of(
    config: ShopConfig, seed: int, *, cutoff: int | datetime | None = None
) -> Sequences:
    """A simulated shop's `Sequences` as of a cutoff, by default its last instant."""
    at = microseconds(cutoff) if isinstance(cutoff, datetime) else cutoff
    return sequences_from_events(
        events_of(config, seed),
        catalogue(config, seed),
        shop=config.shop,
        cutoff=end_of(config) if at is None else at,
    )


def altered(events: pa.Table, after: int) -> pa.Table:
    """Other values and items after an instant (µs), a third of it gone, and a new customer."""
    time = events["time"].cast(pa.int64()).to_numpy()
    later = time > after
    gone = later & (np.arange(len(time)) % 3 == 0)
    value = events["value_minor"].fill_null(0).to_numpy()
    lines, customer = events["lines"].to_pylist(), events["customer"].to_pylist()
    for place in np.flatnonzero(later):
        lines[place] = [{**line, "item": "i000000"} for line in lines[place] or []]
    customer[int(np.flatnonzero(later & ~gone)[0])] = "stranger"
    columns = {
        "value_minor": pa.array(np.where(later, value * 7 + 100, value), mask=value == 0),
        "lines": pa.array(lines, schema.EVENTS.field("lines").type),
        "customer": pa.array(customer, pa.string()),
    }
    for name, column in columns.items():
        events = events.set_column(events.column_names.index(name), name, column)
    return events.cast(schema.EVENTS).filter(pa.array(~gone))


def orders_of(rows: list[tuple[str | None, float, list[str]]], *, start: datetime) -> pa.Table:
    """Orders in the EVENTS schema from (customer or none, days after the start, items)."""
    count = len(rows)
    times = [start + timedelta(days=day) for _, day, _ in rows]
    lines = [
        [
            {"item": item, "quantity": 1, "unit_price": 10, "amount_minor": 1000, "row": place}
            for place, item in enumerate(items)
        ]
        for _, _, items in rows
    ]
    columns = {
        "bucket": [0] * count,
        "shop": ["corner"] * count,
        "source": ["test"] * count,
        "digest": [number.to_bytes(16, "big") for number in range(count)],
        "id": [str(number) for number in range(count)],
        "customer": [customer for customer, _, _ in rows],
        "name": ["order_placed"] * count,
        "time": times,
        "received": times,
        "backfilled": [False] * count,
        "value_minor": [1000 * max(len(items), 1) for _, _, items in rows],
        "currency": ["GBP"] * count,
        "order": [str(number) for number in range(count)],
        "lines": lines,
        "properties": ["{}"] * count,
        "receipt": ["test"] * count,
    }
    return pa.table(columns, schema=schema.EVENTS)
