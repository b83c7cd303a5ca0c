"""What it costs that scores move live audiences: taking a score over, and finding its instant.

    python -m benchmarks.audiences_scores

Customers of one shop have curves that are made up: hazards that rise and fall. Each is scored anew,
256 together, as the follower takes them over; audiences compare predictions of every kind. The
scorer, the door and the network are not in it; `benchmarks/serving.py` measures the whole way.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.audiences_live import SHOP, clock, event, record
from benchmarks.rows import RESULTS, Ledger, Row, hardware, harness_commit
from habitue.audiences.compile import asked
from habitue.audiences.language.parsing import parse
from habitue.audiences.live import tables
from habitue.audiences.live.definitions import Defined, taken
from habitue.audiences.live.facts import Shop
from habitue.audiences.live.keeping import Keeper
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.curves import Rescored
from habitue.config import collecting_rarely
from habitue.lake.eventlog.records import Record
from habitue.lake.live.told import instant
from habitue.lake.profiles import Profiles
from habitue.predictions.calendar import PERIOD_EDGES, flat_level
from habitue.predictions.calibrate import Calibration
from habitue.predictions.scores import drift
from habitue.predictions.scores.kept import Whole
from habitue.sequences.build import DAY
from habitue.sequences.tokens import BIN_EDGES

OURS = ("habitue/audiences", "habitue/predictions/scores", "benchmarks/audiences_scores.py")
CUSTOMERS, AT_ONCE, SEED = 2_000, 256, 0
HORIZONS = (7.0, 30.0, 60.0, 90.0, 180.0, 365.0)
ORDER_HORIZONS = tuple(sorted({*HORIZONS, *PERIOD_EDGES[1:]}))
COUNTS = (0, 1, 10, 50)                    # audiences
KINDS = (
    "churn_90d > 0.{n}", "order_30d >= 0.{n} and did order_placed in {d} days",
    "expected_spend_90d >= {m}", "next_order_date in the next {d} days", "not churn_{d}d > 0.{n}",
    "expected_orders_365d >= {n}", "order_7d > 0.{n} or did cart_added in {d} days",
    "churn_365d < 0.{n}", "next_order_date this week and churn_30d > 0.{n}",
    "expected_spend_30d > {m} and churn_{d}d < 0.9",
)  # fmt: skip


def main() -> None:
    """Run every count of audiences, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "audiences_scores.csv")
    options = parser.parse_args()
    ledger = Ledger(options.results, harness_commit(*OURS), hardware())
    for count in COUNTS:
        found = cell(count)
        ledger.put(
            Row(data=f"{CUSTOMERS:,} customers", protocol=f"{AT_ONCE} together",
                method=f"{count} audiences", metric=metric, value=value, seed=SEED,
                commit=ledger.commit, hardware=ledger.machine)
            for metric, value in found.items()
        )  # fmt: skip
        print(count, {name: round(value, 1) for name, value in found.items()}, flush=True)


