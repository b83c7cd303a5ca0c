"""Which brokers, which topic, how to be let in; and what to do about Kafka's errors."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from confluent_kafka import KafkaError, KafkaException

from habitue.errors import BadSetting

Settings: TypeAlias = dict[str, str | int | float | bool]

SCHEME = "kafka"
MESSAGE_BYTES = 100_000_000                # of one row of a log, at the most
OURS = ("shards", "replication")           # what a place says beside librdkafka's settings
UNSUPPORTED = (KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Brokers, and what librdkafka must be told to be let in."""

    brokers: str                           # host:port, commas between
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, brokers: str, options: Iterable[str]) -> "Cluster":
        """Brokers and options such as `security.protocol=SASL_SSL`.

        Raises:
            BadSetting: an option is no name and value.
        """
        if wrong := [one.partition("=")[0] for one in options if "=" not in one]:
            raise BadSetting(f"{wrong[0]!r} is no option of Kafka's\nhint: NAME=VALUE")
        return cls(brokers, dict(one.split("=", 1) for one in options))

    def settings(self, own: Settings) -> Settings:
        """The settings of a client; what we rely on stands over what was asked for."""
        return {
            "bootstrap.servers": self.brokers,
            "socket.connection.setup.timeout.ms": 5_000,
            "reconnect.backoff.ms": 1_000,     # each try is a line where nobody answers
            **self.options,
            **own,
        }


@dataclass(frozen=True, slots=True)
class Place:
    """The topic that holds a log."""

    cluster: Cluster
    topic: str
    shards: int | None = None              # partitions; none: as many as there are, or 1
    replication: int | None = None         # of a topic that is made; none: the brokers' default

    @classmethod
    def of(cls, url: str) -> "Place":
        """The place that `kafka://host:9092,host:9092/topic?shards=4` names.

        What else stands behind the question mark is for librdkafka, such as
        `security.protocol=SASL_SSL`.

        Raises:
            BadSetting: the text names no topic, or says what cannot be.
        """
        parts = urlsplit(url)
        topic = unquote(parts.path.strip("/"))
        if parts.scheme != SCHEME or not parts.netloc or not topic or "/" in topic:
            raise BadSetting(
                f"{_public(url)!r} names no Kafka topic\n"
                "hint: kafka://host:9092/topic, kafka://one:9092,two:9092/topic?shards=4"
            )
        told = dict(parse_qsl(parts.query))
        counts = {name: _count(name, told.pop(name)) for name in OURS if name in told}
        return cls(Cluster(parts.netloc, told), topic, **counts)


def said(error: KafkaException) -> str:
    """What Kafka says."""
    with suppress(AttributeError, IndexError):
        return str(error.args[0].str())
    return str(error)


def hint(error: KafkaException, brokers: str, topic: str) -> str:
    """What to do about it."""
    match error.args[0].code():
        case KafkaError.MSG_SIZE_TOO_LARGE | KafkaError.INVALID_MSG_SIZE:
            return f"raise the topic's max.message.bytes, up to {MESSAGE_BYTES}"
        case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            return "allow this user to create, describe, read, write and trim the topic"
        case KafkaError._UNSUPPORTED_FEATURE | KafkaError.UNSUPPORTED_VERSION:
            return f"the brokers cannot make it; make the topic {topic!r} yourself"
    return f"do the brokers at {brokers} run? try again"


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise BadSetting(f"{name}={text} in the log's place must be a whole number from 1")
    return int(text)


def _public(url: str) -> str:
    """A place without what stands behind its question mark, which may be secret."""
    return url.partition("?")[0]
