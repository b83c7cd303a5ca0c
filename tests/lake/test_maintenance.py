import os
import signal
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue import faults
from habitue.errors import Busy
from habitue.lake import maintenance
from habitue.lake.eventlog.rows import rows_of
from habitue.lake.maintenance import (
    compact,
    evolve,
    housekeeping,
    lake_status,
    tidy,
    vacuum,
)
from habitue.lake.query import read
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.first_release import unpack
from tests.lake.small import day, event, filled

EVERYTHING = "SELECT * FROM events ORDER BY digest"


def trickled(folder, commits: int) -> Lake:
    """A lake of one bucket after so many commits of one event."""
    lake = filled(Lake(folder, buckets=1), event("0", 0, customer="c0"))
    for number in range(1, commits):
        one = event(str(number), number / 10, customer=f"c{number % 3}")
        lake.append({"events": rows_of("events", [one], [one.digest], ["r"])})
    return lake


def tidied(lake: Lake, **named) -> int:
    """Files merged away until there is nothing to do."""
    merged = 0
    while step := tidy(lake, now=day(0), **named):
        merged += step.merged
        if not step.merged:
            break
    return merged


def test_a_trickle_of_commits_leaves_few_files_and_every_row(tmp_path):
    lake = trickled(tmp_path, 30)
    before = read(lake, EVERYTHING, shop="acme")
    assert tidied(lake) > 0
    assert all(len(files) < 8 for files in maintenance._by_bucket(lake, "events").values())
    assert read(lake, EVERYTHING, shop="acme").equals(before)


def test_a_large_file_is_left_alone(tmp_path, monkeypatch):
    lake = trickled(tmp_path, 9)
    monkeypatch.setattr(maintenance, "LARGE_BYTES", 1)
    assert compact(lake) == 0
    assert tidied(lake) == 0


def test_a_commit_is_not_held_up_by_a_merge(tmp_path, monkeypatch):
    lake = trickled(tmp_path, 9)
    merged = maintenance._merged

    def interrupted(*told):
        if not len(read(lake, "SELECT 1 FROM events WHERE id = 'while'", shop="acme")):
            filled(Lake(tmp_path), event("while", 1))
        yield from merged(*told)

    monkeypatch.setattr(maintenance, "_merged", interrupted)
    assert compact(lake, ["events"]) == 9
    assert len(read(lake, EVERYTHING, shop="acme")) == 10


def test_a_merge_of_files_that_were_replaced_meanwhile_changes_nothing(tmp_path, monkeypatch):
    lake = trickled(tmp_path, 3)
    former = {file.path for file in lake.written("events")}
    merged = maintenance._merged

    def overtaken(*told):
        first = lake.written("events")[0]
        name = "bucket=0/part-00000000-00009.parquet"
        (lake.path / "events" / first.path).rename(lake.path / "events" / name)
        lake.replace("events", [first], [type(first)(name, 0, first.size, rows=1)])
        lake_files = [lake.path / "events" / file.path for file in lake.written("events")]
        yield from merged(told[0], lake_files)

    monkeypatch.setattr(maintenance, "_merged", overtaken)
    assert compact(lake, ["events"]) == 0
    assert {file.path for file in lake.written("events")} != former
    assert len(read(lake, EVERYTHING, shop="acme")) == 3
    assert not list((lake.path / "events").rglob("*merged*"))


