"""The gate: the only writer of events. It keeps the first of equal identities, settles a Receipt.

A batch arrives in portions, so that memory holds one at a time; all of it becomes visible at once,
receipt included, or none of it.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from habitue.events import Event, Link, Noun, Receipt
from habitue.lake.eventlog.rows import TABLE_OF, digests_of, rows_of
from habitue.lake.index import DedupeIndex
from habitue.lake.query import read
from habitue.lake.schema import EVENTS, ITEMS, RECEIPTS, REJECTED, SHOPS
from habitue.lake.tables import Lake, buckets_of

log = logging.getLogger(__name__)

KNOWN_EVENTS = """
-- one row per event of the buckets
SELECT digest FROM events WHERE bucket IN (SELECT unnest(?))
"""

KNOWN_ITEMS = """
-- one row per catalogue entry
SELECT digest FROM catalogue
"""

_AS_THEY_ARE = (
    "shop", "source", "id", "customer", "name", "time", "received", "backfilled", "order",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Events of a batch in the EVENTS schema, and how many rows of the source each stands for."""

    events: pa.Table                       # without the receipt
    rows: np.ndarray                       # (events,) int64
    repeated: int = 0                      # further source rows, known to be in the lake already


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a shop declares about itself; None and empty leave what was declared before."""

    timezone: str | None = None
    currency: str | None = None
    not_item_codes: tuple[str, ...] | None = None
    not_item_patterns: tuple[str, ...] | None = None
    order_sources: tuple[str, ...] | None = None       # of an order told twice, whom to believe


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything that came in at once, for one shop from one source."""

    shop: str
    source: str
    origin: str                            # a file's name, or the door it came through
    received: datetime
    rows: int                              # source rows: taken, repeated and rejected
    portions: Iterable[Portion] = ()
    items: pa.Table = field(default_factory=ITEMS.empty_table)
    counts_items: bool = False             # whether each catalogue row is a source row
    rejected: pa.Table = field(default_factory=REJECTED.empty_table)
    settings: Settings = Settings()


class Gate:
    """The way into the lake."""

    def __init__(self, lake: Lake) -> None:
        """A gate holds nothing but its lake."""
        self.lake = lake

    def append(
        self,
        events: Sequence[Event] | pa.Table,
        *,
        shop: str,
        source: str,
        received: datetime,
        origin: str = "events",
    ) -> Receipt:
        """Append events of one shop and source, or rows of the EVENTS schema; settled `received`.

        Repeats change nothing; of two events with the same identity the first stands.
        """
        table = events if isinstance(events, pa.Table) else events_table(events)
        for name, wanted in (("shop", shop), ("source", source)):
            assert table[name].unique().to_pylist() in ([wanted], []), f"a batch has one {name}"
        buckets = pa.array(buckets_of(table, self.lake.buckets), pa.int32())
        left = [one for one in ("bucket", "receipt") if one in table.schema.names]
        rows = table.drop_columns(left).append_column("bucket", buckets)
        return self.settle(
            Batch(
                shop=shop,
                source=source,
                origin=origin,
                received=received,
                rows=len(rows),
                portions=[Portion(events=rows, rows=np.ones(len(rows), dtype=np.int64))],
            )
        )

    def declare(self, shop: str, settings: Settings, *, now: datetime) -> Receipt:
        """What a person says about a shop, in force from now on."""
        return self.settle(
            Batch(
                shop=shop,
                source="person",
                origin="sources",
                received=now,
                rows=0,
                settings=settings,
            )
        )

    def tell(
        self, nouns: Sequence[Noun], *, shop: str, source: str, received: datetime, origin: str
    ) -> Receipt:
        """Append what a person tells of a shop beside events: links, changes, consents, items.

        Each noun is a row of the receipt; repeats change nothing.
        """
        receipt, _ = self.tell_new(
            nouns, shop=shop, source=source, received=received, origin=origin
        )
        return receipt

    def tell_new(
        self, nouns: Sequence[Noun], *, shop: str, source: str, received: datetime, origin: str
    ) -> tuple[Receipt, list[Noun]]:
        """As `tell`; with the receipt come the nouns that were not known before."""
        index = DedupeIndex(self.lake.beside / "index")
        with closing(index), self.lake.lease():
            index.catch_up(self.lake)
            digests = digests_of(nouns)
            known = index.known(digests)
            new: dict[bytes, Noun] = {}
            for digest, noun in zip(digests, nouns, strict=True):
                if digest not in known:
                    new.setdefault(digest, noun)
            batch = Batch(shop=shop, source=source, origin=origin, received=received, rows=0)
            settling = _Settling(self.lake, batch)
            receipt = replace(
                settling.receipt(), rows=len(nouns), appended=len(new),
                duplicate=len(nouns) - len(new),
            )  # fmt: skip
            told = _tables_of(new, receipt.id)
            receipts = _receipt_row(receipt, origin, received)
            shops = settling.settings()
            sequence = self.lake.append({"shops": shops, **told, "receipts": receipts})
            index.add(new, sequence=sequence)
        return receipt, list(new.values())

    def settle(self, batch: Batch) -> Receipt:
        """Append a batch, all or nothing, and say what became of every row of it."""
        with self.lake.lease():
            settling = _Settling(self.lake, batch)
            # `receipt` is read after `events` has run, and so knows its counts
            self.lake.append(
                {
                    "shops": settling.settings(),
                    "items": settling.items(),
                    "rejected": settling.rejected(),
                    "events": settling.events(),
                    "receipts": settling.receipt_rows(),
                }
            )
        receipt = settling.receipt()
        log.info(
            "settled shop=%s rows=%d appended=%d duplicate=%d rejected=%d",
            batch.shop, receipt.rows, receipt.appended, receipt.duplicate, receipt.rejected,
        )
        return receipt


