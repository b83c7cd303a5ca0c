"""The lake in a bucket: the same tables, whatever dies, and however many write."""

import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from habitue import faults, privacy
from habitue.errors import BadSetting, BadWorkspace, Busy, NotInstalled
from habitue.ingest.commit import Committer, Settlement, settlement
from habitue.lake import journal
from habitue.lake.erasing import Whose, count_rows, erase_rows
from habitue.lake.eventlog.rows import rows_of
from habitue.lake.index import DedupeIndex
from habitue.lake.maintenance import compact, housekeeping, lake_status, tidy, vacuum
from habitue.lake.profiles import Profiles
from habitue.lake.query import read
from habitue.lake.storage.bucket import object_place
from habitue.lake.storage.control import LEASE_SECONDS
from habitue.lake.tables import Lake
from habitue.workspace import open_workspace
from tests.ingest.parts import logged, orders, part
from tests.ingest.small import imported, row, written
from tests.lake.small import day, event, filled
from tests.objectstore import ObjectStore, object_store

EVERYTHING = "SELECT id, customer, \"time\" FROM events ORDER BY id"
_numbers = count()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store")) as one:
        yield one


@pytest.fixture
def address(store) -> str:
    return f"s3://{store.bucket}/lake-{next(_numbers)}"


@pytest.fixture
def lake(address, tmp_path) -> Lake:
    return Lake(address, buckets=2, beside=tmp_path)


def ids(lake: Lake, **as_of: object) -> list[str]:
    return read(lake, EVERYTHING, shop="acme", **as_of)["id"].to_pylist()


def appended(lake: Lake, *names: str, **cursors: int) -> int:
    events = [event(name, 1, customer=f"c{name}") for name in names]
    rows = rows_of("events", events, [one.digest for one in events], ["r"] * len(events))
    return lake.append({"events": rows}, cursors=cursors)


def test_what_is_appended_is_read_by_another_as_from_a_folder(lake, address, tmp_path):
    local = Lake(tmp_path / "local", buckets=2)
    for one in (lake, local):
        filled(one, event("1", 1), event("2", 2, customer="c2"))
        filled(one, event("3", 3))
    other = Lake(address, beside=tmp_path / "other")
    assert other.buckets == 2
    assert other.shops() == ["acme"]
    assert read(other, EVERYTHING, shop="acme") == read(local, EVERYTHING, shop="acme")
    assert ids(other, cutoff=day(2)) == ["1", "2"]


def test_a_commit_of_one_table_takes_six_requests_once_the_tables_are_known(lake, store):
    filled(lake, event("0", 0))
    appended(lake, "1")
    before = len(store.requests())
    appended(lake, "2")
    kinds = [re.sub(r" .*/", " ", one) for one in store.requests()[before:]]
    kinds = [re.sub(r"\d{8,}|-[0-9a-f-]+", "N", one) for one in kinds]
    assert kinds == [
        "GET lease.json", "PUT lease.json",                # the lease is free; it is ours
        "PUT partN.parquet",
        "PUT lease.json",                                  # promised
        "PUT N.json",                                      # the entry of the Delta log
        "PUT lease.json",                                  # kept, and the lease given back
    ]  # fmt: skip


def test_merging_and_vacuum_keep_the_rows_and_delete_the_rest(lake):
    filled(lake, event("0", 0))
    for number in range(1, 5):
        appended(lake, str(number))
    before = read(lake, EVERYTHING, shop="acme")
    assert compact(lake, ["events"]) >= 3
    assert vacuum(lake, now=day(20), keep_hours=0) >= 4
    assert read(lake, EVERYTHING, shop="acme") == before
    (status,) = [one for one in lake_status(lake) if one.name == "events"]
    assert status.files <= 2
    assert status.rows == 5
    assert tidy(lake, now=day(20)) is None


