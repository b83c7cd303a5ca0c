"""Clients that send numbered inputs to a service that dies, each until it is acknowledged.

Each speaks as another client does: our own protocol, Segment's or Klaviyo's, one input or many at
once. Now and then one sends again what was acknowledged long ago, and now and then one gives up.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

SIZES = (1, 1, 1, 1, 4, 25)                # inputs of a request
CUSTOMERS = 40
EVENTS_OF_ONE = 6                          # that a customer sends who is erased
PAUSE_SECONDS = 0.04                       # between two requests of a client
REPEATED, GIVEN_UP = 0.15, 0.2             # shares: of requests, and of those that failed once
_START = datetime(2026, 1, 1, tzinfo=UTC)
_JSON = {"Content-Type": "application/json"}
Request = tuple[str, str, dict[str, str]]  # path, body, headers


@dataclass(slots=True)
class Address:
    """Where the service is now; it changes with each of its lives."""

    secret: str
    port: int = 0


@dataclass(slots=True)
class Sent:
    """What one client knows in the end."""

    begun: set[str] = field(default_factory=set)               # inputs that went out
    acknowledged: set[str] = field(default_factory=set)
    receipts: dict[str, int] = field(default_factory=dict)     # receipt -> inputs, where told
    repeats: int = 0                       # requests that were acknowledged before
    retries: int = 0                       # requests that had no answer, or that of a failure

    @classmethod
    def together(cls, some: "Sequence[Sent]") -> "Sent":
        """What several clients know."""
        return cls(
            begun=set().union(*(one.begun for one in some)),
            acknowledged=set().union(*(one.acknowledged for one in some)),
            receipts={name: rows for one in some for name, rows in one.receipts.items()},
            repeats=sum(one.repeats for one in some),
            retries=sum(one.retries for one in some),
        )


class Client(threading.Thread):
    """Sends as fast as a small shop's client does, until told to end."""

    def __init__(self, name: str, shape: "Shape", address: Address, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.sent = Sent()
        self._shape, self._address, self._rng = shape, address, random.Random(f"{name} {seed}")
        self._ending = threading.Event()
        self._number = 0
        self._acknowledged: list[list[str]] = []
        self._connection: http.client.HTTPConnection | None = None

    def end(self) -> None:
        """Let it end, without an answer to what it sends now if need be."""
        self._ending.set()

    def run(self) -> None:
        """Send until the end."""
        while not self._ending.is_set():
            if self._acknowledged and self._rng.random() < REPEATED:
                self._send(self._rng.choice(self._acknowledged[-300:]))
            else:
                self._send(self._fresh())
            self._ending.wait(PAUSE_SECONDS * 2 * self._rng.random())
        if self._connection is not None:
            self._connection.close()

    def _fresh(self) -> list[str]:
        """Names of inputs that were never sent."""
        size = self._rng.choice(SIZES)
        first, self._number = self._number, self._number + size
        return [f"{self.name}-{number}" for number in range(first, first + size)]

    def _send(self, inputs: list[str]) -> None:
        path, body, headers = self._shape(inputs, self._address.secret)
        is_repeat = inputs[0] in self.sent.acknowledged
        while not self._ending.is_set():
            self.sent.begun.update(inputs)
            answer = self._answer(path, body, headers)
            if answer is not None:
                self._note(inputs, answer, is_repeat=is_repeat)
                return
            self.sent.retries += 1
            if not is_repeat and self._rng.random() < GIVEN_UP:
                return
            self._ending.wait(0.05)

    def _note(self, inputs: list[str], answer: bytes, *, is_repeat: bool) -> None:
        self.sent.repeats += is_repeat
        self.sent.acknowledged.update(inputs)
        self._acknowledged.append(inputs)
        if b'"rejected_in_all"' in answer:
            told = json.loads(answer)
            assert told["accepted"] == len(inputs), told
            self.sent.receipts[told["id"]] = told["rows"]

    def _answer(self, path: str, body: str, headers: dict[str, str]) -> bytes | None:
        """What an acknowledgement says; None if none came."""
        port = self._address.port
        try:
            if self._connection is None or self._connection.port != port:
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            told = response.read()
        except (OSError, http.client.HTTPException):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return None
        assert response.status < 300 or response.status in {429, 503}, (response.status, told)
        return told if response.status < 300 else None


Shape = Callable[[Sequence[str], str], Request]


def native(inputs: Sequence[str], secret: str) -> Request:
    """Our own protocol: every tenth input changes a profile."""
    records = [_record(one) for one in inputs]
    lines = len(inputs) > 1 and number_of(inputs[0]) % 2
    kind = "application/x-ndjson" if lines else "application/json"
    body = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    return "/v1/events", body, {"X-Habitue-Key": secret, "Content-Type": kind}


def segment(inputs: Sequence[str], secret: str) -> Request:
    """Segment's protocol: anonymous behaviour that is stitched, by a clock that is wrong."""
    calls = []
    for one in inputs:
        customer = number_of(one) % CUSTOMERS
        call = {
            "type": "track", "event": "Product Viewed", "messageId": one, "timestamp": _time(one),
            "anonymousId": f"a{customer}", "properties": {"product_id": "i1"},
        }  # fmt: skip
        if number_of(one) % 7 == 0:
            call |= {"type": "identify", "userId": f"c{customer}", "traits": {"last": one}}
        calls.append(call)
    sent_at = (datetime.now(UTC) - timedelta(minutes=3)).isoformat()
    body = json.dumps({"batch": calls, "sentAt": sent_at, "writeKey": secret})
    return "/v1/batch", body, _JSON


def klaviyo(inputs: Sequence[str], secret: str) -> Request:
    """Klaviyo's protocol: one event with a profile, or many of one profile."""
    headers = {"Authorization": f"Klaviyo-API-Key {secret}", "revision": "2025-07-15", **_JSON}
    customer = number_of(inputs[0]) % CUSTOMERS
    profile = {"data": {"type": "profile", "attributes": {
        "email": f"p{customer}@example.com", "external_id": f"c{customer}",
        "properties": {"last": inputs[-1]},
    }}}  # fmt: skip
    events = [
        {"type": "event", "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Viewed Product"}}},
            "properties": {"ProductID": "i1"}, "time": _time(one), "unique_id": one,
        }}
        for one in inputs
    ]  # fmt: skip
    if len(events) == 1:
        events[0]["attributes"]["profile"] = profile
        return "/api/events", json.dumps({"data": events[0]}), headers
    group = {"type": "event-bulk-create",
             "attributes": {"profile": profile, "events": {"data": events}}}  # fmt: skip
    job = {"type": "event-bulk-create-job",
           "attributes": {"events-bulk-create": {"data": [group]}}}  # fmt: skip
    return "/api/event-bulk-create-jobs", json.dumps({"data": job}), headers


