"""How fast events come in by HTTP, durable before they are acknowledged, and on into the lake.

    python -m benchmarks.ingest                 # all of it, with two million events at the end
    python -m benchmarks.ingest --events 10     # the same with ten million

On loopback, with a load generator that shares the machine's cores. Beside each rate stand its
limits in the same run: to decode the same bodies and do nothing with them, to append them to a bare
log with as many waiting for one flush, and to write the same rows with delta-rs. Processor time is
told, too: other work on the machine changes it least.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.load import Load, Requests, Sender
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from habitue.config import utc_now
from habitue.ingest.doors import native
from habitue.ingest.doors.intake import Door
from habitue.ingest.doors.records import SentEvent
from habitue.lake.eventlog.records import Part, encode
from habitue.lake.eventlog.rows import digests_of, rows_of
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.schema import TABLES
from habitue.lake.tables import conformed_rows
from habitue.serving.beside.settlement import PROGRESS_FILE, Progress, read_progress
from habitue.workspace import open_workspace

CONNECTIONS = {1: 64, 100: 16, 1_000: 8}   # by events per request
ROUNDS, ROUND_SECONDS = 3, 6.0
COMMIT_ROWS = 50_000                       # of one Delta write, as the worker commits
DOWN_EVENTS = 500_000                      # that came in before the lake is filled again
LAG_SECONDS = 12.0
OURS = ("habitue/serving", "habitue/ingest", "habitue/lake", "benchmarks")
PROTOCOL = "HTTP on loopback; the cores are shared by load generator, server, worker and other work"
_TICKS = os.sysconf("SC_CLK_TCK")
_events = msgspec.json.Decoder(SentEvent)
Figures = dict[str, list[float]]           # metric -> a value per round


def main() -> None:
    """Run every cell and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "ingest.csv")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--events", type=float, default=2.0, help="millions, for the last cell")
    parser.add_argument("--only", choices=("rates", "lag", "downtime", "long"))
    options = parser.parse_args()
    cells: dict[str, Callable[[Path], Iterator[Cell]]] = {
        "rates": rates, "lag": lag, "downtime": downtime,
        "long": lambda folder: long(folder, int(options.events * 1e6)),
    }  # fmt: skip
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for name in [options.only] if options.only else cells:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for cell in cells[name](Path(folder)):
                ledger.put(cell.rows())
                cell.show()


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured of one method on one kind of request."""

    data: str
    method: str
    figures: Figures

    def rows(self) -> list[Row]:
        """As they are kept: medians, with minimum and maximum."""
        load = f"{PROTOCOL}; load average {os.getloadavg()[0]:.1f}"
        return [
            Row(
                data=self.data, protocol=load, method=self.method, metric=metric,
                value=statistics.median(values), low=min(values), high=max(values),
                peak_mb=peak_mb(), commit=harness_commit(*OURS), hardware=hardware(),
            )
            for metric, values in self.figures.items()
        ]  # fmt: skip

    def show(self) -> None:
        """Print it."""
        for metric, values in self.figures.items():
            print(f"{self.data:22} {self.method:12} {metric:34} {statistics.median(values):12,.2f}")
        sys.stdout.flush()


class Service:
    """`habitue serve` in a process of its own, and the processes that it is made of."""

    def __init__(self, folder: Path, *, pace: float) -> None:
        self.workspace = folder / "work"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "habitue.cli.app", "serve", "--workspace", str(self.workspace),
             "--shop", "acme", "--port", "0", "--json", "--pace", str(pace), "--no-scores"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self.port, self.key = int(told["port"]), told["keys"].get("secret", "")
        while self.progress is None:
            time.sleep(0.1)

    @property
    def progress(self) -> Progress | None:
        """What the worker last told."""
        return read_progress(self.workspace / "online" / PROGRESS_FILE)

    @property
    def pids(self) -> dict[str, int]:
        """The server and the worker."""
        assert self.progress is not None
        return {"server": self._process.pid, "worker": self.progress.pid}

    def processor_seconds(self) -> dict[str, float]:
        """What each has used so far."""
        return {name: processor_seconds(pid) for name, pid in self.pids.items()}

    def memory_mb(self) -> dict[str, float]:
        """What each holds now: of its own, and of files that it reads as memory (the index)."""
        return {
            f"{name}_{kind}": _status_mb(pid, field)
            for name, pid in self.pids.items()
            for kind, field in (("own", "RssAnon"), ("mapped", "RssFile"))
        }

    def until_committed(self, requests: int) -> float:
        """Seconds until the lake holds so many requests."""
        began = time.perf_counter()
        while (told := self.progress) is None or not told.cursors or told.cursors[0] < requests:
            time.sleep(0.02)
        return time.perf_counter() - began

    def end(self, *, in_order: bool) -> None:
        """Stop it, or kill it."""
        self._process.send_signal(signal.SIGTERM if in_order else signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def rates(folder: Path) -> Iterator[Cell]:
    """Events per second for each size of request, beside their limits, in turns."""
    for events, connections in CONNECTIONS.items():
        rounds = [
            one_round(folder / f"{events}-{number}", events, connections)
            for number in range(ROUNDS)
        ]
        for method, metrics in rounds[0].items():
            figures = {name: [one[method][name] for one in rounds] for name in metrics}
            yield Cell(f"batches of {events:,}", method, figures)


def one_round(folder: Path, events: int, connections: int) -> dict[str, dict[str, float]]:
    """The service, then its limits with the same bodies."""
    folder.mkdir()
    requests = Requests.of(events, "")
    bodies = [requests.numbered(number) for number in range(max(20_000 // events, 20))]
    found = over_http(folder, events, connections)
    bare = limits(folder, bodies, connections)
    return {"http": found | share_of(found, bare), "limits": bare}


def share_of(found: dict[str, float], bare: dict[str, float]) -> dict[str, float]:
    """What part of the slowest of its limits the service reaches."""
    return {"share_of_slowest_limit": found["events_per_second"] / min(bare.values())}


def over_http(folder: Path, events: int, connections: int) -> dict[str, float]:
    """Events per second by HTTP, while the lake is filled beside it."""
    service = Service(folder, pace=1.0)
    with closing(Sender(service.port, connections)) as sender:
        requests = Requests.of(events, service.key)
        sender.send(requests, most=20 * connections)
        before, ours = service.processor_seconds(), time.process_time()
        load = sender.send(requests, seconds=ROUND_SECONDS)
        ours = time.process_time() - ours
        used = {name: at - before[name] for name, at in service.processor_seconds().items()}
    service.end(in_order=False)
    assert not load.refused, f"{load.refused} requests were refused"
    count = load.requests * events
    processor = {"generator": ours, **used}
    return {
        "events_per_second": count / load.seconds,
        **waits(load),
        **{f"{name}_processor_us_per_event": 1e6 * one / count for name, one in processor.items()},
    }


def waits(load: Load) -> dict[str, float]:
    """How long acknowledgements took."""
    return {f"acknowledged_p{share:.0%}_ms".replace("%", ""): load.percentile_ms(share)
            for share in (0.5, 0.99)}  # fmt: skip


def limits(folder: Path, bodies: list[bytes], connections: int) -> dict[str, float]:
    """Events per second of what a service cannot do without, each alone."""
    parts = [part_of(body) for body in bodies]
    encoded = [encode(part) for part in parts]
    rows = rows_of_parts(parts)
    wanted = [rows.slice(0)] * max(COMMIT_ROWS // len(rows), 1)

    def append() -> None:
        for begin in range(0, len(encoded), connections):
            log.append(0, encoded[begin : begin + connections])

    with closing(SqliteLog(folder / "bare-log")) as log:
        log.append(0, encoded[:1])
        return {
            "decode_per_second": per_second(lambda: [decode(one) for one in bodies], parts),
            "log_append_per_second": per_second(append, parts),
            "delta_write_per_second": per_second(
                lambda: write_deltalake(
                    folder / "bare-delta", pa.concat_tables(wanted), mode="append",
                    partition_by=["bucket"],
                ),
                parts, times=len(wanted),
            ),
        }  # fmt: skip


def per_second(work: Callable[[], object], parts: list[Part], *, times: int = 1) -> float:
    """Events per second of some work on all parts, done for two seconds after once in vain."""
    count, rounds, began = sum(len(part.entries) for part in parts) * times, 0, 0.0
    work()
    began = time.perf_counter()
    while time.perf_counter() - began < 2.0:
        work()
        rounds += 1
    return count * rounds / (time.perf_counter() - began)


def decode(body: bytes) -> list[SentEvent]:
    """A body's records, and nothing done with them."""
    return _events.decode_lines(body)


