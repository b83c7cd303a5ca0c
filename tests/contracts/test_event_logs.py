"""What every event log promises. A new one adds a line to LOGS.

What only some can promise stands there, too: whether a failed append leaves nothing behind
(`is_whole`), and whether several processes may append to one shard (`is_shared`).
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from habitue.errors import LogUnavailable
from habitue.lake.eventlog import segmentfile
from habitue.lake.eventlog.brokers import Cluster, Place
from habitue.lake.eventlog.kafka import KafkaLog
from habitue.lake.eventlog.records import EventLog, Record
from habitue.lake.eventlog.segments import SqliteLog
from tests.broker import NO_ERROR, PRODUCE, TOPIC_NOT_ALLOWED, broker

SHARDS = 2
Opener = Callable[[], EventLog]            # called again, it opens the same log again


@dataclass(frozen=True, slots=True)
class Kind:
    """A log to test, and what only some logs promise."""

    made: Callable[[Path], AbstractContextManager["Opened"]]
    is_whole: bool                         # all or none of an append
    is_shared: bool                        # several may append to a shard


@dataclass(frozen=True, slots=True)
class Opened:
    """How to open a log, and how to let its next append fail."""

    log: Opener
    failing: Callable[[], AbstractContextManager[None]]


@contextmanager
def sqlite(folder: Path, **named: int) -> Iterator[Opened]:
    yield Opened(lambda: SqliteLog(folder / "log", shards=SHARDS, **named), _failing_insert)


@contextmanager
def kafka(folder: Path) -> Iterator[Opened]:
    with broker() as one:
        one.make("log", SHARDS)

        @contextmanager
        def failing() -> Iterator[None]:
            one.fail(PRODUCE, [NO_ERROR, TOPIC_NOT_ALLOWED, TOPIC_NOT_ALLOWED])
            yield
            one.fail(PRODUCE, [])

        place = Place(Cluster(one.addresses, {"batch.num.messages": "1"}), "log", shards=SHARDS)
        yield Opened(lambda: KafkaLog(place), failing)


@contextmanager
def _failing_insert() -> Iterator[None]:
    """The disk fills up after the first row of a transaction."""
    insert = segmentfile.insert

    def full(connection: sqlite3.Connection, first: int, bodies: Sequence[bytes]) -> None:
        insert(connection, first, bodies[:1])
        raise sqlite3.OperationalError("database or disk is full")

    with patch.object(segmentfile, "insert", full):
        yield


LOGS = {
    "sqlite": Kind(sqlite, is_whole=True, is_shared=False),
    "sqlite, a segment per append": Kind(
        partial(sqlite, segment_bytes=1), is_whole=True, is_shared=False
    ),
    "kafka": Kind(kafka, is_whole=False, is_shared=True),
}


@pytest.fixture(params=LOGS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return LOGS[request.param]


@pytest.fixture
def opened(kind: Kind, tmp_path: Path) -> Iterator[Opened]:
    with kind.made(tmp_path) as found:
        yield found


@pytest.fixture
def opener(opened: Opened) -> Opener:
    return opened.log


@pytest.fixture
def log(opener: Opener) -> Iterator[EventLog]:
    with closing(opener()) as found:
        yield found


def everything(log: EventLog, shard: int, offset: int = 0, most_bytes: int = 10) -> list[Record]:
    """All rows from an offset on, read in small steps."""
    found: list[Record] = []
    while rows := log.read(shard, offset, most_bytes=most_bytes):
        found += rows
        offset = rows[-1].offset + 1
    return found


def bodies(records: list[Record]) -> list[bytes]:
    return [record.body for record in records]


def test_an_empty_log_has_its_shards_and_no_rows(log):
    assert log.shards == SHARDS
    assert [log.read(shard, log.end(shard)) for shard in range(SHARDS)] == [[], []]


def test_rows_come_back_as_they_went_in_at_the_offsets_that_were_told(log):
    first = log.append(0, [b"one", b"", b"three\x00\xff"])
    second = log.append(0, [b"four"])
    read = everything(log, 0, first[0])
    assert bodies(read) == [b"one", b"", b"three\x00\xff", b"four"]
    assert [record.offset for record in read] == [*first, *second]


def test_offsets_grow_and_the_end_lies_after_the_last(log):
    told = [offset for _ in range(5) for offset in log.append(0, [b"a", b"b"])]
    assert told == sorted(set(told))
    assert log.end(0) > told[-1]
    assert log.append(0, [b"c"])[0] >= log.end(0) - 1


def test_shards_do_not_see_each_other(log):
    log.append(0, [b"here"])
    log.append(1, [b"there"])
    assert (bodies(everything(log, 0)), bodies(everything(log, 1))) == ([b"here"], [b"there"])


def test_appending_nothing_changes_nothing(log):
    log.append(0, [b"a"])
    end = log.end(0)
    assert len(log.append(0, [])) == 0
    assert log.end(0) == end


def test_a_read_begins_at_its_offset(log):
    offsets = [log.append(0, [str(n).encode()])[0] for n in range(6)]
    assert bodies(everything(log, 0, offsets[4])) == [b"4", b"5"]


def test_a_read_gives_one_row_at_least_and_no_more_bytes_than_asked_for(log):
    start = log.append(0, [b"x" * 100, b"y" * 100, b"z" * 100])[0]
    assert bodies(log.read(0, start, most_bytes=1)) == [b"x" * 100]
    assert len(log.read(0, start, most_bytes=200)) in (1, 2)
    assert len(everything(log, 0, start, most_bytes=10_000)) == 3


def test_nothing_is_read_at_the_end(log):
    log.append(0, [b"a"])
    assert log.read(0, log.end(0)) == []


def test_what_was_appended_is_there_when_the_log_is_opened_again(opener):
    with closing(opener()) as log:
        told = log.append(0, [b"a", b"b"])
    with closing(opener()) as log:
        assert [record.offset for record in everything(log, 0, told[0])] == list(told)
        assert log.append(0, [b"c"])[0] >= told[-1] + 1


def test_trimming_takes_nothing_at_or_above_its_offset(log):
    offsets = [log.append(0, [str(n).encode()])[0] for n in range(6)]
    dropped = log.trim(0, offsets[3])
    assert 0 <= dropped <= 3
    assert bodies(everything(log, 0, offsets[3])) == [b"3", b"4", b"5"]


def test_what_was_trimmed_is_refused_and_never_skipped(log):
    offsets = [log.append(0, [str(n).encode()])[0] for n in range(6)]
    if log.trim(0, offsets[5]):
        with pytest.raises(LogUnavailable):
            log.read(0, offsets[0])
    else:
        assert log.read(0, offsets[0])


def test_no_offset_is_used_twice_after_everything_was_trimmed(opener):
    with closing(opener()) as log:
        used = log.append(0, [b"a", b"b", b"c"])
        log.trim(0, log.end(0))
    with closing(opener()) as log:
        assert log.append(0, [b"d"])[0] >= used[-1] + 1
        assert bodies(everything(log, 0, used[-1] + 1)) == [b"d"]


def test_a_reader_that_is_ahead_of_the_log_is_told(log):
    log.append(0, [b"a"])
    with pytest.raises(LogUnavailable):
        log.read(0, log.end(0) + 1_000)


def test_another_reader_sees_what_is_appended_after_it_was_opened(opener):
    with closing(opener()) as writer, closing(opener()) as reader:
        first = writer.append(0, [b"a"])
        assert bodies(everything(reader, 0, first[0])) == [b"a"]
        writer.append(0, [b"b"])
        assert bodies(everything(reader, 0, first[-1] + 1)) == [b"b"]
        assert reader.end(0) == writer.end(0)


def test_large_bodies_come_back_whole(log):
    body = bytes(range(256)) * 4_000                   # 1 MB
    assert log.read(0, log.append(0, [body])[0])[0].body == body


def test_a_failed_append_is_told_and_leaves_what_its_kind_says(kind, opened, log):
    log.append(0, [b"before"])
    start = log.end(0)
    with opened.failing(), pytest.raises(LogUnavailable):
        log.append(0, [b"a", b"b", b"c"])
    left = bodies(everything(log, 0, start))
    assert left == [] if kind.is_whole else set(left) <= {b"a", b"b", b"c"}
    told = log.append(0, [b"a", b"b", b"c"])               # as whoever sent them does
    assert bodies(everything(log, 0, told[0])) == [b"a", b"b", b"c"]


def test_a_second_appender_is_heard_or_refused(kind, opener):
    with closing(opener()) as one, closing(opener()) as two:
        told = [*one.append(0, [b"a"])]
        if kind.is_shared:
            told += [*two.append(0, [b"b"]), *one.append(0, [b"c"])]
            assert told == sorted(set(told))
            assert bodies(everything(one, 0, told[0])) == [b"a", b"b", b"c"]
        else:
            with pytest.raises(LogUnavailable):
                two.append(0, [b"b"])
