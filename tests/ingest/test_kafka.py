"""A topic's messages are rows of the lake exactly once, whatever dies, repeats or is taken away."""

import json
import logging
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest
from click.testing import CliRunner

from habitue.cli.app import habitue
from habitue.errors import Dropped, NoAnswer
from habitue.lake.eventlog.brokers import Cluster, Place
from habitue.lake.eventlog.kafka import KafkaLog
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.broker import Broker, broker
from tests.ingest.kafka import SHOP, drained, feeding, ids, order, sent, until

SEED = 3
REAL = os.environ.get("HABITUE_TEST_KAFKA", "")
log = logging.getLogger(__name__)
_numbers = count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Broker]:
    with broker() as one:
        one.rebalance_delay(100)
        yield one


@pytest.fixture
def topic(cluster: Broker, request: pytest.FixtureRequest) -> str:
    name = f"events-{next(_numbers)}"
    cluster.make(name, 3)
    return name


def counts(settled) -> Counter:
    return sum(
        (Counter(appended=s.appended, duplicate=s.duplicate, rejected=s.rejected)
         for s in settled), Counter(),
    )  # fmt: skip


def test_every_message_becomes_its_rows_and_a_second_reading_adds_none(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(100)))
    for expected in (100, 0):
        with feeding(tmp_path, cluster.addresses, topic) as feed:
            assert counts(drained(feed)).total() == expected
    assert ids(tmp_path) == list(range(100))


def test_a_message_may_hold_many_records(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, [[order(1), order(2)], {"events": [order(3)]}, order(4)])
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        drained(feed)
    assert ids(tmp_path) == [1, 2, 3, 4]


def test_commits_are_small_where_that_is_asked_for_and_go_on_where_they_were(
    tmp_path, cluster, topic
):
    sent(cluster.addresses, topic, map(order, range(60)))
    taken = 0
    for _ in range(4):                     # each dies after one commit, holding nothing
        with feeding(tmp_path, cluster.addresses, topic) as feed:
            while (settled := feed.step(most_rows=10)) is None:
                assert not feed.is_done    # a busy broker has not handed anything over yet
            taken += settled.rows
    assert taken == 40
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        assert counts(drained(feed)) == Counter(appended=20)
    assert ids(tmp_path) == list(range(60))


def test_a_record_that_is_on_the_topic_twice_is_a_duplicate(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, [order(1), order(1), order(2), order(1)])
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        assert counts(drained(feed)) == Counter(appended=2, duplicate=2)


def test_what_cannot_be_read_is_kept_as_rejected_and_holds_nothing_up(tmp_path, cluster, topic):
    bad = [b"no json", b"\xff\xfe", {"customer": "c1"}, b"", None]
    sent(cluster.addresses, topic, [order(1), *bad, order(2)])
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        assert counts(drained(feed)) == Counter(appended=2, rejected=4)
    rows = read(Lake(tmp_path / "lake"), "SELECT * FROM rejected", shop=SHOP).to_pylist()
    assert {row["payload"] for row in rows} == {"no json", "\ufffd\ufffd", '{"customer": "c1"}', ""}
    places = [(row["receipt"], row["position"]) for row in rows]
    assert len(set(places)) == len(places)


