"""How fast the model trains and scores, as a share of what this machine multiplies.

    python benchmarks/training_speed.py

Every preset trains for a few steps on Online Retail II and scores everyone, in a process of its
own that also measures the machine's matrix multiplications, before and after, with as many
threads. Arithmetic counts real tokens only: what padding costs shows as a smaller share.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.config import TrainConfig, demo, limit_threads, nano

if TYPE_CHECKING:
    from habitue.model.backbone import Model
    from habitue.model.train import Step
    from habitue.predictions.learn import Trained
    from habitue.sequences.batch import Batch
    from habitue.sequences.build import Sequences

DATA = Path(__file__).parent.parent / "habitue/demo/data/online_retail_ii.parquet"
PRESETS: dict[str, Callable[[], TrainConfig]] = {"nano": nano, "demo": demo}
OURS = (
    "habitue/config.py", "habitue/model", "habitue/predictions", "habitue/sequences",
    "benchmarks/training_speed.py",
)  # fmt: skip
WARM_UP = 5                                # steps that are not timed
EPOCHS = 2                                 # at most; asking the second one's queries is timed too
HORIZON_DAYS = 90.0
REPEATS = 9                                # of every multiplication, before and again after
SQUARE = (1024, 1024, 1024)
TIMEOUT_SECONDS = 900.0
PROTOCOL = (
    "{steps} steps after {warm_up}, {threads} thread(s); FLOPs = 6 x weights a real token, line or "
    "item passes + 12 x layers x D x tokens^2 of a chunk + 6 x rows x items x D; share is of "
    "1024^3 float32; low and high are quartiles over steps, or the extremes of multiplications"
)
Figures = dict[str, tuple[float, float | None, float | None]]      # value, low, high


class Enough(Exception):
    """Raised from `watch` when as many steps were seen as asked for."""


def main() -> None:
    """Run every preset that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="shaped as online_retail_ii")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "training_speed.csv")
    parser.add_argument("--cell", metavar="PRESET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(options.threads)
    if options.cell:
        print(json.dumps(cell(options.cell, options.data, options.steps, options.seed)))
        return
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    told = ["--data", str(options.data), "--steps", str(options.steps)]
    told += ["--threads", str(options.threads), "--seed", str(options.seed)]
    protocol = PROTOCOL.format(steps=options.steps, warm_up=WARM_UP, threads=options.threads)
    for preset in PRESETS:
        if ledger.has(options.data.stem, preset, options.seed):
            continue
        figures = in_a_process(__file__, ["--cell", preset, *told], TIMEOUT_SECONDS)
        seconds, peak = figures.pop("seconds", None), figures.pop("peak_mb", None)
        ledger.put(
            Row(
                data=options.data.stem, protocol=protocol, method=preset, metric=metric,
                value=value, low=low, high=high, seed=options.seed, seconds=seconds, peak_mb=peak,
                commit=ledger.commit, hardware=ledger.machine,
            )
            for metric, (value, low, high) in (figures or {"finished": (0.0, None, None)}).items()
        )  # fmt: skip
    if options.json:
        ledger.write_json(options.json)
    print(protocol)
    for row in ledger.rows:
        print(f"{row.data:18} {row.method:6} {row.metric:34} {row.value:16,.4g}")


def cell(preset: str, data: Path, steps: int, seed: int) -> dict[str, object]:
    """Figures of one preset, in this process."""
    from dataclasses import replace

    started = time.perf_counter()
    config = replace(PRESETS[preset](), epochs=EPOCHS, seed=seed)
    sequences = sequences_of(data)
    shapes = {"square": SQUARE, "narrow": (config.batch_tokens, config.width, config.width)}
    rates = {name: multiplications(*shape) for name, shape in shapes.items()}
    trained, seen = some_steps(sequences, config, steps + WARM_UP)
    rates = {name: rates[name] + multiplications(*shape) for name, shape in shapes.items()}
    figures: Figures = {f"matmul_{name}_gflops": spread(values) for name, values in rates.items()}
    limit = statistics.median(rates["square"])
    figures |= training_figures(trained, seen, limit) | scoring_figures(trained, limit)
    return {**figures, "seconds": time.perf_counter() - started, "peak_mb": peak_mb()}


def sequences_of(path: Path) -> "Sequences":
    """The shop, imported as a stranger would, as of its last event."""
    from dataclasses import replace

    from benchmarks.shops import ALWAYS, DEMO_MAPPING, IMPORTED
    from habitue.ingest.importing import import_file
    from habitue.ingest.mapping import read_mapping
    from habitue.lake.tables import Lake
    from habitue.sequences.build import build_sequences

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        mapping = read_mapping(DEMO_MAPPING)
        import_file(path, lake=lake, shop="demo", mapping=mapping, now=IMPORTED)
        sequences = build_sequences(lake, "demo", cutoff=ALWAYS)
    return replace(sequences, cutoff=int(sequences.time.max()))


def multiplications(rows: int, inner: int, columns: int) -> list[float]:
    """GFLOP/s of float32 (rows, inner) @ (inner, columns), REPEATS times a tenth of a second."""
    import torch

    a, b = torch.ones(rows, inner), torch.ones(inner, columns)
    out, found = torch.empty(rows, columns), []
    for _ in range(REPEATS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < 0.1:
            torch.mm(a, b, out=out)
            count += 1
        found.append(2e-9 * rows * inner * columns * count / (time.perf_counter() - start))
    return found


def some_steps(
    sequences: "Sequences", config: TrainConfig, most: int
) -> tuple["Trained", list["Step"]]:
    """The model after at most so many steps, and what was seen at each."""
    from habitue.model.checkpoint import fresh
    from habitue.model.inputs import make_vocabulary, query_quantiles
    from habitue.model.train import begin, train
    from habitue.predictions.learn import Trained
    from habitue.sequences.batch import Corpus
    from habitue.sequences.snapshots import take_snapshots

    snapshots = take_snapshots(sequences)
    edges = query_quantiles(sequences, snapshots, seed=config.seed)
    words = make_vocabulary(sequences, text_buckets=config.text_buckets, query_edges=edges)
    corpus = Corpus(sequences, snapshots, max_events=config.max_events)
    training, seen = begin(fresh(config, words)), []

    def watch(step: "Step") -> None:
        seen.append(step)
        if step.step == most:
            raise Enough

    try:
        train(training, corpus, watch=watch)
    except Enough:
        training.model.eval()
    return Trained(model=training.model, corpus=corpus, cutoff=sequences.cutoff), seen


def training_figures(trained: "Trained", seen: list["Step"], limit: float) -> Figures:
    """Tokens and arithmetic per second over the steps after the first few."""
    config = trained.model.config
    # the batches depend on the seed alone, so these are the ones that were trained on
    epochs = (
        trained.corpus.epoch(
            queries=config.queries,
            batch_tokens=config.batch_tokens,
            seed=config.seed * 1_000_003 + epoch,
        )
        for epoch in range(EPOCHS)
    )
    batches = list(islice(chain.from_iterable(epochs), WARM_UP, len(seen)))
    seconds = [after.seconds - before.seconds for before, after in pairwise(seen)][WARM_UP - 1 :]
    assert sum(batch.tokens for batch in batches) == seen[-1].tokens - seen[WARM_UP - 1].tokens
    work = [flops(trained.model, batch) * 1e-9 for batch in batches]
    total, rate = sum(seconds), sum(work) / sum(seconds)
    by_step = [batch.tokens / s for batch, s in zip(batches, seconds, strict=True)]
    slots = sum(batch.kind.size + batch.asked.size for batch in batches)
    real = sum(batch.tokens for batch in batches)
    low, high = quartiles(by_step)
    low_rate, high_rate = quartiles([w / s for w, s in zip(work, seconds, strict=True)])
    return {
        "parameters": alone(sum(p.numel() for p in trained.model.parameters())),
        "train_tokens_per_second": (real / total, low, high),
        "train_sequences_per_second": alone(sum(len(b.kind) for b in batches) / total),
        "train_gflops": (rate, low_rate, high_rate),
        "train_share_of_matmul": (rate / limit, low_rate / limit, high_rate / limit),
        "train_padding_share": alone(1 - real / slots),
        "seconds_before_first_step": alone(seen[0].seconds),
        "steps_per_epoch": alone(seen[0].steps / EPOCHS),
    }


def scoring_figures(trained: "Trained", limit: float) -> Figures:
    """Customers per second: read by the model, and with every question answered."""
    import numpy as np

    from habitue.predictions.calibrate import Calibration
    from habitue.predictions.score import anchors, score
    from habitue.predictions.targets import known_customers

    model, corpus, cutoff = trained.model, trained.corpus, trained.cutoff
    start = time.perf_counter()
    scores = score(model, corpus, Calibration(), cutoff=cutoff, horizons_days=(HORIZON_DAYS,))
    read = time.perf_counter() - start
    for question in (scores.order, scores.orders, scores.revenue):
        question(HORIZON_DAYS)
    scores.next_order()
    answered = time.perf_counter() - start
    customers = np.asarray(known_customers(corpus.sequences, cutoff))
    batches = corpus.ask(customers, anchors(corpus, customers, cutoff))[1]
    work = sum(flops(model, batch, backward=False) for batch in batches) * 1e-9
    return {
        "customers": alone(len(customers)),
        "score_customers_per_second": alone(len(customers) / read),
        "answered_customers_per_second": alone(len(customers) / answered),
        "score_gflops": alone(work / read),
        "score_share_of_matmul": alone(work / read / limit),
    }


def flops(model: "Model", batch: "Batch", *, backward: bool = True) -> float:
    """Multiplications and additions in the matrix products of one batch, real tokens only."""
    events, queries = (batch.kind > 0).sum(axis=1), batch.asked.sum(axis=1)
    width, items = model.config.width, model.items.bias.shape[0]
    heads = (model.query_columns, model.hazard, model.orders, model.spend)
    per_event = weights([model.event_columns, model.line_out])
    products = (events + queries).sum() * weights(model.blocks)
    products += queries.sum() * weights(heads)
    products += len(batch.line_item) * weights([model.line_columns, model.line_weight])
    products += 2 * len(model.blocks) * width * ((events + queries) ** 2).sum()
    if backward:
        per_event += weights([model.next_kind, model.next_gap])
        products += items * weights([model.items.adapter])
        products += scored_rows(batch, model.config.item_rows) * (items * width + width**2)
    products += events.sum() * per_event
    return float(2 * products * (3 if backward else 1))


def scored_rows(batch: "Batch", most: int) -> int:
    """States that are compared with the whole catalogue in one step."""
    import numpy as np



    asked = [batch.query_item_of, batch.next_item_of]
    return sum(min(len(np.unique(of)), most) for of in asked if of is not None)


def weights(modules: Iterable[object]) -> int:
    """Weights of the linear maps within some modules."""
    from torch import nn

    return sum(
        part.weight.numel()
        for module in modules
        if isinstance(module, nn.Module)
        for part in module.modules()
        if isinstance(part, nn.Linear)
    )


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return statistics.median(values), min(values), max(values)


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and the third."""
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def alone(value: float) -> tuple[float, None, None]:
    """A figure without a spread."""
    return float(value), None, None


if __name__ == "__main__":
    main()
