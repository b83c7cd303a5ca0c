"""Changes of memberships, told to others: a file, an address that is called, a topic of Kafka.

At least once, and in the order in which they were found, so each customer's too: the place up to
which was told is written after what it tells of was taken. Whoever is called knows a repeat by its
sequence number, and us by the signature: HMAC-SHA256, by a secret that both have, of the time and
the body. What is not taken is tried again, later and later.
"""

import hashlib
import hmac
import json
import logging
import os
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from habitue.audiences.changes.lines import line, told
from habitue.audiences.changes.reading import changes
from habitue.errors import BadSetting, NotInstalled

log = logging.getLogger(__name__)

AT_ONCE = 100                              # changes of one call
TIMEOUT_SECONDS = 10.0
FIRST_SECONDS, MOST_SECONDS = 0.5, 60.0    # between tries
PLACES_FILE = "deliveries.sqlite"
SIGNATURE = "Habitue-Signature"            # t=SECONDS,v1=HEX
LOOK_SECONDS = 0.05                        # between looks at what was found since

_PLACES = """
CREATE TABLE IF NOT EXISTS told (
    shop TEXT, target TEXT, sequence INTEGER NOT NULL, PRIMARY KEY (shop, target)) WITHOUT ROWID
"""


class Sink(Protocol):
    """Where changes are told."""

    def take(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Tell some changes; whether they were taken, all of them."""
        ...


@dataclass(frozen=True, slots=True)
class File:
    """A file that grows by one line of JSON for each change."""

    path: Path

    def take(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Append, durable on return; what is there already from a try that was cut is left out."""
        last = self._last()
        with self.path.open("ab") as file:
            for row in rows:
                if row["sequence"] > last:
                    file.write(line(row) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return True

    def _last(self) -> int:
        """The sequence number of the last whole line; half a line is cut off."""
        if not self.path.exists():
            return 0
        held = self.path.read_bytes()
        whole = held.rpartition(b"\n")[0]
        if len(whole) + 1 < len(held):
            os.truncate(self.path, len(whole) + bool(whole))
        return int(json.loads(whole.rpartition(b"\n")[2])["sequence"]) if whole else 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is called with a list of changes, as JSON."""

    url: str
    secret: bytes
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        is_near = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_near):
            raise BadSetting(f"{self.url}: wanted https://…, or http:// on this machine")
        if not self.secret:
            raise BadSetting("a call is signed: the secret is empty")

    def take(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Call; taken is what is answered by 2xx. Nobody is followed elsewhere."""
        body = b"[" + b",".join(map(line, rows)) + b"]"
        headers = {
            "Content-Type": "application/json",
            SIGNATURE: signature(self.secret, body, int(self.now())),
        }
        asked = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with _OPENER.open(asked, timeout=TIMEOUT_SECONDS) as answer:
                return bool(200 <= answer.status < 300)
        except (urllib.error.URLError, OSError) as error:
            log.warning("calling failed, trying again: %s", error)
            return False


class _Still(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: what is told is for the address that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Still)


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """What the header holds: when it was signed, and by whom.

    >>> signature(b"secret", b"[]", 1764331897)[:15]
    't=1764331897,v1'
    """
    told = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={told}"


def is_ours(secret: bytes, body: bytes, header: str) -> bool:
    """Whether a body was signed by who has the secret; how old it is, the caller judges."""
    seconds, _, _ = header.removeprefix("t=").partition(",")
    return seconds.isdecimal() and hmac.compare_digest(
        signature(secret, body, int(seconds)), header
    )


def sink_of(target: str, secret: bytes | None) -> tuple[Sink, str]:
    """Where a target says that changes are told, and the name under which it is remembered.

    Raises:
        BadSetting: it names no address that can be called, and no topic.
        NotInstalled: it names a topic, and Kafka's client is not there.
    """
    if target.startswith("kafka://"):
        NotInstalled.unless("confluent_kafka", package="confluent-kafka", extra="kafka")
        from habitue.audiences.changes.kafka import Topic
        from habitue.lake.eventlog.brokers import Place

        topic = Topic(Place.of(target))
        return topic, topic.name
    return (Webhook(target, secret or b"") if "://" in target else File(Path(target))), target


class Delivery:
    """What one target was told of a shop's changes, and what it is told next."""

    def __init__(
        self, live: Path, places: Path, shop: str, target: str, sink: Sink, *,
        audience: str | None = None,
    ) -> None:  # fmt: skip
        """Go on where it stopped; `places` is the file that knows."""
        self._live, self._shop, self._target = live, shop, target
        self._sink, self._audience, self._places = sink, audience, places
        with closing(self._open()) as connection, connection:
            connection.execute(_PLACES)
        self._wait = 0.0

    def step(self) -> float:
        """Tell what is next; seconds until the next step."""
        after = self.told()
        rows = list(told(changes(self._live, self._shop, after=after, audience=self._audience,
                                  most=AT_ONCE)))  # fmt: skip
        if not rows:
            return LOOK_SECONDS
        if not self._sink.take(rows):
            self._wait = min(max(2 * self._wait, FIRST_SECONDS), MOST_SECONDS)
            return self._wait
        self._wait = 0.0
        with closing(self._open()) as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?)",
                [self._shop, self._target, rows[-1]["sequence"]],
            )
        return 0.0

    def told(self) -> int:
        """The sequence number up to which was told."""
        with closing(self._open()) as connection:
            row = connection.execute(
                "SELECT sequence FROM told WHERE shop = ? AND target = ?",
                [self._shop, self._target],
            ).fetchone()
        return int(row[0]) if row else 0

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._places, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