def part_of(body: bytes) -> Part:
    """A body as the log holds it."""
    door = Door(
        shop="acme", source="native", received=datetime(2026, 1, 3, tzinfo=UTC), secret=b"s" * 32
    )
    entries = native.translate(body, door).entries
    return Part("r" * 32, "acme", "native", "/v1/events", door.received, entries)


def rows_of_parts(parts: list[Part]) -> pa.Table:
    """The rows of the table `events` that parts become, in one bucket of sixteen each."""
    nouns = [noun for part in parts for entry in part.entries for noun in entry.nouns]
    rows = rows_of("events", nouns, digests_of(nouns), ["r" * 32] * len(nouns))
    conformed = conformed_rows(TABLES["events"], rows)
    return conformed.append_column(
        "bucket", pa.array([place % 16 for place in range(len(rows))], pa.int32())
    )


def lag(folder: Path) -> Iterator[Cell]:
    """How long after its acknowledgement an event is in the lake, at the usual pace."""
    service = Service(folder, pace=1.0)
    with closing(Sender(service.port, 1)) as sender:
        requests = Requests.of(1, service.key)
        acknowledged: list[float] = []
        seen: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < LAG_SECONDS or len(seen) < len(acknowledged):
            if time.perf_counter() - began < LAG_SECONDS:
                sender.send(requests, most=1)
                acknowledged.append(time.perf_counter())
            told = service.progress
            held = told.cursors[0] if told and told.cursors else 0
            seen += [time.perf_counter() - at for at in acknowledged[len(seen) : held]]
            time.sleep(0.02)
    service.end(in_order=False)
    ordered = sorted(seen)
    yield Cell("single events", "lag", {
        "in_lake_p50_seconds": [ordered[len(ordered) // 2]],
        "in_lake_p99_seconds": [ordered[len(ordered) * 99 // 100]],
        "events": [float(len(ordered))],
    })  # fmt: skip


def downtime(folder: Path) -> Iterator[Cell]:
    """How fast the lake is filled with what came in while nobody filled it."""
    service = Service(folder, pace=3600)
    with closing(Sender(service.port, CONNECTIONS[1_000])) as sender:
        load = sender.send(Requests.of(1_000, service.key), most=DOWN_EVENTS // 1_000)
    service.end(in_order=False)
    began = time.perf_counter()
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "habitue.cli.app", "follow", "--workspace", str(service.workspace)],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    seconds, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - (
        before.children_user + before.children_system
    )
    held = open_workspace(service.workspace).shop("acme").query("SELECT count(*) AS n FROM events")
    yield Cell("500,000 events", "downtime", {
        "acknowledged_per_second_unfollowed": [DOWN_EVENTS / load.seconds],
        "caught_up_per_second": [held["n"][0].as_py() / seconds],
        "processor_us_per_event": [1e6 * used / DOWN_EVENTS],
    })  # fmt: skip


def long(folder: Path, events: int) -> Iterator[Cell]:
    """Very many events: whether memory stays flat, and how far behind the lake falls."""
    service = Service(folder, pace=1.0)
    requests = Requests.of(1_000, service.key, customers=200_000)
    figures: Figures = {"events_per_second": [], "behind_seconds": []}
    began = time.perf_counter()
    with closing(Sender(service.port, 4)) as sender:
        for tenth in range(10):
            load = sender.send(requests, most=events // 10_000)
            figures["events_per_second"].append(events / 10 / load.seconds)
            told = service.progress
            since = told.behind_since if told else None
            figures["behind_seconds"].append(
                utc_now().timestamp() - since if since is not None else 0.0
            )
            for name, held in service.memory_mb().items():
                figures[f"{name}_memory_mb_at_{tenth + 1}0%"] = [held]
        sent = time.perf_counter() - began
        behind = service.until_committed(sender.number)
    figures |= {
        "acknowledged_per_second": [events / sent],
        "in_lake_per_second": [events / (sent + behind)],
        "log_megabytes_left": [_megabytes(service.workspace / "log")],
        "lake_bytes_per_event": [1e6 * _megabytes(service.workspace / "lake" / "events") / events],
    }
    for name, pid in service.pids.items():
        figures[f"{name}_memory_peak_mb"] = [_status_mb(pid, "VmHWM")]
    service.end(in_order=True)
    yield Cell(f"{events:,} events", "long", figures)


def processor_seconds(pid: int) -> float:
    """What a process and its threads have used so far."""
    told = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(told[11]) + int(told[12])) / _TICKS


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
