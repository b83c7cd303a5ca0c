"""What it costs to keep audiences live: events a second, how late changes are, memory.

    python -m benchmarks.audiences_live

Customers of a simulated shop look at items, put some into their carts and order; events come at a
pace, each received when it happens. What follows the log, the live state, the lake that audiences
are saved in and the two threads that keep them live are those of `habitue serve`, in this process;
the door, the log's own file and the network are not in it.
"""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.audiences.live.definitions import defined
from habitue.audiences.live.facts import NEVER
from habitue.audiences.saved import Saved
from habitue.config import collecting_rarely
from habitue.events import Event, Line, Money
from habitue.ingest.gate import Gate
from habitue.lake.eventlog.records import Entry, EventLog, Part, Record, encode
from habitue.lake.live import store
from habitue.lake.live.told import microseconds, told_by
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from habitue.serving.beside.following import DEFINED_SECONDS, Following
from habitue.serving.beside.worker import Beside

SHOP, SEED = "acme", 0
OURS = ("habitue/audiences", "habitue/lake/live", "habitue/lake/profiles.py",
        "habitue/serving/beside/following.py", "benchmarks/audiences_live.py")  # fmt: skip
SECONDS, TIMEOUT_SECONDS = 10, 3_600.0
PAST_EVENTS = 5                            # times the customers, before it begins; anybody's
MANY = 1_000_000                           # customers, of whom each has one event only
NAMES = ("item_viewed",) * 7 + ("cart_added",) * 2 + ("order_placed",)
# customers, audiences, events a second (0: as many as go)
CELLS = [
    (5_000, 50, 500), (5_000, 50, 0), (5_000, 10, 0), (5_000, 200, 0), (5_000, 50, 2_000),
    (5_000, 50, 1_000), (100_000, 10, 0), (100_000, 50, 0), (100_000, 50, 1_000),
]  # fmt: skip
LARGE = [(MANY, 10, 0)]                    # takes its time to be told and applied
ADDED = "did item_viewed >= 2 times in 9 days"     # saved in the middle of a run at a pace


def sentences(count: int) -> dict[str, str]:
    """So many audiences, of the kinds that marketers save."""
    kinds = (
        "did order_placed >= {n} times in {d} days",
        "did not order_placed in {d} days",
        "sum of order_placed value >= {m} in {d} days",
        "did cart_added between {h} and 1 hour ago then not order_placed",
        "did item_viewed >= {n} times in {d} days and did not order_placed in {d} days",
        'did item_ordered in {d} days where item = "i{n}"',
        "did cart_added in {d} days then order_placed within {h} hours",
        "did item_viewed in {t} minutes",
        'profile.city = "Paris" and did order_placed in {d} days',
        "did order_placed = 1 times and did order_placed at least {d} days ago",
    )
    return {
        f"a{place}": kinds[place % len(kinds)].format(
            t=3 * (1 + place // 10), n=1 + place // 10 % 5, d=7 * (1 + place // 10),
            m=20 * (1 + place // 10), h=24 * (1 + place // 10),
        )
        for place in range(count)
    }  # fmt: skip


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "audiences_live.csv")
    parser.add_argument("--cell", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--large", action="store_true", help="run a million customers instead")
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(*options.cell)))
        return
    commit, machine = harness_commit(*OURS), hardware()
    ledger = Ledger(options.results, commit, machine)
    for customers, audiences, pace in LARGE if options.large else CELLS:
        data = f"{customers:,} customers"
        method = f"{audiences} audiences, " + (f"{pace:,} events/s" if pace else "at full speed")
        if ledger.has(data, method, SEED):
            continue
        arguments = ["--cell", str(customers), str(audiences), str(pace)]
        found = in_a_process(__file__, arguments, TIMEOUT_SECONDS)
        ledger.put(
            Row(data=data, protocol=f"{SECONDS} s", method=method, metric=metric, value=value,
                seed=SEED, peak_mb=found["peak_mb"], commit=commit, hardware=machine)
            for metric, value in found.items()
        )  # fmt: skip
        print(data, method, found)


