"""Ten minutes of everything at once: two shops, reads and events, kills; is all of it right?

    python -m benchmarks.mixed_load --minutes 10

The load is that of `tests/serving/mixed/loaded.py`: eight clients, a fifth of requests events, the
rest reads, each answer looked at. First as many as go, for half a minute; then at four fifths of
that. In the first half of it server, `follow` and `score` are killed in turns; the second is left
alone, and tells whether memory grows.
"""

import argparse
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from tests.serving.mixed.loaded import Loaded, Outcome, flat

OURS = ("habitue", "tests/serving/mixed", "benchmarks/mixed_load.py")
SATURATING_SECONDS = 30.0
SHARE = 0.8                                # of what goes at most
KILLS = 9
SETTLED = 0.6                              # of the time, after which memory is looked at
PROTOCOL = (
    "two shops of {customers} customers each, clients on the same two cores; server, follow and"
    " score killed in turns in the first half"
)


def main() -> None:
    """Load, write the rows and print them; fail where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--customers", type=int, default=1_000, help="of each shop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "mixed_load.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "work"
        with closing(Loaded(place, seed=options.seed, customers=options.customers)) as loaded:
            loaded.fill()
            most = loaded.run(min(SATURATING_SECONDS, seconds / 4), rate=0.0)
            rate = sum(most.seen.answers.values()) / min(SATURATING_SECONDS, seconds / 4)
            outcome = loaded.run(seconds, rate=SHARE * rate, kills=_kills(seconds))
    wrong = most.seen.wrong + outcome.seen.wrong
    figures = {"most requests/s": rate} | _figures(outcome, seconds) | {"wrong": float(len(wrong))}
    protocol = PROTOCOL.format(customers=f"{options.customers:,}")
    ledger.put(
        Row(data="two shops", protocol=protocol, method=f"{options.minutes:g} minutes at"
            f" {SHARE:.0%}", metric=metric, value=value, seed=options.seed, seconds=seconds,
            commit=ledger.commit, hardware=ledger.machine)
        for metric, value in figures.items()
    )  # fmt: skip
    for metric, value in figures.items():
        print(f"{metric:36} {value:12,.1f}")
    for one in wrong[:20]:
        print(one, file=sys.stderr)
    if wrong or outcome.lost or outcome.doubled:
        sys.exit("something is wrong")


def _kills(seconds: float) -> dict[float, str]:
    """Who is killed when, in the first half."""
    who = ("server", "follow", "score")
    return {seconds / 2 * (n + 1) / (KILLS + 1): who[n % len(who)] for n in range(KILLS)}


def _figures(outcome: Outcome, seconds: float) -> dict[str, float]:
    seen = outcome.seen
    figures = {
        "requests/s": sum(seen.answers.values()) / seconds,
        "answers": float(sum(seen.answers.values())),
        "events acknowledged": float(len(seen.acknowledged)),
        "events lost": float(outcome.lost),
        "events stored twice": float(outcome.doubled),
        "kills": float(sum(outcome.kills.values())),
        "requests cut by a kill, asked again": float(seen.cut),
        "requests told to wait": float(sum(seen.refused.values())),
    }
    for kind, took in sorted(seen.seconds.items()):
        for share in (50, 99):
            figures[f"{kind} p{share} ms, kills included"] = 1e3 * float(np.percentile(took, share))
    for name, samples in sorted(outcome.memory.items()):
        first, last = flat(samples, SETTLED * seconds)
        figures |= {f"{name} MB": first, f"{name} MB, at the end": last}
    return figures


if __name__ == "__main__":
    main()
