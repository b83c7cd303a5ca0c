"""Customers who are remembered between looks: the same changes as if none were."""

import random

from habitue.audiences.live.asking.remembered import Remembered
from habitue.lake.live.told import instant
from tests.audiences.histories import history
from tests.audiences.living import Living, batches
from tests.audiences.test_live_merges import KEYS, SAID, news
from tests.lake.people import change
from tests.lake.small import day, event

CART = {"name": "cart_added", "order": None, "value": None, "lines": ()}


def told(path, seed, *, remembers):
    """What changed in a shop that was told a history, and customers who join and part."""
    live = Living(path)
    if not remembers:
        live.keeper._held = Remembered(most_rows=0)
    live.define(**SAID)
    draw = random.Random(seed)
    for piece in batches(history(seed), seed):
        live.tell(piece)
        live.wait(instant(live.now))
    for number in range(30):
        live.tell([news(draw, number, 8 + number / 8)])
        live.wait(instant(live.now))
    live.profiles.close()
    return live


def test_what_is_remembered_changes_no_change(tmp_path):
    for seed in (1, 2, 3):
        one, other = (
            told(tmp_path / f"{seed}{place}.sqlite", seed, remembers=bool(place))
            for place in (0, 1)
        )
        assert len(other.keeper._held) > len(KEYS) > len(one.keeper._held)
        one._open()
        other._open()
        assert one.changes() == other.changes()
        one.profiles.close()
        other.profiles.close()


def test_what_came_without_a_word_is_read_again(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(carts="did cart_added >= 2 times", reds='profile.color = "red"')
    live.tell([event("a", 1, **CART)])
    live.profiles.forget("acme", ["c1"])
    live.tell([event("b", 2, **CART)])
    assert live.members("carts") == []
    live.tell([event("c", 3, **CART), change("c1", 3, '{"color": "red"}')])
    assert live.members("carts") == live.members("reds") == ["c1"]
    assert [row[3] for row in live.changes()] == [day(3), day(3)]
    live.profiles.close()


def test_who_is_remembered_stays_while_audiences_are_saved_that_read_no_further(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(carts="did cart_added >= 2 times")
    live.tell([event("a", 1, **CART)])
    (held,) = live.keeper._held._held.values()
    live.define(one="did cart_added", carts="did cart_added >= 3 times")
    assert list(live.keeper._held._held.values()) == [held]
    live.tell([event("b", 2, **CART)])
    assert (live.members("carts"), live.members("one")) == ([], ["c1"])
    live.define(carts="did cart_added >= 2 times", one=None)
    live.tell([event("c", 3, **CART)])
    assert (live.members("carts"), len(held.standing)) == (["c1"], 1)
    live.tell([event("d", 4)])
    live.define(buyers="did order_placed and did cart_added")
    live.tell([event("e", 5, **CART)])
    assert live.members("buyers") == live.members("carts") == ["c1"]
    (other,) = live.keeper._held._held.values()
    assert other is not held
    live.profiles.close()
