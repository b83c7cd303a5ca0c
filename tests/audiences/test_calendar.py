"""Days of the shop: they begin by its clock, also when the clock is changed."""

from datetime import UTC, date, datetime, timedelta

import pytest

from habitue.audiences.language.calendar import anniversaries, days_of, start_of
from habitue.audiences.language.windows import Calendar, bounds
from habitue.audiences.members import AsOf, find
from habitue.errors import BadAudience
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK
from tests.audiences.histories import History, stored
from tests.lake.people import change, consent
from tests.lake.small import event

NEW_YORK = "America/New_York"
SPRING = datetime(2025, 3, 9, 7, tzinfo=UTC)           # two o'clock becomes three there


def lake_of(tmp_path, *events, zone=NEW_YORK, changes=(), consents=()):
    told = History(events, (), tuple(changes), tuple(consents), (), zone=zone)
    return stored(Lake(tmp_path), told)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def members(lake, said, when):
    return find(lake, "acme", said, AsOf(when)).members["customer"].to_pylist()


def test_a_day_has_the_hours_that_its_clock_gives_it():
    assert bounds(Calendar("day"), SPRING, NEW_YORK) == (
        at("2025-03-09T05:00"), at("2025-03-10T04:00"),
    )  # fmt: skip
    autumn = at("2025-11-02T12:00")
    assert bounds(Calendar("day"), autumn, NEW_YORK) == (
        at("2025-11-02T04:00"), at("2025-11-03T05:00"),
    )  # fmt: skip
    # midnight does not exist there: the day begins at one o'clock
    assert start_of(date(2018, 11, 4), "America/Sao_Paulo") == at("2018-11-04T03:00")


@pytest.mark.parametrize(
    ("unit", "ahead", "days"),
    [
        ("week", 0, ("2025-03-03", "2025-03-09")),
        ("week", 1, ("2025-03-10", "2025-03-16")),
        ("month", -1, ("2025-02-01", "2025-02-28")),
        ("quarter", -1, ("2024-10-01", "2024-12-31")),
        ("quarter", 1, ("2025-04-01", "2025-06-30")),
        ("year", 0, ("2025-01-01", "2025-12-31")),
    ],
)
def test_units_of_the_calendar_are_whole(unit, ahead, days):
    found = days_of(unit, ahead, date(2025, 3, 9))
    assert tuple(str(one) for one in found) == days


def test_the_29th_of_february_is_remembered_on_the_28th_where_there_is_no_other():
    assert anniversaries(date(2025, 2, 28), date(2025, 3, 1)) == {2025: [228, 229, 301]}
    assert anniversaries(date(2024, 2, 28), date(2024, 3, 1)) == {2024: [228, 229, 301]}


def test_an_order_is_of_the_day_on_which_the_shop_was(tmp_path):
    # ten at night on the 8th, and half past three on the 9th, when clocks had gone forward
    night, morning = at("2025-03-09T03:00"), at("2025-03-09T07:30")
    lake = lake_of(tmp_path, event("a", 6, time=night, received=night),
                   event("b", 6, time=morning, received=morning, customer="c2"))  # fmt: skip
    assert members(lake, "did order_placed today", morning) == ["c2"]
    assert members(lake, "did order_placed yesterday", morning) == ["c1"]
    assert members(lake, "did order_placed today", at("2025-03-09T04:59")) == ["c1"]
    assert members(lake, "did order_placed today", at("2025-03-10T03:59:59.999999")) == ["c2"]
    assert members(lake, "did order_placed today", at("2025-03-10T04:00")) == []
    assert members(lake, 'did order_placed where weekday = "saturday"', morning) == ["c1"]
    assert members(lake, "did order_placed where hour = 3", morning) == ["c2"]
    assert members(lake, 'did order_placed where (month = "march" and hour >= 22)', morning) == [
        "c1"
    ]


def test_a_birthday_is_of_the_calendar_and_of_no_zone(tmp_path):
    born = {"c1": "1990-03-09", "c2": "1980-02-29", "c3": "2025-03-09"}
    born["c4"] = "1990-03-09T04:00:00Z"
    lake = lake_of(tmp_path, changes=[
        change(who, 0, f'{{"born": "{told}"}}', time=at("2025-01-01"), received=at("2025-01-01"))
        for who, told in born.items()
    ])  # fmt: skip
    today = "anniversary of profile.born today"
    # c3 is born today, and has no anniversary before a year has passed; c4 was born on the 8th
    assert members(lake, today, at("2025-03-09T05:00")) == ["c1"]
    assert members(lake, today, at("2025-03-09T05:00") - TICK) == ["c4"]
    assert members(lake, today, at("2025-02-28T12:00")) == ["c2"]
    assert members(lake, today, at("2026-03-09T12:00")) == ["c1", "c3"]
    soon = "anniversary of profile.born in the next 9 days"
    assert members(lake, soon, at("2025-02-28T12:00")) == ["c1", "c4"]
    assert members(lake, "anniversary of profile.born this month", at("2025-03-01T12:00")) == [
        "c1", "c4",
    ]  # fmt: skip
    assert members(lake, "profile.born today", at("2025-03-09T05:00")) == ["c3"]


def test_customers_are_remembered_by_their_first_order(tmp_path):
    years = at("2023-06-01T12:00"), at("2024-09-01T12:00")
    lake = lake_of(tmp_path, *(
        event(f"e{place}", 0, time=time, received=time) for place, time in enumerate(years)
    ))  # fmt: skip
    said = "anniversary of first order_placed in the next 2 days"
    assert members(lake, said, at("2025-05-30T12:00")) == ["c1"]
    assert members(lake, said, at("2025-08-31T12:00")) == []
    old = "first order_placed at least 731 days ago"
    assert members(lake, old, years[0] + timedelta(731)) == ["c1"]
    assert members(lake, old, years[0] + timedelta(731) - TICK) == []


def test_a_consent_is_as_old_as_its_status(tmp_path):
    def told(who, hour, status):
        time = at("2025-03-09") + timedelta(hours=hour)
        return consent(who, 0, status, time=time, received=time)

    lake = lake_of(tmp_path, consents=[
        told("c1", 0, "subscribed"), told("c1", 30, "subscribed"), told("c2", 30, "subscribed"),
    ])  # fmt: skip
    said = 'consent.email = "subscribed" and consent.email.since in the last 1 days'
    assert members(lake, said, at("2025-03-10T06:00")) == ["c2"]


def test_a_shop_in_no_time_zone_has_no_days(tmp_path):
    lake = lake_of(tmp_path, event("a", 1), zone="Mars/Olympus")
    assert members(lake, "did order_placed", SPRING) == ["c1"]
    with pytest.raises(BadAudience, match="the shop's time zone 'Mars/Olympus' is none"):
        members(lake, "did order_placed today", SPRING)
