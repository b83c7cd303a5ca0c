"""Changes told to a Kafka topic: a message each, keyed by the customer.

A customer's changes are in one partition, in their order: the producer is idempotent, and leaves no
gap where a message fails. All of a try that failed are sent again, so a change may come twice, with
the same `sequence`.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from habitue.audiences.changes.lines import line
from habitue.errors import BadSetting
from habitue.lake.eventlog.brokers import Place, Settings, hint, said

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0                     # for the brokers to take a message
_SLACK_SECONDS = 5.0                       # that librdkafka gets to report what timed out


class Topic:
    """A topic, and a producer for as long as nothing fails."""

    def __init__(self, place: Place, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Nothing is asked of the brokers yet."""
        if place.shards is not None or place.replication is not None:
            raise BadSetting(
                "shards and replication are for a log's topic; this one is yours\n"
                f"hint: make the topic {place.topic!r} with as many partitions as you like"
            )
        self.place = place
        self._timeout = timeout_seconds
        self._producer: Producer | None = None

    @property
    def name(self) -> str:
        """Which topic it is, however one is let in."""
        return f"kafka://{self.place.cluster.brokers}/{self.place.topic}"

    def take(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Tell some changes, acknowledged by every replica in sync on return."""
        try:
            self._send(rows)
        except KafkaException as error:
            told = hint(error, self.place.cluster.brokers, self.place.topic)
            log.warning("telling Kafka failed, trying again: %s; hint: %s", said(error), told)
            if self._producer is not None:
                self._producer.purge()     # what still waits is not sent later, behind others
                self._producer = None
            return False
        return True

    def _send(self, rows: Sequence[dict[str, Any]]) -> None:
        if self._producer is None:
            self._producer = Producer(self.place.cluster.settings(self._settings()), logger=log)
        errors: list[KafkaError] = []

        def told(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                errors.append(error)

        deadline = time.monotonic() + self._timeout + _SLACK_SECONDS
        for row in rows:
            _put(self._producer, (self.place.topic, row), told, deadline)
        while len(self._producer) and not errors and time.monotonic() < deadline:
            self._producer.poll(0.1)
        if errors or len(self._producer):
            raise KafkaException(errors[0] if errors else KafkaError(KafkaError._TIMED_OUT))

    def _settings(self) -> Settings:
        return {
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "acks": "all",
            "partitioner": "murmur2_random",               # as Kafka's own clients do
            "linger.ms": 1,
            "message.timeout.ms": int(self._timeout * 1000),
            "log_level": 4,
        }


def _put(
    producer: Producer, message: tuple[str, dict[str, Any]], told: Any, deadline: float
) -> None:
    """Give the producer a change as soon as its queue has room."""
    topic, row = message
    while time.monotonic() < deadline:
        with suppress(BufferError):
            producer.produce(topic, line(row), row["customer"].encode(), on_delivery=told)
            return
        producer.poll(0.1)
    raise KafkaException(KafkaError(KafkaError._QUEUE_FULL))
