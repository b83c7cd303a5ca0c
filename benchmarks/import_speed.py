"""How fast a million order lines are imported, beside a bare Parquet read plus Delta write of them.

    python benchmarks/import_speed.py

The peer reads the same file and writes it as one Delta table: no typing, no money, no identity, no
deduplication, no flush to disk. Every cell runs in a process of its own, the methods in turn;
seconds exclude importing the packages. `x5` is the file five times over with other order numbers.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.csv as csv
import pyarrow.parquet as pq
from deltalake import write_deltalake

import habitue.demo
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import read_mapping
from habitue.lake.tables import Lake

DATA = Path(habitue.demo.__file__).parent / "data" / "online_retail_ii.parquet"
MAPPING = DATA.with_suffix(".toml")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 3
TIMEOUT_SECONDS = 900.0
OURS = ("habitue/ingest", "habitue/lake", "benchmarks/import_speed.py")
PROTOCOL = f"into an empty folder, median (minimum, maximum) of {ROUNDS} rounds"

REPEATED = """
-- one row per line and repetition, under an order number of its own
COPY (
    SELECT * REPLACE (invoice_no || '/' || n AS invoice_no)
    FROM read_parquet(?), range(?) AS repetitions(n) ORDER BY n
) TO '{path}' (FORMAT parquet, COMPRESSION zstd)
"""


def main() -> None:
    """Run every cell that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "import_speed.csv")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--cell", nargs=2, metavar=("METHOD", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell[0], Path(options.cell[1]))))
        return
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    with tempfile.TemporaryDirectory() as folder:
        for name, file, methods in files(Path(folder)):
            if not all(ledger.has(name, method, None) for method in methods):
                ledger.put(measured(name, file, methods))
    if options.json:
        ledger.write_json(options.json)
    for row in ledger.rows:
        if row.metric in ("rows_per_second", "ratio_to_parquet_delta"):
            print(f"{row.data:22} {row.method:16} {row.metric:24} {row.value:14,.2f}")


def files(folder: Path) -> list[tuple[str, Path, list[str]]]:
    """The data sets: the demo's file, the same as CSV, and five times over."""
    text, repeated = folder / "lines.csv", folder / "repeated.parquet"
    # a child inherits its parent's peak memory, so this process must stay small
    in_a_process(__file__, ["--cell", "prepare", str(folder)], TIMEOUT_SECONDS)
    return [
        ("online_retail_ii", DATA, ["parquet_delta", "habitue", "habitue_again"]),
        ("online_retail_ii csv", text, ["habitue"]),
        ("online_retail_ii x5", repeated, ["parquet_delta", "habitue"]),
    ]


def measured(name: str, file: Path, methods: list[str]) -> list[Row]:
    """The rows of one data set; the methods take turns, so that a busy machine hurts all alike."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
    for _ in range(ROUNDS):
        for method in methods:
            arguments = ["--cell", method, str(file)]
            if figures := in_a_process(__file__, arguments, TIMEOUT_SECONDS):
                runs[method].append(figures)
    commit, machine = harness_commit(*OURS), hardware()
    found = []
    for method, done in runs.items():
        seconds = [run["seconds"] for run in done]
        rows = done[0]["rows"]
        peak = max(run["peak_mb"] for run in done)
        metrics = {
            "seconds": seconds,
            "rows_per_second": [rows / second for second in seconds],
            "cpu_seconds": [run["cpu_seconds"] for run in done],
        }
        if "parquet_delta" in runs and method != "parquet_delta":
            bare = [run["seconds"] for run in runs["parquet_delta"]]
            metrics["ratio_to_parquet_delta"] = [
                ours / theirs for ours, theirs in zip(seconds, bare, strict=True)
            ]
        found += [
            Row(
                data=name, protocol=PROTOCOL, method=method, metric=metric,
                value=statistics.median(values), low=min(values), high=max(values),
                seconds=statistics.median(seconds), peak_mb=peak, commit=commit, hardware=machine,
            )
            for metric, values in metrics.items()
        ]
    return found


def cell(method: str, file: Path) -> dict[str, float]:
    """One run of one method, in this process; `prepare` makes the other files."""
    if method == "prepare":
        csv.write_csv(pq.read_table(DATA), file / "lines.csv")
        duckdb.execute(REPEATED.format(path=file / "repeated.parquet"), [str(DATA), 5])
        return {}
    methods: dict[str, Callable[[Path, Path], float]] = {
        "parquet_delta": bare, "habitue": imported, "habitue_again": imported_again,
    }
    with tempfile.TemporaryDirectory() as folder:
        cpu = time.process_time()
        seconds = methods[method](file, Path(folder) / "lake")
        cpu_seconds = time.process_time() - cpu
    rows = pq.read_metadata(file).num_rows if file.suffix == ".parquet" else _rows_of(DATA)
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "rows": rows, "peak_mb": peak_mb(),
    }


def bare(file: Path, folder: Path) -> float:
    """Seconds to read the file and write it as a Delta table."""
    start = time.perf_counter()
    write_deltalake(folder, pq.read_table(file))
    return time.perf_counter() - start


def imported(file: Path, folder: Path) -> float:
    """Seconds to import the file into an empty lake."""
    lake, mapping = Lake(folder), read_mapping(MAPPING)
    start = time.perf_counter()
    receipt = import_file(file, lake=lake, shop="demo", mapping=mapping, now=NOW)
    assert receipt.rejected == receipt.duplicate == 0, receipt
    return time.perf_counter() - start


def imported_again(file: Path, folder: Path) -> float:
    """Seconds to import a file that the lake holds already."""
    imported(file, folder)
    lake, mapping = Lake(folder), read_mapping(MAPPING)
    start = time.perf_counter()
    receipt = import_file(file, lake=lake, shop="demo", mapping=mapping, now=NOW)
    assert receipt.appended == 0, receipt
    return time.perf_counter() - start


def _rows_of(file: Path) -> int:
    return int(pq.read_metadata(file).num_rows)


if __name__ == "__main__":
    main()
