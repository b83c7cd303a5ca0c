"""Ready conditions: all of them can be asked, and say what they need."""

import pytest

from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.members import AsOf, find
from habitue.audiences.templates import TEMPLATES, held_by, listed, missing, template
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK
from tests.audiences.histories import history, stored
from tests.lake.people import consent, told
from tests.lake.small import day, event, filled


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def members(lake, name, at):
    found = find(lake, "acme", template(name).condition, AsOf(at))
    return found.members["customer"].to_pylist()


@pytest.mark.parametrize("one", TEMPLATES, ids=lambda one: one.name)
def test_a_template_is_a_sentence_as_it_is_written(one):
    assert written(parse(one.condition)) == one.condition
    assert one.purpose
    assert one.purpose[0].islower()
    assert not one.purpose.endswith(".")


def test_names_are_said_once():
    assert len({one.name for one in TEMPLATES}) == len(TEMPLATES)


def test_what_applies_is_answered_and_what_lacks_something_says_what(lake):
    stored(lake, history(3))
    rows = listed(held_by(lake, "acme")).to_pylist()
    assert {row["applies"] for row in rows} == {True, False}
    for row in rows:
        assert row["applies"] == (row["missing"] == "")
        if row["applies"]:
            find(lake, "acme", row["condition"], AsOf(day(5)))
    told_of = {row["name"]: row["missing"] for row in rows}
    assert told_of["unengaged"].count("events yet") == 3
    asked = "nothing recorded by `habitue predict --question order --horizon-days 30`"
    assert told_of["likely-to-buy"] == asked
    assert not missing(parse('consent.email = "x"'), held_by(lake, "acme"))


def test_a_shop_without_consents_lacks_them(lake):
    filled(lake, event("a", 1))
    wanted = parse(template("subscribed-never-bought").condition)
    assert missing(wanted, held_by(lake, "acme")) == ["no consent to email yet"]
    told(lake, consent("c1", 1, "subscribed"))
    assert missing(wanted, held_by(lake, "acme")) == []


def test_a_cart_is_abandoned_after_an_hour_until_the_order(lake):
    cart = {"name": "cart_added", "order": None, "value": None, "lines": ()}
    filled(lake, event("cart", 1, **cart), event("order", 2))
    hour = 1 / 24
    assert members(lake, "abandoned-cart", day(1 + hour) - TICK) == []
    assert members(lake, "abandoned-cart", day(1 + hour)) == ["c1"]
    assert members(lake, "abandoned-cart", day(2) - TICK) == ["c1"]
    assert members(lake, "abandoned-cart", day(2)) == []


def test_who_lapses_is_won_back_later(lake):
    filled(lake, event("a", 1), event("b", 2))
    assert members(lake, "lapsing", day(61)) == []
    assert members(lake, "lapsing", day(62)) == ["c1"]
    assert members(lake, "win-back", day(181)) == []
    assert members(lake, "lapsing", day(182)) == []
    assert members(lake, "win-back", day(182)) == ["c1"]
