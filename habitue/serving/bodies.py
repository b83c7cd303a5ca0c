"""The body of a request: decompressed as it comes, within bounds of size, time and memory.

A few bytes can decompress to gigabytes, so compressed input is fed in small slices, each of which
may grow so much and no more. A client that sends nothing, or next to nothing, is sent away.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from starlette.requests import Request

from habitue.serving.replies import Refused, unavailable

SLICE_BYTES = 16_384                       # compressed, fed at once
SLICE_GROWS_TO = 17_500_000                # gzip grows at most 1,032-fold
ZSTD_SLICE_BYTES = 512                     # four bytes of zstd can say 128 KiB
WINDOW_BYTES = 8 << 20                     # that a zstd frame may ask to be remembered
SILENCE_SECONDS = 20.0                     # the longest wait for the next bytes
GRACE_SECONDS = 20.0                       # then a body must have come at this rate on average
LEAST_BYTES_PER_SECOND = 500


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
    """Decompresses a body that comes in slices."""

    def feed(self, part: bytes) -> bytes:
        """What a slice decompresses to."""
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
    total = 0
    async for sent in _sent(request):
        for part in _slices(sent, inflater):
            total += len(part)
            if total > most_bytes:
                raise too_large(most_bytes)
            yield part
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
    """What the client sent, as it comes."""
    began, total, more = time.monotonic(), 0, True
    while more:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await request.receive()
        except TimeoutError as error:
            raise _too_slow() from error
        if message["type"] == "http.disconnect":
            raise Gone
        more = message.get("more_body", False)
        sent = message.get("body", b"")
        total += len(sent)
        late = time.monotonic() - began - GRACE_SECONDS
        if more and late > 0 and total < late * LEAST_BYTES_PER_SECOND:
            raise _too_slow()
        if sent:
            yield sent


def _too_slow() -> Refused:
    return Refused(408, "too_slow", "the body did not come; send the same again", retry_seconds=1)


def _refuse_announced(request: Request, most_bytes: int) -> None:
    """Refuse what says itself that it is too large, before any of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise too_large(most_bytes)


def _slices(sent: bytes, inflater: Inflater | None) -> Iterator[bytes]:
    if inflater is None:
        yield sent
        return
    for begin in range(0, len(sent), SLICE_BYTES):
        part = inflater.feed(sent[begin : begin + SLICE_BYTES])
        if part:
            yield part


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
        self._begun = False

    def feed(self, part: bytes) -> bytes:
        if self._stream is None:
            self._bits = 15 if part[0] & 0x0F == 8 else -15
            self._stream = zlib.decompressobj(self._bits)
        grown = bytearray()
        try:
            while part:
                if self._stream.eof:       # one member of a gzip file may follow another
                    self._stream = zlib.decompressobj(self._bits)
                self._begun = True
                grown += self._stream.decompress(part, SLICE_GROWS_TO)
                part = self._stream.unconsumed_tail or self._stream.unused_data
                if len(grown) >= SLICE_GROWS_TO:
                    raise _bomb()
        except zlib.error as error:
            raise _undecodable() from error
        return bytes(grown)

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
        self._begun = False

    def feed(self, part: bytes) -> bytes:
        grown = bytearray()
        try:
            for begin in range(0, len(part), ZSTD_SLICE_BYTES):
                grown += self._decompress(part[begin : begin + ZSTD_SLICE_BYTES])
                if len(grown) >= SLICE_GROWS_TO:
                    raise _bomb()
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
            self._begun = True
            grown += self._stream.decompress(part)
            part = self._stream.unused_data if self._stream.eof else b""
        return grown


def _bomb() -> Refused:
    return Refused(413, "too_large", "the body decompresses to far more than it is; send less")


def _undecodable() -> Refused:
    return Refused(400, "bad_encoding", "the body is not what its Content-Encoding says")
