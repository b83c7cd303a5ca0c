"""Kill a service at every place that it may die at, while clients send; count what is left.

    python -m benchmarks.crash_service --kills 250

The kills are those of `tests/serving/test_crash.py`, with another seed.
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from tests.serving.crashing.counting import tally
from tests.serving.crashing.killing import Crashing

OURS = ("habitue", "tests/serving/crashing", "benchmarks/crash_service.py")
PROTOCOL = (
    "SIGKILL of server or worker at a fault point or at random while four clients send; then all"
    " settled, and counted in the lake's files"
)


def main() -> None:
    """Kill, write the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "crash_service.csv")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        crashing = Crashing(Path(folder), options.seed)
        crashing.run(options.kills)
        counted = asdict(tally(crashing))
    seconds, places = time.perf_counter() - start, counted.pop("kills")
    figures = {"kills": sum(places.values())}
    figures |= {f"kills: {place}": number for place, number in places.items()}
    ledger.put(
        Row(
            data="killed", protocol=PROTOCOL, method="service", metric=metric, value=float(value),
            seed=options.seed, seconds=seconds, peak_mb=peak_mb(), commit=ledger.commit,
            hardware=ledger.machine,
        )
        for metric, value in (figures | counted).items()
    )  # fmt: skip
    for row in ledger.rows:
        print(f"{row.metric:40} {row.value:10.0f}")


if __name__ == "__main__":
    main()
