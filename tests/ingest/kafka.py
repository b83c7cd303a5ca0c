"""Messages on a topic of the mock broker, and a lake that consumes them."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Producer

from habitue.directory import Directory
from habitue.ingest.commit import Settled, Taker
from habitue.ingest.kafka import Feed, Topic
from habitue.lake.eventlog.brokers import Cluster
from habitue.lake.query import read
from habitue.lake.tables import Lake

SHOP = "acme"


def utc_now() -> datetime:
    return datetime.now(UTC)


def order(number: int) -> dict[str, object]:
    """A record of our own protocol."""
    return {"name": "order_placed", "customer": f"c{number % 7}", "id": str(number),
            "value": 5, "currency": "USD"}  # fmt: skip


def sent(addresses: str, topic: str, messages: Iterable[object]) -> None:
    """Leave messages on a topic, by turns in its partitions; what is no bytes is told as JSON."""
    producer = Producer({"bootstrap.servers": addresses, "enable.idempotence": True,
                         "log_level": 2})  # fmt: skip
    partitions = len(producer.list_topics(topic, timeout=10).topics[topic].partitions)
    for number, message in enumerate(messages):
        raw = message if isinstance(message, bytes | None) else json.dumps(message).encode()
        producer.produce(topic, value=raw, partition=number % partitions)
    assert not producer.flush(30)


@contextmanager
def feeding(
    folder: Path, addresses: str, name: str = "events", *, follows: bool = False, **told: object
) -> Iterator[Feed]:
    """A feed into the lake of a folder."""
    options = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "100"}
    topic = Topic(shop=SHOP, cluster=Cluster(addresses, options), name=name, **told)
    taker = Taker(Lake(folder / "lake", buckets=4))
    try:
        feed = Feed(topic, taker, Directory(folder / "directory.sqlite"), follows=follows,
                    now=utc_now)  # fmt: skip
        try:
            yield feed
        finally:
            feed.close()
    finally:
        taker.close()


def drained(feed: Feed, **told: float) -> list[Settled]:
    """Every commit until the feed is done."""
    found = []
    while not feed.is_done:
        if (settled := feed.step(**told)) is not None:
            found.append(settled)
    return found


def until(
    feed: Feed, is_enough: Callable[[list[Settled]], bool], *, steps: int = 200, **told: int
) -> None:
    """Steps of a feed that follows, until there is enough."""
    found: list[Settled] = []
    for _ in range(steps):
        if is_enough(found):
            return
        if (settled := feed.step(wait_seconds=0.1, **told)) is not None:
            found.append(settled)
    raise AssertionError(f"not enough after {steps} steps: {found}")


def ids(folder: Path) -> list[int]:
    """The ids of all events in the lake's files, with repeats, sorted."""
    lake = Lake(folder / "lake")
    if SHOP not in lake.shops():
        return []
    return sorted(map(int, read(lake, "SELECT id FROM events", shop=SHOP)["id"].to_pylist()))
