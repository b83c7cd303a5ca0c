"""Which item comes next: every method ranks the whole catalogue, on the same split.

    python -m benchmarks.next_item --data beauty_sequences.parquet --peers peers/bin/python

A file is recognised by its columns (see order_data.py). A cell is (data, method, seed), run in a
process of its own and not run again while harness and machine stay the same. Lists are judged with
the items that a row holds already left out (`seen out`) and with all (`all`). Nothing is chosen on
test: passes and widths are fixed, what is counted and the mixture are chosen on validation.
`recounted`: what is counted is counted again with the validation items, as it would be in use; the
model is the same. Debiased recall weighs each aim by one over its count in training (Yang et al.
2018, self-normalised). Intervals: 5th and 95th percentile over rows drawn with replacement. The
peers run in an environment of their own, named by --peers, with a budget of passes that their rows
state.
"""

import argparse
import json
import pickle
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.next_item_anchors import ANCHORS
from benchmarks.order_data import Asked, OrderData, order_data
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, in_a_process, peak_mb
from habitue.model.order import learn_order, next_scores, order_recipe
from habitue.recommendations.following import (
    choose_neighbours,
    choose_regression,
    mix,
    without_seen,
)
from habitue.recommendations.rules import top_k

CELL_SECONDS = 4 * 3_600.0
PEER_SECONDS = 3 * 3_600.0
WORK = Path(tempfile.gettempdir()) / "habitue_next_item"
CODE = (
    "benchmarks/next_item.py",
    "benchmarks/next_item_peers.py",
    "benchmarks/order_data.py",
    "habitue/recommendations/following.py",
    "habitue/sequences/order/regression.py",
    "habitue/sequences/order/spectral.py",
    "habitue/sequences/order/corpus.py",
)
SEEN, ALL = "seen out", "all"
RESAMPLES = 300
PEERS = ("rectools_sasrec", "implicit_als", "implicit_item_knn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one method listed: (N, k) items with and without those a row holds; what it cost."""

    seen_out: np.ndarray
    all: np.ndarray
    note: str = ""                         # of the method's settings, into the protocol
    fit_cpu_seconds: float = 0.0


Method = Callable[[OrderData, int], dict[str, Judged]]


def habitue(data: OrderData, seed: int) -> dict[str, Judged]:
    """Model, neighbours and regression, each alone, and their mixture; items are mere numbers."""
    return _ours(data, seed, content=False)


def habitue_content(data: OrderData, seed: int) -> dict[str, Judged]:
    """The same, reading what is written of items."""
    found = _ours(data, seed, content=True)
    return {f"{name}_content": judged for name, judged in found.items()}


def popular(data: OrderData, seed: int) -> dict[str, Judged]:
    """The same list for everybody."""
    counts = np.bincount(data.train.values, minlength=data.items).astype(np.float32)
    return {"popular": _listed(data, lambda row: np.tile(counts, (len(row), 1)), "", 0.0)}


METHODS: Mapping[str, Method] = {
    "habitue": habitue,
    "habitue_content": habitue_content,
    "popular": popular,
}
RANDOM = ("habitue", "habitue_content")


def _ours(data: OrderData, seed: int, *, content: bool) -> dict[str, Judged]:
    begun = _cpu_seconds()
    blank = [""] * data.items
    config = replace(order_recipe(data.train, data.items), seed=seed)
    texts, categories = (data.texts, data.categories) if content else (blank, blank)
    model = learn_order(data.train, texts, categories, config)
    trained = _cpu_seconds() - begun
    asked = data.validation
    begun = _cpu_seconds()
    neighbours = choose_neighbours(asked.rows, asked.aims, data.train, data.items)
    counted = _cpu_seconds() - begun
    begun = _cpu_seconds()
    regression = choose_regression(asked.rows, asked.aims, data.train, data.items)
    solved = _cpu_seconds() - begun
    begun = _cpu_seconds()
    mixture = mix(asked.rows, asked.aims, next_scores(model, asked.rows), neighbours, regression)
    mixing = _cpu_seconds() - begun
    mixtures = {
        "habitue": mixture,
        "habitue_model": replace(mixture, share=0.0, regression_share=0.0),
        "habitue_near": replace(mixture, share=1.0, regression_share=0.0),
    }
    if regression is not None:
        mixtures["habitue_ridge"] = replace(mixture, share=0.0, regression_share=1.0)
    recounting = 0.0
    if data.goes_on:
        begun = _cpu_seconds()
        mixtures["habitue_recounted"] = mixture.recounted(data.test.rows)
        recounting = _cpu_seconds() - begun
    note = (
        f"{config.width} wide, {config.layers} layers, {config.epochs} passes,"
        f" {config.max_events} events, dropout {config.dropout:.2g}"
    )
    told = f"{note}; neighbours' share {mixture.share:g}, fade {neighbours.fade:g}"
    if mixture.repeats:
        told += f", again {mixture.again:g}"
    if regression is not None:
        told += f"; regression's {mixture.regression_share:g}, fade {regression.fade:g}"
    rows = data.test.rows
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for row, scores in next_scores(model, rows):
        for name, mixed in mixtures.items():
            own = mixed.mixed(rows, row, scores)
            lists = (row, _top(without_seen(own, rows, row), data), _top(own, data))
            parts.setdefault(name, []).append(lists)
    costs = {
        "habitue": (told, trained + counted + solved + mixing),
        "habitue_recounted": (told, trained + counted + solved + mixing + recounting),
        "habitue_model": (note, trained),
        "habitue_near": (f"fade {neighbours.fade:g}", counted),
        "habitue_ridge": (f"fade {regression.fade:g}" if regression else "", solved),
    }
    return {name: _gathered(data, lists, *costs[name]) for name, lists in parts.items()}


def _gathered(
    data: OrderData, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], note: str, cost: float
) -> Judged:
    lists = [np.full((len(data.test.aims), data.places), -1, np.int32) for _ in range(2)]
    for row, *both in parts:
        for whole, part in zip(lists, both, strict=True):
            whole[row] = part
    return Judged(seen_out=lists[0], all=lists[1], note=note, fit_cpu_seconds=cost)


