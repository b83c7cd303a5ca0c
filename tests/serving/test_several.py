"""Several processes behind one port: what is handed on is on disk, and a death costs a retry."""

import contextlib
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from habitue.config import utc_now
from habitue.directory import Grant, Limit
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.live.told import microseconds
from habitue.serving.auth import Windows
from habitue.serving.beside.settlement import Settlement
from habitue.serving.beside.underway import Heard, Underway, clear
from habitue.serving.metrics import Metrics
from habitue.serving.replies import Refused
from habitue.serving.several.handing import HandedLog
from habitue.serving.several.sharing import SharedCounts, counted
from habitue.serving.several.writing import Writing
from habitue.workspace import open_workspace
from tests.serving.loading import Load
from tests.serving.small import ListLog, running, settled, start

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)


@contextlib.contextmanager
def handing(folder: Path, log):
    """A log that is written here, and as another process sees it."""
    path = folder / "log.sock"
    with contextlib.closing(Writing(path, log)), contextlib.closing(HandedLog(path, log)) as handed:
        yield handed


def test_what_is_handed_on_by_many_is_in_the_log_once_and_at_its_offset(tmp_path):
    log = SqliteLog(tmp_path / "log", shards=2)
    path = tmp_path / "log.sock"
    with contextlib.closing(log), contextlib.closing(Writing(path, log)):
        reader = SqliteLog(tmp_path / "log", shards=2)
        others = [HandedLog(path, reader) for _ in range(4)]

        def send(number: int) -> list[tuple[int, int, bytes]]:
            shard, body = number % 2, str(number).encode()
            offsets = others[number % 4].append(shard, [body, body + b"b"])
            return [(shard, at, one) for at, one in zip(offsets, [body, body + b"b"], strict=True)]

        with ThreadPoolExecutor(8) as pool:
            told = [row for rows in pool.map(send, range(200)) for row in rows]
        read = [(shard, one) for shard in range(2) for one in reader.read(shard, 0)]
        held = [(shard, one.offset, one.body) for shard, one in read]
        for one in others:
            one.close()
    assert sorted(held) == sorted(told)
    assert len(held) == 400


def test_a_storage_that_fails_is_told_to_who_handed_on_and_mends_itself(tmp_path):
    log = ListLog()
    with handing(tmp_path, log) as handed:
        log.broken = True
        with pytest.raises(LogUnavailable, match="the disk is full"):
            handed.append(0, [b"x"])
        log.broken = False
        assert handed.append(0, [b"y"]) == [0]


def test_one_who_writes_and_is_gone_is_told_and_found_again_when_it_is_back(tmp_path):
    log, path = ListLog(), tmp_path / "log.sock"
    handed = HandedLog(path, log)
    with pytest.raises(LogUnavailable):
        handed.append(0, [b"x"])
    for number in range(2):
        with contextlib.closing(Writing(path, log)):
            assert handed.append(0, [b"x"]) == [number]
        with pytest.raises(LogUnavailable):
            handed.append(0, [b"x"])
    handed.close()


def test_one_who_dies_while_it_hands_on_leaves_the_others_be(tmp_path):
    log = ListLog()
    with handing(tmp_path, log) as handed, socket.socket(socket.AF_UNIX) as broken:
        broken.connect(str(tmp_path / "log.sock"))
        broken.sendall(b"\x00\x00\x10\x00half")
        broken.close()
        assert handed.append(0, [b"x"]) == [0]


def test_a_socket_is_found_however_deep_its_folder_lies(tmp_path):
    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    with handing(deep, ListLog()) as handed:
        assert handed.append(0, [b"x"]) == [0]


def test_requests_of_a_key_are_counted_together(tmp_path):
    first, second = (
        Windows(lambda: 120.0, SharedCounts(tmp_path / "windows")) for _ in range(2)
    )
    limit = Limit(per_second=2, per_minute=100)
    assert first.take("k", limit)["RateLimit-Remaining"] == "1"
    assert second.take("k", limit)["RateLimit-Remaining"] == "0"
    for one in (first, second):
        with pytest.raises(Refused):
            one.take("k", limit)
    assert second.take("other", limit)["RateLimit-Remaining"] == "1"
    first.close()
    second.close()


