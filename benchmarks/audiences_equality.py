"""Compare audiences kept live with a recomputation, millions of times; count the differences.

    python -m benchmarks.audiences_equality --seeds 40

Each seed is a history of `tests/audiences/equality.py`. It is run once per commit and machine, so
a run that was stopped goes on; a difference names its seed, which tells the same history again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from tests.audiences.equality import CUSTOMERS, EVENTS, Running, kinds_of

OURS = ("habitue/audiences", "habitue/lake/live", "habitue/lake/profiles.py", "tests/audiences",
        "benchmarks/audiences_equality.py")  # fmt: skip
DATA, METHOD = f"{CUSTOMERS} customers, {EVENTS:,} events", "live beside batch"
PROTOCOL = (
    "a random history told piece by piece, late, twice, with keys joined and parted; 12 audiences"
    " of random conditions that become others; after each piece, and when time alone may change"
    " something"
)
COMPARED = ("now", "folded", "earlier")    # memberships


def main() -> int:
    """Run the seeds that are not in the results yet; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--results", type=Path, default=RESULTS / "audiences_equality.csv")
    parser.add_argument("--kinds", action="store_true", help="only count the conditions, by kind")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    if options.kinds:
        for kind, number in kinds_of(seeds).most_common():
            print(f"{number:6,}  {kind}")
        return 0
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    with _bar() as bar:
        task = bar.add_task("seeds", total=len(seeds), told="")
        for seed in seeds:
            if not ledger.has(DATA, METHOD, seed):
                ledger.put(measured(seed, ledger))
            found = [row for row in ledger.rows if row.seed in seeds]
            bar.update(task, advance=1, told=said(found))
    print(said([row for row in ledger.rows if row.seed in seeds]))
    return int(total(ledger.rows, ["differences"]) > 0)


def measured(seed: int, ledger: Ledger) -> list[Row]:
    """The counts of one seed; what differs is told on stderr."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = Running(seed, Path(folder)).run()
    for difference in tally.differences:
        print(f"seed {seed}: {difference}", file=sys.stderr)
    figures = asdict(tally) | {"differences": len(tally.differences)}
    return [
        Row(data=DATA, protocol=PROTOCOL, method=METHOD, metric=metric, value=float(value),
            seed=seed, seconds=time.perf_counter() - start, peak_mb=peak_mb(),
            commit=ledger.commit, hardware=ledger.machine)
        for metric, value in figures.items()
    ]  # fmt: skip


def total(rows: Sequence[Row], metrics: Sequence[str]) -> int:
    """What some metrics add up to."""
    return int(sum(row.value or 0.0 for row in rows if row.metric in metrics))


def said(rows: Sequence[Row]) -> str:
    """The counts in words."""
    seeds = len({row.seed for row in rows})
    return (
        f"{total(rows, COMPARED):,} memberships compared ({total(rows, ['now']):,} live, of"
        f" {seeds} seeds), {total(rows, ['differences'])} differences"
    )


def _bar() -> Progress:
    told = TextColumn("{task.fields[told]}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), told)
    return Progress(*columns, console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
