"""Time waits for what was stamped before and is not in the log yet, and not for long.

And the log is looked at when the server says that something was appended.
"""

import itertools
from datetime import timedelta
from functools import partial

import pytest

from habitue.audiences.saved import Saved
from habitue.lake.eventlog.records import Entry, Part, encode
from habitue.lake.live.told import microseconds
from habitue.lake.tables import Lake
from habitue.serving.beside import following
from habitue.serving.beside.following import MOST_HELD, SETTLED, STAMPED, Following
from habitue.serving.beside.underway import Heard, Underway, clear
from tests.lake.small import day, event, filled
from tests.serving.small import ListLog

CARTS = "did cart_added between 72 and 1 hour ago then not order_placed"
DUE = microseconds(day(1) + timedelta(hours=1))


def test_the_oldest_request_is_known_to_others_until_it_is_answered(tmp_path):
    path = tmp_path / "underway"
    heard = Heard(path)
    oldest = heard.oldest
    assert oldest() is None and heard.appended() is None
    underway = Underway(path)
    assert oldest() == 0
    with underway.one(day(1)):
        with underway.one(day(2)):
            assert oldest() == microseconds(day(1))
        assert oldest() == microseconds(day(1))
    assert oldest() == 0
    with pytest.raises(ZeroDivisionError), underway.one(day(3)):
        raise ZeroDivisionError
    assert oldest() == 0
    assert Underway(path) and Heard(path).oldest() == 0


def test_others_know_that_something_was_appended_and_know_it_still_after_a_restart(tmp_path):
    path = tmp_path / "underway"
    clear(path)
    first, second, told = Underway(path, 0), Underway(path, 5), Heard(path)
    seen = [told.appended()]
    for one in (first, second, first, Underway(path, 5)):
        one.appended()
        seen.append(told.appended())
    clear(path)
    assert len(set(seen)) == 5 and told.appended() == seen[-1] and told.oldest() == 0


class Counted(ListLog):
    """A log that counts how often it was read."""

    reads = 0

    def read(self, shard, offset, **how):
        self.reads += 1
        return super().read(shard, offset, **how)


class Shop:
    """A shop of one audience, whose clock and whose requests are told."""

    def __init__(self, folder):
        self.now, self.stamp, self.count = microseconds(day(1)), 0, None
        self.log = Counted()
        lake = filled(Lake(folder / "lake"), event("before", 0.5, customer="c9"))
        self.saved = Saved(lake, "acme", partial(day, 1), live=folder / "profiles.sqlite")
        self.saved.save("carts", CARTS)
        self.following = Following(
            folder / "profiles.sqlite", self.log, lake, refuses=lambda _: False,
            clock=lambda: self.now, underway=self,
        )  # fmt: skip
        self.tell(event("cart", 1, name="cart_added", order=None, value=None, lines=()))

    def tell(self, told):
        part = Part(receipt=told.id, shop="acme", source="till", origin="/v1/events",
                    received=told.received, entries=(Entry(0, (told,)),))  # fmt: skip
        self.log.append(0, [encode(part)])

    def oldest(self):
        return self.stamp

    def appended(self):
        return self.count

    def changes(self, now):
        self.now = now
        while self.following.define() or self.following.step():
            pass
        return self.saved.changes()["change"].to_pylist()


@pytest.fixture
def shop(tmp_path):
    one = Shop(tmp_path)
    yield one
    one.following.close()


def test_an_order_that_is_written_after_the_hour_and_came_before_it_keeps_one_out(shop):
    late = day(1) + timedelta(minutes=59, seconds=59.999)
    shop.stamp = microseconds(late)
    assert shop.changes(DUE + MOST_HELD // 2) == []
    shop.tell(event("order", 1, time=late, received=late))
    assert shop.changes(DUE + MOST_HELD // 2) == []
    shop.stamp = 0
    assert shop.changes(DUE + MOST_HELD // 2) == []
    assert shop.changes(DUE + 10 * MOST_HELD) == []


def test_time_goes_on_at_once_where_nothing_is_underway_and_soon_where_something_is(shop):
    assert shop.changes(DUE) == []
    shop.stamp = DUE - 1
    assert shop.changes(DUE + MOST_HELD - 1) == []
    shop.stamp = DUE + 1                              # what came after it holds up nothing
    assert shop.changes(DUE + STAMPED) == ["entered"]


def test_a_request_that_takes_long_does_not_hold_up_time(shop):
    shop.stamp = DUE - 1
    assert shop.changes(DUE + MOST_HELD) == ["entered"]


def test_where_no_server_tells_time_waits_a_little(shop):
    shop.stamp = None
    assert shop.changes(DUE + SETTLED - 1) == []
    assert shop.changes(DUE + SETTLED) == ["entered"]


def test_the_log_is_not_read_again_until_something_was_appended(shop, monkeypatch):
    monkeypatch.setattr(following, "LOG_SECONDS", 3600.0)
    shop.count = 1
    assert shop.changes(DUE - 1) == []
    before = shop.log.reads
    assert shop.changes(DUE - 1) == [] and shop.log.reads == before
    shop.tell(event("order", 1))
    shop.count = 2
    shop.changes(DUE - 1)
    assert shop.log.reads > before
    assert shop.following.profiles.find("acme", "c1")[0].counts["order_placed"] == 1


def test_what_nobody_told_of_is_read_after_a_moment(shop, monkeypatch):
    monkeypatch.setattr(following, "LOG_SECONDS", 0.0)
    shop.count = 1
    shop.changes(DUE - 1)
    before = shop.log.reads
    shop.changes(DUE - 1)
    assert shop.log.reads > before


def test_what_nobody_told_of_is_read_before_time_moves_anybody(shop, monkeypatch):
    monkeypatch.setattr(following, "LOG_SECONDS", 3600.0)
    shop.count = 1
    assert shop.changes(DUE - 1) == []
    late = day(1) + timedelta(minutes=59)
    shop.tell(event("order", 1, time=late, received=late))
    assert shop.changes(DUE + STAMPED) == []


def view(number):
    return event(f"view{number}", 1, name="item_viewed", order=None, value=None, lines=(),
                 customer="c2")  # fmt: skip


def test_time_goes_on_where_more_comes_while_the_log_is_read(shop):
    assert shop.changes(DUE) == []
    read, number = shop.log.read, itertools.count()

    def endless(shard, offset, **how):
        rows = read(shard, offset, **how)
        shop.tell(view(next(number)))
        return rows

    shop.log.read = endless
    shop.tell(view("first"))
    shop.now = DUE + STAMPED
    shop.following.step()
    assert shop.saved.changes()["change"].to_pylist() == ["entered"]


def test_time_waits_for_what_was_in_the_log_and_is_not_read_yet(shop):
    assert shop.changes(DUE) == []
    read = shop.log.read
    shop.log.read = lambda shard, offset, **how: read(shard, offset, **how)[:1]
    shop.tell(view(1))
    shop.tell(event("order", 1, time=day(1) + timedelta(minutes=59)))
    shop.now = DUE + STAMPED
    shop.following.step()
    shop.following.step()
    assert shop.saved.changes().num_rows == 0
