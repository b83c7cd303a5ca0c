from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from habitue.events import Event, Money
from habitue.ingest.gate import events_table
from habitue.lake import schema
from habitue.lake.tables import Lake
from habitue.sequences import build as build_module
from habitue.sequences.build import (
    DAY,
    NEVER,
    Sequences,
    ShopRules,
    build_sequences,
    instant,
    microseconds,
    sequences_from_events,
    upto,
)
from habitue.simulation import catalogue
from tests import travelling
from tests.lake.people import link, told
from tests.lake.small import day, event, filled, line
from tests.sequences.small import CONFIG, another_future, past_of, sequences_at
from tests.shops import end_of, events_of, orders_of, sequences_of

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def assert_equal(one: Sequences, other: Sequences, *, but: tuple[str, ...] = ()) -> None:
    """Equal to the last bit, types and all."""
    for field in fields(one):
        if field.name in but:
            continue
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, field.name
            assert mine.tolist() == theirs.tolist(), field.name
        else:
            assert mine == theirs, field.name


def filled_rows(*events: Event) -> pa.Table:
    """Events as rows of the EVENTS schema."""
    rows = events_table(events)
    held = rows.schema.names
    empty = {name: pa.nulls(len(rows)) for name in schema.EVENTS.names if name not in held}
    bucket = pa.array([0] * len(rows), pa.int32())
    columns = {name: rows[name] for name in rows.schema.names} | empty | {"bucket": bucket}
    return pa.table(columns).select(schema.EVENTS.names).cast(schema.EVENTS)


def changed(events: pa.Table, **columns: list[object]) -> pa.Table:
    """The events with some columns replaced."""
    for name, values in columns.items():
        place = events.schema.get_field_index(name)
        array = pa.array(values, schema.EVENTS.field(name).type)
        events = events.set_column(place, schema.EVENTS.field(name), array)
    return events


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_nothing_after_the_cutoff_changes_the_sequences(share: float) -> None:
    events = events_of(CONFIG, seed=1)
    cutoff = end_of(CONFIG) - int(share * CONFIG.days * DAY) + 12_345
    whole = sequences_at(events, cutoff)
    assert 0 < len(whole.time) < len(events)
    assert_equal(whole, sequences_at(past_of(events, cutoff), cutoff))
    assert_equal(whole, sequences_at(another_future(events, cutoff), cutoff))


@pytest.mark.parametrize("days_back", [1, 30, 111, 250])
def test_upto_is_what_would_have_been_built_then(days_back: int) -> None:
    events = another_future(events_of(CONFIG, seed=2), end_of(CONFIG) - 100 * DAY)
    at = end_of(CONFIG) - days_back * DAY
    whole = sequences_at(events, end_of(CONFIG))
    built = sequences_at(events, at)
    cut = upto(whole, at)
    assert len(cut.time) < len(whole.time)
    assert_equal(cut, built, but=("kind", "kinds", "titles"))
    assert [cut.kinds[k] for k in cut.kind] == [built.kinds[k] for k in built.kind]


