"""Membership kept live equals a recomputation, at every instant that was looked at and between."""

import random
import re
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from habitue.audiences.changes.reading import NotFollowed, followed, members
from habitue.audiences.compile import asked as predictions_asked
from habitue.audiences.language.nodes import (
    Compared,
    Condition,
    Dated,
    Member,
    Operand,
    Rfm,
    Similar,
    every,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import Window
from habitue.audiences.language.writing import written
from habitue.audiences.live import evaluate, tables
from habitue.audiences.members import expanded
from habitue.lake.live import store
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK, asked
from tests.audiences.histories import History, history
from tests.audiences.living import Living, batches
from tests.audiences.slow import Slow
from tests.lake.people import WEB, change, consent, link
from tests.lake.small import day, event, filled

NAMED = {"reds": 'profile.color = "red" or did cart_added where color = "red"',
         "buyers": "did order_placed and not in audience \"reds\""}  # fmt: skip


def reads_shop(condition):
    """Whether a condition rests on what is told of all customers at once."""
    whole = expanded(condition, NAMED)
    return bool(predictions_asked(whole)) or any(
        isinstance(one, Similar)
        or (isinstance(one, (Compared, Dated)) and isinstance(one.operand, Rfm))
        for one in every(whole)
    )


def so_far(told: History, live: Living) -> History:
    """The part of a history that was told by now."""
    kinds = {name: [] for name in ("Event", "Item", "ProfileChange", "Consent")}
    for one in live.nouns:
        kinds[type(one).__name__].append(one)
    once = {name: tuple({one.digest: one for one in held}.values()) for name, held in kinds.items()}
    kinds = (once["Event"], once["Item"], once["ProfileChange"], once["Consent"])
    return History(*kinds, told.predictions, told.embeddings, told.zone)


def agree(live: Living, told: History) -> int:
    """Compare every audience with the slow twin now; how many memberships were compared."""
    now = instant(live.now)
    slow = Slow(so_far(told, live), now, now)
    slow.named = {name: expanded(Member(name), NAMED) for name in NAMED}
    for name, sentence in live.sentences.items():
        whole = expanded(parse(sentence), live.sentences)
        is_asked = {question for question, _ in predictions_asked(whole)} <= slow.questions
        is_asked &= bool(slow.places) or not any(isinstance(one, Similar) for one in every(whole))
        wanted = slow.members(whole) if is_asked else []
        assert live.members(name) == wanted, (name, sentence, now)
        assert live.folded(name) == wanted, (name, sentence, now)
    return len(live.sentences) * len(slow.customers)


@given(seed=st.integers(1, 10**6), conditions=st.lists(asked, min_size=3, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_what_is_kept_live_is_what_a_recomputation_finds(tmp_path_factory, seed, conditions):
    draw = random.Random(seed)
    told = history(seed)
    live = Living(tmp_path_factory.mktemp("live") / "profiles.sqlite", told.zone)
    live.define(**NAMED)
    for place, piece in enumerate(batches(told, seed)):
        live.tell(piece)
        live.wait(instant(live.now))
        live.publish(told.predictions, told.embeddings)
        if place % 4 == 0:
            if conditions:
                live.define(**{f"a{place % 3}": written(conditions.pop())})
            agree(live, told)
        if draw.random() < 0.1:
            live.restart()
        if draw.random() < 0.3:
            live.wait(instant(live.now) + draw.choice([TICK, timedelta(hours=2)]))
    live.wait(day(9))
    live.publish(told.predictions, told.embeddings)
    agree(live, told)
    live.wait(day(40))
    agree(live, told)
    live.profiles.close()


@given(seed=st.integers(1, 10**6), conditions=st.lists(asked, min_size=3, max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_the_changes_up_to_any_instant_are_what_was_true_and_known_then(
    tmp_path_factory, seed, conditions
):
    conditions = [one for one in conditions if not reads_shop(one)]
    assume(conditions)
    draw = random.Random(seed)
    told = history(seed)
    kinds = (told.events, told.items, told.changes, told.consents)
    in_time = (tuple(one for one in kind if not one.backfilled) for kind in kinds)
    told = History(*in_time, (), (), told.zone)
    live = Living(tmp_path_factory.mktemp("live") / "profiles.sqlite", told.zone)
    live.define(**{f"a{place}": written(one) for place, one in enumerate(conditions)}, **NAMED)
    for piece in batches(told, seed):
        live.tell(piece)  # as after a pause: nothing is looked at in between
    live.wait(day(20))
    for _ in range(12):
        at = draw.choice(
            [
                day(draw.randint(0, 120) / 12),
                instant(
                    draw.choice(
                        [microseconds(day(1)), *(microseconds(row[3]) for row in live.changes())]
                    )
                ),
            ]
        )
        at += draw.choice([-1, 0, 1]) * TICK
        slow = Slow(told, at, at)
        for name, sentence in live.sentences.items():
            wanted = slow.members(expanded(parse(sentence), live.sentences))
            assert live.folded(name, at) == wanted, (name, sentence, at)
    live.profiles.close()


@pytest.fixture
def live(tmp_path):
    living = Living(tmp_path / "profiles.sqlite")
    yield living
    living.profiles.close()


CART = {"name": "cart_added", "order": None, "value": None, "lines": ()}
HOUR = timedelta(hours=1)


def test_an_abandoned_cart_enters_when_the_hour_is_over_and_leaves_with_the_order(live):
    live.define(carts="did cart_added between 72 and 1 hour ago then not order_placed")
    live.tell([event("cart", 1, **CART)])
    live.wait(day(1) + HOUR - TICK)
    assert live.members("carts") == []
    live.restart()
    live.wait(day(1) + HOUR + timedelta(milliseconds=5))
    assert live.members("carts") == ["c1"]
    live.restart()
    live.tell([event("order", 1.5)])
    assert live.members("carts") == []
    assert live.changes() == [
        (
            "carts",
            "c1",
            "entered",
            day(1) + HOUR,
            day(1) + HOUR + timedelta(milliseconds=5),
            "time",
        ),
        ("carts", "c1", "left", day(1.5), day(1.5), "event"),
    ]


def test_what_comes_late_is_looked_at_again_and_nothing_is_rewritten(live):
    live.define(twice="did order_placed >= 2 times in 2 days")
    live.tell([event("a", 1), event("b", 2.5)])
    live.wait(day(2.6))
    before = live.changes()
    live.tell([event("late", 1.5, received=day(2.7))])
    live.wait(day(9))
    assert live.changes()[: len(before)] == before
    assert [(row[2], row[3], row[5]) for row in live.changes()] == [
        ("entered", day(2.5), "event"),
        ("left", day(3.5), "time"),
    ]


def test_customers_who_become_one_leave_and_the_one_stays(live):
    live.define(buyers="did order_placed", twice="did order_placed >= 2 times", lost="did not x")
    live.tell([event("a", 1), event("b", 2, customer=WEB)])
    live.wait(day(2))
    assert live.members("buyers") == [WEB, "c1"]
    live.tell([link("c1", WEB, 3)])
    live.wait(day(3))
    assert live.members("buyers") == ["c1"]
    assert live.members("twice") == ["c1"]
    assert live.members("lost") == ["c1"]
    assert [row[:4] for row in live.changes() if row[3] == day(3)] == [
        ("twice", "c1", "entered", day(3)),
        ("buyers", WEB, "left", day(3)),
        ("lost", WEB, "left", day(3)),
    ]
    live.tell([link("c1", WEB, 4, undo=True, cause="person")])
    live.wait(day(4))
    assert live.members("buyers") == [WEB, "c1"]
    assert live.members("twice") == []


def test_an_audience_that_is_saved_changed_or_removed_is_applied_to_everybody(live):
    live.tell([event("a", 1), event("b", 1, customer="c2"), change("c3", 1, '{"color": "red"}')])
    live.define(day(2), who="did order_placed")
    assert live.members("who") == ["c1", "c2"]
    live.define(day(3), who='profile.color = "red"')
    assert live.members("who") == ["c3"]
    live.define(day(4), who=None)
    assert live.members("who") == []
    assert [row[1:4] + row[5:] for row in live.changes()] == [
        ("c1", "entered", day(2), "definition"),
        ("c2", "entered", day(2), "definition"),
        ("c1", "left", day(3), "definition"),
        ("c2", "left", day(3), "definition"),
        ("c3", "entered", day(3), "definition"),
        ("c3", "left", day(4), "definition"),
    ]


def test_what_is_told_twice_changes_nothing(live):
    live.define(once="did order_placed = 1 times", mail='consent.email = "subscribed"')
    told = [event("a", 1), consent("c1", 1, "subscribed")]
    live.tell(told)
    live.tell(told)
    live.wait(day(2))
    assert [row[:3] for row in live.changes()] == [
        ("once", "c1", "entered"), ("mail", "c1", "entered"),
    ]  # fmt: skip


def test_an_erased_customer_is_in_no_membership_and_no_change(live):
    live.define(buyers="did order_placed")
    live.tell([event("a", 1), event("b", 1, customer="c2")])
    with live.profiles.writing() as connection:
        tables.forget(connection, "acme", ["c1"])
        ids = [id for (id,) in connection.execute("SELECT id FROM keys WHERE key = 'c1'")]
        store.forget(connection, ids)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert live.members("buyers") == ["c2"]
    assert [row[1] for row in live.changes()] == ["c2"]
    live.tell([event("new", 5)])
    assert [row[1:3] for row in live.changes()] == [("c2", "entered"), ("c1", "entered")]


def test_what_is_derived_anew_tells_no_change_twice(live, tmp_path):
    live.define(buyers="did order_placed", lost="did not order_placed in 2 days")
    told = [event("a", 1), event("b", 1.5, customer="c2"), event("c", 3, customer="c2")]
    live.tell(told)
    live.wait(day(4))
    before = live.changes()
    lake = filled(Lake(tmp_path / "lake"), *told)
    live.profiles.rebuild(lake)
    with live.profiles.writing() as connection:
        live.keeper.told(connection, store.take(connection, {}), None)
    live.wait(day(4))
    assert live.changes() == before
    assert live.members("buyers") == ["c1", "c2"]
    assert live.members("lost") == ["c1"]
    live.wait(day(5))
    assert [row[:3] for row in live.changes()[len(before) :]] == [("lost", "c2", "entered")]


KINDS = {
    "conditions": get_args(Condition),
    "operands": get_args(Operand),
    "windows": get_args(Window),
}


@pytest.mark.parametrize("kind", [*KINDS["conditions"], *KINDS["operands"], *KINDS["windows"]])
def test_every_kind_of_node_is_followed_or_refused_by_name(kind):
    """A new node has to be told to the live evaluation; audiences stand in place of `Member`."""
    known = Path(evaluate.__file__).read_text()
    is_named = re.search(rf"\b{kind.__name__}\b", known) is not None
    assert is_named is (kind is not Member)


def test_what_cannot_be_followed_is_said_and_the_rest_goes_on(live):
    live.define(buyers="did order_placed", near='similar to audience "buyers" top 3 customers',
                likely="churn_90d > 0.5")  # fmt: skip
    live.tell([event("a", 1)])
    problems = {row["name"]: row["problem"] for row in followed(live.path, "acme").to_pylist()}
    assert problems["buyers"] == ""
    assert problems["near"].startswith("nothing was kept yet of what a model knows of customers")
    assert problems["likely"].startswith("nothing was predicted yet about churn in 90 days")
    assert live.members("buyers") == ["c1"]
    with pytest.raises(NotFollowed, match=r"(?s)nothing was kept yet .*habitue embed"):
        members(live.path, "acme", "near")

