"""How fast answers are, and how soon they know what happened.

    python -m benchmarks.serving --data online_retail_ii.parquet

`habitue serve` over a real shop, on loopback. Reads are loaded with `wrk` (as much as goes) and
`hey` (at half and at four fifths of that), Debian's packages of those names; both share the
machine's cores with what they measure. Beside them: `/healthz`, which does nothing, as what HTTP
alone costs. Freshness: each event is of another customer, and its score is seen in the file that
answers are read from, which is looked at every 20 ms. Moved: the same orders, until the change of
a live audience that compares a prediction is written, of whom a score has moved (cause `score`).

`--fresh` measures these two alone, into `audiences_moved.csv`.
"""

import argparse
import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np

from benchmarks.ingest import processor_seconds
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from benchmarks.shops import fill, source_of
from habitue.lake.live import fresh
from habitue.lake.live.scored import SCORES_FILE
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.model.embed import read
from habitue.scoring.basis import HORIZONS_DAYS, Basis, open_basis
from habitue.scoring.told import SCORING_FILE, read_told
from habitue.workspace import open_workspace

OURS = ("habitue/serving", "habitue/scoring", "habitue/lake/live", "benchmarks/serving.py")
SHOP = "acme"
CONNECTIONS, SECONDS = 8, 10
RATES = (10, 100, 1_000)                   # events a second
MOST_EVENTS = 3_000                        # each of another customer
SHARES = (0.5, 0.8)                        # of what goes at most
LOOK_SECONDS = 0.02
MOVED = "churn_90d < 0.97"
Figures = dict[str, float]

_LUA = """
local names = {}
for line in io.lines("%s") do names[#names + 1] = line end
request = function()
  return wrk.format("GET", string.format("%s", names[math.random(#names)]))
end
"""


