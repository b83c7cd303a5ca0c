"""Who is scored when: at once who did something, what waits survives, and shops as a whole."""

import zlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from habitue.ingest.gate import Gate
from habitue.lake import schema
from habitue.lake.live import fresh
from habitue.lake.live.bell import Bell
from habitue.lake.live.scored import Scored, ScoredCustomer, ScoredItem
from habitue.lake.profiles import Profiles
from habitue.publishing import Source
from habitue.recommendations.shelf.listed import Listed
from habitue.scoring import running
from habitue.scoring.scorer import Scorer
from habitue.scoring.told import SCORING_FILE, Similar, WholeShop, read_told
from habitue.sequences.build import DAY
from tests.scoring.small import CUTOFF, NOW, SHOP, between, receive, source_of

NOON = CUTOFF // DAY * DAY + DAY // 2


class Clock:
    """An instant (µs) that tests move."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return source_of(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def scorer(source: Source, clock: Clock, tmp_path: Path) -> Scorer:
    opened = scorer_of(source, clock, tmp_path)
    yield opened
    opened.close()


def scorer_of(source: Source, clock: Clock, folder: Path) -> Scorer:
    return Scorer(folder, lambda: [SHOP.shop], lambda _: source, shards=1, clock=clock)


def waiting(scorer: Scorer) -> list[fresh.Waiting]:
    with scorer.profiles.writing() as connection:
        return fresh.waiting(connection, SHOP.shop, 1_000)


def steps(scorer: Scorer) -> None:
    while scorer.step():
        pass


def curves(scorer: Scorer) -> dict[str, bytes]:
    names = list(everyone())
    return {one.customer: one.curve for one in scorer.scored.customers(SHOP.shop, names)[1]}


def everyone() -> set[str]:
    return set(between(0, CUTOFF + 40 * DAY)["customer"].to_pylist()) - {None}


def test_a_shop_is_scored_as_a_whole_and_then_who_does_something(
    scorer: Scorer, source: Source, clock: Clock
) -> None:
    scorer.catch_up(source.lake)
    assert len(waiting(scorer)) > 20
    steps(scorer)
    assert waiting(scorer) == []
    before = curves(scorer)
    assert len(before) > 20

    later = between(CUTOFF, CUTOFF + 5 * DAY)
    did = set(pc.unique(later["customer"]).to_pylist()) - {None}
    receive(source, later)
    clock.now = CUTOFF + 5 * DAY
    scorer.catch_up(source.lake)
    assert {one.name for one in waiting(scorer)} == did
    # a day has passed, so the shop is due again, but not before it rested: these are followed
    steps(scorer)
    assert waiting(scorer) == []
    after = curves(scorer)
    assert did
    assert {name for name in after if before.get(name) != after[name]} <= did
    assert {name for name in did & before.keys() if before[name] == after[name]} == set()


def test_what_waits_outlives_the_scorer(
    scorer: Scorer, source: Source, clock: Clock, tmp_path: Path
) -> None:
    scorer.catch_up(source.lake)
    steps(scorer)
    receive(source, between(CUTOFF, CUTOFF + 5 * DAY))
    clock.now = CUTOFF + 5 * DAY
    scorer.catch_up(source.lake)
    left, held = waiting(scorer), curves(scorer)
    scorer.close()

    again = scorer_of(source, clock, tmp_path)
    assert waiting(again) == left
    assert curves(again) == held           # answers are there before anything is scored
    steps(again)
    assert waiting(again) == []
    assert curves(again) != held
    again.close()


def test_a_shop_goes_on_from_where_the_scorer_before_left_it(
    scorer: Scorer, source: Source, clock: Clock, tmp_path: Path
) -> None:
    scorer.catch_up(source.lake)
    steps(scorer)
    number, told = scorer.scored.whole(SHOP.shop)
    held = curves(scorer)
    scorer.close()

    clock.now += DAY // 10
    again = scorer_of(source, clock, tmp_path)
    steps(again)
    assert again.scored.whole(SHOP.shop) == (number, told)
    assert curves(again) == held
    # whoever does something now is scored as the first would have done it
    order = between(CUTOFF, CUTOFF + 40 * DAY)
    order = order.filter(pc.equal(order["name"], "order_placed")).slice(0, 1)
    (one,) = order["customer"].to_pylist()
    clock.now = NOON + DAY // 5
    when = pa.array([clock.now - 1], order["time"].type)
    receive(source, order.set_column(order.column_names.index("time"), "time", when))
    again.catch_up(source.lake)
    steps(again)
    after = curves(again)
    assert {name for name in after if after[name] != held.get(name)} == {one}
    assert again.scored.whole(SHOP.shop)[0] == number
    again.close()

    clock.now += DAY
    tomorrow = scorer_of(source, clock, tmp_path)
    steps(tomorrow)
    assert tomorrow.scored.whole(SHOP.shop)[0] == number + 1
    tomorrow.close()


def test_customers_are_counted_only_when_many_could_be_new(
    scorer: Scorer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer.catch_up(source.lake)
    steps(scorer)
    number, _ = scorer.scored.whole(SHOP.shop)
    counts, count = [], scorer.scored.count
    monkeypatch.setattr(scorer.scored, "count", lambda shop: counts.append(shop) or count(shop))
    for name in ("DUE_SECONDS", "REST"):
        monkeypatch.setattr(f"habitue.scoring.scorer.{name}", 0.0)
    for _ in range(5):
        scorer.step()
    assert counts == [SHOP.shop]

    told = between(0, CUTOFF)
    rows = told.filter(pc.equal(told["name"], "order_placed")).to_pylist()
    for row in rows:
        row |= {"digest": row["digest"][::-1]}
        row |= {name: f"another {row[name]}" for name in ("id", "order", "customer")}
    receive(source, pa.Table.from_pylist(rows, schema=told.schema))
    scorer.catch_up(source.lake)
    steps(scorer)                          # they are scored, then counted, and the shop as a whole
    assert scorer.scored.whole(SHOP.shop)[0] == number + 1
    assert len(counts) == 2


def test_what_is_told_while_somebody_is_scored_still_waits(scorer: Scorer, source: Source) -> None:
    scorer.catch_up(source.lake)
    (first, *_) = waiting(scorer)
    with scorer.profiles.writing() as connection:
        fresh.settle(connection, [first._replace(number=first.number - 1)])
        assert first in fresh.waiting(connection, SHOP.shop, 1_000)
        fresh.settle(connection, [first])
        assert first not in fresh.waiting(connection, SHOP.shop, 1_000)


def test_who_ordered_goes_before_who_looked(scorer: Scorer, source: Source) -> None:
    scorer.catch_up(source.lake)
    with scorer.profiles.writing() as connection:
        ordered = [one for (one,) in connection.execute(
            "SELECT fresh.ordered FROM fresh ORDER BY fresh.ordered DESC, fresh.number"
        )]  # fmt: skip
        keys = [one.key for one in fresh.waiting(connection, SHOP.shop, 1_000)]
        told = dict(connection.execute("SELECT key, ordered FROM fresh").fetchall())
    assert [told[key] for key in keys] == ordered


def test_nothing_is_told_of_who_has_no_order_left(scorer: Scorer, source: Source) -> None:
    scorer.catch_up(source.lake)
    steps(scorer)
    told = between(0, CUTOFF)
    orders = told.filter(pc.equal(told["name"], "order_placed"))
    counts: dict[str, int] = {}
    for name in orders["customer"].to_pylist():
        counts[name] = counts.get(name, 0) + 1
    once = min(name for name, count in counts.items() if count == 1 and name)
    assert once in curves(scorer)
    (row,) = orders.filter(pc.equal(orders["customer"], once)).to_pylist()
    row |= {"name": "order_cancelled", "id": "gone", "digest": b"\xfe" * 16, "lines": None}
    receive(source, pa.Table.from_pylist([row], schema=told.schema))
    scorer.catch_up(source.lake)
    steps(scorer)
    assert once not in curves(scorer)


def test_what_is_kept_of_a_shop_can_be_read(scorer: Scorer, source: Source) -> None:
    scorer.catch_up(source.lake)
    steps(scorer)
    _, told = scorer.scored.whole(SHOP.shop)
    shop = msgspec.json.decode(told, type=WholeShop)
    assert shop.whole.status in ("transfer", "full")
    assert shop.popular[0].reason == "popular"
    assert shop.popular == sorted(shop.popular, key=lambda one: -one.score)
    (item,) = scorer.scored.items(SHOP.shop, [shop.popular[0].item])
    similar = msgspec.json.decode(item.similar, type=Similar)
    assert shop.popular[0].item not in {one for one, _ in similar}
    assert [how for _, how in similar] == sorted((how for _, how in similar), reverse=True)
    (one, *_) = scorer.scored.customers(SHOP.shop, list(everyone()))[1]
    listed = msgspec.json.decode(zlib.decompress(one.listed), type=list[Listed])
    assert len({each.item for each in listed}) == len(listed) > 10


def test_a_shop_without_orders_waits_and_says_why(
    tmp_path: Path, source: Source, clock: Clock
) -> None:
    looks = between(0, CUTOFF).slice(0, 3)
    for name, value in (("name", "item_viewed"), ("shop", "nobody"), ("source", "test")):
        looks = looks.set_column(looks.column_names.index(name), name, pa.array([value] * 3))
    looks = looks.cast(schema.EVENTS)
    Gate(source.lake).append(looks, shop="nobody", source="test", received=NOW)
    scorer = Scorer(
        tmp_path, lambda: ["nobody", "unheard of"], lambda name: replace(source, shop=name),
        shards=1, clock=clock,
    )  # fmt: skip
    steps(scorer)
    scorer.close()
    told = read_told(tmp_path / SCORING_FILE)
    assert told.shops == {}
    assert told.not_yet["nobody"] == "no order worth anything yet"
    assert told.not_yet["unheard of"] == "nothing was told of it yet"      # of others, nothing


def test_why_a_shop_is_not_scored_says_not_where_things_lie(
    tmp_path: Path, source: Source, clock: Clock
) -> None:
    def broken(name: str) -> Source:
        raise FileNotFoundError(2, "No such file or directory", "/secret/place")

    scorer = Scorer(tmp_path, lambda: ["acme"], broken, shards=1, clock=clock)
    steps(scorer)
    scorer.close()
    told = read_told(tmp_path / SCORING_FILE)
    assert told.not_yet == {"acme": "what is kept of it cannot be read: No such file or directory"}


def test_a_shop_that_cannot_be_scored_holds_up_no_other(
    tmp_path: Path, source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(name: str) -> Source:
        if name == "acme":
            return source
        raise ValueError("something of a customer's")

    scorer = Scorer(tmp_path, lambda: ["a first", "acme"], opened, shards=1, clock=clock)
    steps(scorer)
    scorer.close()
    told = read_told(tmp_path / SCORING_FILE)
    assert set(told.shops) == {"acme"}
    assert told.not_yet == {"a first": "it cannot be worked out; the log of the scorer says more"}
    assert "ValueError in opened" in caplog.text
    assert "customer's" not in caplog.text


def test_rows_of_the_next_number_count_when_all_are_there(tmp_path: Path) -> None:
    scored = Scored(tmp_path / "scores.sqlite")
    row = ScoredCustomer("c1", 1, 2, b"old", b"[]")
    scored.put("acme", 1, [row])
    mug = ScoredItem("mug", "Mug", "kitchen", 3.0, True, "", b"[]")
    scored.put_items("acme", 1, [mug])
    assert scored.customers("acme", ["c1"]) == (b"", [])
    scored.begin("acme", 1, b"first")
    assert scored.customers("acme", ["c1"]) == (b"first", [row])
    scored.put("acme", 2, [row._replace(curve=b"new")])
    assert scored.customers("acme", ["c1"]) == (b"first", [row])
    assert scored.items("acme", ["mug"]) == [mug]
    assert scored.best("acme", 5, category="kitchen") == [mug._replace(similar=b"")]
    scored.begin("acme", 2, b"second")
    assert scored.customers("acme", ["c1"]) == (b"second", [row._replace(curve=b"new")])
    assert scored.items("acme", ["mug"]) == [] == scored.best("acme", 5)
    assert scored.customers("other", ["c1"]) == (b"", [])
    scored.erase("acme", ["c1"])
    assert scored.customers("acme", ["c1"]) == (b"", [])
    scored.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("scores.sqlite*"))
    assert b"c1" not in kept


def test_by_itself_it_scores_all_and_ends(scorer: Scorer, source: Source) -> None:
    said: list[str] = []
    running.catch_up(scorer, source.lake, said=said.append)
    assert len(said) == 1
    assert said[0].startswith("acme: ")
    assert waiting(scorer) == []


def test_what_fails_is_tried_again_until_told_to_end(scorer: Scorer, source: Source) -> None:
    heard_of: list[tuple[float, Bell | None]] = []
    failing = iter([RuntimeError("the disk is full"), None, None])

    def step() -> bool:
        error = next(failing)
        if error:
            raise error
        return False

    def heard(pause: float, bell: Bell | None) -> bytes | None:
        heard_of.append((pause, bell))
        return b"" if len(heard_of) == 4 else None

    scorer.step = step
    running.run(scorer, heard)
    assert heard_of[:2] == [(0.0, None), (running.PAUSE_SECONDS, None)]
    assert heard_of[2:] == 2 * [(running.REST_SECONDS, scorer.bell)]


def test_it_waits_for_the_bell_while_nobody_waits_for_it(scorer: Scorer, source: Source) -> None:
    bells: list[Bell | None] = []
    done = iter([1, 1, 0, 0])

    def step() -> bool:
        scorer._scored += next(done)
        return False

    def heard(_: float, bell: Bell | None) -> bytes | None:
        bells.append(bell)
        return b"" if len(bells) == 5 else None

    scorer.step = step
    running.run(scorer, heard)
    assert bells == [None, None, None, scorer.bell, scorer.bell]


def test_profiles_of_an_older_format_are_filled_again(tmp_path: Path, source: Source) -> None:
    profiles = Profiles(tmp_path / "profiles.sqlite")
    profiles.catch_up(source.lake)
    with profiles.writing() as connection:
        assert fresh.behind(connection)[SHOP.shop][0] > 20
        connection.execute("PRAGMA user_version = 2")
    profiles.close()
    again = Profiles(tmp_path / "profiles.sqlite")
    with again.writing() as connection:
        assert fresh.behind(connection) == {}
    again.close()