def test_a_table_that_is_full_forgets_the_oldest_count_and_no_other_key(tmp_path):
    counts = SharedCounts(tmp_path / "windows")
    for number in range(200_000):
        counts.put(f"k{number}", 1, number // 1_000, 1)
    assert counts.get("k199999", 1, 199) == 1
    assert counts.get("k0", 1, 199) == 0
    counts.close()


def test_the_oldest_request_of_all_processes_is_told(tmp_path):
    path = tmp_path / "underway"
    clear(path)
    first, second = Underway(path, 0), Underway(path, 5)
    oldest = Heard(path).oldest
    later = NOW.replace(hour=13)
    with second.one(later):
        assert oldest() == microseconds(later)
        with first.one(NOW):
            assert oldest() == microseconds(NOW)
    assert oldest() == 0


def test_a_receipt_of_another_process_is_settled_when_the_lake_holds_what_the_log_held(tmp_path):
    log, progress = ListLog(), tmp_path / "progress.json"
    settlement = Settlement(log, progress, is_alone=False)
    log.append(0, [b"x", b"y"])
    for cursor, is_settled in ((1, False), (2, True)):
        progress.write_text(f'{{"pid": 1, "time": 0.0, "cursors": [{cursor}]}}')
        assert settlement.is_settled("r") is is_settled


def test_counts_that_were_written_down_add_up():
    metrics, total = Metrics(), Metrics()
    metrics.took("acme", 3, ())
    metrics.answered(200, 0.002, is_read=True)
    for _ in range(2):
        total.add(metrics.told(1, 0))
    text = total.text({}, {}, {})
    assert 'habitue_accepted_total{shop="acme"} 6' in text
    assert "habitue_read_seconds_count 2" in text


def workers(server) -> list[int]:
    """The processes that answer."""
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        pid for pid in map(int, children)
        if b"--answer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]  # fmt: skip


def answer(server, count: int) -> bool:
    """Whether so many processes live and have said that they answer."""
    living = workers(server)
    told = {one.pid for one in counted(server.workspace / "online")}
    return len(living) == count and told == set(living)


@pytest.mark.slow
def test_of_several_who_make_one_profile_at_once_one_makes_it(tmp_path):
    with running(tmp_path / "work", "--workers", "2") as server, ThreadPoolExecutor(6) as pool:
        def make(number: int) -> int:
            told = {"external_id": f"c{number}", "email": f"c{number}@example.com"}
            body = {"data": {"type": "profile", "attributes": told}}
            with server.client() as client:            # each on a connection of its own
                return client.post("/api/profiles", json=body).status_code

        for number in range(20):
            statuses = sorted(pool.map(make, 6 * [number]))
            assert statuses == [201, 409, 409, 409, 409, 409]


@pytest.mark.slow
def test_a_process_that_dies_under_load_costs_a_retry_and_no_acknowledged_event(tmp_path):
    with running(tmp_path / "work", "--workers", "2") as server:
        load = Load(server)
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(load.read), pool.submit(load.read)]
            done += [pool.submit(load.send, who) for who in range(2)]
            first = workers(server)
            for _ in range(2):
                time.sleep(1.0)
                os.kill(workers(server)[0], signal.SIGKILL)
                wait_for(lambda: answer(server, 2))
            time.sleep(1.0)
            load.over.set()
            for one in done:
                one.result(30)
        assert len(first) == 2
        assert load.failed == []
        assert load.reads > 100
        with server.client() as client:
            for receipt in load.receipts:
                told = settled(client, receipt)
                assert told["appended"] + told["duplicate"] == 1
        sent = len(load.receipts)
    shop = open_workspace(tmp_path / "work").shop("acme")
    (row,) = shop.query("SELECT count(*) AS n FROM events").to_pylist()
    assert row["n"] >= sent > 20           # what was not told of may be there, too


@pytest.mark.slow
def test_when_the_one_who_writes_is_killed_all_end_and_nothing_acknowledged_is_lost(tmp_path):
    server = start(tmp_path / "work", "--workers", "2")
    with server.client() as client:
        events = [{"name": "x", "customer": "c", "id": str(n)} for n in range(20)]
        receipts = [client.post("/v1/events", json=one).json()["id"] for one in events]
    living = workers(server)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(20)
    server.process.stdout.close()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in living))
    with running(tmp_path / "work") as again, again.client() as client:
        assert [settled(client, receipt)["appended"] for receipt in receipts] == [1] * 20


def test_several_processes_hold_one_limit_and_count_as_one(tmp_path):
    with running(tmp_path / "work", "--workers", "2") as server:
        directory = open_workspace(server.workspace).directory
        grant = Grant(limit=Limit(per_minute=10))
        _, plain = directory.issue_key("acme", "secret", now=utc_now(), grant=grant)
        while time.monotonic() % 60 > 50:  # a minute would end in between
            time.sleep(0.5)
        told = []
        for _ in range(20):                # each over a connection of its own
            with server.client(plain) as client:
                told.append(client.get("/v1/status").status_code)
        assert (told.count(200), told.count(429)) == (10, 10)
        with server.client(None) as anyone:
            wait_for(lambda: 'answers_total{status="429"} 10' in anyone.get("/metrics").text)
        held = server.workspace / "online" / "counted-0.json"
        assert held.exists()
    assert not held.exists()


def wait_for(is_so, *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
