"""What the log does when its disk is full, read-only or damaged: nothing acknowledged is lost."""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from habitue.errors import LogUnavailable
from habitue.lake.eventlog import segmentfile
from habitue.lake.eventlog.segments import UNKNOWN_ROWS, SqliteLog

log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")                  # where a thousand copies cost little


def newest(path: Path) -> Path:
    return segmentfile.segments(path / "shard-000")[-1]


def beside(segment: Path, ending: str) -> Path:
    return segment.with_name(segment.name + ending)


def bodies(path: Path, offset: int = 0) -> list[bytes]:
    """What a fresh reader finds."""
    with closing(SqliteLog(path)) as log:
        return [record.body for record in log.read(0, offset)]


def numbered(*numbers: int) -> list[bytes]:
    return [b"row %d" % number for number in numbers]


@contextmanager
def crashed(path: Path, batches: list[list[bytes]]):
    """A log as a kill leaves it: its last rows in the WAL only. A copy, without -shm."""
    live = path / "live"
    with closing(SqliteLog(live)) as log:
        for batch in batches:
            log.append(0, batch)
        copy = path / "crashed"
        shutil.copytree(live, copy, ignore=shutil.ignore_patterns("*-shm"))
    yield copy


# ---- a disk that is full, or takes no writing ------------------------------------------------

FILL = """
import json, resource, signal, sys
from pathlib import Path
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.segments import SqliteLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, most = Path(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
log, told, refused = SqliteLog(path), [], []
attempt = 0

def append(size):
    global attempt
    attempt += 1
    batch = [b"%06d" % attempt + b"x" * size, b"%06d" % attempt + b"y" * size]
    try:
        told.extend([offset, attempt] for offset in log.append(0, batch))
    except LogUnavailable as error:
        refused.append([attempt, str(error)])

append(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
while len(refused) < 3:
    append(20_000)
append(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for _ in range(5):
    append(20_000)
print(json.dumps([told, refused]))
"""


@pytest.mark.parametrize("most", [150_000, 100_001, 4_500_000])
def test_a_full_disk_refuses_whole_appends_and_is_used_again_when_there_is_room(tmp_path, most):
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path), str(most)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )
    told, refused = json.loads(done.stdout)
    assert len(refused) >= 3
    assert all("cannot be appended to" in message for _, message in refused)
    assert told[-1][1] > refused[-1][0]                # it went on after the disk had room
    with closing(SqliteLog(tmp_path)) as log:
        found = log.read(0, 0, most_bytes=10**9)
    assert [[record.offset, int(record.body[:6])] for record in found] == told


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_tiny_disk_that_fills_up_gives_back_what_it_acknowledged(tiny_disk):
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    told: list[int] = []
    with closing(SqliteLog(tiny_disk / "log")) as log:
        with pytest.raises(LogUnavailable, match=r"full|disk I/O error"):
            while True:
                told += log.append(0, [b"%d" % len(told), b"x" * 3_000])
        assert [record.offset for record in log.read(0, 0)] == told
        ballast.unlink()
        told += log.append(0, [b"%d" % len(told), b"x" * 3_000])
        assert [record.offset for record in log.read(0, 0)] == told == list(range(len(told)))


SHIM = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int flushed(void) {
    if (access(getenv("BROKEN_DISK"), F_OK)) return 0;
    errno = EIO;
    return -1;
}
int fsync(int file) { return flushed(); }
int fdatasync(int file) { return flushed(); }
"""
FAIL_TO_FLUSH = """
import os, shutil, sys
from pathlib import Path
from habitue.errors import LogUnavailable
from habitue.lake.eventlog import segmentfile
from habitue.lake.eventlog.segments import SqliteLog

def bodies(path):
    return b"".join(record.body[:1] for record in SqliteLog(path).read(0, 0)).decode()

segmentfile.WAL_PAGES = 20
folder, broken, before = Path(sys.argv[1]), Path(os.environ["BROKEN_DISK"]), int(sys.argv[2])
log = SqliteLog(folder / "log")
for _ in range(before):
    log.append(0, [b"a"])
for turn in range(2):
    broken.touch()
    try:
        log.append(0, [b"never", b"x" * 9_000])
    except LogUnavailable as error:
        assert "disk I/O error" in str(error), error
    copy = folder / f"copy{turn}"
    shutil.copytree(log.path, copy, ignore=shutil.ignore_patterns("*-shm"))
    print(bodies(copy), bodies(log.path))
    broken.unlink()
    log.append(0, [b"b"])
