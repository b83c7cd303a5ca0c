"""How many events per second the log makes durable, beside a bare file append with fsync.

    python benchmarks/log_speed.py

A body is one request of so many events, encoded as the log holds it; an append is a group commit of
so many bodies and returns when they are on disk. The bare file gets the same bytes, one write and
one fsync per append, and nothing else: no offsets, no checksums, no readers. Both take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from habitue.events import Event
from habitue.lake.eventlog.records import Entry, Part, encode
from habitue.lake.eventlog.segments import SqliteLog

EVENTS = (1, 100, 1_000)                   # per body
GROUPS = (1, 16, 64)                       # bodies per append
ROUNDS, ROUND_SECONDS = 5, 1.5
OURS = (
    "habitue/lake/eventlog/segments.py", "habitue/lake/eventlog/segmentfile.py",
    "benchmarks/log_speed.py",
)
PROTOCOL = (
    f"one thread appends for {ROUND_SECONDS} s, {ROUNDS} rounds in turn; medians (minimum, maximum)"
)
START = datetime(2026, 1, 1, tzinfo=UTC)
Append = Callable[[list[bytes]], object]


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "log_speed.csv")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for events in EVENTS:
        for group in GROUPS:
            name = f"{events} events x {group} bodies"
            if not all(ledger.has(name, method, None) for method in ("sqlite_log", "bare_file")):
                ledger.put(measured(name, body(events), events, group, options.folder))
    if options.json:
        ledger.write_json(options.json)
    for row in ledger.rows:
        print(f"{row.data:26} {row.method:12} {row.metric:20} {row.value:14,.2f}")


def body(events: int) -> bytes:
    """A request of so many events, as the log holds it: some 300 bytes each."""
    return encode(
        Part(
            receipt="r" * 26, shop="acme", source="native", origin="/v1/events", received=START,
            entries=tuple(Entry(n, (event(n),)) for n in range(events)),
        )
    )


def event(number: int) -> Event:
    """Somebody looked at something."""
    return Event(
        shop="acme", source="native", id=f"event-{number:012}", customer=f"customer-{number % 997}",
        name="item_viewed", time=START + timedelta(seconds=number), received=START,
    )


def measured(name: str, one: bytes, events: int, group: int, disk: Path | None) -> list[Row]:
    """The rows of one cell of the table, for both methods."""
    load = f"load average {os.getloadavg()[0]:.1f}, ours less than 1 of it"
    rates: dict[str, list[float]] = {"sqlite_log": [], "bare_file": []}
    waits: dict[str, list[float]] = {"sqlite_log": [], "bare_file": []}
    for _ in range(ROUNDS):
        for method in rates:
            with tempfile.TemporaryDirectory(dir=disk) as folder:
                seconds = appended(method, Path(folder), [one] * group)
            rates[method].append(events * group * len(seconds) / sum(seconds))
            waits[method] += seconds
    found = []
    for method, per_second in rates.items():
        ordered = sorted(waits[method])
        metrics = {
            "events_per_second": per_second,
            "megabytes_per_second": [rate / events * len(one) / 1e6 for rate in per_second],
            "append_p50_ms": [1e3 * ordered[len(ordered) // 2]],
            "append_p99_ms": [1e3 * ordered[len(ordered) * 99 // 100]],
        }
        if method != "bare_file":
            bare = rates["bare_file"]
            metrics["ratio_to_bare_file"] = [
                ours / theirs for ours, theirs in zip(per_second, bare, strict=True)
            ]
        found += [
            Row(
                data=name, protocol=f"{PROTOCOL}; {load}", method=method, metric=metric,
                value=statistics.median(values), low=min(values), high=max(values),
                seconds=sum(ordered), peak_mb=peak_mb(),
                commit=harness_commit(*OURS), hardware=hardware(),
            )
            for metric, values in metrics.items()
        ]
    return found


def appended(method: str, folder: Path, bodies: list[bytes]) -> list[float]:
    """The seconds of each append of a round."""
    if method == "sqlite_log":
        with closing(SqliteLog(folder)) as log:
            return timed(lambda batch: log.append(0, batch), bodies)
    file = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return timed(lambda batch: flushed(file, batch), bodies)
    finally:
        os.close(file)


def flushed(file: int, bodies: list[bytes]) -> None:
    """One write and one fsync."""
    os.write(file, b"".join(bodies))
    os.fsync(file)


def timed(append: Append, bodies: list[bytes]) -> list[float]:
    """Append until the round is over, after one append that is not counted."""
    append(bodies)
    seconds: list[float] = []
    while sum(seconds) < ROUND_SECONDS:
        start = time.perf_counter()
        append(bodies)
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
