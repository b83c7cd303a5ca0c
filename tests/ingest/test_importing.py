import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from habitue.ingest.importing import import_file
from habitue.ingest.mapping import Cancellation, Mapping, parse_mapping
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.small import (
    NOW,
    Row,
    counts,
    events,
    imported,
    lines,
    orders,
    row,
    written,
)

GOLDEN = Path(__file__).parent.parent / "golden"


def test_lines_of_an_order_become_one_event_at_its_first_line(tmp_path):
    lake = Lake(tmp_path / "lake")
    receipt = imported(
        lake,
        written(
            tmp_path / "a.csv",
            [
                row(item="jar", quantity="3", price="1.25", time="2025-01-02 10:05:00"),
                row(item="mug", quantity="2", time="2025-01-02 10:00:00"),
                row(order="o2", customer="c2"),
            ],
        ),
    )
    assert counts(receipt) == (3, 0, 0)
    assert receipt.events == 2
    first, _ = events(lake)
    assert (first["name"], first["id"], first["order"], first["customer"]) == (
        "order_placed", "o1", "o1", "c1",
    )
    assert (first["value_minor"], first["currency"]) == (875, "GBP")
    assert first["time"] == datetime(2025, 1, 2, 10, tzinfo=UTC)
    assert first["received"] == NOW
    assert first["backfilled"]
    assert [(one["item"], one["quantity"]) for one in first["lines"]] == [
        ("jar", Decimal(3)), ("mug", Decimal(2)),
    ]


def test_importing_a_file_twice_appends_nothing(tmp_path):
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", [row(), row(), row(order="o2"), row(customer="")])
    assert counts(imported(lake, path)) == (4, 0, 0)
    before = events(lake)
    again = imported(lake, path)
    assert counts(again) == (0, 4, 0)
    assert (again.events, again.items) == (0, 0)
    assert events(lake) == before


def test_exact_repeats_within_a_file_are_meant(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(), row()]))
    (order,) = orders(lake)
    assert (order["value_minor"], len(order["lines"])) == (500, 2)


def test_lines_of_a_known_order_in_a_later_file_update_it(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row()]))
    later = written(tmp_path / "b.csv", [row(), row(item="jar", time="2025-01-02 11:00:00")])
    assert counts(imported(lake, later)) == (1, 1, 0)
    assert counts(imported(lake, later)) == (0, 2, 0)
    placed, updated = events(lake)
    assert (placed["name"], updated["name"]) == ("order_placed", "order_updated")
    assert (updated["order"], updated["value_minor"]) == ("o1", 250)
    assert [line["item"] for line in updated["lines"]] == ["jar"]
    (order,) = orders(lake)
    assert (order["value_minor"], order["time"]) == (500, datetime(2025, 1, 2, 10, tzinfo=UTC))


def test_more_repeats_of_a_line_in_each_later_file_are_all_kept(tmp_path):
    lake = Lake(tmp_path / "lake")
    for times in (1, 2, 3):
        imported(lake, written(tmp_path / "a.csv", [row()] * times))
    (order,) = orders(lake)
    assert len(order["lines"]) == 3


def test_the_same_order_number_of_two_customers_is_two_orders(tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = [row(), row(customer="c2"), row(customer="")]
    imported(lake, written(tmp_path / "a.csv", rows))
    assert [order["customer"] for order in orders(lake)] == ["c1", "c2", None]


def test_a_line_without_a_customer_informs_items_and_no_customer(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(customer="")]))
    (event,) = events(lake)
    assert (event["customer"], event["value_minor"]) == (None, 250)
    assert len(read(lake, "SELECT * FROM items", shop="acme")) == 0


def test_a_cancellation_that_names_no_order_is_a_refund_at_its_own_time(tmp_path):
    lake = Lake(tmp_path / "lake")
    back = row(order="C7", quantity="-1", time="2025-01-09 10:00:00")
    imported(lake, written(tmp_path / "a.csv", [row(), back]))
    _, refund = events(lake)
    assert (refund["name"], refund["order"], refund["value_minor"]) == (
        "order_refunded", None, -250,
    )
    assert refund["time"] == datetime(2025, 1, 9, 10, tzinfo=UTC)


def test_a_refund_takes_back_whichever_sign_its_source_gives_it(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(order="C7", quantity="2")]))
    (refund,) = events(lake)
    assert refund["value_minor"] == -500
    assert refund["lines"][0]["quantity"] == Decimal(-2)
    assert refund["lines"][0]["amount_minor"] == -500


