"""How much memory the steps take as customers grow: build, train, score.

    python benchmarks/memory.py

Every size is simulated into a lake in one process and worked on in another, where each step has a
peak of its own: the kernel's high-water mark of resident memory is reset before it. Nothing is
mapped from files. Orders and refunds only, of a shop of two years.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.config import limit_threads, nano

if TYPE_CHECKING:
    from habitue.predictions.learn import Trained
    from habitue.predictions.scores.answers import Scores
    from habitue.sequences.build import Sequences

SIZES = (5_000, 50_000, 500_000)
ITEMS = 1_000
HORIZON_DAYS = 90.0
OURS = (
    "habitue/config.py", "habitue/model", "habitue/predictions", "habitue/publishing.py",
    "habitue/sequences", "habitue/simulation.py", "benchmarks/memory.py",
)  # fmt: skip
TIMEOUT_SECONDS = 1_200.0
PROTOCOL = (
    "simulated, 2 years, {items} items, orders and refunds; resident memory; build from the lake, "
    "train {steps} steps of nano, score and answer everyone; each step's peak is its own"
)
HIGH_WATER = Path("/proc/self/clear_refs")
T = TypeVar("T")


def main() -> None:
    """Run every size that is not in the results yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, nargs="*", default=SIZES)
    parser.add_argument("--steps", type=int, default=30, help="of training; 0 only builds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "memory.csv")
    parser.add_argument("--cell", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(options.threads)
    if options.cell:
        what, folder = options.cell
        print(json.dumps(cell(what, Path(folder), options)))
        return
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for customers in options.customers:
        if not ledger.has(f"simulated_{customers}", method_of(options), options.seed):
            ledger.put(measured(customers, options, ledger))
    if options.json:
        ledger.write_json(options.json)
    for protocol in dict.fromkeys(row.protocol for row in ledger.rows):
        print(protocol)
    for row in ledger.rows:
        print(f"{row.data:18} {row.method:10} {row.metric:24} {row.value:14,.1f}")


def measured(customers: int, options: argparse.Namespace, ledger: Ledger) -> list[Row]:
    """The rows of one size."""
    told = ["--customers", str(customers), "--steps", str(options.steps)]
    told += ["--seed", str(options.seed), "--threads", str(options.threads)]
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(__file__, ["--cell", "simulate", folder, *told], TIMEOUT_SECONDS)
        figures = in_a_process(__file__, ["--cell", "steps", folder, *told], TIMEOUT_SECONDS)
    protocol = PROTOCOL.format(items=ITEMS, steps=options.steps)
    if not options.steps:
        protocol = protocol.split(", train")[0] + "; neither trained nor scored"
    seconds, peak = figures.pop("seconds", None), figures.pop("peak_mb", None)
    return [
        Row(
            data=f"simulated_{customers}", protocol=protocol, method=method_of(options),
            metric=metric, value=value, seed=options.seed, seconds=seconds, peak_mb=peak,
            commit=ledger.commit, hardware=ledger.machine,
        )
        for metric, value in (figures or {"finished": 0.0}).items()
    ]  # fmt: skip


def method_of(options: argparse.Namespace) -> str:
    """What a row calls the steps that were taken."""
    return "nano" if options.steps else "build_only"


def cell(what: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Simulate a shop into a folder, or take every step over what stands there."""
    if what == "steps":
        return steps_over(folder, options)
    simulated(folder, options.customers[0], options.seed)
    return {}


def simulated(folder: Path, customers: int, seed: int) -> None:
    """A lake that holds one shop, a file per bucket."""
    import pyarrow as pa

    from habitue import simulation
    from habitue.lake.schema import SHOPS
    from habitue.lake.tables import Lake

    shop = simulation.ShopConfig(customers=customers, items=ITEMS, views=0.0, carts=0.0)
    settings = {"shop": shop.shop, "received": shop.start, "timezone": "UTC"}
    columns = [field for field in SHOPS if field.name != "bucket"]
    lake = Lake(folder)
    lake.append(
        {
            "shops": pa.Table.from_pylist([settings], pa.schema(columns)),
            "items": simulation.catalogue(shop, seed),
            "events": simulation.simulate(shop, seed),
        }
    )
    lake.compact()


def steps_over(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds and peak memory of every step, one after the other."""
    from dataclasses import replace

    from benchmarks.shops import ALWAYS
    from habitue.lake.tables import Lake
    from habitue.sequences.build import build_sequences

    started = time.perf_counter()
    figures: dict[str, float] = {"start_peak_mb": peak_mb()}

    def build() -> "Sequences":
        built = build_sequences(Lake(folder), "simulated", cutoff=ALWAYS)
        return replace(built, cutoff=int(built.time.max()))

    sequences = step("build", build, figures)
    figures |= {"customers": len(sequences.customers), "events": len(sequences.time)}
    figures["sequences_bytes_per_customer"] = held_bytes(sequences) / len(sequences.customers)
    if options.steps:
        figures |= later_steps(sequences, options)
    peak = max(value for name, value in figures.items() if name.endswith("peak_mb"))
    return {**figures, "seconds": time.perf_counter() - started, "peak_mb": peak}


def later_steps(sequences: "Sequences", options: argparse.Namespace) -> dict[str, float]:
    """Train and score over what was built."""
    from dataclasses import replace

    from benchmarks.training_speed import some_steps

    figures: dict[str, float] = {}
    config = replace(nano(), epochs=1, seed=options.seed)
    trained, seen = step("train", lambda: some_steps(sequences, config, options.steps), figures)
    figures |= {"train_steps": seen[-1].step, "steps_per_epoch": seen[-1].steps}
    scores = step("score", lambda: everyone(trained), figures)
    scored = len(scores.names)
    held = held_bytes(scores) + held_bytes(scores.readings)
    return {**figures, "scored_customers": scored, "scores_bytes_per_customer": held / scored}


def everyone(trained: "Trained") -> "Scores":
    """Everyone's scores, every question answered at one horizon and passed on to nobody."""
    from habitue.predictions.calibrate import Calibration
    from habitue.predictions.score import score
    from habitue.publishing import answer_blocks

    scores = score(
        trained.model,
        trained.corpus,
        Calibration(),
        cutoff=trained.cutoff,
        horizons_days=(HORIZON_DAYS,),
    )
    for _ in answer_blocks(scores, trained.corpus.sequences, "simulated-1"):
        pass
    return scores


def held_bytes(held: object) -> float:
    """Of the arrays in a dataclass; names that are already counted elsewhere are pointers."""
    from dataclasses import fields

    import numpy as np

    arrays = [getattr(held, field.name) for field in fields(held)]  # type: ignore[arg-type]
    return float(sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)))


def step(name: str, work: Callable[[], T], figures: dict[str, float]) -> T:
    """Run one step and note its seconds, its peak memory, and what memory it began with."""
    if HIGH_WATER.exists():
        HIGH_WATER.write_text("5")         # the high-water mark falls to what is held now
    held, start = peak_mb(), time.perf_counter()
    found = work()
    figures |= {
        f"{name}_seconds": time.perf_counter() - start,
        f"{name}_held_before_mb": held,
        f"{name}_peak_mb": peak_mb(),
    }
    return found


if __name__ == "__main__":
    main()
