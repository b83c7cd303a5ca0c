"""How far the totals of weights that never saw a shop are off, at every quarter of its past.

    python -m benchmarks.transfer_levels --data online_retail_ii.parquet --data grocery_elog.parquet

Nothing is trained: the weights are asked at cutoffs a quarter apart, from 120 days on, how many of
a shop's customers (at most 1,000 of those known, drawn at random) order within 90 days, and how
many orders come. An error is the log of what came over what was expected. The intervals of answers
before the first training are as wide as these errors lie.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from benchmarks.transfer import (
    CALIBRATED,
    HORIZON_DAYS,
    UNSEEN,
    WORK,
    ZERO_SHOT,
    held,
    keep_shops,
    never_saw,
    small_shop,
)
from habitue.model.starter import Starter
from habitue.predictions.learn import Learnt
from habitue.predictions.targets import known_customers, outcomes
from habitue.sequences.build import DAY, Sequences, instant, upto
from habitue.transfer.adapt import unadapted, unseen, window_start
from habitue.transfer.shelf import SHELF

FIRST_DAYS, EVERY_DAYS, MOST_CUSTOMERS, LEAST_CUSTOMERS = 120, 91, 1_000, 50


def main() -> None:
    """Every quarter of every shop."""
    options = arguments().parse_args()
    print(__doc__)
    options.work.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(options.results, harness_commit("benchmarks/transfer_levels.py"), hardware())
    for data in keep_shops(options.data, options.simulated, options.work):
        whole, starter = held(options.work, data)[0], never_saw(data, options.shelf)
        for at in cutoffs(whole):
            ledger.put(
                replace(row, commit=ledger.commit, hardware=ledger.machine)
                for row in rows_at(data, whole, at, starter)
            )


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--simulated", type=int, nargs="*", default=UNSEEN)
    parser.add_argument("--shelf", type=Path, action="append", default=[SHELF])
    parser.add_argument("--results", type=Path, default=RESULTS / "transfer_levels.csv")
    parser.add_argument("--work", type=Path, default=WORK)
    return parser


def cutoffs(whole: Sequences) -> Iterator[int]:
    """Instants (µs) a quarter apart, each with a horizon that has passed."""
    at = int(whole.time.min()) + FIRST_DAYS * DAY
    while at + HORIZON_DAYS * DAY <= whole.cutoff:
        yield at
        at += EVERY_DAYS * DAY


def rows_at(data: str, whole: Sequences, at: int, starter: Starter) -> Iterator[Row]:
    """The errors at one cutoff, before and after a closed window was looked at."""
    names = whole.customers[known_customers(whole, at)]
    if len(names) < LEAST_CUSTOMERS:
        return
    rng = np.random.default_rng(at // DAY)
    drawn = rng.choice(names, min(len(names), MOST_CUSTOMERS), replace=False)
    future = small_shop(whole, drawn)
    known = upto(future, at)
    made = {ZERO_SHOT: unseen(starter, known)}
    if window_start(known) is not None:
        made[CALIBRATED] = unadapted(starter, known)
    for method, learnt in made.items():
        for metric, value in errors(learnt, future, at).items():
            yield Row(
                data=f"{data}, {instant(at):%Y-%m-%d}",
                protocol=f"{len(drawn)} customers, {HORIZON_DAYS:g} days, {starter.name}",
                method=method,
                metric=metric,
                value=value,
                seed=0,
            )


def errors(learnt: Learnt, future: Sequences, at: int) -> dict[str, float]:
    """Logs of what came over what was expected; what sampling alone would make of buyers."""
    scores = learnt.scores((HORIZON_DAYS,))
    chance, orders = scores.order(HORIZON_DAYS).value, scores.orders(HORIZON_DAYS).value
    whom = np.searchsorted(future.customers, scores.names)
    came = outcomes(future, whom, at, HORIZON_DAYS)
    return {
        "buyers": float(np.log((came.observed.sum() + 0.5) / (chance.sum() + 0.5))),
        "orders": float(np.log((came.orders.sum() + 0.5) / (orders.sum() + 0.5))),
        "noise": float(np.sqrt((chance * (1 - chance)).sum()) / (chance.sum() + 0.5)),
    }


if __name__ == "__main__":
    main()
