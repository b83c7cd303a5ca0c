"""The log in SQLite files: its segments, their ages and sizes, its one writer and many readers."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from habitue.errors import LogUnavailable
from habitue.lake.eventlog import segmentfile
from habitue.lake.eventlog.cursors import Cursors
from habitue.lake.eventlog.segments import SqliteLog

HOUR = 3_600.0
ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")                  # where flushing costs nothing


class Clock:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def firsts(log: SqliteLog, shard: int = 0) -> list[int]:
    """The first offset of each segment."""
    return [segmentfile.first_of(path) for path in segmentfile.segments(folder_of(log, shard))]


def folder_of(log: SqliteLog, shard: int = 0) -> Path:
    return log.path / f"shard-{shard:03}"


def bodies(log: SqliteLog, offset: int = 0) -> list[bytes]:
    return [record.body for record in log.read(0, offset)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    with closing(SqliteLog(tmp_path / "log", now=clock)) as found:
        yield found


def test_a_segment_ends_when_its_time_is_up(log, clock):
    log.append(0, [b"a"])
    clock.seconds += HOUR - 1
    log.append(0, [b"b"])
    clock.seconds += 1
    log.append(0, [b"c"])
    assert firsts(log) == [0, 2]
    assert bodies(log) == [b"a", b"b", b"c"]


def test_a_segment_ends_when_it_is_full(tmp_path):
    with closing(SqliteLog(tmp_path, segment_bytes=30_000)) as log:
        for _ in range(10):
            log.append(0, [b"x" * 10_000])
        assert firsts(log) == [0, 3, 6, 9]


def test_an_age_outlives_a_restart(tmp_path, clock):
    for body in (b"a", b"b"):
        with closing(SqliteLog(tmp_path, now=clock)) as log:
            log.append(0, [body])
        clock.seconds += HOUR
    assert firsts(log) == [0, 1]


def test_a_clock_that_jumps_back_ends_a_segment_and_moves_no_offset(log, clock):
    for step in (0.0, -10 * HOUR, HOUR / 2, -1.0, 30 * HOUR, -30 * HOUR):
        clock.seconds += step
        log.append(0, [b"a", b"b"])
    assert firsts(log) == [0, 2, 8, 10]
    assert [record.offset for record in log.read(0, 0)] == list(range(12))


def test_trimming_ends_a_segment_whose_time_is_up_so_that_it_can_go(log, clock):
    log.append(0, [b"a", b"b"])
    assert log.trim(0, 2) == 0
    clock.seconds += HOUR
    assert log.trim(0, 2) == 2
    assert (firsts(log), log.end(0)) == ([2], 2)


def test_trimming_leaves_no_file_of_a_segment_behind(log):
    for body in (b"a", b"b", b"c"):
        log.append(0, [body])
        log.rotate(0)
        bodies(log)
    assert log.trim(0, 2) == 2
    names = {path.name.partition(".")[0] for path in folder_of(log).iterdir()}
    assert names == {"writer", f"{2:020}", f"{3:020}"}


def test_trimming_finishes_what_was_interrupted(log):
    log.append(0, [b"a"])
    log.rotate(0)
    segmentfile.named(folder_of(log), 0).unlink()      # as after a crash: the segment goes first
    log.trim(0, 0)
    assert not list(folder_of(log).glob(f"{0:020}*"))


def test_a_reader_in_the_middle_of_a_segment_does_not_hold_up_trimming(log):
    log.append(0, [b"a", b"b"])
    with closing(segmentfile.open_to_read(segmentfile.named(folder_of(log), 0))) as reader:
        rows = segmentfile.rows_from(reader, 0)
        assert next(rows).body == b"a"
        log.rotate(0)
        assert log.trim(0, 2) == 2
        assert next(rows).body == b"b"
        rows.close()
    assert firsts(log) == [2]
    assert log.append(0, [b"c"]) == range(2, 3)


def test_the_wal_stays_bounded(log):
    wal = Path(f"{segmentfile.named(folder_of(log), 0)}-wal")
    largest = 0
    for _ in range(60):
        log.append(0, [b"x" * 500_000])
        log.read(0, log.end(0) - 1)
        largest = max(largest, wal.stat().st_size)
    assert largest < segmentfile.WAL_PAGES * 4_200 + 1_000_000


def test_an_old_segment_is_read_after_a_new_one_was_begun(log):
    told = []
    for n in range(6):
        told += log.append(0, [b"%d" % n] * 2)
        log.rotate(0)
    assert [record.offset for record in log.read(0, 3)] == told[3:]
    assert [record.offset for record in log.read(0, 3, most_bytes=3)] == told[3:6]


def test_rotating_an_empty_segment_does_nothing(log):
    log.rotate(0)
    log.rotate(0)
    assert firsts(log) == [0]


def test_a_log_keeps_its_number_of_shards(tmp_path):
    with closing(SqliteLog(tmp_path, shards=4)) as log:
        log.append(3, [b"a"])
    assert SqliteLog(tmp_path).shards == 4
    with pytest.raises(LogUnavailable, match="4 shards, not 2"):
        SqliteLog(tmp_path, shards=2)


APPEND_ONCE = """
import sys
from pathlib import Path
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.segments import SqliteLog
log = SqliteLog(Path(sys.argv[1]))
try:
    print(log.append(0, [b"mine"]))
