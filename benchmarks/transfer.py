"""What other shops teach a shop that is left out: from no customer of its own to all of them.

    python -m benchmarks.transfer --data online_retail_ii.parquet --data cdnow_sample.parquet

A shop of n customers is n of those known at the cutoff, drawn at random, with their orders alone;
small ones are drawn several times and judged together. Each is forecast by weights that never saw
the shop (as they are, calibrated, trained on), by the same network trained on it from nothing, by
what the closed window chooses among them, and by BG/NBD and MBG/NBD fitted on it. Nobody sees
anything after the cutoff; titles are as known then. A cell is one shop of one size. Intervals: 5th
and 95th percentile over customers drawn with replacement.
"""

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from benchmarks.shops import sequences_of, source_of
from benchmarks.starters import simulated
from habitue.config import nano
from habitue.evaluation import ITEM_DAYS, learn_recommender
from habitue.model.starter import Starter, open_starter
from habitue.predictions import metrics
from habitue.predictions.baselines import CLASSICAL, Forecast
from habitue.predictions.calibrate import Calibration
from habitue.predictions.learn import Learnt, Trained, made_of, train_model
from habitue.predictions.rows import COUNT_METRICS, ORDER_METRICS
from habitue.predictions.targets import Outcomes, known_customers, outcomes
from habitue.recommendations import baselines as list_baselines
from habitue.recommendations import metrics as list_metrics
from habitue.recommendations.candidates import past_of
from habitue.recommendations.rules import Rules, shown, top_k
from habitue.sequences.build import DAY, Sequences, instant, microseconds, part, upto
from habitue.transfer.adapt import (
    AS_IT_IS,
    FROM_NOTHING,
    believed,
    simplest_of_the_best,
    unseen,
    window_cost,
    window_start,
    with_totals,
)
from habitue.transfer.adapt import TRAINED_ON as LEVEL_2
from habitue.transfer.levels import PASSES, RATE, Training, as_it_is, trained_on
from habitue.transfer.shelf import SHELF, names

SIZES = {50: 4, 200: 2, 1_000: 1, 5_000: 1}    # customers, and how often they are drawn
HORIZON_DAYS = 90.0
PLACES = 10
UNSEEN = (1_001, 1_002, 1_003)                 # numbers of simulated shops that nothing learnt from
CELL_SECONDS = 7_200.0
WORK = Path(tempfile.gettempdir()) / "habitue_transfer"
ALONE, ZERO_SHOT, CALIBRATED, TRAINED_ON, SCRATCH, CHOSEN = (
    "weights_alone", "zero_shot", "calibrated", "trained_on", "from_nothing", "chosen",
)  # fmt: skip
CODE = ("benchmarks/transfer.py", "benchmarks/shops.py", "benchmarks/starters.py")


def nobody() -> np.ndarray:
    """Figures of no customer."""
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one method forecast of one drawn shop, and what happened."""

    truth: Outcomes
    forecast: Forecast | None = None       # none: it only makes lists
    ndcg: np.ndarray = field(default_factory=nobody)         # (B,) of those who ordered items
    ndcg_alone: np.ndarray = field(default_factory=nobody)   # (B,) of the model's scores alone
    seconds: float = 0.0                   # of training


def main() -> None:
    """Run the cells that are missing."""
    options = arguments().parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell, options.size, options)))
        return
    print(__doc__)
    options.work.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    for data in keep_shops(options.data, options.simulated, options.work):
        known = held(options.work, data)[1]
        customers = len(known_customers(known, known.cutoff))
        for size in options.size or sizes_of(customers):
            name = f"{data}, {size} customers"
            if options.again or not ledger.has(name, CHOSEN, 0):
                inside = ["--work", str(options.work), "--size", str(size), "--cell", data]
                inside += [part for folder in options.shelf for part in ("--shelf", str(folder))]
                told = in_a_process(__file__, inside, CELL_SECONDS)
                put(ledger, told)
    if options.json:
        ledger.write_json(options.json)


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument(
        "--simulated", type=int, nargs="*", default=UNSEEN, help="numbers of simulated shops"
    )
    parser.add_argument("--size", type=int, nargs="+", help="customers; none: what the shop allows")
    parser.add_argument("--shelf", type=Path, action="append", default=[SHELF])
    parser.add_argument("--again", action="store_true", help="run cells that have their rows")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "transfer.csv")
    parser.add_argument("--work", type=Path, default=WORK, help="where shops are kept")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser


def sizes_of(customers: int) -> list[int]:
    """The sizes below a shop's own, and its own up to the largest of them."""
    return [*(size for size in SIZES if size < customers), min(customers, max(SIZES))]


