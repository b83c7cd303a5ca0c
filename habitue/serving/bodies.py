"""The body of a request: decompressed as it comes, within bounds of size, time and memory.

A few bytes can decompress to gigabytes, so what is large is decompressed piece by piece in a
thread, and what grows without measure is refused. A client that sends nothing, or next to nothing,
is sent away, however much it sent before.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request

from habitue.serving.replies import Refused, unavailable

INLINE_BYTES = 65_536                      # decompressed at once, of what came together
PIECE_BYTES = 1_000_000                    # … then in a thread, at a time
ZSTD_SLICE_BYTES = 128                     # four bytes of zstd can say 128 KiB
WINDOW_BYTES = 8 << 20                     # that a zstd frame may ask to be remembered
FREE_BYTES = 20_000_000                    # that any body may grow to; from there on …
MOST_GROWTH = 200                          # … so many times its size: gzip can do 1,032, zstd more
SILENCE_SECONDS = 20.0                     # the longest wait for the next bytes
GRACE_SECONDS = 30.0                       # of waiting in all, beyond this rate
LEAST_BYTES_PER_SECOND = 1_000


@dataclass(slots=True)
class Room:
    """Memory for bodies that are being read; each shop, or stranger's address, gets a part of it.

    Whoever has told no key yet gets a room apart, so that nobody without one can fill the other.
    """

    most_bytes: int = 256_000_000
    each_bytes: int = 64_000_000           # of one who sends; one body may always come, if it fits
    taken: int = 0
    _of: dict[str, int] = field(default_factory=dict)      # who -> bytes taken

    def take(self, size: int, who: str) -> None:
        """Make room for so many bytes more; raises `Refused` where there is none."""
        held = self._of.get(who, 0)
        is_full = self.taken and self.taken + size > self.most_bytes
        if is_full or (held and held + size > self.each_bytes):
            raise unavailable("too many large requests at once; send the same again")
        self.taken += size
        self._of[who] = held + size

    def give(self, size: int, who: str) -> None:
        """Give room back."""
        self.taken -= size
        left = self._of.pop(who, 0) - size
        if left > 0:
            self._of[who] = left


class Inflater(Protocol):
    """Decompresses a body that comes in parts."""

    @property
    def holds_more(self) -> bool:
        """Whether there may be more to pull before more is fed."""
        ...

    def feed(self, part: bytes) -> None:
        """Take what came; all that came before was pulled."""
        ...

    def pull(self, about: int) -> bytes:
        """The next bytes, about so many; raises `Refused` if they cannot be decompressed."""
        ...

    def end(self) -> None:
        """Raise `Refused` if the body ended in the middle."""
        ...


async def whole(request: Request, room: Room, *, most_bytes: int, who: str = "") -> bytes:
    """The decompressed body of a request, held in the room of whoever sends it.

    Raises:
        Refused: it is larger than `most_bytes`, came too slowly, or cannot be decompressed.
    """
    _refuse_announced(request, most_bytes)
    held = bytearray()
    try:
        async for part in pieces(request, most_bytes=most_bytes):
            room.take(len(part), who)
            held += part
        return bytes(held)
    finally:
        room.give(len(held), who)


async def pieces(request: Request, *, most_bytes: int) -> AsyncIterator[bytes]:
    """The decompressed body of a request, piece by piece as it comes.

    Raises:
        Refused: as `whole`.
        Gone: the client left before the end.
    """
    inflater = _inflater(request.headers.get("content-encoding", "").strip().lower())
    sent = grown = 0
    async for part in _sent(request):
        sent += len(part)
        async for piece in _inflated(part, inflater):
            grown += len(piece)
            if grown > most_bytes:
                raise too_large(most_bytes)
            if grown > max(FREE_BYTES, sent * MOST_GROWTH) and inflater is not None:
                raise _bomb()
            yield piece
    if inflater is not None:
        inflater.end()


class Gone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def too_large(most_bytes: int) -> Refused:
    """What is told to whoever sends more than a door takes."""
    return Refused(
        413, "too_large", f"this takes up to {most_bytes:,} bytes, decompressed; send fewer at once"
    )


async def _sent(request: Request) -> AsyncIterator[bytes]:
    """What the client sent, as it comes.

    The clock runs only while the client is waited for. What comes buys time, but never more than
    the grace: who sends much at first may not drip for hours afterwards.
    """
    patience, more = GRACE_SECONDS, True
    while more:
        began = time.monotonic()
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await request.receive()
        except TimeoutError as error:
            raise _too_slow() from error
        if message["type"] == "http.disconnect":
            raise Gone
        more = message.get("more_body", False)
        sent = message.get("body", b"")
        patience += len(sent) / LEAST_BYTES_PER_SECOND - (time.monotonic() - began)
        if more and patience < 0:
            raise _too_slow()
        patience = min(patience, GRACE_SECONDS)
        if sent:
            yield sent


def _too_slow() -> Refused:
    return Refused(408, "too_slow", "the body did not come; send the same again", retry_seconds=1)


def _refuse_announced(request: Request, most_bytes: int) -> None:
    """Refuse what says itself that it is too large, before any of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise too_large(most_bytes)


