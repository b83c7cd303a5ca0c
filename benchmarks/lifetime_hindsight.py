"""What there is to know: models that learn from the answers themselves, on the same customers.

    python -m benchmarks.lifetime_hindsight --data cdnow_sample.parquet

No forecast: one tenth of the customers after the other is answered by what was learnt from the
answers of the other nine (ten folds, drawn twice, the mean of both). Such a model knows how much
was bought after the cutoff and what the past of those who bought looked like, which no forecast can
know. They look at the aggregates, at what the purchase models and ours forecast (`habitue`,
seed 0), or at both. A target that none of these reaches asks for more than the past of these
customers, told so, holds. Nothing is chosen by it. A cell is (data, method).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
from sklearn.linear_model import (
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    TweedieRegressor,
)

from benchmarks.lifetime_value import METHODS as FORECASTS
from benchmarks.lifetime_value import judged
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from benchmarks.shops import sequences_of, source_of
from habitue.predictions.baselines import Forecast
from habitue.predictions.rows import Asked
from habitue.predictions.targets import Outcomes, known_customers, outcomes
from habitue.predictions.trees import SHARED
from habitue.sequences.aggregates import aggregates
from habitue.sequences.build import Sequences, microseconds

# C customers · F features
FOLDS, DRAWS = 10, 2
STRENGTHS = (0.3, 0.03, 0.003)             # of the pull of weights towards 0, per row
ROUNDS = (60, 150, 400)
LOOKS = ("aggregates", "forecasts", "both")
TOLD = (
    "order.auc", "order.brier", "orders.mae", "orders.rmse", "orders.bias", "orders.ngini",
    "revenue.ngini", "next_order.c_index", "next_order.mae_weeks",
)  # fmt: skip
CELL_SECONDS = 3_600.0
CODE = ("benchmarks/lifetime_hindsight.py",)
Learn = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of everybody at the cutoff, and what followed."""

    customers: np.ndarray                  # (C,) names
    looks: dict[str, np.ndarray]           # (C, F)
    truth: Outcomes


def linear(objective: str) -> Learn:
    """Generalised linear models over standardised features."""

    def learn(known: np.ndarray, asked: np.ndarray, answer: np.ndarray, dial: float) -> np.ndarray:
        mean, spread = known.mean(axis=0), known.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        ours, theirs = (np.clip((each - mean) / spread, -5, 5) for each in (known, asked))
        solver = {"alpha": dial, "solver": "newton-cholesky", "max_iter": 200}
        if objective == "binary":
            chance = LogisticRegression(C=1 / (dial * len(answer)), solver="newton-cholesky")
            return np.asarray(chance.fit(ours, answer).predict_proba(theirs)[:, 1])
        model = {
            "poisson": lambda: PoissonRegressor(**solver),
            "tweedie": lambda: TweedieRegressor(power=1.5, link="log", **solver),
            "quantile": lambda: QuantileRegressor(quantile=0.5, alpha=dial / 10, solver="highs"),
        }[objective]()
        return np.asarray(model.fit(ours, answer).predict(theirs))

    return learn


def trees(objective: str) -> Learn:
    """Small boosted trees."""

    def learn(known: np.ndarray, asked: np.ndarray, answer: np.ndarray, dial: float) -> np.ndarray:
        settings = SHARED | {"objective": objective, "num_leaves": 7, "learning_rate": 0.03}
        settings |= {"seed": 0, "num_threads": 1, "alpha": 0.5}
        grown = lightgbm.train(settings, lightgbm.Dataset(known, answer), int(dial))
        return np.asarray(grown.predict(asked))

    return learn


LEARNERS = {"linear": (linear, STRENGTHS), "trees": (trees, ROUNDS)}
METHODS = tuple(
    f"{learner}, {looks}, {dial:g}"
    for learner, (_, dials) in LEARNERS.items()
    for looks in LOOKS
    for dial in dials
)