def _listed(
    data: OrderData, score: Callable[[np.ndarray], np.ndarray], note: str, cost: float
) -> Judged:
    rows, parts = data.test.rows, []
    for row in np.array_split(np.arange(len(data.test.aims)), len(data.test.aims) // 512 + 1):
        scores = score(row)
        parts.append((row, _top(without_seen(scores, rows, row), data), _top(scores, data)))
    return _gathered(data, parts, note, cost)


def _top(scores: np.ndarray, data: OrderData) -> np.ndarray:
    return top_k(scores, data.places)[0]


def main() -> None:
    """Run the cells that are missing, and print everything beside its anchors."""
    options = arguments().parse_args()
    if options.cell:
        print(json.dumps(cell(options)))
        return
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    options.work.mkdir(parents=True, exist_ok=True)
    for path in options.data:
        data = order_data(path)
        print(f"{data.name}: {data.protocol}")
        (options.work / f"{data.name}.pickle").write_bytes(pickle.dumps(data))
        names = options.method or [*METHODS, *(PEERS if options.peers else ())]
        for method, seed in product(names, options.seed):
            wanted = method in RANDOM or seed == options.seed[0]
            if wanted and (options.again or not ledger.has(path.stem, method, seed)):
                run(ledger, method, seed, options, path)
        print_rows(ledger, path.stem)
    if options.json:
        ledger.write_json(options.json)


def arguments() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--method", nargs="+", choices=(*METHODS, *PEERS))
    parser.add_argument("--peers", type=Path, help="python with rectools and implicit")
    parser.add_argument("--peer-epochs", type=int, default=5, help="passes a neural peer may make")
    parser.add_argument("--again", action="store_true", help="run cells that have their rows")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "next_item.csv")
    parser.add_argument("--work", type=Path, default=WORK, help="where splits are kept")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser


def run(
    ledger: Ledger, method: str, seed: int, options: argparse.Namespace, path: Path
) -> None:
    """One cell, in a process of its own, into the ledger."""
    inside = ["--data", str(path), "--work", str(options.work), "--seed", str(seed)]
    inside += ["--cell", method, "--peer-epochs", str(options.peer_epochs)]
    if options.peers:
        inside += ["--peers", str(options.peers)]
    told = in_a_process(__file__, inside, CELL_SECONDS)
    if told:
        ledger.put(
            replace(
                row, seconds=told["seconds"], peak_mb=told["peak_mb"],
                commit=ledger.commit, hardware=ledger.machine,
            )
            for row in msgspec.convert(told["rows"], list[Row])
        )  # fmt: skip


def cell(options: argparse.Namespace) -> dict[str, object]:
    """Fit one method, list, and judge."""
    (path,), (seed,) = options.data, options.seed
    data: OrderData = pickle.loads((options.work / f"{path.stem}.pickle").read_bytes())
    begun = time.perf_counter()
    if options.cell in PEERS:
        found = {options.cell: peer(options, data, seed)}
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    else:
        found = METHODS[options.cell](data, seed)
        peak = peak_mb()
    seconds = time.perf_counter() - begun
    rows = [
        asdict(row)
        for name, judged in found.items()
        for row in judged_rows(data, name, judged, seed, options.cell)
    ]
    return {"rows": rows, "seconds": seconds, "peak_mb": peak}