async def _inflated(part: bytes, inflater: Inflater | None) -> AsyncIterator[bytes]:
    """What a part decompresses to; the loop is not kept by what is large."""
    if inflater is None:
        yield part
        return
    inflater.feed(part)
    yield inflater.pull(INLINE_BYTES)
    while inflater.holds_more:
        yield await asyncio.to_thread(inflater.pull, PIECE_BYTES)


def _inflater(encoding: str) -> Inflater | None:
    match encoding:
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(31)
        case "deflate":
            return _Zlib(0)
        case "zstd":
            return _Zstd()
    raise Refused(
        415, "bad_encoding", f"Content-Encoding {encoding[:40]!r} is not known; gzip, deflate and"
        " zstd are"
    )  # fmt: skip


class _Zlib:
    """gzip (31 window bits) or deflate (0: with or without the header of zlib)."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._stream = zlib.decompressobj(bits) if bits else None
        self._fed = b""
        self._begun = self._is_full = False

    @property
    def holds_more(self) -> bool:
        return bool(self._fed) or self._is_full

    def feed(self, part: bytes) -> None:
        self._fed, self._begun = part, True
        if self._stream is None:
            self._bits = 15 if part[0] & 0x0F == 8 else -15
            self._stream = zlib.decompressobj(self._bits)

    def pull(self, about: int) -> bytes:
        assert self._stream is not None, "it was fed"
        if self._stream.eof and self._fed:     # one member of a gzip file may follow another
            self._stream = zlib.decompressobj(self._bits)
        try:
            grown = self._stream.decompress(self._fed, about)
        except zlib.error as error:
            raise _undecodable() from error
        self._fed = self._stream.unconsumed_tail or self._stream.unused_data
        self._is_full = len(grown) == about and not self._stream.eof
        return grown

    def end(self) -> None:
        if self._begun and self._stream is not None and not self._stream.eof:
            raise _undecodable()


class _Zstd:
    """One or more frames of zstd."""

    def __init__(self) -> None:
        from zstandard import ZstdDecompressor, ZstdError

        self._error = ZstdError
        self._decompressor = ZstdDecompressor(max_window_size=WINDOW_BYTES)
        self._stream = self._decompressor.decompressobj()
        self._fed, self._at = b"", 0
        self._begun = False

    @property
    def holds_more(self) -> bool:
        return self._at < len(self._fed)

    def feed(self, part: bytes) -> None:
        self._fed, self._at, self._begun = part, 0, True

    def pull(self, about: int) -> bytes:
        grown = bytearray()
        try:
            while self.holds_more and len(grown) < about:
                end = self._at + ZSTD_SLICE_BYTES
                grown += self._decompress(self._fed[self._at : end])
                self._at = end
        except self._error as error:
            raise _undecodable() from error
        return bytes(grown)

    def end(self) -> None:
        if self._begun and not self._stream.eof:
            raise _undecodable()

    def _decompress(self, part: bytes) -> bytes:
        grown = b""
        while part:
            if self._stream.eof:           # one frame may follow another
                self._stream = self._decompressor.decompressobj()
            grown += self._stream.decompress(part)
            part = self._stream.unused_data if self._stream.eof else b""
        return grown


def _bomb() -> Refused:
    return Refused(413, "too_large", "the body decompresses to far more than it is; send less")


def _undecodable() -> Refused:
    return Refused(400, "bad_encoding", "the body is not what its Content-Encoding says")
