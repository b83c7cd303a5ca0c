"""Who orders again, how often, for how much and when: every method on the same held-out future.

    python benchmarks/lifetime_value.py --data cdnow_sample.parquet --data online_retail_ii.parquet

A file is recognised by its columns (see shops.py). A cell is (data, method, seed): it forecasts
every cutoff and horizon of its file in a process of its own, sees nothing after a cutoff, and is
not run again while harness and machine stay the same. Customers: those with an order by the cutoff.
Truth: orders in (cutoff, cutoff + horizon] that were not cancelled. Intervals: 5th and 95th
percentile over customers drawn with replacement.
"""

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from itertools import product
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.lifetime_anchors import ANCHORS, TARGETS
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from benchmarks.shops import Source, sequences_of, source_of
from habitue.config import nano
from habitue.predictions.baselines import CLASSICAL, Forecast
from habitue.predictions.learn import Learnt, learn
from habitue.predictions.metrics import absolute_bias, paired_difference
from habitue.predictions.rows import (
    COUNT_METRICS,
    ORDER_METRICS,
    Asked,
    rows_for_counts,
    rows_for_next_order,
    rows_for_order,
)
from habitue.predictions.targets import Outcomes, known_customers, outcomes
from habitue.predictions.trees import BoostedTrees
from habitue.sequences.build import DAY, Sequences, microseconds, upto
from habitue.transfer.adapt import adapt, starter_for
from habitue.transfer.levels import Training

Method = Callable[[Sequences, int, tuple[float, ...], int], list[Forecast]]
CELL_SECONDS = 3_600.0
WORK = Path(tempfile.gettempdir()) / "habitue_lifetime_value"
# the harness and the rivals; a change of our own model asks for --again
CODE = (
    "benchmarks/lifetime_value.py",
    "benchmarks/shops.py",
    *(f"habitue/predictions/{name}.py" for name in ("baselines", "metrics", "targets", "trees")),
    *(f"habitue/sequences/{name}.py" for name in ("aggregates", "classical", "classical_fit")),
)


def classical(index: int) -> Method:
    """One of the buy-till-you-die models with Gamma-Gamma values."""

    def forecast(
        sequences: Sequences, cutoff: int, horizons_days: tuple[float, ...], seed: int
    ) -> list[Forecast]:
        fitted = CLASSICAL[index].fit(sequences, cutoff)
        return [fitted.predict(days) for days in horizons_days]

    return forecast


def lightgbm(
    sequences: Sequences, cutoff: int, horizons_days: tuple[float, ...], seed: int
) -> list[Forecast]:
    """Boosted trees on aggregates."""
    fitted = BoostedTrees(seed=seed).fit(sequences, cutoff)
    return [fitted.predict(days) for days in horizons_days]


def habitue(
    sequences: Sequences, cutoff: int, horizons_days: tuple[float, ...], seed: int
) -> list[Forecast]:
    """What `habitue train` publishes, preset `nano`: weights that ship compete with a training."""
    training = Training(config=replace(nano(), seed=seed))
    return _forecasts(adapt(_past(sequences, cutoff), training).learnt, horizons_days)


def from_nothing(
    sequences: Sequences, cutoff: int, horizons_days: tuple[float, ...], seed: int
) -> list[Forecast]:
    """Our model trained on this shop alone, preset `nano`."""
    return _forecasts(learn(_past(sequences, cutoff), replace(nano(), seed=seed)), horizons_days)


def starter(
    sequences: Sequences, cutoff: int, horizons_days: tuple[float, ...], seed: int
) -> list[Forecast]:
    """Weights that ship and never saw the shop, as they are: the first minute."""
    return _forecasts(starter_for(_past(sequences, cutoff))[1], horizons_days)


def _past(sequences: Sequences, cutoff: int) -> Sequences:
    past = upto(sequences, cutoff)
    # titles may have been corrected after the cutoff, so none are read
    return replace(past, titles=np.full(len(past.items), "", dtype=object))


def _forecasts(learnt: Learnt, horizons_days: tuple[float, ...]) -> list[Forecast]:
    scores = learnt.scores(horizons_days)
    return [scores.predict(days) for days in horizons_days]


# fit once at a cutoff, forecast every horizon; what follows the cutoff may not be looked at
METHODS: Mapping[str, Method] = {
    **{predictor.name: classical(index) for index, predictor in enumerate(CLASSICAL)},
    "lightgbm": lightgbm,
    "habitue": habitue,
    "from_nothing": from_nothing,
    "starter": starter,
}
OURS = ("habitue", "from_nothing", "starter")
RANDOM = frozenset({"lightgbm", "habitue", "from_nothing"})      # run with every seed

