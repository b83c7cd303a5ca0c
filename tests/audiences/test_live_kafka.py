"""Changes told to Kafka: a customer's in one partition, in order, again where a try failed.

The mock cluster of librdkafka stands in for a broker; whoever sets HABITUE_TEST_KAFKA runs the rest
against one.
"""

import json
import os
import uuid
from contextlib import closing

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from habitue.audiences.changes.delivering import FIRST_SECONDS, LOOK_SECONDS, Delivery
from habitue.audiences.changes.kafka import Topic
from habitue.audiences.saved import Saved
from habitue.errors import BadSetting
from habitue.lake.eventlog.brokers import Place
from habitue.lake.tables import Lake
from tests.audiences.living import Living
from tests.broker import PRODUCE, TOPIC_NOT_ALLOWED, broker
from tests.lake.small import day, event

REAL = os.environ.get("HABITUE_TEST_KAFKA", "")
PARTITIONS = 3


@pytest.fixture
def cluster():
    with broker() as one:
        one.make("changes", PARTITIONS)
        yield one


@pytest.fixture
def shop(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(buyers="did order_placed", often="did order_placed >= 2 times in 1 day")
    live.tell([event(f"e{n}", n / 4, customer=f"c{n % 7}") for n in range(28)])
    live.tell([event(f"f{n}", 8 + n / 100, customer=f"c{n % 7}") for n in range(28)])
    live.wait(day(9.5))
    yield Saved(Lake(tmp_path / "lake"), "acme", lambda: day(9), live=live.path), live
    live.profiles.close()


def messages(brokers, topic="changes"):
    """Of each partition: the key and the change of each message, in order."""
    settings = {"bootstrap.servers": brokers, "group.id": "test", "enable.auto.commit": False}
    found = {}
    with closing(Consumer(settings)) as consumer:
        for number in range(PARTITIONS):
            row = TopicPartition(topic, number, 0)
            first, end = consumer.get_watermark_offsets(row, timeout=10)
            consumer.assign([row])
            held = []
            while len(held) < end - first:
                held += consumer.consume(end - first - len(held), timeout=1)
            found[number] = [(one.key().decode(), json.loads(one.value())) for one in held]
    return found


def told_until_quiet(delivery):
    while delivery.step() != LOOK_SECONDS:
        pass


def test_a_customers_changes_are_in_one_partition_in_their_order_and_told_once(shop, cluster):
    saved, live = shop
    target = f"kafka://{cluster.addresses}/changes"
    told_until_quiet(saved.delivery(target))
    live.tell([event("late", 10, customer="c8")])
    told_until_quiet(saved.delivery(target))           # another process, that goes on
    found = messages(cluster.addresses)
    rows = saved.changes().to_pylist()
    told = [change for each in found.values() for _, change in each]
    assert sorted(one["sequence"] for one in told) == [one["sequence"] for one in rows]
    assert len(rows) > 20
    assert sum(1 for each in found.values() if each) > 1
    for each in found.values():
        assert all(key == change["customer"] for key, change in each)
        assert [one["sequence"] for _, one in each] == sorted(one["sequence"] for _, one in each)
    homes = {(key, number) for number, each in found.items() for key, _ in each}
    assert len(homes) == len({key for key, _ in homes}) == 8


def test_what_was_not_taken_is_told_again_and_nothing_is_lost(shop, cluster):
    saved, _ = shop
    delivery = saved.delivery(f"kafka://{cluster.addresses}/changes", audience="often")
    cluster.fail(PRODUCE, [TOPIC_NOT_ALLOWED] * 3)
    assert delivery.step() == FIRST_SECONDS
    assert delivery.told() == 0
    cluster.fail(PRODUCE, [])
    told_until_quiet(delivery)
    wanted = saved.changes("often")["sequence"].to_pylist()
    found = messages(cluster.addresses)
    assert sorted({one["sequence"] for each in found.values() for _, one in each}) == wanted
    assert delivery.told() == wanted[-1]


def test_brokers_that_are_away_are_waited_for(shop, cluster):
    saved, live = shop
    topic = Topic(Place.of(f"kafka://{cluster.addresses}/changes"), timeout_seconds=1)
    delivery = Delivery(live.path, live.path.with_name("places"), "acme", "there", topic)
    told_until_quiet(delivery)
    live.tell([event("late", 10, customer="c8")])
    cluster.stop()
    assert [delivery.step(), delivery.step()] == [FIRST_SECONDS, 2 * FIRST_SECONDS]
    cluster.start()
    for _ in range(20):                    # a client waits a little before it tries again
        if delivery.step() == LOOK_SECONDS:
            break
    found = messages(cluster.addresses)
    told = {one["sequence"] for each in found.values() for _, one in each}
    assert sorted(told) == saved.changes()["sequence"].to_pylist()


def test_what_lets_one_in_is_not_written_down(shop, cluster):
    saved, live = shop
    saved.delivery(f"kafka://{cluster.addresses}/changes?client.id=hunter2").step()
    held = live.path.with_name("deliveries.sqlite").read_bytes()
    assert b"/changes" in held
    assert b"hunter2" not in held


@pytest.mark.parametrize("target", ["kafka://", "kafka://host:1", "kafka://host:1/a?shards=2"])
def test_a_topic_is_named_whole_and_is_not_made(shop, target):
    with pytest.raises(BadSetting):
        shop[0].delivery(target)


@pytest.mark.kafka
@pytest.mark.skipif(not REAL, reason="HABITUE_TEST_KAFKA names no broker")
def test_a_broker_gets_every_change_once_where_nothing_fails(shop):
    saved, _ = shop
    topic = f"habitue-test-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": REAL})       # it must outlive what it is asked for
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()
    told_until_quiet(saved.delivery(f"kafka://{REAL}/{topic}"))
    found = messages(REAL, topic)
    told = sorted(one["sequence"] for each in found.values() for _, one in each)
    assert told == saved.changes()["sequence"].to_pylist()
