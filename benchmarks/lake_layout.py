"""How the lake's layout pays: reads of one customer and of one shop, by buckets, order and groups.

    python benchmarks/lake_layout.py

Five million simulated events of ten thousand shops (half of the events in about twenty shops) come
in the order of time, 100,000 per commit, and are compacted. Then: one customer's last 50 events,
and every customer's sequence of the largest, a middling and a tiny shop, by DuckDB over the files
of the snapshot, in a process of its own with the files in the page cache. `as_they_came` is neither
bucketed nor sorted: files of a million rows in the order of time.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.events import CANONICAL_NAMES, bucket_of
from habitue.lake import journal
from habitue.lake.maintenance import compact, lake_status
from habitue.lake.query import read
from habitue.lake.tables import Lake

EVENTS = 5_000_000
SHOPS = 10_000
PER_COMMIT = 100_000
CUSTOMERS_ASKED = 25
START = datetime(2025, 1, 1, tzinfo=UTC)
TIMEOUT_SECONDS = 1800.0
OURS = ("habitue/lake", "benchmarks/lake_layout.py")
PROTOCOL = f"{EVENTS:,} events of {SHOPS:,} shops, {PER_COMMIT:,} per commit, then compacted"

# method -> (buckets or None, rows per group)
LAYOUTS: dict[str, tuple[int | None, int]] = {
    "as_they_came": (None, 65_536),
    "1_bucket": (1, 65_536),
    "16_buckets": (16, 65_536),
    "64_buckets": (64, 65_536),
    "16_buckets_16k_groups": (16, 16_384),
    "16_buckets_256k_groups": (16, 262_144),
}

ONE_CUSTOMER = """
-- one row per event: the last 50 of a customer
SELECT "time", name, value_minor, properties FROM read_parquet($files)
WHERE shop = $shop AND customer = $customer ORDER BY "time" DESC LIMIT 50
"""

ONE_SHOP = """
-- one row per event of a shop, customer by customer
SELECT customer, "time", name, value_minor FROM read_parquet($files)
WHERE shop = $shop ORDER BY customer, "time"
"""


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "lake_layout.csv")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--cell", nargs=2, metavar=("METHOD", "EVENTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell[0], int(options.cell[1]))))
        return
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for method in (*LAYOUTS, "settings"):
        if not ledger.has("many_shops", method, 0):
            told = in_a_process(
                __file__, ["--cell", method, str(options.events)], TIMEOUT_SECONDS
            )
            ledger.put(_rows(method, told))
    for row in ledger.rows:
        print(f"{row.method:24} {row.metric:32} {row.value:14,.4f}")


def cell(method: str, events: int) -> dict[str, float]:
    """One layout: what it costs to write, and how long its reads take."""
    with tempfile.TemporaryDirectory() as folder:
        if method == "settings":
            return settings(Path(folder))
        buckets, group = LAYOUTS[method]
        journal.ROWS_PER_GROUP = group
        if buckets is None:
            told, files = _plain(Path(folder), events)
        else:
            told, files = _laid(Path(folder), events, buckets)
        return told | _reads(files, buckets) | {"peak_mb": peak_mb()}


def commits(events: int) -> Iterator[pa.Table]:
    """Events in the order of time, as rows of the table without bucket."""
    rng = np.random.default_rng(0)
    shares = 1.0 / np.arange(1, SHOPS + 1) ** 1.2
    shares /= shares.sum()
    names = np.array(CANONICAL_NAMES)
    for start in range(0, events, PER_COMMIT):
        shop = rng.choice(SHOPS, PER_COMMIT, p=shares)
        customers = np.maximum(2, shares[shop] * events / 12).astype(np.int64)
        customer = (rng.random(PER_COMMIT) ** 2 * customers).astype(np.int64)
        second = np.arange(start, start + PER_COMMIT) * 6      # a year for five million
        at = pa.array(int(START.timestamp() * 1e6) + second * 1_000_000, pa.int64())
        at = at.cast(pa.timestamp("us", tz="UTC"))
        serial = range(start, start + PER_COMMIT)
        yield pa.table(
            {
                "shop": [f"shop-{one:05d}" for one in shop],
                "source": pa.repeat(pa.scalar("native"), PER_COMMIT),
                "digest": pa.array([rng.bytes(16) for _ in serial], pa.binary()),
                "id": [f"event-{one}" for one in serial],
                "customer": [f"customer-{one:07d}" for one in customer],
                "name": names[rng.integers(0, len(names), PER_COMMIT)],
                "time": at,
                "received": at,
                "backfilled": pa.repeat(pa.scalar(False), PER_COMMIT),
                "value_minor": rng.integers(100, 20_000, PER_COMMIT),
                "properties": [f'{{"item": "sku-{one % 5000}", "page": {one}}}' for one in serial],
            }
        )


def settings(folder: Path) -> dict[str, float]:
    """Ten thousand shops whose settings came in a hundred commits: finding one of them."""
    lake = Lake(folder / "lake")
    for start in range(0, SHOPS, SHOPS // 100):
        names = [f"shop-{one:05d}" for one in range(start, start + SHOPS // 100)]
        at = pa.array([START] * len(names), pa.timestamp("us", tz="UTC"))
        zones = pa.array(["UTC"] * len(names))
        lake.append({"shops": pa.table({"shop": names, "received": at, "timezone": zones})})
    told: dict[str, float] = {}
    for state in ("streamed", "compacted"):
        files = len(lake.files("shops"))
        told |= {
            f"{state}_files": files,
            f"{state}_shops_seconds": _median(lambda: len(lake.shops())),
            f"{state}_settings_seconds": _median(
                lambda: read(lake, "SELECT timezone FROM shop_settings", shop="shop-05000")
            ),
        }
        compact(lake)
    return told


def _laid(folder: Path, events: int, buckets: int) -> tuple[dict[str, float], list[str]]:
    lake = Lake(folder / "lake", buckets=buckets)
    seconds = []
    for rows in commits(events):
        began = time.perf_counter()
        lake.append({"events": rows})
        seconds.append(time.perf_counter() - began)
    streamed = len(lake.files("events"))
    began = time.perf_counter()
    compact(lake)
    compacting = time.perf_counter() - began
    (status,) = (one for one in lake_status(lake) if one.name == "events")
    told = {
        "append_seconds": statistics.median(seconds),
        "compact_seconds": compacting,
        "files_streamed": streamed,
        "files": status.files,
        "bytes_per_event": status.bytes / events,
    }
    return told, lake.files("events")


def _plain(folder: Path, events: int) -> tuple[dict[str, float], list[str]]:
    seconds: list[float] = []
    files: list[str] = []
    held: list[pa.Table] = []
    for number, rows in enumerate(commits(events)):
        held.append(rows)
        if len(held) == 10 or (number + 1) * PER_COMMIT >= events:
            began = time.perf_counter()
            files.append(str(folder / f"{len(files)}.parquet"))
            pq.write_table(
                pa.concat_tables(held), files[-1], compression="zstd",
                row_group_size=journal.ROWS_PER_GROUP,
            )
            seconds.append((time.perf_counter() - began) / len(held))
            held = []
    told = {
        "append_seconds": statistics.median(seconds),
        "files": len(files),
        "bytes_per_event": sum(Path(file).stat().st_size for file in files) / events,
    }
    return told, files


def _reads(files: Sequence[str], buckets: int | None) -> dict[str, float]:
    rng = np.random.default_rng(1)
    shops = [*rng.integers(0, 20, CUSTOMERS_ASKED), *rng.integers(0, SHOPS, CUSTOMERS_ASKED)]
    asked = [(f"shop-{one:05d}", f"customer-{int(rng.integers(0, 3)):07d}") for one in shops]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")

        def ask(sql: str, **told: object) -> int:
            return len(connection.sql(sql, params=told).to_arrow_table())

        def one_customer(shop: str, customer: str) -> int:
            held = list(files)
            if buckets is not None:
                bucket = bucket_of(shop, customer, b"", buckets)
                held = [file for file in files if f"/bucket={bucket}/" in file]
            return ask(ONE_CUSTOMER, files=held, shop=shop, customer=customer)

        for shop, customer in asked:           # once, so that all files are in the page cache
            one_customer(shop, customer)
        told = {
            "one_customer_seconds": statistics.median(
                _seconds(partial(one_customer, *whose)) for whose in asked
            )
        }
        for kind, number in (("largest", 0), ("middling", 300), ("tiny", 9_000)):
            one_shop = partial(ask, ONE_SHOP, files=list(files), shop=f"shop-{number:05d}")
            told[f"{kind}_shop_seconds"] = _median(one_shop)
            told[f"{kind}_shop_events"] = one_shop()
    return told


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_seconds(work) for _ in range(5))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _rows(method: str, told: dict[str, float]) -> Iterator[Row]:
    for metric, value in told.items():
        yield Row(
            data="many_shops", protocol=PROTOCOL, method=method, metric=metric, value=value,
            seed=0, peak_mb=told.get("peak_mb"), commit=harness_commit(*OURS), hardware=hardware(),
        )


if __name__ == "__main__":
    main()
