"""Who is similar to an audience, kept live: at each instant as a recomputation finds it."""

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from habitue.audiences.changes.reading import followed
from habitue.audiences.language.nodes import Member, Similar, every
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.live import tables
from habitue.audiences.live.alike import places, settling
from habitue.audiences.members import AsOf, expanded, find
from habitue.audiences.saved import Saved
from habitue.lake.live import store
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from habitue.serving.beside.following import Following
from tests.audiences.conditions import TICK, asked, similar
from tests.audiences.equality import rests_on_all
from tests.audiences.histories import Embedded, History, history
from tests.audiences.living import Living, batches
from tests.audiences.slow import Slow
from tests.audiences.test_live import NAMED
from tests.audiences.test_lookalike import PLACES, keep
from tests.lake.people import WEB, item, link
from tests.lake.small import day, event, filled
from tests.serving.small import ListLog

SEED = 'similar to audience "buyers" top 2'


def embedded(told, version="v1", at=0):
    return [Embedded(who, version, day(at), vector, day(at)) for who, vector in told.items()]


@pytest.fixture
def live(tmp_path):
    """Five customers of whom nobody ordered: c2 and c3 are near to c1, c4 is between, c5 is far."""
    living = Living(tmp_path / "profiles.sqlite")
    living.tell([event(who, 0, customer=who, name="seen", value=None) for who in PLACES])
    living.publish([], embedded(PLACES))
    yield living
    living.profiles.close()


def changes(live, name="near"):
    told = [(row[1], row[2], row[3], row[5]) for row in live.changes() if row[0] == name]
    return sorted(told, key=lambda one: (one[2], one[0]))


def test_each_change_of_the_audience_moves_others_at_its_own_instant(live):
    live.define(day(0.5), buyers="did order_placed in 2 days", near=SEED)
    assert live.members("near") == []
    live.tell([event("a", 1), event("b", 2, customer="c5")])   # told together, after a pause
    live.wait(day(9))
    assert changes(live) == [
        ("c2", "entered", day(1), "event"),
        ("c3", "entered", day(1), "event"),
        ("c2", "left", day(3), "time"),    # between c1 and c5 all are as near: the first names
        ("c4", "entered", day(3), "time"),
        ("c3", "left", day(4), "time"),
        ("c4", "left", day(4), "time"),
    ]  # fmt: skip


def test_what_is_told_late_or_together_ends_as_if_it_had_come_one_by_one(live, tmp_path):
    other = Living(tmp_path / "other.sqlite")
    other.tell(live.nouns)
    other.publish([], embedded(PLACES))
    nouns = [event(f"o{hour}", 1 + hour / 24, customer=f"c{1 + hour % 5}") for hour in range(9)]
    for one in (live, other):
        one.define(day(0.5), buyers="did order_placed in 170 minutes", near=SEED,
                   both=f"{SEED} and did order_placed in 290 minutes")  # fmt: skip
    live.tell(nouns)
    for noun in nouns:
        other.tell([noun])
        other.wait(noun.received)
    for one in (live, other):
        one.wait(day(3))
    for name in ("near", "both"):
        assert changes(live, name) == changes(other, name) != []
    other.profiles.close()


def test_what_waited_when_it_was_killed_is_found_at_its_instant(live):
    live.define(day(0.5), buyers="did order_placed", near=f"{SEED} and did order_placed = 0 times",
                older=f"not ({SEED})")  # fmt: skip
    live.tell([event("a", 1), event("b", 2, customer="c2")])   # c2 is near, and orders then
    live.restart()                         # before it was looked at who is similar
    live.wait(day(3))
    assert changes(live)[:2] == [
        ("c2", "entered", day(1), "event"), ("c3", "entered", day(1), "event"),
    ]  # fmt: skip
    assert ("c2", "left", day(2), "event") in changes(live)
    assert live.members("near") == live.folded("near") == ["c3", "c4"]
    live.restart()
    live.tell([event("c", 4, customer="c5")])
    live.wait(day(5))
    assert live.members("near") == live.folded("near")
    assert sorted({*PLACES} - {*live.members("near")} - {"c1", "c2", "c5"}) == []
    assert live.members("older") == sorted({*PLACES} - {*live.members("near")})


def test_groups_that_an_audience_asks_for_as_well_leave_what_was_told_as_it_was(live):
    live.define(day(0.5), buyers='did item_ordered where category = "red"',
                near=f'{SEED} or rfm = "champions"')  # fmt: skip
    live.tell([event("a", 1), event("b", 1, customer="c2"), event("c", 1, customer="c5")])
    live.wait(day(2))
    told, before = live.changes(), live.members("near")
    # an item that changes lets all be applied again, and the orders move the groups
    red = item("mug", 3, category="red", source="till")
    more = [event(f"d{n}", 3 + n / 24, customer="c4") for n in range(4)]
    live.tell([red, *more])
    live.wait(day(4))
    assert live.members("near") != before
    assert live.folded("near", day(2)) == before
    assert all(row[3] > day(2) for row in live.changes()[len(told):])


