import json
from datetime import timedelta

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue.audiences.compile import Known, statement
from habitue.audiences.compile import asked as predictions_asked
from habitue.audiences.language.klaviyo_writing import to_klaviyo
from habitue.audiences.language.nodes import (
    Compared,
    Consent,
    Count,
    Field,
    Followed,
    Member,
    Profile,
    Property,
    Similar,
    Step,
    every,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import Last, Span
from habitue.audiences.language.writing import written
from habitue.audiences.members import AsOf, difference, expanded, find
from habitue.audiences.saved import Saved
from habitue.errors import BadAudience, NoSuchAudience, NoSuchShop
from habitue.events import Money
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK, asked
from tests.audiences.histories import History, Predicted, history, stored
from tests.audiences.slow import Slow
from tests.lake.people import WEB, change, consent, identifier, link, told
from tests.lake.small import day, event, filled

NAMED = {"reds": 'profile.color = "red" or did cart_added where color = "red"',
         "buyers": "did order_placed and not in audience \"reds\""}  # fmt: skip
SEEDS = (1, 2, 3, 4)
cutoffs = st.builds(
    lambda hours, ticks: day(hours / 12) + ticks * TICK, st.integers(12, 66), st.integers(-1, 1)
)


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    histories = {seed: history(seed) for seed in SEEDS}
    lakes = {
        seed: stored(Lake(tmp_path_factory.mktemp(f"lake{seed}")), one)
        for seed, one in histories.items()
    }
    return histories, lakes


@given(
    seed=st.sampled_from(SEEDS),
    condition=asked,
    cutoff=cutoffs,
    late=st.none() | st.integers(-20, 20),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_finds_whom_the_slow_twin_finds(shops, seed, condition, cutoff, late):
    histories, lakes = shops
    known_at = None if late is None else cutoff + timedelta(hours=late)
    slow = Slow(histories[seed], cutoff, known_at)
    slow.named = {name: expanded(Member(name), NAMED) for name in NAMED}
    as_of = AsOf(cutoff, known_at)
    whole = expanded(condition, NAMED)
    if any(isinstance(one, Similar) for one in every(whole)) and not slow.places:
        with pytest.raises(BadAudience, match="nothing was kept"):
            find(lakes[seed], "acme", condition, as_of, NAMED)
        return
    if {question for question, _ in predictions_asked(whole)} - slow.questions:
        with pytest.raises(BadAudience, match="nothing was predicted"):
            find(lakes[seed], "acme", condition, as_of, NAMED)
        return
    found = find(lakes[seed], "acme", condition, as_of, NAMED)
    assert found.members["customer"].to_pylist() == slow.members(whole), written(condition)


def members(lake, said, at, *, known_at=None, shop="acme", named=None):
    found = find(lake, shop, said, AsOf(at, known_at), named)
    return found.members["customer"].to_pylist()


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def test_a_window_ends_to_the_microsecond(lake):
    filled(lake, event("a", 1))
    for said, span in (("in 24 hours", 1), ("in 1 day", 1), ("in 90 minutes", 1 / 16)):
        left = day(1 + span)
        assert members(lake, f"did order_placed {said}", left - TICK) == ["c1"]
        assert members(lake, f"did order_placed {said}", left) == []
        assert members(lake, f"did not order_placed {said}", left) == ["c1"]
    assert members(lake, "did order_placed at least 1 day ago", day(2) - TICK) == []
    assert members(lake, "did order_placed at least 1 day ago", day(2)) == ["c1"]
    assert members(lake, "did order_placed before 2025-03-04", day(9)) == []
    assert members(lake, "did order_placed after 2025-03-04", day(9)) == ["c1"]


def test_an_abandoned_cart_comes_when_the_hour_is_over_and_goes_with_the_order(lake):
    cart = {"name": "cart_added", "order": None, "value": None, "lines": ()}
    filled(lake, event("cart", 1, **cart), event("order", 3))
    hour = timedelta(hours=1)
    within = "did cart_added in 3 days then not order_placed within 1 hour"
    since = "did cart_added between 4320 and 60 minutes ago then not order_placed"
    for said in (within, since):
        assert members(lake, said, day(1) + hour - TICK) == []
        assert members(lake, said, day(1) + hour) == ["c1"]
        assert members(lake, said, day(3) - TICK) == ["c1"]
    assert members(lake, within, day(3)) == ["c1"]
    assert members(lake, since, day(3)) == []


def test_a_cancelled_order_counts_until_it_is_cancelled_and_that_was_known(lake):
    filled(
        lake,
        event("a", 1),
        event("b", 2, name="order_cancelled", order="a", value=None, lines=(), received=day(4)),
    )
    assert members(lake, "did order_placed", day(2) - TICK) == ["c1"]
    assert members(lake, "did order_placed", day(2)) == []
    assert members(lake, "did order_placed", day(3), known_at=day(4) - TICK) == ["c1"]


def test_nothing_after_the_cutoff_and_nothing_unknown_is_seen(lake):
    filled(lake, event("a", 1), event("late", 2, customer="c2", received=day(5)))
    assert members(lake, "did order_placed", day(1)) == ["c1"]
    assert members(lake, "did order_placed", day(2)) == ["c1", "c2"]
    assert members(lake, "did order_placed", day(2), known_at=day(5) - TICK) == ["c1"]
    assert members(lake, "did order_placed", day(2), known_at=day(5)) == ["c1", "c2"]
    assert members(lake, "not did order_placed", day(1)) == []


def test_two_keys_are_one_customer_from_their_link_on(lake):
    filled(lake, event("a", 1), event("b", 2, customer=WEB))
    told(lake, link("c1", WEB, 3))
    twice = "did order_placed >= 2 times"
    assert members(lake, twice, day(3) - TICK) == []
    assert members(lake, twice, day(3)) == ["c1"]
    assert members(lake, "did order_placed >= 0 times", day(3)) == ["c1"]


def test_customers_of_whom_anything_was_told_are_found_by_did_not(lake):
    filled(lake, event("a", 1))
    told(lake, change("c2", 1, '{"a": 1}'), consent("c3", 1, "subscribed"), link("c4", WEB, 1))
    told(lake, identifier("email:x", "x@example.com", 1))
    assert members(lake, "did not order_placed", day(1)) == ["c2", "c3", "c4", "email:x"]
    assert members(lake, "did not order_placed", day(1) - TICK) == []


def test_an_order_of_nobody_makes_nobody_a_member(lake):
    filled(lake, event("a", 1), event("b", 1, customer=None))
    for said in ("did item_ordered then not item_ordered within 1 hour", "did item_ordered",
                 "did order_placed then not order_placed within 1 hour"):  # fmt: skip
        assert members(lake, said, day(2)) == ["c1"]


def test_sums_are_exact_and_of_the_shops_currency(lake):
    orders = [event(f"a{place}", 1, value=Money(10, "GBP")) for place in range(3)]
    filled(lake, *orders, event("b", 1, value=Money(500, "EUR")))
    assert members(lake, "sum of order_placed value = 0.3", day(1)) == ["c1"]
    assert members(lake, "sum of order_placed value > 0.3", day(1)) == []
    assert members(lake, "sum of order_placed value >= 0.300000001", day(1)) == []
    assert members(lake, "did order_placed = 4 times", day(1)) == ["c1"]


def test_a_line_has_the_currency_of_its_order(lake):
    ours = event("a", 1), event("c", 1, customer="c3", value=Money(500, "GBP"), lines=())
    filled(lake, *ours, event("b", 1, value=Money(250, "EUR"), customer="c2"))
    assert members(lake, "did item_ordered where value = 2.5", day(1)) == ["c1"]
    assert members(lake, "did item_ordered", day(1)) == ["c1", "c2"]


@pytest.mark.parametrize("attempt", range(8))
def test_of_two_currencies_as_usual_the_first_by_its_letters_is_the_shops(lake, attempt):
    filled(lake, event("a", 1), event("b", 1, value=Money(250, "EUR"), customer="c2"))
    assert members(lake, "sum of order_placed value > 0", day(1)) == ["c2"], attempt


def test_no_audience_shows_another_shops_customers(lake):
    filled(lake, event("a", 1), event("b", 1, shop="rival", customer="secret"),
           event("c", 1, shop="rival", customer="c1", name="Secret"))  # fmt: skip
    told(lake, change("secret", 1, '{"a": 1}', shop="rival"))
    for said in ("did order_placed", "did order_placed >= 0 times", "not profile.a is set"):
        assert members(lake, said, day(2)) == ["c1"]
    with pytest.raises(BadAudience, match="the shop has no event Secret") as caught:
        members(lake, "did Secret", day(2))
    assert "its events are: order_placed" in str(caught.value)
    with pytest.raises(NoSuchShop):
        members(lake, "did order_placed", day(2), shop="nobody")


ATTACKS = (
    "'; DROP TABLE events; --",
    "' OR '1'='1",
    "$v0",
    "?",
    "{}",
    "\\",
    "%",
    "x\nSELECT 1",
    "/~0/~1",
    "a'b\"c",
    "stored.events",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_the_user_is_ever_sql(lake, attack):
    filled(lake, event("a", 1, name=attack, order=None, lines=(),
                       properties=msgspec.Raw(msgspec.json.encode({attack: attack}))))  # fmt: skip
    told(lake, change("c2", 1, msgspec.json.encode({attack: [attack]}).decode()))
    where = Compared(Property((attack,)), "=", attack)
    conditions = {
        Count(attack, where=where): ["c1"],
        Count(attack, where=Compared(Property((attack,)), "contains", attack)): ["c1"],
        Count(attack, where=Compared(Field("source"), "in", (attack,))): [],
        Followed(attack, (Step(attack, where=where),)): [],
        Compared(Profile((attack,)), "has any of", (attack,)): ["c2"],
        Compared(Profile((attack, attack)), "starts with", attack): [],
        Compared(Consent("email"), "=", attack): [],
    }
    known = Known(at=day(2), currency=attack, predicted={})
    for condition, wanted in conditions.items():
        assert members(lake, condition, day(2)) == wanted
        assert parse(written(condition)) == condition
        if len(attack) > 3:
            assert attack not in statement(condition, known).sql
    assert members(lake, Member(attack), day(2), named={attack: "did order_placed"}) == []


def test_the_latest_predictions_published_by_then_are_compared(lake):
    filled(lake, event("a", 0))
    predict(lake, "v1", day(1), 0.25, received=day(1))
    predict(lake, "v2", day(3), 0.75, received=day(5))
    high = "churn_90d > 0.5"
    assert members(lake, high, day(3) - TICK) == []
    assert members(lake, high, day(3)) == ["c1"]
    assert members(lake, high, day(3), known_at=day(5) - TICK) == []
    assert members(lake, "not churn > 0.5", day(2)) == ["c1"]
    with pytest.raises(BadAudience) as caught:
        members(lake, "did a or churn > 0.5".replace("did a", "did order_placed"), day(0))
    assert "nothing was predicted about churn in 90 days" in str(caught.value)
    assert "\n                      ^\n" in str(caught.value)
    with pytest.raises(BadAudience, match="churn in 30 days"):
        members(lake, "churn_30d > 0.5", day(9))


def predict(lake, version, cutoff, value, *, received):
    names = [one for one in TABLES["predictions"].schema if one.name != "bucket"]
    row = {
        "shop": "acme", "customer": "c1", "version": version, "cutoff": cutoff, "anchor": cutoff,
        "question": "churn", "horizon_days": 90.0, "value": value, "status": "full",
        "received": received,
    }  # fmt: skip
    lake.append({"predictions": pa.Table.from_pylist([row], schema=pa.schema(names))})


def test_audiences_name_audiences_but_never_themselves(lake):
    filled(lake, event("a", 1))
    shelf = Saved(lake, "acme", clock=lambda: day(2))
    assert shelf.sentences() == {}
    assert shelf.save("buyers", "count of order_placed > 0") == "did order_placed > 0 times"
    shelf.save("others", 'not in audience "buyers"')
    named = shelf.sentences()
    assert members(lake, 'in audience "buyers"', day(2), named=named) == ["c1"]
    assert members(lake, 'in audience "others"', day(2), named=named) == []
    for name, said in (("buyers", 'in audience "others"'), ("me", 'did b or in audience "me"')):
        with pytest.raises(BadAudience, match="cannot name itself"):
            shelf.save(name, said)
    with pytest.raises(NoSuchAudience, match="no audience named 'byers'; the shop has: buyers"):
        shelf.save("third", 'in audience "byers"')
    assert shelf.sentences() == named


def test_a_name_is_kept_for_its_shop_alone_and_what_it_meant_is_not_forgotten(lake):
    filled(lake, event("a", 1), event("b", 1, shop="rival"))
    Saved(lake, "rival", clock=lambda: day(1)).save("vip", "did order_placed")
    shelf = Saved(lake, "acme", clock=lambda: day(2))
    assert shelf.sentences() == {}
    shelf.save("vip", "did order_placed >= 9 times")
    Saved(lake, "acme", clock=lambda: day(3)).save("vip", "did order_placed >= 5 times")
    Saved(lake, "acme", clock=lambda: day(4)).remove("vip")
    assert shelf.sentences() == {}
    with pytest.raises(NoSuchAudience):
        shelf.remove("vip")
    assert shelf.table(known_at=day(3)).to_pylist() == [
        {"name": "vip", "condition": "did order_placed >= 5 times", "since": day(3)}
    ]


def test_what_changed_between_two_instants_is_told(lake):
    filled(lake, event("a", 1), event("b", 2, customer="c2"))
    said = "did order_placed in 1 day"
    before, after = (find(lake, "acme", said, AsOf(day(at))) for at in (1.5, 2.5))
    assert difference(before, after).to_pylist() == [
        {"customer": "c2", "change": "entered"},
        {"customer": "c1", "change": "left"},
    ]
    assert difference(after, after).num_rows == 0


def test_a_hundred_conditions_and_twenty_levels_are_answered(lake):
    filled(lake, event("a", 1))
    many = " or ".join(f"did order_placed = {number} times in 2 days" for number in range(100))
    assert members(lake, many, day(2)) == ["c1"]
    deep = "not " * 18 + "did order_placed"
    assert members(lake, deep, day(2)) == ["c1"]
    contradictory = "did order_placed and did not order_placed"
    assert members(lake, contradictory, day(2)) == []


def test_three_doors_lead_to_one_answer(lake):
    filled(lake, event("a", 1), event("b", 1.5), event("c", 1, customer="c2"))
    nodes = Count("order_placed", ">=", 2, Last(Span(1, "day")))
    for said in ("did order_placed >= 2 times in 1 day", nodes, to_klaviyo(nodes),
                 json.dumps(to_klaviyo(nodes))):  # fmt: skip
        found = find(lake, "acme", said, AsOf(day(1.5)))
        assert (found.size, found.condition) == (1, nodes)
        assert found.sentence == "did order_placed >= 2 times in 1 day"
    with pytest.raises(BadAudience, match="begins like JSON and is none"):
        find(lake, "acme", "{did order_placed}", AsOf(day(1)))


def test_item_ordered_has_no_properties_and_other_events_no_quantity(lake):
    filled(lake, event("a", 1))
    with pytest.raises(BadAudience, match="item_ordered has no 'color'"):
        members(lake, 'did item_ordered where color = "red"', day(1))
    with pytest.raises(BadAudience, match="order_placed has no quantity"):
        members(lake, "sum of order_placed quantity > 1", day(1))
    assert members(lake, "sum of item_ordered quantity = 1", day(1)) == ["c1"]


@pytest.mark.parametrize("times", [(1,), (1, 2), (2, 1, 3)])
def test_a_set_that_was_published_more_than_once_names_nobody_twice(tmp_path, times):
    sets = tuple(
        Predicted(who, "churn", 90.0, 0.9, "v1", day(1), day(at))
        for at in times for who in ("c1", "c2")
    )  # fmt: skip
    lake = stored(Lake(tmp_path), History((), (), (), (), sets))
    found = find(lake, "acme", "churn_90d > 0.7", AsOf(day(4)))
    assert found.members["customer"].to_pylist() == ["c1", "c2"]
