"""Kill imports and compactions at random instants and count what is lost, doubled or torn.

    python -m benchmarks.crashes

The kills are those of `tests/ingest/test_crash.py`, with another seed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from tests.ingest.killing import ROWS, Kill, killed_compactions, killed_imports, tally

PROTOCOL = f"SIGKILL at a random instant of a phase, reopened, counted, run again; {ROWS} rows each"
Killing = Callable[[Path, int, int], Iterator[Kill]]
OURS = ("habitue/lake", "habitue/ingest", "tests/ingest/killing.py", "benchmarks/crashes.py")


def main() -> None:
    """Run both, write their rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of imports")
    parser.add_argument("--compactions", type=int, default=60, help="kills of compactions")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "crash.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    runs: dict[str, tuple[Killing, int]] = {
        "import": (killed_imports, options.kills),
        "compaction": (killed_compactions, options.compactions),
    }
    for method, (killing, kills) in runs.items():
        ledger.put(measured(method, killing, kills, options.seed, ledger))
    for row in ledger.rows:
        print(f"{row.method:12} {row.metric:20} {row.value:10.0f}")


def measured(
    method: str, killing: Killing, kills: int, seed: int, ledger: Ledger
) -> list[Row]:
    """The counts of so many kills."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counted = tally(list(killing(Path(folder), kills, seed)))
    seconds = time.perf_counter() - start
    figures = {
        "kills": counted.kills,
        **{f"kills_{phase}": number for phase, number in sorted(counted.phases.items())},
        "kills_journalled": counted.journalled,
        "rows_expected": counted.expected,
        "rows_found": counted.found,
        "rows_lost": counted.lost,
        "rows_doubled": counted.doubled,
        "batches_torn": counted.torn,
    }
    return [
        Row(
            data="killed", protocol=PROTOCOL, method=method, metric=metric, value=float(value),
            seed=seed, seconds=seconds, peak_mb=peak_mb(), commit=ledger.commit,
            hardware=ledger.machine,
        )
        for metric, value in figures.items()
    ]  # fmt: skip


if __name__ == "__main__":
    main()