def test_what_comes_when_its_instant_was_looked_at_is_found_after_a_kill(live):
    live.define(day(0.5), buyers="did order_placed", near=SEED)
    live.wait(day(1))
    live.tell([event("a", 1)])             # of the instant that was looked at last
    live.restart()
    live.wait(day(2))
    assert changes(live) == [
        ("c2", "entered", day(1), "event"), ("c3", "entered", day(1), "event"),
    ]  # fmt: skip


def test_an_audience_that_others_are_similar_to_can_be_another_one_or_none(live):
    live.define(day(0.5), buyers="did order_placed", near=SEED)
    live.tell([event("a", 1), event("b", 1, customer="c5", name="returned", value=None)])
    live.wait(day(1))
    assert live.members("near") == ["c2", "c3"]
    live.define(day(2), buyers="did returned")
    assert live.members("near") == ["c3", "c4"]
    live.define(day(3), buyers=None)
    assert live.members("near") == []
    assert changes(live)[2:] == [
        ("c2", "left", day(2), "definition"), ("c4", "entered", day(2), "definition"),
        ("c3", "left", day(3), "definition"), ("c4", "left", day(3), "definition"),
    ]  # fmt: skip


def test_embeddings_that_are_published_anew_move_them_with_a_score(live):
    live.define(day(0.5), buyers="did order_placed", near=SEED)
    live.tell([event("a", 1)])
    live.wait(day(2))
    mirrored = {who: (-x if who != "c1" else x, y) for who, (x, y) in PLACES.items()}
    live.now = microseconds(day(2)) + 10_000_000
    live.publish([], embedded(PLACES) + embedded(mirrored, "v2", 2))
    live.wait(day(3))
    assert live.members("near") == live.folded("near") == ["c4", "c5"]
    assert {row[2:] for row in changes(live)[2:]} == {(day(2), "score")}


def test_who_is_similar_to_those_who_are_similar_follows_at_the_same_instant(live):
    live.define(day(0.5), buyers="did order_placed", near='similar to audience "buyers" top 1',
                next='similar to audience "near" top 1', last='similar to audience "next" top 1')
    live.tell([event("a", 1), event("b", 2, customer="c5")])
    live.wait(day(3))
    assert changes(live, "near")[0] == ("c2", "entered", day(1), "event")
    assert changes(live, "next")[0] == ("c3", "entered", day(1), "event")
    assert changes(live, "last")[0] == ("c2", "entered", day(1), "event")
    assert {row[2] for row in changes(live, "last")} <= {day(1), day(2)}


def test_customers_who_become_one_are_one_among_the_nearest(live):
    live.tell([event("web", 0.1, customer=WEB, name="seen", value=None)])
    live.publish([], [*embedded(PLACES), *embedded({WEB: (1, 0.1)})])
    live.define(day(0.5), buyers="did order_placed", near=SEED)
    live.tell([event("a", 1)])
    live.wait(day(1))
    assert live.members("near") == [WEB, "c2"]
    live.tell([link("c4", WEB, 2)])        # its own place counts
    live.wait(day(2))
    assert live.members("near") == live.folded("near") == ["c2", "c3"]
    live.tell([link("c4", WEB, 3, undo=True, cause="person")])
    live.wait(day(3))
    assert live.members("near") == live.folded("near") == [WEB, "c2"]


def test_who_is_erased_draws_nobody_near_any_more(live):
    live.define(day(0.5), buyers="did order_placed", near='similar to audience "buyers" top 1')
    live.tell([event("a", 1), event("b", 1, customer="c5")])
    live.wait(day(1))
    with live.profiles.writing() as connection:
        tables.forget(connection, "acme", ["c1"])
        ids = [id for (id,) in connection.execute("SELECT id FROM keys WHERE key = 'c1'")]
        store.forget(connection, ids)
    live.tell([event("x", 2, customer="c3", name="seen", value=None)])
    live.wait(day(2) + TICK)
    with live.profiles.writing() as connection:
        live.keeper.fire(connection, live.now)
    assert live.members("near") == ["c4"]


def test_it_is_told_why_it_cannot_be_kept_live_and_it_begins_when_it_can(tmp_path, monkeypatch):
    live = Living(tmp_path / "profiles.sqlite")
    live.tell([event(who, 0, customer=who) for who in PLACES])
    live.define(day(1), buyers='did order_placed and profile.x is set', near=SEED)

    def problem():
        return {row["name"]: row["problem"] for row in followed(live.path, "acme").to_pylist()}

    assert problem()["near"].startswith("nothing was kept yet of what a model knows")
    monkeypatch.setattr(places, "MOST", 4)
    live.publish([], embedded(PLACES))
    assert problem()["near"].startswith("5 customers have an embedding")
    monkeypatch.setattr(places, "MOST", 5)
    live.define(day(2), near='similar to audience "buyers" top 3')
    assert problem()["near"] == ""
    live.profiles.close()


