"""`Writing`: the one process that appends takes rows from all others, many with one flush."""

import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import msgspec

from habitue.errors import LogUnavailable
from habitue.lake.eventlog.records import EventLog
from habitue.serving.fairness import FairQueue, FairThread
from habitue.serving.several.handing import Appended, Rows, receive, send, short

log = logging.getLogger(__name__)

FLUSH_BYTES = 16_000_000                   # of one append; each process hands on a quarter at most
_MOST_BYTES = 4_000_000_000                # that wait; each process waits for what it handed on


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows that wait for a flush, and who is told."""

    bodies: list[bytes]
    told: "Future[list[int]]"


class Writing:
    """Listens for rows until it is closed, and appends them in the order of turns."""

    def __init__(self, path: Path, event_log: EventLog) -> None:
        """Listen at once; what lies at `path` is of one that is gone."""
        self._log, self._path = event_log, path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short(path) as name:
            self._listener.bind(name)
        self._listener.listen(128)
        self._flushers = [
            FairThread(
                f"append-{shard}",
                lambda batch, shard=shard: self._flush(shard, batch),  # type: ignore[misc]
                FairQueue[_Waiting](most_bytes=_MOST_BYTES, shop_bytes=_MOST_BYTES),
                batch_bytes=FLUSH_BYTES,
            )
            for shard in range(event_log.shards)
        ]
        self._served: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="handed", daemon=True).start()

    def close(self) -> None:
        """Append what was handed on, answer, and listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for flusher in self._flushers:
            flusher.close()
        for one in list(self._served):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:                # it was closed
                return
            self._served.add(connection)
            threading.Thread(
                target=self._serve, args=(connection,), name="handed-by", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        """Take rows from one process until it is gone."""
        who = str(connection.fileno())
        try:
            with connection:
                while (frame := receive(connection)) is not None:
                    send(connection, self._appended(who, frame))
        except (OSError, msgspec.DecodeError) as error:
            log.info("a process that hands rows on is gone: %s", error)
        finally:
            self._served.discard(connection)

    def _appended(self, who: str, frame: bytes) -> Appended:
        rows = msgspec.msgpack.decode(frame, type=Rows)
        told: Future[list[int]] = Future()
        self._flushers[rows.shard].put(who, len(frame), _Waiting(rows.bodies, told))
        try:
            return Appended(told.result())
        except LogUnavailable as error:
            return Appended([], str(error))

    def _flush(self, shard: int, batch: list[_Waiting]) -> None:
        """In the shard's thread: make all of it durable, then tell who waits."""
        bodies = [body for waiting in batch for body in waiting.bodies]
        try:
            offsets = self._log.append(shard, bodies)
        except Exception as error:         # noqa: BLE001 (whoever waits is told)
            failure = LogUnavailable(f"{type(error).__name__}: {error}")
            for waiting in batch:
                waiting.told.set_exception(failure)
            return
        _tell(batch, offsets)


def _tell(batch: list[_Waiting], offsets: Sequence[int]) -> None:
    """Give each its own part of the offsets."""
    begin = 0
    for waiting in batch:
        end = begin + len(waiting.bodies)
        waiting.told.set_result(list(offsets[begin:end]))
        begin = end
