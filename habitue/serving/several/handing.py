"""`HandedLog`: an event log whose rows are appended by another process, on disk before it says so.

That process listens at a socket in the workspace's folder `online`, which only the owner may
enter. A frame is four bytes of length and a structure of msgpack; one question, then its answer.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from habitue.errors import LogUnavailable
from habitue.lake.eventlog.records import EventLog, Record

HANDING_FILE = "log.sock"                  # in the workspace's folder `online`
MOST_FRAME_BYTES = 1 << 30
WAIT_SECONDS = 30.0                        # for rows to be on disk
_LENGTH = struct.Struct(">I")


class Rows(msgspec.Struct, frozen=True, array_like=True):
    """What is handed on: rows of one shard, all or none of which are appended."""

    shard: int
    bodies: list[bytes]


class Appended(msgspec.Struct, frozen=True, array_like=True):
    """What became of them."""

    offsets: list[int]
    failure: str = ""                      # why none was appended


class HandedLog:
    """An event log that is read here and appended to over there. Threads may share it."""

    def __init__(self, path: Path, held: EventLog) -> None:
        """Append by the socket at `path`, which may be missing for a while, and read `held`."""
        self._path, self._held = path, held
        self._guards = [threading.Lock() for _ in range(held.shards)]
        self._sockets: list[socket.socket | None] = [None] * held.shards

    @property
    def shards(self) -> int:
        """How many there are; fixed when the log is made."""
        return self._held.shards

    def append(self, shard: int, bodies: Sequence[bytes]) -> Sequence[int]:
        """Append all or none, durable on return; the offsets they got.

        Raises:
            LogUnavailable: what was sent counts as not appended; the one who writes is gone, or
                said why it could not.
        """
        with self._guards[shard]:
            try:
                told = self._ask(shard, Rows(shard, list(bodies)))
            except (OSError, msgspec.DecodeError) as error:
                self._drop(shard)
                raise LogUnavailable(f"the writing process is out of reach: {error}") from error
            except BaseException:
                self._drop(shard)          # its answer would be taken for that of the next
                raise
        if told.failure:
            raise LogUnavailable(told.failure)
        return told.offsets

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        """See `EventLog`."""
        return self._held.read(shard, offset, most_bytes=most_bytes)

    def end(self, shard: int) -> int:
        """See `EventLog`."""
        return self._held.end(shard)

    def trim(self, shard: int, below: int) -> int:
        """Nothing: the process that follows the log trims it."""
        return 0

    def close(self) -> None:
        """Give sockets and files back."""
        for shard, guard in enumerate(self._guards):
            with guard:
                self._drop(shard)
        self._held.close()

    def _ask(self, shard: int, rows: Rows) -> Appended:
        held = self._sockets[shard]
        if held is None:
            held = self._sockets[shard] = _connected(self._path)
        send(held, rows)
        answer = receive(held)
        if answer is None:
            raise ConnectionResetError("it closed the connection")
        return msgspec.msgpack.decode(answer, type=Appended)

    def _drop(self, shard: int) -> None:
        held, self._sockets[shard] = self._sockets[shard], None
        if held is not None:
            held.close()


def send(to: socket.socket, told: msgspec.Struct) -> None:
    """Send one frame."""
    body = msgspec.msgpack.encode(told)
    to.sendall(_LENGTH.pack(len(body)))
    to.sendall(body)


def receive(of: socket.socket) -> bytes | None:
    """The next frame; none: the other side is gone."""
    head = _exactly(of, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MOST_FRAME_BYTES:
        raise OSError(f"a frame of {length:,} bytes is too large")
    return _exactly(of, length)


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of a socket that is short enough, however deep its folder lies (on Linux)."""
    if not Path("/proc/self/fd").exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(WAIT_SECONDS)
        with short(path) as name:
            made.connect(name)
    except BaseException:
        made.close()
        raise
    return made


def _exactly(of: socket.socket, length: int) -> bytes | None:
    """So many bytes; none: it ended before."""
    parts = bytearray()
    while len(parts) < length:
        part = of.recv(min(length - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