def test_a_cancellation_that_names_its_order_cancels_it(tmp_path):
    lake = Lake(tmp_path / "lake")
    back = row(order="C7", quantity="-1", time="2025-01-09 10:00:00", title="o1")
    mapping = msgspec.structs.replace(
        lines(), cancellation=Cancellation(order_prefix="C", order="title")
    )
    path = written(tmp_path / "a.csv", [row(), back])
    imported(lake, path, mapping)
    assert counts(imported(lake, path, mapping)) == (0, 2, 0)
    (order,) = orders(lake)
    assert order["cancelled_at"] == datetime(2025, 1, 9, 10, tzinfo=UTC)


def test_an_order_in_two_currencies_keeps_both_apart(tmp_path):
    lake = Lake(tmp_path / "lake")
    mapping = lines()
    mapping = msgspec.structs.replace(
        mapping, fields=msgspec.structs.replace(mapping.fields, currency="title")
    )
    rows = [row(title="EUR"), row(title="GBP", price="9"), row(title="EUR", item="jar")]
    imported(lake, written(tmp_path / "a.csv", rows), mapping)
    found = [(one["name"], one["currency"], one["value_minor"]) for one in events(lake)]
    assert found == [("order_placed", "EUR", 500), ("order_updated", "GBP", 900)]
    (order,) = orders(lake)
    assert (order["currency"], order["value_minor"]) == ("EUR", 500)


def test_the_catalogue_has_a_row_for_each_change_of_what_customers_bought(tmp_path):
    told = [
        ("2025-01-01", "Mug", {}),
        ("2025-01-02", "Mug", {}),
        ("2025-01-03", "Mug, blue", {}),
        ("2025-01-04", "damaged", {"customer": ""}),
        ("2025-01-05", "returned", {"order": "C9", "quantity": "-1"}),
        ("2025-01-06", "free", {"price": "0"}),
        ("2025-01-07", "", {}),
        ("2025-01-08", "Mug", {}),
    ]
    rows = [
        row(time=day, title=title, **({"order": f"o{n}"} | more))
        for n, (day, title, more) in enumerate(told)
    ]
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", rows)
    assert imported(lake, path).items == 3
    assert imported(lake, path).items == 0
    found = read(lake, "SELECT title FROM catalogue ORDER BY time", shop="acme")
    assert found["title"].to_pylist() == ["Mug", "Mug, blue", "Mug"]
    as_of = read(
        lake, "SELECT title FROM items", shop="acme", cutoff=datetime(2025, 1, 3, 12, tzinfo=UTC)
    )
    assert as_of["title"].to_pylist() == ["Mug, blue"]


def test_a_corrected_title_is_no_new_sale(tmp_path):
    lake = Lake(tmp_path / "lake")
    imported(lake, written(tmp_path / "a.csv", [row(title="Mgu")]))
    assert counts(imported(lake, written(tmp_path / "b.csv", [row(title="Mug")]))) == (0, 1, 0)


def test_two_shops_may_import_the_same_file(tmp_path):
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", [row()])
    assert counts(imported(lake, path)) == counts(imported(lake, path, shop="other")) == (1, 0, 0)
    assert lake.shops() == ["acme", "other"]


def test_what_a_mapping_leaves_out_stays_as_the_shop_declared_it(tmp_path):
    lake = Lake(tmp_path / "lake")
    declared = lines('[not_items]\ncodes = ["POST"]\n')
    imported(lake, written(tmp_path / "a.csv", [row()]), declared)
    imported(lake, written(tmp_path / "b.csv", [row(order="o2")]), lines())
    (found,) = read(lake, "SELECT * FROM shop_settings", shop="acme").to_pylist()
    assert (found["not_item_codes"], found["timezone"], found["currency"]) == (
        ["POST"], "Europe/London", "GBP",
    )


