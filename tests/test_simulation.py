"""The simulated shop keeps its promises: repeatable, cut anyhow, and true to its own truth."""

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.lake import schema
from habitue.simulation import (
    DAY,
    NEVER,
    Lifetime,
    PerOrder,
    ShopConfig,
    catalogue,
    customer_keys,
    flat,
    simulate,
    truth,
)
from tests.shops import end_of, events_of, sequences_of

SMALL = ShopConfig(customers=60, items=40)
LARGE = ShopConfig(customers=6000, items=200, views=0.0, carts=0.0)


def micros(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.int64()).to_numpy()


def orders_between(events: pa.Table, keys: np.ndarray, start: int, end: int) -> np.ndarray:
    """(C,) orders of each customer in (start, end]."""
    time = micros(events["time"])
    chosen = events.filter(pa.array((time > start) & (time <= end))).filter(
        pc.field("name") == "order_placed"
    )
    place = pc.index_in(chosen["customer"].drop_null(), pa.array(keys, pa.string()))
    return np.bincount(place.to_numpy(), minlength=len(keys))


def test_the_same_seed_tells_the_same_events_and_another_seed_others():
    once, again, other = events_of(SMALL, 7), events_of(SMALL, 7), events_of(SMALL, 8)

    assert once.equals(again)
    assert catalogue(SMALL, 7).equals(catalogue(SMALL, 7))
    assert not once.equals(other)


@settings(max_examples=8)
@given(chunk=st.integers(64, 700), customers=st.integers(1, 600))
def test_a_customer_does_the_same_however_the_shop_is_cut(chunk, customers):
    config = replace(SMALL, customers=600, views=0.2, days=200, arrival_days=100)
    whole = events_of(config, 3)
    part = replace(config, customers=customers)

    chunks = list(simulate(part, 3, chunk=chunk))

    expected = whole.slice(0, sum(len(table) for table in chunks))
    assert pa.concat_tables(chunks).equals(expected)
    if len(expected) < len(whole):
        follower = whole["id"][len(expected)].as_py()
        assert customer_keys(customers, 1)[0] in follower


def test_events_follow_the_schema_and_their_amounts_add_up():
    events = events_of(SMALL, 1)
    orders = events.filter(pc.field("name") == "order_placed").to_pylist()

    assert events.schema.equals(schema.EVENTS)
    assert set(events["name"].to_pylist()) == {
        "order_placed", "order_refunded", "item_viewed", "cart_added",
    }  # fmt: skip
    assert len(set(events["digest"].to_pylist())) == len(events)
    for order in orders:
        assert order["value_minor"] == sum(line["amount_minor"] for line in order["lines"])
        for line in order["lines"]:
            amount = (line["quantity"] * line["unit_price"]).scaleb(2)
            assert amount.quantize(Decimal(1), ROUND_HALF_EVEN) == line["amount_minor"]
            assert line["row"] is not None


def test_nothing_happens_before_the_start_after_the_end_or_before_it_is_received():
    events = events_of(SMALL, 2)
    time = micros(events["time"])

    assert time.min() >= end_of(SMALL) - SMALL.days * DAY
    assert time.max() <= end_of(SMALL)
    assert (micros(events["received"]) >= time).all()


def test_no_item_is_sold_before_its_launch():
    config = replace(SMALL, customers=400, launched=0.9)
    items = catalogue(config, 5)
    launch = dict(zip(items["item"].to_pylist(), micros(items["time"]), strict=True))
    orders = events_of(config, 5).filter(pc.field("name") == "order_placed")

    for time, lines in zip(micros(orders["time"]), orders["lines"].to_pylist(), strict=True):
        # popularity holds still for four weeks, and is zero in the weeks the launch falls in
        assert all(time >= launch[line["item"]] for line in lines)


def test_the_share_of_anonymous_orders_is_as_configured():
    orders = events_of(LARGE, 4).filter(pc.field("name") == "order_placed")

    share = orders["customer"].null_count / len(orders)

    assert share == pytest.approx(LARGE.anonymous, abs=0.01)


@pytest.mark.parametrize("dropout", [PerOrder(), Lifetime()])
def test_nobody_orders_before_arriving_or_after_leaving(dropout):
    config = replace(SMALL, customers=500, dropout=dropout)
    known = truth(config, 9)
    orders = events_of(config, 9).filter(
        (pc.field("name") == "order_placed") & pc.is_valid(pc.field("customer"))
    )
    place = pc.index_in(orders["customer"], pa.array(known.keys, pa.string())).to_numpy()
    time = micros(orders["time"])

    assert (time >= known.customers.arrived[place]).all()
    assert (time <= known.customers.alive_until[place]).all()
    assert 0.05 < (known.customers.alive_until == NEVER).mean() < 0.95


