"""What a target counts: equal to counting by hand, as of an instant, and of one shop."""

import json
import operator
from datetime import timedelta
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from habitue.errors import BadTarget
from habitue.ingest.gate import Gate
from habitue.lake import query
from habitue.lake.tables import Lake
from habitue.predictions.probes.happened import UNITS, Happened, find, outcome
from habitue.predictions.probes.language import Target
from habitue.predictions.targets import outcomes
from habitue.sequences.build import DAY, NEVER, Sequences, build_sequences, instant, microseconds
from habitue.simulation import ShopConfig, catalogue
from tests.shops import end_of, events_of

SHOP = ShopConfig(shop="acme", customers=50, items=15, days=200, arrival_days=120, refunds=0.2)
END = instant(end_of(SHOP))
COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "contains": lambda held, asked: asked.lower() in held.lower(),
}  # fmt: skip


@pytest.fixture(scope="module")
def events() -> pa.Table:
    """A shop's events; those that are no orders carry properties of every kind."""
    table = events_of(SHOP, 3)
    told = []
    for place, row in enumerate(table.select(["name", "properties"]).to_pylist()):
        held = json.loads(row["properties"])
        if row["name"] == "order_placed":
            held |= {"coupon": "SPRING"} if place % 3 == 0 else {}
        else:
            held |= {"seconds": place % 50, "in app": place % 2 == 0, "a/b~c": str(place % 4)}
        told.append(json.dumps(held))
    return table.set_column(table.column_names.index("properties"), "properties", pa.array(told))


@pytest.fixture(scope="module")
def lake(events, tmp_path_factory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("happened") / "lake")
    lake.append({"items": catalogue(SHOP, 3)})
    receive(lake, events)
    return lake


def receive(lake: Lake, events: pa.Table) -> None:
    (door,) = events["source"].unique().to_pylist()
    Gate(lake).append(events, shop="acme", source=door, received=END)


@cache
def sequences_of(lake: Lake, cutoff=END) -> Sequences:
    return build_sequences(lake, "acme", cutoff=microseconds(cutoff))


def found(lake: Lake, target: Target, cutoff=END) -> tuple[Sequences, Happened]:
    sequences = sequences_of(lake, cutoff)
    read = partial(query.read, lake, shop="acme", cutoff=cutoff)
    return sequences, find(target, sequences, read)


def by_hand(target: Target, events: pa.Table, items: dict[str, dict]) -> list[tuple]:
    """(customer, µs, amount) of every row that counts, one row and one condition at a time."""
    rows = []
    name = "order_placed" if target.event == "item_ordered" else target.event
    for row in events.to_pylist():
        if row["name"] != name or row["customer"] is None:
            continue
        properties = json.loads(row["properties"])
        lines = [
            {"item": line["item"], "quantity": float(line["quantity"]),
             "value": line["amount_minor"] / 100}
            for line in row["lines"] or []
        ] or [{"item": properties.get("item"), "quantity": None}]  # fmt: skip
        lines = [items.get(line["item"], {}) | line for line in lines]
        value = None if row["value_minor"] is None else row["value_minor"] / 100
        own = {"value": value, "source": row["source"]}
        counted = lines if target.event == "item_ordered" else [None]
        for line in counted:
            of_line = [line] if line else lines
            is_met = any(
                all(met(one, {**properties, **own, **candidate}
                        if one.field in ("item", "title", "category", "brand", "quantity") or line
                        else {**properties, **own}) for one in target.conditions)
                for candidate in of_line
            )  # fmt: skip
            if is_met:
                amount = ({**own, **(line or {})} | ({} if line else properties)).get(target.of)
                amount = amount if target.of != "value" else (line or own)["value"]
                rows.append((row["customer"], microseconds(row["time"]), float(amount or 0)))
    return rows


def met(condition, held: dict) -> bool:
    value = held.get(condition.field)
    if value is None:
        return False
    match condition.value:
        case bool():
            return isinstance(value, bool) and COMPARE[condition.operator](value, condition.value)
        case str():
            return COMPARE[condition.operator](str(value), condition.value)
    return COMPARE[condition.operator](float(value), condition.value)


SENTENCES = [
    "did order_placed in 30 days",
    "count of item_viewed in 30 days",
    "sum of order_placed value in 60 days",
    "sum of order_refunded value in 60 days",
    "count of order_placed in 45 days where value >= 50 and value < 120",
    'count of order_placed in 45 days where source = "simulation"',
    'count of order_placed in 45 days where source != "simulation"',
    'count of order_placed in 60 days where coupon = "SPRING"',
    "count of item_viewed in 30 days where seconds > 20.5",
    "sum of item_viewed seconds in 30 days where seconds <= 40",
    'count of item_viewed in 30 days where "in app" = true',
    'count of item_viewed in 30 days where "in app" != true',
    'count of item_viewed in 30 days where "a/b~c" = "2"',
    'did item_viewed in 30 days where item = "i000003"',
    'did cart_added in 30 days where category = "{category}"',
    'count of order_placed in 60 days where category = "{category}" and quantity >= 2',
    'count of item_ordered in 60 days where category = "{category}"',
    'sum of item_ordered quantity in 60 days where title contains "{word}" and value >= 3',
    "sum of item_ordered in 60 days where quantity > 1",
    'count of item_viewed in 30 days where nothing = "here"',
]