def main() -> None:
    """Run the cells that are missing, and print everything beside its anchors and targets."""
    options = arguments().parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell, options.seed[0], options.data[0], options.work)))
        return
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    options.work.mkdir(parents=True, exist_ok=True)
    for path in options.data:
        print(f"{path.stem}: {source_of(path).protocol}")
        with shop_file(options.work, path).open("wb") as file:
            pickle.dump(sequences_of(path), file)
        for method, seed in product(options.method or METHODS, options.seed):
            wanted = method in RANDOM or seed == options.seed[0]
            if wanted and (options.again or not ledger.has(path.stem, method, seed)):
                run(ledger, method, seed, path, options.work)
        ledger.put(compared(ledger, path, options.work, options.seed))
        print_rows(ledger.rows, path.stem)
        if source_of(path).name == "cdnow":
            print_anchors(ledger.rows, path.stem)
            print_targets(ledger.rows, path.stem)
    if options.json:
        ledger.write_json(options.json)


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--method", nargs="+", choices=tuple(METHODS))
    parser.add_argument("--again", action="store_true", help="run cells that have their rows")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "lifetime_value.csv")
    parser.add_argument(
        "--work", type=Path, default=WORK, help="where shops and forecasts are kept between runs"
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser


def run(ledger: Ledger, method: str, seed: int, path: Path, work: Path) -> None:
    """One cell, in a process of its own, into the ledger."""
    inside = ["--data", str(path), "--work", str(work), "--seed", str(seed), "--cell", method]
    told = in_a_process(__file__, inside, CELL_SECONDS)
    if told:
        ledger.put(
            replace(
                row, seconds=told["seconds"], peak_mb=told["peak_mb"],
                commit=ledger.commit, hardware=ledger.machine,
            )
            for row in msgspec.convert(told["rows"], list[Row])
        )  # fmt: skip


def cell(method: str, seed: int, path: Path, work: Path) -> dict[str, object]:
    """Forecast every cutoff and horizon of a file, keep the forecasts, and judge them."""
    sequences: Sequences = pickle.loads(shop_file(work, path).read_bytes())
    source, rows, seconds = source_of(path), [], 0.0
    for cutoff in source.cutoffs:
        at, horizons = microseconds(cutoff), passed(source, cutoff, sequences)
        start = time.perf_counter()
        forecasts = METHODS[method](sequences, at, horizons, seed)
        seconds += time.perf_counter() - start
        for days, forecast in zip(horizons, forecasts, strict=True):
            file = forecast_file(work, path, cutoff, days, method, seed)
            file.write_bytes(pickle.dumps(forecast))
            truth = outcomes(sequences, known_customers(sequences, at), at, days)
            assert len(truth.orders) == len(forecast.customers), "everyone known is forecast"
            asked = Asked(path.stem, cutoff.isoformat(), days, method)
            rows += judged(asked, forecast, truth, source.has_values, seed)
    told = [asdict(row) for row in rows]
    return {"rows": told, "seconds": seconds, "peak_mb": peak_mb()}


def judged(
    asked: Asked, forecast: Forecast, truth: Outcomes, has_values: bool, seed: int
) -> list[Row]:
    """Every metric of one forecast."""
    rng = np.random.default_rng(seed)
    lateness = {"c_index": -forecast.orders, "mae_weeks": forecast.next_order_days[:, 1]}
    flat = [
        *rows_for_order(asked, truth.observed, forecast.probability, rng),
        *rows_for_counts(asked, "orders", truth.orders, forecast.orders, rng),
        *rows_for_next_order(asked, truth.days, truth.observed, lateness, rng),
    ]
    if has_values:
        flat += rows_for_counts(asked, "revenue", truth.revenue, forecast.revenue, rng)
    return [
        Row(
            data=row["shop"],
            protocol=protocol(row["cutoff"], row["horizon_days"], forecast.extrapolated),
            method=row["method"],
            metric=f"{row['question']}.{row['metric']}",
            value=row["value"],
            low=row["low"],
            high=row["high"],
            seed=seed,
        )
        for row in flat
    ]


def compared(ledger: Ledger, path: Path, work: Path, seeds: list[int]) -> list[Row]:
    """Our forecast less each rival's, customer by customer: an interval around 0 is a tie."""
    source, rows = source_of(path), []
    sequences: Sequences = pickle.loads(shop_file(work, path).read_bytes())
    for cutoff, rival in product(source.cutoffs, [name for name in METHODS if name not in OURS]):
        at = microseconds(cutoff)
        customers = known_customers(sequences, at)
        for days in passed(source, cutoff, sequences):
            names = ("habitue", rival)
            files = [forecast_file(work, path, cutoff, days, name, seeds[0]) for name in names]
            if not all(file.exists() for file in files):
                continue
            ours, theirs = (pickle.loads(file.read_bytes()) for file in files)
            found = differences(ours, theirs, outcomes(sequences, customers, at, days))
            where = protocol(cutoff.isoformat(), days, ours.extrapolated)
            rows += [
                Row(
                    data=path.stem, protocol=where, method=f"habitue - {rival}", metric=metric,
                    value=value, low=low, high=high, seed=seeds[0], commit=ledger.commit,
                    hardware=ledger.machine,
                )
                for metric, (value, low, high) in found.items()
            ]  # fmt: skip
    return rows


def differences(
    ours: Forecast, theirs: Forecast, truth: Outcomes
) -> dict[str, tuple[float, float, float]]:
    """Paired differences of the metrics that say which forecast is better."""
    rng = np.random.default_rng(0)
    happened = truth.observed.astype(np.float64)
    order = {name: ORDER_METRICS[name] for name in ("auc", "brier", "ece")}
    counts = {"abs_bias": absolute_bias} | {
        name: COUNT_METRICS[name] for name in ("mae", "rmse", "ngini")
    }
    questions = {
        "order": (order, happened, ours.probability, theirs.probability),
        "orders": (counts, truth.orders, ours.orders, theirs.orders),
        "revenue": (counts, truth.revenue, ours.revenue, theirs.revenue),
    }
    return {
        f"{question}.{name}": paired_difference(metric, actual, one, other, rng)
        for question, (metrics, actual, one, other) in questions.items()
        for name, metric in metrics.items()
    }


def print_rows(rows: Iterable[Row], data: str) -> None:
    """One line a metric: protocol, metric, then each method's mean over seeds."""
    table: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row.data == data and row.value is not None:
            at = table.setdefault((row.protocol, row.metric), {})
            at.setdefault(row.method, []).append(row.value)
    for (where, metric), methods in sorted(table.items()):
        told = "  ".join(f"{name} {np.mean(values):.4f}" for name, values in methods.items())
        print(f"{where:44} {metric:24} {told}")


def print_anchors(rows: Iterable[Row], data: str) -> None:
    """The published figures beside ours, and whether they agree."""
    print("\nanchors")
    for (days, method, metric), (wanted, tolerance) in ANCHORS.items():
        values = mean_of(rows, data, days, method, metric)
        agrees = values is not None and abs(values - wanted) <= tolerance
        print(f"{days:5g} days {method:12} {metric:22} {wanted:8.4f} {values or np.nan:8.4f} "
              f"{'agrees' if agrees else 'DIFFERS'}")  # fmt: skip


def print_targets(rows: Iterable[Row], data: str) -> None:
    """What is aimed at, beside every method: wins and losses alike."""
    print("\ntargets")
    for days, metric, sense, wanted in TARGETS:
        found = {name: mean_of(rows, data, days, name, metric) for name in METHODS}
        told = "  ".join(
            f"{name} {value:.4f}{'*' if (value <= wanted) == (sense == '<=') else ''}"
            for name, value in found.items()
            if value is not None
        )
        print(f"{days:5g} days {metric:22} {sense} {wanted:<8g} {told}")
    print("* reaches the target")


def mean_of(
    rows: Iterable[Row], data: str, days: float, method: str, metric: str
) -> float | None:
    """The mean over seeds of one figure; None where there is none."""
    values = [
        row.value
        for row in rows
        if (row.data, row.method, row.metric) == (data, method, metric)
        and f" + {days:g} days" in row.protocol
        and row.value is not None
    ]
    return float(np.mean(values)) if values else None


def passed(source: Source, cutoff: datetime, sequences: Sequences) -> tuple[float, ...]:
    """The horizons that had passed when the file ends."""
    at = microseconds(cutoff)
    return tuple(days for days in source.horizons_days if at + days * DAY <= sequences.cutoff)


def protocol(cutoff: str, horizon_days: float, extrapolated: bool) -> str:
    """What a row was asked, in words."""
    note = ", extrapolated" if extrapolated else ""
    return f"{cutoff[:10]} + {horizon_days:g} days{note}"


def shop_file(work: Path, path: Path) -> Path:
    """Where a shop is kept for the cells."""
    return work / f"{path.stem}.pickle"


def forecast_file(
    work: Path, path: Path, cutoff: datetime, days: float, method: str, seed: int
) -> Path:
    """Where a forecast is kept for comparisons."""
    return work / f"{path.stem}-{cutoff:%Y%m%d}-{days:g}-{method}-{seed}.pickle"


if __name__ == "__main__":
    main()
