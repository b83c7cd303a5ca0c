"""An item that nobody has ordered reaches those whom its text speaks to."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from habitue.lake import schema
from habitue.recommendations.candidates import past_of
from habitue.recommendations.newcomers import newcomers, with_newcomers
from habitue.recommendations.recommend import fit_recommender, recommend
from habitue.recommendations.rules import Rules
from habitue.sequences.build import DAY, Sequences, sequences_from_events
from habitue.simulation import ShopConfig, catalogue, truth
from tests.shops import end_of, events_of

SHOP = ShopConfig(customers=400, items=60, loyalty=0.9, launched=0.0, refunds=0.0)
SEED = 5


def never_ordered(item: str, *, title: str | None = None) -> Sequences:
    """The shop, of which nobody ever touched an item; nothing but its title is known of it."""
    events, items = events_of(SHOP, SEED), catalogue(SHOP, SEED)
    lines = [
        None if held is None else [line for line in held if line["item"] != item]
        for held in events["lines"].to_pylist()
    ]
    column = pa.array(lines, schema.EVENTS.field("lines").type)
    events = events.set_column(events.column_names.index("lines"), "lines", column)
    is_new = pc.equal(items["item"], item)
    known = {"category": None} if title is None else {"category": None, "title": title}
    for name, value in known.items():
        changed = pc.if_else(is_new, pa.scalar(value, pa.string()), items[name])
        items = items.set_column(items.column_names.index(name), name, changed)
    return sequences_from_events(events, items, shop="simulated", cutoff=end_of(SHOP))


@pytest.fixture(scope="module")
def item() -> str:
    """A rustic ceramic mug; the truth knows who prefers the kitchen."""
    return str(truth(SHOP, SEED).shelf.items[12])


def places(sequences: Sequences, item: str) -> np.ndarray:
    """(C,) the item's place in everybody's list of what they have not bought, from 0."""
    fitted = fit_recommender(sequences, cutoff=sequences.cutoff)
    everybody = np.arange(len(sequences.customers))
    scores = fitted.scores(everybody)
    scores[fitted.past.counts[everybody].nonzero()] = -np.inf
    column = int(np.searchsorted(sequences.items, item))
    return (scores > scores[:, [column]]).sum(axis=1)


def test_it_stands_high_with_those_who_prefer_what_it_is_and_low_without_its_text(item):
    sequences, hidden = never_ordered(item), truth(SHOP, SEED)
    category = hidden.shelf.category[np.searchsorted(hidden.shelf.items, item)]
    customers = np.searchsorted(hidden.keys, sequences.customers)
    likes = hidden.customers.preference[customers, category]
    fans, others = likes > 0.8, likes < 0.2
    place, silent = places(sequences, item), places(never_ordered(item, title=""), item)
    assert np.median(place[fans]) + 5 < np.median(place[others])
    assert np.median(place[fans]) + 15 < np.median(silent[fans])
    shown, unread = (np.mean(one[fans] < 10) for one in (place, silent))
    assert shown > 0.1
    assert shown > 2 * unread
    assert shown > 2 * np.mean(place[others] < 10)


def test_a_list_says_that_it_is_new_and_what_it_reads_like(item):
    sequences = never_ordered(item)
    rules = Rules(skip_bought=True)
    fitted = fit_recommender(sequences, cutoff=sequences.cutoff, rules=rules)
    table = recommend(fitted, sequences, k=10)
    told = [row for row in table.to_pylist() if row["item"] == item]
    assert {row["reason"] for row in told} == {"reads_like"}
    titles = dict(zip(sequences.items, sequences.titles, strict=True))
    others = {f"new, and reads like {title}" for one, title in titles.items() if one != item}
    assert {row["evidence"] for row in told} <= others


def test_only_what_is_listed_with_a_text_and_was_in_no_order_is_new(item):
    sequences = never_ordered(item)
    assert sequences.items[newcomers(sequences)].tolist() == [item]
    assert not newcomers(never_ordered(item, title="")).any()


def test_where_all_is_known_or_nothing_the_past_stays_as_it_is(item):
    sequences = sequences_from_events(
        events_of(SHOP, SEED), catalogue(SHOP, SEED), shop="simulated", cutoff=end_of(SHOP)
    )
    past = past_of(sequences, sequences.cutoff)
    assert with_newcomers(past, sequences) is past
    earlier = past_of(never_ordered(item), end_of(SHOP) - 30 * DAY)
    assert with_newcomers(earlier, never_ordered(item)) is earlier
    unsold = replace(
        sequences,
        value=np.zeros_like(sequences.value),
        sales_item=sequences.sales_item[:0],
        sales_day=sequences.sales_day[:0],
        sales_orders=sequences.sales_orders[:0],
    )
    nobody = past_of(unsold, unsold.cutoff)
    assert with_newcomers(nobody, unsold) is nobody
