import json
import struct

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from habitue.audiences.lookalike import Space, nearest, space, table
from habitue.audiences.members import AsOf, find
from habitue.audiences.saved import Saved
from habitue.cli.app import habitue
from habitue.errors import BadAudience, BadSetting, NotEnoughHistory
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from habitue.marker import FORMAT, lake_place, write_format
from tests.lake.people import WEB, consent, link, told
from tests.lake.small import day, event, filled

PLACES = {"c1": (1, 0), "c2": (2, 1), "c3": (1, 1), "c4": (0, 1), "c5": (-1, 0)}


def keep(lake, places, version="v1", *, anchor=None, received=None):
    """Keep what a version knows of customers."""
    names = [one for one in TABLES["customer_embeddings"].schema if one.name != "bucket"]
    rows = [
        {
            "shop": "acme", "customer": who, "version": version, "anchor": anchor or day(1),
            "width": len(vector), "received": received or day(1),
            "embedding": struct.pack(f"<{len(vector)}e", *vector),
        }
        for who, vector in places.items()
    ]  # fmt: skip
    lake.append({"customer_embeddings": pa.Table.from_pylist(rows, schema=pa.schema(names))})


@pytest.fixture
def lake(tmp_path):
    write_format(tmp_path, FORMAT)
    lake = filled(Lake(lake_place(tmp_path)), *(
        event(f"e{who}", 1, customer=who, value=None) for who in ("c2", "c3", "c4", "c5", "c6")
    ), event("a", 1))  # fmt: skip
    keep(lake, PLACES)
    return lake


def shelf(lake):
    return Saved(lake, "acme", clock=lambda: day(2))


def test_the_nearest_come_first_and_nobody_of_the_seed(lake):
    found = shelf(lake).lookalike("did order_placed", cutoff=day(2), size=3)
    assert found["customer"].to_pylist() == ["c2", "c3", "c4"]
    assert found["similarity"].to_pylist() == pytest.approx([2 / 5**0.5, 1 / 2**0.5, 0])
    assert set(found["version"].to_pylist()) == {"v1"}


def test_who_is_excluded_or_has_not_subscribed_is_left_out(lake):
    told(lake, consent("c3", 1, "subscribed"), consent("c4", 1, "subscribed"),
         consent("c2", 1, "unsubscribed"))  # fmt: skip
    like = shelf(lake).lookalike
    emailed = like("did order_placed", cutoff=day(2), channel="email")
    assert emailed["customer"].to_pylist() == ["c3", "c4"]
    without = 'consent.email = "unsubscribed"'
    assert like("did order_placed", cutoff=day(2), without=without, size=1)[
        "customer"
    ].to_pylist() == ["c3"]
    often = "did order_placed >= 5 times"
    both = like("did order_placed", cutoff=day(2), channel="email", without=often)
    assert both["customer"].to_pylist() == ["c3", "c4"]




def test_a_condition_names_who_is_similar(lake):
    shelf(lake).save("vip", "did order_placed")

    def who(said):
        named = shelf(lake).sentences()
        return find(lake, "acme", said, AsOf(day(2)), named).members["customer"].to_pylist()

    assert who('similar to audience "vip" top 2') == ["c2", "c3"]
    assert who('similar to audience "vip" top 50 percent') == ["c2", "c3"]
    assert who('similar to audience "vip" top 26 percent') == ["c2", "c3"]
    assert who('not similar to audience "vip" top 3') == ["c1", "c5", "c6"]
    assert who('did order_placed or similar to audience "vip" top 1') == ["c1", "c2"]


def test_only_what_was_kept_by_the_cutoff_counts(lake):
    keep(lake, {"c1": (1, 0), "c5": (1, 0.5)}, "v2", anchor=day(3), received=day(4))
    like = shelf(lake).lookalike
    assert like("did order_placed", cutoff=day(2), size=1)["customer"].to_pylist() == ["c2"]
    assert like("did order_placed", cutoff=day(3), size=9)["customer"].to_pylist() == ["c5"]
    before = like("did order_placed", cutoff=day(3), known_at=day(3.5), size=1)
    assert before["customer"].to_pylist() == ["c2"]
    with pytest.raises(BadAudience, match="by this cutoff nothing was kept"):
        like("did order_placed >= 0 times", cutoff=day(0))
    with pytest.raises(BadAudience, match="nobody of the seed has an embedding"):
        like("did order_placed >= 9 times", cutoff=day(2))
    with pytest.raises(BadSetting, match="0 customers are none"):
        like("did order_placed", cutoff=day(2), size=0)