print(bodies(log.path))
"""


@pytest.fixture
def environment_of_a_broken_disk(tmp_path):
    """Where each flush fails while a file exists; the rows are written all the same."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "shim.c").write_text(SHIM)
    library = tmp_path / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "shim.c")]
    subprocess.run(command, check=True)
    told = {"LD_PRELOAD": str(library), "BROKEN_DISK": str(tmp_path / "broken")}
    return {**os.environ, **told}


@pytest.mark.parametrize("before", [1, 9, 10, 11, 12, 30, 200])
def test_an_append_that_was_written_but_not_flushed_never_becomes_visible(
    tmp_path, environment_of_a_broken_disk, before
):
    done = subprocess.run(
        [sys.executable, "-c", FAIL_TO_FLUSH, str(tmp_path), str(before)],
        capture_output=True, text=True, cwd=ROOT, env=environment_of_a_broken_disk,
    )
    assert not done.stderr
    kept = "a" * before
    assert done.stdout.splitlines() == [f"{kept} {kept}", f"{kept}b {kept}b", f"{kept}bb"]


class Unlucky:
    """A connection that fails when it is told to commit."""

    def __init__(self, connection, statement, error):
        self._connection, self._statement, self._error = connection, statement, error

    def execute(self, statement, *values):
        if statement == self._statement:
            raise self._error
        return self._connection.execute(statement, *values)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("gone")])
def test_an_append_that_failed_never_becomes_visible(tmp_path, error):
    path = tmp_path / "log"
    with closing(SqliteLog(path)) as log:
        log.append(0, numbered(0))
        writer = log._writers[0]
        writer.connection = Unlucky(writer.connection, "COMMIT", error)
        with pytest.raises((KeyboardInterrupt, LogUnavailable)):
            log.append(0, numbered(-1))
        assert (bodies(path), log.end(0)) == (numbered(0), 1)
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)                    # as if killed right after the failure
        assert bodies(copy) == numbered(0)
        assert log.append(0, numbered(1)) == range(1, 2)
    assert bodies(path) == numbered(0, 1)


READ_ONLY = """
import os, sys
from pathlib import Path
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.segments import SqliteLog
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
log = SqliteLog(Path(sys.argv[1]))
try:
    print(log.append(0, [b"never"]))
except LogUnavailable as error:
    print(error)
print([record.body for record in log.read(0, 0)])
"""


