"""What it costs to know whose key is whose: resolving links, reading with them, following the log.

    python -m benchmarks.identity

Links are of a simulated shop: three in four tell an email or an anonymous id of a known customer
again, one in four is a device that was never seen. Every cell runs in a process of its own; seconds
exclude importing the packages and making the data.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.events import Event, Link, Noun
from habitue.lake.eventlog.records import Entry, Part, Record, encode
from habitue.lake.eventlog.rows import digests_of, rows_of, unplaced
from habitue.lake.identity import resolve
from habitue.lake.profiles import Profiles
from habitue.lake.query import read
from habitue.lake.tables import Lake

START = datetime(2025, 1, 1, tzinfo=UTC)
SHOP = "acme"
SEED = 0
ROUNDS = 3
TIMEOUT_SECONDS = 900.0
OURS = ("habitue/lake", "benchmarks/identity.py")
PROTOCOL = f"median (minimum, maximum) of {ROUNDS} rounds"
READS = {
    "count": "SELECT count(*) FROM events",
    "customers": "SELECT count(DISTINCT customer) FROM events",
    "one_customer": "SELECT * FROM events WHERE customer = 'c_7'",
}
CELLS = [
    ("links 100k", "resolve"), ("links 1M", "resolve"), ("links 1M, undone and public", "resolve"),
    ("events 1M, links 0", "read"), ("events 1M, links 100k", "read"),
    ("events 100k", "follow"), ("events 100k, each with a link", "follow"),
]  # fmt: skip


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "identity.csv")
    parser.add_argument("--cell", nargs=2, metavar=("DATA", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(*options.cell)))
        return
    commit, machine = harness_commit(*OURS), hardware()
    ledger = Ledger(options.results, commit, machine)
    for data, method in CELLS:
        if ledger.has(data, method, SEED):
            continue
        runs = [
            run
            for _ in range(ROUNDS)
            if (run := in_a_process(__file__, ["--cell", data, method], TIMEOUT_SECONDS))
        ]
        ledger.put(
            Row(
                data=data, protocol=PROTOCOL, method=method, metric=metric,
                value=statistics.median(run[metric] for run in runs),
                low=min(run[metric] for run in runs), high=max(run[metric] for run in runs),
                seed=SEED, seconds=statistics.median(run["seconds"] for run in runs),
                peak_mb=max(run["peak_mb"] for run in runs), commit=commit, hardware=machine,
            )
            for metric in runs[0]
        )  # fmt: skip
    for row in ledger.rows:
        print(f"{row.data:32} {row.method:10} {row.metric:24} {row.value:14,.3f}")


def cell(data: str, method: str) -> dict[str, float]:
    """One run of one method, in this process."""
    methods: dict[str, Callable[[str], dict[str, float]]] = {
        "resolve": resolved, "read": asked, "follow": followed,
    }
    return {**methods[method](data), "peak_mb": peak_mb()}


def resolved(data: str) -> dict[str, float]:
    """Seconds to resolve a shop's links, arrived in no order."""
    count = 1_000_000 if "1M" in data else 100_000
    table = links_table(count, is_hard="undone" in data)
    start, cpu = time.perf_counter(), time.process_time()
    found = resolve(table, shop=SHOP)
    identities = found.identities()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu, "links_per_second": count / seconds,
        "keys": len(found.keys), "attached": len(identities), "conflicts": len(found.refused),
    }  # fmt: skip


def asked(data: str) -> dict[str, float]:
    """Seconds of reads over a million events of 200,000 customers."""
    links = 100_000 if "links 100k" in data else 0
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        rows = {"shops": pa.table({"shop": [SHOP], "received": [START], "timezone": ["UTC"]})}
        lake.append(rows | {"events": events_table(1_000_000)})
        if links:
            lake.append({"links": links_table(links, is_hard=False)})
        seconds = {}
        for name, sql in READS.items():
            read(lake, sql, shop=SHOP)
            start = time.perf_counter()
            read(lake, sql, shop=SHOP)
            seconds[f"seconds_{name}"] = time.perf_counter() - start
    return {"seconds": sum(seconds.values()), **seconds}


