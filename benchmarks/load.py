"""A light load generator: several connections, each with one request on its way.

It shares the machine with what it measures, so it does next to nothing for a request: bodies are
made before, a number is put in their places for one, and the clock is looked at twice.
"""

import json
import selectors
import socket
import time
from array import array
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field

NUMBER = b"##########"                     # replaced in every body, so that no event is a repeat
_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Requests:
    """What is sent again and again: a head and a body, both of fixed length."""

    events: int                            # in each
    head: bytes
    body: bytes

    @classmethod
    def of(cls, events: int, key: str, *, customers: int = 50_000) -> "Requests":
        """Events of our own protocol: one as an object, many one per line."""
        lines = [
            json.dumps(
                {"id": f"{NUMBER.decode()}-{n}", "name": "item_viewed", "item": f"i{n % 500}",
                 "customer": f"c{n * 7919 % customers}", "time": "2026-01-02T03:04:05.678Z",
                 "properties": {"page": f"/products/{n % 500}", "device": "phone"}}
            )
            for n in range(events)
        ]  # fmt: skip
        body = "\n".join(lines).encode()
        kind = "application/json" if events == 1 else _LINES
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Habitue-Key: {key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return cls(events, head.encode(), body)

    def numbered(self, number: int) -> bytes:
        """The body of one request."""
        return self.body.replace(NUMBER, b"%010d" % number)

    def whole(self, number: int) -> bytes:
        """One request as it goes over the wire."""
        return self.head + self.numbered(number)


@dataclass(slots=True)
class Load:
    """What came of it."""

    seconds: float = 0.0
    requests: int = 0
    refused: int = 0                       # not acknowledged
    waits: array = field(default_factory=lambda: array("d"))    # seconds, of each acknowledgement

    def percentile_ms(self, share: float) -> float:
        """How long the acknowledgement took at most, for this share of requests."""
        ordered = sorted(self.waits)
        return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Sender:
    """Connections to one server that are kept; each request gets a number of its own."""

    def __init__(self, port: int, connections: int) -> None:
        self._sockets = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(connections)
        ]
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = 0

    def send(
        self, requests: Requests, *, most: int | None = None, seconds: float = float("inf")
    ) -> Load:
        """Send until so many were acknowledged or so many seconds are over."""
        load, began = Load(), time.perf_counter()
        sent: dict[socket.socket, float] = {}
        with selectors.DefaultSelector() as selector:
            for one in self._sockets[:most]:
                selector.register(one, selectors.EVENT_READ)
                self._next(one, requests, sent)
            begun = len(sent)
            for one in _ready(selector, sent):
                self._note(one, load, time.perf_counter() - sent.pop(one))
                is_more = most is None or begun < most
                if is_more and time.perf_counter() - began < seconds:
                    begun += 1
                    self._next(one, requests, sent)
        load.seconds = time.perf_counter() - began
        return load

    def close(self) -> None:
        """Give the connections back."""
        for one in self._sockets:
            one.close()

    def _next(
        self, one: socket.socket, requests: Requests, sent: dict[socket.socket, float]
    ) -> None:
        whole = requests.whole(self.number)
        self.number += 1
        sent[one] = time.perf_counter()
        one.sendall(whole)

    def _note(self, one: socket.socket, load: Load, wait: float) -> None:
        answer = one.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += one.recv(65_536)
        load.requests += 1
        load.waits.append(wait)
        load.refused += not answer.startswith(b"HTTP/1.1 202")


def _ready(selector: selectors.BaseSelector, sent: Sized) -> Iterator[socket.socket]:
    """Connections that have an answer, as long as any waits for one."""
    while sent:
        for key, _ in selector.select(30):
            yield key.fileobj  # type: ignore[misc]