class Coming:
    """The log while events come, and what a server tells: a row is there from its instant on."""

    shards = 1

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.instants: list[int] = []

    def read(self, shard: int, offset: int, *, most_bytes: int) -> list[Record]:
        """The rows from an offset on whose instant is over, one at least, up to so many bytes."""
        found: list[Record] = []
        size = 0
        for one in range(offset, self.end(shard)):
            size += len(self.bodies[one])
            if found and size > most_bytes:
                break
            found.append(Record(one, self.bodies[one]))
        return found

    def end(self, _: int) -> int:
        """How many rows have come."""
        return bisect_right(self.instants, clock())

    def appended(self) -> int:
        """A number that is another one after anything came."""
        return self.end(0)

    def oldest(self) -> int:
        """No request is underway."""
        return 0


class Live:
    """What a worker keeps live, on a lake of one shop in a folder."""

    def __init__(self, folder: Path) -> None:
        self.lake, self.log = Lake(folder / "lake"), Coming()
        Gate(self.lake).append([event(random.Random(SEED), 1, -1, clock_time())], shop=SHOP,
                               source="web", received=clock_time())  # fmt: skip
        self.saved = Saved(self.lake, SHOP, clock_time, live=folder / PROFILES_FILE)
        self.following = Following(
            folder / PROFILES_FILE, cast("EventLog", self.log), self.lake,
            refuses=lambda _: False, clock=clock, underway=self.log,
        )  # fmt: skip
        self.profiles = self.following.profiles
        self.commits: list[tuple[int, int]] = []       # the last change, and when it was there
        self._noting = threading.Lock()

    def step(self) -> bool:
        """Apply what came, and what time has done."""
        is_more = self.following.follow()
        self.note()
        return is_more

    def define(self) -> bool:
        """Notice what was saved, and apply it to some customers."""
        is_more = self.following.define()
        self.note()
        return is_more

    def note(self) -> None:
        """Note when the changes so far could be read."""
        with self._noting:
            sql = "SELECT max(sequence) FROM changes"
            (last,) = self.profiles.look(lambda connection: connection.execute(sql).fetchone())
            if (last or 0) > (self.commits[-1][0] if self.commits else -1):
                self.commits.append((last or 0, clock()))


def cell(customers: int, audiences: int, pace: int) -> dict[str, float]:
    """One run in this process."""
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        live = Live(Path(folder))
        profiles = live.profiles
        with profiles.writing() as connection:
            for piece in past(draw, customers):
                store.take(connection, told_by(piece))
        save(live.lake, sentences(audiences))
        defined(live.lake, clock_time())   # what reads a lake is loaded, and takes its memory
        without = peak_mb()
        held = profiles.path.stat().st_size
        began = time.process_time()
        while live.following.define():
            pass
        backfill = time.process_time() - began
        with collecting_rarely():          # as `habitue follow` does
            found = fast(live, draw, customers) if not pace else paced(
                live, draw, (customers, pace)
            )
        profiles.close()                   # which copies what the log of writes still holds
        grown = profiles.path.stat().st_size - held
    return {
        **found,
        "backfill_processor_seconds": backfill,
        "memory_mb_of_audiences": peak_mb() - without,
        "bytes_per_customer": grown / customers,
        "peak_mb": peak_mb(),
    }


def save(lake: Lake, told: dict[str, str]) -> None:
    """Save all of these at once."""
    rows = [{"shop": SHOP, "name": name, "condition": condition, "received": clock_time()}
            for name, condition in told.items()]  # fmt: skip
    schema = pa.schema([one for one in TABLES["audiences"].schema if one.name != "bucket"])
    lake.append({"audiences": pa.Table.from_pylist(rows, schema=schema)})


def fast(live: Live, draw: random.Random, customers: int) -> dict[str, float]:
    """Events in pieces of 200, one after the other."""
    pieces = [[event(draw, customers, number, clock_time()) for number in range(start, start + 200)]
              for start in range(0, 4_000, 200)]  # fmt: skip
    records = [record(0, piece) for piece in pieces]
    began, used = time.perf_counter(), time.process_time()
    for offset, one in enumerate(records):
        live.profiles.apply(0, [Record(offset, one)])
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "events_per_second": 4_000 / seconds,
        "processor_microseconds_per_event": used / 4_000 * 1e6,
    }  # fmt: skip


