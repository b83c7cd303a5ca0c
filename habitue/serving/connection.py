"""One connection of a client: bounds on headers, on waiting and on how many there are.

uvicorn leaves these out, or counts every connection alike.
"""

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from habitue.serving.crowd import Crowd
from habitue.serving.replies import Refused, problem

MOST_HEAD_BYTES = 65_536                   # of the address and the headers of a request
HEAD_SECONDS = 20.0                        # for them to come
IDLE_SECONDS = 75.0                        # between two requests
LINGER_SECONDS = 10.0                      # for a body to end that was refused before its end


class Connection(HttpToolsProtocol):
    """uvicorn's own protocol, with a clock on whatever it would wait for without end."""

    def __init__(self, *arguments: Any, crowd: Crowd, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._crowd = crowd
        self._head_bytes = 0
        self._in_head = False
        self._is_half_closed = False
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        if self._crowd.let_in(self, self.client[0] if self.client else ""):
            self._wait(HEAD_SECONDS)
        else:
            self._say(503, "unavailable", "too many connections; send the same again")

    def leave(self) -> None:
        """Make room for another client."""
        self.transport.abort()             # what it does not read would keep it open

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self._crowd.let_out(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; refuse headers without end."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self._say(431, "headers_too_large", "the headers are too large")

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that has said all and still listens gets its answer."""
        waits = self.cycle is not None and not self.cycle.response_complete
        if waits and not self.cycle.more_body:
            self._is_half_closed = True
            return True
        return None

    def on_message_begin(self) -> None:
        """A request begins; its headers must come soon."""
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True
        self._wait(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """From here on the application waits, with a clock of its own."""
        self._in_head = False
        self._stop_waiting()
        self._crowd.work(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that was refused."""
        super().on_response_complete()
        if self._is_half_closed and not self.pipeline:
            self.transport.close()
        elif self.cycle.response_complete and not self._in_head:
            self._crowd.wait(self)
            self._wait(LINGER_SECONDS if self.cycle.more_body else IDLE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Tell a client that it does not speak HTTP."""
        self._say(400, "bad_request", "this is not HTTP/1.1 as it should be")

    def _say(self, status: int, code: str, message: str) -> None:
        # what path it would have been is not known, so it is told in the words of all of them
        told = problem(Refused(status, code, message))
        body = msgspec.json.encode(msgspec.to_builtins(told) | {"message": message})
        retry = b"retry-after: 1\r\n" if status in {408, 503} else b""
        self.transport.write(
            STATUS_LINE[status] + b"content-type: application/problem+json\r\n"
            b"content-length: %d\r\n%bconnection: close\r\n\r\n%b" % (len(body), retry, body)
        )
        self.transport.close()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._clock = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._say(408, "too_slow", "the request did not come; send the same again")
        self.transport.close()
