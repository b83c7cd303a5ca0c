import fcntl
import json
import os
import threading
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.errors import BadWorkspace, Busy
from habitue.lake import deltalog, journal
from habitue.lake.query import read
from habitue.lake.schema import RECEIPTS, REJECTED, SHOPS, TABLES
from habitue.lake.tables import Lake
from tests.lake.small import day, event, filled

NOW = datetime(2025, 3, 3, tzinfo=UTC)


def shops(*names: str) -> pa.Table:
    rows = [
        {"bucket": 0, "shop": name, "received": NOW, "timezone": "UTC", "not_item_codes": []}
        for name in names
    ]
    return pa.Table.from_pylist(rows, schema=SHOPS).drop_columns("bucket")


def rejected(shop: str, positions: range) -> pa.Table:
    rows = [
        {
            "bucket": 0, "shop": shop, "source": "s", "receipt": "r", "position": position,
            "pointer": "", "reason": "bad_row", "payload": "{}", "received": NOW,
        }
        for position in positions
    ]
    return pa.Table.from_pylist(rows, schema=REJECTED).drop_columns("bucket")


def test_a_lake_gives_back_what_was_appended(tmp_path):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("acme"), "rejected": rejected("acme", range(3))})
    again = Lake(tmp_path)
    assert again.shops() == ["acme"]
    found = read(again, "SELECT position FROM rejected ORDER BY position", shop="acme")
    assert found["position"].to_pylist() == [0, 1, 2]


def test_opening_a_lake_makes_nothing(tmp_path):
    lake = Lake(tmp_path / "lake")
    assert lake.shops() == []
    assert not (tmp_path / "lake").exists()


def test_a_file_is_no_lake(tmp_path):
    (tmp_path / "lake").write_text("")
    with pytest.raises(BadWorkspace, match="is a file"):
        Lake(tmp_path / "lake")


def test_the_number_of_buckets_is_that_of_the_first_append_for_ever(tmp_path):
    filled(Lake(tmp_path, buckets=3), event("a", 0))
    assert Lake(tmp_path, buckets=16).buckets == 3


def test_rows_are_sorted_within_each_file(tmp_path):
    events = [event(str(n), 5 - n % 3, customer=f"c{n % 4}") for n in range(20)]
    lake = filled(Lake(tmp_path, buckets=2), *events)
    for file in lake.files("events"):
        rows = pq.read_table(file, partitioning=None).to_pylist()
        keys = [tuple(row[name] for name in TABLES["events"].sort) for row in rows]
        assert keys == sorted(keys)


def test_the_log_holds_statistics_of_shop_and_time_alone(tmp_path):
    lake = filled(Lake(tmp_path), event("a", 0, customer="secret"))
    entries = [path.read_text() for path in (lake.path / "events" / "_delta_log").glob("*.json")]
    added = [json.loads(line)["add"] for line in "\n".join(entries).splitlines() if '"add"' in line]
    statistics = json.loads(added[0]["stats"])
    assert statistics["numRecords"] == 1
    assert statistics["minValues"] == {"shop": "acme", "time": "2025-03-03T00:00:00.000000Z"}
    assert "secret" not in "".join(entries)


def test_every_reader_of_delta_can_read_the_tables(tmp_path):
    lake = filled(Lake(tmp_path), event("a", 0))
    protocol = DeltaTable(lake.path / "events").protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_a_commit_cut_short_after_its_journal_is_completed_by_the_next_to_open(
    tmp_path, monkeypatch
):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("former")})
    whole = journal._apply

    def cut_short(root, intention, *, buckets, is_again=False):
        whole(root, journal.Journal(intention.sequence, intention.changes[:1]), buckets=buckets)
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "_apply", cut_short)
    with pytest.raises(KeyboardInterrupt):
        lake.append({"shops": shops("acme"), "rejected": rejected("acme", range(3))})
    monkeypatch.undo()

    recovered = Lake(tmp_path)
    assert recovered.shops() == ["acme", "former"]
    assert len(read(recovered, "SELECT * FROM rejected", shop="acme")) == 3
    assert len(pq.read_table(recovered.files("shops"), partitioning=None)) == 2
    assert not (tmp_path / "journal.json").exists()


def test_a_commit_cut_short_before_its_journal_never_happened(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("former")})

    def power_loss(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "commit", power_loss)
    with pytest.raises(KeyboardInterrupt):
        lake.append({"shops": shops("acme")})
    monkeypatch.undo()

    recovered = Lake(tmp_path)
    assert recovered.shops() == ["former"]
    recovered.append({"shops": shops("later")})
    assert recovered.shops() == ["former", "later"]


def test_a_commit_interrupted_at_any_flush_is_all_there_or_not_at_all(tmp_path, monkeypatch):
    flush, outcomes, left = deltalog.flush, [], 0

    def interrupted(path):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        flush(path)

    monkeypatch.setattr(deltalog, "flush", interrupted)
    for crash in range(100):
        lake = Lake(tmp_path / str(crash))
        left = 1000
        lake.append({"shops": shops("former")})
        left = crash
        try:
            lake.append({"shops": shops("acme"), "rejected": rejected("former", range(3))})
        except KeyboardInterrupt:
            left = 1000
        else:
            break
        recovered = Lake(lake.path)
        seen = len(read(recovered, "SELECT * FROM rejected", shop="former"))
        outcomes.append((recovered.shops(), seen))

    nothing, everything = (["former"], 0), (["acme", "former"], 3)
    happened = outcomes.index(everything)
    assert outcomes == [nothing] * happened + [everything] * (len(outcomes) - happened)
    assert 0 < happened < len(outcomes)