def test_a_long_log_is_summed_up_and_read_back(lake, address, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_CHECKPOINT_EVERY", 4)
    filled(lake, event("0", 0))
    for number in range(1, 7):
        appended(lake, str(number))
    log = lake.path / "events" / "_delta_log"
    assert lake.storage.read(log / "_last_checkpoint") is not None
    other = Lake(address, beside=tmp_path / "other")
    assert appended(other, "7") == lake.sequence == 7
    assert ids(lake) == [str(number) for number in range(8)]


def test_a_file_is_imported_once_and_read_as_of(lake, tmp_path):
    told = written(tmp_path / "orders.csv", [row(), row(order="o2", customer="c2", item="cup")])
    for expected in ((2, 0), (0, 2)):
        receipt = imported(lake, told)
        assert (receipt.appended, receipt.duplicate) == expected
    assert len(ids(lake)) == 2
    assert ids(lake, cutoff=day(-1000)) == []


def test_the_log_is_committed_and_the_live_state_follows(lake, address, tmp_path):
    log = logged(part("a", *orders(1, 2, 3)), part("b", *orders(3, 4)))
    with closing(Committer(lake, log, 0)) as committer:
        assert committer.step() is not None
        assert committer.step() is None
    other = Lake(address, beside=tmp_path / "other")
    assert other.cursor("log-0") == 2
    assert settlement(other, "acme", "a") == Settlement(
        rows=3, appended=3, duplicate=0, rejected=0
    )
    with closing(Profiles(tmp_path / "profiles.sqlite")) as profiles:
        assert profiles.catch_up(other) > 0
    with closing(DedupeIndex(tmp_path / "other" / "index")) as index:
        assert index.catch_up(other) > 0
        assert index.sequence == lake.sequence


def test_an_erased_customer_is_in_no_object(lake, store):
    filled(lake, event("1", 1, customer="hidden"), event("2", 2, customer="c2"))
    filled(lake, event("3", 3, customer="hidden"))
    whose = Whose(shop="acme", keys=frozenset({"hidden"}), until=day(5))
    done = erase_rows(lake, whose)
    assert done.rows["events"] == 2
    assert done.files_deleted >= 2
    assert count_rows(lake, whose)["events"] == 0
    assert ids(lake) == ["2"]
    assert everyone(lake) == {"c2"}
    assert set(count_rows(lake, whose).values()) == {0}
    again = erase_rows(lake, whose)
    assert (again.rows["events"], again.files_deleted) == (0, 0)


def everyone(lake: Lake) -> set[str]:
    """Every customer in any object that holds events, of whatever version."""
    places = [lake.path / "events" / f"bucket={number}" for number in range(lake.buckets)]
    files = [place / held.path for place in places for held in lake.storage.list(place)]
    tables = [pq.read_table(lake.storage.source(file), columns=["customer"]) for file in files]
    return {customer for table in tables for customer in table["customer"].to_pylist()}


def test_a_job_of_erasure_ends_as_it_does_in_a_folder(address, tmp_path):
    workspace = open_workspace(tmp_path / "work", lake=address)
    filled(workspace.lake, event("1", 1, customer="hidden"), event("2", 2, customer="c2"))
    now = day(20)
    job = privacy.request(workspace.places, "acme", ["hidden"], now=now)
    done = privacy.finish(workspace.places, job, now=now)
    assert done.status == "complete"
    assert everyone(workspace.lake) == {"c2"}


def _writes(address: str, beside: Path, name: str, commits: int) -> None:
    lake = Lake(address, beside=beside)
    for number in range(commits):
        appended(lake, f"{name}{number:03d}", **{name: number})


def test_two_processes_write_at_once_and_no_row_is_lost_or_doubled(lake, address, tmp_path):
    filled(lake, event("0", 0))
    spawn = get_context("spawn")
    writers = [
        spawn.Process(target=_writes, args=(address, tmp_path / name, name, 5)) for name in "ab"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert ids(lake) == ["0", *(f"{name}{number:03d}" for name in "ab" for number in range(5))]
    assert lake.sequence == 10
    assert (lake.cursor("a"), lake.cursor("b")) == (4, 4)


def _dies(address: str, beside: Path, fault: str) -> None:
    lake = Lake(address, beside=beside)
    faults.arm(fault)
    filled(lake, event("2", 2))


@pytest.mark.parametrize(
    ("fault", "is_there"),
    [
        pytest.param("commit.before_journal", False, marks=pytest.mark.slow),
        pytest.param("commit.after_journal", True, marks=pytest.mark.slow),
        ("commit.between_tables", True),
    ],
)
def test_what_a_killed_writer_promised_is_kept_by_the_next(
    lake, address, tmp_path, monkeypatch, fault, is_there
):
    filled(lake, event("1", 1))
    child = get_context("spawn").Process(target=_dies, args=(address, tmp_path / "dead", fault))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    with pytest.raises(Busy), lake.lease(wait_seconds=0.1):
        pass                               # it may still live
    now = lake.storage._clock
    monkeypatch.setattr(lake.storage, "_clock", lambda: now() + LEASE_SECONDS)
    filled(lake, event("3", 3))
    assert ids(lake) == (["1", "2", "3"] if is_there else ["1", "3"])
    assert len(read(lake, "SELECT * FROM receipts", shop="acme")) == 2 + is_there


def test_a_writer_who_was_stopped_for_too_long_promises_nothing(lake, address, tmp_path):
    filled(lake, event("1", 1))
    other = Lake(address, beside=tmp_path / "other")
    now = other.storage._clock
    other.storage._clock = lambda: now() + LEASE_SECONDS
    with pytest.raises(Busy, match="nothing of this commit"), lake.lease():
        with other.lease():
            pass                           # taken over and given back; nothing was written
        appended(lake, "late")
    assert ids(lake) == ["1"]
    appended(lake, "again")
    assert ids(other) == ["1", "again"]


@pytest.mark.parametrize("knows", [False, True])
def test_a_promise_that_two_keep_is_kept_once(lake, address, tmp_path, monkeypatch, knows):
    """The first is stopped between its tables, and goes on after the second has gone further."""
    filled(lake, event("1", 1))
    other = Lake(address, beside=tmp_path / "other")
    now = other.storage._clock
    other.storage._clock = lambda: now() + LEASE_SECONDS
    whole = journal._apply

    def overtaken(root, *told, **named):
        if root is lake.path:
            monkeypatch.setattr(journal, "_apply", whole)
            appended(other, "3")           # completes what we promised, then commits its own
            compact(other, ["events"])
            vacuum(other, now=day(20), keep_hours=0)
            if knows:                      # as after a beat of its own
                with pytest.raises(Busy):
                    lake.confirm()
        whole(root, *told, **named)

    monkeypatch.setattr(journal, "_apply", overtaken)
    assert appended(lake, "2") == 1        # a promise is a promise
    assert ids(lake) == ids(other) == ["1", "2", "3"]
    appended(lake, "4")
    assert ids(other) == ["1", "2", "3", "4"]


def test_a_lease_is_renewed_while_its_holder_works(store, address):
    place = object_place(address) / "lease"
    holder, rival = place.storage.lease(place), object_place(address).storage.lease(place)
    holder._seconds = 0.3
    assert holder.take()
    over = threading.Event()
    for _ in range(6):
        assert not rival.take()
        over.wait(0.1)
    holder.confirm()
    holder.release()
    assert rival.take()
    rival.release()


def test_files_that_wait_go_up_in_time(address, monkeypatch):
    monkeypatch.setattr("habitue.lake.storage.bucket._SMALL_BYTES", 10)
    monkeypatch.setattr("habitue.lake.storage.bucket._WAITING_BYTES", 25)
    root = object_place(address)
    for number, size in enumerate((10, 11, 10, 9)):
        content = b"1" * size
        root.storage.save(root / str(number), lambda draft, it=content: draft.write_bytes(it))
        there = [one.path for one in root.storage.list(root)]
        assert there == [[], ["1"], ["1"], ["0", "1", "2", "3"]][number]
    root.storage.settle()
    assert [one.size for one in root.storage.list(root)] == [10, 11, 10, 9]


def test_of_many_who_make_an_object_at_once_one_does(address):
    def makes(number: int) -> bool:
        place = object_place(address) / str(number % 3)
        try:
            place.storage.put_new(place, b"%d" % number)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        made = [number for number, won in enumerate(pool.map(makes, range(12))) if won]
    assert sorted(number % 3 for number in made) == [0, 1, 2]
    for number in made:
        place = object_place(address) / str(number % 3)
        assert place.storage.read(place) == b"%d" % number


class Failing:
    """The client, whose first puts of an object fail: before they have an effect, or after."""

    def __init__(self, client, error: type[Exception], *, times: int, has_effect: bool) -> None:
        self._client, self._error, self._left = client, error, times
        self._has_effect = has_effect
        self.exceptions = client.exceptions
        self.get = client.get

    def put(self, store, key, content, **named):
        if not self._left:
            return self._client.put(store, key, content, **named)
        self._left -= 1
        if self._has_effect:
            self._client.put(store, key, content, **named)
        raise self._error("no answer")


@pytest.mark.parametrize("has_effect", [False, True])
@pytest.mark.parametrize("name", ["AlreadyExistsError", "PreconditionError", "GenericError"])
def test_a_put_whose_answer_is_lost_or_in_doubt_is_looked_after(address, name, has_effect):
    place = object_place(address) / "one"
    objects, client = place.storage.objects, place.storage.objects._obstore
    error = getattr(client.exceptions, name)
    objects._obstore = Failing(client, error, times=2, has_effect=has_effect)
    place.storage.put_new(place, b"mine")
    assert place.storage.read(place) == b"mine"
    objects._obstore = Failing(client, error, times=2, has_effect=has_effect)
    _, tag = objects.get(place.key)
    assert objects.put_over(place.key, b"next", tag=tag) is not None
    assert objects.put_over(place.key, b"late", tag=tag) is None
    assert place.storage.read(place) == b"next"
    objects._obstore = Failing(client, error, times=9, has_effect=False)
    with pytest.raises(OSError, match="did not answer"):
        objects.put_over(f"{place.key}-2", b"mine", tag=None)


def test_one_keeps_house_at_a_time(lake, address, tmp_path):
    other = Lake(address, beside=tmp_path / "other")
    with housekeeping(lake), pytest.raises(Busy), housekeeping(other):
        pass
    with housekeeping(other):
        pass


def test_a_workspace_keeps_its_lake_where_it_was_put(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "habitue.toml").write_text(f'lake = "{address}"\n')
    made = open_workspace(tmp_path / "work")
    filled(made.lake, event("1", 1))
    (tmp_path / "habitue.toml").unlink()
    again = open_workspace(tmp_path / "work")
    assert len(again.shop("acme").query("SELECT * FROM events")) == 1
    assert (tmp_path / "work" / "index").is_dir() or not (tmp_path / "work" / "lake").exists()
    with pytest.raises(BadWorkspace, match="another workspace"):
        open_workspace(tmp_path / "second", lake=address)
    with pytest.raises(BadSetting, match="not at s3://lakes/elsewhere"):
        open_workspace(tmp_path / "work", lake="s3://lakes/elsewhere")


@pytest.mark.parametrize("wrong", ["s3://", "s3://lakes", "gs://lakes/x"])
def test_an_address_that_names_no_place_is_refused(wrong, tmp_path):
    with pytest.raises(BadSetting, match="s3://BUCKET/PREFIX"):
        open_workspace(tmp_path / "work", lake=wrong)


def test_a_workspace_itself_is_a_folder():
    with pytest.raises(BadWorkspace, match="local folder"):
        open_workspace("s3://lakes/work")


def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(NotInstalled, match=r"habitue\[s3\]"):
        Lake("s3://lakes/none", beside=tmp_path)


def test_a_store_that_does_not_answer_is_an_error_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
    monkeypatch.setattr("habitue.lake.storage.objects.RETRY", {"max_retries": 0})
    with pytest.raises(OSError, match="did not answer"):
        Lake("s3://lakes/none", beside=tmp_path)
