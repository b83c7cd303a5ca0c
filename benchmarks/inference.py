"""Answers on a processor: how many a second, how soon one, and what eight bits would change.

    python -m benchmarks.inference --data online_retail_ii.parquet

A model of each preset is trained up to the file's first cutoff and asked what comes in the 90 days
after it, before any calibration, so that sizes are compared at the same data. `batch`: everyone
known, from tokens to answers. `one`: a customer alone, drawn evenly from few events to many, from
her events to hazards, counts and spend; with it, her ten best items. `int8`: torch's dynamic
quantisation of every linear layer, weights by tensor. One thread.
"""

import argparse
import copy
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from benchmarks.shops import sequences_of, source_of
from habitue.config import TrainConfig, base, demo, limit_threads, nano
from habitue.model.backbone import Model
from habitue.model.embed import embed, item_scores, read
from habitue.predictions import metrics
from habitue.predictions.calibrate import Calibration
from habitue.predictions.learn import Trained, train_model
from habitue.predictions.score import score
from habitue.predictions.scores.answers import Scores
from habitue.predictions.targets import known_customers, outcomes
from habitue.sequences.build import Sequences, microseconds, upto

CODE = ("benchmarks/inference.py",)
PRESETS: dict[str, Callable[[], TrainConfig]] = {"nano": nano, "demo": demo, "base": base}
DAYS = 90.0
ALONE, REPEATS = 300, 3
CELL_SECONDS = 7_200.0
Figures = dict[str, float]


def main() -> None:
    """Run the presets that are missing, and print every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", nargs="+", choices=tuple(PRESETS), default=list(PRESETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "inference.csv")
    parser.add_argument("--cell", choices=tuple(PRESETS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(1)
    if options.cell:
        print(json.dumps(cell(options.cell, options.data, options.seed)))
        return
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    for preset in options.preset:
        if ledger.has(options.data.stem, preset, options.seed):
            continue
        inside = ["--data", str(options.data), "--seed", str(options.seed), "--cell", preset]
        told = in_a_process(__file__, inside, CELL_SECONDS)
        seconds, peak = told.pop("seconds", None), told.pop("peak_mb", None)
        ledger.put(
            Row(
                data=options.data.stem, protocol=f"{DAYS:g} days after the first cutoff, 1 thread",
                method=preset, metric=name, value=value, seed=options.seed, seconds=seconds,
                peak_mb=peak, commit=ledger.commit, hardware=ledger.machine,
            )
            for name, value in told.items()
        )  # fmt: skip
    for row in ledger.rows:
        print(f"{row.method:6} {row.metric:36} {row.value:12.5g}")
    if options.json:
        ledger.write_json(options.json)


def cell(preset: str, data: Path, seed: int) -> dict[str, float]:
    """Every figure of one preset."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    whole = sequences_of(data)
    past = upto(whole, microseconds(source_of(data).cutoffs[0]))
    cost = time.process_time()
    trained = train_model(past, replace(PRESETS[preset](), seed=seed), "training")
    figures: Figures = {"train_cpu_seconds": time.process_time() - cost}
    figures["parameters"] = float(sum(p.numel() for p in trained.model.parameters()))
    quantised = replace(trained, model=in_eight_bits(trained.model))
    for name, one in (("float32", trained), ("int8", quantised)):
        scores = scored(one)
        told = quality(scores, whole, one.cutoff)
        figures |= {f"{name}.{key}": value for key, value in told.items()}
        figures[f"{name}.batch_customers_per_second"] = max(
            len(scores.names) / seconds_of(partial(scored, one)) for _ in range(REPEATS)
        )
        figures |= {f"{name}.{key}": value for key, value in alone(one, scores).items()}
    return {**figures, "seconds": time.perf_counter() - begun, "peak_mb": peak_mb()}


def in_eight_bits(model: Model) -> Model:
    """A copy whose linear layers multiply in eight bits."""
    with warnings.catch_warnings():
        # torch hands its quantisation over to another package, and says so
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8
        )


def scored(trained: Trained) -> Scores:
    """Everyone's answers, uncalibrated."""
    return score(
        trained.model, trained.corpus, Calibration(), cutoff=trained.cutoff, horizons_days=(DAYS,)
    )


def quality(scores: Scores, whole: Sequences, cutoff: int) -> Figures:
    """How good the answers are, by what came after the cutoff (µs)."""
    came = outcomes(whole, known_customers(whole, cutoff), cutoff, DAYS)
    happened, said = came.observed.astype(np.float64), scores.order(DAYS).value
    return {
        "auc": metrics.auc(happened, said),
        "brier": metrics.brier(happened, said),
        "ece": metrics.calibration_error(happened, said),
        "orders_rmse": float(np.sqrt(np.mean((scores.orders(DAYS).value - came.orders) ** 2))),
    }


def alone(trained: Trained, scores: Scores) -> Figures:
    """Milliseconds for one customer at a time."""
    corpus, model = trained.corpus, trained.model
    sizes = np.diff(corpus.sequences.offsets)[scores.customer]
    order = np.argsort(sizes, kind="stable")
    drawn = order[np.linspace(0, len(order) - 1, ALONE).astype(int)]

    def answered(row: int) -> None:
        who, at = scores.customer[row : row + 1], scores.anchor[row : row + 1]
        read(model, corpus, who, at, horizons_days=(DAYS,))

    def listed(row: int) -> None:
        who, at = scores.customer[row : row + 1], scores.anchor[row : row + 1]
        np.argpartition(-item_scores(model, embed(model, corpus, who, at))[0], 10)

    found: Figures = {}
    for name, work in (("one", answered), ("ten_items", listed)):
        work(0)                            # nothing is timed cold
        values = [1_000 * seconds_of(partial(work, int(row))) for row in drawn]
        for share in (50, 99):
            found[f"{name}_ms_p{share}"] = float(np.quantile(values, share / 100))
    return found


def seconds_of(work: Callable[[], object]) -> float:
    """How long it took."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