def main() -> None:
    """Run what is missing, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "lifetime_hindsight.csv")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        begun = time.perf_counter()
        rows = list(cell(options.data))
        seconds = time.perf_counter() - begun
        print(json.dumps({"rows": rows, "seconds": seconds, "peak_mb": peak_mb()}))
        return
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    if not ledger.has(options.data.stem, METHODS[-1], 0):
        told = in_a_process(__file__, ["--data", str(options.data), "--cell", "all"], CELL_SECONDS)
        ledger.put(
            replace(
                row, seconds=told["seconds"], peak_mb=told["peak_mb"],
                commit=ledger.commit, hardware=ledger.machine,
            )
            for row in msgspec.convert(told.get("rows", []), list[Row])
        )  # fmt: skip
    for row in ledger.rows:
        print(f"{row.protocol:32} {row.method:28} {row.metric:22} {row.value}")
    if options.json:
        ledger.write_json(options.json)


def cell(path: Path) -> Iterator[dict[str, object]]:
    """Every method on the first cutoff and horizon of a file."""
    source = source_of(path)
    cutoff, days = source.cutoffs[0], source.horizons_days[0]
    known = known_at(sequences_of(path), microseconds(cutoff), days)
    for method in METHODS:
        learner, looks, dial = method.split(", ")
        found = answers(known, looks, LEARNERS[learner][0], float(dial))
        asked = Asked(path.stem, cutoff.isoformat(), days, method)
        for row in judged(asked, found, known.truth, source.has_values, 0):
            if row.metric in TOLD:
                yield asdict(replace(row, protocol=f"{row.protocol}, in hindsight"))


def known_at(sequences: Sequences, at: int, days: float) -> Known:
    """What the methods look at, and what they are asked for."""
    customers = known_customers(sequences, at)
    names = ("bg_nbd", "mbg_nbd", "pareto_nbd", "habitue")
    told = [FORECASTS[name](sequences, at, (days,), 0)[0] for name in names]
    forecasts = np.stack(
        [column for each in told for column in (each.probability, each.orders, each.revenue)],
        axis=1,
    )
    known = aggregates(sequences, customers, np.full(len(customers), at)).astype(np.float64)
    forecasts = np.log(np.maximum(forecasts, 1e-9))
    return Known(
        customers=sequences.customers[customers],
        looks={
            "aggregates": known,
            "forecasts": forecasts,
            "both": np.concatenate([known, forecasts], axis=1),
        },
        truth=outcomes(sequences, customers, at, days),
    )


def answers(known: Known, looks: str, learner: Callable[[str], Learn], dial: float) -> Forecast:
    """Everybody by what was learnt from others."""
    truth, features = known.truth, known.looks[looks]
    everybody, unit = np.ones(len(features), dtype=bool), float(truth.revenue.mean())
    questions = (
        ("binary", truth.observed.astype(np.float64), everybody),
        ("poisson", truth.orders, everybody),
        ("tweedie", truth.revenue / unit, everybody),
        ("quantile", truth.days, truth.observed),
    )
    chance, orders, revenue, days = (
        across(features, answer, learnt, learner(objective), dial)
        for objective, answer, learnt in questions
    )
    return Forecast(
        customers=known.customers,
        probability=np.clip(chance, 0, 1),
        orders=orders,
        revenue=revenue * unit,
        next_order_days=np.stack([days] * 3, axis=1),
    )


def across(
    features: np.ndarray, answer: np.ndarray, learnt: np.ndarray, learn: Learn, dial: float
) -> np.ndarray:
    """(C,) each fold by the others, of which only some are learnt from (C,); the mean of draws."""
    found = np.zeros(len(features))
    for draw in range(DRAWS):
        fold = np.random.default_rng(draw).permutation(len(features)) % FOLDS
        for number in range(FOLDS):
            others, asked = (fold != number) & learnt, fold == number
            found[asked] += learn(features[others], features[asked], answer[others], dial) / DRAWS
    return found


if __name__ == "__main__":
    main()
