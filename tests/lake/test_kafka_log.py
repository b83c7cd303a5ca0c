"""The log on Kafka, where it differs from the one in files: brokers fail, others append.

The mock cluster of librdkafka stands in for a broker; whoever sets HABITUE_TEST_KAFKA runs the rest
against one.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import habitue
from habitue import privacy
from habitue.errors import BadSetting, Dropped, LogUnavailable, NotInstalled
from habitue.ingest.commit import Committer
from habitue.lake.eventlog import opening
from habitue.lake.eventlog.brokers import Cluster, Place
from habitue.lake.eventlog.kafka import KafkaLog
from habitue.lake.eventlog.opening import open_log
from habitue.lake.eventlog.records import encode
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.broker import (
    MESSAGE_TOO_LARGE,
    NOT_ENOUGH_REPLICAS,
    PRODUCE,
    TOPIC_NOT_ALLOWED,
    Broker,
    broker,
)
from tests.ingest.parts import orders, part

REAL = os.environ.get("HABITUE_TEST_KAFKA", "")


@pytest.fixture
def cluster() -> Iterator[Broker]:
    with broker() as one:
        one.make("log", 2)
        yield one


def opened(cluster: Broker, **named) -> KafkaLog:
    return KafkaLog(Place(Cluster(cluster.addresses), "log"), **named)


def settled(folder: Path, log) -> Lake:
    lake = Lake(folder / "lake", buckets=2)
    for shard in range(log.shards):
        with closing(Committer(lake, log, shard)) as committer:
            while committer.step() is not None:
                pass
    return lake


def test_a_passing_error_of_the_brokers_is_mended_unseen(cluster):
    with closing(opened(cluster)) as log:
        cluster.fail(PRODUCE, [NOT_ENOUGH_REPLICAS] * 2)
        offsets = log.append(0, [b"a", b"b"])
        assert [record.body for record in log.read(0, offsets[0])] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("error", "hint"),
    [(MESSAGE_TOO_LARGE, "max.message.bytes"), (TOPIC_NOT_ALLOWED, "allow this user")],
)
def test_a_refusal_says_what_to_do_and_the_next_append_works(cluster, error, hint):
    with closing(opened(cluster)) as log:
        cluster.fail(PRODUCE, [error] * 3)
        with pytest.raises(LogUnavailable, match=hint):
            log.append(0, [b"a"])
        cluster.fail(PRODUCE, [])
        assert log.append(0, [b"b"])


def test_brokers_that_are_down_are_told_in_time_and_come_back(cluster):
    with closing(opened(cluster, timeout_seconds=1.5)) as log:
        log.append(0, [b"a"])
        cluster.stop()
        began = time.monotonic()
        with pytest.raises(LogUnavailable, match="do the brokers"):
            log.append(0, [b"b"])
        with pytest.raises(LogUnavailable):
            log.end(0)
        assert time.monotonic() - began < 15
        cluster.start()
        for _ in range(20):                # a client waits a little before it tries again
            try:
                assert log.append(0, [b"c"])
                break
            except LogUnavailable:
                continue
        bodies = {record.body for record in log.read(0, 0)}
        assert {b"a", b"c"} <= bodies <= {b"a", b"b", b"c"}


def test_what_retention_dropped_is_refused_and_never_skipped(cluster):
    with closing(opened(cluster)) as log:
        offsets = log.append(0, [b"a", b"b", b"c"])
        cluster.cut("log", 0, 2)
        with pytest.raises(Dropped, match="rows 0 to 1"):
            log.read(0, offsets[0])
        assert [record.body for record in log.read(0, offsets[2])] == [b"c"]
        assert (log.begin(0), log.end(0)) == (2, 3)


def test_where_brokers_cannot_drop_rows_trimming_says_none(cluster):
    with closing(opened(cluster)) as log:
        log.append(0, [b"a", b"b"])
        assert log.trim(0, 1) == 0
        assert len(log.read(0, 0)) == 2


def test_many_threads_append_to_both_shards_and_each_offset_is_its_own(cluster):
    told: dict[tuple[int, int], bytes] = {}

    def append(number: int) -> None:
        for turn in range(20):
            body = b"%d-%d" % (number, turn)
            (offset,) = log.append(number % 2, [body])
            told[number % 2, offset] = body

    with closing(opened(cluster)) as log:
        threads = [threading.Thread(target=append, args=(number,)) for number in range(6)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        held = {
            (shard, record.offset): record.body
            for shard in range(2) for record in log.read(shard, 0)
        }
    assert len(told) == 120
    assert held == told


def test_readers_at_different_places_do_not_disturb_each_other(cluster):
    with closing(opened(cluster)) as log:
        log.append(0, [b"%d" % n for n in range(200)])
        places = [0, 50, 100, 150, 199, 0, 120]            # more than there are readers
        for _ in range(2):
            for place in places:
                assert log.read(0, place, most_bytes=1)[0].body == b"%d" % place


@pytest.mark.parametrize(
    "url",
    ["kafka://", "kafka:///topic", "kafka://host:1", "kafka://host:1/a/b", "redis://host:1/topic",
     "kafka://host:1/topic?shards=0", "kafka://host:1/topic?shards=many"],
)  # fmt: skip
def test_a_place_that_names_no_topic_is_refused(url):
    with pytest.raises(BadSetting):
        Place.of(url)


def test_a_place_names_brokers_topic_shards_and_what_librdkafka_needs():
    told = Place.of("kafka://one:1,two:2/events?shards=4&replication=3&security.protocol=SSL")
    assert told == Place(Cluster("one:1,two:2", {"security.protocol": "SSL"}), "events", 4, 3)


def test_a_secret_of_a_place_is_in_no_error():
    with pytest.raises(BadSetting) as caught:
        Place.of("kafka://host:1?sasl.password=hunter2")
    assert "hunter2" not in str(caught.value)


def test_another_number_of_shards_than_the_topic_has_is_refused(cluster):
    with pytest.raises(LogUnavailable, match="has 2 partitions, not 3"):
        KafkaLog(Place(Cluster(cluster.addresses), "log", shards=3))


def test_a_workspace_runs_on_kafka_by_its_setting_alone(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("HABITUE_LOG", f"kafka://{cluster.addresses}/log")
    workspace = habitue.open(tmp_path / "work")
    with closing(workspace.log) as log:
        assert isinstance(log, KafkaLog)
        log.append(1, [encode(part("r", *orders(1, 2)))])
        lake = settled(workspace.path, log)
    assert read(lake, "SELECT id FROM events ORDER BY id", shop="acme")["id"].to_pylist() == [
        "1", "2"
    ]  # fmt: skip
    monkeypatch.delenv("HABITUE_LOG")
    with pytest.raises(LogUnavailable, match="Kafka's topic 'log'"):
        habitue.open(tmp_path / "work").log.close()


def test_a_log_moves_to_kafka_once_it_is_settled_and_cursors_go_on(cluster, tmp_path):
    folder, url = tmp_path / "log", f"kafka://{cluster.addresses}/log"
    lake = Lake(tmp_path / "lake", buckets=2)

    def cursor(shard: int) -> int:
        return lake.cursor(f"log-{shard}")

    with closing(SqliteLog(folder)) as former:
        former.append(0, [encode(part(f"r{n}", *orders(n))) for n in range(5)])
        with pytest.raises(LogUnavailable, match="still holds 5 requests"):
            open_log(folder, url, cursor)
        settled(tmp_path, former)
    with closing(open_log(folder, url, cursor)) as log:
        assert log.append(0, [encode(part("r5", *orders(5)))]) == [5]
        settled(tmp_path, log)
    with closing(open_log(folder, url, cursor)) as log:    # and stays so when it is opened again
        assert (log.end(0), cursor(0)) == (6, 6)
    assert len(read(lake, "SELECT id FROM events", shop="acme")) == 6


def test_another_topic_is_not_taken_for_the_workspaces_own(cluster, tmp_path):
    cluster.make("other", 1)
    open_log(tmp_path, f"kafka://{cluster.addresses}/log", lambda _: -1).close()
    with pytest.raises(LogUnavailable, match="not in 'other'"):
        open_log(tmp_path, f"kafka://{cluster.addresses}/other", lambda _: -1)


def test_without_the_client_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("habitue.errors.find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"pip install 'habitue\[kafka\]'"):
        opening.open_log(tmp_path, "kafka://host:9092/topic", lambda _: -1)


def test_an_erasure_is_complete_only_when_the_topic_has_dropped_what_it_held(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setenv("HABITUE_LOG", f"kafka://{cluster.addresses}/log")
    workspace = habitue.open(tmp_path / "work")
    workspace.directory.shop("acme", create=True)
    with closing(workspace.log) as log:
        log.append(0, [encode(part("r", *orders(1, 2)))])
    later = datetime(2030, 1, 1, tzinfo=UTC)
    job = privacy.request(workspace.places, "acme", ["c1"], now=later)
    job = privacy.finish(workspace.places, job, now=later)
    assert job.status == "processing"      # the mock cannot drop rows when it is asked to
    cluster.cut("log", 0, 1)
    assert privacy.advance(workspace.places, job, now=later).status == "complete"


@pytest.mark.kafka
@pytest.mark.skipif(not REAL, reason="HABITUE_TEST_KAFKA names no broker")
def test_a_broker_keeps_what_it_was_given_and_trims_it():
    topic = f"habitue-test-{uuid.uuid4().hex[:8]}"
    with closing(KafkaLog(Place(Cluster(REAL), topic, shards=2))) as log:
        told = log.append(1, [b"%d" % n for n in range(1_000)])
        assert told == list(range(1_000))
        assert [record.body for record in log.read(1, 990)] == [b"%d" % n for n in range(990, 1000)]
        assert log.trim(1, 500) == 500
        assert (log.begin(1), log.end(1)) == (500, 1_000)
        with pytest.raises(Dropped):
            log.read(1, 499)
        big = bytes(5_000_000)
        assert log.read(1, log.append(1, [big])[0])[0].body == big


@pytest.mark.kafka
@pytest.mark.skipif(not REAL, reason="HABITUE_TEST_KAFKA names no broker")
def test_a_broker_carries_a_workspaces_log_to_the_lake(tmp_path):
    topic = f"habitue-test-{uuid.uuid4().hex[:8]}"
    with closing(KafkaLog(Place(Cluster(REAL), topic, shards=1))) as log:
        log.append(0, [encode(part(f"r{n}", *orders(n))) for n in range(50)])
        lake = settled(tmp_path, log)
    assert len(read(lake, "SELECT id FROM events", shop="acme")) == 50
