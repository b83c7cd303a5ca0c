"""The weights that ship: they load, they are small, and the demo's shop is known again."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import habitue.demo
from habitue.errors import SawTheFuture
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import read_mapping
from habitue.lake.tables import Lake
from habitue.model.starter import open_starter, refuse_seen
from habitue.sequences.build import DAY, Sequences, build_sequences
from habitue.transfer.levels import choose_starter
from habitue.transfer.shelf import SHELF, is_starter, names
from tests.shops import sequences_of
from tests.transfer.shelves import OTHER_SHOP

DATA = Path(habitue.demo.__file__).parent / "data"
NOW = datetime(2026, 1, 5, tzinfo=UTC)
ALL, WITHOUT = "starter", "starter_without_online_retail_ii"


@pytest.fixture(scope="module")
def demo_shop(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    """A twentieth of the demo's customers, as they were three months before the end."""
    folder = tmp_path_factory.mktemp("demo")
    table = pq.read_table(DATA / "online_retail_ii.parquet")
    some = pc.ends_with(pc.cast(pc.cast(table["customer_id"], "int64"), "string"), "07")
    pq.write_table(table.filter(some), folder / "some.parquet")
    lake = Lake(folder / "lake")
    mapping = read_mapping(DATA / "online_retail_ii.toml")
    import_file(folder / "some.parquet", lake=lake, shop="gifts", mapping=mapping, now=NOW)
    end = build_sequences(lake, "gifts", cutoff=253_000_000_000_000_000).time.max()
    return build_sequences(lake, "gifts", cutoff=int(end) - 90 * DAY)


def test_two_starters_ship_in_eight_megabytes() -> None:
    assert names() == [ALL, WITHOUT]
    assert sum(file.stat().st_size for file in SHELF.rglob("*") if file.is_file()) < 8_000_000
    assert is_starter(ALL)
    assert not is_starter("v1")
    assert not is_starter(None)
    assert (SHELF / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize("name", [ALL, WITHOUT])
def test_a_starter_that_ships_reads_any_shop(name: str) -> None:
    starter = open_starter(name, SHELF)
    model = starter.over(sequences_of(OTHER_SHOP, 5))
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_what_each_starter_saw_is_what_its_name_says() -> None:
    saw = {name: {seen.shop for seen in open_starter(name, SHELF).seen} for name in names()}
    assert saw[ALL] - saw[WITHOUT] == {"online_retail_ii"}
    assert "complete_journey" in saw[WITHOUT]


def test_the_demo_s_shop_is_refused_by_the_first_and_answered_by_the_second(
    demo_shop: Sequences,
) -> None:
    with pytest.raises(SawTheFuture, match="as 'online_retail_ii'"):
        refuse_seen(open_starter(ALL, SHELF), demo_shop, demo_shop.cutoff)
    assert choose_starter(demo_shop, demo_shop.cutoff).name == WITHOUT


def test_a_shop_that_nothing_saw_is_answered_by_the_first() -> None:
    other = sequences_of(OTHER_SHOP, 5)
    assert choose_starter(other, other.cutoff).name == ALL