def test_receipts_count_every_record_and_are_named_after_offsets(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(9)))
    for folder in (tmp_path / "a", tmp_path / "b"):
        with feeding(folder, cluster.addresses, topic) as feed:
            drained(feed, wait_seconds=5)
    held = [
        read(Lake(folder / "lake"), "SELECT id, origin, rows FROM receipts ORDER BY origin",
             shop=SHOP).to_pylist()
        for folder in (tmp_path / "a", tmp_path / "b")
    ]  # fmt: skip
    assert held[0] == held[1]
    assert [row["origin"] for row in held[0]] == [f"kafka:{topic}/{n}/0-2" for n in range(3)]
    assert sum(row["rows"] for row in held[0]) == 9


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("segment", {"type": "track", "event": "Signed Up", "userId": "u", "messageId": "7"}),
        ("segment", {"batch": [{"type": "track", "event": "E", "userId": "u", "messageId": "7"}]}),
        ("klaviyo", {"data": {"type": "event", "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Viewed"}}},
            "profile": {"data": {"type": "profile", "attributes": {"external_id": "u"}}},
            "properties": {}, "unique_id": "7"}}}),
        ("posthog", {"event": "seen", "distinct_id": "u", "properties": {},
                     "uuid": "0190b3a2-0000-7000-8000-000000000007"}),
    ],
)  # fmt: skip
def test_messages_of_every_client_are_read(tmp_path, cluster, topic, form, message):
    sent(cluster.addresses, topic, [message])
    with feeding(tmp_path, cluster.addresses, topic, format=form) as feed:
        assert counts(drained(feed)) == Counter(appended=1)
    lake = Lake(tmp_path / "lake")
    found = read(lake, "SELECT source, customer FROM events", shop=SHOP).to_pylist()
    assert [row["source"] for row in found] == [form]


def test_an_unknown_klaviyo_document_is_rejected(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, [{"data": {"type": "campaign"}}, b"[]"])
    with feeding(tmp_path, cluster.addresses, topic, format="klaviyo") as feed:
        assert counts(drained(feed)) == Counter(rejected=2)


def test_a_zombie_is_refused_and_goes_on_behind_its_rival(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(30)))
    with (
        feeding(tmp_path, cluster.addresses, topic) as zombie,
        feeding(tmp_path, cluster.addresses, topic) as rival,
    ):
        assert zombie.step(most_rows=5).rows >= 5
        assert rival.step(most_rows=1000) is None          # it began before that
        assert sum(one.rows for one in drained(rival)) < 30
        sent(cluster.addresses, topic, map(order, range(30, 40)))
        drained(zombie)
        drained(rival)
    assert ids(tmp_path) == list(range(40))


def test_two_consumers_share_partitions_and_one_takes_over(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(90)))
    with ExitStack() as stack:
        one = stack.enter_context(feeding(tmp_path, cluster.addresses, topic, follows=True))
        until(one, lambda found: sum(s.rows for s in found) == 90)
        two = stack.enter_context(feeding(tmp_path, cluster.addresses, topic, follows=True))
        deadline = time.monotonic() + 20
        while not (two.partitions and set(one.partitions).isdisjoint(two.partitions)):
            one.step(wait_seconds=0.1)
            two.step(wait_seconds=0.1)
            assert time.monotonic() < deadline
        sent(cluster.addresses, topic, map(order, range(90, 180)))
        while len(ids(tmp_path)) < 180:
            one.step(wait_seconds=0.2)
            two.step(wait_seconds=0.2)
            assert time.monotonic() < deadline
    with feeding(tmp_path, cluster.addresses, topic, follows=True) as three:
        sent(cluster.addresses, topic, map(order, range(180, 200)))
        until(three, lambda found: sum(s.rows for s in found) == 20)
    assert ids(tmp_path) == list(range(200))


def test_messages_that_were_dropped_unread_are_told_and_may_be_accepted(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(30)))
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        drained(feed)
    sent(cluster.addresses, topic, map(order, range(30, 60)))
    cluster.cut(topic, 0, 15)              # offsets 10 to 14: five that were never read
    with (
        feeding(tmp_path, cluster.addresses, topic) as feed,
        pytest.raises(Dropped, match="10 to 14 of partition 0"),
    ):
        drained(feed)
    with feeding(tmp_path, cluster.addresses, topic, accepts_loss=True) as feed:
        drained(feed)
    lost = {30, 33, 36, 39, 42}
    assert ids(tmp_path) == [n for n in range(60) if n not in lost]


