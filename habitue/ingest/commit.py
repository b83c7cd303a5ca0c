"""`Committer`: one shard of the event log into the lake, every input exactly once.

A step reads some rows of the log and makes one commit of them: what is new goes into its tables,
what was not taken into `rejected`, what became of each request into `receipts`, and the cursor
moves in the same commit. So a step is there as a whole or never happened, and two rivals on one
shard cannot both store it: the cursor is looked at again under the lake's lease.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from habitue.errors import Busy, LogUnavailable, Overtaken
from habitue.events import Link, Noun, Rejection, bucket_of
from habitue.faults import reach
from habitue.lake.eventlog.records import EventLog, Part, Record, decode
from habitue.lake.eventlog.rows import (
    TABLE_OF,
    Refused,
    digests_of,
    rejected_rows,
    rows_of,
    unplaced,
)
from habitue.lake.index import DedupeIndex
from habitue.lake.maintenance import housekeeping
from habitue.lake.tables import Lake, usual_settings

log = logging.getLogger(__name__)

Refuses: TypeAlias = Callable[[Noun], bool]
_Place: TypeAlias = tuple[int, int, bool]  # the part's number, the input's position, is it first

_Pair: TypeAlias = tuple[str, str, str, bool]      # shop, two keys, and if a public key said so
_First: TypeAlias = tuple[datetime, datetime]      # since when they are linked, and known to be

_MOST_PAIRS = 500_000                      # of linked keys that are remembered
_MOST_BYTES = 64_000_000                   # of log rows in one step; bounds its memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one step did. rows = appended + duplicate + rejected."""

    cursor: int                            # the next offset to be read
    parts: int
    rows: int
    appended: int
    duplicate: int
    rejected: int
    reasons: dict[str, int]                # of the rejected, by reason
    oldest: datetime                       # when the first of its requests was received


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one request. rows = appended + duplicate + rejected."""

    rows: int
    appended: int
    duplicate: int
    rejected: int


class Taker:
    """Takes requests into the lake, wherever they come from. Close it to give the index back."""

    def __init__(
        self, lake: Lake, *, refuses: Refuses | None = None, index: DedupeIndex | None = None
    ) -> None:
        """`refuses` tells nouns of erased customers; the index lies beside the lake."""
        self.lake = lake
        self.index = index or DedupeIndex(lake.beside / "index")
        self._refuses = refuses
        self._shops: set[str] = set()      # that are known to have settings
        self._linked: dict[_Pair, _First] = {}     # that the lake holds, as far as remembered

    def take(self, parts: Sequence[Part], cursors: Mapping[str, tuple[int, int]]) -> Settled:
        """Commit requests, and in the same commit move the cursors of where they came from.

        Each cursor is told as it was (-1: none) when they were read, and as it shall be.

        Raises:
            Overtaken: a cursor is not where it was; a rival took them, and nothing has changed.
            OSError: the lake or its index cannot be written; nothing was taken.
            Busy: another writer keeps the lake's lease.
        """
        self._prepare()
        batch = _Batch.of(parts)           # the long part of the work needs no lease
        with self.lake.lease():
            for application, (begin, following) in cursors.items():
                if (held := self.lake.cursor(application)) != begin:
                    raise Overtaken(application, wanted=following, held=held)
            return self._settle(batch, {name: to for name, (_, to) in cursors.items()})

    def close(self) -> None:
        """Give the index back."""
        self.index.close()

    def _prepare(self) -> None:
        """Fill an index that was lost before the lease is taken: for a large lake it takes long.

        Nobody deletes files meanwhile. Where somebody keeps house, it is filled under the lease.
        """
        if self.index.sequence < 0 <= self.lake.sequence:
            with suppress(Busy), housekeeping(self.lake):
                self.index.catch_up(self.lake)

    def _settle(self, batch: "_Batch", cursors: dict[str, int]) -> Settled:
        self.index.catch_up(self.lake)
        batch.sort_out(self.index.known(batch.digests), self._refuses, self._linked)
        rows = batch.tables()
        fresh = self._fresh_shops(batch.parts)
        sequence = self.lake.append({"shops": usual_settings(fresh), **rows}, cursors=cursors)
        reach("commit.before_index")
        self.index.add(batch.stored, sequence=sequence)
        self._shops.update(fresh)
        self._remember(batch.linked)
        settled = batch.settled(max(cursors.values()))
        log.info(
            "settled from=%s cursor=%d rows=%d appended=%d duplicate=%d rejected=%d",
            ",".join(cursors), settled.cursor, settled.rows, settled.appended, settled.duplicate,
            settled.rejected,
        )
        return settled

    def _remember(self, linked: dict[_Pair, _First]) -> None:
        """Pairs that the lake holds from now on; one that is forgotten is stored once more."""
        if len(self._linked) + len(linked) > _MOST_PAIRS:
            self._linked.clear()
        self._linked.update(linked)

    def _fresh_shops(self, parts: Sequence[Part]) -> dict[str, datetime]:
        """Shops without settings, and when they were first heard of."""
        heard: dict[str, datetime] = {}
        for part in parts:
            if part.shop not in self._shops:
                heard.setdefault(part.shop, part.received)
        if heard:
            self._shops.update(self.lake.shops())
        return {shop: at for shop, at in heard.items() if shop not in self._shops}


class Committer:
    """The reader of one shard that fills the lake. Close it to give the index back."""

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        shard: int,
        *,
        refuses: Refuses | None = None,
        index: DedupeIndex | None = None,
    ) -> None:
        """`refuses` tells nouns of erased customers; the index lies beside the lake."""
        self.lake = lake
        self.application = f"log-{shard}"
        self._taker = Taker(lake, refuses=refuses, index=index)
        self._log = log
        self._shard = shard

    @property
    def index(self) -> DedupeIndex:
        """The digests of all that the lake holds."""
        return self._taker.index

    def step(self, *, most_rows: int = 100_000) -> Settled | None:
        """Commit what comes next, at most about so many rows; None where there is nothing new.

        Raises:
            LogUnavailable: the log cannot be read from the lake's cursor on.
            OSError: the lake or its index cannot be written; the step never happened.
            Busy: another writer keeps the lake's lease.
        """
        while True:
            cursor = self.lake.cursor(self.application)
            parts, following = self._read(max(cursor, 0), most_rows)
            if not parts:
                return None
            with suppress(Overtaken):      # a rival was first
                return self._taker.take(parts, {self.application: (cursor, following)})

    def close(self) -> None:
        """Give the index back."""
        self._taker.close()

    def _read(self, offset: int, most_rows: int) -> tuple[list[Part], int]:
        """Requests from an offset on, and the offset that follows them."""
        parts: list[Part] = []
        rows = size = 0
        while rows < most_rows and size < _MOST_BYTES:
            records = self._log.read(self._shard, offset)
            if not records:
                break
            for record in records:
                part = self._decoded(record)
                rows += len(part.entries) + len(part.rejections)
                size += len(record.body)
                if parts and (rows > most_rows or size > _MOST_BYTES):
                    break
                parts.append(part)
                offset = record.offset + 1
        return parts, offset

    def _decoded(self, record: Record) -> Part:
        try:
            return decode(record.body)
        except msgspec.DecodeError as error:
            raise LogUnavailable(
                f"row {record.offset} of {self.application} is no request: {error}\n"
                "hint: was it written by a newer habitue?"
            ) from error


def settlement(lake: Lake, shop: str, receipt: str) -> Settlement | None:
    """What became of a request: the sum over its parts that are in the lake; None before the first.

    A request that was split over shards is settled when `rows` are as many as it had.
    """
    files = lake.files("receipts", bucket=bucket_of(shop, "", b"", lake.buckets))
    names = ["rows", "appended", "duplicate", "rejected"]
    wanted = [("shop", "=", shop), ("id", "=", receipt)]
    found = [
        row
        for file in files
        for row in pq.read_table(
            lake.source(file), columns=names, filters=wanted, partitioning=None
        ).to_pylist()
    ]
    if not found:
        return None
    return Settlement(**{name: sum(row[name] for row in found) for name in names})


@dataclass(slots=True)
class _Kind:
    """New nouns of one kind, on their way into their table."""

    nouns: list[Noun] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)


class _Batch:
    """The requests of one step, and what becomes of them."""

    def __init__(self, parts: Sequence[Part], digests: list[bytes]) -> None:
        self.parts = parts
        self.digests = digests             # of every noun, in the log's order
        self._kinds = {name: _Kind() for name in TABLE_OF.values()}
        self._refused = [
            _refused(part, rejection) for part in parts for rejection in part.rejections
        ]
        self._appended = [0] * len(parts)
        self._duplicate = [0] * len(parts)
        self._rejected = [len(part.rejections) for part in parts]
        self.linked: dict[_Pair, _First] = {}      # that this step is the first to link
        self._linked_before: Mapping[_Pair, _First] = {}
        self._refuses: Refuses | None = None

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "_Batch":
        nouns = (noun for part in parts for entry in part.entries for noun in entry.nouns)
        return cls(parts, digests_of(nouns))

    @property
    def stored(self) -> list[bytes]:
        """The digests of all that is new."""
        return [digest for kind in self._kinds.values() for digest in kind.digests]

    def sort_out(
        self, known: set[bytes], refuses: Refuses | None, linked: Mapping[_Pair, _First]
    ) -> None:
        """Tell the new from the repeated and the refused; `known` learns the new.

        An input is what its first noun is: appended, a duplicate or refused. Its other nouns are
        each kept if they are new. `linked` are pairs that need not be linked again.
        """
        self._linked_before, self._refuses = linked, refuses
        digests = iter(self.digests)
        for number, part in enumerate(self.parts):
            for entry in part.entries:
                # the nouns come first, so that no digest of the next input is drawn
                held = list(zip(entry.nouns, digests, strict=False))
                if refuses is not None and any(refuses(noun) for noun in entry.nouns):
                    self._refuse(number, entry.position, "erased", "")
                else:
                    is_new = self._take(held, (number, entry.position), known)
                    (self._appended if is_new else self._duplicate)[number] += 1

    def _take(
        self, held: list[tuple[Noun, bytes]], place: tuple[int, int], known: set[bytes]
    ) -> bool:
        """Keep what is new of one input; whether its first noun is."""
        is_new = False
        for order, (noun, digest) in enumerate(held):
            if order and isinstance(noun, Link) and self._says_nothing(noun):
                continue
            if digest not in known:
                known.add(digest)
                is_new |= order == 0
                kind = self._kinds[TABLE_OF[type(noun)]]
                kind.nouns.append(noun)
                kind.digests.append(digest)
                kind.places.append((*place, order == 0))
        return is_new

    def _says_nothing(self, link: Link) -> bool:
        """Whether a link says in passing what an earlier one, known as early, has said.

        Such a link changes no answer: an undo would void both alike.
        """
        if link.undo or link.deliberate:
            return False
        pair = (link.shop, min(link.key, link.other), max(link.key, link.other), link.public)
        known = link.time if link.backfilled else link.received
        first = self.linked.get(pair) or self._linked_before.get(pair)
        if first is not None and first[0] <= link.time and first[1] <= known:
            # what an erasure took since must be told again
            said = msgspec.structs.replace(link, time=first[0])
            if self._refuses is None or not self._refuses(said):
                return True
        self.linked[pair] = (link.time, known)
        return False

    def tables(self) -> dict[str, pa.Table]:
        """Rows of every table that gets some; what no column can hold is refused."""
        rows = {name: self._rows(name, kind) for name, kind in self._kinds.items() if kind.nouns}
        rows["rejected"] = rejected_rows(self._refused)
        rows["receipts"] = self._receipts()
        return rows

    def settled(self, cursor: int) -> Settled:
        """The counts."""
        counts = [sum(one) for one in (self._appended, self._duplicate, self._rejected)]
        return Settled(
            cursor=cursor,
            parts=len(self.parts),
            rows=sum(counts),
            appended=counts[0],
            duplicate=counts[1],
            rejected=counts[2],
            reasons=dict(Counter(one.rejection.reason for one in self._refused)),
            oldest=min(part.received for part in self.parts),
        )

    def _rows(self, name: str, kind: _Kind) -> pa.Table:
        receipts = [self.parts[part].receipt for part, _, _ in kind.places]
        try:
            return rows_of(name, kind.nouns, kind.digests, receipts)
        except (pa.ArrowInvalid, OverflowError):
            self._kinds[name] = kept = self._without_the_unfit(name, kind)
            receipts = [self.parts[part].receipt for part, _, _ in kept.places]
            return rows_of(name, kept.nouns, kept.digests, receipts)

    def _without_the_unfit(self, name: str, kind: _Kind) -> _Kind:
        """The nouns that fit their columns; one number too large must not hold up a shop."""
        kept = _Kind()
        for noun, digest, place in zip(kind.nouns, kind.digests, kind.places, strict=True):
            part, position, is_first = place
            try:
                rows_of(name, [noun], [digest], [""])
            except (pa.ArrowInvalid, OverflowError):
                if is_first:
                    self._appended[part] -= 1
                    payload = msgspec.json.encode(noun).decode()
                    self._refuse(part, position, "out_of_range", payload)
            else:
                kept.nouns.append(noun)
                kept.digests.append(digest)
                kept.places.append(place)
        return kept

    def _refuse(self, number: int, position: int, reason: str, payload: str) -> None:
        rejection = Rejection(position=position, pointer="", reason=reason, payload=payload)
        self._rejected[number] += 1
        self._refused.append(_refused(self.parts[number], rejection))

    def _receipts(self) -> pa.Table:
        """One row per request's part."""
        parts = self.parts
        columns: dict[str, Sequence[object]] = {
            "shop": [part.shop for part in parts],
            "source": [part.source for part in parts],
            "id": [part.receipt for part in parts],
            "origin": [part.origin for part in parts],
            "received": [part.received for part in parts],
            "rows": [len(part.entries) + len(part.rejections) for part in parts],
            "appended": self._appended,
            "duplicate": self._duplicate,
            "rejected": self._rejected,
        }
        return pa.Table.from_pydict(columns, schema=unplaced("receipts"))


def _refused(part: Part, rejection: Rejection) -> Refused:
    return Refused(rejection, part.shop, part.source, part.receipt, part.received, part.origin)