@pytest.fixture(scope="module")
def items() -> dict[str, dict]:
    rows = catalogue(SHOP, 3).select(["item", "title", "category", "brand"]).to_pylist()
    return {row["item"]: row for row in rows}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_is_counted_is_what_counting_by_hand_finds(lake, events, items, sentence):
    some = items["i000003"]
    target = Target.parse(
        sentence.replace("{category}", some["category"])
        .replace("{word}", some["title"].split()[0].upper())
    )  # fmt: skip
    sequences, happened = found(lake, target)
    owner = np.repeat(np.arange(len(sequences.customers)), np.diff(happened.offsets))
    told = sorted(
        zip(sequences.customers[owner], happened.time, happened.units / UNITS, strict=True)
    )
    expected = sorted(by_hand(target, events, items))
    is_empty = "nothing" in sentence or "!= \"simulation\"" in sentence
    assert bool(expected) != is_empty
    assert [row[:2] for row in told] == [row[:2] for row in expected]
    np.testing.assert_allclose([r[2] for r in told], [r[2] for r in expected], atol=1e-4)


def test_orders_are_those_of_the_question_orders(lake):
    sequences, orders = found(lake, Target("order_placed", "count", 60))
    everyone = np.arange(len(sequences.customers))
    at = microseconds(END) - 60 * DAY
    known = outcomes(sequences, everyone, at, 60.0)
    standing = orders.standing(microseconds(END))
    where = np.full(len(everyone), at)
    count = outcome(Target("order_placed", "count", 60), standing, everyone, where)
    exists = outcome(Target("order_placed", "exists", 60), standing, everyone, where)
    _, worth = found(lake, Target("order_placed", "sum", 60))
    spent = outcome(Target("order_placed", "sum", 60), worth, everyone, where)
    assert known.orders.sum() > 20
    np.testing.assert_array_equal(count, known.orders)
    np.testing.assert_array_equal(exists > 0, known.observed)
    np.testing.assert_allclose(spent, known.revenue, atol=1e-6)


def test_a_window_opens_after_its_cutoff_and_holds_its_end():
    happened = Happened(
        offsets=np.array([0, 0, 3]),
        time=np.array([0, 5, 10]) * DAY,
        gone=np.full(3, NEVER),
        units=np.array([1, 2, 4]) * UNITS,
    )
    customers, at = np.array([0, 1, 1, 1]), np.array([0, 0, -1, 5]) * DAY
    times, total = happened.within(customers, at, at + 5 * DAY)
    assert times.tolist() == [0, 1, 1, 1]
    assert total.tolist() == [0, 2, 1, 4]


def test_what_is_cancelled_counts_until_that_is_known():
    happened = Happened(
        offsets=np.array([0, 2]),
        time=np.array([1, 2]) * DAY,
        gone=np.array([4 * DAY, NEVER]),
        units=np.array([UNITS, UNITS]),
    )
    one = (np.array([0]), np.array([0]), np.array([3 * DAY]))
    assert happened.standing(4 * DAY - 1).within(*one)[0].tolist() == [2]
    assert happened.standing(4 * DAY).within(*one)[0].tolist() == [1]


def test_what_happens_after_the_cutoff_is_not_found(lake, events):
    cutoff = END - timedelta(days=50)
    for sentence in ("count of item_viewed in 30 days", "sum of item_ordered quantity in 30 days"):
        target = Target.parse(sentence)
        sequences, then = found(lake, target, cutoff)
        everything, now = found(lake, target)
        assert then.time.max() <= microseconds(cutoff) < now.time.max()
        names = {name: place for place, name in enumerate(everything.customers)}
        for place, name in enumerate(sequences.customers):
            mine = then.time[then.offsets[place] : then.offsets[place + 1]]
            later = now.time[now.offsets[names[name]] : now.offsets[names[name] + 1]]
            np.testing.assert_array_equal(mine, later[later <= microseconds(cutoff)])


def test_an_event_that_the_shop_never_had_is_refused(lake):
    with pytest.raises(BadTarget, match="did you mean item_viewed"):
        found(lake, Target("item_veiwed", "exists", 30))


def test_a_line_has_no_properties(lake):
    with pytest.raises(BadTarget, match="a line has value, source, item"):
        found(lake, Target("item_ordered", "exists", 30, where='coupon = "x"'))


@pytest.mark.parametrize(
    "where",
    [
        """source = "' OR true --" """,
        """"x') OR true --" = "1" """,
        """"value) OR (true" = 1""",
        """title contains "%" and item = "$value_0; DROP" """,
    ],
)
def test_text_in_a_condition_is_never_read_as_sql(lake, where):
    for event in ("order_placed", "item_viewed"):
        _, happened = found(lake, Target(event, "count", 30, where=where))
        assert len(happened.time) == 0


def test_another_currency_counts_and_is_worth_nothing(events, tmp_path):
    orders = events.filter(pc.field("name") == "order_placed")
    place = orders.column_names.index("currency")
    currency = ["USD" if n % 4 == 0 else "GBP" for n in range(len(orders))]
    lake = Lake(tmp_path / "lake")
    receive(lake, orders.set_column(place, "currency", pa.array(currency)))
    sequences, happened = found(lake, Target("order_placed", "sum", 30))
    assert sequences.currency == "GBP"
    known = [row for row in orders.to_pylist() if row["customer"]]
    assert len(happened.time) == len(known)
    assert 0 < (happened.units == 0).sum() < len(known) / 2
