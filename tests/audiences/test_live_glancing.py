"""Audiences applied to many at a glance: the same changes as one by one, at the same instants."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from habitue.audiences.language.parsing import parse
from habitue.audiences.live import keeping
from habitue.audiences.live.asking.glancing import glanced
from habitue.audiences.live.evaluate import prepared
from habitue.lake.live.told import instant, microseconds
from tests.audiences.histories import history
from tests.audiences.living import Living, batches
from tests.audiences.test_live_merges import news
from tests.lake.small import day, event

NAMES = ("item_viewed", "cart_added", "order_placed", "email_opened")
MOMENTS = (
    "did {event} >= {n} times in {d} days", "did {event} < {n} times in {d} days",
    "did {event} = {n} times", "did not {event} in {d} days", "did {event} this week",
    "did {event} <= {n} times between {d} and 1 days ago", "did {event} at least {d} days ago",
    "did {event} before 2025-03-05", "did {event} in {d} days then {other} within {d} days",
    "did {event} then not {other} within {d} days",
)  # fmt: skip
MORE = ("sum of order_placed value >= 10", 'profile.color = "red"', "did item_ordered",
        'did cart_added where color = "red"', "net_spend > 0")  # fmt: skip


def condition(draw, *kinds):
    """A random one of these kinds."""
    told = [
        draw.choice(kinds).format(
            event=draw.choice(NAMES), other=draw.choice(NAMES), n=draw.randint(1, 3),
            d=draw.randint(2, 9),
        )
        for _ in range(draw.randint(1, 3))
    ]  # fmt: skip
    return draw.choice((" and ", " or ")).join(told)


def kept(path, seed):
    """Changes and members of audiences that are saved, now or a little ago, amid a history."""
    live, draw = Living(path), random.Random(seed)
    live.steps = 2
    pieces = [*batches(history(seed), seed), *([news(draw, n, 8 + n / 8)] for n in range(30))]
    for place, piece in enumerate(pieces):
        live.tell(piece)
        if place % 3 == 0:
            ago = timedelta(hours=draw.choice((0, 0, 0, 5)))   # told later than it was saved
            name, told = f"a{draw.randrange(6)}", condition(draw, *MOMENTS)
            live.define(instant(live.now) - ago, **{name: told})
        live.wait(instant(live.now))
    with live.profiles.writing() as connection:
        while live.keeper.backfill(connection):
            pass
        sql = "SELECT customer, audience, joined FROM standing WHERE joined IS NOT NULL"
        members = set(connection.execute(sql).fetchall())
    found = Counter(live.changes())
    live.profiles.close()
    return found, members


def one_by_one(_connection, _looking, audiences, customers):
    return {customer: list(audiences) for customer in customers}


@pytest.mark.parametrize("seed", range(6))
def test_a_glance_finds_what_looking_one_by_one_finds(tmp_path, monkeypatch, seed):
    told: Counter[str] = Counter()

    def counted(connection, looking, audiences, customers):
        left = glanced(connection, looking, audiences, customers)
        told["left"] += sum(map(len, left.values()))
        told["glanced"] += len(audiences) * len(customers) - sum(map(len, left.values()))
        return left

    monkeypatch.setattr(keeping, "FILLED", 4)
    monkeypatch.setattr(keeping, "FILLED_ALONE", 5)
    monkeypatch.setattr(keeping, "glanced", counted)
    one = kept(tmp_path / "one.sqlite", seed)
    monkeypatch.setattr(keeping, "glanced", one_by_one)
    other = kept(tmp_path / "other.sqlite", seed)
    assert one == other
    assert told["glanced"] > 50
    assert told["left"] > 0


def test_what_asks_for_more_than_when_events_happened_is_not_glanced_at():
    draw = random.Random(0)
    for _ in range(50):
        simple, more = condition(draw, *MOMENTS), condition(draw, *MORE)
        assert prepared(parse(simple)).moments is not None
        assert prepared(parse(f"{simple} and {more}")).moments is None
        assert prepared(parse(more)).moments is None


CART = {"name": "cart_added", "order": None, "value": None, "lines": ()}


def seconds(number):
    return day(1) + timedelta(seconds=number)


def test_what_came_since_an_audience_was_saved_counts_from_when_it_came(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(other="did item_viewed")
    live.tell([event("a", 0.5, **CART)])
    live.tell([event("b", 1, **CART | {"time": seconds(10), "received": seconds(10)})])
    live.now = microseconds(seconds(30))
    live.define(seconds(5), two="did cart_added >= 2 times", one="did cart_added")
    told = {(row[0], row[2], row[3], row[5]) for row in live.changes()}
    live.profiles.close()
    assert told == {
        ("two", "entered", seconds(10), "definition"),
        ("one", "entered", seconds(5), "definition"),
    }


def test_an_audience_saved_before_its_last_change_changes_after_it(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(carts="did cart_added in 12 hours")
    live.tell([event("a", 1, **CART | {"time": seconds(10) - timedelta(hours=12),
                                       "received": seconds(0)})])  # fmt: skip
    live.wait(seconds(30))
    live.define(seconds(5), carts="did cart_added in 13 hours")
    told = [(row[2], row[3]) for row in live.changes()]
    live.profiles.close()
    assert told == [
        ("entered", seconds(0)), ("left", seconds(10)), ("entered", seconds(10))
    ]  # fmt: skip