def test_a_topic_that_was_made_again_is_not_taken_for_the_old_one(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, map(order, range(30)))
    with feeding(tmp_path, cluster.addresses, topic) as feed:
        drained(feed)
    cluster.remove(topic)
    cluster.make(topic, 3)
    sent(cluster.addresses, topic, map(order, range(30, 33)))
    with (
        feeding(tmp_path, cluster.addresses, topic) as feed,
        pytest.raises(NoAnswer, match="deleted and made again"),
    ):
        drained(feed)


@pytest.mark.kafka
@pytest.mark.skipif(not REAL, reason="HABITUE_TEST_KAFKA names no broker")
def test_a_broker_gives_a_topic_exactly_once(tmp_path):
    name = f"habitue-test-{uuid.uuid4().hex[:8]}"
    KafkaLog(Place(Cluster(REAL), name, shards=3)).close()         # makes the topic
    sent(REAL, name, map(order, range(300)))
    for most_rows in (50, 50, 1000):                       # the first two die after a commit
        with feeding(tmp_path, REAL, name, follows=True) as feed:
            until(feed, bool, most_rows=most_rows)
    with feeding(tmp_path, REAL, name) as feed:
        drained(feed)
    assert ids(tmp_path) == list(range(300))


def test_a_topic_that_is_not_there_is_refused_by_name(tmp_path, cluster):
    with (
        pytest.raises(NoAnswer, match="no topic 'nowhere'"),
        feeding(tmp_path, cluster.addresses, "nowhere"),
    ):
        pass


def test_the_command_reads_to_the_end_and_tells_what_became_of_it(tmp_path, cluster, topic):
    sent(cluster.addresses, topic, [order(1), order(1), b"?"])
    told = ["consume", "--workspace", str(tmp_path / "w"), "--shop", SHOP, "--bootstrap",
            cluster.addresses, "--topic", topic, "--json"]  # fmt: skip
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(habitue, told, catch_exceptions=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert json.loads(done.stdout) == {"appended": 1, "duplicate": 1, "rejected": 1}


def _consume(folder: Path, addresses: str, topic: str) -> None:
    with feeding(folder, addresses, topic) as feed:
        drained(feed, most_rows=25, wait_seconds=0.05)


def killed(folder: Path, cluster: Broker, topic: str, kills: int) -> int:
    """Kill a consumer at random so often, while messages come; how many were sent."""
    rng, spawn = random.Random(SEED), get_context("forkserver")
    spawn.set_forkserver_preload(["tests.ingest.kafka"])
    number = landed = 0
    while landed < kills:
        some = rng.randrange(50, 150)
        sent(cluster.addresses, topic, map(order, range(number, number + some)))
        number += some
        child = spawn.Process(target=_consume, args=(folder, cluster.addresses, topic))
        child.start()
        child.join(timeout=rng.uniform(0.05, 0.5))
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        landed += child.exitcode == -signal.SIGKILL
        child.close()
    return number


def _exact_after(folder: Path, cluster: Broker, topic: str, kills: int) -> None:
    number = killed(folder, cluster, topic, kills)
    with feeding(folder, cluster.addresses, topic) as feed:
        drained(feed)
    assert ids(folder) == list(range(number))
    counted = read(
        Lake(folder / "lake"), "SELECT sum(appended)::BIGINT AS n, sum(rows)::BIGINT AS r"
        " FROM receipts", shop=SHOP,
    ).to_pylist()  # fmt: skip
    assert counted == [{"n": number, "r": number}]
    log.info("kills=%d messages=%d lost=0 doubled=0", kills, number)


def test_a_consumer_that_is_killed_at_random_loses_and_doubles_nothing(tmp_path, cluster, topic):
    _exact_after(tmp_path, cluster, topic, 10)


@pytest.mark.slow
def test_a_consumer_that_is_killed_a_hundred_times_loses_and_doubles_nothing(
    tmp_path, cluster, topic
):
    _exact_after(tmp_path, cluster, topic, 100)
