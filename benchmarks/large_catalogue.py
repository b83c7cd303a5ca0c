"""What a large catalogue costs: reads of lists, ranking in the scorer, and nearest items.

    python -m benchmarks.large_catalogue --items 10000 --items 100000 --items 1000000

Catalogues are made up: items in categories that sell by a power law, customers who keep to a few
categories and buy again; vectors in clusters. That is enough to say what things take, and not how
good lists are. Reads are asked one after the other, over loopback, of `habitue serve`. Ranking and
nearest items are in processor time of one thread. faiss takes part where it is installed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import msgspec
import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from habitue.lake.live.scored import SCORES_FILE, Scored, ScoredCustomer, ScoredItem
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.recommendations import recommend as room
from habitue.recommendations.candidates import past_of, similar_items
from habitue.recommendations.narrow import wide_of
from habitue.recommendations.ranking import DEFAULTS, Mixture, shop_scores
from habitue.recommendations.recommend import FittedRecommender, recommend_by_batch
from habitue.recommendations.rules import Rules, shown
from habitue.recommendations.shelf.listed import Listed
from habitue.sequences.build import DAY, Sequences
from habitue.workspace import open_workspace

OURS = (
    "habitue/recommendations", "habitue/serving/answers", "habitue/lake/live",
    "benchmarks/large_catalogue.py",
)
SHOP, SEED, ASKED, WIDTH, NEAREST = "acme", 0, 300, 64, 100
NOW = 20_000 * DAY
Figures = dict[str, float]


def main() -> None:
    """Run every part for every size, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, action="append", required=True)
    parser.add_argument("--part", choices=list(PARTS), action="append")
    parser.add_argument("--results", type=Path, default=RESULTS / "large_catalogue.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for name in options.part or PARTS:
        for count in options.items:
            for method, figures in PARTS[name](count):
                load = f"made up; load average {os.getloadavg()[0]:.1f}"
                ledger.put(
                    Row(data=f"{count:,} items", protocol=load, method=method, metric=metric,
                        value=value, seed=SEED, commit=ledger.commit, hardware=ledger.machine)
                    for metric, value in figures.items()
                )  # fmt: skip
                told = "  ".join(f"{metric} {value:,.3f}" for metric, value in figures.items())
                print(f"{count:>9,} {method:32} {told}", flush=True)


# -- reads


def reads(count: int) -> Iterator[tuple[str, Figures]]:
    """What the server takes to answer, over scores and a catalogue of so many items."""
    with tempfile.TemporaryDirectory() as folder:
        customers = _filled(Path(folder), count)
        command = [sys.executable, "-m", "habitue.cli.app", "serve", "--workspace", "work",
                   "--shop", SHOP, "--port", "0", "--json", "--no-scores"]  # fmt: skip
        service = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            assert service.stdout is not None
            told = msgspec.json.decode(service.stdout.readline())
            key = told["keys"]["secret"]
            with httpx.Client(
                base_url=told["listening"], headers={"X-Habitue-Key": key}, trust_env=False
            ) as client:
                yield from _asked(client, customers, count)
        finally:
            service.terminate()
            service.wait()


def _filled(folder: Path, count: int) -> list[str]:
    """A workspace that was scored, its catalogue then made as large as wanted."""
    ours = [sys.executable, "-m", "habitue.cli.app"]
    for command in (
        ["simulate", "--customers", "300", "--out", "shop.csv"],
        ["import", "shop.csv", "--shop", SHOP, "--mapping", "shop.toml", "--workspace", "work"],
        ["score", "--workspace", "work"],
    ):
        subprocess.run([*ours, *command], cwd=folder, check=True, capture_output=True)
    rng = np.random.default_rng(SEED)
    workspace = open_workspace(folder / "work")
    scored = Scored(folder / "work" / "online" / SCORES_FILE)
    held = scored.whole(SHOP)
    assert held is not None, "it was scored"
    number = held[0]
    scored.put_items(SHOP, number, (_item(code, count, rng) for code in range(count)))
    sql = "SELECT DISTINCT customer FROM orders WHERE customer IS NOT NULL ORDER BY 1"
    names = workspace.shop(SHOP).query(sql)["customer"].to_pylist()
    _, rows = scored.customers(SHOP, names)
    scored.put(SHOP, number, [_listed(row, count, rng) for row in rows])
    scored.close()
    profiles = Profiles(folder / "work" / "online" / PROFILES_FILE)
    profiles.catch_up(workspace.lake)
    with profiles.writing() as connection:
        connection.executemany(
            "INSERT INTO items (shop, item, time, received, digest, visible, title, stock)"
            " VALUES (?, ?, 0, 0, ?, 0, ?, ?)",
            ((SHOP, f"i{code:07d}", code.to_bytes(16, "big"), f"item {code}", code % 20)
             for code in range(count)),
        )  # fmt: skip
    profiles.close()
    return [row.customer for row in rows]


def _item(code: int, count: int, rng: np.random.Generator) -> ScoredItem:
    beside = rng.integers(0, count, 50)
    similar = [(f"i{one:07d}", round(0.5 / place, 4)) for place, one in enumerate(beside, 1)]
    return ScoredItem(
        f"i{code:07d}", f"item {code}", f"c{code % 1_000}", float(count - code), True, "",
        msgspec.json.encode(similar),
    )  # fmt: skip


def _listed(row: ScoredCustomer, count: int, rng: np.random.Generator) -> ScoredCustomer:
    listed = [
        Listed(f"i{one:07d}", f"item {one}", f"c{one % 1_000}", -place / 10, "likely_next", "fits")
        for place, one in enumerate(rng.choice(count, 50, replace=False))
    ]
    return row._replace(listed=zlib.compress(msgspec.json.encode(listed), 1))


def _asked(
    client: httpx.Client, customers: list[str], count: int
) -> Iterator[tuple[str, Figures]]:
    rng = np.random.default_rng(SEED)

    def item() -> str:
        return f"i{rng.integers(count):07d}"

    def somebody() -> str:
        return customers[rng.integers(len(customers))]

    deadline = time.monotonic() + 60
    with suppress(httpx.HTTPError):
        while client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
    for method, address in (
        ("nothing", lambda: "/healthz"),
        ("list", lambda: f"/v1/customers/{somebody()}/recommendations"),
        ("list on a page, with a cart of 3", lambda: (
            f"/v1/customers/{somebody()}/recommendations?item={item()}"
            f"&cart={item()},{item()},{item()}")),
        ("list of nobody, on a page", lambda: f"/v1/recommendations?item={item()}"),
        ("similar items", lambda: f"/v1/items/{item()}/similar"),
    ):  # fmt: skip
        took = []
        for _ in range(ASKED):
            path = address()
            began = time.perf_counter()
            told = client.get(path)
            took.append(1e3 * (time.perf_counter() - began))
            told.raise_for_status()
        low, high = np.percentile(took, [50, 99])
        yield f"read: {method}", {"p50_ms": float(low), "p99_ms": float(high)}


# -- ranking


def ranking(count: int) -> Iterator[tuple[str, Figures]]:
    """What the scorer takes for one customer's list, scoring all items or those worth it."""
    shop = made_up(count)
    began = time.process_time()
    past = past_of(shop, shop.cutoff)
    bought = past.counts.sign()
    whole = time.process_time() - began
    began = time.process_time()
    similar_items(bought)
    yield "what is bought with what", {
        "seconds": time.process_time() - began, "past_seconds": whole,
        "customers": len(shop.customers), "order_lines": len(shop.line_item),
    }  # fmt: skip
    mixture = Mixture(weights=DEFAULTS, horizons=(), recall=None, default_recall=None)
    fitted = FittedRecommender(
        mixture=mixture, past=past, model=None, shown=shown(shop, past, Rules(skip_spent=True))
    )
    rng = np.random.default_rng(SEED)
    asked = np.sort(rng.choice(len(shop.customers), 160, replace=False))
    some = asked[: max(min(160, 16_000_000 // count), 2)]
    part, part_ms = _ranked(fitted, shop, asked, narrow=True)
    every, every_ms = _ranked(fitted, shop, some, narrow=False)
    yield "list, all items scored", {"ms_each": every_ms}
    yield "list, those worth it scored", {
        "ms_each": part_ms,
        **{f"recall_at_{k}": _recall(every, part, k) for k in (10, 50)},
    }


def _recall(every: dict[str, list[float]], part: dict[str, list[float]], k: int) -> float:
    """Share of the k best scores that a part of the items reaches; of equal ones any will do."""
    found = [np.mean(np.array(part[one][:k]) >= told[k - 1] - 1e-4) for one, told in every.items()]
    return float(np.mean(found))


def _ranked(
    fitted: FittedRecommender, shop: Sequences, asked: np.ndarray, *, narrow: bool
) -> tuple[dict[str, list[float]], float]:
    """Scores by customer, and what each took in processor time; what is found once is left out."""
    with mock.patch.object(room, "NARROW_FROM", 0 if narrow else 1 << 60):
        once = time.process_time()
        if narrow:
            standing = shop_scores(fitted.past, fitted.mixture.weights)
            wide_of(fitted.past, standing, fitted.shown.on_sale)
        once = time.process_time() - once
        began = time.process_time()
        lists = list(recommend_by_batch(fitted, shop, k=50, customers=asked))
        took = time.process_time() - began - once
    found: dict[str, list[float]] = {}
    for some in lists:
        for row in some.table().to_pylist():
            found.setdefault(row["customer"], []).append(row["score"])
    return found, 1e3 * took / len(asked)


def made_up(count: int) -> Sequences:
    """A shop of so many items, each of which was sold."""
    rng = np.random.default_rng(SEED)
    categories, customers, orders, lines = max(count // 200, 10), count // 20, 6, 5
    of_category = rng.permutation(count) % categories
    members = np.argsort(of_category, kind="stable")
    first = np.searchsorted(of_category[members], np.arange(categories))
    sizes = np.bincount(of_category, minlength=categories)
    total = customers * orders * lines
    owner = np.repeat(np.arange(customers), orders * lines)
    liked = rng.integers(0, categories, (customers, 4))
    category = liked[owner, rng.integers(0, 4, total)]
    place = (sizes[category] * rng.random(total) ** 3).astype(np.int64)      # few sell most
    item = members[first[category] + place]
    item[: min(count, total)] = rng.permutation(count)[: min(count, total)]  # nothing never sold
    again = np.flatnonzero(rng.random(total) < 0.3)
    item[again] = item[owner[again] * orders * lines + rng.integers(0, orders * lines, len(again))]
    events = customers * orders
    time_of = NOW - np.sort(rng.integers(DAY, 180 * DAY, (customers, orders)), axis=1)[:, ::-1]
    day = np.repeat(time_of.ravel() // DAY, lines)
    sold, sold_count = np.unique(np.stack([day, item]), axis=1, return_counts=True)
    names = np.array([f"i{code:07d}" for code in range(count)], object)
    return Sequences(
        shop=SHOP, currency="GBP", timezone="UTC", cutoff=NOW,
        customers=np.array([f"c{one:07d}" for one in range(customers)], object),
        offsets=np.arange(customers + 1, dtype=np.int64) * orders,
        time=time_of.ravel(), kind=np.zeros(events, np.int16), kinds=("order_placed",),
        value=np.full(events, 10.0), cancelled_at=np.full(events, np.iinfo(np.int64).max),
        line_offsets=np.arange(events + 1, dtype=np.int64) * lines,
        line_item=item.astype(np.int32), line_quantity=np.ones(total, np.float32),
        line_amount=np.full(total, 2.0), items=names, titles=names,
        categories=np.array([f"k{one}" for one in of_category], object),
        sales_day=sold[0].astype(np.int32), sales_item=sold[1].astype(np.int32),
        sales_orders=sold_count.astype(np.int32),
    )  # fmt: skip


# -- nearest items


def nearest(count: int) -> Iterator[tuple[str, Figures]]:
    """The nearest items of a vector: by the exact product, and by indexes of faiss."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(max(count // 500, 20), WIDTH)).astype(np.float32)
    vectors = centres[rng.integers(0, len(centres), count)]
    vectors = vectors + 0.5 * rng.normal(size=vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = vectors[rng.integers(0, count, 100)]
    asked = asked + 0.1 * rng.normal(size=asked.shape).astype(np.float32)

    def exact(queries: np.ndarray) -> np.ndarray:
        scores = queries @ vectors.T                   # (Q, V)
        return np.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]

    found, ms = _timed(exact, asked)
    yield "nearest 100, exact product", {"ms_each": ms, "recall_at_100": 1.0}
    try:
        import faiss
    except ImportError:
        print("faiss is not here\nhint: pip install faiss-cpu", file=sys.stderr)
        return
    faiss.omp_set_num_threads(1)
    for method, build in _indexes(faiss, count):
        began = time.process_time()
        index = build()
        if not index.is_trained:
            index.train(vectors[rng.choice(count, min(count, 100_000), replace=False)])
        index.add(vectors)
        built = time.process_time() - began
        near, ms = _timed(partial(_search, index), asked)
        hits = [len(set(one) & set(other)) for one, other in zip(found, near, strict=True)]
        yield f"nearest 100, {method}", {
            "ms_each": ms, "recall_at_100": float(np.mean(hits)) / NEAREST,
            "build_seconds": built,
        }  # fmt: skip


def _search(index: Any, queries: np.ndarray) -> np.ndarray:
    found: np.ndarray = index.search(queries, NEAREST)[1]
    return found


def _indexes(faiss: Any, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    lists = int(4 * np.sqrt(count))

    def inverted() -> Any:
        index = faiss.index_factory(WIDTH, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = 32
        return index

    yield "faiss inverted lists", inverted
    if count <= 100_000:                   # building it takes too long beyond

        def graph() -> Any:
            index = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efSearch = 256
            return index

        yield "faiss graph (HNSW)", graph


def _timed(
    search: Callable[[np.ndarray], np.ndarray], asked: np.ndarray
) -> tuple[np.ndarray, float]:
    """What was found, one query after the other, and what each took in processor time, ms."""
    search(asked[:1])
    began = time.process_time()
    found = [search(asked[row : row + 1])[0] for row in range(len(asked))]
    return np.array(found), 1e3 * (time.process_time() - began) / len(asked)


PARTS: dict[str, Callable[[int], Iterator[tuple[str, Figures]]]] = {
    "reads": reads, "ranking": ranking, "nearest": nearest,
}

if __name__ == "__main__":
    main()