def paced(live: Live, draw: random.Random, load: tuple[int, int]) -> dict[str, float]:
    """Events one by one at a pace, carts whose hour is over, and an audience that is saved."""
    customers, pace = load
    start = datetime.fromtimestamp(time.time() + 5 + SECONDS * pace / 2_000, UTC)
    at = [start + timedelta(seconds=number / pace) for number in range(SECONDS * pace)]
    log = live.log
    log.bodies = [record(0, [event(draw, customers, number, one)]) for number, one in enumerate(at)]
    log.instants = [microseconds(one) for one in at]
    middle = log.instants[len(at) // 2]
    load_average = os.getloadavg()[0]
    wait_until(log.instants[0])
    spent = time.process_time()
    beside = [
        Beside("live profiles", live.step, pause_seconds=live.following.pause),
        Beside(
            "audiences",
            live.define,
            pause_seconds=DEFINED_SECONDS,
            rest=live.following.defined.wait,
        ),
    ]
    wait_until(middle)
    live.saved.save("added", ADDED)
    wait_until(log.instants[-1])
    spent = time.process_time() - spent
    while live.profiles.cursor(0) < len(at) or live.following.keeper.is_applying:
        time.sleep(0.01)
    for one in beside:
        one.end()
    late = lateness(live.profiles, live.commits, (log.instants[0], middle))
    return {**late, "share_of_a_core": spent / SECONDS, "load_average": load_average}


def wait_until(instant: int) -> None:
    """Sleep until then."""
    time.sleep(max(instant - clock(), 0) / 1e6)


def lateness(
    profiles: Profiles, commits: Sequence[tuple[int, int]], span: tuple[int, int]
) -> dict[str, float]:
    """How long after its instant each change was committed; alone: before an audience is saved."""
    with profiles.writing() as connection:
        rows = connection.execute(
            "SELECT sequence, at, cause FROM changes WHERE at >= ? ORDER BY sequence", [span[0]]
        ).fetchall()
    sequences = np.array([one for one, _ in commits])
    found: dict[str, float] = {}
    asked = [(one, one, NEVER) for one in ("event", "time", "definition")]
    for name, cause, end in [("event_alone", "event", span[1]), *asked]:
        late = [
            (commits[int(np.searchsorted(sequences, sequence))][1] - at) / 1_000
            for sequence, at, why in rows
            if why == cause and at < end
        ]
        found[f"{name}_changes"] = len(late)
        for share in (50, 99):
            if late:
                found[f"{name}_p{share}_ms"] = float(np.percentile(late, share))
    return found


def past(draw: random.Random, customers: int) -> Iterator[list[Event]]:
    """What happened before, spread over 60 days and the last hours."""
    now = clock_time()
    are_many = customers >= MANY
    total = customers * (1 if are_many else PAST_EVENTS)
    for start in range(0, total, 20_000):
        yield [
            event(draw, customers, -1 - number,
                  now - timedelta(seconds=draw.choice([3_600, 90_000, 5_000_000]) * draw.random()),
                  f"c{number}" if are_many else None)
            for number in range(start, min(start + 20_000, total))
        ]  # fmt: skip


def event(
    draw: random.Random, customers: int, number: int, when: datetime, who: str | None = None
) -> Event:
    """One event of some customer."""
    name = draw.choice(NAMES)
    item, minor = f"i{draw.randrange(500)}", draw.randrange(500, 5_000)
    is_order = name == "order_placed"
    line = Line(item=item, quantity=Decimal(1), unit_price=Decimal(minor) / 100,
                amount=Money(minor, "GBP"))  # fmt: skip
    return Event(
        shop=SHOP, source="web", id=f"e{number}",
        customer=who or f"c{draw.randrange(customers)}",
        name=name, time=when, received=when, value=Money(minor, "GBP") if is_order else None,
        order=f"o{number}" if is_order else None, lines=(line,) if is_order else (),
        properties=msgspec.Raw(msgspec.json.encode({"item": item, "path": f"/items/{item}"})),
    )  # fmt: skip


def record(shard: int, events: Sequence[Event]) -> bytes:
    """Some events as a row of the log."""
    return encode(
        Part(
            receipt=f"r{shard}", shop=SHOP, source="native", origin="/v1/events",
            received=events[-1].received,
            entries=tuple(Entry(place, (one,)) for place, one in enumerate(events)),
        )
    )  # fmt: skip


def clock() -> int:
    """µs since the epoch."""
    return microseconds(clock_time())


def clock_time() -> datetime:
    """Now."""
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
