"""What random histories found wrong once, each as the small history that shows it."""

from datetime import timedelta

import pytest

from habitue.audiences.language.parsing import parse
from habitue.audiences.live.keeping import FILLED_ALONE
from habitue.lake.live import store
from habitue.lake.live.told import microseconds, told_by
from habitue.lake.tables import Lake
from tests.audiences.histories import History
from tests.audiences.living import Living
from tests.audiences.slow import Slow
from tests.lake.people import item
from tests.lake.small import day, event, filled

MUGS = 'did order_placed where category = "mugs"'
MANY = FILLED_ALONE + 50  # customers: more than an audience is applied to at once


@pytest.fixture
def live(tmp_path):
    living = Living(tmp_path / "profiles.sqlite")
    yield living
    living.profiles.close()


def told_alone(live, *nouns):
    """Tell, and apply to nobody else what follows from it: that is still to be done."""
    received = max(microseconds(one.received) for one in nouns)
    live.now = max(live.now, received)
    with live.profiles.writing() as connection:
        touched = store.take(connection, told_by(nouns))
        live.keeper.told(connection, touched, received)


def test_an_item_that_changes_again_while_its_change_is_applied_is_told_of_both_to_everyone(live):
    live.define(mugs=MUGS)
    live.tell([item("mug", 0, category="cups")])
    live.tell([event(f"e{place}", 1, customer=f"c{place:04}") for place in range(MANY)])
    told_alone(live, item("mug", 2, category="mugs"))
    with live.profiles.writing() as connection:
        assert live.keeper.backfill(connection)        # some were reached
    told_alone(live, item("mug", 3, category="cups"))
    live.wait(day(4))
    everyone = [f"c{place:04}" for place in range(MANY)]
    assert live.folded("mugs", day(1)) == []
    assert live.folded("mugs", day(2)) == everyone
    assert live.folded("mugs", day(3)) == live.members("mugs") == []
    assert {row[5] for row in live.changes()} == {"event"}


def test_the_first_audience_of_a_shop_begins_when_it_is_saved(live, tmp_path):
    told = [event("a", 1), event("b", 2, customer="c2"), event("c", 3)]
    live.profiles.rebuild(filled(Lake(tmp_path / "lake"), *told))
    live.now = microseconds(day(5))
    live.define(day(5), recent="did order_placed in 60 hours")
    live.wait(day(6))
    assert live.changes() == [
        ("recent", "c1", "entered", day(5), day(5), "definition"),
        ("recent", "c1", "left", day(5.5), day(6), "time"),
    ]


def test_what_was_saved_long_before_it_is_followed_begins_when_it_is_followed(live):
    live.tell([event("a", 1), event("b", 2, customer="c2"), event("c", 3)])
    live.now = microseconds(day(5))
    live.define(day(0), recent="did order_placed in 60 hours")
    assert live.changes() == [("recent", "c1", "entered", day(5), day(5), "definition")]


def test_an_audience_that_another_one_names_changes_it_from_its_own_instant_on(live):
    live.tell([event("a", 1)])
    live.define(day(5), buyers="did order_placed", others='not in audience "buyers"')
    soon = day(5) + timedelta(seconds=1)
    live.define(soon, buyers="did cart_added")
    assert live.changes() == [
        ("buyers", "c1", "entered", day(5), day(5), "definition"),
        ("buyers", "c1", "left", soon, soon, "definition"),
        ("others", "c1", "entered", soon, soon, "definition"),
    ]


def test_groups_that_change_while_an_audience_is_applied_change_for_everyone(live):
    said = {"recent": 'rfm = "recent"', "middle": 'rfm = "needs attention"'}
    told = [event(f"e{n}", 1 - n / 1000, customer=f"c{n:03}") for n in range(MANY)]
    live.tell(told)
    live.steps = 1                                     # a hundred are reached
    live.define(day(2), **said)
    live.tell([event("late", 3, customer=f"c{MANY - 1}")])   # and all others move by one
    live.wait(day(4))
    for name, condition in said.items():
        for at, events in ((day(2), told), (day(2.5), told), (day(3), live.nouns)):
            slow = Slow(History(tuple(events), (), (), (), ()), at, at)
            assert live.folded(name, at) == slow.members(parse(condition))
        assert live.members(name) == live.folded(name)
