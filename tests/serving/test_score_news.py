"""Scores that the scorer keeps reach the audiences that compare them, whatever is cut short."""

import random

import pytest

from habitue.audiences.saved import Saved
from habitue.lake.live.scored import SCORES_FILE, Scored, ScoredCustomer
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from habitue.scoring.told import WholeShop
from habitue.serving.beside import scores
from habitue.serving.beside.following import Following
from tests.audiences.curves import row, told, whole
from tests.lake.small import day, event, filled
from tests.serving.small import ListLog

NAMES = [f"c{n}" for n in range(6)]


class Shop:
    """A live state that follows, and the file in which a scorer keeps what it works out."""

    def __init__(self, folder) -> None:
        self.folder, self.now = folder, microseconds(day(5))
        self.lake = filled(
            Lake(folder / "lake"), *(event(f"e{one}", 1, customer=one) for one in NAMES)
        )
        self.saved = Saved(
            self.lake, "acme", lambda: instant(self.now), live=folder / "profiles.sqlite"
        )
        self.scored = Scored(folder / SCORES_FILE)
        self.draw, self.number = random.Random(5), 0
        self.open()

    def open(self) -> None:
        self.following = Following(
            self.folder / "profiles.sqlite", ListLog(), self.lake, refuses=lambda _: False,
            clock=lambda: self.now,
        )  # fmt: skip
        self.following.catch_up()

    def close(self) -> None:
        self.following.close()
        self.scored.close()

    def follow(self) -> None:
        self.now += 1_000_000
        for _ in range(2):
            while self.following.step():
                pass
            while self.following.define():
                pass

    def put(self, *names: str) -> None:
        self.scored.put("acme", self.number, [
            ScoredCustomer(one, self.now - 1, self.now, row(self.draw), b"") for one in names
        ])  # fmt: skip

    def whole(self, *names: str) -> None:
        self.number += 1
        self.put(*names)
        made = WholeShop(whole=whole(f"v{self.number}"), popular=[])
        self.scored.begin("acme", self.number, told(made))

    def members(self, name: str) -> list[str]:
        return self.saved.members(name)["customer"].to_pylist()

    def wanted(self) -> list[str]:
        """Who has a score, by the file."""
        return sorted(one.customer for one in self.scored.customers("acme", NAMES)[1])


@pytest.fixture
def shop(tmp_path):
    found = Shop(tmp_path)
    yield found
    found.close()


def test_scores_of_the_shop_and_of_one_customer_and_none_any_more_reach_it(shop):
    shop.saved.save("scored", "churn_90d >= 0")
    shop.follow()
    assert shop.saved.followed().to_pylist()[0]["problem"].startswith("nothing was predicted yet")
    shop.whole(*NAMES[:4])
    shop.follow()
    assert shop.members("scored") == NAMES[:4] == shop.wanted()
    shop.put("c5")
    shop.scored.drop("acme", ["c0"])
    shop.follow()
    assert shop.members("scored") == ["c1", "c2", "c3", "c5"] == shop.wanted()
    shop.whole("c2", "c3", "c4")
    shop.follow()
    assert shop.members("scored") == ["c2", "c3", "c4"] == shop.wanted()
    causes = [row["cause"] for row in shop.saved.changes().to_pylist()]
    assert causes == ["definition"] * 4 + ["score"] * 5
    assert shop.scored.untold() == 0


def test_what_is_put_beside_the_scores_in_force_is_no_news_yet(shop):
    shop.whole("c1")
    shop.follow()
    shop.number += 1
    shop.put("c1", "c2")
    assert shop.scored.news(10) == []
    shop.number -= 1
    shop.put("c3")
    assert [one.customer for one in shop.scored.news(10)] == ["c3"]


def test_one_customer_comes_before_a_whole_shop_and_keeps_their_turn(shop):
    shop.whole("c1", "c2", "c3")
    shop.put("c3")
    assert [one.customer for one in shop.scored.news(10)] == ["c3", "c1", "c2"]
    shop.whole("c1", "c2", "c3")
    assert [one.customer for one in shop.scored.news(10)] == ["c3", "c1", "c2"]


def test_what_came_while_it_was_told_is_told_again(shop):
    shop.whole("c1")
    told_first = shop.scored.news(10)
    shop.put("c1")
    shop.scored.settle(told_first)
    assert [one.customer for one in shop.scored.news(10)] == ["c1"]


def test_a_crash_before_it_is_settled_changes_nothing(shop, monkeypatch):
    shop.saved.save("scored", "churn_90d >= 0")
    shop.whole(*NAMES)

    def crash(*_, **__):
        raise RuntimeError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(Scored, "settle", crash)
        with pytest.raises(RuntimeError):
            shop.follow()
    shop.following.close()
    shop.open()
    shop.follow()
    shop.follow()
    assert shop.members("scored") == NAMES
    assert len(shop.saved.changes()) == len(NAMES)


def test_whom_the_live_state_does_not_know_yet_waits_and_holds_up_nobody(shop, monkeypatch):
    monkeypatch.setattr(scores, "AT_ONCE", 2)
    shop.saved.save("scored", "churn_90d >= 0")
    shop.whole("a-late", "b-late", *NAMES)
    shop.follow()
    assert shop.members("scored") == NAMES
    filled(shop.lake, *(event(one, 2, customer=one) for one in ("a-late", "b-late")))
    shop.following.catch_up()
    shop.follow()
    assert shop.members("scored") == ["a-late", "b-late", *NAMES]


def test_an_erased_customer_leaves_nothing_in_the_file(shop):
    shop.whole("c1")
    shop.put("c1")
    shop.scored.drop("acme", ["c1"])
    shop.scored.erase("acme", ["c1"])
    assert shop.scored.news(10) == []
    assert all(b"c1" not in one.read_bytes() for one in shop.folder.glob(f"{SCORES_FILE}*"))


def test_a_file_of_scores_that_begins_anew_is_read_by_its_own_numbers(shop):
    shop.saved.save("scored", "churn_90d >= 0")
    for _ in range(3):
        shop.whole("c1", "c2")
        shop.follow()
    shop.close()
    for one in shop.folder.glob(f"{SCORES_FILE}*"):
        one.unlink()
    shop.scored, shop.number = Scored(shop.folder / SCORES_FILE), 0
    shop.open()
    shop.follow()
    assert shop.members("scored") == ["c1", "c2"]      # until something else is told
    shop.whole("c1", "c2")
    shop.follow()
    assert shop.members("scored") == ["c1", "c2"]


def test_a_live_state_that_is_made_anew_from_the_lake_keeps_its_curves(shop):
    shop.saved.save("scored", "churn_90d >= 0")
    shop.whole(*NAMES[:3])
    shop.follow()
    before = shop.saved.changes()
    shop.following.profiles.rebuild(shop.lake)
    shop.follow()
    assert shop.members("scored") == NAMES[:3]
    assert shop.saved.changes() == before
    shop.scored.drop("acme", ["c0"])
    shop.follow()
    assert shop.members("scored") == NAMES[1:3]
