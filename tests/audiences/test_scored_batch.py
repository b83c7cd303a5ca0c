"""In batch a condition is compared with the scores that live audiences rest on, at any instant."""

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from habitue.audiences.live import tables
from habitue.audiences.live.scored.recorded import Recorded
from habitue.audiences.members import AsOf, find_all
from habitue.audiences.saved import Saved
from habitue.errors import BadAudience
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from habitue.predictions.scores import drift
from tests.audiences.conditions import TICK
from tests.audiences.histories import History, Predicted, stored
from tests.audiences.test_live_scores import CUSTOMERS, SAID, begun, scored_whole
from tests.lake.people import WEB, link, rows_of
from tests.lake.small import day, event


def in_batch(live, lake, at, sentences=tuple(SAID), *, known_at="then"):
    """Who is in each, asked of the lake and of the scores that are kept."""
    recorded = Recorded(live.path, drift.opened)
    as_of = AsOf(at, at if known_at == "then" else known_at)
    found = find_all(lake, "acme", list(sentences), as_of, None, recorded)
    return [one.members["customer"].to_pylist() for one in found]


def lake_of(live, folder, *predictions):
    """The lake of what a shop was told."""
    lake = stored(Lake(folder), History((), (), (), (), predictions))
    lake.append(rows_of(live.nouns))
    return lake


@given(seed=st.integers(1, 10**6))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_batch_is_live_now_and_at_the_instants_before_whose_curves_are_kept(
    tmp_path_factory, seed
):
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("scored")
    live = begun(folder / "profiles.sqlite", draw)
    lake, names = lake_of(live, folder), {f"a{place}": one for place, one in enumerate(SAID)}
    live.define(**names)
    number, begins = 1, live.now
    for _ in range(8):
        match draw.randrange(5):
            case 0 | 1:
                live.score(draw.choice(CUSTOMERS), number, draw=draw)
            case 2:
                live.score(draw.choice(CUSTOMERS), dropped=True)
            case 3 if number < 3:
                number += 1
                scored_whole(live, number, draw)
        live.wait(instant(live.now) + timedelta(days=draw.choice([0, 0.01, 1, 9, 40])))
        assert in_batch(live, lake, instant(live.now)) == [live.members(one) for one in names]
    with live.profiles.writing() as connection:
        (since,) = connection.execute("SELECT time FROM curves_since").fetchone()
    turns = [microseconds(at) for *_, at, _, _ in live.changes()]
    for at in (one for one in turns if one > max(since, begins)):
        for one in (instant(at), instant(at) - TICK):
            assert in_batch(live, lake, one) == [live.folded(name, one) for name in names]
    live.profiles.close()


def test_a_curve_that_no_longer_counts_is_kept_for_two_days(tmp_path):
    draw = random.Random(5)
    live = begun(tmp_path / "profiles.sqlite", draw)
    live.define(**{"a": "churn_90d >= 0"})
    lake, then = lake_of(live, tmp_path), instant(live.now)
    live.wait(then + timedelta(days=1.9))
    live.score("c1", dropped=True)
    assert in_batch(live, lake, then, ["churn_90d >= 0"]) == [list(CUSTOMERS)]
    live.wait(then + timedelta(days=9))
    live.score("c1", draw=draw)            # what c1 had at first is not kept from now on
    with pytest.raises(BadAudience, match="by this cutoff nothing was predicted"):
        in_batch(live, lake, then, ["churn_90d >= 0"])
    assert in_batch(live, lake, instant(live.now), ["churn_90d >= 0"]) == [list(CUSTOMERS)]


def test_before_scores_answered_and_where_they_do_not_what_was_published_is_read(tmp_path):
    draw, churn = random.Random(5), ("churn", 90.0, 0.9, "v0", day(0), day(0))
    live = begun(tmp_path / "profiles.sqlite", draw)
    sets = [Predicted("c2", *churn), Predicted("c2", "revenue", 45.0, 7.0, *churn[3:])]
    lake, begins = lake_of(live, tmp_path, *sets), instant(live.now)
    said = ["churn_90d > 0 and not churn_90d > 1", "expected_spend_45d > 5"]
    live.wait(day(1))
    assert in_batch(live, lake, instant(live.now), said) == [list(CUSTOMERS), ["c2"]]
    assert in_batch(live, lake, begins - timedelta(days=0.05), said) == [["c2"], ["c2"]]
    # of an instant that is asked of later, what came to be known since counts as well
    live.score("c1", dropped=True)
    later = day(1) + timedelta(hours=1)
    assert in_batch(live, lake, later, said)[0] == ["c0", "c2", "c3"]
    before = day(1) - TICK
    assert in_batch(live, lake, before, said, known_at=None)[0] == list(CUSTOMERS)
    assert in_batch(live, lake, later, said, known_at=before)[0] == list(CUSTOMERS)


