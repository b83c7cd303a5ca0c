"""The next basket: recall of the last one from those before it.

    python -m benchmarks.next_basket --data tafeng_baskets.parquet

Columns user_id, basket_pos, item_ids. Every user's last basket is the test, the one before it
validation; recall@10 = hits / items of the basket, averaged over users; full ranking; nothing
filtered; ties by item number. TIFU-kNN (Hu et al. 2020) is written from the paper with the
parameters published for Ta-Feng: groups of 7, fading .9 within and .7 between, 300 neighbours, own
share .7. Intervals: 5th and 95th percentile over users drawn with replacement.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from habitue.recommendations.baskets import Baskets, choose, mixed, read_sources, recall, shares
from habitue.recommendations.rules import top_k

CODE = ("benchmarks/next_basket.py", "habitue/recommendations/baskets.py")
BATCH = 500
PLACES = 10
RESAMPLES = 500
Lists = tuple[np.ndarray, str]


def habitue(past: Baskets, known: Baskets) -> Lists:
    """Our mixture: chosen on the basket before the last, asked with it known."""
    mixture = choose(past, known.basket(0))
    sources = read_sources(known, mixture.fade)
    lists = listed(known, lambda row: mixed(sources.of(row), mixture.weights))
    return lists, f"fade {mixture.fade:g}, weights {mixture.weights}"


def top_frequency(past: Baskets, known: Baskets) -> Lists:
    """What the customer bought most often, ties and the rest by popularity."""
    counts = np.bincount(known.item, minlength=known.items)
    padding = (counts / (counts.max(initial=0) + 1)).astype(np.float32)
    ones = np.ones(len(known.item), np.float32)
    often = sp.csr_matrix((ones, (known.customer, known.item)), (known.customers, known.items))
    return listed(known, lambda row: often[row].toarray() + padding), ""


def popular(past: Baskets, known: Baskets) -> Lists:
    """The same list for everybody."""
    counts = np.bincount(known.item, minlength=known.items).astype(np.float32)
    return listed(known, lambda row: np.tile(counts, (len(row), 1))), ""


def tifu_knn(past: Baskets, known: Baskets) -> Lists:
    """Personal frequency that fades in groups, averaged with that of the nearest customers."""
    size, within, between, nearest, own = 7, 0.9, 0.7, 300, 0.7
    baskets = np.zeros(known.customers, np.int64)
    np.maximum.at(baskets, known.customer, known.back + 1)
    group, place = known.back // size, known.back % size
    count = np.ceil(baskets / size)[known.customer]
    # the oldest group may be short
    full = np.minimum(size, baskets[known.customer] - group * size)
    weight = within**place / full * between**group / count
    table = sp.csr_matrix(
        (weight.astype(np.float32), (known.customer, known.item)), (known.customers, known.items)
    )
    squares = np.asarray(table.multiply(table).sum(axis=1))[:, 0]

    def score(row: np.ndarray) -> np.ndarray:
        apart = squares[row, None] + squares[None] - 2 * (table[row] @ table.T).toarray()
        apart[np.arange(len(row)), row] = np.inf
        near = np.argpartition(apart, nearest, axis=1)[:, :nearest]
        at = (np.repeat(np.arange(len(row)), nearest), near.ravel())
        pick = sp.csr_matrix((np.ones(near.size, np.float32), at), (len(row), known.customers))
        return (own * table[row] + (1 - own) * (shares(pick) @ table)).toarray()

    return listed(known, score), "groups of 7, .9, .7; 300 neighbours; .7"


METHODS: dict[str, Callable[[Baskets, Baskets], Lists]] = {
    "habitue": habitue, "tifu_knn": tifu_knn, "top_frequency": top_frequency, "popular": popular,
}  # fmt: skip


def main() -> None:
    """Run what is missing and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--again", action="store_true", help="run methods that have their rows")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--results", type=Path, default=RESULTS / "next_basket.csv")
    options = parser.parse_args()
    print(__doc__)
    ledger = Ledger(options.results, harness_commit(*CODE), hardware())
    every = baskets_of(options.data)
    known, past = every.without_last(1), every.without_last(2)
    for method, fit in METHODS.items():
        if options.again or not ledger.has(options.data.stem, method, options.seed):
            begun = time.perf_counter()
            lists, note = fit(past, known)
            seconds = time.perf_counter() - begun
            ledger.put(rows(options, method, note, lists, every, known, seconds, ledger))
    for row in ledger.rows:
        if row.data == options.data.stem:
            print(f"{row.method:16} {row.metric:20} {row.value:.4f}  [{row.low}, {row.high}]")
    print("published: TIFU-kNN .1301 (reproduced elsewhere .1277); gate .128, target .140")
    if options.json:
        ledger.write_json(options.json)


def rows(  # noqa: PLR0913 - one row is all of these
    options: argparse.Namespace, method: str, note: str, lists: np.ndarray, every: Baskets,
    known: Baskets, seconds: float, ledger: Ledger,
) -> list[Row]:  # fmt: skip
    """Recall, of what she had bought before and of what was new to her, and coverage."""
    aims, before = every.basket(0), known.habits(1.0).sign()
    judged = np.flatnonzero(np.diff(aims.indptr) > 0)
    repeat = aims.multiply(before).tocsr()
    new = (aims - repeat).tocsr()
    new.eliminate_zeros()
    rng = np.random.default_rng(options.seed)
    found: list[tuple[str, float, float | None, float | None]] = []
    for metric, wanted in (("recall", aims), ("repeat_recall", repeat), ("new_recall", new)):
        kept = judged[np.diff(wanted[judged].indptr) > 0]
        each = recall(lists[kept], wanted[kept])
        drawn = each[rng.integers(0, len(each), (RESAMPLES, len(each)))].mean(axis=1)
        low, high = np.quantile(drawn, [0.05, 0.95])
        found.append((f"{metric}@{PLACES}", float(each.mean()), float(low), float(high)))
    shown = len(np.unique(lists[lists >= 0])) / every.items
    found.append((f"coverage@{PLACES}", shown, None, None))
    protocol = f"last basket from those before it; {every.items} items; nothing filtered"
    return [
        Row(
            data=options.data.stem, protocol=f"{protocol}; {note}" if note else protocol,
            method=method, metric=metric, value=value, low=low, high=high, seed=options.seed,
            seconds=seconds, peak_mb=peak_mb(), commit=ledger.commit, hardware=ledger.machine,
        )
        for metric, value, low, high in found
    ]  # fmt: skip


def baskets_of(path: Path) -> Baskets:
    """A file's baskets, items numbered from 0."""
    table = pd.read_parquet(path).sort_values(["user_id", "basket_pos"], kind="stable")
    users, customer = np.unique(table["user_id"], return_inverse=True)
    last = table.groupby("user_id")["basket_pos"].transform("max")
    sizes = table["item_ids"].map(len).to_numpy()
    item = np.concatenate(table["item_ids"].to_numpy()).astype(np.int64)
    return Baskets(
        customer=np.repeat(customer, sizes),
        item=item,
        back=np.repeat((last - table["basket_pos"]).to_numpy(), sizes),
        customers=len(users),
        items=int(item.max()) + 1,
    )


def listed(known: Baskets, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(N, PLACES) the highest of every customer."""
    every = np.arange(known.customers)
    parts = np.split(every, range(BATCH, len(every), BATCH))
    return np.concatenate([top_k(score(row), PLACES)[0] for row in parts])


if __name__ == "__main__":
    main()
