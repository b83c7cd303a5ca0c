"""Copies of a workspace, put back, and a workspace of the first release brought up to this one."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

import habitue
from habitue import upkeep
from habitue.errors import BadWorkspace
from habitue.lake.eventlog.records import encode
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.marker import FORMAT, read_format
from tests.first_release import unpack
from tests.ingest.parts import orders as events_of
from tests.ingest.parts import part

NOW = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def first_release(tmp_path) -> Path:
    return unpack(tmp_path)


def orders(folder: Path, shop: str = "trial") -> tuple[int, int]:
    sql = "SELECT count(*) AS n, sum(value_minor)::BIGINT AS v FROM orders"
    found = read(Lake(folder / "lake"), sql, shop=shop)
    return found["n"][0].as_py(), found["v"][0].as_py()


def test_a_workspace_of_the_first_release_says_what_to_do(first_release):
    with pytest.raises(BadWorkspace, match="habitue upgrade"):
        habitue.open(first_release)


def test_an_upgraded_workspace_holds_what_it_held_and_takes_more(first_release):
    assert orders(first_release) == (148, 701476)
    assert upkeep.upgrade(first_release) == 1
    assert upkeep.upgrade(first_release) == FORMAT == read_format(first_release)
    assert orders(first_release) == (148, 701476)
    shop = habitue.open(first_release).shop("trial")
    assert shop.rejected().num_rows == 1
    assert shop.query("SELECT count(*) AS n FROM predictions")["n"][0].as_py() > 0
    assert shop.query("SELECT count(*) AS n FROM profiles")["n"][0].as_py() == 0
    shop.link("email:1", "c_1", now=NOW)
    assert shop.query("SELECT count(*) AS n FROM links")["n"][0].as_py() == 1
    assert "trial" in shop.workspace.directory.shops()


def test_a_folder_that_is_no_workspace_is_not_upgraded(tmp_path):
    with pytest.raises(BadWorkspace, match="no workspace"):
        upkeep.upgrade(tmp_path)


def test_a_copy_put_back_holds_lake_log_and_keys(first_release, tmp_path):
    upkeep.upgrade(first_release)
    workspace = habitue.open(first_release)
    _, plain = workspace.directory.issue_key("trial", "secret", now=NOW)
    log = workspace.log
    log.append(0, [encode(part("r1", *events_of(1)))])
    copy, folder = tmp_path / "copy", tmp_path / "back"
    made = upkeep.backup(first_release, copy, now=NOW)     # beside a log that is open
    log.append(0, [encode(part("r2", *events_of(2)))])
    log.close()
    assert made.files > 10
    upkeep.restore(copy, folder)
    back = habitue.open(folder)
    assert orders(folder) == orders(first_release)
    assert back.directory.key_for(plain) is not None
    assert back.directory.path.stat().st_mode & 0o077 == 0
    copied = back.log
    assert [record.offset for record in copied.read(0, 0)] == [0]
    copied.close()


def test_half_a_copy_is_not_put_back(first_release, tmp_path):
    upkeep.upgrade(first_release)
    upkeep.backup(first_release, tmp_path / "copy", now=NOW)
    (tmp_path / "copy" / upkeep.BACKUP_FILE).unlink()
    with pytest.raises(BadWorkspace, match="no whole copy"):
        upkeep.restore(tmp_path / "copy", tmp_path / "back")


def test_neither_copy_nor_restore_writes_over_anything(first_release, tmp_path):
    upkeep.upgrade(first_release)
    upkeep.backup(first_release, tmp_path / "copy", now=NOW)
    with pytest.raises(BadWorkspace, match="not empty"):
        upkeep.backup(first_release, tmp_path / "copy", now=NOW)
    with pytest.raises(BadWorkspace, match="not empty"):
        upkeep.restore(tmp_path / "copy", first_release)


def test_a_copied_database_is_whole(first_release, tmp_path):
    upkeep.upgrade(first_release)
    upkeep.backup(first_release, tmp_path / "copy", now=NOW)
    for path in (tmp_path / "copy").rglob("*.sqlite"):
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_nobody_but_the_owner_enters_a_workspace_or_a_copy(first_release, tmp_path):
    first_release.chmod(0o755)
    upkeep.upgrade(first_release)
    upkeep.backup(first_release, tmp_path / "copy", now=NOW)
    upkeep.restore(tmp_path / "copy", tmp_path / "back")
    habitue.open(tmp_path / "new")
    for folder in (first_release, tmp_path / "copy", tmp_path / "back", tmp_path / "new"):
        assert folder.stat().st_mode & 0o077 == 0, folder
