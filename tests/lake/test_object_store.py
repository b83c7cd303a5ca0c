"""The lake in a bucket: the same tables, whatever dies, and however many write."""

from collections.abc import Iterator
from itertools import count

import pytest

from habitue.lake.maintenance import compact, lake_status, vacuum
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.lake.small import day, event, filled
from tests.objectstore import ObjectStore, object_store

EVERYTHING = "SELECT id, customer, \"time\" FROM events ORDER BY id"
_names = count()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture
def address(store) -> str:
    return f"s3://{store.bucket}/lake-{next(_names)}"


@pytest.fixture
def lake(address, tmp_path) -> Lake:
    return Lake(address, buckets=2, beside=tmp_path)


def test_what_is_appended_is_read_by_another_as_from_a_folder(lake, address, tmp_path):
    local = Lake(tmp_path / "local", buckets=2)
    for one in (lake, local):
        filled(one, event("1", 1), event("2", 2, customer="c2"))
        filled(one, event("3", 3))
    other = Lake(address, beside=tmp_path / "other")
    assert other.buckets == 2
    assert other.shops() == ["acme"]
    assert read(other, EVERYTHING, shop="acme") == read(local, EVERYTHING, shop="acme")
    as_of = read(other, EVERYTHING, shop="acme", cutoff=day(2))
    assert as_of["id"].to_pylist() == ["1", "2"]


def test_merging_and_vacuum_keep_the_rows_and_delete_the_rest(lake):
    for number in range(5):
        filled(lake, event(str(number), number))
    before = read(lake, EVERYTHING, shop="acme")
    assert compact(lake, ["events"]) == 4
    assert vacuum(lake, now=day(20), keep_hours=0) >= 5
    assert read(lake, EVERYTHING, shop="acme") == before
    (status,) = [one for one in lake_status(lake) if one.name == "events"]
    assert (status.files, status.rows) == (1, 5)
