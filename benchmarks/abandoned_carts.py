"""Kill a service while carts are abandoned; count what is lost or told twice, and how late it is.

    python -m benchmarks.abandoned_carts --kills 20

The shop is that of `tests/serving/crashing/carts.py`: the process, the log, the lake and the clock
are real; a cart is told an hour late, less a second or two, so that its hour is soon over.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from tests.serving.crashing.carts import Carts, Judged

OURS = ("habitue", "tests/serving/crashing/carts.py", "benchmarks/abandoned_carts.py")
PROTOCOL = (
    "`habitue serve` and `habitue deliver FILE`; server, worker and delivery killed at random;"
    " milliseconds from the instant of a change to when it was written, of changes whose instant"
    " is in no break (which ends half a second after the first look that follows a kill)"
)
PROMISED_MS = 100.0
CAUSES = {"time": "entered, its hour over", "event": "left, by an order"}


def main() -> None:
    """Kill, write the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of servers and of workers, in turns")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS / "abandoned_carts.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        judged = Carts(Path(folder), options.seed).run(options.kills)
    for one in judged.wrong:
        print(one, file=sys.stderr)
    seconds = time.perf_counter() - start
    ledger.put(
        Row(data="carts", protocol=PROTOCOL, method="habitue serve", metric=metric, value=value,
            seed=options.seed, seconds=seconds, commit=ledger.commit, hardware=ledger.machine)
        for metric, value in figures(judged).items()
    )  # fmt: skip
    for row in ledger.rows:
        print(f"{row.metric:44} {row.value:10.1f}")


def figures(judged: Judged) -> dict[str, float]:
    """Counts, and how late changes were."""
    found: dict[str, float] = {"customers": judged.customers}
    found |= {f"kills: {who}": number for who, number in sorted(judged.kills.items())}
    found |= {
        "changes expected": judged.expected,
        "changes found": judged.found,
        "lost": judged.lost,
        "told twice or wrongly": judged.doubled,
        "delivered: lost": judged.delivered_lost,
        "delivered: twice": judged.delivered_doubled,
        "out of order": float(not judged.in_order),
        "changes in a break": judged.while_down,
    }
    found["load average"] = os.getloadavg()[0]
    for cause, name in CAUSES.items():
        late = np.array(judged.late_ms[cause])
        found[f"{name}: changes"] = len(late)
        if len(late):
            found |= {f"{name}: p{q}, ms": float(np.percentile(late, q)) for q in (50, 90, 99)}
            found[f"{name}: within {PROMISED_MS:.0f} ms, %"] = 100 * float(
                np.mean(late <= PROMISED_MS)
            )
    return found


if __name__ == "__main__":
    main()
