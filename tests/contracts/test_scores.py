"""What every store of scores promises. A new one adds a line to STORES."""

from itertools import count

import pytest

from habitue.errors import BadSetting, Busy
from habitue.lake.live.kept import scripts
from habitue.lake.live.kept.opening import open_scores
from habitue.lake.live.scored import ScoredCustomer, ScoredItem
from tests.redisserver import redis_server

STORES = ("file", "redis")
_numbers = count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=STORES)
def opener(request, tmp_path, monkeypatch):
    """Opens the same store as another process would."""
    if request.param == "redis":
        server = request.getfixturevalue("redis")
        monkeypatch.setenv("HABITUE_SCORES", server.address(next(_numbers) % 14))
    else:
        monkeypatch.delenv("HABITUE_SCORES", raising=False)
    opened = []

    def open_one():
        opened.append(open_scores(tmp_path / "online"))
        return opened[-1]

    yield open_one
    if request.param == "redis":
        opened[-1]._client.flushdb()
    for one in opened:
        one.close()


@pytest.fixture
def scores(opener):
    return opener()


def customer(name: str, anchor: int = 1, *, curve: bytes = b"c\x00") -> ScoredCustomer:
    return ScoredCustomer(name, anchor, anchor + 1, curve, b"l\xff")


def item(name: str, sold: float, category: str = "mugs") -> ScoredItem:
    return ScoredItem(name, f"The {name}", category, sold, sold > 2, "", b"s")


def told(scores, most: int = 100) -> list[tuple]:
    return [one[1:] for one in scores.news(most)]


def test_nothing_is_known_before_a_shop_was_scored(scores):
    assert scores.whole("acme") is None
    assert scores.customers("acme", ["c"]) == (b"", [])
    assert (scores.items("acme", ["i"]), scores.best("acme", 3)) == ([], [])
    assert (scores.count("acme"), scores.untold(), scores.news(5)) == (0, 0, [])


def test_what_is_put_counts_when_its_number_begins_and_others_read_it(opener, scores):
    scores.put("acme", 1, [customer("a"), customer("é: 1")])
    assert scores.customers("acme", ["a"]) == (b"", [])
    scores.begin("acme", 1, b"whole")
    other = opener()
    assert other.whole("acme") == (1, b"whole")
    found = other.customers("acme", ["é: 1", "nobody", "a"])
    assert (found[0], sorted(found[1])) == (b"whole", [customer("a"), customer("é: 1")])
    assert other.count("acme") == 2


def test_the_next_scoring_replaces_the_former_at_once(scores):
    scores.put("acme", 1, [customer("a", 1), customer("b", 1)])
    scores.put_items("acme", 1, [item("i", 1.0)])
    scores.begin("acme", 1, b"one")
    scores.put("acme", 2, [customer("a", 2)])
    scores.put_items("acme", 2, [item("j", 1.0)])
    assert scores.customers("acme", ["a"])[1] == [customer("a", 1)]
    scores.begin("acme", 2, b"two")
    assert scores.customers("acme", ["a", "b"]) == (b"two", [customer("a", 2)])
    assert scores.items("acme", ["i", "j"]) == [item("j", 1.0)]
    assert scores.count("acme") == 1


def test_shops_and_names_are_never_taken_for_one_another(scores):
    scores.put("a", 1, [customer("b:1:c")])
    scores.put("a:1:b", 1, [customer("c", 7)])
    for shop in ("a", "a:1:b"):
        scores.begin(shop, 1, shop.encode())
    assert scores.customers("a", ["b:1:c", "c"]) == (b"a", [customer("b:1:c")])
    assert scores.customers("a:1:b", ["c"]) == (b"a:1:b", [customer("c", 7)])
    scores.drop("a", ["b:1:c", "c"])
    assert scores.count("a:1:b") == 1


def test_items_are_found_by_name_and_by_what_sold_most(scores):
    items = [item("i", 1.5), item("j", 3.0), item("k", 2.0, "pots"), item("l", 0.0)]
    scores.put_items("acme", 1, items)
    scores.begin("acme", 1, b"w")
    assert sorted(scores.items("acme", ["j", "i", "x"])) == items[:2]
    assert [one.item for one in scores.best("acme", 2)] == ["j", "k"]
    assert [one.item for one in scores.best("acme", 10, after=1)] == ["k", "i", "l"]
    assert [one.item for one in scores.best("acme", 10, category="mugs")] == ["j", "i", "l"]
    assert scores.best("acme", 1)[0] == item("j", 3.0)._replace(similar=b"")
    assert scores.best("acme", 5, category="none") == []


def test_who_is_dropped_has_no_score_and_that_is_news(scores):
    scores.put("acme", 1, [customer("a"), customer("b")])
    scores.begin("acme", 1, b"w")
    scores.settle(scores.news(10))
    scores.drop("acme", ["a"])
    assert scores.customers("acme", ["a"])[1] == []
    assert told(scores) == [("acme", "a", None, None, None)]