@contextmanager
def read_only(folder: Path):
    """A folder that nobody can write, its files included."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in reversed(paths):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in paths:
            path.chmod(modes[path])


@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_a_read_only_folder_refuses_appends_and_is_read(ending):
    with tempfile.TemporaryDirectory() as name:        # others may enter, unlike pytest's own
        folder = Path(name)
        folder.chmod(0o755)
        with closing(SqliteLog(folder / "log")) as log:
            log.append(0, numbered(0, 1))
            if ending == "killed":
                shutil.copytree(folder / "log", folder / "copy")
        target = folder / ("copy" if ending == "killed" else "log")
        with read_only(target):
            done = subprocess.run(
                [sys.executable, "-c", READ_ONLY, str(target)],
                capture_output=True, text=True, cwd=ROOT,
            )
        assert not done.stderr
        refused, rows = done.stdout.splitlines()
        assert "cannot be appended to" in refused
        assert rows == str(numbered(0, 1))
        with closing(SqliteLog(target)) as log:
            assert log.append(0, numbered(2)) == range(2, 3)


# ---- damage ----------------------------------------------------------------------------------


@contextmanager
def scratch():
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def torn_at(before: bytes, after: bytes, cut: int) -> set[bytes]:
    """A WAL of which an append wrote the first `cut` bytes: it ends there, or is older there."""
    return {after[:cut], after[:cut] + before[cut:]}


@pytest.mark.parametrize(
    "every", [41, pytest.param(1, marks=pytest.mark.slow)], ids=["some bytes", "every byte"]
)
@pytest.mark.parametrize("reused", [False, True], ids=["fresh WAL", "reused WAL"])
def test_a_wal_torn_in_its_last_append_keeps_all_earlier_ones(reused, every, monkeypatch):
    monkeypatch.setattr(segmentfile, "WAL_PAGES", 20)
    last = [b"last", b"x" * 5_000]
    with scratch() as folder, closing(SqliteLog(folder / "log")) as writer:
        for number in range(31 if reused else 3):
            writer.append(0, numbered(number))
        kept = bodies(writer.path)
        wal = beside(newest(writer.path), "-wal")
        before = wal.read_bytes()
        writer.append(0, last)
        after = wal.read_bytes()
        assert (len(before) == len(after)) is reused
        copy = folder / "copy"
        shutil.copytree(writer.path, copy)
        written = [n for n in range(len(after)) if before[n : n + 1] != after[n : n + 1]]
        ends = [0, 0]                                  # appends that were lost, and that were whole
        for cut in [*range(written[0], written[-1], every), written[-1] + 1]:
            for torn in torn_at(before, after, cut):
                beside(newest(copy), "-shm").unlink(missing_ok=True)
                beside(newest(copy), "-wal").write_bytes(torn)
                found = bodies(copy)
                assert found in (kept, kept + last), cut
                ends[len(found) > len(kept)] += 1
    log.info("torn=%d lost_the_append=%d kept_it=%d", sum(ends), *ends)
    assert min(ends) > 0


@pytest.mark.parametrize("garbage", [b"\xff" * 5_000, os.urandom(9_000), b"\0" * 70_000])
def test_garbage_after_the_end_of_the_wal_changes_nothing(tmp_path, garbage):
    with crashed(tmp_path, [numbered(0), numbered(1, 2)]) as path:
        with beside(newest(path), "-wal").open("ab") as wal:
            wal.write(garbage)
        assert bodies(path) == numbered(0, 1, 2)
        with closing(SqliteLog(path)) as log:
            assert log.append(0, numbered(3)) == range(3, 4)
        assert bodies(path) == numbered(0, 1, 2, 3)


def test_a_wal_whose_last_append_is_garbage_keeps_all_earlier_ones(tmp_path):
    with crashed(tmp_path, [numbered(n) for n in range(5)]) as path:
        wal = beside(newest(path), "-wal")
        whole = wal.read_bytes()
        wal.write_bytes(whole[:-2_000] + b"\xa5" * 2_000)
        assert bodies(path) == numbered(0, 1, 2, 3)


def test_a_reader_that_had_read_the_lost_end_is_told_before_and_skips_nothing_after(tmp_path):
    with crashed(tmp_path, [numbered(n) for n in range(5)]) as path:
        beside(newest(path), "-wal").write_bytes(b"")
        with closing(SqliteLog(path)) as log:
            with pytest.raises(LogUnavailable, match="gone"):
                log.read(0, 5)
            log.rotate(0, at=5)
            assert log.append(0, numbered(5)) == range(5, 6)
            assert [record.body for record in log.read(0, 5)] == numbered(5)


def intact(path: Path) -> int:
    """How many rows are read before the log refuses; each is what was written."""
    offset = 0
    with closing(SqliteLog(path)) as log, contextlib.suppress(LogUnavailable):
        while rows := log.read(0, offset):
            for row in rows:
                assert (row.offset, row.body) == (offset, b"%04d " % offset + b"x" * 500)
                offset += 1
    return offset


def test_damaged_rows_are_refused_and_never_invented(tmp_path):
    path = tmp_path / "log"
    with closing(SqliteLog(path)) as log:
        for number in range(200):
            log.append(0, [b"%04d " % number + b"x" * 500])
    segment = newest(path)
    whole = segment.read_bytes()
    read = []
    for place in range(0, len(whole), 1_501):
        segment.write_bytes(whole[:place] + b"\xa5" * 300 + whole[place + 300 :])
        for ending in ("-wal", "-shm"):
            beside(segment, ending).unlink(missing_ok=True)
        read.append(intact(path))
    assert sum(rows < 200 for rows in read) > 60
    assert sum(read) > 1_000


def test_damage_in_an_old_segment_leaves_the_newer_ones_usable(tmp_path):
    with closing(SqliteLog(tmp_path)) as log:
        log.append(0, numbered(0, 1))
        log.rotate(0)
        log.append(0, numbered(2))
        old = segmentfile.segments(tmp_path / "shard-000")[0]
        old.write_bytes(b"\xa5" * old.stat().st_size)
        with pytest.raises(LogUnavailable, match="cannot be read"):
            log.read(0, 0)
        assert log.append(0, numbered(3)) == range(3, 4)
        assert [record.body for record in log.read(0, 2)] == numbered(2, 3)
        assert log.trim(0, 2) == 2


def test_a_damaged_newest_segment_refuses_appends(tmp_path):
    with closing(SqliteLog(tmp_path)) as log:
        log.append(0, numbered(0, 1))
    newest(tmp_path).write_bytes(b"\xa5" * newest(tmp_path).stat().st_size)
    with closing(SqliteLog(tmp_path)) as log, pytest.raises(LogUnavailable, match="appended to"):
        log.append(0, numbered(2))


@pytest.mark.parametrize(
    "content", [b"", b"SQLite format 3\0", None], ids=["empty", "magic", "page"]
)
def test_a_segment_that_was_only_half_made_is_replaced(tmp_path, content):
    with closing(SqliteLog(tmp_path)) as log:
        log.append(0, numbered(0, 1))
    folder = tmp_path / "shard-000"
    header = newest(tmp_path).read_bytes()[:4_096]
    segmentfile.named(folder, 2).write_bytes(header if content is None else content)
    with closing(SqliteLog(tmp_path)) as log:
        assert ([record.body for record in log.read(0, 0)], log.end(0)) == (numbered(0, 1), 2)
        offset = log.append(0, numbered(2)).start
        assert offset == 2 + UNKNOWN_ROWS              # whatever it may have held is not used again
        assert [record.body for record in log.read(0, 1)] == numbered(1, 2)
        assert log.read(0, offset + 1) == []


def test_a_draft_of_a_segment_is_cleared_away(tmp_path):
    with closing(SqliteLog(tmp_path)) as log:
        log.append(0, numbered(0))
    drafts = [newest(tmp_path).with_name(f"{1:020}.sqlite.new{end}") for end in ("", "-wal")]
    for draft in drafts:
        draft.write_bytes(b"half")
    with closing(SqliteLog(tmp_path)) as log:
        assert log.append(0, numbered(1)) == range(1, 2)
    assert not any(draft.exists() for draft in drafts)


def test_a_wal_index_that_is_gone_is_made_again(tmp_path):
    with crashed(tmp_path, [numbered(0), numbered(1)]) as path:
        assert bodies(path) == numbered(0, 1)
        with closing(SqliteLog(path)) as log:
            assert log.append(0, numbered(2)) == range(2, 3)


@pytest.mark.parametrize("ending", ["-shm", "-wal"])
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_a_file_removed_under_a_running_log_loses_nothing(tmp_path, ending, read):
    with contextlib.ExitStack() as held, closing(SqliteLog(tmp_path)) as log:
        log.append(0, numbered(0))
        if read:
            reader = held.enter_context(closing(segmentfile.open_to_read(newest(tmp_path))))
            rows = held.enter_context(closing(segmentfile.rows_from(reader, 0)))
            assert next(rows).offset == 0              # and stays in the middle of its read
        log.append(0, numbered(1))
        beside(newest(tmp_path), ending).unlink()
        log.append(0, numbered(2))
        log.append(0, numbered(3))
        assert bodies(tmp_path) == numbered(0, 1, 2, 3)
    assert bodies(tmp_path) == numbered(0, 1, 2, 3)


def test_a_segment_is_appended_to_only_after_its_place_in_the_folder_is_flushed(
    tmp_path, monkeypatch
):
    def flush_files_only(path):
        if path.is_dir():
            raise OSError("the folder cannot be flushed")
        flush(path)

    flush = segmentfile.flush
    with closing(SqliteLog(tmp_path)) as log:
        for number in range(3):                        # to make the first, to rotate, to open
            monkeypatch.setattr(segmentfile, "flush", flush_files_only)
            with pytest.raises(LogUnavailable, match="cannot be flushed"):
                log.rotate(0)
            with pytest.raises(LogUnavailable, match="cannot be flushed"):
                log.append(0, numbered(-1))
            monkeypatch.undo()
            assert log.append(0, numbered(number)) == range(number, number + 1)
            if number == 1:
                log.close()
        assert [record.body for record in log.read(0, 0)] == numbered(0, 1, 2)