except LogUnavailable as error:
    print(error)
print(len(log.read(0, 0)))
"""


def appended_elsewhere(path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", APPEND_ONCE, str(path)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )
    return done.stdout.splitlines()


def test_a_second_process_that_appends_is_refused_and_may_read(tmp_path):
    with closing(SqliteLog(tmp_path)) as log:
        log.append(0, [b"a", b"b"])
        refused, hint, rows = appended_elsewhere(tmp_path)
        assert "another process appends" in refused
        assert hint.startswith("hint:")
        assert rows == "2"
        assert log.append(0, [b"c"]) == range(2, 3)
    assert appended_elsewhere(tmp_path) == ["range(3, 4)", "4"]


def test_a_second_writer_in_the_same_process_is_refused_too(log):
    log.append(0, [b"a"])
    other = SqliteLog(log.path)
    with pytest.raises(LogUnavailable, match="another process appends"):
        other.append(0, [b"b"])
    other.close()
    assert log.append(0, [b"c"]) == range(1, 2)


FOLLOW = """
import sys
from pathlib import Path
from habitue.lake.eventlog.segments import SqliteLog
log, offset, wanted = SqliteLog(Path(sys.argv[1])), 0, int(sys.argv[2])
while offset < wanted:
    for record in log.read(0, offset, most_bytes=400):
        assert (record.offset, record.body) == (offset, b"%d" % offset), record
        offset += 1