def put(ledger: Ledger, told: Mapping[str, Any]) -> None:
    """A cell's rows into the ledger."""
    if told:
        rows = msgspec.convert(told["rows"], list[Row])
        ledger.put(
            replace(row, commit=ledger.commit, hardware=ledger.machine, peak_mb=told["peak_mb"])
            for row in rows
        )


# the shops


def keep_shops(paths: Iterable[Path], numbers: Iterable[int], work: Path) -> list[str]:
    """The names of the files' shops and of the simulated ones; each is read once, and kept."""
    found = []
    for path in paths:
        source = source_of(path)
        file = work / f"{source.name}.pickle"
        if not file.exists():
            at = microseconds(source.cutoffs[len(source.cutoffs) // 2])
            whole, known = sequences_of(path), sequences_of(path, cutoff=at)
            file.write_bytes(pickle.dumps((titled_as(whole, known), known, source.has_values)))
        found.append(source.name)
    for number in numbers:
        file = work / f"simulated {number}.pickle"
        if not file.exists():
            whole = simulated(number)
            at = whole.cutoff - round(HORIZON_DAYS * DAY)
            file.write_bytes(pickle.dumps((whole, upto(whole, at), True)))
        found.append(f"simulated {number}")
    return found


def titled_as(whole: Sequences, known: Sequences) -> Sequences:
    """A shop with the titles and categories that were known earlier, and no others."""
    place = np.minimum(np.searchsorted(known.items, whole.items), max(len(known.items) - 1, 0))
    if not len(known.items):
        return whole
    same = known.items[place] == whole.items
    return replace(
        whole,
        titles=np.where(same, known.titles[place], ""),
        categories=np.where(same, known.categories[place], ""),
    )


def held(work: Path, data: str) -> tuple[Sequences, Sequences]:
    """A shop up to its end, and up to the cutoff."""
    whole, known, _ = pickle.loads((work / f"{data}.pickle").read_bytes())
    return whole, known


def small_shop(whole: Sequences, customers: np.ndarray) -> Sequences:
    """Some customers (names) as a shop of their own: their orders alone say what sells."""
    mine = part(whole, np.searchsorted(whole.customers, np.sort(customers)))
    rows = np.repeat(np.arange(len(mine.time)), np.diff(mine.line_offsets))
    placed = mine.is_order[rows]
    held_items = np.unique(np.stack([rows[placed], mine.line_item[placed]]), axis=1)
    day = mine.time[held_items[0]] // DAY
    sold, count = np.unique(np.stack([day, held_items[1]]), axis=1, return_counts=True)
    return upto(
        replace(
            mine,
            sales_day=sold[0].astype(np.int32),
            sales_item=sold[1].astype(np.int32),
            sales_orders=count.astype(np.int32),
        ),
        mine.cutoff,
    )


# one cell


def cell(data: str, sizes: Sequence[int], options: argparse.Namespace) -> dict[str, object]:
    """Every method on every draw of one shop of one size, judged together."""
    (size,) = sizes
    whole, known, has_values = pickle.loads((options.work / f"{data}.pickle").read_bytes())
    starter = never_saw(data, options.shelf)
    names_known = known.customers[known_customers(known, known.cutoff)]
    rng = np.random.default_rng([20_111, size])
    draws = SIZES.get(size, 1) if size < len(names_known) else 1
    told: dict[str, list[Told]] = {}
    for seed in range(draws):
        drawn = rng.choice(names_known, size, replace=False)
        future = small_shop(whole, drawn)
        for method, one in forecasts(future, known.cutoff, starter, seed).items():
            told.setdefault(method, []).append(one)
    where = (
        f"{instant(known.cutoff):%Y-%m-%d} + {HORIZON_DAYS:g} days, {draws} draws, {starter.name};"
        f" level 2: {PASSES} passes at a peak rate of {RATE:g}"
    )
    rows = [
        replace(row, data=f"{data}, {size} customers", protocol=where, method=method)
        for method, all_of_it in told.items()
        for row in judged(all_of_it, has_values)
    ]
    return {"rows": [asdict(row) for row in rows], "peak_mb": peak_mb()}


def never_saw(data: str, shelves: Iterable[Path]) -> Starter:
    """The first starter that learnt from no shop of that name."""
    for shelf in shelves:
        for name in names(shelf):
            starter = open_starter(name, shelf)
            if data not in {seen.shop for seen in starter.seen}:
                return starter
    raise SystemExit(f"all starters have learnt from {data}\nhint: --shelf with one that has not")


def forecasts(
    future: Sequences, cutoff: int, starter: Starter, seed: int
) -> dict[str, Told]:
    """What every method makes of a shop up to the cutoff, judged by what followed."""
    known = upto(future, cutoff)
    whom = future.customers[known_customers(future, cutoff)]
    truth = outcomes(future, np.searchsorted(future.customers, whom), cutoff, HORIZON_DAYS)
    found = {}
    for predictor in CLASSICAL[:2]:
        start = time.perf_counter()
        forecast = predictor.fit(known, cutoff).predict(HORIZON_DAYS)
        found[predictor.name] = Told(
            truth=truth, forecast=forecast, seconds=time.perf_counter() - start
        )
    for method, (learnt, seconds) in learnt_ways(known, starter, seed).items():
        forecast = learnt.scores((HORIZON_DAYS,)).predict(HORIZON_DAYS)
        assert forecast.customers.tolist() == whom.tolist(), "everyone known is forecast"
        ndcg, alone = listed(learnt, known, future)
        found[method] = Told(
            truth=truth, forecast=forecast, ndcg=ndcg, ndcg_alone=alone, seconds=seconds
        )
    rivals = list_rivals(known, future)
    return found | {name: Told(truth=truth, ndcg=ndcg) for name, ndcg in rivals.items()}


def learnt_ways(
    known: Sequences, starter: Starter, seed: int
) -> dict[str, tuple[Learnt, float]]:
    """Every level, the training from nothing, and what the closed window chooses among them."""
    training = Training(config=replace(nano(), seed=seed))
    ways = {
        CALIBRATED: (AS_IT_IS, lambda past: as_it_is(starter, past)),
        TRAINED_ON: (LEVEL_2, lambda past: trained_on(starter, past, training, "trial")),
        SCRATCH: (FROM_NOTHING, lambda past: train_model(past, training.config, "trial")),
    }
    at, found, costs = window_start(known), {}, {}
    zero = as_it_is(starter, known)
    raw = Learnt(trained=zero, calibration=Calibration(), earlier=None)
    found[ALONE] = (raw, 0.0)
    found[ZERO_SHOT] = (unseen(starter, known), 0.0)
    before = None if at is None else as_it_is(starter, upto(known, at))
    for name, (kind, way) in ways.items():
        start = time.perf_counter()
        now = way(known)
        earlier: Trained | None = None if at is None else way(upto(known, at))
        learnt = made_of(now, earlier, known)
        if kind != FROM_NOTHING:           # that one is of this shop alone
            learnt = believed(kind, with_totals(learnt, zero, before))
        found[name] = (learnt, time.perf_counter() - start)
        if earlier is not None:
            costs[name] = window_cost(earlier, known)
    chosen = simplest_of_the_best(costs) if costs else CALIBRATED
    learnt, seconds = found[chosen]
    if chosen == SCRATCH:
        learnt = with_totals(learnt, zero, before)
    return found | {CHOSEN: (learnt, seconds)}


def listed(
    learnt: Learnt, known: Sequences, future: Sequences
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) NDCG of the recommender's lists, and of the model's alone, of who ordered items."""
    if not len(known.items):
        return nobody(), nobody()
    customers, answers = buyers(known, future)
    recommender = learn_recommender(learnt, known)
    scores = learnt.trained.item_scores(known, known.cutoff)(customers)
    lists = recommender.recommend(customers, PLACES)[0], top_k(scores, PLACES)[0]
    relevant, total = answers.relevant[customers], answers.total[customers]
    mixed, alone = (list_metrics.ndcg(each, relevant, total) for each in lists)
    return mixed, alone


def list_rivals(known: Sequences, future: Sequences) -> dict[str, np.ndarray]:
    """(B,) NDCG of what is popular, and of what she bought most often."""
    if not len(known.items):
        return {}
    customers, answers = buyers(known, future)
    allowed = shown(known, past_of(known, known.cutoff), Rules())
    rivals = {
        "popular_90d": list_baselines.popular_90d(allowed),
        "top_frequency": list_baselines.top_frequency(allowed),
    }
    relevant, total = answers.relevant[customers], answers.total[customers]
    return {
        name: list_metrics.ndcg(rival.recommend(customers, PLACES)[0], relevant, total)
        for name, rival in rivals.items()
    }


def buyers(known: Sequences, future: Sequences) -> tuple[np.ndarray, list_metrics.Answers]:
    """Who ordered an item within ITEM_DAYS, and what."""
    answers = list_metrics.answers(known, future, ITEM_DAYS)
    return list_metrics.judged(answers), answers


# the rows


def judged(told: Sequence[Told], has_values: bool) -> list[Row]:
    """Every metric of one method, over the customers of all draws together."""
    rng = np.random.default_rng(0)
    rows = [Row(data="", protocol="", method="", metric="seconds", seed=0,
                value=float(np.mean([one.seconds for one in told])))]  # fmt: skip
    for name in ("ndcg", "ndcg_alone"):
        each = np.concatenate([getattr(one, name) for one in told])
        if len(each):
            rows.append(measured(f"items.{name}@{PLACES}", lambda x: float(x.mean()), (each,), rng))
    forecasts_made = [one.forecast for one in told if one.forecast is not None]
    if not forecasts_made:
        return rows
    truth = {
        name: np.concatenate([getattr(one.truth, name) for one in told])
        for name in ("observed", "orders", "revenue")
    }
    happened = truth["observed"].astype(np.float64)
    chance, orders, revenue = (
        np.concatenate([getattr(one, name) for one in forecasts_made])
        for name in ("probability", "orders", "revenue")
    )
    for name in ("auc", "brier", "log_loss"):
        rows.append(measured(f"order.{name}", ORDER_METRICS[name], (happened, chance), rng))
    for name in ("mae", "bias"):
        rows.append(
            measured(f"orders.{name}", COUNT_METRICS[name], (truth["orders"], orders), rng)
        )
    for name in ("mae", "bias", "ngini") if has_values else ():
        rows.append(
            measured(f"revenue.{name}", COUNT_METRICS[name], (truth["revenue"], revenue), rng)
        )
    return [*rows, *level_rows(happened, chance)]


def measured(
    name: str, metric: metrics.Metric, columns: tuple[np.ndarray, ...], rng: np.random.Generator
) -> Row:
    """One metric with its interval."""
    low, high = metrics.bootstrap(metric, *columns, rng=rng)
    row = Row(data="", protocol="", method="", metric=name, value=metric(*columns), seed=0)
    return replace(row, low=low, high=high)


def level_rows(happened: np.ndarray, chance: np.ndarray) -> list[Row]:
    """How far the level of chances was off (log), and by how much chance alone would put it off."""
    level = np.log((happened.sum() + 0.5) / (chance.sum() + 0.5))
    noise = np.sqrt((chance * (1 - chance)).sum()) / (chance.sum() + 0.5)
    return [
        Row(data="", protocol="", method="", metric=name, value=float(value), seed=0)
        for name, value in (("level.error", level), ("level.noise", noise))
    ]


if __name__ == "__main__":
    main()
