"""What embeddings know beyond aggregates: linear probes on either, and on both.

    python -m benchmarks.probes --data online_retail_ii.parquet

A model (preset `nano`) is trained on what happened up to each cutoff of the file (see shops.py). At
instants 28 days apart before it, and at the cutoff, up to 1,000 customers (at the cutoff: all) are
described by aggregates (the model's own query columns, and the target's past) and by the table of
embeddings (its basis fitted on the past). Of the instants whose window had closed by the cutoff the
latest tunes how strongly weights are held down; a probe learns from all of them and forecasts the
window after the cutoff, which is compared with what happened. Titles are hidden from the model,
since some were corrected after the cutoffs. Intervals: 5th and 95th percentile over customers drawn
with replacement; verdicts: the paired difference to the linear probe on aggregates.

A cell is (data at a cutoff, method, seed): a method answers every target. Training and embedding
are prepared once for all methods, and their seconds told as method `prepare`.
"""

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import duckdb
import msgspec
import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from benchmarks.shops import ALWAYS, IMPORTED, Source, source_of
from habitue.config import nano
from habitue.ingest.importing import import_file
from habitue.lake import query
from habitue.lake.tables import Lake
from habitue.model import checkpoint
from habitue.predictions import metrics
from habitue.predictions.learn import train_model
from habitue.predictions.probes.blocks import fit_basis
from habitue.predictions.probes.happened import Happened, find
from habitue.predictions.probes.language import Target
from habitue.predictions.probes.lessons import Lessons, Past
from habitue.predictions.probes.methods import Method, fit, tune
from habitue.predictions.probes.reading import Reading
from habitue.predictions.rows import COUNT_METRICS, HIGHER_IS_BETTER, ORDER_METRICS
from habitue.predictions.score import anchors
from habitue.sequences.build import DAY, Sequences, build_sequences, microseconds, upto
from habitue.sequences.snapshots import take_snapshots

QUESTIONS = (
    "did order_placed in 28 days",
    "did order_placed in 90 days",
    "count of order_placed in 90 days",
    "sum of order_placed value in 90 days",
    "did order_refunded in 90 days",
    'did item_ordered in 90 days where title contains "christmas"',
    'did item_ordered in 28 days where title contains "bag"',
)
STEP_DAYS, INSTANTS, MOST_CUSTOMERS = 28, 12, 1_000
WIDTHS = (64, 256, 2048)
CELL_SECONDS = 3_600.0
WORK = Path(tempfile.gettempdir()) / "habitue_probes"
BASELINE = "linear_aggregates"
RATES, AMOUNTS = ("auc", "brier", "log_loss"), ("rmse", "spearman", "ngini")
CODE = (
    "benchmarks/probes.py",
    *(f"habitue/predictions/probes/{n}.py" for n in ("blocks", "happened", "lessons", "methods")),
)


@dataclass(frozen=True, slots=True)
class Looks:
    """A way to answer and the width of the embeddings it looks at; 0: none."""

    method: Method
    width: int = 0


