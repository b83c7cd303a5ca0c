"""How well a list completes an order of which some items are on the page.

    python -m benchmarks.on_a_page --data online_retail_ii.parquet --cutoff 2010-11-01

Orders of the 28 days after the cutoff that hold at least four items which sold in the year before.
One item of each, or three, drawn at random, are on the page; the others are what should be shown.
recall@10 is hits over the smaller of 10 and how many there are, over orders. Lists are made as
`habitue recommend` makes them, without a model.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from benchmarks.shops import sequences_of, source_of
from habitue.recommendations.candidates import ordered_within
from habitue.recommendations.metrics import recall
from habitue.recommendations.recommend import fit_recommender
from habitue.recommendations.rules import ByScore, Rules
from habitue.recommendations.shelf.everybody import STRANGER, Said, Stand, near_of, shelved
from habitue.recommendations.shelf.listed import Wanted
from habitue.sequences.build import DAY, Sequences, microseconds

OURS = ("habitue/recommendations", "benchmarks/on_a_page.py")
SEED, MOST_ORDERS, HORIZON_DAYS, PLACES = 0, 600, 28, 10


def main() -> None:
    """Judge each way of listing on the same orders, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cutoff", type=datetime.fromisoformat, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS / "on_a_page.csv")
    options = parser.parse_args()
    cutoff = options.cutoff.replace(tzinfo=UTC)
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    later = sequences_of(options.data, microseconds(cutoff) + HORIZON_DAYS * DAY)
    known = sequences_of(options.data, microseconds(cutoff))
    stand = Stand(
        fitted=fit_recommender(known, cutoff=known.cutoff), sequences=known, said=Said()
    )
    name = source_of(options.data).name
    told = [*_completed(stand, later), *_left_out(stand, later)]
    for method, metric, values in told:
        error = 1.645 * values.std() / np.sqrt(len(values))
        value = float(values.mean())
        ledger.put(
            [Row(data=f"{name} from {cutoff:%Y-%m-%d}", protocol=f"{len(values)} judged",
                 method=method, metric=metric, value=value, low=value - float(error),
                 high=value + float(error), seed=SEED, commit=ledger.commit,
                 hardware=ledger.machine)]
        )  # fmt: skip
        print(f"{method:44} {metric} {value:.4f} ± {error:.4f} of {len(values)}", flush=True)


def _completed(stand: Stand, later: Sequences) -> list[tuple[str, str, np.ndarray]]:
    """Recall of each way of listing, by what is on the page."""
    orders = _orders(stand, later)
    rng = np.random.default_rng(SEED)
    found = []
    for shown in (1, 3):
        drawn = [rng.permutation(items) for _, items in orders]
        hits: dict[str, list[float]] = {}
        for (customer, _), items in zip(orders, drawn, strict=True):
            page, rest = tuple(items[:shown].tolist()), set(items[shown:].tolist())
            for method, listed in _lists(stand, customer, page).items():
                share = len(rest & set(listed)) / min(len(rest), PLACES)
                hits.setdefault(f"{method}, page of {shown}", []).append(share)
        found += [(method, "recall@10", np.array(values)) for method, values in hits.items()]
    return found


def _lists(stand: Stand, customer: str, page: tuple[str, ...]) -> dict[str, Sequence[str]]:
    row = int(np.searchsorted(stand.sequences.customers, customer))
    asked = Wanted(k=PLACES, exclude=frozenset(page))
    beside = Wanted(k=PLACES, context=page)

    def items(wanted: Wanted, place: int) -> list[str]:
        found: list[str] = shelved(stand, wanted, {customer: place})["item"].to_pylist()
        return found

    near = [one.item for one in near_of(stand, page)][:PLACES]
    return {
        "own list": items(asked, row), "what goes with the page": near,
        "both joined": items(beside, row), "a stranger: what sells": items(asked, STRANGER),
        "a stranger: both joined": items(beside, STRANGER),
    }  # fmt: skip


def _orders(stand: Stand, later: Sequences) -> list[tuple[str, np.ndarray]]:
    """Customers who were known, each with the items of an order."""
    shop, past = stand.sequences, stand.fitted.past
    sold = set(shop.items[past.popularity[-1] > 0])
    after = np.flatnonzero((later.time > shop.cutoff) & later.is_order)
    names, known = later.customers[later.customer_of_event[after]], set(shop.customers)
    found = []
    for event, name in zip(after, names, strict=True):
        lines = slice(later.line_offsets[event], later.line_offsets[event + 1])
        items = np.unique(later.items[later.line_item[lines]].astype(str))
        items = np.array([one for one in items if one in sold])
        if name in known and len(items) >= 4:
            found.append((str(name), items))
    chosen = np.random.default_rng(SEED).permutation(len(found))[:MOST_ORDERS]
    return [found[one] for one in chosen]


def _left_out(stand: Stand, later: Sequences) -> list[tuple[str, str, np.ndarray]]:
    """What leaving out what was bought for good costs the lists of 28 days."""
    fitted, shop = stand.fitted, stand.sequences
    relevant = ordered_within(later, shop.cutoff, later.cutoff)
    column = np.searchsorted(later.items.astype(str), shop.items.astype(str))
    row = np.searchsorted(later.customers.astype(str), shop.customers.astype(str))
    relevant = relevant[row][:, column]
    asked = np.flatnonzero(fitted.past.known & (np.diff(relevant.indptr) > 0))
    found = []
    for method, rules in (
        ("nothing left out", Rules()), ("what was bought for good left out", Rules(skip_spent=True))
    ):  # fmt: skip
        lists, _ = ByScore(fitted.scores, replace(fitted.shown, rules=rules)).recommend(asked, 10)
        ordered = relevant[asked]
        found.append((method, "recall@10", recall(lists, ordered, np.diff(ordered.indptr))))
    return found


if __name__ == "__main__":
    main()