def test_an_append_is_flushed_to_the_disk_file_by_file_before_the_journal_goes(
    tmp_path, monkeypatch
):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("former")})
    flush, flushed = deltalog.flush, []

    def noted(path):
        flushed.append(path.relative_to(tmp_path).as_posix())
        flush(path)

    monkeypatch.setattr(deltalog, "flush", noted)
    lake.append({"shops": shops("acme")})
    (added,) = set(lake.files("shops")) & {str(tmp_path / name) for name in flushed}
    entry = f"shops/_delta_log/.{2:020d}.draft"        # linked to its name once it is on disk
    wanted = [os.path.relpath(added, tmp_path), "journal.draft", entry, "shops/_delta_log"]
    places = [flushed.index(path) for path in wanted]
    assert places == sorted(places)
    assert flushed[-1] == "."


def test_a_torn_log_entry_is_replaced_by_what_the_journal_meant(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("former")})
    whole = journal._apply

    def torn(root, intention, *, buckets, is_again=False):
        whole(root, intention, buckets=buckets)
        newest = max((root / "shops" / "_delta_log").glob("*.json"))
        newest.write_bytes(newest.read_bytes()[:-40])
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "_apply", torn)
    with pytest.raises(KeyboardInterrupt):
        lake.append({"shops": shops("acme")})
    monkeypatch.undo()
    assert Lake(tmp_path).shops() == ["acme", "former"]


def test_an_error_while_rows_are_made_leaves_nothing_half_appended(tmp_path):
    lake = Lake(tmp_path)

    def broken():
        yield rejected("acme", range(3))
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        lake.append({"shops": shops("acme"), "rejected": broken()})
    assert lake.shops() == []
    assert lake.files("rejected") == []


def test_the_lease_held_elsewhere_is_waited_for_and_then_busy(tmp_path):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("acme")})
    pauses: list[float] = []
    with (tmp_path / "lease").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process"), lake.lease(
            wait_seconds=1.0, pause=pauses.append
        ):
            pass
    assert sum(pauses) == pytest.approx(1.0, abs=0.1)
    with lake.lease(wait_seconds=0.0):
        lake.append({"shops": shops("later")})
    assert lake.shops() == ["acme", "later"]


def test_the_holder_may_take_the_lease_again(tmp_path):
    lake = Lake(tmp_path)
    with lake.lease(), lake.lease(wait_seconds=0.0):
        lake.append({"shops": shops("acme")})
    assert lake.shops() == ["acme"]


def test_threads_that_append_at_once_lose_nothing(tmp_path):
    lake = Lake(tmp_path)
    lake.append({"shops": shops("acme")})
    writers = [
        threading.Thread(target=Lake(tmp_path).append, args=({"rejected": rejected("acme", part)},))
        for part in (range(5), range(5, 10), range(10, 15))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read(lake, "SELECT position FROM rejected", shop="acme")["position"].to_pylist()
    assert sorted(found) == list(range(15))


@settings(max_examples=12)
@given(
    batches=st.lists(
        st.lists(st.integers(0, 30), max_size=6, unique=True), min_size=1, max_size=4
    )
)
def test_compaction_keeps_every_row_in_fewer_files(tmp_path_factory, batches):
    lake = Lake(tmp_path_factory.mktemp("lake"), buckets=2)
    for batch in batches:
        filled(lake, *(event(str(n), n / 10, customer=f"c{n % 5}") for n in batch))
    everything = "SELECT * FROM events ORDER BY digest"
    is_filled = any(batches)
    before = read(lake, everything, shop="acme") if is_filled else None
    files = len(lake.files("events"))

    merged = lake.compact(["events"])

    assert len(lake.files("events")) == files - merged <= 2
    if is_filled:
        assert read(lake, everything, shop="acme").equals(before)


def test_a_compacted_bucket_is_sorted_and_may_be_appended_to(tmp_path):
    lake = Lake(tmp_path, buckets=1)
    for number in (3, 1, 2):
        filled(lake, event(str(number), number))
    assert lake.compact() > 0
    (file,) = lake.files("events")
    times = pq.read_table(file, partitioning=None)["time"].to_pylist()
    assert times == [day(1), day(2), day(3)]
    filled(lake, event("4", 4))
    assert len(read(lake, "SELECT * FROM events", shop="acme")) == 4


def test_tables_without_customers_lie_in_one_bucket_per_shop(tmp_path):
    lake = Lake(tmp_path)
    lake.append({"rejected": rejected("acme", range(50))})
    assert len(lake.files("rejected")) == 1
    assert RECEIPTS.field("bucket").type == pa.int32()


def test_tables_ask_no_more_of_a_reader_than_the_first_version_of_delta(tmp_path):
    """Spark and all others read such tables as they are; no feature of later versions is needed."""
    lake = filled(Lake(tmp_path), event("a", 0), event("b", 1))
    lake.append({"rejected": rejected("acme", range(3))})
    lake.compact()
    made = [name for name in TABLES if (table := lake.table(name)) is not None]
    assert {"events", "shops", "receipts", "rejected"} <= set(made)
    for name in made:
        table = lake.table(name)
        protocol = table.protocol()
        assert (protocol.min_reader_version, protocol.reader_features) == (1, None), name
        assert (protocol.min_writer_version, protocol.writer_features) == (2, None), name
        assert table.metadata().partition_columns == ["bucket"], name
