"""Starter weights: one set of weights trained on many shops, none of whose data it holds.

    python benchmarks/starters.py --data online_retail_ii.parquet \
        --data completejourney/transactions_sample.parquet

Only data whose licence allows it: Online Retail II (CC BY 4.0), Complete Journey, and simulated
shops. Each starter leaves one shop out or none, and is written into
a folder of its own.
"""

import argparse
import pickle
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.shops import sequences_of, source_of
from habitue.config import TrainConfig, nano
from habitue.events import CANONICAL_NAMES
from habitue.model.pretrain import pretrain
from habitue.model.starter import Seen, save_starter, sketch
from habitue.model.train import Step
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences, sequences_from_events
from habitue.sequences.snapshots import take_snapshots
from habitue.simulation import Lifetime, PerOrder, ShopConfig, catalogue, simulate

STEPS = 2_000
SIMULATED = 20                             # shops to learn from
WORK = Path(tempfile.gettempdir()) / "habitue_starters"
KINDS = tuple(sorted(CANONICAL_NAMES))


def main() -> None:
    """Write every starter that is asked for."""
    options = arguments().parse_args()
    print(__doc__)
    options.work.mkdir(parents=True, exist_ok=True)
    pool = list(read_pool(options.data, options.work))
    for left_out in options.leave_out:
        name = "starter" if left_out == "nothing" else f"starter_without_{left_out}"
        shops = [shop for shop in pool if shop.shop != left_out]
        make(shops, options.out / name, steps=options.steps)


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--leave-out", nargs="+", default=["nothing", "online_retail_ii"])
    parser.add_argument("--out", type=Path, default=WORK)
    parser.add_argument("--work", type=Path, default=WORK, help="where read shops are kept")
    return parser


def configuration() -> TrainConfig:
    """`nano`, with items known by content half of the time, since that is all a new shop has."""
    return replace(nano(), item_dropout=0.5, shop_dropout=0.1)


def make(shops: Sequence[Sequences], folder: Path, *, steps: int) -> None:
    """Train on the shops, and write the starter."""
    config, start = configuration(), time.perf_counter()
    corpora = [
        Corpus(shop, take_snapshots(shop), max_events=config.max_events, kinds=KINDS)
        for shop in shops
    ]
    model = pretrain(corpora, config, kinds=KINDS, steps=steps, watch=tell)
    seen = [
        Seen(shop=shop.shop, last_event=int(shop.time.max()), sketch=sketch(shop))
        for shop in shops
    ]
    save_starter(model, seen, folder)
    print(f"{folder.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def tell(step: Step) -> None:
    """A line every hundred steps."""
    if step.step % 100 == 0:
        parts = " ".join(f"{name} {value:.3f}" for name, value in step.parts.items())
        print(f"{step.step:5} {step.loss:7.3f} {step.seconds:5.0f} s  {parts}", file=sys.stderr)


def read_pool(paths: Iterable[Path], work: Path) -> Iterator[Sequences]:
    """The files as shops, then the simulated shops to learn from; read once, kept in `work`."""
    for path in paths:
        kept = work / f"{path.stem}.pickle"
        if not kept.exists():
            kept.write_bytes(pickle.dumps(sequences_of(path)))
        yield replace(pickle.loads(kept.read_bytes()), shop=source_of(path).name)
    for number in range(SIMULATED):
        yield simulated(number)


def simulated(number: int) -> Sequences:
    """One of endlessly many shops, each with its own rates, seasons, prices and catalogue."""
    rng = np.random.default_rng([20_111, number])
    days = int(rng.integers(400, 900))
    leaving = (
        PerOrder(a=float(rng.uniform(0.4, 1.5)), b=float(rng.uniform(1.5, 9)))
        if rng.random() < 0.5
        else Lifetime(shape=float(rng.uniform(0.6, 1.5)), days=float(rng.uniform(100, 500)))
    )
    config = ShopConfig(
        shop=f"simulated {number}",
        customers=int(np.exp(rng.uniform(np.log(50), np.log(1_500)))),
        items=int(np.exp(rng.uniform(np.log(30), np.log(600)))),
        start=datetime(2021, 1, 4, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 700))),
        days=days,
        # from a cohort that came at once to a shop that still grows
        arrival_days=int(days * rng.uniform(0.1, 1.0)),
        rate_shape=float(np.exp(rng.uniform(np.log(0.2), np.log(1.6)))),
        rate_days=float(np.exp(rng.uniform(np.log(8), np.log(250)))),
        dropout=leaving,
        yearly_amplitude=float(rng.uniform(0, 0.6)),
        peak_day=int(rng.integers(250, 360)),
        value_median=float(np.exp(rng.uniform(np.log(8), np.log(200)))),
        value_spread=float(rng.uniform(0.2, 0.9)),
        value_noise=float(rng.uniform(0.2, 0.7)),
        categories=int(rng.integers(2, 5)),
        loyalty=float(rng.uniform(0.3, 0.9)),
        lines=float(rng.uniform(1, 5)),
        repeat=float(rng.uniform(0.1, 0.7)),
        views=float(rng.uniform(0, 2)),
        carts=float(rng.uniform(0, 0.6)),
        refunds=float(rng.uniform(0, 0.08)),
    )
    events = pa.concat_tables(simulate(config, number))
    cutoff = (config.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return sequences_from_events(
        events, catalogue(config, number), shop=config.shop, cutoff=cutoff + days * DAY
    )


if __name__ == "__main__":
    main()