def test_two_keys_that_became_one_customer_have_one_place(lake):
    keep(lake, {WEB: (1, 0.1)}, anchor=day(0.5))
    told(lake, link("c1", WEB, 2))
    found = space(lake, "acme", cutoff=day(3))
    assert found.customers.to_pylist() == ["c1", "c2", "c3", "c4", "c5"]
    assert found.vectors[0].tolist() == [1, 0]


def test_the_fast_search_finds_whom_the_slow_one_finds():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = Space("v", pa.array([f"c{one:03}" for one in range(300)]), vectors)
    is_seed = np.arange(300) % 7 == 0
    order, near = nearest(found, is_seed, ~is_seed, 20)
    slow = {
        row: np.mean([vectors[row].astype(float) @ vectors[one].astype(float)
                      for one in np.flatnonzero(is_seed)])
        for row in np.flatnonzero(~is_seed)
    }  # fmt: skip
    assert order.tolist() == sorted(slow, key=lambda row: -slow[row])[:20]
    assert near == pytest.approx([slow[row] for row in order])
    seed = [f"c{row:03}" for row in np.flatnonzero(is_seed)]
    assert table(found, seed, 20)["customer"].to_pylist() == [f"c{row:03}" for row in order]


def test_what_they_did_next_is_told_beside_the_seed_its_neighbours_and_the_others(lake):
    past = [event(f"p{place}", 1 + place / 9, customer=who, backfilled=True)
            for place, who in enumerate(("c1", "c1", "c4", "c5"))]  # fmt: skip
    after = [
        event(f"f{place}", at, customer=who)
        for place, (who, at) in enumerate(
            [("c1", 3), ("c2", 3), ("c2", 4), ("c6", 4), ("c3", 9)]
        )
    ]
    looked = event("v", 0.2, name="item_viewed", customer="c6", value=None, order=None, lines=())
    filled(lake, looked, *past, *after)
    found = shelf(lake).likeness("did order_placed >= 2 times", cutoff=day(2), days=3, size=2)
    assert (found.version, found.until, found.currency) == ("v1", day(5), "GBP")
    told = {
        one.name: (one.customers, one.ordered.value, one.orders.value, one.revenue.value)
        for one in found.groups
    }
    assert told == {
        "seed": (1, 1.0, 1.0, 2.5),
        "lookalikes": (2, 0.5, 1.0, 2.5),              # c2 twice, and c3 too late
        "rfm_neighbours": (2, 0.0, 0.0, 0.0),          # c4 and c5, who had ordered before
        "others": (4, 0.25, 0.5, 1.25),                # of c6 no model knows
    }
    assert all(one.ordered.low is None for one in found.groups)      # too few
    with pytest.raises(BadSetting, match="0 customers are none"):
        shelf(lake).likeness("did order_placed", cutoff=day(2), size=0)
    with pytest.raises(NotEnoughHistory, match="the last cutoff that works"):
        shelf(lake).likeness("did order_placed", cutoff=day(8), days=3)
    with pytest.raises(BadAudience, match="habitue embed"):
        shelf(lake).likeness("did order_placed", cutoff=day(0.5), days=3)


def test_the_command_tells_what_they_did_next(lake, tmp_path):
    filled(lake, event("f", 3, customer="c2"), event("g", 6, customer="c2"))

    def run(*more):
        told = ["audience", "lookalike", "did order_placed", "--workspace", str(tmp_path), "--then"]
        return CliRunner().invoke(habitue, [*told, *more])

    shown = run("3d", "--cutoff", "2025-03-05")
    assert "did order_placed · as of 2025-03-05 00:00 UTC, and 3 days after" in shown.stdout
    assert [line for line in shown.stdout.splitlines() if "nearest by embedding" in line]
    assert "alike by v1" in shown.stderr
    told = json.loads(run("3", "--json", "--cutoff", "2025-03-05").stdout)
    assert [one["name"] for one in told["groups"]] == [
        "seed", "lookalikes", "rfm_neighbours", "others"
    ]  # fmt: skip
    file = tmp_path / "then.csv"
    assert run("3d", "--out", str(file)).exit_code == 0
    assert file.read_text().splitlines()[0].startswith('"group","customers","ordered",')
    for wrong in (["--channel", "email"], ["--not", "did a"]):
        assert run("3d", *wrong).exit_code == 2


def test_the_command_lists_them(lake, tmp_path):
    told_by = CliRunner().invoke(
        habitue,
        ["audience", "lookalike", "did order_placed", "--size", "2", "--cutoff", "2025-03-05",
         "--json", "--workspace", str(tmp_path)],
    )  # fmt: skip
    assert [one["customer"] for one in json.loads(told_by.stdout)] == ["c2", "c3"]