def peer(options: argparse.Namespace, data: OrderData, seed: int) -> Judged:
    """A peer in its own environment: it gets what ours gets, and gives lists back."""
    with tempfile.TemporaryDirectory() as folder:
        given, told = Path(folder) / "given.npz", Path(folder) / "told.npz"
        arrays = {
            f"{part}_{name}": value
            for part, rows in (("train", data.train), ("test", data.test.rows))
            for name, value in (("values", rows.values), ("offsets", rows.offsets))
        }
        arrays |= {"items": np.array(data.items), "places": np.array(data.places)}
        np.savez(given, **arrays)  # type: ignore[arg-type]
        script = Path(__file__).with_name("next_item_peers.py")
        command = [str(options.peers), str(script), options.cell, str(given), str(told)]
        command += [str(seed), str(options.peer_epochs)]
        subprocess.run(command, check=True, timeout=PEER_SECONDS)
        found = np.load(told, allow_pickle=False)
        return Judged(
            seen_out=found["seen_out"],
            all=found["all"],
            note=str(found["note"]),
            fit_cpu_seconds=float(found["fit_cpu_seconds"]),
        )


def judged_rows(
    data: OrderData, method: str, judged: Judged, seed: int, cell_name: str
) -> Iterator[Row]:
    """Every metric of one method's lists. Rows of one cell carry the cell's own method first."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(data.train.values, minlength=data.items)
    for which, lists in ((SEEN, judged.seen_out), (ALL, judged.all)):
        for metric, (value, low, high) in metrics(data.test, lists, counts, rng).items():
            yield Row(
                data=data.name, protocol=_protocol(data, which, judged.note),
                method=method if method == cell_name else f"{cell_name}: {method}",
                metric=metric, value=value, low=low, high=high, seed=seed,
            )  # fmt: skip
    yield Row(
        data=data.name, protocol=_protocol(data, SEEN, judged.note),
        method=method if method == cell_name else f"{cell_name}: {method}",
        metric="fit_cpu_seconds", value=judged.fit_cpu_seconds, seed=seed,
    )  # fmt: skip


def metrics(
    asked: Asked, lists: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[float, float | None, float | None]]:
    """Value, 5th and 95th percentile of each metric of lists (N, k)."""
    places = lists.shape[1]
    hit = lists == asked.aims[:, None]
    hits = hit.any(axis=1).astype(np.float64)
    place = np.where(hits > 0, hit.argmax(axis=1), 0)
    weight = 1.0 / np.maximum(counts[asked.aims], 1)
    each = {
        f"recall@{places}": hits,
        f"ndcg@{places}": hits / np.log2(place + 2.0),
        f"mrr@{places}": hits / (place + 1.0),
    }
    found: dict[str, tuple[float, float | None, float | None]] = {
        name: (float(values.mean()), *_interval(values, None, rng)) for name, values in each.items()
    }
    found[f"debiased_recall@{places}"] = (
        float((hits * weight).sum() / weight.sum()), *_interval(hits, weight, rng)
    )  # fmt: skip
    shown = np.unique(lists[lists >= 0])
    found[f"coverage@{places}"] = (len(shown) / len(counts), None, None)
    decile = np.argsort(np.argsort(counts[asked.aims], kind="stable"), kind="stable")
    decile = decile * 10 // max(len(decile), 1)
    for number in range(10):
        inside = hits[decile == number]
        name = f"recall@{places}.decile_{number + 1}"
        found[name] = (float(inside.mean()) if len(inside) else float("nan"), None, None)
    return found


def _interval(
    values: np.ndarray, weight: np.ndarray | None, rng: np.random.Generator
) -> tuple[float, float]:
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    if weight is None:
        means = values[drawn].mean(axis=1)
    else:
        means = (values * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
    return float(np.quantile(means, 0.05)), float(np.quantile(means, 0.95))


def print_rows(ledger: Ledger, data: str) -> None:
    """One line a method and rule, with the mean over seeds; then what is published and aimed at."""
    table: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in ledger.rows:
        if row.data == data and row.value is not None and "decile" not in row.metric:
            which = SEEN if f"lists: {SEEN}" in row.protocol else ALL
            values = table.setdefault((which, row.method, ""), {})
            values.setdefault(row.metric, []).append(row.value)
    for (which, method, _), found in sorted(table.items()):
        told = "  ".join(f"{name} {np.mean(values):.4f}" for name, values in found.items())
        print(f"{which:8} {method:42} {told}")
    for anchor in ANCHORS.get(data, ()):
        print(f"published or aimed at: {anchor}")


def _protocol(data: OrderData, which: str, note: str) -> str:
    return f"{data.protocol}; lists: {which}" + (f"; {note}" if note else "")


def _cpu_seconds() -> float:
    return time.process_time()



if __name__ == "__main__":
    main()
