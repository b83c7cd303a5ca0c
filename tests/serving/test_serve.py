"""`habitue serve` as it is run: starts quickly, ends in order, dies without loss, starts again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from habitue import privacy
from habitue.config import utc_now
from habitue.serving.beside.worker import Beside, Worker
from habitue.workspace import open_workspace
from tests.lake.small import event, filled
from tests.serving.small import running, settled, start

EVENT = {"name": "x", "customer": "c"}


def count(workspace: Path) -> tuple[int, int]:
    """Events in the lake, and how many of them are different."""
    sql = "SELECT count(*) AS events, count(DISTINCT digest) AS different FROM events"
    (row,) = open_workspace(workspace).shop("acme").query(sql).to_pylist()
    return row["events"], row["different"]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def worker_of(workspace: Path) -> int:
    """The process id of the worker, as soon as it has told something."""
    path = workspace / "online" / "progress.json"
    until(path.exists)
    return json.loads(path.read_text())["pid"]


@pytest.mark.slow
def test_an_erasure_that_is_asked_for_beside_the_service_completes_there(tmp_path):
    told = [
        EVENT | {"id": who, "customer": who, "time": "2026-01-05T10:00:00Z"}
        for who in ("ada", "bo")
    ]
    with running(tmp_path / "work") as server:
        workspace = open_workspace(server.workspace)
        with server.client() as client:
            settled(client, client.post("/v1/events", json=told).json()["id"])
            privacy.request(workspace.places, "acme", ["ada"], now=utc_now())
            until(lambda: not privacy.pending(workspace.places), 40)
            for path in (server.workspace / "log").rglob("*.sqlite*"):
                assert b"ada" not in path.read_bytes()
            again = settled(client, client.post("/v1/events", json=told).json()["id"])
        assert (again["appended"], again["duplicate"], again["rejected"]) == (0, 1, 1)
        customers = workspace.shop("acme").query("SELECT customer FROM events")["customer"]
        assert customers.to_pylist() == ["bo"]


def test_whatever_fails_in_a_thread_beside_is_tried_again():
    steps, healed = iter([ValueError("torn"), KeyError("gone"), None]), threading.Event()

    def step() -> bool:
        failure = next(steps, None)
        if failure is not None:
            raise failure
        healed.set()
        return False

    thread = Beside("testing", step, pause_seconds=0.001)
    assert healed.wait(10)
    thread.end()


def test_who_waits_to_be_erased_is_erased_before_files_are_merged(tmp_path):
    workspace = open_workspace(tmp_path / "work")
    lake = workspace.lake
    for number in range(9):
        filled(lake, event(str(number), 0))
    privacy.request(workspace.places, "acme", ["c1"], now=utc_now())
    waiting = SimpleNamespace(lake=lake, places=workspace.places)
    assert not Worker._tidy(waiting)
    for job in privacy.pending(workspace.places):
        privacy.advance(workspace.places, job, now=utc_now())
    assert Worker._tidy(waiting)


def test_what_was_acknowledged_is_settled_when_the_server_ends_in_order(tmp_path):
    server = start(tmp_path / "work", "--pace", "3600")
    with server.client() as client:
        for number in range(30):
            client.post("/v1/events", json=EVENT | {"id": str(number)}).raise_for_status()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    assert count(server.workspace) == (30, 30)


def test_a_repeat_is_counted_as_one_and_a_receipt_outlives_the_server(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        first = client.post("/v1/events", json=EVENT | {"id": "1"}).json()["id"]
        again = client.post("/v1/events", json=EVENT | {"id": "1"}).json()["id"]
        assert settled(client, first)["appended"] == 1
        assert settled(client, again)["duplicate"] == 1
    with running(tmp_path / "work") as server, server.client() as client:
        assert settled(client, again)["duplicate"] == 1
        status = client.get("/v1/status").json()
        assert status["commit_lag_seconds"] < 20
    assert count(tmp_path / "work") == (1, 1)


def test_a_killed_server_takes_its_worker_along_and_loses_nothing(tmp_path):
    server = start(tmp_path / "work", "--pace", "3600")
    pid = worker_of(server.workspace)
    with server.client() as client:
        for number in range(20):
            client.post("/v1/events", json=EVENT | {"id": str(number)}).raise_for_status()
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()
    until(lambda: not is_alive(pid))
    with running(tmp_path / "work") as server, server.client() as client:
        last = client.post("/v1/events", json=EVENT | {"id": "last"}).json()["id"]
        settled(client, last)
    assert count(tmp_path / "work") == (21, 21)


def test_a_worker_that_dies_is_started_again(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        pid = worker_of(server.workspace)
        os.kill(pid, signal.SIGKILL)
        receipt = client.post("/v1/events", json=EVENT).json()["id"]
        assert settled(client, receipt)["appended"] == 1
        assert worker_of(server.workspace) != pid


@pytest.mark.parametrize("fault", ["serve.before_flush:3", "serve.after_flush:3"])
def test_a_crash_around_a_flush_loses_nothing_that_was_acknowledged(tmp_path, fault):
    server = start(tmp_path / "work", fault=fault)
    sent, acknowledged = 0, 0
    with server.client() as client, pytest.raises(Exception, match=r"disconnected|reset|refused"):
        while True:
            client.post("/v1/events", json=EVENT | {"id": str(sent)})
            acknowledged += 1
            sent += 1
    assert server.process.wait(10) == -signal.SIGKILL
    server.process.stdout.close()
    assert acknowledged == 2
    with running(tmp_path / "work") as server, server.client() as client:
        receipt = client.post("/v1/events", json=EVENT | {"id": str(sent)}).json()["id"]
        told = settled(client, receipt)
    # the flush that was not acknowledged may be there or not; sending again makes it one
    assert told["appended"] == (1 if "before" in fault else 0)
    assert count(tmp_path / "work") == (3, 3)


def test_clients_that_send_again_get_through_a_restart_with_each_event_once(tmp_path):
    server = start(tmp_path / "work")
    holder = [server]
    ended = threading.Event()

    def is_sent(event: dict) -> bool:
        try:
            with holder[0].client() as client:
                return client.post("/v1/events", json=event, timeout=5).status_code == 202
        except httpx.HTTPError:
            return False

    def send(name: str) -> None:
        for number in range(40):
            while not is_sent(EVENT | {"id": f"{name}-{number}"}):
                assert not ended.is_set()
                time.sleep(0.05)

    senders = [threading.Thread(target=send, args=(name,)) for name in "ab"]
    for thread in senders:
        thread.start()
    time.sleep(0.4)
    assert server.stop() == 0
    holder[0] = start(tmp_path / "work")
    for thread in senders:
        thread.join(60)
    ended.set()
    assert holder[0].stop() == 0
    assert count(tmp_path / "work") == (80, 80)


def test_a_second_server_of_a_workspace_says_that_there_is_one(tmp_path):
    with running(tmp_path / "work") as server:
        command = [sys.executable, "-m", "habitue.cli.app", "serve", "--port", "0"]
        second = subprocess.run(
            [*command, "--workspace", str(server.workspace)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert second.returncode == 1
    assert "served by another process" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_new_shop_is_shown_its_keys_once_and_nobody_else_is(tmp_path):
    command = [sys.executable, "-m", "habitue.cli.app", "serve", "--port", "0", "--json"]
    shown = []
    for _ in range(2):
        process = subprocess.Popen(
            [*command, "--workspace", str(tmp_path / "work"), "--shop", "acme"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        told = json.loads(process.stdout.readline())
        shown.append(told["keys"])
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert not any(key in errors for key in shown[0].values())
    assert set(shown[0]) == {"public", "secret"}
    assert shown[1] == {}
    log = b"".join(
        path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()
    )
    assert not any(key.encode() in log for key in shown[0].values())


def test_following_alone_settles_what_a_killed_server_left(tmp_path):
    server = start(tmp_path / "work", "--pace", "3600")
    with server.client() as client:
        client.post("/v1/events", json=EVENT).raise_for_status()
    server.process.kill()
    server.process.wait()
    server.process.stdout.close()
    command = [sys.executable, "-m", "habitue.cli.app", "follow"]
    subprocess.run([*command, "--workspace", str(server.workspace)], check=True)
    assert count(server.workspace) == (1, 1)


def test_a_log_that_cannot_be_written_answers_503_and_heals(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        client.post("/v1/events", json=EVENT | {"id": "1"}).raise_for_status()
        folder = server.workspace / "log"
        moved = folder.rename(server.workspace / "away")
        folder.write_text("a file where the folder was")
        refused = client.post("/v1/events", json=EVENT | {"id": "2"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        folder.unlink()
        moved.rename(folder)
        until(lambda: client.post("/v1/events", json=EVENT | {"id": "2"}).status_code == 202)
    assert count(tmp_path / "work") == (2, 2)


def test_a_log_that_was_removed_goes_on_where_the_lake_stands(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        first = client.post("/v1/events", json=EVENT | {"id": "1"}).json()["id"]
        settled(client, first)
    shutil.rmtree(tmp_path / "work" / "log")
    with running(tmp_path / "work") as server, server.client() as client:
        second = client.post("/v1/events", json=EVENT | {"id": "2"}).json()["id"]
        assert settled(client, second)["appended"] == 1
    assert count(tmp_path / "work") == (2, 2)


def resident_mb(pid: int) -> float:
    """Memory that a process holds now."""
    held = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(held[1]) / 1024


@pytest.mark.slow
def test_an_upload_of_a_hundred_megabytes_takes_no_memory_of_its_size(tmp_path):
    properties = '"properties": {"text": "' + "a" * 460 + '"}'
    line = '{"name": "x", "customer": "c%d", "id": "%d", ' + properties + "}\n"

    def upload():
        for begin in range(0, 200_000, 200):
            yield "".join(line % (at % 5_000, at) for at in range(begin, begin + 200)).encode()

    with running(tmp_path / "work") as server, server.client() as client:
        time.sleep(4)                      # until what is loaded late is loaded
        before = resident_mb(server.process.pid)
        kind = {"Content-Type": "application/x-ndjson"}
        told = client.post("/v1/events", content=upload(), headers=kind, timeout=600).json()
        assert (told["accepted"], told["rejected_in_all"]) == (200_000, 0)
        assert resident_mb(server.process.pid) - before < 60
        assert settled(client, told["id"], within_seconds=300)["appended"] == 200_000


def test_what_was_not_taken_is_told_in_pages(tmp_path):
    with running(tmp_path) as server, server.client() as client:
        for sent in ([{"name": ""}] * 3, [{"name": "x", "time": "soon"}] * 2):
            told = client.post("/v1/events", json=sent).json()
            settled(client, told["id"])
        page = client.get("/v1/rejected", params={"limit": 2}).json()
        assert sum(page["reasons"].values()) == 5
        found = page["rejected"]
        while page["next"]:
            page = client.get(page["next"]).raise_for_status().json()
            found += page["rejected"]
        places = [(one["receipt"], one["position"]) for one in found]
        assert len(places) == len(set(places)) == 5
        times = [one["received"] for one in found]
        assert times == sorted(times, reverse=True)
        (reason, count), *_ = page["reasons"].items()
        some = client.get("/v1/rejected", params={"limit": 1, "reason": reason}).json()
        for _ in range(count - 1):
            some = client.get(some["next"]).json()
            assert [one["reason"] for one in some["rejected"]] == [reason]
        assert some["next"] is None
        refused = client.get("/v1/rejected", params={"cursor": "x"})
        assert refused.json()["errors"][0]["parameter"] == "cursor"