def sentences(count: int) -> dict[str, str]:
    """So many audiences that compare predictions, of every kind."""
    return {
        f"a{n}": KINDS[n % len(KINDS)].format(n=1 + n % 8, d=7 * (1 + n // 10), m=20 + n)
        for n in range(count)
    }


def cell(count: int) -> dict[str, float]:
    """Score everybody once more, let time pass, and let a few look at something."""
    rng, draw = np.random.default_rng(SEED), random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder, collecting_rarely():
        keeper = Keeper(clock, drift.opened)
        profiles = Profiles(Path(folder) / "profiles.sqlite", then=keeper.told)
        with profiles.writing() as connection:
            tables.make(connection)
            whole = curves.put_whole(connection, SHOP, msgspec.json.encode(made_up()))
        for offset, begin in enumerate(range(0, CUSTOMERS, 1_000)):    # five events each
            piece = [event(draw, CUSTOMERS, number, instant(clock()))
                     for number in range(5 * begin, 5 * begin + 5_000)]  # fmt: skip
            profiles.apply(0, [Record(offset, record(0, piece))])
        take(profiles, keeper, whole, rng)
        define(profiles, keeper, sentences(count))
        began = time.process_time()
        while backfill(profiles, keeper):
            pass
        applied = time.process_time() - began
        began, held = time.process_time(), changes(profiles)
        take(profiles, keeper, whole, rng)
        scored, moved = time.process_time() - began, changes(profiles) - held
        began, held = time.process_time(), changes(profiles)
        later = clock() + DAY
        with profiles.writing() as connection:
            while keeper.fire(connection, later):
                pass
        silent, passed = time.process_time() - began, changes(profiles) - held
        profiles.close()
    return {
        "applied_processor_us_per_customer": 1e6 * applied / CUSTOMERS,
        "processor_us_per_score": 1e6 * scored / CUSTOMERS, "changes_by_score": moved,
        "processor_us_per_change_by_silence": 1e6 * silent / max(passed, 1),
        "changes_by_silence": passed,
    }  # fmt: skip


def take(profiles: Profiles, keeper: Keeper, whole: int, rng: np.random.Generator) -> None:
    """Score everybody, so many in one transaction."""
    for rows in batches(rng):
        told = [
            (SHOP, Rescored(f"c{number}", whole, clock() - int(DAY * rng.random()), row))
            for number, row in rows
        ]
        with profiles.writing() as connection:
            keeper.scored(connection, told, clock())
    with profiles.writing() as connection:
        curves.complete(connection, clock())


def batches(rng: np.random.Generator) -> Iterator[list[tuple[int, bytes]]]:
    for begin in range(0, CUSTOMERS, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, CUSTOMERS))
        yield [(number, row(rng)) for number in numbers]


def define(profiles: Profiles, keeper: Keeper, told: dict[str, str]) -> None:
    """Follow these audiences from now on."""
    with profiles.writing() as connection:
        scoring = keeper.readings.look(connection)[SHOP]
        wanted = {key for one in told.values() for key in asked(parse(one))}
        settings = Shop(currency="GBP", scored=frozenset(wanted))
        defined = Defined(
            shop=SHOP, sentences=told, settings=settings, since=dict.fromkeys(told, clock()),
            scored_since=scoring.since,
        )  # fmt: skip
        keeper.follow(connection, taken(connection, [defined], clock()))


def backfill(profiles: Profiles, keeper: Keeper) -> bool:
    """Apply what is new to some more customers; whether there are more of them."""
    with profiles.writing() as connection:
        return keeper.backfill(connection)


def changes(profiles: Profiles) -> int:
    """Changes so far."""
    with profiles.writing() as connection:
        return int(connection.execute("SELECT count(*) FROM changes").fetchone()[0])


def made_up() -> Whole:
    """What the curves of the shop rest on."""
    level = flat_level()
    return Whole(
        version="v1", status="full", missing=None, cutoff=0, horizons_days=HORIZONS,
        order_horizons_days=ORDER_HORIZONS, components=4, has_value=False,
        expected_orders=tuple(float(n + 1) for n in range(len(ORDER_HORIZONS))),
        calibration=Calibration(drift=0.2), level_edges=tuple(level.edges.tolist()),
        level_orders=tuple(level.orders.tolist()), level_value=tuple(level.value.tolist()),
        level_known=False, spend_shift=(),
    )  # fmt: skip


def row(rng: np.random.Generator) -> bytes:
    """One customer's numbers."""
    rate = np.clip(rng.uniform(-7, -2) + np.cumsum(rng.normal(0, 0.5, len(BIN_EDGES))), -12, 1)
    orders = np.sort(rng.normal(-0.5, 1.0, len(ORDER_HORIZONS)))
    spend = len(HORIZONS) * 4
    parts = (
        rate, orders, [0.0], rate, orders, np.full(len(HORIZONS), 0.5),
        np.full(spend, -np.log(4)), rng.normal(3.0, 0.5, spend), rng.uniform(0.2, 0.8, spend),
    )  # fmt: skip
    return np.concatenate(parts).astype("<f4").tobytes()


if __name__ == "__main__":
    main()