class _Settling:
    """One batch on its way into the lake, and the counts of what became of it."""

    def __init__(self, lake: Lake, batch: Batch) -> None:
        self._lake = lake
        self._batch = batch
        self._is_known = batch.shop in lake.shops()
        self._id = self._receipt_id()
        self._appended = self._duplicate = self._events = self._items = 0

    def receipt(self) -> Receipt:
        """The receipt; exact once everything was written."""
        batch = self._batch
        receipt = Receipt(
            id=self._id,
            shop=batch.shop,
            source=batch.source,
            rows=batch.rows,
            appended=self._appended,
            duplicate=self._duplicate,
            rejected=len(batch.rejected),
            reasons=dict(sorted(Counter(batch.rejected["reason"].to_pylist()).items())),
            events=self._events,
            items=self._items,
        )
        counted = receipt.appended + receipt.duplicate + receipt.rejected
        assert counted == batch.rows, f"{counted} rows are accounted for, of {batch.rows}"
        return receipt

    def items(self) -> Iterator[pa.Table]:
        """The catalogue rows that the lake does not hold."""
        rows = self._batch.items
        known = set(self._read(KNOWN_ITEMS)["digest"].to_pylist()) if self._is_known else set()
        keep = _fresh(rows["digest"], known)
        self._items = int(keep.sum())
        if self._batch.counts_items:
            self._appended += self._items
            self._duplicate += len(rows) - self._items
        yield self._stamped(rows.filter(pa.array(keep)), ITEMS)

    def rejected(self) -> Iterator[pa.Table]:
        """The rejected rows, with this receipt."""
        yield self._stamped(self._batch.rejected, REJECTED)

    def events(self) -> Iterator[pa.Table]:
        """The events that the lake does not hold; of equal identities the first."""
        seen: set[bytes] = set()
        for portion in self._batch.portions:
            buckets = portion.events["bucket"].unique().to_pylist()
            if self._is_known and buckets:
                seen.update(self._read(KNOWN_EVENTS, [buckets])["digest"].to_pylist())
            keep = _fresh(portion.events["digest"], seen)
            self._appended += int(portion.rows[keep].sum())
            self._duplicate += int(portion.rows[~keep].sum()) + portion.repeated
            self._events += int(keep.sum())
            yield self._stamped(portion.events.filter(pa.array(keep)), EVENTS)

    def receipt_rows(self) -> Iterator[pa.Table]:
        """The receipt as a row; runs last."""
        yield _receipt_row(self.receipt(), self._batch.origin, self._batch.received)

    def settings(self) -> Iterator[pa.Table]:
        """A row of settings where they are new or differ from those in force."""
        batch, wanted = self._batch, self._batch.settings
        held = self._read("SELECT * FROM shop_settings").to_pylist() if self._is_known else []
        former = held[0] if held else {}
        row = {
            "timezone": wanted.timezone or former.get("timezone") or "UTC",
            "currency": former.get("currency") or wanted.currency,
            "not_item_codes": _declared(wanted.not_item_codes, former.get("not_item_codes")),
            "not_item_patterns": _declared(
                wanted.not_item_patterns, former.get("not_item_patterns")
            ),
            "order_sources": _declared(wanted.order_sources, former.get("order_sources")),
        }
        if former and all((former[name] or None) == (told or None) for name, told in row.items()):
            return
        received = batch.received
        if former:                         # the latest is in force, so it must be the latest
            received = max(received, former["received"] + datetime.resolution)
        row |= {"shop": batch.shop, "received": received, "bucket": 0}
        yield pa.Table.from_pylist([row], schema=SHOPS).drop_columns("bucket")

    def _receipt_id(self) -> str:
        """A name that no other receipt of this shop has, the same if the import is retried."""
        before = (
            self._read("SELECT count(*) AS n FROM receipts")["n"][0].as_py()
            if self._is_known
            else 0
        )
        batch = self._batch
        told = f"{batch.shop}\n{batch.source}\n{batch.origin}\n{batch.received}\n{before}"
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def _read(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        return read(self._lake, sql, parameters, shop=self._batch.shop)

    def _stamped(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """The rows with shop, source and receipt of this batch, in the schema's columns."""
        batch = self._batch
        stamps = {
            "shop": batch.shop, "source": batch.source, "receipt": self._id,
            "received": batch.received,
        }
        columns, names = [], []
        for one in schema:
            if one.name in rows.schema.names:
                columns.append(rows[one.name].cast(one.type))
            elif one.name == "bucket":
                continue                   # the lake knows the bucket of what has no customer
            else:
                # what is neither told nor stamped is not known: null
                stamp = pa.scalar(stamps.get(one.name), one.type)
                columns.append(pa.repeat(stamp, len(rows)))
            names.append(one.name)
        return pa.table(columns, names=names)


def linked_by_hand(
    shop: str, key: str, other: str, *, reason: str, undo: bool, now: datetime
) -> Link:
    """What a person says of two keys: they are one customer from now on or, with `undo`, not."""
    return Link(
        shop=shop, source="person", key=key, other=other, time=now, received=now,
        cause=f"person: {reason}" if reason else "person", undo=undo,
    )  # fmt: skip


def events_table(events: Sequence[Event]) -> pa.Table:
    """Events as rows of the EVENTS schema, without bucket and receipt."""
    rows = [
        {
            "digest": event.digest,
            "value_minor": event.value.minor if event.value else None,
            "currency": event.value.currency if event.value else None,
            "lines": [
                {
                    "item": line.item,
                    "quantity": line.quantity,
                    "unit_price": line.unit_price,
                    "amount_minor": line.amount.minor,
                    "row": 0,
                }
                for line in event.lines
            ],
            "properties": bytes(event.properties).decode(),
            **{name: getattr(event, name) for name in _AS_THEY_ARE},
        }
        for event in events
    ]
    schema = pa.schema([one for one in EVENTS if one.name not in ("bucket", "receipt")])
    return pa.Table.from_pylist(rows, schema=schema)


def _receipt_row(receipt: Receipt, origin: str, received: datetime) -> pa.Table:
    row = {name: getattr(receipt, name, None) for name in RECEIPTS.names}
    row |= {"origin": origin, "received": received, "bucket": 0}
    return pa.Table.from_pylist([row], schema=RECEIPTS).drop_columns("bucket")


def _tables_of(nouns: Mapping[bytes, Noun], receipt: str) -> dict[str, pa.Table]:
    """Nouns by their digests, as rows of their tables."""
    kinds: dict[str, dict[bytes, Noun]] = {}
    for digest, noun in nouns.items():
        kinds.setdefault(TABLE_OF[type(noun)], {})[digest] = noun
    return {
        name: rows_of(name, list(held.values()), list(held), [receipt] * len(held))
        for name, held in kinds.items()
    }


def _fresh(digests: pa.ChunkedArray, seen: set[bytes]) -> np.ndarray:
    """(n,) bool: the digest is the first of its kind; `seen` learns them all."""
    keep = np.zeros(len(digests), dtype=bool)
    for place, digest in enumerate(digests.to_pylist()):
        if digest not in seen:
            seen.add(digest)
            keep[place] = True
    return keep


def _declared(wanted: tuple[str, ...] | None, former: list[str] | None) -> list[str]:
    return list(wanted) if wanted is not None else list(former or ())