def number_of(one: str) -> int:
    """The number of an input of any client."""
    return int(one.rpartition("-")[2])


def _record(one: str) -> dict[str, object]:
    number = number_of(one)
    record = {"customer": f"c{number % CUSTOMERS}", "time": _time(one)}
    if number % 10 == 9:
        return record | {"kind": "profile", "set": {f"p{number % 30}": one}}
    return record | {"id": one, "name": "item_viewed", "item": "i1"}


def _time(one: str) -> str:
    return (_START + timedelta(seconds=number_of(one))).isoformat()


def of_customer(customer: str, secret: str) -> Request:
    """Some events of one customer."""
    records = [
        {"id": f"{customer}-{number}", "name": "item_viewed", "customer": customer,
         "time": _START.isoformat()}
        for number in range(EVENTS_OF_ONE)
    ]  # fmt: skip
    return "/v1/events", json.dumps(records), {"X-Habitue-Key": secret, **_JSON}


def acknowledged_by(address: Address, request: Request, *, within_seconds: float = 300) -> None:
    """Send one request until it is acknowledged."""
    path, body, headers = request
    deadline = time.monotonic() + within_seconds
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=20)
        try:
            connection.request("POST", path, body, headers)
            if connection.getresponse().status < 300:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        assert time.monotonic() < deadline, "it was not acknowledged in time"
        time.sleep(0.05)