def test_upto_counts_no_sales_of_a_day_that_had_not_ended() -> None:
    events = orders_of([("ada", 0.1, ["mug"]), (None, 1.2, ["jug"])], start=MONDAY)
    whole = sequences_at(events, microseconds(MONDAY) + 5 * DAY)
    cut = upto(whole, microseconds(MONDAY) + DAY + DAY // 2)
    assert cut.items.tolist() == ["mug"]
    assert cut.sales_item.tolist() == [0]


def test_the_past_as_of_now_is_the_past() -> None:
    sequences = sequences_of(CONFIG, seed=2)
    cut = upto(sequences, sequences.cutoff)
    # what is listed but was never sold is not known to `upto`
    assert_equal(cut, sequences, but=("items", "titles", "categories", "line_item", "sales_item"))


def test_events_are_ordered_within_customers_and_none_is_lost() -> None:
    events = events_of(CONFIG, seed=3)
    sequences = sequences_of(CONFIG, seed=3)
    named = events.filter(events["customer"].is_valid())
    assert len(sequences.time) == len(named)
    assert sequences.customers.tolist() == sorted(set(named["customer"].to_pylist()))
    for c in range(len(sequences.customers)):
        times = sequences.time[sequences.offsets[c] : sequences.offsets[c + 1]]
        assert len(times)
        assert np.all(np.diff(times) >= 0)


def test_an_anonymous_order_sells_items_and_belongs_to_no_customer() -> None:
    events = orders_of([("ada", 0.0, ["mug"]), (None, 1.0, ["mug", "jug"])], start=MONDAY)
    sequences = sequences_at(events, microseconds(MONDAY) + 2 * DAY)
    assert sequences.customers.tolist() == ["ada"]
    assert sequences.items.tolist() == ["jug", "mug"]
    assert sequences.items[sequences.sales_item].tolist() == ["mug", "jug", "mug"]
    assert sequences.sales_orders.tolist() == [1, 1, 1]


def test_an_order_without_positive_value_is_left_out() -> None:
    events = orders_of([("ada", 0.0, ["mug"]), ("ada", 1.0, ["jug"])], start=MONDAY)
    events = changed(events, value_minor=[1000, 0])
    sequences = sequences_at(events, microseconds(MONDAY) + 2 * DAY)
    assert len(sequences.time) == 1
    assert sequences.items[sequences.sales_item].tolist() == ["mug"]


def test_an_order_told_by_two_sources_counts_once() -> None:
    events = orders_of([("ada", 0.0, ["mug"]), ("ada", 0.0, ["mug"])], start=MONDAY)
    events = changed(events, order=["1", "1"], source=["b", "a"], value_minor=[1000, 2000])
    sequences = sequences_at(events, microseconds(MONDAY) + DAY)
    assert sequences.value.tolist() == [20.0]


def test_what_is_no_item_counts_in_the_value_alone() -> None:
    events = orders_of([("ada", 0.0, ["mug", "POST", "gift_10"])], start=MONDAY)
    rules = ShopRules(not_item_codes=("POST",), not_item_patterns=("^gift_",))
    sequences = sequences_from_events(
        events, shop="corner", cutoff=microseconds(MONDAY) + DAY, rules=rules
    )
    assert sequences.items.tolist() == ["mug"]
    assert sequences.line_offsets.tolist() == [0, 1]
    assert sequences.line_amount.tolist() == [10.0]
    assert sequences.value.tolist() == [30.0]


def test_a_cancellation_is_known_from_its_own_time_on() -> None:
    events = orders_of([("ada", 0.0, ["mug"]), ("ada", 3.0, [])], start=MONDAY)
    names = ["order_placed", "order_cancelled"]
    events = changed(events, name=names, order=["1", "1"], value_minor=[1000, -1000])
    placed = microseconds(MONDAY)
    before = sequences_at(events, placed + 2 * DAY)
    after = sequences_at(events, placed + 4 * DAY)
    assert before.cancelled_at.tolist() == [NEVER]
    assert after.cancelled_at.tolist() == [placed + 3 * DAY, NEVER]
    assert upto(after, placed + 2 * DAY).cancelled_at.tolist() == [NEVER]


def test_another_currency_is_not_added_up() -> None:
    rows = [("ada", 0.0, ["mug"]), ("ada", 1.0, ["mug"]), ("ada", 2.0, ["mug"])]
    events = changed(orders_of(rows, start=MONDAY), currency=["GBP", "EUR", "GBP"])
    sequences = sequences_at(events, microseconds(MONDAY) + 3 * DAY)
    assert sequences.currency == "GBP"
    assert sequences.value.tolist() == [10.0, 0.0, 10.0]


def test_a_shop_without_events_has_no_customers() -> None:
    sequences = sequences_at(orders_of([], start=MONDAY), microseconds(MONDAY))
    assert len(sequences.customers) == len(sequences.time) == len(sequences.items) == 0
    assert sequences.offsets.tolist() == [0]
    assert upto(sequences, sequences.cutoff - DAY).offsets.tolist() == [0]


def test_instants_survive_the_way_through_dates() -> None:
    for time in (0, 1, -1, 1_700_000_000_123_456):
        assert microseconds(instant(time)) == time


def test_a_lake_gives_the_same_sequences_as_the_rows_that_went_in(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    filled(
        lake,
        event("1", 0.5),
        event("2", 3.0, customer="c2", lines=(line("jug", 100), line("mug", 150))),
        event("3", 5.0, received=day(20), order="3"),
        event("late", 9.0),
    )
    sequences = build_sequences(lake, "acme", cutoff=microseconds(day(6)))
    assert sequences.customers.tolist() == ["c1", "c2"]
    assert sequences.time.tolist() == [microseconds(day(at)) for at in (0.5, 5.0, 3.0)]
    assert sequences.value.tolist() == [2.5, 2.5, 2.5]
    assert sequences.items[sequences.line_item].tolist() == ["mug", "mug", "jug", "mug"]
    known = build_sequences(
        lake, "acme", cutoff=microseconds(day(6)), known_at=microseconds(day(10))
    )
    assert len(known.time) == 2


@pytest.mark.parametrize("at_once", [30, 10**9])
def test_a_lake_read_in_any_number_of_runs_gives_what_one_reading_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(build_module, "EVENTS_AT_ONCE", at_once)
    events = another_future(events_of(CONFIG, seed=6), end_of(CONFIG) - 100 * DAY)
    listed = catalogue(CONFIG, seed=6)
    lake = Lake(tmp_path)
    settings = [{"shop": CONFIG.shop, "received": MONDAY, "timezone": "UTC"}]
    columns = pa.schema([field for field in schema.SHOPS if field.name != "bucket"])
    lake.append(
        {"shops": pa.Table.from_pylist(settings, columns), "items": listed, "events": events}
    )
    read = build_sequences(lake, CONFIG.shop, cutoff=end_of(CONFIG))
    at = end_of(CONFIG)
    assert_equal(read, sequences_from_events(events, listed, shop=CONFIG.shop, cutoff=at))


@pytest.mark.parametrize("at_once", [8, 10**9])
def test_what_another_bucket_says_of_an_order_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(build_module, "EVENTS_AT_ONCE", at_once)
    lake = Lake(tmp_path)
    gone = {"name": "order_cancelled", "customer": None, "value": Money(-250, "GBP"), "lines": ()}
    twice = [
        event(f"{source}{number}", 1.0, source=source, customer=customer, order=str(number))
        for number in range(20)
        for source, customer in (("web", f"c{number}"), ("till", None))
    ]
    taken_back = [event(f"x{number}", 2.0, order=f"o{number}", **gone) for number in range(20)]
    placed = [
        event(f"p{number}", 1.0, order=f"o{number}", customer=f"d{number}") for number in range(20)
    ]
    filled(lake, *twice, *taken_back, *placed)
    sequences = build_sequences(lake, "acme", cutoff=microseconds(day(6)))
    # the till told of the first twenty without saying whose they were
    assert sequences.customers.tolist() == sorted(f"d{number}" for number in range(20))
    assert sequences.cancelled_at.tolist() == [microseconds(day(2))] * 20
    assert sequences.sales_orders.tolist() == [40]


@pytest.mark.parametrize("at_once", [3, 10**9])
def test_a_customer_of_several_keys_is_one_from_the_link_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(build_module, "EVENTS_AT_ONCE", at_once)
    keys = [f"anonymous:{number}" for number in range(9)]
    lake = filled(
        Lake(tmp_path),
        *(event(f"v{key}", 1.0, customer=key, name="item_viewed") for key in keys),
        event("o", 2.0, customer="c1"),
    )
    told(lake, *(link("c1", key, 3.0) for key in keys))
    before = build_sequences(lake, "acme", cutoff=microseconds(day(2.5)))
    assert before.customers.tolist() == sorted([*keys, "c1"])
    after = build_sequences(lake, "acme", cutoff=microseconds(day(4)))
    assert after.customers.tolist() == ["c1"]
    assert np.diff(after.offsets).tolist() == [10]


def test_lines_told_apart_join_their_order_unless_it_has_its_own_or_they_come_later() -> None:
    bare = {"lines": (), "order": "1"}
    apart = {"name": "item_ordered", "value": None}
    rows = filled_rows(
        event("1", 1.0, **bare),
        event("1a", 1.0, **apart, order="1", lines=(line("jug", 100),)),
        event("1b", 0.9, **apart, order="1", lines=(line("pot", 100),)),
        event("1c", 1.1, **apart, order="1", lines=(line("cup", 100),)),
        event("2", 2.0, order="2", lines=(line("mug", 100),)),
        event("2a", 2.0, **apart, order="2", lines=(line("mug", 100),)),
    )
    found = sequences_from_events(rows, shop="acme", cutoff=microseconds(day(6)))
    assert found.kinds == ("order_placed",)
    assert np.diff(found.line_offsets).tolist() == [2, 1]
    assert sorted(found.items[found.line_item].tolist()) == ["jug", "mug", "pot"]


def test_buckets_that_are_read_elsewhere_make_the_same_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "EVENTS_AT_ONCE", 200)
    settings = [{"shop": CONFIG.shop, "received": MONDAY, "timezone": "UTC"}]
    columns = pa.schema([field for field in schema.SHOPS if field.name != "bucket"])
    lake = Lake(tmp_path)
    lake.append(
        {"shops": pa.Table.from_pylist(settings, columns), "events": events_of(CONFIG, seed=3)}
    )
    cutoff = end_of(CONFIG) - 50 * DAY
    here = build_sequences(lake, CONFIG.shop, cutoff=cutoff)
    seen: list[object] = []

    def elsewhere(function, runs):
        seen.extend(runs := list(runs))
        return travelling.over(function, runs)

    assert_equal(build_sequences(lake, CONFIG.shop, cutoff=cutoff, over=elsewhere), here)
    assert len(seen) > 1, "otherwise nothing was shared"