# the baseline first: what others differ by is told as they run
METHODS = {
    BASELINE: Looks(Method("linear", aggregates=True)),
    "base_rate": Looks(Method("base")),
    "last_window": Looks(Method("last")),
    "linear_embedding_64": Looks(Method("linear", embedding=True), 64),
    "linear_embedding_256": Looks(Method("linear", embedding=True), 256),
    "linear_both_64": Looks(Method("linear", aggregates=True, embedding=True), 64),
    "linear_both_256": Looks(Method("linear", aggregates=True, embedding=True), 256),
    "trees_aggregates": Looks(Method("trees", aggregates=True)),
    "linear_embedding_2048": Looks(Method("linear", embedding=True), 2048),
    "linear_both_2048": Looks(Method("linear", aggregates=True, embedding=True), 2048),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """One cutoff, ready to be asked: the past, and whom to ask when."""

    past: Sequences
    happened: dict[str, Happened]          # by question, what followed the cutoff included
    customer: np.ndarray                   # (N,)
    at: np.ndarray                         # (N,) µs
    embedding: dict[int, np.ndarray]       # by width, (N, W) float16


def main() -> None:
    """Run the cells that are missing, and print every method beside the linear baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--cutoff", nargs="+", help="dates; all of the file's unless told")
    parser.add_argument("--method", nargs="+", choices=tuple(METHODS))
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "probes.csv")
    parser.add_argument("--work", type=Path, default=WORK, help="kept between runs")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        place = Place(options.data, options.cutoff[0], options.seed[0], options.work)
        run = prepare if options.cell == "prepare" else cell
        print(json.dumps(run(options.cell, place)))
        return
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    options.work.mkdir(parents=True, exist_ok=True)
    every = [f"{cutoff:%Y-%m-%d}" for cutoff in source_of(options.data).cutoffs]
    for cutoff, seed in product(options.cutoff or every, options.seed):
        place = Place(options.data, cutoff, seed, options.work)
        for name in ("prepare", *(options.method or METHODS)):
            if not ledger.has(place.data, name, seed):
                put(ledger, name, place)
    show(ledger.rows)
    if options.json:
        ledger.write_json(options.json)


def put(ledger: Ledger, name: str, place: "Place") -> None:
    """One cell, in a process of its own, into the ledger."""
    inside = ["--data", str(place.path), "--work", str(place.work), "--cutoff", place.cutoff]
    inside += ["--seed", str(place.seed), "--cell", name]
    told = in_a_process(__file__, inside, CELL_SECONDS)
    if told:
        ledger.put(
            replace(
                row, seconds=told["seconds"], peak_mb=told["peak_mb"],
                commit=ledger.commit, hardware=ledger.machine,
            )
            for row in msgspec.convert(told["rows"], list[Row])
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A file at a cutoff with a seed, and where what is made of it is kept."""

    path: Path
    cutoff: str                            # a date
    seed: int
    work: Path

    @property
    def data(self) -> str:
        """Its name in the rows."""
        return f"{self.path.stem} at {self.cutoff}"

    @property
    def folder(self) -> Path:
        """What is made of it."""
        return self.work / f"{self.path.stem}-{self.cutoff}-{self.seed}"

    @property
    def instant(self) -> int:
        """The cutoff, µs."""
        return microseconds(datetime.fromisoformat(self.cutoff).replace(tzinfo=UTC))


def prepare(name: str, place: Place) -> dict[str, object]:
    """Train at the cutoff, and embed whoever is asked about."""
    start, shop = time.perf_counter(), place.path.stem
    lake = imported(place.path, source_of(place.path), place.work)
    past = upto(build_sequences(lake, shop, cutoff=ALWAYS), place.instant)
    blank = replace(past, titles=np.full(len(past.items), "", dtype=object))
    if not (place.folder / checkpoint.WEIGHTS).exists():
        place.folder.mkdir(exist_ok=True)
        model = train_model(blank, replace(nano(), seed=place.seed), "training").model
        checkpoint.save(model, blank, place.folder)
    ready = described(lake, shop, blank, place.folder)
    prepared_file(place.folder).write_bytes(pickle.dumps(ready))
    asked = float((ready.at == ready.past.cutoff).sum())
    row = Row(
        data=place.data, protocol="everyone known", method=name, metric="customers", value=asked,
        seed=place.seed,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    return {"rows": [asdict(row)], "seconds": seconds, "peak_mb": peak_mb()}


def imported(path: Path, source: Source, work: Path) -> Lake:
    """The file as a shop in a lake, imported once."""
    folder = work / f"{path.stem}-lake"
    lake = Lake(folder / "lake")
    if path.stem not in lake.shops():
        clean = work / f"{path.stem}-clean.parquet"
        with duckdb.connect() as connection:
            table = connection.sql(source.sql, params={"path": str(path)}).to_arrow_table()
            connection.register("cleaned", table)
            connection.execute(f"COPY cleaned TO '{clean}' (FORMAT parquet)")
        import_file(clean, lake=lake, shop=path.stem, mapping=source.mapping(), now=IMPORTED)
    return lake


def described(lake: Lake, shop: str, past: Sequences, folder: Path) -> Prepared:
    """Everything that methods look at, at one cutoff."""

    def read(sql: str, values: list[object]):  # type: ignore[no-untyped-def]
        return query.read(lake, sql, values, shop=shop)

    reading = Reading(past, take_snapshots(past))
    model = checkpoint.load(folder, past)
    bases = {width: fit_basis(reading.sample(model), width, seed=0) for width in WIDTHS}
    rng = np.random.default_rng(0)
    first = past.time[past.offsets[:-1]]
    customers, instants, parts = [], [], []
    for number in range(INSTANTS + 1):
        at = past.cutoff - number * STEP_DAYS * DAY
        known = np.flatnonzero(first <= at)
        if number and len(known) > MOST_CUSTOMERS:
            known = np.sort(rng.choice(known, MOST_CUSTOMERS, replace=False))
        asked = reading.known(model, known, anchors(reading.corpus(model), known, at), at)
        parts.append({width: basis.embed(asked) for width, basis in bases.items()})
        customers.append(known)
        instants.append(np.full(len(known), at))
    return Prepared(
        past=past,
        happened={text: find(Target.parse(text), past, read) for text in QUESTIONS},
        customer=np.concatenate(customers),
        at=np.concatenate(instants),
        embedding={w: np.concatenate([part[w] for part in parts]) for w in WIDTHS},
    )


def cell(name: str, place: Place) -> dict[str, object]:
    """One method on every target."""
    rows: list[Row] = []
    seconds = 0.0
    ready: Prepared = pickle.loads(prepared_file(place.folder).read_bytes())
    snapshots = take_snapshots(ready.past)
    for number, text in enumerate(QUESTIONS):
        target = Target.parse(text)
        past = Past(target, ready.past, snapshots, ready.happened[text])
        start = time.perf_counter()
        forecast, actual = forecasts(METHODS[name], past, ready, place.seed)
        seconds += time.perf_counter() - start
        np.save(place.folder / f"{name}-{number}.npy", forecast)
        against = place.folder / f"{BASELINE}-{number}.npy"
        baseline = np.load(against) if name != BASELINE and against.exists() else None
        rows += judged(place, name, target, (actual, forecast, baseline))
    return {"rows": [asdict(row) for row in rows], "seconds": seconds, "peak_mb": peak_mb()}


def forecasts(
    looks: Looks, past: Past, ready: Prepared, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a method forecasts of everyone at the cutoff, and what happened."""
    cutoff, horizon = ready.past.cutoff, round(past.target.horizon_days * DAY)
    none = np.zeros((len(ready.at), 0), np.float16)
    embedding = ready.embedding[looks.width] if looks.width else none
    lessons = past.lessons(
        ready.customer, ready.at, lambda customer, at: embedding.astype(np.float32)
    )
    closed = past.labelled(lessons.take(lessons.at + horizon <= cutoff), cutoff)
    late = closed.at.max()
    early = closed.take(closed.at + horizon <= late)
    aggregation = past.target.aggregation
    tuned = tune(looks.method, aggregation, early, closed.of(int(late)), seed)
    asked: Lessons = lessons.of(cutoff)
    forecast = fit(looks.method, aggregation, closed, tuned.dial, seed)(asked)
    return forecast, past.labelled(asked, cutoff + horizon).label


def judged(
    place: Place,
    name: str,
    target: Target,
    columns: tuple[np.ndarray, np.ndarray, np.ndarray | None],
) -> Iterator[Row]:
    """Metrics of one forecast, and their difference to the linear probe on aggregates."""
    actual, forecast, baseline = columns
    is_rate = target.aggregation == "exists"
    told: dict[str, Callable[..., float]] = dict(ORDER_METRICS if is_rate else COUNT_METRICS)
    blank = Row(data=place.data, protocol=str(target), method=name, metric="", value=None,
                seed=place.seed)  # fmt: skip
    for metric in RATES if is_rate else AMOUNTS:
        rng = np.random.default_rng(place.seed)
        measure = told[metric]
        low, high = metrics.bootstrap(measure, actual, forecast, rng=rng)
        yield replace(blank, metric=metric, value=finite(measure(actual, forecast)),
                      low=finite(low), high=finite(high))  # fmt: skip
        if baseline is not None:
            value, low, high = metrics.paired_difference(measure, actual, forecast, baseline, rng)
            yield replace(blank, metric=f"{metric} - {BASELINE}", value=finite(value),
                          low=finite(low), high=finite(high))  # fmt: skip


def show(rows: list[Row]) -> None:
    """Every question and cutoff: each method's first metrics, and wins, ties and losses."""
    told = {
        ((row.data, row.protocol), row.method, row.metric): row for row in rows if row.seed == 0
    }
    for protocol in sorted({(row.data, row.protocol) for row in rows if row.method == BASELINE}):
        print(f"\n{protocol[0]}: {protocol[1]}")
        for name in METHODS:
            cells = [
                f"{metric} {value_of(row)} {verdict(metric, against)}"
                for metric in (*RATES, *AMOUNTS)
                if (row := told.get((protocol, name, metric))) is not None
                for against in [told.get((protocol, name, f"{metric} - {BASELINE}"))]
            ]
            print(f"  {name:22}" + "  ".join(f"{one:24}" for one in cells))


def value_of(row: Row) -> str:
    """Four digits, or a dash where a metric is not defined."""
    return "–" if row.value is None else f"{row.value:.4g}"


def verdict(metric: str, against: Row | None) -> str:
    """Whether a method won, tied or lost against the linear probe on aggregates."""
    if against is None or against.low is None or against.high is None:
        return ""
    return metrics.verdict(
        against.low, against.high, higher_is_better=metric in HIGHER_IS_BETTER
    )


def prepared_file(folder: Path) -> Path:
    """Where a cutoff's description is kept."""
    return folder / "prepared.pkl"


def finite(value: float) -> float | None:
    """A number, or none where a metric is not defined."""
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    main()