def test_in_batch_too_a_customer_has_the_score_of_the_key_that_names_them(tmp_path):
    live = begun(tmp_path / "profiles.sqlite", random.Random(3))
    live.tell([event("anonymous", 2, name="cart_added", customer=WEB)])
    live.score(WEB, draw=random.Random(5))
    live.define(scored="churn_90d >= 0")
    lake = lake_of(live, tmp_path)
    assert in_batch(live, lake, instant(live.now), ["churn_90d >= 0"]) == [[WEB, *CUSTOMERS]]
    live.tell([link("c9", WEB, 3)])
    live.wait(day(3.5))
    lake.append(rows_of(live.nouns[-1:]))
    assert in_batch(live, lake, instant(live.now), ["churn_90d >= 0"]) == [list(CUSTOMERS)]
    live.score("c9", draw=random.Random(6))
    found = in_batch(live, lake, instant(live.now), ["churn_90d >= 0", "next_order_date is set"])
    assert found[0] == [*CUSTOMERS, "c9"] == live.members("scored")


def test_of_an_erased_customer_no_score_is_found(tmp_path):
    live = begun(tmp_path / "profiles.sqlite", random.Random(3))
    lake = lake_of(live, tmp_path)
    live.score("c1", draw=random.Random(4))
    live.wait(day(1))
    live.score("c1", draw=random.Random(5))
    with live.profiles.writing() as connection:
        tables.forget(connection, "acme", ["c1"])
        left = [
            connection.execute(f"SELECT count(*) FROM {one} WHERE customer = 'c1'").fetchone()
            for one in ("curves", "past_curves")
        ]
    assert left == [(0,), (0,)]
    assert in_batch(live, lake, instant(live.now), ["churn_90d >= 0"]) == [["c0", "c2", "c3"]]


def test_a_shops_audiences_and_what_came_after_them_go_by_the_scores_of_its_live_state(tmp_path):
    live = begun(tmp_path / "profiles.sqlite", random.Random(3))
    lake, cutoff = lake_of(live, tmp_path), instant(live.now)
    lake.append(rows_of([event("later", 3, customer="c1")]))
    shelf = Saved(lake, "acme", lambda: day(9), live=live.path, opens=drift.opened)
    found = shelf.find("churn_90d >= 0", AsOf(cutoff))
    assert found.members["customer"].to_pylist() == list(CUSTOMERS)
    after = shelf.then("churn_90d >= 0", cutoff=cutoff, days=2)
    assert (after.inside.customers, after.inside.orderers) == (4, 0)
    assert after.versions == {"churn 90 days": f"v1 as of {cutoff.isoformat()}"}
    bare = Saved(lake, "acme", lambda: day(9))
    with pytest.raises(BadAudience, match="--cutoff now"):
        bare.find("churn_90d >= 0", AsOf(cutoff))


def test_a_state_of_an_earlier_release_is_asked_from_its_last_curve_on(tmp_path):
    live = begun(tmp_path / "profiles.sqlite", random.Random(3))
    lake, begins = lake_of(live, tmp_path), instant(live.now)
    live.wait(day(1))
    live.score("c1", draw=random.Random(4))
    with live.profiles.writing() as connection:
        for table in ("past_curves", "curves_since"):
            connection.execute(f"DROP TABLE {table}")
    assert Recorded(live.path, drift.opened).as_of("acme", [("churn", 90)], day(1), None) is None
    live.restart()
    said = ["churn_90d >= 0"]
    assert in_batch(live, lake, day(1.5), said) == [list(CUSTOMERS)]
    with pytest.raises(BadAudience, match="nothing was predicted"):
        in_batch(live, lake, begins, said)
    live.restart()                         # it is noted once
    live.wait(day(2))
    live.score("c1", draw=random.Random(5))
    assert in_batch(live, lake, day(1.5), said) == [list(CUSTOMERS)]