def test_a_score_alone_is_told_before_those_of_a_whole_shop_and_each_once(scores):
    scores.put("acme", 1, [customer(name) for name in "abc"])
    assert scores.untold() == 0            # they do not count yet
    scores.begin("acme", 1, b"w")
    scores.put("acme", 1, [customer("c", 5, curve=b"new")])
    assert scores.untold() == 3
    first = scores.news(1)
    assert told(scores, 1) == [("acme", "c", 1, 5, b"new")]
    scores.settle(first)
    assert {row[1] for row in told(scores)} == {"a", "b"}
    scores.settle(scores.news(10))
    assert scores.news(10) == []


def test_what_came_since_it_was_read_is_news_still(scores):
    scores.put("acme", 1, [customer("a")])
    scores.begin("acme", 1, b"w")
    read = scores.news(10)
    scores.put("acme", 1, [customer("a", 9)])
    scores.settle(read)
    assert told(scores) == [("acme", "a", 1, 9, b"c\x00")]


def test_what_was_set_aside_is_told_again_when_it_is_asked_for(scores):
    scores.put("acme", 1, [customer("a"), customer("b")])
    scores.begin("acme", 1, b"w")
    scores.settle([], scores.news(10))
    assert (scores.news(10), scores.untold()) == ([], 0)
    scores.again()
    assert {row[1] for row in told(scores)} == {"a", "b"}


def test_a_next_scoring_is_news_of_everybody_and_keeps_single_ones_first(scores):
    scores.put("acme", 1, [customer("a"), customer("b")])
    scores.begin("acme", 1, b"w")
    scores.settle(scores.news(10))
    scores.put("acme", 1, [customer("b", 3)])
    scores.put("acme", 2, [customer("b", 4), customer("c", 4)])
    scores.begin("acme", 2, b"w")
    rows = told(scores)
    assert rows[0] == ("acme", "b", 2, 4, b"c\x00")
    assert sorted(rows[1:]) == [("acme", "a", None, None, None), ("acme", "c", 2, 4, b"c\x00")]


def test_of_who_is_erased_nothing_is_left(scores):
    scores.put("acme", 1, [customer("a"), customer("b")])
    scores.begin("acme", 1, b"w")
    scores.put("acme", 2, [customer("a")])
    scores.erase("acme", ["a"])
    scores.begin("acme", 2, b"w")
    assert scores.customers("acme", ["a"])[1] == []
    assert [row[1] for row in told(scores)] == ["b"]


def test_many_rows_are_put_and_told_in_portions(scores):
    scores.put("acme", 1, [customer(f"c{n}") for n in range(2_500)])
    scores.begin("acme", 1, b"w")
    assert (scores.count("acme"), scores.untold()) == (2_500, 2_500)
    scores.settle(scores.news(1_000))
    assert scores.untold() == 1_500


def test_what_redis_was_cut_short_in_is_done_by_the_next_scoring(redis, tmp_path, monkeypatch):
    monkeypatch.setenv("HABITUE_SCORES", redis.address(14))
    scores = open_scores(tmp_path / "one")
    scores.put("acme", 1, [customer(name) for name in "abc"])
    scores.begin("acme", 1, b"w")
    scores.settle(scores.news(10))
    scores.put("acme", 2, [customer(name) for name in "cd"])
    scores._run(scripts.BEGIN, "acme", 2, b"w")
    scores._run(scripts.SWEEP, "acme", 2, 1)
    scores.put("acme", 3, [customer("e")])
    scores.begin("acme", 3, b"w")
    assert {row[1]: row[2] for row in told(scores)} == dict.fromkeys("abcd") | {"e": 3}
    names = {key.split(b":")[1] for key in scores._client.keys("habitue:*:4:acme*")}
    assert names == {b"shop", b"customer", b"of", b"numbers"}
    assert scores._client.smembers("habitue:numbers:4:acme") == {b"3"}
    scores.close()


def test_a_database_of_redis_is_one_workspaces_own(redis, tmp_path, monkeypatch):
    monkeypatch.setenv("HABITUE_SCORES", redis.address(15))
    open_scores(tmp_path / "one").close()
    open_scores(tmp_path / "one").close()
    with pytest.raises(BadSetting, match="another workspace's"):
        open_scores(tmp_path / "two")


def test_redis_out_of_reach_is_told_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("HABITUE_SCORES", "redis://:secret@127.0.0.1:1/0")
    with pytest.raises(Busy, match="cannot be reached") as refused:
        open_scores(tmp_path / "online")
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("HABITUE_SCORES", "memcached://x")
    with pytest.raises(BadSetting):
        open_scores(tmp_path / "online")
