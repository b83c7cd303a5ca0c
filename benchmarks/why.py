"""How long an explanation takes, how much of it is left unshared, and how far a budget is off.

    python -m benchmarks.why --data online_retail_ii.parquet

Churn over 90 days at the file's first cutoff, preset `nano`; customers evenly spread over those
known, by number of events. Beside them: one plain scoring of the same customer, the limit below
which nothing can be explained by scoring again. Exact: with a budget of --exact-seconds.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from benchmarks.shops import sequences_of, source_of
from habitue.config import nano
from habitue.model.embed import read
from habitue.predictions.explain.again import Scorer
from habitue.predictions.explain.why import Ask, Explanation, explain
from habitue.predictions.learn import learn
from habitue.sequences.build import microseconds, upto

CODE = ("benchmarks/why.py", *(f"habitue/predictions/explain/{n}.py" for n in ("again", "shares")))
DAYS = 90.0


def main() -> None:
    """Train once, explain many, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--customers", type=int, default=40)
    parser.add_argument("--exact-seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "why.csv")
    options = parser.parse_args()
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    begun = time.perf_counter()
    cutoff = source_of(options.data).cutoffs[0]
    past = upto(sequences_of(options.data), microseconds(cutoff))
    learnt = learn(past, replace(nano(), seed=options.seed))
    scorer = Scorer(learnt.trained.model, learnt.trained.corpus, learnt.scores((DAYS,)))
    chosen = spread(scorer, options.customers)
    ask = Ask(question="churn", horizon_days=DAYS)
    explain(scorer, chosen[0], ask)        # nothing is timed cold
    quick = [explain(scorer, row, ask) for row in chosen]
    plain = [seconds_of_plain(scorer, row) for row in chosen[:10]]
    longer = replace(ask, budget_seconds=options.exact_seconds)
    whole = [explain(scorer, row, longer) for row in chosen[:: max(len(chosen) // 10, 1)]]
    found = measured(quick, plain) | compared(quick, whole)
    seconds = time.perf_counter() - begun
    ledger.put(
        Row(
            data=options.data.stem, protocol=f"churn, {cutoff:%Y-%m-%d} + {DAYS:g} days, nano",
            method="shapley over factors, 500 ms", metric=name, value=value, seed=options.seed,
            seconds=seconds, peak_mb=peak_mb(), commit=ledger.commit, hardware=ledger.machine,
        )
        for name, value in found.items()
    )  # fmt: skip
    for name, value in found.items():
        print(f"{name:40} {value:.5g}")
    if options.json:
        ledger.write_json(options.json)


def spread(scorer: Scorer, count: int) -> list[int]:
    """Rows of customers with few events to many."""
    sizes = np.diff(scorer.corpus.sequences.offsets)[scorer.scores.customer]
    order = np.argsort(sizes, kind="stable")
    return [int(row) for row in order[np.linspace(0, len(order) - 1, count).astype(int)]]


def seconds_of_plain(scorer: Scorer, row: int) -> float:
    """Reading one customer alone, from tokens to hazards."""
    customer = scorer.scores.customer[row : row + 1]
    begun = time.perf_counter()
    read(
        scorer.model, scorer.corpus, customer, scorer.scores.anchor[row : row + 1],
        horizons_days=(DAYS,),
    )  # fmt: skip
    return time.perf_counter() - begun


def measured(quick: Sequence[Explanation], plain: Sequence[float]) -> dict[str, float]:
    """What an explanation costs, and what it leaves unsaid."""
    seconds = np.array([one.seconds for one in quick])
    return {
        "seconds_p50": float(np.quantile(seconds, 0.5)),
        "seconds_p99": float(np.quantile(seconds, 0.99)),
        "seconds_plain_scoring_p50": float(np.median(plain)),
        "factors_p50": float(np.median([len(one.factors) for one in quick])),
        "coalitions_p50": float(np.median([one.coalitions for one in quick])),
        "exact_share": float(np.mean([one.exact for one in quick])),
        "unshared_effect_max": max(abs(one.unshared_effect) for one in quick),
        "unshared_effect_max_where_exact": max(
            (abs(one.unshared_effect) for one in quick if one.exact), default=float("nan")
        ),
    }


def compared(quick: Sequence[Explanation], whole: Sequence[Explanation]) -> dict[str, float]:
    """Effects within the budget beside exact ones, over customers whose exact ones are known."""
    told = {one.customer: {f.words: f.effect for f in one.factors} for one in quick}
    apart, ranks = [], []
    for one in whole:
        if one.exact and len(one.factors) > 2:
            exact = np.array([factor.effect for factor in one.factors])
            near = np.array([told[one.customer][factor.words] for factor in one.factors])
            apart.append(float(np.abs(exact - near).max()))
            ranks.append(float(spearmanr(exact, near).statistic))
    seconds = [one.seconds for one in whole if one.exact]
    return {
        "exact_seconds_p50": float(np.median(seconds or [np.nan])),
        "customers_compared": float(len(apart)),
        "effect_apart_median": float(np.median(apart)) if apart else float("nan"),
        "rank_correlation_median": float(np.median(ranks)) if ranks else float("nan"),
    }


if __name__ == "__main__":
    main()
