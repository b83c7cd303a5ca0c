"""What several processes behind one port bring, and what the death of one costs.

    python -m benchmarks.several --data online_retail_ii.parquet

`habitue serve --workers N` over a real shop that was scored before, on loopback; `wrk` asks as much
as goes, and shares the machine's cores with what it measures. Then processes that answer are killed
one after another while threads read and send, each asking once more where it was cut off.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from benchmarks.serving import SHOP, Figures, made
from benchmarks.shops import source_of
from habitue.config import utc_now
from habitue.serving.several.sharing import counted
from habitue.workspace import open_workspace

OURS = ("habitue/serving", "habitue/lake/live", "benchmarks/several.py")
WORKERS = (1, 2, 3)
CONNECTIONS, SECONDS = 16, 8
KILLS = 3

_READ = """
local names = {}
for line in io.lines("%s") do names[#names + 1] = line end
request = function()
  return wrk.format("GET", string.format("%s", names[math.random(#names)]))
end
"""
_SEND = """
local n = 0
request = function()
  n = n + 1
  local body = string.format('{"name": "x", "customer": "c%%d", "id": "%s-%%d"}', n %% 1000, n)
  return wrk.format("POST", "/v1/events", nil, body)
end
"""


def main() -> None:
    """Run every part, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS / "several.csv")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not here\nhint: apt-get install wrk")
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    with tempfile.TemporaryDirectory() as folder:
        workspace, customers = made(options.data, Path(folder) / "work")
        subprocess.run([*_habitue("score"), "--workspace", str(workspace)], check=True)
        names = Path(folder) / "names"
        names.write_text("\n".join(customers))
        for workers in WORKERS:
            for method, figures in _of(workspace, workers, names):
                load = f"{CONNECTIONS} connections; load average {os.getloadavg()[0]:.1f}"
                ledger.put(
                    Row(data=source_of(options.data).name, protocol=load, method=method,
                        metric=name, value=value, commit=ledger.commit, hardware=ledger.machine)
                    for name, value in figures.items()
                )  # fmt: skip
                told = "  ".join(f"{name} {value:,.1f}" for name, value in figures.items())
                print(f"{method:34} {told}", flush=True)


def _of(workspace: Path, workers: int, names: Path) -> Iterator[tuple[str, Figures]]:
    name = f"{workers} {'process' if workers == 1 else 'processes'}"
    with _served(workspace, workers) as (url, key, process):
        scripts = {
            "predictions": _READ % (names, "/v1/customers/%s/predictions"),
            "profile": _READ % (names, "/v1/customers/%s"),
            "events": _SEND % f"{workers}-{time.time_ns()}",
        }
        for what, script in scripts.items():
            path = names.with_name("path.lua")
            path.write_text(script)
            yield f"{what}, {name}", _loaded(url, key, path)
        if workers > 1:
            yield f"killed, {name}", _killed(url, key, process, workspace)


def _loaded(url: str, key: str, script: Path) -> Figures:
    told = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script),
         "-H", f"X-Habitue-Key: {key}", url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "Non-2xx" not in told, told
    found = {name: re.search(rf"{name}\s+([\d.]+)(us|ms|s)", told) for name in ("50%", "99%")}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate and all(found.values()), told
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    return {
        "answers_per_second": float(rate[1]),
        **{f"p{name[:2]}_ms": float(one[1]) * scale[one[2]] for name, one in found.items() if one},
    }


def _killed(url: str, key: str, process: int, workspace: Path) -> Figures:
    """Kill who answers, one after another, while threads read and send."""
    over, told = threading.Event(), _Told()
    with httpx.Client(base_url=url, headers={"X-Habitue-Key": key}, trust_env=False) as client:
        asks: list[Callable[[int], httpx.Response]] = [
            lambda _: client.get("/v1/status"),
            lambda number: client.post(
                "/v1/events", json={"name": "x", "customer": "k", "id": f"{process}-{number}"}
            ),
        ]
        threads = [threading.Thread(target=told.load, args=(ask, over)) for ask in asks * 2]
        for thread in threads:
            thread.start()
        away = []
        for _ in range(KILLS):
            time.sleep(1)
            began, victim = time.monotonic(), _answering(process)[0]
            os.kill(victim, signal.SIGKILL)
            while victim in {one.pid for one in counted(workspace / "online")}:
                time.sleep(0.02)
            away.append(time.monotonic() - began)
        time.sleep(1)
        over.set()
        for thread in threads:
            thread.join()
    return {
        "kills": KILLS, "answers": told.answers, "asked_again": told.again,
        "failed_after_that": told.failed, "seconds_until_back": max(away),
    }  # fmt: skip


class _Told:
    """What threads saw of a server of which processes die."""

    def __init__(self) -> None:
        self.answers = self.again = self.failed = 0
        self._guard = threading.Lock()

    def load(self, ask: Callable[[int], httpx.Response], over: threading.Event) -> None:
        """Ask until it is over; once more where that failed."""
        for number in itertools.count():
            if over.is_set():
                return
            first = _asked(ask, number)
            second = first or _asked(ask, number)
            with self._guard:
                self.answers += second
                self.again += not first
                self.failed += not second


def _asked(ask: Callable[[int], httpx.Response], number: int) -> bool:
    try:
        return ask(number).status_code < 500
    except httpx.TransportError:
        return False


def _answering(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        pid for pid in map(int, children)
        if b"--answer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]  # fmt: skip


@contextmanager
def _served(workspace: Path, workers: int) -> Iterator[tuple[str, str, int]]:
    """The service over a workspace, its scores as they are kept; ended in order."""
    directory = open_workspace(workspace).directory
    directory.shop(SHOP, create=True)
    _, key = directory.issue_key(SHOP, "secret", now=utc_now())
    process = subprocess.Popen(
        [*_habitue("serve"), "--workspace", str(workspace), "--port", "0", "--json",
         "--no-scores", "--workers", str(workers)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    time.sleep(2)                          # until what answers are read from is open
    try:
        yield told["listening"], key, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _habitue(verb: str) -> list[str]:
    return [sys.executable, "-m", "habitue.cli.app", verb]


if __name__ == "__main__":
    main()
