"""What comes late, again and in any order makes the same lake as what comes once and in order.

A simulated shop's events, and all else that can be told of its customers and items, go through the
log and the committer as a bad network brings them. The clean run is told each thing once, in the
order of its time, with the instant at which it reached us in the other run, since reads as of what
was known depend on it.
"""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.events import (
    CHANNELS,
    Consent,
    Event,
    Identifier,
    Item,
    Line,
    Link,
    Money,
    Noun,
    ProfileChange,
)
from habitue.ingest.commit import Committer
from habitue.lake.eventlog.records import Entry, EventLog, Part, encode
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.profiles import Profiles
from habitue.lake.query import opened
from habitue.lake.tables import Lake
from habitue.lake.views.catalogue import VIEWS
from habitue.sequences.build import Sequences, build_sequences, microseconds
from habitue.serving.collect import split
from habitue.simulation import ShopConfig, catalogue
from tests.ingest.parts import MemoryLog
from tests.shops import end_of, events_of

SHOP = ShopConfig(customers=10, items=8, days=60, arrival_days=40, rate_days=10.0, refunds=0.2)
SHARDS = 2
OF_RUNS = {"bucket", "customer_bucket", "receipt"}     # columns that say how it was told
# what streams do not tell: of deliveries, of settings, and what models made
MADE = frozenset(
    ("receipts", "rejected", "shop_settings", "predictions", "customer_embeddings",
     "item_embeddings", "audiences")
)  # fmt: skip
VIEWS_READ = sorted(
    one.name for one in VIEWS
    if one.is_public and one.name not in MADE
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a stream: the lake, and the live profiles beside it."""

    lake: Lake
    profiles: list
    names: dict


def test_the_views_that_are_compared_are_not_empty(tmp_path):
    lake = clean(tmp_path, [arrived(one, one.time) for one in told(seed=0)]).lake
    for view, held in rows(lake, None, None).items():
        assert held, view


@settings(max_examples=max(settings.default.max_examples // 25, 3))
@given(seed=st.integers(0, 2**32 - 1))
def test_disorder_changes_no_lake_and_no_read(tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("disorder"), random.Random(seed)
    stream = list(arrivals(told(seed), rng))
    first: dict[bytes, Noun] = {}
    for noun in stream:
        first.setdefault(noun.digest, noun)
    wild = disordered(folder / "wild", stream, rng)
    calm = clean(folder / "calm", list(first.values()))
    assert wild.profiles == calm.profiles
    assert wild.names == calm.names
    end = datetime.fromtimestamp(end_of(SHOP) / 1e6, UTC)
    for cutoff, known_at in instants(rng, end):
        ours, theirs = (rows(run.lake, cutoff, known_at) for run in (wild, calm))
        for view in VIEWS_READ:
            assert ours[view] == theirs[view], view
        told_of = [sequences(run.lake, cutoff or end, known_at) for run in (wild, calm)]
        assert_same(*told_of)


def told(seed: int) -> list[Noun]:
    """Everything that is told of the shop: events and items as simulated, the rest at random."""
    rng = random.Random(seed)
    events = [noun_of(row, rng) for row in events_of(SHOP, seed % 1_000).to_pylist()]
    items = [item_of(row) for row in catalogue(SHOP, seed % 1_000).to_pylist()]
    prices = [
        msgspec.structs.replace(item, time=at, price=Money(rng.randrange(100, 900), "GBP"),
                                title=None, stock=rng.randrange(9))
        for item in items for at in some_times(events, rng, 2)
    ]  # fmt: skip
    people = [noun for at in some_times(events, rng, 60) for noun in [personal(at, rng)]]
    return [*events, *items, *prices, *people]


def noun_of(row: dict, rng: random.Random) -> Event:
    """A row of the simulation as an event; some of them are backfilled."""
    currency = row["currency"]
    lines = tuple(
        Line(item=one["item"], quantity=Decimal(one["quantity"]),
             unit_price=Decimal(one["unit_price"]), amount=Money(one["amount_minor"], currency))
        for one in row["lines"] or ()
    )  # fmt: skip
    return Event(
        shop=row["shop"], source=row["source"], id=row["id"], customer=key(row["customer"], rng),
        name=row["name"], time=row["time"], received=row["received"], order=row["order"],
        backfilled=rng.random() < 0.1, lines=lines,
        value=None if row["value_minor"] is None else Money(row["value_minor"], currency),
        properties=msgspec.Raw((row["properties"] or "{}").encode()),
    )  # fmt: skip


def item_of(row: dict) -> Item:
    return Item(
        shop=row["shop"], source=row["source"], item=row["item"], time=row["time"],
        received=row["received"], title=row["title"], category=row["category"],
        price=Money(row["price_minor"], row["currency"]), published=True,
    )  # fmt: skip


def key(customer: str | None, rng: random.Random) -> str | None:
    """A customer's key, or another that may be linked to it."""
    if customer is None or rng.random() < 0.7:
        return customer
    return rng.choice([f"anonymous:{customer}", f"email:{customer}"])


def personal(at: datetime, rng: random.Random) -> Noun:
    """Something that is told of one customer at an instant."""
    one = f"c{rng.randrange(SHOP.customers):07d}"
    other = f"c{rng.randrange(SHOP.customers):07d}"
    keys = [one, f"anonymous:{one}", f"email:{one}", f"anonymous:{other}"]
    common = {"shop": SHOP.shop, "source": rng.choice(["web", "till"]), "time": at, "received": at}
    match rng.randrange(6):
        case 0 | 1:
            pair = dict(zip(("key", "other"), rng.sample(keys, 2), strict=True))
            return Link(**common, **pair, cause="event", undo=rng.random() < 0.2,
                        public=rng.random() < 0.3)  # fmt: skip
        case 2:
            return Link(**common, key=one, other=f"email:{other}", cause="identify")
        case 3:
            put = {rng.choice("ab"): rng.randrange(5)}
            added = {"list": [rng.randrange(5)]}
            return ProfileChange(**common, customer=rng.choice(keys), put=raw(put),
                                 append=raw(added if rng.random() < 0.5 else {}),
                                 clear=("a",) if "b" in put else ())  # fmt: skip
        case 4:
            return Consent(**common, customer=rng.choice(keys), channel=rng.choice(CHANNELS),
                           status=rng.choice(["subscribed", "unsubscribed"]))  # fmt: skip
    del common["source"]
    return Identifier(**common, key=f"email:{one}", kind="email", value=f"{one}@example.com")


def raw(value: dict) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def some_times(events: Sequence[Event], rng: random.Random, count: int) -> list[datetime]:
    """Instants of events, so that many things happen at once."""
    return [rng.choice(events).time for _ in range(count)]


def arrivals(nouns: Sequence[Noun], rng: random.Random) -> Iterator[Noun]:
    """What reaches us, in the order in which it does: late, some of it very, some of it again."""
    late = [(noun.time + lateness(rng), noun) for noun in nouns]
    again = [(at + lateness(rng), noun) for at, noun in late if rng.random() < 0.3]
    for at, noun in sorted([*late, *again], key=lambda one: one[0]):
        yield arrived(noun, at)


def lateness(rng: random.Random) -> timedelta:
    return timedelta(hours=rng.choice([0, 0, 0, 1, 30, 500]) * rng.random())


def arrived(noun: Noun, at: datetime) -> Noun:
    return msgspec.structs.replace(noun, received=at)


def clean(folder: Path, nouns: Sequence[Noun]) -> Run:
    """Each noun once, in the order of its time, in one commit."""
    log = MemoryLog()
    ordered = sorted(nouns, key=lambda noun: (noun.time, noun.received, noun.digest))
    log.append(0, [encode(part(ordered))])
    lake = Lake(folder / "lake", buckets=3)
    with closing(Committer(lake, log, 0)) as committer:
        committer.step(most_rows=1_000_000)
    return Run(lake, *live(folder, log, [[len(log.rows)]]))


def disordered(folder: Path, nouns: Sequence[Noun], rng: random.Random) -> Run:
    """Requests of random sizes over two shards, committed in random splits, between merges."""
    lake = Lake(folder / "lake", buckets=3)
    with closing(SqliteLog(folder / "log", shards=SHARDS, segment_bytes=50_000)) as log:
        committers = [Committer(lake, log, shard) for shard in range(SHARDS)]
        for some in in_requests(nouns, rng):
            append(log, part(some))
            if rng.random() < 0.2:
                rng.choice(committers).step(most_rows=rng.choice([1, 30, 1_000]))
            if rng.random() < 0.05:
                lake.compact()
        for committer in committers:
            drain(committer)
        cuts = [sorted(rng.choices(range(log.end(shard)), k=3)) for shard in range(SHARDS)]
        ends = [[*held, log.end(shard)] for shard, held in enumerate(cuts)]
        return Run(lake, *live(folder, log, ends))


def in_requests(nouns: Sequence[Noun], rng: random.Random) -> Iterator[Sequence[Noun]]:
    begin = 0
    while begin < len(nouns):
        size = rng.choice([1, 5, 30, 90])
        yield nouns[begin : begin + size]
        begin += size


def drain(committer: Committer) -> None:
    with closing(committer):
        while committer.step(most_rows=200):
            pass


def live(folder: Path, log: EventLog, cuts: list[list[int]]) -> tuple[list, dict]:
    """The live profiles after each shard was applied up to each of its cuts."""
    with closing(Profiles(folder / "profiles.sqlite")) as profiles:
        for shard, ends in enumerate(cuts):
            for end in ends:
                records = log.read(shard, profiles.cursor(shard))
                profiles.apply(shard, [record for record in records if record.offset < end])
        return profiles.page(SHOP.shop, most=1_000), profiles.names(SHOP.shop)


def part(nouns: Sequence[Noun]) -> Part:
    """A request of one input for each noun."""
    return Part(
        receipt=f"r{hash(nouns[0].digest)}{len(nouns)}", shop=SHOP.shop, source="web",
        origin="/v1/events", received=max(noun.received for noun in nouns),
        entries=tuple(Entry(place, (noun,)) for place, noun in enumerate(nouns)),
    )  # fmt: skip


def append(log: EventLog, whole: Part) -> None:
    """A request by shard, as the service splits it."""
    for shard, entries in split(whole.entries, SHARDS).items():
        log.append(shard, [encode(msgspec.structs.replace(whole, entries=tuple(entries)))])


def instants(
    rng: random.Random, end: datetime
) -> Iterator[tuple[datetime | None, datetime | None]]:
    """Ever, and a cutoff with what was known then, a little later or ever."""
    yield None, None
    cutoff = end - timedelta(days=SHOP.days * rng.random())
    yield cutoff, rng.choice([None, cutoff, cutoff + timedelta(days=3)])


def rows(
    lake: Lake, cutoff: datetime | None, known_at: datetime | None
) -> dict[str, list[str]]:
    """Every row of every view as text, sorted, without what says how it was told."""
    asked = {"shop": SHOP.shop, "cutoff": cutoff, "known_at": known_at}
    with opened(lake, set(VIEWS_READ), **asked) as (connection, _):
        return {view: texts(connection.table(view).to_arrow_table()) for view in VIEWS_READ}


def texts(found: pa.Table) -> list[str]:
    held = [name for name in found.column_names if name not in OF_RUNS]
    return sorted(map(repr, found.select(held).to_pylist()))


def sequences(lake: Lake, cutoff: datetime, known_at: datetime | None) -> Sequences:
    known = None if known_at is None else microseconds(known_at)
    return build_sequences(lake, SHOP.shop, cutoff=microseconds(cutoff), known_at=known)


def assert_same(ours: Sequences, theirs: Sequences) -> None:
    for field in fields(Sequences):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        assert np.array_equal(one, other), field.name
