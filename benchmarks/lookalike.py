"""Whether lookalikes behave like their seed, beside customers at random and neighbours by RFM.

    python benchmarks/lookalike.py --workspace work --shop acme --cutoff 2011-09-09

The workspace holds Online Retail II, a version that saw nothing after the cutoff, and what
`habitue embed --cutoff` kept of it. Of each seed the nearest customers by embedding, by ranks of
recency, frequency and value, and all others (whom a random choice draws from) are followed for the
days after the cutoff. Methods and seeds were fixed before anything after the cutoff was looked at.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

import habitue
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit, peak_mb
from habitue.audiences.lookalike import Space, nearest, space
from habitue.lake.query import read
from habitue.workspace import Shop

OURS = ("habitue/audiences/lookalike.py", "benchmarks/lookalike.py")
SEEDS = (
    'rfm = "champions"',
    "did order_placed >= 3 times in 90 days",
    "sum of order_placed value >= 1000 in 180 days",
    "first order_placed in the last 60 days",
)
SIZE, DAYS, DRAWS = 500, 90, 1_000
PROTOCOL = (
    "Online Retail II, cutoff {cutoff}, the 90 days after it; the 500 nearest customers outside "
    "the seed among those with an embedding; nano, 256 wide; intervals of 90% by resampling "
    "customers"
)

# one row per customer: orders that stand and their value in major units, after a cutoff
AFTER = """
SELECT customer, count(*) AS orders, sum(value_minor) / 100 AS revenue FROM orders
WHERE "time" > ? AND value_minor > 0 AND cancelled_at IS NULL GROUP BY customer
"""

# one row per customer: when the last order was, orders and value, up to the cutoff
BEFORE = """
SELECT customer, epoch(max("time")) AS recency, count(*) AS frequency, sum(value_minor) AS value
FROM orders WHERE value_minor > 0 AND cancelled_at IS NULL AND customer IS NOT NULL
GROUP BY customer
"""


def main() -> None:
    """Run every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--shop", default="acme")
    parser.add_argument("--cutoff", default="2011-09-09")
    parser.add_argument("--results", type=Path, default=RESULTS / "lookalike.csv")
    options = parser.parse_args()
    cutoff = datetime.fromisoformat(options.cutoff).replace(tzinfo=UTC)
    shop = habitue.open(options.workspace).shop(options.shop)
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    found = space(shop.workspace.lake, shop.name, cutoff=cutoff)
    assert found is not None, "habitue embed --cutoff first"
    ranks, done = ranked(shop, found, cutoff), followed(shop, found, cutoff)
    for said in SEEDS:
        seed = shop.audience(said, cutoff=cutoff).members["customer"].to_pylist()
        is_seed = np.isin(np.asarray(found.customers), seed)
        chosen = groups(found, ranks, is_seed)
        ledger.put(rows_of(said, chosen, done, ledger, options.cutoff))


def followed(shop: Shop, found: Space, cutoff: datetime) -> np.ndarray:
    """(N, 2) orders and revenue of each customer in the days after the cutoff."""
    end = cutoff + timedelta(days=DAYS)
    told = read(shop.workspace.lake, AFTER, [cutoff], shop=shop.name, cutoff=end)
    return lined_up(found, told, ("orders", "revenue"))


def ranked(shop: Shop, found: Space, cutoff: datetime) -> np.ndarray:
    """(N, 3) shares of customers below in recency, frequency and value."""
    told = read(shop.workspace.lake, BEFORE, shop=shop.name, cutoff=cutoff)
    held = lined_up(found, told, ("recency", "frequency", "value"))
    columns = [np.searchsorted(np.sort(one), one) / len(one) for one in held.T]
    return np.stack(columns, axis=1)


def lined_up(found: Space, told: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    """(N, columns) of who has an embedding; nought where nothing is told of them."""
    place = {one: at for at, one in enumerate(told["customer"].to_pylist())}
    rows = np.array([place.get(one, -1) for one in found.customers.to_pylist()])
    held = np.stack([np.asarray(told[name], float) for name in names], axis=1)
    return np.where(rows[:, None] < 0, 0.0, held[rows])


def groups(found: Space, ranks: np.ndarray, is_seed: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the seed, of who is nearest to it in two ways, and of everyone else."""
    away = ((ranks - ranks[is_seed].mean(axis=0)) ** 2).sum(axis=1)
    rest = np.flatnonzero(~is_seed)
    return {
        "seed": np.flatnonzero(is_seed),
        "lookalike": nearest(found, is_seed, ~is_seed, SIZE)[0],
        "rfm_neighbours": rest[np.argsort(away[rest], kind="stable")[:SIZE]],
        "random": rest,
    }


def rows_of(
    said: str, chosen: dict[str, np.ndarray], done: np.ndarray, ledger: Ledger, cutoff: str
) -> list[Row]:
    """What each group did a customer, with intervals."""
    rng, rows = np.random.default_rng(0), []
    began = time.perf_counter()
    measures: dict[str, Callable[[np.ndarray], float]] = {
        "ordered": lambda held: float((held[:, 0] > 0).mean()),
        "orders": lambda held: float(held[:, 0].mean()),
        "revenue": lambda held: float(held[:, 1].mean()),
    }
    for name, members in chosen.items():
        held = done[members]
        draws = [held[rng.integers(0, len(held), len(held))] for _ in range(DRAWS)]
        told = {"customers": (float(len(held)), None, None)} | {
            metric: (of(held), *np.percentile([of(one) for one in draws], [5, 95]).tolist())
            for metric, of in measures.items()
        }
        print(f"{said:48} {name:15} " + " ".join(f"{one[0]:9.3f}" for one in told.values()))
        rows += [
            Row(
                data=said, protocol=PROTOCOL.format(cutoff=cutoff), method=name, metric=metric,
                value=value, low=low, high=high, seed=0, seconds=time.perf_counter() - began,
                peak_mb=peak_mb(), commit=ledger.commit, hardware=ledger.machine,
            )
            for metric, (value, low, high) in told.items()
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