@settings(max_examples=15)
@given(
    files=st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "y", None]), st.integers(0, 3)),
            min_size=1, max_size=8,
        ),
        min_size=2, max_size=4,
    ),
    batch=st.integers(1, 16),
    short=st.integers(0, 12),
)
def test_merging_batch_by_batch_is_sorting_the_whole(tmp_path_factory, files, batch, short):
    folder, table = tmp_path_factory.mktemp("files"), TABLES["events"]
    parts, serial = [], 0
    for number, rows in enumerate(files):
        held = []
        for shop, customer, at in rows:
            serial += 1
            held.append(
                {
                    "bucket": 0, "shop": shop, "source": "s", "digest": serial.to_bytes(16),
                    "id": str(serial), "customer": customer, "name": "n", "time": day(at),
                    "received": day(at), "backfilled": False,
                }
            )
        rows_of = pa.Table.from_pylist(held, schema=table.schema).drop_columns("bucket")
        parts.append(maintenance.sorted_rows(table, rows_of))
        pq.write_table(parts[-1], folder / f"{number}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maintenance, "_ROWS_IN_MEMORY", batch)
        patch.setattr(maintenance, "_SORTED_ROWS", short)
        chunks = list(maintenance._merged(table, sorted(folder.iterdir())))
    whole = maintenance.sorted_rows(table, pa.concat_tables(parts))
    assert pa.concat_tables(chunks).combine_chunks().equals(whole.combine_chunks())


def test_groups_and_files_cut_the_rows_without_losing_any(monkeypatch):
    monkeypatch.setattr(maintenance.journal, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(maintenance, "_ROWS_PER_FILE", 8)
    chunks = [pa.table({"n": list(range(start, start + 3))}) for start in range(0, 30, 3)]
    files = [[group["n"].to_pylist() for group in one] for one in maintenance._cut(chunks)]
    assert [[len(group) for group in file] for file in files] == [[4, 4], [4, 4], [4, 4], [4, 2]]
    assert [row for file in files for group in file for row in group] == list(range(30))


def test_who_keeps_house_is_alone(tmp_path):
    lake = trickled(tmp_path, 1)
    with housekeeping(lake), pytest.raises(Busy, match="keeps house"):
        vacuum(lake, now=day(0))


def test_what_was_replaced_is_deleted_once_no_kept_version_names_it(tmp_path):
    lake = trickled(tmp_path, 3)
    snapshot = lake.table("events")
    compact(lake)
    for file in snapshot.file_uris():                  # long since written, but just replaced
        os.utime(file, (0, 0))
    assert vacuum(lake, now=day(0)) == 0
    former = DeltaTable(lake.path / "events", version=snapshot.version())
    assert len(pq.read_table(former.file_uris(), partitioning=None)) == 3

    assert vacuum(lake, now=day(0), keep_hours=0) > 0
    assert not any(Path(file).exists() for file in snapshot.file_uris())
    assert len(read(lake, EVERYTHING, shop="acme")) == 3


def test_what_a_crash_left_unfinished_goes_when_it_is_old(tmp_path):
    lake = trickled(tmp_path, 1)
    orphan = lake.path / "events" / "bucket=0" / "part-00000009-00000.parquet"
    orphan.write_bytes(b"half")
    vacuum(lake, now=day(0))
    assert orphan.exists()
    os.utime(orphan, (0, 0))
    vacuum(lake, now=day(0))
    assert not orphan.exists()


def test_a_log_that_grew_long_is_cut_and_still_read_and_written(tmp_path):
    lake = Lake(tmp_path, buckets=1)
    for number in range(60):
        lake.append({"receipts": receipt(number)}, cursors={"log-0": number})
    entries = sorted((tmp_path / "receipts" / "_delta_log").glob("[0-9]*"))
    for entry in entries:
        os.utime(entry, (0, 0))
    vacuum(lake, now=day(0))
    left = sorted((tmp_path / "receipts" / "_delta_log").glob("[0-9]*"))
    assert len(left) < len(entries) / 2
    for again in (lake, Lake(tmp_path)):
        again.append({"receipts": receipt(60)})
        assert {status.name: status for status in lake_status(again)}["receipts"].rows > 60
        assert again.cursor("log-0") == 59
    (tmp_path / "journal.done").unlink()                   # then the tables know
    assert (Lake(tmp_path).cursor("log-0"), Lake(tmp_path).sequence) == (59, 61)


@pytest.mark.parametrize("fault", ["compact.before_journal", "commit.after_journal",
                                   "commit.between_tables", "vacuum.before_delete:2"])
def test_a_kill_while_house_is_kept_changes_no_row(tmp_path, fault):
    lake = trickled(tmp_path, 9)
    before = read(lake, EVERYTHING, shop="acme")
    context = get_context("forkserver")
    child = context.Process(target=_keep_house, args=(tmp_path, fault))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    again = Lake(tmp_path)
    assert read(again, EVERYTHING, shop="acme").equals(before)
    filled(again, event("later", 1))
    compact(again)
    vacuum(again, now=day(0), keep_hours=0)
    assert len(read(again, EVERYTHING, shop="acme")) == 10
    assert len(list((tmp_path / "events").rglob("*.parquet"))) == 1


def _keep_house(folder: Path, fault: str) -> None:
    faults.arm(fault)
    lake = Lake(folder)
    compact(lake)
    vacuum(lake, now=day(0), keep_hours=0)


def receipt(number: int) -> pa.Table:
    row = {
        "bucket": 0, "shop": "acme", "source": "s", "id": f"r{number}", "origin": "o",
        "received": day(0), "rows": 1, "appended": 1, "duplicate": 0, "rejected": 0,
    }
    return pa.Table.from_pylist([row], schema=TABLES["receipts"].schema).drop_columns("bucket")


def test_a_vacuum_comes_once_an_hour(tmp_path):
    lake = trickled(tmp_path, 1)
    assert tidy(lake, now=day(0)) is not None
    assert tidy(lake, now=day(0) + timedelta(minutes=59)) is None
    assert tidy(lake, now=day(0) + timedelta(minutes=60)) is not None


def test_the_status_counts_files_and_rows(tmp_path):
    lake = trickled(tmp_path, 3)
    held = {status.name: status for status in lake_status(lake)}
    assert (held["events"].files, held["events"].rows, held["events"].small_files) == (3, 3, 3)
    assert held["events"].most_files == ((0, 3),)
    assert (held["events"].version, held["events"].oldest_version) == (3, 0)
    compact(lake)
    held = {status.name: status for status in lake_status(lake)}
    assert (held["events"].files, held["events"].rows) == (1, 3)
    newest = held["events"].version
    vacuum(lake, now=day(1000), keep_hours=0)
    held = {status.name: status for status in lake_status(lake)}
    assert held["events"].oldest_version == newest


def test_a_lake_of_the_first_release_takes_columns_that_came_later(tmp_path):
    unpack(tmp_path)
    lake = Lake(next(tmp_path.rglob("lake")))
    (shop,) = lake.shops()
    before = read(lake, "SELECT count(*) AS n FROM events", shop=shop)["n"][0].as_py()
    assert "stock" in evolve(lake)["items"]
    assert evolve(lake) == {}
    filled(lake, event("a", 0, shop=shop))
    compact(lake)
    assert read(lake, "SELECT count(*) AS n FROM events", shop=shop)["n"][0].as_py() == before + 1
    for name in TABLES:
        table = lake.table(name)
        if table is not None:
            wanted = [field.name for field in TABLES[name].schema]
            assert sorted(field.name for field in table.schema().fields) == sorted(wanted)
