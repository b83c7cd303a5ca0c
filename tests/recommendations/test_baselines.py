"""The alternatives are what their names say, and never leave a place empty while items remain."""

from datetime import UTC, datetime

import numpy as np
import pytest

from habitue.recommendations.baselines import BASELINES
from habitue.recommendations.candidates import past_of
from habitue.recommendations.rules import Rules, shown
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from tests.shops import orders_of

START = datetime(2024, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def sequences():
    rows = [
        *((None, 1, ["old"]) for _ in range(9)),
        *((None, 150, ["tea"]) for _ in range(3)),
        *((None, 150, ["jam"]) for _ in range(2)),
        ("ann", 100, ["saw"]),
        ("ann", 110, ["saw", "tea"]),
        ("ann", 120, ["jam"]),
        *((f"c{n}", 130, ["saw", "nail"]) for n in range(3)),
    ]
    cutoff = microseconds(START) + 200 * DAY
    return sequences_from_events(orders_of(rows, start=START), shop="corner", cutoff=cutoff)


def listed(sequences, name, customer, k):
    limits = shown(sequences, past_of(sequences, sequences.cutoff), Rules())
    who = np.searchsorted(sequences.customers, [customer])
    items, _ = BASELINES[name](limits).recommend(who, k)
    return sequences.items[items[0]].tolist()


def test_popular_counts_ninety_days_of_everybodys_orders(sequences):
    # from day 110 on: saw and tea in four orders, jam and nail in three
    assert listed(sequences, "popular_90d", "ann", 4) == ["saw", "tea", "jam", "nail"]
    assert listed(sequences, "popular_90d", "ann", 5)[-1] == "old"


def test_top_frequency_counts_orders_and_breaks_ties_by_popularity(sequences):
    assert listed(sequences, "top_frequency", "ann", 3) == ["saw", "tea", "jam"]


def test_item_neighbours_prefer_what_goes_with_the_customers_items(sequences):
    everything = listed(sequences, "item_neighbours", "ann", 5)

    assert everything[0] == "saw"
    assert everything.index("nail") < everything.index("old")


@pytest.mark.parametrize("name", BASELINES)
def test_lists_are_filled_from_the_whole_catalogue(sequences, name):
    assert sorted(listed(sequences, name, "c0", 5)) == sequences.items.tolist()