@pytest.mark.parametrize("dropout", [PerOrder(), Lifetime()])
@pytest.mark.parametrize("horizon_days", [30, 90])
def test_what_happens_agrees_with_the_truth(dropout, horizon_days):
    """Two z-scores at a fixed seed; with any other, both are below 4 with chance .9998."""
    config = replace(LARGE, dropout=dropout)
    known = truth(config, 11)
    at = end_of(config) - 180 * DAY
    events = events_of(config, 11)
    observed = orders_between(events, known.keys, at, at + horizon_days * DAY)
    here = known.customers.arrived <= at
    chance = known.probability_of_order(at, horizon_days)[here]
    expected = known.expected_orders(at, horizon_days)[here]

    of_order = ((observed[here] > 0) - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
    surplus = observed[here] - expected
    of_count = surplus.sum() / np.sqrt(np.square(surplus).sum())

    assert abs(of_order) < 4
    assert abs(of_count) < 4
    assert np.isnan(known.probability_of_order(at, horizon_days)[~here]).all()
    assert (chance <= expected + 1e-12).all()


def test_order_values_are_lognormal_around_each_customers_own_mean():
    known = truth(LARGE, 12)
    orders = events_of(LARGE, 12).filter(
        (pc.field("name") == "order_placed") & pc.is_valid(pc.field("customer"))
    )
    place = pc.index_in(orders["customer"], pa.array(known.keys, pa.string())).to_numpy()
    residual = np.log(orders["value_minor"].to_numpy() / 100) - known.customers.log_value[place]

    assert residual.mean() == pytest.approx(0, abs=4 * 0.4 / np.sqrt(len(residual)))
    assert residual.std() == pytest.approx(LARGE.value_noise, rel=0.02)


def test_revenue_agrees_with_the_truth():
    known = truth(LARGE, 13)
    at = end_of(LARGE) - 180 * DAY
    events = events_of(LARGE, 13)
    time = micros(events["time"])
    follows = pa.array((time > at) & (time <= at + 90 * DAY))
    known_orders = (pc.field("name") == "order_placed") & pc.is_valid(pc.field("customer"))
    earned = pc.sum(events.filter(follows).filter(known_orders)["value_minor"]).as_py() / 100

    # arrivals after `at` are not expected by anyone who is known at `at`
    late = known.keys[known.customers.arrived > at]
    newcomers = pc.is_in(events["customer"], pa.array(late, pa.string()))
    new = events.filter(pc.and_(follows, newcomers)).filter(known_orders)["value_minor"]
    expected = np.nansum(known.expected_revenue(at, 90))

    assert earned - (pc.sum(new).as_py() or 0) / 100 == pytest.approx(expected, rel=0.06)


def test_first_purchases_follow_the_item_preference():
    config = replace(LARGE, repeat=0.0, popularity_drift=0.0, launched=0.0, items=30)
    known = truth(config, 14)
    sequences = sequences_of(config, 14)
    counts = np.bincount(sequences.line_item, minlength=config.items)
    lines = np.diff(sequences.line_offsets[sequences.offsets])
    expected = lines @ known.item_preference(np.arange(config.customers), end_of(config))

    assert expected.sum() == pytest.approx(counts.sum())
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_repeats_are_as_frequent_as_configured_when_items_are_many():
    config = replace(LARGE, items=20_000, repeat=0.5, lines=1.0)
    sequences = sequences_of(config, 15)
    who = np.repeat(sequences.customer_of_event, np.diff(sequences.line_offsets))
    pairs = np.unique(who.astype(np.int64) * config.items + sequences.line_item)
    later = len(who) - len(np.unique(who))

    # a customer's own share is uniform on [0, 1], and her first line is never a repeat
    assert (len(who) - len(pairs)) / later == pytest.approx(0.5, abs=0.05)


def test_a_flat_shop_orders_as_much_in_june_as_in_december():
    season = truth(flat(SMALL), 0).shelf.season
    wavy = truth(replace(SMALL, peak_day=345), 0).shelf.season
    june, december = (season.start + day * DAY for day in (150, 334))

    assert season.at(june + 28 * DAY) - season.at(june) == pytest.approx(28)
    assert season.at(december + 28 * DAY) - season.at(december) == pytest.approx(28)
    assert wavy.at(december + 28 * DAY) - wavy.at(december) > 33


def test_titles_tell_the_category():
    items = catalogue(SMALL, 1)
    last_words = {}
    rows = zip(items["title"].to_pylist(), items["category"].to_pylist(), strict=True)
    for title, category in rows:
        last_words.setdefault(title.split()[-1], set()).add(category)

    assert len(set(items["category"].to_pylist())) == SMALL.categories
    assert all(len(categories) == 1 for categories in last_words.values())