def main() -> None:
    """Run every part, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    for tool in () if options.fresh else ("wrk", "hey"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not here\nhint: apt-get install {tool}")
    results = options.results or RESULTS / (
        "audiences_moved.csv" if options.fresh else "serving.csv"
    )  # fmt: skip
    ledger = Ledger(results, harness_commit(*OURS), hardware())
    with tempfile.TemporaryDirectory() as folder:
        workspace, customers = made(options.data, Path(folder) / "work")
        data = source_of(options.data).name
        parts = freshness if options.fresh else measured
        for method, figures in parts(workspace, customers, Path(folder)):
            load = f"{len(customers):,} customers; load average {os.getloadavg()[0]:.1f}"
            ledger.put(
                Row(data=data, protocol=load, method=method, metric=name, value=value,
                    commit=ledger.commit, hardware=ledger.machine)
                for name, value in figures.items()
            )  # fmt: skip
            told = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items())
            print(f"{method:28} {told}", flush=True)


def made(data: Path, folder: Path) -> tuple[Path, list[str]]:
    """A workspace that holds the shop, and its customers."""
    workspace = open_workspace(folder)
    fill(workspace.lake, data, SHOP)
    sql = "SELECT DISTINCT customer FROM events WHERE customer IS NOT NULL ORDER BY 1"
    return folder, workspace.shop(SHOP).query(sql)["customer"].to_pylist()


def measured(
    workspace: Path, customers: list[str], folder: Path
) -> Iterator[tuple[str, Figures]]:
    """Each part, by name."""
    with served(workspace) as service:
        yield "scored as a whole", {"seconds": service.scored_whole()}
        yield "idle", service.idle()
        names = folder / "names"
        names.write_text("\n".join(customers))
        for what, path in (
            ("nothing", "/healthz"),
            ("predictions", "/v1/customers/%s/predictions"),
            ("recommendations", "/v1/customers/%s/recommendations"),
            ("profile", "/v1/customers/%s"),
        ):
            most = service.most(path, names, folder)
            yield f"{what}, as many as go", most
            for share in SHARES:
                found = service.paced(path % customers[7] if "%" in path else path, share, most)
                yield f"{what}, {share:.0%} of that", found
        yield from fresh_at(service, customers)
        yield "memory", service.memory(len(customers))
    yield "the model alone", model_alone(workspace)


def freshness(workspace: Path, customers: list[str], _: Path) -> Iterator[tuple[str, Figures]]:
    """How soon answers and live audiences know what happened, alone."""
    with served(workspace) as service:
        service.scored_whole()
        yield from fresh_at(service, customers)


def fresh_at(service: "Service", customers: list[str]) -> Iterator[tuple[str, Figures]]:
    """The same at each rate."""
    service.follow_a_score()
    begun = 0
    for rate in RATES:
        count = min(rate * SECONDS, MOST_EVENTS)
        asked = customers[begun : begun + count]
        begun += count
        if len(asked) == count:
            fresh, moved = service.freshness(asked, rate)
            yield f"fresh at {rate} events/s", fresh
            yield f"moved at {rate} events/s", moved


class Service:
    """A service that runs, with its scorer."""

    def __init__(self, workspace: Path, port: int, key: str, process: int) -> None:
        self.workspace, self.key, self.process = workspace, key, process
        self.url, self.online = f"http://127.0.0.1:{port}", workspace / "online"
        self.headers = {"X-Habitue-Key": key}

    def scored_whole(self) -> float:
        """Wait until the shop is scored; the seconds that took by the scorer's own account."""
        while True:
            told = read_told(self.online / SCORING_FILE)
            if told is not None and SHOP in told.shops and not told.shops[SHOP].waiting:
                return told.shops[SHOP].seconds
            time.sleep(0.5)

    def pids(self) -> dict[str, int]:
        """The server and the processes beside it."""
        found = {"server": self.process}
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        for pid in map(int, children):
            told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = next((one for one in ("follow", "score") if one.encode() in told), None)
            if name:
                found[name] = pid
        return found

    def idle(self) -> Figures:
        """Share of a core that each takes while nothing is asked or sent."""
        time.sleep(3)
        before = {name: processor_seconds(pid) for name, pid in self.pids().items()}
        time.sleep(SECONDS)
        return {
            f"{name}_percent_of_a_core": 100 * (processor_seconds(pid) - before[name]) / SECONDS
            for name, pid in self.pids().items()
        }

    def most(self, path: str, names: Path, folder: Path) -> Figures:
        """Answers a second by a few connections that never wait, of customers at random."""
        script = folder / "path.lua"
        script.write_text(_LUA % (names, path))
        told = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script),
             "-H", f"X-Habitue-Key: {self.key}", self.url],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "Non-2xx" not in told, told
        rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
        assert rate is not None, told
        return {
            "answers_per_second": float(rate[1]), "p50_ms": wrk_ms(told, "50"),
            "p99_ms": wrk_ms(told, "99"),
        }  # fmt: skip

    def paced(self, path: str, share: float, most: Figures) -> Figures:
        """Latency at a share of what goes at most."""
        each = share * most["answers_per_second"] / CONNECTIONS
        told = subprocess.run(
            ["hey", "-z", f"{SECONDS}s", "-c", str(CONNECTIONS), "-q", f"{each:.3f}",
             "-H", f"X-Habitue-Key: {self.key}", self.url + path],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert set(re.findall(r"\[(\d+)\]\s+\d+ responses", told)) == {"200"}, told
        rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
        assert rate is not None, told
        return {
            "answers_per_second": float(rate[1]),
            **{f"p{one}_ms": 1e3 * float(re.search(rf"{one}%+ in ([\d.]+) secs", told)[1])  # type: ignore[index]
               for one in (50, 99)},
        }  # fmt: skip

    def follow_a_score(self) -> None:
        """Keep an audience live into which an order moves whoever was silent for long."""
        audiences = open_workspace(self.workspace).shop(SHOP).audiences
        time.sleep(3)                      # the follower takes the scores over
        audiences.save("moved", MOVED)
        time.sleep(2)
        deadline = time.monotonic() + 120
        while not all(one["applied"] for one in audiences.followed().to_pylist()):
            assert time.monotonic() < deadline, "the audience is not applied to everybody"
            time.sleep(0.5)

    def freshness(self, customers: list[str], rate: int) -> tuple[Figures, Figures]:
        """How long after an order was sent its score is there, and moves an audience."""
        seen: dict[str, float] = {}
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(set(customers), seen, done))
        watch.start()
        sent: dict[str, float] = {}
        began = time.monotonic()
        with httpx.Client(base_url=self.url, headers=self.headers, trust_env=False) as client:
            each = max(rate // 100, 1)     # of one request: one sender is enough for any rate
            for begin in range(0, len(customers), each):
                time.sleep(max(began + begin / rate - time.monotonic(), 0))
                some = customers[begin : begin + each]
                now = time.time()
                client.post("/v1/events", json={"events": [_order(one) for one in some]})
                sent |= dict.fromkeys(some, now)
        took = time.monotonic() - began
        deadline = time.monotonic() + 120
        while len(seen) < len(customers) and time.monotonic() < deadline:
            time.sleep(0.1)
        done.set()
        watch.join()
        time.sleep(3)
        late = sorted(seen[one] - sent[one] for one in customers if one in seen)
        moved = sorted(at - sent[one] for one, at in self._moved().items() if one in sent)
        told = {"events": len(customers), "sent_per_second": len(customers) / took}
        return (
            {**told, "never_seen": len(customers) - len(late), **_shares(late)},
            {**told, "changes": len(moved), **_shares(moved)},
        )

    def _moved(self) -> dict[str, float]:
        """When a score brought each customer into the audience, in seconds."""
        changes = open_workspace(self.workspace).shop(SHOP).audiences.changes("moved").to_pylist()
        return {
            one["customer"]: one["detected_at"].timestamp()
            for one in changes if one["change"] == "entered" and one["cause"] == "score"
        }  # fmt: skip

    def _watch(self, wanted: set[str], seen: dict[str, float], done: threading.Event) -> None:
        address = f"{(self.online / SCORES_FILE).resolve().as_uri()}?mode=ro"
        sql = "SELECT customer, scored FROM customers WHERE shop = ? AND scored > ?"
        begun = time.time_ns() // 1_000
        with closing(sqlite3.connect(address, uri=True)) as connection:
            while not done.wait(LOOK_SECONDS):
                now = time.time()
                told = connection.execute(sql, [SHOP, begun]).fetchall()
                for customer in wanted & {one for one, _ in told}:
                    seen.setdefault(customer, now)

    def memory(self, customers: int) -> Figures:
        """What each process holds of its own, and what answers take on disk."""
        files = sum(path.stat().st_size for path in self.online.glob("scores.sqlite*"))
        return {
            **{f"{name}_mb": _own_mb(pid) for name, pid in self.pids().items()},
            "scores_mb_per_100k_customers": files / 1e6 / customers * 1e5,
        }


@contextmanager
def served(workspace: Path) -> Iterator[Service]:
    """The service over a workspace, ended in order."""
    command = [sys.executable, "-m", "habitue.cli.app", "serve", "--workspace", str(workspace)]
    process = subprocess.Popen(
        [*command, "--shop", SHOP, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    try:
        yield Service(workspace, told["port"], told["keys"]["secret"], process.pid)
    finally:
        process.terminate()
        process.wait(60)


def model_alone(workspace: Path) -> Figures:
    """Processor time of a score without a service around it, of one customer and of many."""
    place = open_workspace(workspace)
    basis = open_basis(place.shop(SHOP).source, datetime.now(UTC))
    path = workspace / "online" / PROFILES_FILE
    with closing(basis), closing(Profiles(path)) as profiles:
        found = [_alone(basis, profiles, count) for count in (1, 16, 256)]
    return {name: value for one in found for name, value in one.items()}


def _alone(basis: Basis, profiles: Profiles, count: int) -> Figures:
    with profiles.writing() as connection:
        sql = "SELECT id FROM customers WHERE shop = ? LIMIT ?"
        ids = [one for (one,) in connection.execute(sql, [SHOP, count])]
        events = fresh.events_of(connection, SHOP, ids)
    trained = basis.held.learnt.trained
    asked = (trained.model, trained.corpus, np.arange(count), np.full(count, basis.cutoff))
    return {
        f"score_ms_each_of_{count}": _ms(lambda: list(basis.again(events, basis.cutoff)), count),
        f"model_call_ms_each_of_{count}": _ms(
            lambda: read(*asked, horizons_days=HORIZONS_DAYS), count
        ),
    }


def _ms(work: Callable[[], object], count: int) -> float:
    """Processor time of one of so many customers: a warm run, then the median of five."""
    work()
    times = []
    for _ in range(5):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e3 * statistics.median(times) / count


def _shares(late: list[float]) -> Figures:
    """The middle and the 99th percentile of sorted seconds, in ms."""
    high = late[int(0.99 * (len(late) - 1))]
    return {"p50_ms": 1e3 * statistics.median(late), "p99_ms": 1e3 * high}


def _order(customer: str) -> dict[str, object]:
    return {"name": "order_placed", "customer": customer, "value": 20, "currency": "GBP"}


def wrk_ms(told: str, share: str) -> float:
    """Milliseconds within which this share of the answers came, in the words of `wrk`."""
    found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", told)
    assert found is not None, told
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def _own_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()