def followed(data: str) -> dict[str, float]:
    """Events per second that the live state takes from a log of 100 events a row."""
    rng = np.random.default_rng(SEED)
    keys = rng.integers(0, 20_000, 100_000)
    told = [nouns_of(place, int(key), data) for place, key in enumerate(keys)]
    entries = [Entry(place % 100, nouns) for place, nouns in enumerate(told)]
    parts = [
        Part("r", SHOP, "web", "/", START, tuple(entries[first : first + 100]))
        for first in range(0, len(entries), 100)
    ]
    records = [Record(place, encode(part)) for place, part in enumerate(parts)]
    with tempfile.TemporaryDirectory() as folder:
        live = Profiles(Path(folder) / "profiles.sqlite")
        start, cpu = time.perf_counter(), time.process_time()
        for first in range(0, len(records), 20):
            live.apply(0, records[first : first + 20])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        begun = time.perf_counter()
        for key in range(200):
            live.find(SHOP, f"c_{key}")
        found = (time.perf_counter() - begun) / 200
        live.close()
    return {
        "seconds": seconds, "cpu_seconds": cpu, "events_per_second": len(entries) / seconds,
        "milliseconds_to_find": 1_000 * found,
    }  # fmt: skip


def nouns_of(place: int, key: int, data: str) -> tuple[Noun, ...]:
    """An event of a customer and, where wanted, the link that told the customer's email with it."""
    time_ = START + timedelta(seconds=place)
    event = Event(
        shop=SHOP, source="web", id=str(place), customer=f"c_{key}", name="item_viewed",
        time=time_, received=time_,
    )  # fmt: skip
    if "link" not in data:
        return (event,)
    other = Link(
        shop=SHOP, source="web", key=f"c_{key}", other=f"email:{key:032x}", time=time_,
        received=time_, cause="event",
    )  # fmt: skip
    return (event, other)


def links_table(count: int, *, is_hard: bool) -> pa.Table:
    """Links in no order; hard ones are undone, public, and tell other external ids of one key."""
    rng = np.random.default_rng(SEED)
    customer = rng.integers(0, count // 4, count)
    kind = rng.integers(0, 4, count)
    second = rng.permutation(count)
    links = []
    for place in range(count):
        owner, device = int(customer[place]), f"anonymous:{place}"
        known, email = f"c_{owner}", f"email:{owner:032x}"
        key, other = [(known, email), (email, device), (known, device), (known, email)][kind[place]]
        if is_hard and place % 20 == 0:
            other = f"email:{(owner + 1) % (count // 4):032x}"
        at = START + timedelta(seconds=int(second[place]))
        links.append(
            Link(
                shop=SHOP, source="web", key=key, other=other, time=at, received=at, cause="event",
                undo=is_hard and place % 50 == 1, public=is_hard and place % 3 == 0,
            )
        )  # fmt: skip
    return rows_of("links", links, digests_of(links), ["r"] * count)


def events_table(count: int) -> pa.Table:
    """Views of items by 200,000 customers, half of them told by email."""
    rng = np.random.default_rng(SEED)
    owner = rng.integers(0, 200_000, count)
    is_email = rng.random(count) < 0.5
    micros = 1_735_689_600_000_000 + rng.integers(0, 86_400 * 90, count) * 1_000_000
    times = pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    customers = [
        f"email:{one:032x}" if email else f"c_{one}"
        for one, email in zip(owner, is_email, strict=True)
    ]
    numbers = rng.permutation(count)
    columns = {
        "shop": [SHOP] * count, "source": ["web"] * count,
        "digest": [int(one).to_bytes(16, "big") for one in numbers],
        "id": [str(one) for one in numbers], "customer": customers,
        "name": ["item_viewed"] * count, "time": times, "received": times,
        "backfilled": [False] * count, "properties": ["{}"] * count,
    }  # fmt: skip
    schema = unplaced("events")
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns
        else pa.nulls(count, field.type)
        for field in schema
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)


if __name__ == "__main__":
    main()