def test_the_receipt_reads_as_agreed(tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = [row(), row(), row(item="POST", price="3"), row(order="C1", quantity="-1")]
    rows += [row(order="", customer="c2"), row(price="nan"), row(customer="", order="o2")]
    receipt = imported(lake, written(tmp_path / "lines.csv", rows))
    again = imported(lake, written(tmp_path / "lines.csv", [*rows, row(item="jar")]))
    text = msgspec.json.format(msgspec.json.encode([receipt, again])).decode()
    assert text + "\n" == (GOLDEN / "receipts.json").read_text()
    sql = "SELECT id, origin, rows, appended, duplicate, rejected FROM receipts ORDER BY rows"
    assert read(lake, sql, shop="acme").to_pylist() == [
        {"origin": "lines.csv"}
        | {name: getattr(one, name) for name in ["id", "rows", "appended", "duplicate", "rejected"]}
        for one in (receipt, again)
    ]


lines_of_a_file = st.lists(
    st.builds(
        row,
        customer=st.sampled_from(["c1", "c2", ""]),
        order=st.sampled_from(["o1", "o2", "C3", ""]),
        time=st.sampled_from(["2025-01-02 10:00", "2025-01-02 10:01", "2025-02-03", "never"]),
        item=st.sampled_from(["mug", "jar", "POST"]),
        quantity=st.sampled_from(["1", "2", "-1", "0.5"]),
        price=st.sampled_from(["2.50", "0.125", "nan"]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=10)
@given(rows=lines_of_a_file)
def test_every_row_is_appended_a_duplicate_or_rejected(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("receipt")
    lake = Lake(folder / "lake", buckets=2)
    path = written(folder / "a.csv", rows)
    first, second = imported(lake, path), imported(lake, path)
    assert first.appended + first.rejected == first.rows == len(rows)
    assert first.duplicate == second.appended == 0
    assert second.duplicate == first.appended
    assert second.rejected == first.rejected == sum(first.reasons.values())
    stored = read(lake, "SELECT coalesce(sum(len(lines)), 0)::BIGINT AS n FROM events", shop="acme")
    assert stored["n"].to_pylist() == [first.appended]


@settings(max_examples=10)
@given(
    rows=lines_of_a_file,
    cuts=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    seed=st.integers(0, 99),
    later_first=st.booleans(),
)
def test_two_overlapping_files_make_the_orders_of_one(
    tmp_path_factory, rows, cuts, seed, later_first
):
    folder = tmp_path_factory.mktemp("split")
    # repeats that stand in different files cannot be told from rows that stand in both, nor the
    # sign of half a credit note from that of the whole
    unique = list(dict.fromkeys(one for one in rows if one[1] != "C3" or one[4] == "-1"))
    assume(unique)
    start, end = sorted(min(cut, len(unique)) for cut in cuts)
    parts = [unique[:end], unique[start:]]
    if later_first:
        parts.reverse()
    random.Random(seed).shuffle(parts[0])

    whole, split = Lake(folder / "whole", buckets=2), Lake(folder / "split", buckets=2)
    receipt = imported(whole, written(folder / "whole.csv", unique))
    taken = sum(
        imported(split, written(folder / f"{n}.csv", part)).appended
        for n, part in enumerate(parts)
        if part
    )
    assert taken == receipt.appended
    assert orders(split) == orders(whole)
    assert refunds(split) == refunds(whole)


def refunds(lake: Lake) -> Counter[tuple]:
    sql = """
        SELECT customer, line.item, line.quantity::VARCHAR
        FROM (SELECT customer, unnest(lines) AS line FROM events WHERE name = 'order_refunded')
    """
    return Counter(tuple(one.values()) for one in read(lake, sql, shop="acme").to_pylist())


def twin(rows: list[Row]) -> dict[tuple, int]:
    """Each order's worth by plain arithmetic over the rows that can be taken."""
    worth: Counter[tuple] = Counter()
    for customer, order, time, _, quantity, price, _ in rows:
        if order and not order.startswith("C") and time != "never" and price != "nan":
            amount = (Decimal(quantity) * Decimal(price) * 100).to_integral_value()
            worth[order, customer or None] += int(amount)
    return worth


@settings(max_examples=10)
@given(rows=lines_of_a_file)
def test_orders_agree_with_plain_arithmetic(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("twin")
    lake = Lake(folder / "lake", buckets=2)
    imported(lake, written(folder / "a.csv", rows))
    found = {(one["order"], one["customer"]): one["value_minor"] for one in orders(lake)}
    assert found == twin(rows)


ORDERS = parse_mapping("""
kind = "orders"
[fields]
customer = "customer"
time = "time"
value = "price"
currency = "=USD"
""")


def test_orders_without_numbers_are_told_apart_by_content_and_occurrence(tmp_path):
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", [row(), row(), row(price="3")])
    assert counts(imported(lake, path, ORDERS)) == (3, 0, 0)
    assert counts(imported(lake, path, ORDERS)) == (0, 3, 0)
    assert [one["value_minor"] for one in orders(lake)].count(250) == 2


def test_orders_with_numbers_are_named_by_them(tmp_path):
    lake = Lake(tmp_path / "lake")
    fields = msgspec.structs.replace(ORDERS.fields, order="order")
    mapping = msgspec.structs.replace(
        ORDERS, fields=fields, cancellation=Cancellation(order_prefix="C")
    )
    rows = [row(), row(price="9"), row(order=""), row(order="C2", price="1")]
    receipt = imported(lake, written(tmp_path / "a.csv", rows), mapping)
    assert counts(receipt) == (2, 1, 1)
    assert receipt.reasons == {"no_order": 1}
    found = [(one["id"], one["name"], one["value_minor"]) for one in events(lake)]
    assert found == [("C2", "order_refunded", -100), ("o1", "order_placed", 250)]


EVENTS = """
kind = "events"
[fields]
customer = "customer"
event = "title"
time = "time"
"""


def events_mapping(more: str) -> Mapping:
    return parse_mapping(EVENTS + more)


def test_events_are_kept_under_the_name_they_came_with(tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = [row(title="item_viewed"), row(title="Quiz Taken"), row(title="")]
    receipt = imported(
        lake, written(tmp_path / "a.csv", rows), events_mapping('item = "item"\n')
    )
    assert counts(receipt) == (2, 0, 1)
    assert receipt.reasons == {"no_event": 1}
    viewed, taken = sorted(events(lake), key=lambda one: one["name"], reverse=True)
    assert (viewed["name"], taken["name"]) == ("item_viewed", "Quiz Taken")
    assert [line["item"] for line in viewed["lines"]] == ["mug"]
    assert viewed["value_minor"] is None


@pytest.mark.parametrize("more", ["", 'id = "order"\n', 'properties = "quantity"\n'])
def test_events_imported_twice_are_duplicates(tmp_path, more):
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", [row(), row(order="o2"), row(customer="", order="o3")])
    assert counts(imported(lake, path, events_mapping(more))) == (3, 0, 0)
    assert counts(imported(lake, path, events_mapping(more))) == (0, 3, 0)


def test_of_two_events_with_one_id_the_first_stands(tmp_path):
    lake = Lake(tmp_path / "lake")
    path = written(tmp_path / "a.csv", [row(title="a"), row(title="b"), row(order="")])
    receipt = imported(lake, path, events_mapping('id = "order"\n'))
    assert counts(receipt) == (1, 1, 1)
    assert receipt.reasons == {"missing_id": 1}
    assert [one["name"] for one in events(lake)] == ["a"]


def test_properties_that_are_no_json_are_rejected(tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = [row(item='{"colour": "red"}'), row(item="{red"), row(item="")]
    receipt = imported(
        lake, written(tmp_path / "a.csv", rows), events_mapping('properties = "item"\n')
    )
    assert receipt.reasons == {"bad_properties": 1}
    assert {one["properties"] for one in events(lake)} == {'{"colour": "red"}', "{}"}


ITEMS = """
kind = "items"
[fields]
item = "item"
title = "title"
unit_price = "price"
currency = "=GBP"
"""


def test_a_catalogue_without_dates_is_in_force_from_its_import_on(tmp_path):
    lake = Lake(tmp_path / "lake")
    mapping = parse_mapping(ITEMS)
    path = written(tmp_path / "a.csv", [row(), row(item="jar", title="A jar")])
    assert counts(imported(lake, path, mapping)) == (2, 0, 0)
    assert counts(imported(lake, path, mapping)) == (0, 2, 0)
    changed = written(tmp_path / "b.csv", [row(price="4"), row(item="jar", title="A jar")])
    later = datetime(2025, 7, 1, tzinfo=UTC)
    receipt = import_file(changed, lake=lake, shop="acme", mapping=mapping, now=later)
    assert counts(receipt) == (1, 1, 0)
    sql = "SELECT item, title, price_minor FROM items ORDER BY item"
    prices = {
        cutoff: read(lake, sql, shop="acme", cutoff=cutoff)["price_minor"].to_pylist()
        for cutoff in (NOW, later, datetime(2025, 5, 1, tzinfo=UTC))
    }
    assert list(prices.values()) == [[250, 250], [250, 400], []]


def test_a_catalogue_with_dates_is_as_of_them(tmp_path):
    lake = Lake(tmp_path / "lake")
    mapping = parse_mapping(ITEMS + 'time = "time"\n')
    path = written(tmp_path / "a.csv", [row(), row(title="Mug", time="2025-03-01")])
    assert counts(imported(lake, path, mapping)) == (2, 0, 0)
    assert counts(imported(lake, path, mapping)) == (0, 2, 0)
    for cutoff, title in ((datetime(2025, 2, 1, tzinfo=UTC), "A mug"), (NOW, "Mug")):
        found = read(lake, "SELECT title FROM items", shop="acme", cutoff=cutoff)
        assert found["title"].to_pylist() == [title]
