"""A page on its way into the lake: one commit, its number the cursor, nothing stored twice."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from habitue.errors import Busy
from habitue.events import Instant, Link, ProfileChange, bucket_of, identity
from habitue.ingest.commit import Committer
from habitue.ingest.doors.intake import Door
from habitue.ingest.history import pages
from habitue.ingest.history.api import Page
from habitue.ingest.history.pages import Sheet, Told
from habitue.lake.eventlog.records import Entry, Part, Record, encode
from habitue.lake.maintenance import tidy
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.refusals import Refusals

ORIGIN = "klaviyo history"

# one row per event that the live door may have been told with a `unique_id` that reads do not show
SAME_SECOND = """
SELECT key, id, "time" FROM events
WHERE bucket IN (SELECT unnest(?)) AND source = ? AND key IN (SELECT unnest(?))
  AND "time" BETWEEN ? AND ?
ORDER BY received, digest
"""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where an import stands; a file that is replaced as a whole after each page."""

    url: str
    since: Instant | None                  # as it was asked for
    start: Instant | None                  # events from here on …
    until: Instant                         # … to before here
    receipt: str
    stage: str                             # one of STAGES
    following: str                         # the query of the page that comes next
    page: int                              # its number: the cursor while it is not in the lake
    rows: int = 0                          # resources of the pages before it
    reached: Instant | None = None         # when the last event before it happened


class Settling:
    """The way of pages into the lake, each in one commit with its number as the cursor."""

    def __init__(self, lake: Lake, door: Door, refusals: Refusals | None) -> None:
        """`refusals` tell nouns of erased customers."""
        self.door = door
        self._lake, self._refusals = lake, refusals
        self._log = _PageLog()
        self._committer = Committer(lake, self._log, 0, refuses=refusals)
        self._committer.application = f"klaviyo-{door.shop}"

    def cursor(self) -> int:
        """The number of the page that comes next."""
        return max(self._lake.cursor(self._committer.application), 0)

    def settle(self, page: Page, state: State, metrics: Mapping[str, str]) -> None:
        """Append a page like a request of a live door, unless that was done before.

        No other writer comes between looking what the lake holds and appending.
        """
        with self._lake.lease():
            if self.cursor() > state.page:
                return
            if self._refusals is not None:
                self._refusals.look()      # someone may have been erased since the last page
            sheet = self._read(page, state, metrics)
            part = Part(
                receipt=state.receipt,
                shop=self.door.shop,
                source=self.door.source,
                origin=ORIGIN,
                received=self.door.received,
                entries=tuple(sheet.entries),
                rejections=tuple(sheet.rejections),
            )
            self._log.put(state.page, encode(part))
            settled = self._committer.step()
            assert settled is not None, "a page with resources is settled"

    def tidy(self) -> None:
        """Merge small files of many pages, so that a long import stays as quick as it began."""
        with suppress(Busy):               # whoever else keeps house merges ours as well
            tidy(self._lake, now=self.door.received)

    def close(self) -> None:
        """Give the index back."""
        self._committer.close()

    def _read(self, page: Page, state: State, metrics: Mapping[str, str]) -> Sheet:
        match state.stage:
            case "items":
                return pages.read_items(page, state.rows, self.door)
            case "profiles":
                sheet = pages.read_profiles(page, state.rows, self.door)
                sheet.entries = [self._refusable(entry) for entry in sheet.entries]
                return sheet
        sheet = pages.read_events(page, state.rows, metrics, self.door)
        self._enter(sheet)
        return sheet

    def _enter(self, sheet: Sheet) -> None:
        """Events as entries, each under the key and id by which the lake holds it already."""
        self._committer.index.catch_up(self._lake)
        known = self._committer.index.known(
            {self._digest(key, told.event.id) for _, told in sheet.events for key in told.keys}
        )
        held = self._of_the_same_second([told for _, told in sheet.events if not told.is_sure])
        for position, told in sheet.events:
            event, keys = told.event, told.keys
            key = next((one for one in keys if self._digest(one, event.id) in known), None)
            if key is None and not told.is_sure:
                metric = event.id.partition("\0")[0]
                found = (held.get((one, metric, event.time)) for one in keys)
                key, name = next((one for one in found if one is not None), (keys[0], event.id))
                event = msgspec.structs.replace(event, id=name)
            key = self._erased(keys, event.time) or key or keys[0]
            event = msgspec.structs.replace(event, customer=key)
            sheet.entries.append(Entry(position, (event,)))

    def _refusable(self, entry: Entry) -> Entry:
        """A profile under its erased key, if it has one, so that the committer refuses it."""
        change, *others = entry.nouns
        assert isinstance(change, ProfileChange), "a profile tells first what it changes"
        keys = [change.customer, *(one.other for one in others if isinstance(one, Link))]
        erased = self._erased(keys, change.time)
        if erased is None:
            return entry
        return Entry(entry.position, (msgspec.structs.replace(change, customer=erased),))

    def _erased(self, keys: Sequence[str], time: Instant) -> str | None:
        """The first of a customer's keys that was erased after an instant.

        Klaviyo may know them by a key that was not known here when they were erased.
        """
        if self._refusals is None:
            return None
        shop = self.door.shop
        return next((key for key in keys if self._refusals.refuses_key(shop, key, time)), None)

    def _of_the_same_second(
        self, unsure: Sequence[Told]
    ) -> dict[tuple[str, str, Instant], tuple[str, str]]:
        """(key, metric, second) -> (key, id) of the lake's first such event."""
        shop = self.door.shop
        if not unsure or shop not in self._lake.shops():
            return {}
        keys = sorted({key for told in unsure for key in told.keys})
        buckets = sorted({bucket_of(shop, key, b"", self._lake.buckets) for key in keys})
        times = [told.event.time for told in unsure]
        bound = [buckets, self.door.source, keys, min(times), max(times)]
        rows = read(self._lake, SAME_SECOND, bound, shop=shop).to_pylist()
        held: dict[tuple[str, str, Instant], tuple[str, str]] = {}
        for row in rows:
            metric = row["id"].partition("\0")[0]
            held.setdefault((row["key"], metric, row["time"]), (row["key"], row["id"]))
        return held

    def _digest(self, key: str, event_id: str) -> bytes:
        return identity(self.door.shop, self.door.source, key, event_id)


@dataclass(slots=True)
class _PageLog:
    """An event log that holds one row: the page that the committer reads next."""

    shards: int = 1
    held: Record | None = None

    def put(self, number: int, body: bytes) -> None:
        """Hold this page, and no other any more."""
        self.held = Record(number, body)

    def append(self, shard: int, bodies: Sequence[bytes]) -> range:
        raise NotImplementedError("pages are numbered by whoever reads them")

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        return [self.held] if self.held is not None and offset <= self.held.offset else []

    def end(self, shard: int) -> int:
        return 0 if self.held is None else self.held.offset + 1

    def trim(self, shard: int, below: int) -> int:
        return 0

    def close(self) -> None:
        self.held = None