print(offset)
"""


def test_several_processes_follow_one_writer_across_segments(tmp_path):
    command = [sys.executable, "-c", FOLLOW, str(tmp_path), "900"]
    with contextlib.ExitStack() as held, closing(SqliteLog(tmp_path, segment_bytes=300)) as log:
        readers = [
            held.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT))
            for _ in range(3)
        ]
        for start in range(0, 900, 5):
            log.append(0, [b"%d" % number for number in range(start, start + 5)])
        assert [reader.communicate(timeout=60)[0] for reader in readers] == [b"900\n"] * 3


def test_threads_may_share_a_log(log):
    told: list[range] = []

    def append(name: int) -> None:
        told.extend(log.append(0, [b"%d" % name] * 2) for _ in range(25))

    def follow() -> None:
        offset = 0
        while offset < 200:
            offset += len(log.read(0, offset))

    threads = [threading.Thread(target=append, args=(n,)) for n in range(4)]
    threads.append(threading.Thread(target=follow))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(offset for one in told for offset in one) == list(range(200))
    rows = bodies(log)
    assert all(rows[one.start] == rows[one.start + 1] for one in told)


def test_a_reader_of_a_log_that_lost_its_end_moves_offsets_on(log):
    log.append(0, [b"a", b"b"])
    log.rotate(0, at=50)
    assert log.append(0, [b"c"]) == range(50, 51)
    assert [record.offset for record in log.read(0, 0)] == [0, 1, 50]
    assert log.read(0, 20)[0].offset == 50


def test_offsets_that_a_reader_has_passed_are_not_used_again(log):
    log.append(0, [b"a", b"b", b"c"])
    log.close()
    with closing(Cursors(log.path)) as cursors:
        cursors.set("live", 0, 3)
    shutil.rmtree(folder_of(log))
    assert log.append(0, [b"d"]) == range(3, 4)
    assert bodies(log, 3) == [b"d"]


@settings(stateful_step_count=25)
class LogIsAList(RuleBasedStateMachine):
    """Whatever is done to a log in whatever order, it reads like a list."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = Clock()
        self.rows: list[bytes] = []
        self.first = 0                     # what is below was trimmed
        self.open()

    def open(self) -> None:
        self.log = SqliteLog(
            self.folder, segment_seconds=HOUR, segment_bytes=2_000, now=self.clock
        )

    @rule(batch=st.lists(st.binary(max_size=400), max_size=6))
    def append(self, batch):
        assert self.log.append(0, batch) == range(len(self.rows), len(self.rows) + len(batch))
        self.rows += batch

    @rule(place=st.floats(0, 1), most_bytes=st.integers(0, 1_500))
    def read(self, place, most_bytes):
        offset = self.first + round(place * (len(self.rows) - self.first))
        found = self.log.read(0, offset, most_bytes=most_bytes)
        wanted = list(enumerate(self.rows))[offset : offset + len(found)]
        assert [(record.offset, record.body) for record in found] == wanted
        assert found or offset == len(self.rows)
        assert len(found) <= 1 or sum(len(record.body) for record in found) <= most_bytes
        following = self.rows[offset + len(found) : offset + len(found) + 1]
        given = sum(len(record.body) for record in found)
        assert all(given + len(body) > most_bytes for body in following)

    @rule(place=st.floats(0, 1.2))
    def trim(self, place):
        below = round(place * len(self.rows))
        dropped = self.log.trim(0, below)
        assert dropped <= max(0, below - self.first)
        self.first += dropped

    @rule()
    def read_what_was_trimmed(self):
        if self.first:
            with pytest.raises(LogUnavailable, match="trimmed"):
                self.log.read(0, self.first - 1)

    @rule()
    def rotate(self):
        self.log.rotate(0)

    @rule(hours=st.floats(-2, 2))
    def wait(self, hours):
        self.clock.seconds += hours * HOUR

    @rule()
    def reopen(self):
        self.log.close()
        self.open()

    @invariant()
    def the_end_is_the_length(self):
        if hasattr(self, "log"):
            assert self.log.end(0) == len(self.rows)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            shutil.rmtree(self.folder)


test_any_use_of_a_log_reads_like_a_list = LogIsAList.TestCase


def test_cursors_are_remembered_by_name_and_shard(tmp_path):
    with closing(Cursors(tmp_path)) as cursors:
        assert cursors.get("live", 0) == 0
        cursors.set("live", 0, 7)
        cursors.set("live", 1, 9)
        cursors.set("live", 0, 8)
    with closing(Cursors(tmp_path)) as cursors, closing(Cursors(tmp_path)) as other:
        assert [cursors.get("live", 0), other.get("live", 1), other.get("other", 0)] == [8, 9, 0]
        cursors.set("live", 0, 10)
        assert other.get("live", 0) == 10


def test_cursors_that_cannot_be_opened_are_told(tmp_path):
    (tmp_path / "cursors.sqlite").write_bytes(b"no database " * 1_000)
    with pytest.raises(LogUnavailable, match=r"cursors\.sqlite"):
        Cursors(tmp_path)


def test_cursors_flush_at_each_commit(tmp_path):
    with closing(Cursors(tmp_path)) as cursors:
        told = cursors._connection.execute("PRAGMA synchronous").fetchone()
    assert told == (2,)                    # FULL


def test_an_appending_connection_flushes_at_each_commit(log):
    log.append(0, [b"a"])
    connection: sqlite3.Connection = log._writers[0].connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
