"""A request's way into the log: translate, split by shard, wait for the flush, then answer.

Many requests wait for one flush (group commit): while a shard's thread flushes one batch, the next
gathers. An answer is given only after the flush that holds it. Large bodies are translated in a
thread of their own, in turns by shop, so that the loop stays free for the small ones.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from base64 import b32decode, b32encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from habitue.errors import LogUnavailable
from habitue.events import Rejection, bucket_of
from habitue.faults import reach
from habitue.ingest.doors.faults import Fault, rejection
from habitue.ingest.doors.intake import Intake
from habitue.lake.eventlog.records import Entry, EventLog, Part, encode, key_of
from habitue.serving.fairness import FairQueue, FairThread, Full
from habitue.serving.metrics import Metrics
from habitue.serving.replies import Refused, unavailable

log = logging.getLogger(__name__)

QUEUE_BYTES = 64_000_000                   # that wait for a flush, of one shard
SHOP_BYTES = 16_000_000                    # … of one shop
FLUSH_BYTES = 4_000_000                    # of one batch
INLINE_BYTES = 32_768                      # a body up to this is translated at once

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request came in and when; the same in all of its parts."""

    receipt: str
    shop: str
    source: str                            # as in Event.source
    origin: str                            # the door's path
    received: datetime


@dataclass(slots=True)
class Kept:
    """What is known of a request when all of it is in the log."""

    accepted: int
    rejections: tuple[Rejection, ...]
    offsets: dict[int, int]                # shard -> the last offset that holds some of it


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A body that waits for its flush, and who is told."""

    body: bytes
    told: "asyncio.Future[int]"
    since: float


@dataclass(frozen=True, slots=True)
class _Work:
    """Something to compute off the loop, and who is told."""

    compute: Callable[[], object]
    told: "asyncio.Future[object]"


class Collector:
    """Puts requests into the log, many with one flush. Made and used within one event loop."""

    def __init__(
        self, event_log: EventLog, metrics: Metrics, appended: Callable[[], None] = lambda: None
    ) -> None:
        """Start a thread per shard that flushes, and one that translates what is large.

        `appended` is called by these threads whenever more is in the log.
        """
        self._log, self._metrics, self._appended = event_log, metrics, appended
        self._loop = asyncio.get_running_loop()
        self._flushers = [
            FairThread(
                f"flush-{shard}",
                lambda batch, shard=shard: self._flush(shard, batch),  # type: ignore[misc]
                FairQueue[_Waiting](most_bytes=QUEUE_BYTES, shop_bytes=SHOP_BYTES),
                batch_bytes=FLUSH_BYTES,
            )
            for shard in range(event_log.shards)
        ]
        self._translator = FairThread(
            "translate",
            self._compute,
            FairQueue[_Work](most_bytes=QUEUE_BYTES, shop_bytes=2 * SHOP_BYTES),
            batch_bytes=1,
        )

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for a flush."""
        return sum(flusher.waiting_bytes for flusher in self._flushers)

    async def compute(self, shop: str, size: int, work: Callable[[], Answer]) -> Answer:
        """The answer of a function that reads `size` bytes: at once, or in the shop's turn.

        Raises:
            Refused: too much waits already.
        """
        if size <= INLINE_BYTES:
            return work()
        told = self._loop.create_future()
        try:
            self._translator.put(shop, size, _Work(work, told))
        except Full as full:
            raise _busy(full) from full
        answer: Answer = await told
        return answer

    async def take(self, origin: Origin, size: int, translate: Callable[[], Intake]) -> Kept:
        """Translate a body of `size` bytes, and return when all of it is on disk.

        Raises:
            Malformed: the body as a whole cannot be read.
            Refused: the storage failed, or too much waits already; the client should send again.
        """
        intake, parts = await self.compute(
            origin.shop, size, lambda: _translated(origin, translate, self._log.shards)
        )
        waiting = [self._enqueue(origin.shop, shard, body) for shard, body in parts]
        try:
            offsets = await asyncio.gather(*waiting)
        except LogUnavailable as error:
            raise unavailable(
                "the events could not be written to disk and were not taken; send them again"
            ) from error
        self._metrics.took(origin.shop, len(intake.entries), intake.rejections)
        held = {shard: offset for (shard, _), offset in zip(parts, offsets, strict=True)}
        return Kept(len(intake.entries), intake.rejections, held)

    async def keep_refusal(self, origin: Origin, refused: Refused, sent: bytes) -> None:
        """Keep a whole request that was refused, so that its shop can see and replay it."""
        rejected = rejection(0, Fault(refused.pointer, refused.reason, refused.detail), sent)
        await self.take(origin, 0, lambda: Intake(rows=1, rejections=(rejected,)))

    def close(self) -> None:
        """Flush all that waits and end the threads."""
        self._translator.close()
        for flusher in self._flushers:
            flusher.close()

    def _enqueue(self, shop: str, shard: int, body: bytes) -> "asyncio.Future[int]":
        told: asyncio.Future[int] = self._loop.create_future()
        try:
            self._flushers[shard].put(shop, len(body), _Waiting(body, told, time.monotonic()))
        except Full as full:
            told.cancel()
            raise _busy(full) from full
        return told

    def _flush(self, shard: int, batch: list[_Waiting]) -> None:
        """In the shard's thread: make a batch durable, then let the loop tell who waits."""
        began = time.monotonic()
        reach("serve.before_flush")
        try:
            offsets = self._log.append(shard, [waiting.body for waiting in batch])
        except Exception as error:         # noqa: BLE001 (whoever waits is told)
            self._metrics.flush_failed()
            log.warning("flush failed shard=%d requests=%d error=%s", shard, len(batch), error)
            self._tell(_fail, batch, f"{type(error).__name__}: {error}")
            return
        self._appended()
        reach("serve.after_flush")
        self._metrics.flushed(time.monotonic() - began)
        self._tell(_succeed, batch, offsets)

    def _compute(self, batch: list[_Work]) -> None:
        """In the translating thread: compute, then let the loop tell who waits."""
        for work in batch:
            try:
                answer = work.compute()
            except Exception as error:     # noqa: BLE001 (whoever waits is told)
                self._tell(_set_error, work.told, error)
            else:
                self._tell(_set, work.told, answer)

    def _tell(self, told: Callable[..., None], *what: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(told, *what)


def receipt_id(secret: bytes, received: datetime) -> str:
    """A new receipt's id: when, 64 random bits, and a mark that only its shop's secret makes."""
    began = int(received.timestamp() * 1000).to_bytes(6, "big") + secrets.token_bytes(8)
    return b32encode(began + _mark(secret, began)).decode().lower()


def received_of(receipt: str) -> datetime:
    """When a request was received, by its receipt's id (see `is_of_shop`)."""
    began = int.from_bytes(b32decode(receipt.upper())[:6], "big")
    return datetime.fromtimestamp(began / 1_000, UTC)


def is_receipt_id(text: str) -> bool:
    """Whether the text has the form of an id from here; imports have shorter ones."""
    return len(text) == 32


def is_of_shop(text: str, secret: bytes) -> bool:
    """Whether an id from here was made for the shop that has this secret."""
    try:
        decoded = b32decode(text.upper())
    except ValueError:
        return False
    return hmac.compare_digest(decoded[14:], _mark(secret, decoded[:14]))


def _mark(secret: bytes, began: bytes) -> bytes:
    # a keyed hash by itself: this is done for every request, and HMAC takes 15 times as long
    return hashlib.blake2b(began, key=secret, digest_size=6, person=b"receipt").digest()


def split(entries: Iterable[Entry], shards: int) -> dict[int, list[Entry]]:
    """Entries by the shard of their first noun: by its customer's key, else by its digest."""
    if shards == 1:
        return {0: list(entries)}
    apart: dict[int, list[Entry]] = {}
    for entry in entries:
        first = entry.nouns[0]
        apart.setdefault(bucket_of(first.shop, key_of(first), first.digest, shards), []).append(
            entry
        )
    return apart


def _translated(
    origin: Origin, translate: Callable[[], Intake], shards: int
) -> tuple[Intake, list[tuple[int, bytes]]]:
    """An intake, and its rows of the log by shard; rejections go with the first."""
    intake = translate()
    if not intake.rows:
        return intake, []
    apart = split(intake.entries, shards)
    if not intake.entries:
        apart = {bucket_of(origin.shop, origin.receipt, b"", shards): []}
    first = min(apart)
    return intake, [
        (
            shard,
            encode(
                Part(
                    receipt=origin.receipt, shop=origin.shop, source=origin.source,
                    origin=origin.origin, received=origin.received, entries=tuple(entries),
                    rejections=intake.rejections if shard == first else (),
                )
            ),
        )
        for shard, entries in apart.items()
    ]  # fmt: skip


def _busy(full: Full) -> Refused:
    if full.shop:
        return Refused(
            429, "throttled", "this shop has too much waiting; send the same again", retry_seconds=1
        )
    return unavailable("too much is waiting to be written; send the same again")


def _succeed(batch: list[_Waiting], offsets: Sequence[int]) -> None:
    for waiting, offset in zip(batch, offsets, strict=True):
        _set(waiting.told, offset)


def _fail(batch: list[_Waiting], why: str) -> None:
    for waiting in batch:
        _set_error(waiting.told, LogUnavailable(why))


def _set(told: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not told.done():
        told.set_result(answer)


def _set_error(told: "asyncio.Future[Answer]", error: Exception) -> None:
    if not told.done():
        told.set_exception(error)
