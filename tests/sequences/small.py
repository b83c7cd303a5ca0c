"""Small shops for tests of what is known when: other futures for one past, and tangled events."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.lake import schema
from habitue.sequences.build import DAY, NEVER, Sequences, sequences_from_events
from habitue.simulation import ShopConfig
from tests.shops import events_of

CONFIG = ShopConfig(customers=40, items=15, days=300, arrival_days=280, refunds=0.1, rate_days=15.0)
START = 19_000 * DAY                       # a midnight, Thursday
KINDS = (
    "order_placed", "item_viewed", "order_cancelled", "order_refunded", "order_updated",
)  # fmt: skip


def past_of(events: pa.Table, at: int) -> pa.Table:
    """The events at or before an instant (µs)."""
    return events.filter(pc.less_equal(_time(events), at))


def another_future(events: pa.Table, at: int, seed: int = 99) -> pa.Table:
    """The same past, what another run of the shop did afterwards, and the past taken back."""
    past, other = past_of(events, at), events_of(CONFIG, seed)
    future = other.filter(pc.greater(_time(other), at))
    return pa.concat_tables([past, future, _cancelled(past, at + DAY)])


def _time(events: pa.Table) -> pa.ChunkedArray:
    return events["time"].cast(pa.int64())


def _cancelled(events: pa.Table, at: int) -> pa.Table:
    """Every other order of `events`, cancelled at an instant."""
    rows = events.filter(pc.equal(events["name"], "order_placed"))
    rows = rows.take(pa.array(range(0, len(rows), 2)))
    columns = {name: rows[name] for name in rows.column_names}
    columns["name"] = pa.repeat("order_cancelled", len(rows))
    columns["time"] = columns["received"] = pa.array([at] * len(rows), schema.TIME)
    columns["digest"] = pa.array(
        [(number + 10**9).to_bytes(16, "big") for number in range(len(rows))], pa.binary(16)
    )
    columns["value_minor"] = pc.negate(rows["value_minor"])
    columns["lines"] = pa.nulls(len(rows), schema.EVENTS.field("lines").type)
    return pa.table(columns).cast(schema.EVENTS)


def sequences_at(events: pa.Table, at: int) -> Sequences:
    """A shop without a catalogue, as of an instant (µs)."""
    return sequences_from_events(events, shop=CONFIG.shop, cutoff=at)


def tangled(seed: int, *, customers: int = 6, most_events: int = 30) -> Sequences:
    """Events of every kind at random instants, many of them shared, some customers with few."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most_events, customers)
    # few distinct instants, so that events collide; whole minutes, as days between orders are kept
    instants = START + np.sort(rng.integers(0, 400 * 1440, 25)) * (DAY // 1440)
    time = np.concatenate([np.sort(rng.choice(instants, size)) for size in sizes])
    total = len(time)
    kind = rng.choice(len(KINDS), total, p=[0.5, 0.2, 0.1, 0.1, 0.1]).astype(np.int16)
    value = np.round(rng.uniform(1, 300, total), 2)
    value = np.select([kind == 1, (kind == 2) | (kind == 3)], [0.0, -value], value)
    lines = np.where(kind == 0, rng.integers(0, 5, total), 0)
    items = np.array([f"i{number:02d}" for number in range(8)], dtype=object)
    return Sequences(
        shop="tangled",
        currency="GBP",
        timezone="Europe/London",
        cutoff=START + 420 * DAY,
        customers=np.array([f"c{number:02d}" for number in range(customers)], dtype=object),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        time=time,
        kind=kind,
        kinds=KINDS,
        value=value,
        cancelled_at=np.full(total, NEVER),
        line_offsets=np.concatenate([[0], np.cumsum(lines)]).astype(np.int64),
        line_item=rng.integers(0, len(items), int(lines.sum())).astype(np.int32),
        line_quantity=rng.integers(1, 9, int(lines.sum())).astype(np.float32),
        line_amount=np.round(rng.uniform(1, 90, int(lines.sum())), 2),
        items=items,
        titles=np.array(["RED MUG"] * len(items), dtype=object),
        categories=np.array([""] * len(items), dtype=object),
        sales_day=np.array([START // DAY], dtype=np.int32),
        sales_item=np.zeros(1, dtype=np.int32),
        sales_orders=np.ones(1, dtype=np.int32),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Random questions of a shop: rows of customers, and instants in and around its life."""

    customer: np.ndarray
    time: np.ndarray


def questions(sequences: Sequences, seed: int, count: int = 60) -> Asked:
    """Half at instants of events, half anywhere from before the first to the cutoff."""
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, len(sequences.customers), count)
    anywhere = rng.integers(int(sequences.time.min()) - 40 * DAY, sequences.cutoff, count)
    at_event = rng.choice(sequences.time, count)
    return Asked(customer, np.where(np.arange(count) % 2 == 0, anywhere, at_event))
