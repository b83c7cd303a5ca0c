"""Lists as of a cutoff stand on the same shelf as the server's."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from habitue.recommendations.recommend import fit_recommender
from habitue.recommendations.rules import Rules
from habitue.recommendations.shelf.everybody import STRANGER, Said, Stand, lists_of, shelved
from habitue.recommendations.shelf.listed import Facts, Wanted
from habitue.recommendations.shelf.rules import Match, Rule
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from habitue.simulation import ShopConfig
from tests.shops import orders_of, sequences_of

START = datetime(2024, 3, 4, tzinfo=UTC)


def stand_on(sequences, **said) -> Stand:
    fitted = fit_recommender(sequences, cutoff=sequences.cutoff, rules=Rules())
    return Stand(fitted=fitted, sequences=sequences, said=Said(**said))


@pytest.fixture(scope="module")
def shop():
    return sequences_of(ShopConfig(customers=60, items=30), 1)


def test_the_quick_way_and_the_way_by_the_shelf_list_the_same(shop) -> None:
    said = {"unavailable": frozenset(shop.items[:3].astype(str))}
    nothing = Rule(kind="bury", match=Match(items=("of no shop",)))
    for wanted in (Wanted(k=7), Wanted(k=5, per_category=1), Wanted(k=9, exclude_bought=True)):
        quick = shelved(stand_on(shop, **said), wanted)
        slow = shelved(stand_on(shop, rules=[nothing], **said), wanted)
        columns = ["customer", "rank", "item", "reason", "evidence"]
        own = [row for row in slow.select(columns).to_pylist() if row["reason"] != "popular"]
        # where a list runs short what sells fills it, by either way
        assert len(own) > 100
        by_place = {(row["customer"], row["rank"]): row for row in quick.to_pylist()}
        for row in own:
            told = by_place[row["customer"], row["rank"]]
            assert {name: told[name] for name in columns} == row


def test_rules_hold_for_everybody_and_for_strangers(shop) -> None:
    last = str(shop.items[-1])
    category = str(shop.categories[0])
    pin = Rule(kind="pin", match=Match(items=(last,)), position=2)
    lists = shelved(stand_on(shop, rules=[pin]), Wanted(k=4))
    second = lists.filter(np.array(lists["rank"]) == 2)
    assert set(second["item"].to_pylist()) == {last}
    assert set(second["reason"].to_pylist()) == {"pinned"}

    only = Rule(kind="only", match=Match(categories=(category,)))
    for people in (None, {"a stranger": STRANGER}):
        lists = shelved(stand_on(shop, rules=[only]), Wanted(k=4), people)
        among = set(shop.items[shop.categories == category])
        assert set(lists["item"].to_pylist()) <= among
        assert lists.num_rows > 0

    dear = Rule(kind="hide", match=Match(price_from=10))
    facts = {str(item): Facts(price=20.0) for item in shop.items[1:]}
    lists = shelved(stand_on(shop, rules=[dear], facts=facts), Wanted(k=4))
    assert set(lists["item"].to_pylist()) <= {str(shop.items[0])}


def test_a_shop_whose_only_item_everybody_has_bought_has_no_lists() -> None:
    bought = [(f"c{n}", 1 + n, ["mug"]) for n in range(3)]
    cutoff = microseconds(START) + 10 * DAY
    sequences = sequences_from_events(
        orders_of(bought, start=START), shop="corner", cutoff=cutoff
    )
    fitted = fit_recommender(sequences, cutoff=cutoff, rules=Rules(skip_spent=True))
    found = list(lists_of(fitted, sequences, np.arange(3)))
    assert [one for batch in found for one in batch.values()] == []


def test_what_was_bought_for_good_is_left_out_and_what_is_used_up_is_not() -> None:
    once = [(f"c{n}", 1 + n % 20, ["kettle", "tea"]) for n in range(60)]
    again = [(f"c{n}", 25 + n % 9, ["tea"]) for n in range(60)]
    others = [("zoe", 30, ["jam"]), (None, 31, ["jam"])]
    cutoff = microseconds(START) + 40 * DAY
    sequences = sequences_from_events(
        orders_of([*once, *again, *others], start=START), shop="corner", cutoff=cutoff
    )
    of_ann = shelved(stand_on(sequences), Wanted(), {"ann": STRANGER})
    assert set(of_ann["item"].to_pylist()) == {"kettle", "tea", "jam"}
    row = int(np.searchsorted(sequences.customers, "c1"))
    of_one = shelved(stand_on(sequences), Wanted(), {"c1": row})
    assert of_one["item"].to_pylist() == ["tea", "jam"]
    # … even where others speak for it: a page, or a pin
    pin = Rule(kind="pin", match=Match(items=("kettle",)))
    by_page = shelved(stand_on(sequences, rules=[pin]), Wanted(context=("tea",)), {"c1": row})
    assert by_page["item"].to_pylist() == ["jam"]
    of_zoe = shelved(stand_on(sequences), Wanted(context=("tea",)), {"x": STRANGER})
    assert of_zoe["item"].to_pylist()[0] == "kettle"
    assert of_zoe["evidence"].to_pylist()[0] == "often bought with tea"


def test_no_rule_and_no_page_reads_nothing_after_the_cutoff(shop) -> None:
    lists = shelved(stand_on(shop), Wanted(k=3))
    assert lists.num_rows == 3 * len(shop.customers)


def test_what_was_shown_is_nothing_that_a_customer_did() -> None:
    rows = [("ann", 1, ["tea"]), ("bob", 2, ["jam"])]
    cutoff = microseconds(START) + 40 * DAY
    events = orders_of(rows, start=START)
    shown = events.set_column(
        events.column_names.index("name"), "name", pa.array(["recommendations_shown"] * 2)
    )
    told = sequences_from_events(
        pa.concat_tables([events, shown.cast(events.schema)]), shop="corner", cutoff=cutoff
    )
    alone = sequences_from_events(events, shop="corner", cutoff=cutoff)
    assert told.kinds == alone.kinds
    np.testing.assert_array_equal(told.time, alone.time)


def test_what_was_shown_and_not_minded_makes_room_for_who_saw_it_and_for_nobody_else(shop) -> None:
    before = shelved(stand_on(shop), Wanted(k=4)).to_pylist()
    first = next(row for row in before if row["rank"] == 1 and row["reason"] != "popular")
    who, item = first["customer"], first["item"]
    after = shelved(stand_on(shop, discounts={who: {item: 50.0}}), Wanted(k=4)).to_pylist()
    assert item in [row["item"] for row in before if row["customer"] == who]
    assert item not in [row["item"] for row in after if row["customer"] == who]
    others = [
        {(row["customer"], row["rank"]): row["item"] for row in rows if row["customer"] != who
         and row["reason"] != "popular"}
        for rows in (before, after)
    ]  # fmt: skip
    assert others[1].items() <= others[0].items() and len(others[1]) > 50
