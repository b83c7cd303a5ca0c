"""By each customer's own clock: in batch, live and in every spelling."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from habitue.audiences.language.klaviyo import from_klaviyo
from habitue.audiences.language.klaviyo_writing import to_klaviyo
from habitue.audiences.language.nodes import Count, Not, Theirs
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import Calendar
from habitue.audiences.language.writing import written
from habitue.audiences.members import AsOf, find
from habitue.audiences.words import did, in_their_time_zone, this
from habitue.errors import BadAudience
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK
from tests.audiences.histories import History, stored
from tests.audiences.living import Living
from tests.lake.people import change, rows_of
from tests.lake.small import event

NEW_YORK = "America/New_York"
ZONES = {
    "tokyo": {"timezone": "Asia/Tokyo"},
    "london": {"location.timezone": "Europe/London"},
    "both": {"timezone": "Mars/Olympus", "location.timezone": "Europe/London"},
    "wrong": {"timezone": "europe/london"},
    "none": {},
}
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def profiles(**more):
    return [
        change(who, 0, json.dumps(told | more), time=BEGAN, received=BEGAN)
        for who, told in ZONES.items()
    ]


def orders(time):
    return [
        event(f"{who} {time}", 0, time=time, received=time, customer=who) for who in ZONES
    ]  # fmt: skip


def lake_of(tmp_path, events=(), **more):
    told = History(tuple(events), (), tuple(profiles(**more)), (), (), zone=NEW_YORK)
    return stored(Lake(tmp_path), told)


def members(lake, said, when):
    return find(lake, "acme", said, AsOf(when)).members["customer"].to_pylist()


def test_a_day_is_the_customers_and_that_of_the_shop_where_they_name_no_zone(tmp_path):
    lake = lake_of(tmp_path, orders(at("2025-03-08T18:00")))    # three in the morning in Tokyo
    today = "in their time zone did order_placed today"
    assert members(lake, today, at("2025-03-08T23:30")) == sorted(ZONES)
    # midnight in London, then in New York, where clocks have not moved yet
    assert members(lake, today, at("2025-03-09T00:00")) == ["none", "tokyo", "wrong"]
    assert members(lake, today, at("2025-03-09T05:00") - TICK) == ["none", "tokyo", "wrong"]
    assert members(lake, today, at("2025-03-09T05:00")) == ["tokyo"]
    assert members(lake, today, at("2025-03-09T15:00")) == []
    assert members(lake, "did order_placed today", at("2025-03-09T00:00")) == sorted(ZONES)
    twice = f"{today} and not in their time zone (did cart_added today)"
    assert members(lake, twice, at("2025-03-09T00:00")) == ["none", "tokyo", "wrong"]
    others = "not in their time zone did order_placed today"
    assert members(lake, others, at("2025-03-09T00:00")) == ["both", "london"]


def test_a_day_has_the_hours_of_the_customers_own_summer_time(tmp_path):
    # clocks go forward in London on the 30th at one, so that day has 23 hours there
    lake = lake_of(tmp_path, orders(at("2025-03-30T00:00")))
    today = "in their time zone did order_placed today"
    last = at("2025-03-30T22:59:59.999999")
    assert "london" in members(lake, today, last)
    assert "london" not in members(lake, today, last + TICK)
    spring = 'in their time zone did order_placed where hour = 2'
    lake.append(rows_of(orders(at("2025-03-30T01:30"))))
    assert members(lake, spring, at("2025-03-30T12:00")) == ["both", "london"]
    assert members(lake, "did order_placed where hour = 2", at("2025-03-30T12:00")) == []
    sunday = 'in their time zone did not order_placed where weekday = "sunday"'
    assert members(lake, sunday, at("2025-03-30T12:00")) == ["none", "wrong"]


def test_a_birthday_begins_where_the_customer_is(tmp_path):
    lake = lake_of(tmp_path, born="1990-06-10")
    said = "in their time zone anniversary of profile.born today"
    assert members(lake, said, at("2025-06-09T15:00") - TICK) == []
    assert members(lake, said, at("2025-06-09T15:00")) == ["tokyo"]
    assert members(lake, said, at("2025-06-09T23:00")) == ["both", "london", "tokyo"]
    assert members(lake, said, at("2025-06-10T14:00")) == sorted(ZONES)
    assert members(lake, said, at("2025-06-10T15:00")) == ["both", "london", "none", "wrong"]
    assert members(lake, said, at("2025-06-11T03:59")) == ["none", "wrong"]


def test_live_members_enter_and_leave_at_their_own_midnights_and_move_with_their_zone(tmp_path):
    live = Living(tmp_path / "live.sqlite", NEW_YORK)
    lake = lake_of(tmp_path / "lake")
    live.now = microseconds(BEGAN)
    live.tell(profiles())
    said = "in their time zone did order_placed today"
    live.define(today=said, weekend='in their time zone did order_placed where weekday = "sunday"')
    told = orders(at("2025-03-29T20:00"))
    lake.append(rows_of(told))
    live.tell(told)
    live.wait(at("2025-03-31T12:00"))
    left = {who: (when, cause) for name, who, change, when, _, cause in live.changes()
            if (name, change) == ("today", "left")}  # fmt: skip
    assert left == {
        "tokyo": (at("2025-03-30T15:00"), "time"),
        "london": (at("2025-03-30T00:00"), "time"),
        "both": (at("2025-03-30T00:00"), "time"),
        "none": (at("2025-03-30T04:00"), "time"),
        "wrong": (at("2025-03-30T04:00"), "time"),
    }
    assert live.members("weekend") == ["tokyo"]
    moved = [
        change(who, 0, json.dumps({"timezone": zone}), time=instant(live.now) + timedelta(hours=1),
               received=instant(live.now) + timedelta(hours=1))
        for who, zone in (("none", "Asia/Tokyo"), ("tokyo", "Europe/London"))
    ]  # fmt: skip
    lake.append(rows_of(moved))
    live.tell(moved)
    assert live.members("weekend") == ["none"]
    for name, sentence in live.sentences.items():
        for when in (instant(live.now), at("2025-03-29T23:00"), at("2025-03-30T04:00") - TICK):
            found = find(lake, "acme", sentence, AsOf(when, when)).members["customer"].to_pylist()
            assert live.folded(name, when) == found
    live.profiles.close()


def test_it_is_one_condition_in_every_spelling():
    node = Theirs(Count("order_placed", window=Calendar("month")))
    said = "in their time zone did order_placed this month"
    assert parse(said) == node == in_their_time_zone(did("order_placed", window=this("month")))
    assert written(node) == said
    assert from_klaviyo(to_klaviyo(node)) == node
    for more in ("not in their time zone (did a today or did b yesterday)",
                 "in their time zone not did a today and did b"):  # fmt: skip
        assert written(parse(more)) == more
    assert isinstance(parse("in their time zone not did a today"), Theirs)
    assert isinstance(parse("not in their time zone did a today"), Not)


@pytest.mark.parametrize(
    "said",
    ["in their time zone", "in their time did a", "did a where in their time zone hour = 2",
     "in their time zone and did a"],
)  # fmt: skip
def test_what_is_not_said_by_their_clock_is_pointed_at(said):
    with pytest.raises(BadAudience, match=r"(?m)^ *\^$"):
        parse(said)
