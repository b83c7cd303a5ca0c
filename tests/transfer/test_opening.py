"""A shop without a version of its own is answered by what ships, unless that saw its future."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from habitue import publishing
from habitue.config import TrainConfig
from habitue.errors import NoSuchCustomer, NoSuchModel, SawTheFuture
from habitue.ingest.gate import Gate
from habitue.lake.tables import Lake
from habitue.publishing import Ask, AsOf, Source
from habitue.registry import Registry
from habitue.sequences.build import instant
from habitue.simulation import DAY, catalogue
from habitue.transfer.adapt import AS_IT_IS
from habitue.transfer.opening import from_the_shelf, open_as_of, origin_in
from tests.shops import end_of, events_of, orders_of
from tests.transfer.shelves import SEEN_SHOP, shelf_of_two

NOW = datetime(2026, 1, 5, tzinfo=UTC)
END = instant(end_of(SEEN_SHOP))
EARLY = instant(end_of(SEEN_SHOP) - 60 * DAY)
MONDAY = datetime(2025, 1, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf_of_two(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def source(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The shop that `first` saw to its end, under another name, with no version."""
    folder = tmp_path_factory.mktemp("renamed")
    source = Source(Lake(folder / "lake"), Registry(folder), "renamed", shelf)
    renamed = replace(SEEN_SHOP, shop="renamed")
    source.lake.append({"items": catalogue(renamed, 3)})
    receive(source, events_of(renamed, 3))
    return source


def receive(source: Source, events: object) -> None:
    (door,) = events["source"].unique().to_pylist()
    Gate(source.lake).append(events, shop=source.shop, source=door, received=NOW)


def test_before_a_training_every_question_is_answered_by_a_starter(source: Source) -> None:
    table = publishing.predict(source, AsOf(EARLY), horizons=(30.0, 90.0))
    assert table.num_rows
    assert table["status"].unique().to_pylist() == ["transfer"]
    assert "a training on this shop" in table["missing"][0].as_py()
    assert table["version"][0].as_py().startswith("second-")
    value = table["value"].to_numpy()[table["question"].to_numpy(zero_copy_only=False) == "orders"]
    assert np.all(np.isfinite(value))
    lists = publishing.recommend(source, AsOf(EARLY), k=3)
    assert lists.num_rows >= 3 * len(set(table["customer"].to_pylist()))
    assert np.all(publishing.items(source, AsOf(EARLY))["expected_orders_28d"].to_numpy() > 0)
    who = table["customer"][0].as_py()
    ask = Ask(question="churn", horizon_days=90.0, budget_seconds=0.1)
    assert publishing.why(source, AsOf(EARLY), who, ask).factors


def test_a_starter_can_be_named_and_refuses_the_shop_that_it_saw(source: Source) -> None:
    assert open_as_of(source, AsOf(EARLY, "second")).version.startswith("second-")
    with pytest.raises(SawTheFuture, match="'first' have seen the shop 'renamed', as 'seen'"):
        open_as_of(source, AsOf(EARLY, "first"))
    with pytest.raises(NoSuchModel, match="no model 'third'"):
        open_as_of(source, AsOf(EARLY, "third"))


def test_where_all_that_ships_saw_the_future_it_is_told(source: Source, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(source.shelf / "first")
    alone = Source(source.lake, source.registry, source.shop, tmp_path)
    with pytest.raises(SawTheFuture):
        publishing.predict(alone, AsOf(EARLY), horizons=(30.0,))
    # at its end there is no future left to have seen
    assert publishing.predict(alone, AsOf(END), horizons=(30.0,)).num_rows


def test_a_version_of_its_own_answers_instead_and_says_where_it_comes_from(
    source: Source, tmp_path: Path
) -> None:
    own = Source(source.lake, Registry(tmp_path), source.shop, source.shelf)
    assert from_the_shelf(own, None)
    config = TrainConfig(width=32, layers=1, epochs=1)
    version = publishing.train(own, config=config, cutoff=EARLY, now=NOW)
    assert not from_the_shelf(own, None)
    held = open_as_of(own, AsOf(EARLY))
    assert held.version == version
    folder = own.registry.version(own.shop).folder
    origin = origin_in(folder)
    assert origin.costs[origin.way] <= origin.costs[AS_IT_IS]
    assert f"- way: {origin.way}" in (folder / "card.md").read_text()
    saw = {one.shop for one in own.registry.version(own.shop).saw}
    assert saw == {"renamed"} | ({"elsewhere (second)"} if origin.starter else set())
    assert held.learnt.least_drift == origin.least_drift


@pytest.mark.parametrize(
    ("rows", "days", "status"),
    [
        ([("c0", 0.0, ["mug"])], 0.5, "insufficient"),
        ([(f"c{n}", float(n), ["mug"]) for n in range(5)], 9, "insufficient"),
        ([(f"c{n % 30}", float(n), ["mug"] * (n % 2)) for n in range(60)], 80, "transfer"),
        ([(f"c{n % 30}", float(n), []) for n in range(60)], 80, "transfer"),
        ([(f"c{n}", n / 10, ["mug"]) for n in range(50)], 400, "transfer"),
    ],
    ids=["one order", "five orders", "thirty customers", "no items", "silent for a year"],
)
def test_a_new_shop_gets_sensible_answers(
    rows: list, days: float, status: str, shelf: Path, tmp_path: Path
) -> None:
    source = Source(Lake(tmp_path / "lake"), Registry(tmp_path), "corner", shelf)
    receive(source, orders_of(rows, start=MONDAY))
    as_of = AsOf(MONDAY + timedelta(days=days))
    table = publishing.predict(source, as_of, horizons=(30.0, 90.0))
    assert len(set(table["customer"].to_pylist())) == len({row[0] for row in rows})
    assert table["status"].unique().to_pylist() == [status]
    assert all(table["missing"].to_pylist())
    for row in table.to_pylist():
        if row["question"] == "next_order":
            continue
        assert np.isfinite([row["value"], row["low"], row["high"]]).all()
        assert 0 <= row["low"] <= row["high"]
        if row["question"] in ("order", "churn"):
            assert row["low"] <= row["value"] <= row["high"] <= 1
    assert publishing.items(source, as_of).num_rows == len({i for row in rows for i in row[2]})
    publishing.recommend(source, as_of)


def test_a_shop_of_one_view_forecasts_nobody_and_lists_what_it_has(
    shelf: Path, tmp_path: Path
) -> None:
    source = Source(Lake(tmp_path / "lake"), Registry(tmp_path), "corner", shelf)
    viewed = orders_of([("c0", 0.0, ["mug"])], start=MONDAY)
    for name, value in (("name", "item_viewed"), ("order", None), ("value_minor", None)):
        place, field = viewed.column_names.index(name), viewed.schema.field(name)
        viewed = viewed.set_column(place, field, pa.array([value], field.type))
    receive(source, viewed)
    as_of = AsOf(MONDAY + timedelta(days=2))
    assert publishing.predict(source, as_of, horizons=(30.0,)).num_rows == 0
    assert publishing.recommend(source, as_of)["item"].to_pylist() == ["mug"]
    (item,) = publishing.items(source, as_of).to_pylist()
    assert (item["item"], item["orders_90d"], item["expected_orders_28d"]) == ("mug", 0, 0.0)
    ask = Ask(question="churn", horizon_days=90.0, budget_seconds=0.1)
    with pytest.raises(NoSuchCustomer, match="no order of theirs"):
        publishing.why(source, as_of, "c0", ask)