def test_a_transaction_compares_no_more_than_it_may(live, monkeypatch):
    monkeypatch.setattr(settling, "COMPARED", 5)               # one instant of five customers
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    live.define(day(0.5), buyers="did order_placed in 3 hours",
                near=f"{SEED} and did not order_placed in 1 hour")  # fmt: skip
    live.tell([event(f"o{n}", 1 + n / 24, customer=f"c{1 + n % 5}") for n in range(9)])
    live.wait(day(2))
    assert live.members("near") == live.folded("near") == []
    slow = Slow(told_of(live), day(1.3), day(1.3))
    slow.named = {"buyers": parse(live.sentences["buyers"])}
    assert live.folded("near", day(1.3)) == slow.members(parse(live.sentences["near"])) != []


def told_of(live):
    once = tuple({one.digest: one for one in live.nouns}.values())
    return History(once, (), (), (), (), tuple(embedded(PLACES)), "UTC")


near = st.sampled_from(["a0", "reds", "buyers"])


@given(
    seed=st.integers(1, 10**6),
    conditions=st.lists(asked, min_size=1, max_size=3),
    ranks=st.lists(similar(near), min_size=1, max_size=2),
)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_the_changes_up_to_any_instant_are_who_was_similar_then(
    tmp_path_factory, seed, conditions, ranks
):
    conditions = [one for one in conditions if not rests(one)]
    assume(conditions)
    draw = random.Random(seed)
    told = history(seed)
    kinds = (told.events, told.items, told.changes, told.consents)
    in_time = (tuple(one for one in kind if not one.backfilled) for kind in kinds)
    places = tuple(
        Embedded(one.customer, "v1", day(0), one.vector, day(0)) for one in told.embeddings
    )
    told = History(*in_time, (), places, told.zone)
    live = Living(tmp_path_factory.mktemp("live") / "profiles.sqlite", told.zone)
    live.publish((), told.embeddings)
    live.define(a0=written(conditions[0]), **NAMED)
    live.define(**{f"b{place}": written(one) for place, one in enumerate([*ranks, *conditions])})
    live.wait(day(0))
    for piece in batches(told, seed):
        live.tell(piece)                   # as after a pause: nothing is looked at in between
        if draw.random() < 0.1:
            live.restart()
        if draw.random() < 0.1:
            live.wait(instant(live.now))
    live.wait(day(20))
    moments = [row[3] for row in live.changes()] or [day(3)]
    for _ in range(12):
        at = draw.choice([day(draw.randint(0, 120) / 12), draw.choice(moments)])
        compare(live, told, max(at, day(0)) + draw.choice([0, 1]) * TICK)
    live.profiles.close()


def rests(condition) -> bool:
    whole = expanded(condition, NAMED)
    return rests_on_all(whole) or any(isinstance(one, Similar) for one in every(whole))


def compare(live: Living, told: History, at: datetime) -> None:
    slow = Slow(told, at, at)
    named = {name: expanded(Member(name), live.sentences) for name in live.sentences}
    slow.named = named
    for name, whole in named.items():
        wanted = slow.members(whole)
        assert live.folded(name, at) == wanted, (name, live.sentences[name], at)


def test_the_process_that_follows_the_lake_keeps_it(tmp_path):
    now = [day(2)]
    lake = filled(
        Lake(tmp_path / "lake"),
        *(event(f"s{who}", 1, customer=who, name="seen", value=None) for who in PLACES),
        event("a", 1),
    )
    saved = Saved(lake, "acme", lambda: now[0], live=tmp_path / "profiles.sqlite")
    saved.save("buyers", "did order_placed in 2 days")
    saved.save("near", SEED)
    assert saved.not_live("near").startswith("nothing was kept yet of what a model knows")
    keep(lake, PLACES, received=day(2))
    assert saved.not_live("near") == ""

    def follow():
        following = Following(
            tmp_path / "profiles.sqlite", ListLog(), lake, refuses=lambda _: False,
            clock=lambda: microseconds(now[0]),
        )  # fmt: skip
        following.catch_up()
        for _ in range(20):
            now[0] += timedelta(milliseconds=50)
            following.define()
            following.step()
        following.close()

    follow()
    assert members(saved) == ["c2", "c3"] == batch(lake, saved, now[0])
    now[0] = day(2.5)
    keep(lake, {**PLACES, "c2": (-3, 0), "c4": (3, 1)}, "v2", anchor=day(2), received=day(2.5))
    follow()
    assert members(saved) == ["c3", "c4"] == batch(lake, saved, now[0])
    now[0] = day(4)
    follow()                               # the order is no longer of the last two days
    assert members(saved) == [] == batch(lake, saved, now[0])
    rows = [row for row in saved.changes("near").to_pylist() if row["cause"] != "definition"]
    assert {(row["customer"], row["change"], row["at"], row["cause"]) for row in rows} == {
        ("c2", "left", day(2.5), "score"), ("c4", "entered", day(2.5), "score"),
        ("c3", "left", day(3), "time"), ("c4", "left", day(3), "time"),
    }  # fmt: skip


def members(saved):
    return saved.members("near")["customer"].to_pylist()


def batch(lake, saved, at):
    found = find(lake, "acme", 'in audience "near"', AsOf(at, at), saved.sentences())
    return found.members["customer"].to_pylist()
