"""Every problem that the doctor knows is made to happen, and told with what to do about it."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from habitue.config import utc_now
from habitue.directory import ERASURE, Directory, Job
from habitue.lake.eventlog.records import Part, encode
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.tables import usual_settings
from habitue.scoring.told import SCORING_FILE, ScoringTold
from habitue.serving.app import Place
from habitue.serving.beside.overview import Overview
from habitue.serving.beside.settlement import PROGRESS_FILE, Progress
from habitue.serving.doctor import machine, service
from habitue.serving.doctor.examine import is_well, of_machine, of_service
from habitue.workspace import open_workspace
from tests.serving.small import running, settled

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)
GB = 1_000_000_000
WELL = Overview(
    address="http://127.0.0.1:1", seconds_up=1.0, rows_per_second=0.0, committed_per_second=0.0,
    lag_seconds=0.0, log_rows=0, log_bytes=0, last_commit=None, appended=0, duplicate=0, files=0,
    small_files=0, failure=None, shops=(), scoring=(),
)  # fmt: skip


@pytest.fixture
def place(tmp_path):
    workspace = open_workspace(tmp_path / "work")
    (tmp_path / "work" / "online").mkdir(mode=0o700)
    with contextlib.closing(workspace.log) as log:
        yield Place(
            path=workspace.path, log=log, directory=workspace.directory,
            lake=lambda: workspace.lake,
        )  # fmt: skip


def states(findings) -> dict[str, str]:
    return {one.check: one.state for one in findings}


def received(at: datetime) -> bytes:
    return encode(
        Part(receipt="r", shop="acme", source="native", origin="/", received=at, entries=())
    )


def test_a_new_workspace_is_well(place):
    findings = [*of_machine(place.path, os.getuid()), *of_service(place)]
    wanted = dict.fromkeys(
        ["format", "versions", "permissions", "server", "clock", "committer", "live", "scorer",
         "log", "lake", "files", "erasures"], "ok",
    )  # fmt: skip
    told = states(findings)
    assert told.pop("disk") in ("ok", "warning", "problem")      # of this machine
    assert told == wanted
    assert not [one for one in findings if one.hint and one.state == "ok"]


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [(100 * GB, 200 * GB, "ok"), (4 * GB, 20 * GB, "warning"), (40 * GB, 1_000 * GB, "warning"),
     (GB // 10, 10 * GB, "problem"), (5 * GB, 1_000 * GB, "problem")],
)  # fmt: skip
def test_a_disk_that_fills_up_is_told_before_it_is_full(free, total, state):
    assert machine.disk(free, total).state == state


def test_a_clock_that_was_put_back_or_differs_from_the_disks_is_told(place):
    assert machine.clock(100.0, 100.5, [("x", 99.0)]).state == "ok"
    assert machine.clock(100.0, 110.0, []).state == "warning"
    assert machine.clock(100.0, 200.0, []).state == "problem"
    place.log.append(0, [received(utc_now() + timedelta(hours=1))])
    told = {one.check: one for one in of_service(place)}["clock"]
    assert told.state == "problem"
    assert "the log's last request is 3,600 s in the future" in told.told.replace("599", "600")


def test_an_event_of_the_future_in_the_live_profiles_is_told(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        sent = {"name": "x", "customer": "c"}
        settled(client, client.post("/v1/events", json=sent).json()["id"])
    path = tmp_path / "work" / "online" / "profiles.sqlite"
    with sqlite3.connect(path) as connection:
        later = int((time.time() + 7200) * 1e6)
        connection.execute("UPDATE keys SET last_event = ?", (later,))
    connection.close()
    workspace = open_workspace(tmp_path / "work")
    with contextlib.closing(workspace.log) as log:
        place = Place(
            path=workspace.path, log=log, directory=workspace.directory,
            lake=lambda: workspace.lake,
        )  # fmt: skip
        told = {one.check: one for one in of_service(place)}["clock"]
    assert (told.state, told.told[:28]) == ("problem", "what came last of a customer")


def test_packages_that_are_missing_or_of_another_version_are_named():
    def version_of(name: str) -> str:
        if name == "lost":
            raise metadata.PackageNotFoundError(name)
        return {"old": "1.9", "fine": "2.10.1"}[name]

    told = machine.versions(["old>=2,<3", "lost", "fine>=2.9,<3"], version_of, (3, 11, 2))
    assert (told.state, told.told) == ("problem", "old 1.9 is not >=2,<3, lost is missing")
    assert machine.versions(["fine[x]<3,>=2.9"], version_of, (3, 11, 2)).state == "ok"
    assert "3.10 is below" in machine.versions([], version_of, (3, 10, 1)).told


def test_a_folder_that_others_can_read_is_a_problem(place):
    place.directory.shop("acme", create=True)
    assert machine.privacy(place.path, os.getuid()).state == "ok"
    assert "belongs to another user" in machine.privacy(place.path, os.getuid() + 1).told
    place.online.chmod(0o755)
    told = machine.privacy(place.path, os.getuid())
    assert (told.state, told.told) == ("problem", "online can be entered or read by others")


def test_processes_that_should_answer_and_do_not_are_told():
    assert service.server(replace(WELL, address=None), 0).told == "none runs"
    assert service.server(WELL, 0).state == "ok"
    four = replace(WELL, workers=4)
    assert service.server(four, 4).state == "ok"
    told = service.server(four, 3)
    assert told.state == "warning"
    assert told.told.endswith("3 of 4 processes answer")


def test_a_committer_that_fails_is_silent_or_late_is_a_problem():
    told = Progress(pid=1, time=1000.0)
    assert service.committer(WELL, told, 1001.0).state == "ok"
    assert service.committer(WELL, told, 1060.0).state == "problem"
    assert service.committer(replace(WELL, failure="disk full"), told, 1001.0).state == "problem"
    assert service.committer(replace(WELL, lag_seconds=20), told, 1001.0).state == "warning"
    assert service.committer(replace(WELL, lag_seconds=200), told, 1001.0).state == "problem"
    stopped = replace(WELL, address=None, log_rows=3)
    assert service.committer(stopped, told, 9999.0).state == "warning"


def test_a_log_that_nobody_follows_is_told_with_how_to_settle_it(place):
    place.log.append(0, [received(utc_now())])
    told = {one.check: one for one in of_service(place)}
    assert told["committer"].state == "warning"
    assert "habitue follow" in told["committer"].hint


@pytest.mark.parametrize("how", ["gone", "cut", "other"])
def test_a_file_of_the_lake_that_cannot_be_opened_is_named(place, how):
    place.lake().begin("acme", utc_now())
    place.lake().append({"shops": usual_settings({"other": utc_now()})})
    broken = Path(place.lake().files("shops")[0])
    assert states(of_service(place))["files"] == "ok"
    match how:
        case "gone":
            broken.unlink()
        case "cut":
            broken.write_bytes(broken.read_bytes()[:-1])
        case "other":
            broken.write_bytes(b"no Parquet" * 100)
    told = {one.check: one for one in of_service(place)}["files"]
    assert told.state == "problem"
    assert told.told == f"1 of 2 files of the lake cannot be opened: {broken}"
    assert "habitue restore" in told.hint


def test_a_failure_of_the_committer_is_read_from_what_it_wrote_down(place):
    progress = Progress(pid=1, time=time.time(), failure="no space left")
    (place.online / PROGRESS_FILE).write_bytes(msgspec.json.encode(progress))
    told = {one.check: one for one in of_service(place)}["committer"]
    assert (told.state, told.told) == ("problem", "cannot go on: no space left")


def test_live_profiles_and_scores_that_are_late_are_told(place):
    late = service.LiveState(waiting=5, lag_seconds=300.0, newest=None)
    assert service.live(WELL, late).state == "problem"
    assert service.live(WELL, None).state == "ok"
    assert service.live(replace(WELL, address=None), late).state == "warning"
    assert service.scorer((), 60.0, WELL).state == "warning"
    (place.online / SCORING_FILE).write_bytes(
        msgspec.json.encode(
            ScoringTold(time=time.time(), scored=0, shops={}, not_yet={"acme": "too little"})
        )
    )
    told = {one.check: one for one in of_service(place)}["scorer"]
    assert (told.state, told.told) == ("ok", "0.0 s behind, 1 shops without a forecast yet")


def test_live_profiles_wait_by_what_the_log_holds(tmp_path):
    path = tmp_path / "profiles.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cursors (shard, next)")
        connection.execute("CREATE TABLE keys (last_event, updated)")
    connection.close()
    with contextlib.closing(SqliteLog(tmp_path / "log", shards=1)) as log:
        log.append(0, [received(NOW), received(NOW)])
        found = service.live_state(path, log, NOW.timestamp() + 30)
    assert (found.waiting, found.lag_seconds) == (2, 30.0)


def test_a_long_log_many_small_files_and_no_checkpoint_are_told():
    assert service.backlog(20_000, 10, GB).state == "warning"
    assert service.backlog(2_000_000, 10, GB).state == "problem"
    assert service.backlog(1, 2 * GB, GB).state == "problem"
    assert service.files(10, 5, ("events", 20)).state == "ok"
    assert service.files(10_000, 600, ("events", 20)).state == "warning"
    assert service.files(10_000, 9_000, ("events", 20)).state == "problem"
    assert service.files(10, 5, ("events", 2_000)).state == "problem"


def test_an_erasure_that_takes_more_than_an_hour_is_a_problem(tmp_path):
    directory = Directory(tmp_path / "directory.sqlite")
    job = Job(id="er_1", shop="acme", kind=ERASURE, status="queued", created=NOW, updated=NOW)
    directory.put_job(job)
    jobs = directory.open_jobs(ERASURE)
    assert service.erasures(jobs, NOW + timedelta(minutes=59)).state == "ok"
    assert service.erasures(jobs, NOW + timedelta(minutes=61)).state == "problem"


def test_what_cannot_be_looked_at_is_a_problem_and_the_rest_is_looked_at(place):
    (place.online / "profiles.sqlite").write_bytes(b"no database" * 100)
    told = states(of_service(place))
    assert (told["live"], told["lake"]) == ("problem", "ok")


def doctor(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "habitue.cli.app", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_exits_with_1_where_a_problem_stands(tmp_path):
    folder = tmp_path / "work"
    open_workspace(folder)
    (folder / "habitue-format").write_text("99\n")
    done = doctor("--workspace", str(folder), "--json")
    told = {one["check"]: one for one in json.loads(done.stdout)}
    assert (done.returncode, told["format"]["state"]) == (1, "problem")
    assert told["format"]["hint"] == "install a newer habitue"
    assert doctor("--workspace", str(tmp_path / "none")).returncode == 2


def test_beside_a_running_server_all_is_well_and_it_is_named(tmp_path):
    with running(tmp_path / "work") as server, server.client() as client:
        sent = {"name": "x", "customer": "c"}
        settled(client, client.post("/v1/events", json=sent).json()["id"])
        done = doctor("--workspace", str(server.workspace))
    lines = [line for line in done.stdout.splitlines() if "disk" not in line]
    assert any(line.startswith(f"ok      server      {server.url}") for line in lines)
    assert not [line for line in lines if line.startswith("problem")], done.stdout
    assert is_well([])
