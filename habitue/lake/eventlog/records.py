"""`EventLog`, the interface, and what its rows hold: `Part`, one shard's part of one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from habitue.events import Event, Identifier, Instant, Noun, Rejection


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One input of a request, and what it became; the first noun decides if it is new."""

    position: int                          # its place in the request, from 0
    nouns: tuple[Noun, ...]


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one request brought to one shard. Inputs = entries + rejections."""

    receipt: str                           # the same in every part of a request
    shop: str
    source: str                            # "native", "klaviyo", "segment", … as in Event.source
    origin: str                            # the door's path, a topic, or a folder
    received: Instant
    entries: tuple[Entry, ...]
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the log."""

    offset: int                            # grows by at least one, never used twice
    body: bytes                            # an encoded Part


class EventLog(Protocol):
    """An append-only log in shards, which any number of processes read.

    Whether several may append to a shard, and whether a failed append leaves nothing behind, is
    each log's own: see its docstring.
    """

    @property
    def shards(self) -> int:
        """How many there are; fixed when the log is made."""
        ...

    def append(self, shard: int, bodies: Sequence[bytes]) -> Sequence[int]:
        """Append, durable on return; the offsets they got, one each, growing.

        Raises:
            LogUnavailable: what was sent counts as not appended, and is sent again; the storage is
                full, read-only, broken or out of reach.
        """
        ...

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        """Rows from `offset` on in order, at least one if there is one, up to `most_bytes`.

        Raises:
            LogUnavailable: rows at or after `offset` were trimmed away or cannot be read.
        """
        ...

    def end(self, shard: int) -> int:
        """The offset that the next row will get at the earliest."""
        ...

    def trim(self, shard: int, below: int) -> int:
        """Drop rows that are all below an offset, as far as it can; returns how many."""
        ...

    def close(self) -> None:
        """Give files and connections back."""
        ...


_decoder = msgspec.json.Decoder(Part)


def encode(part: Part) -> bytes:
    """A part as a row of the log holds it: JSON, so that properties stay as they came."""
    return msgspec.json.encode(part)


def decode(body: bytes) -> Part:
    """The part that a row of the log holds."""
    return _decoder.decode(body)


def key_of(noun: Noun) -> str | None:
    """The customer key by which a noun is placed in shards and buckets; None: by its digest."""
    match noun:
        case Event(customer=customer):
            return customer
        case Identifier(key=key):
            return key
    return getattr(noun, "customer", None) or getattr(noun, "key", None)
