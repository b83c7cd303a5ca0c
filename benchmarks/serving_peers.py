"""What a read of one customer costs beside servers that are made for such reads.

    python -m benchmarks.serving_peers --data online_retail_ii.parquet --peers peers/bin/python

Two that run on a laptop: Feast reads ten numbers of a customer from its online store, and MLflow
asks a boosted tree of ten numbers that come with the request. Ours are predictions (five questions
at two horizons, with intervals, as of the moment) and profiles. One process each, eight
connections of `wrk` on the same two cores. `serving_hosts.py` says how to make the environment.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from benchmarks.serving import CONNECTIONS, SECONDS, SHOP, Figures, made, served, wrk_ms
from benchmarks.shops import source_of
from habitue.workspace import open_workspace

OURS = ("habitue/serving", "benchmarks/serving_peers.py", "benchmarks/serving_hosts.py")
START_SECONDS = 120.0
OURS_READ = (("predictions", "/v1/customers/%s/predictions"), ("profile", "/v1/customers/%s"))

# ten numbers of each customer as of 90 days before the end, and whether they order after that
_FEATURES = """
WITH ended AS (SELECT max(time) - INTERVAL 90 DAY AS cutoff FROM orders),
seen AS (SELECT orders.*, ended.cutoff FROM orders, ended WHERE time <= cutoff)
SELECT customer, any_value(cutoff) AS told,
  count(*)::DOUBLE AS orders, sum(value_minor)::DOUBLE AS spent, avg(value_minor) AS mean_spent,
  min(value_minor)::DOUBLE AS least, max(value_minor)::DOUBLE AS most,
  date_diff('hour', max(time), any_value(cutoff)) / 24.0 AS days_since_last,
  date_diff('hour', min(time), any_value(cutoff)) / 24.0 AS days_since_first,
  count(*) FILTER (time > cutoff - INTERVAL 30 DAY)::DOUBLE AS orders_30d,
  count(*) FILTER (time > cutoff - INTERVAL 90 DAY)::DOUBLE AS orders_90d,
  count(*) FILTER (time > cutoff - INTERVAL 365 DAY)::DOUBLE AS orders_365d,
  customer IN (
    SELECT customer FROM orders, ended WHERE time > ended.cutoff AND customer IS NOT NULL
  ) AS orders_again
FROM seen WHERE customer IS NOT NULL GROUP BY customer ORDER BY customer
"""

_LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/json"}
request = function()
  return wrk.format("POST", "%s", headers, bodies[math.random(#bodies)])
end
"""


def main() -> None:
    """Measure ours, then each peer, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True, help="python with feast and mlflow")
    parser.add_argument("--results", type=Path, default=RESULTS / "serving_peers.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    data = source_of(options.data).name
    with tempfile.TemporaryDirectory() as folder:
        for method, figures in measured(options.data, options.peers, Path(folder)):
            load = f"{CONNECTIONS} connections; load average {os.getloadavg()[0]:.1f}"
            ledger.put(
                Row(data=data, protocol=load, method=method, metric=name, value=value,
                    commit=ledger.commit, hardware=ledger.machine)
                for name, value in figures.items()
            )  # fmt: skip
            told = "  ".join(f"{name} {value:,.2f}" for name, value in figures.items())
            print(f"{method:28} {told}", flush=True)


def measured(data: Path, peers: Path, folder: Path) -> Iterator[tuple[str, Figures]]:
    """Each read, by name."""
    workspace, customers = made(data, folder / "work")
    names = folder / "names"
    names.write_text("\n".join(customers))
    with served(workspace) as service:
        service.scored_whole()
        for what, path in OURS_READ:
            yield f"habitue, {what}", service.most(path, names, folder)
    features = open_workspace(workspace).shop(SHOP).query(_FEATURES)
    pq.write_table(features, folder / "features.parquet")
    for peer, (path, bodies) in asked_of(features).items():
        (folder / "bodies").write_text("\n".join(bodies))
        (folder / peer).mkdir()
        with hosted(peer, peers, folder) as url:
            until_it_answers(url + path, bodies[0])
            yield peer, most(url, path, folder)


def asked_of(features: pa.Table) -> dict[str, tuple[str, list[str]]]:
    """The path of each peer, and what it is asked of every customer."""
    names = [one for one in features.column_names if one not in ("customer", "told")][:-1]
    rows = features.to_pylist()
    return {
        "feast": (
            "/get-online-features",
            [json.dumps({"features": [f"shop:{one}" for one in names],
                         "entities": {"customer": [row["customer"]]}}) for row in rows],
        ),
        "mlflow": (
            "/invocations",
            [json.dumps({"dataframe_split": {"columns": names,
                                             "data": [[row[one] for one in names]]}})
             for row in rows],
        ),
    }  # fmt: skip


@contextmanager
def hosted(peer: str, peers: Path, folder: Path) -> Iterator[str]:
    """A peer's server, ended with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("serving_hosts.py")
    command = [str(peers), str(script), peer, str(folder / "features.parquet"),
               str(folder / peer), str(port)]  # fmt: skip
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "FEAST_USAGE": "False",
             "MLFLOW_DISABLE_TELEMETRY": "true"}  # fmt: skip
    with (folder / f"{peer}.log").open("w") as log:
        process = subprocess.Popen(command, env=quiet, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)     # its workers, too
            process.wait(60)


def until_it_answers(url: str, body: str) -> None:
    """Wait for the first right answer."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            told = httpx.post(url, content=body, headers={"Content-Type": "application/json"})
            if told.status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{url} did not answer in {START_SECONDS:.0f} s")


def most(url: str, path: str, folder: Path) -> Figures:
    """Answers a second by a few connections that never wait, of customers at random."""
    script = folder / "post.lua"
    script.write_text(_LUA % (folder / "bodies", path))
    command: Sequence[str] = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s",
                              str(script), url]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate is not None, told
    return {"answers_per_second": float(rate[1]), "p50_ms": wrk_ms(told, "50"),
            "p99_ms": wrk_ms(told, "99")}  # fmt: skip


if __name__ == "__main__":
    main()
