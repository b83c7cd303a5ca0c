"""`import_history`: a shop's metrics, catalogue, profiles and events out of Klaviyo, into the lake.

Each page is settled like a request at a live door, by the same committer and with the same
identities, so that an import beside live traffic doubles nothing. The number of the page is a
cursor in the same commit, and a file says which page comes next: cut short at any instant, the
import goes on after the last complete page.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec

from habitue.directory import Refusals, ShopEntry
from habitue.errors import Busy, NoAnswer
from habitue.events import Instant, Link, ProfileChange, Receipt, bucket_of, identity
from habitue.faults import reach
from habitue.ingest.commit import Committer, settlement
from habitue.ingest.doors.intake import Door
from habitue.ingest.history import pages
from habitue.ingest.history.api import Api, Page
from habitue.ingest.history.pages import Sheet, Told
from habitue.lake.eventlog.records import Entry, Part, Record, encode
from habitue.lake.maintenance import tidy
from habitue.lake.query import read
from habitue.lake.tables import Lake

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]    # what is being done, steps done, of how many

SETTLING = timedelta(minutes=5)            # events younger than this are left to the next import
TIDY_EVERY = 16                            # pages
OVERLAP = timedelta(days=1)                # that an import reads again of what the last one read
SOURCE = "klaviyo"                         # as of the live door
ORIGIN = "klaviyo history"
STAGES = ("items", "profiles", "events", "done")

_PATHS = {"items": "/api/catalog-items", "profiles": "/api/profiles", "events": "/api/events"}
_STALE = frozenset({400, 404, 410, 422})   # answers to the link of a page that is no more

# one row per event that the live door may have been told with a `unique_id` that reads do not show
SAME_SECOND = """
SELECT key, id, "time" FROM events
WHERE bucket IN (SELECT unnest(?)) AND source = ? AND key IN (SELECT unnest(?))
  AND "time" BETWEEN ? AND ?
ORDER BY received, digest
"""

COUNTS = """
-- one row: what the pages of a receipt added
SELECT (SELECT count(*) FROM events WHERE receipt = ?) AS events,
    (SELECT count(*) FROM catalogue WHERE receipt = ?) AS items
"""

REASONS = """
-- one row per reason: how many rows of a receipt were rejected for it
SELECT reason, count(*) AS count FROM rejected WHERE receipt = ? GROUP BY reason ORDER BY reason
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a shop's past is brought."""

    lake: Lake
    door: Door                             # as which it comes in; its source is "klaviyo"
    folder: Path                           # of the files that say how far imports are
    refuses: Refusals | None = None        # tells nouns of erased customers


def home(
    lake: Lake, shop: ShopEntry, folder: Path, *, refuses: Refusals | None = None, now: Instant
) -> Home:
    """Where the past of a shop of the workspace is brought, as of now."""
    door = Door(
        shop=shop.name,
        source=SOURCE,
        received=now,
        secret=shop.secret,
        names=shop.names.get(SOURCE, {}),
        currency=shop.currency,
    )
    return Home(lake=lake, door=door, folder=folder, refuses=refuses)


def import_history(
    api: Api, home: Home, *, since: Instant | None = None, progress: Progress | None = None
) -> Receipt:
    """Import what the API shows of a shop, or go on where the last import was cut short.

    Without `since` the first import reads everything, a later one what happened after it. Every
    resource is appended, a duplicate or rejected.

    Raises:
        NoAnswer: the API refuses a question, or does not answer it after many tries.
    """
    shop = hashlib.sha256(home.door.shop.encode()).hexdigest()[:16]
    file = home.folder / f"klaviyo-{shop}.json"
    settling = _Pages(home)
    journey = _Journey(api, settling, file, progress or (lambda *_: None))
    try:
        journey.begin(since)
        while journey.state.stage != "done":
            journey.step()
    finally:
        settling.close()
    return receipt_of(home, journey.state.receipt)


def receipt_of(home: Home, receipt: str) -> Receipt:
    """The sum over all of an import's pages, also those of earlier runs."""
    lake, door = home.lake, home.door
    found = settlement(lake, door.shop, receipt)
    counts, reasons = {"events": 0, "items": 0}, {}
    if found is not None:
        counts = read(lake, COUNTS, [receipt] * 2, shop=door.shop).to_pylist()[0]
        told = read(lake, REASONS, [receipt], shop=door.shop).to_pylist()
        reasons = {row["reason"]: row["count"] for row in told}
    return Receipt(
        id=receipt,
        shop=door.shop,
        source=door.source,
        rows=found.rows if found else 0,
        appended=found.appended if found else 0,
        duplicate=found.duplicate if found else 0,
        rejected=found.rejected if found else 0,
        reasons=reasons,
        **counts,
    )


class _Journey:
    """One import on its way from page to page."""

    def __init__(self, api: Api, settling: "_Pages", file: Path, progress: Progress) -> None:
        self.state: State
        self._api, self._settling, self._file = api, settling, file
        self._door = settling.door
        self._progress = progress
        self._metrics: dict[str, str] = {}

    def begin(self, since: Instant | None) -> None:
        """Go on with the import that the file tells of, or begin one."""
        former = _read_state(self._file)
        is_mine = former is not None and former.url == self._api.url
        if former is not None and is_mine and former.stage != "done" and since in (
            None, former.since,
        ):  # fmt: skip
            log.info("going on with import=%s stage=%s", former.receipt, former.stage)
            self.state = former
        else:
            start = since
            if start is None and former is not None and is_mine:
                start = former.until - OVERLAP
            self._save(self._fresh(since, start))
        for page in self._all("/api/metrics", ""):
            self._metrics.update(pages.metric_names(page))

    def step(self) -> None:
        """Read one page, settle it, and note which comes next."""
        page = self._page()
        if page is None:
            return
        if page.resources:
            self._settling.settle(page, self.state, self._metrics)
            if self.state.page % TIDY_EVERY == TIDY_EVERY - 1:
                self._settling.tidy()
        reach("history.before_state")
        self._save(self._after(page))
        self._tell()

    def _page(self) -> Page | None:
        """The next page; None where its link is no more and the stage begins again."""
        state = self.state
        try:
            return self._api.page(_PATHS[state.stage], state.following)
        except NoAnswer as error:
            again = self._query(state.stage, state.reached)
            if error.status not in _STALE or again == state.following:
                raise
            log.warning("a page's link is no more: reading again stage=%s", state.stage)
            self._save(msgspec.structs.replace(state, following=again))
            return None

    def _after(self, page: Page) -> State:
        """The state once a page is settled."""
        state = self.state
        stage, following, reached = state.stage, page.following, state.reached
        if stage == "events":
            reached = pages.last_time(page, self._door) or reached
        if following is None:
            stage = STAGES[STAGES.index(stage) + 1]
            following, reached = self._query(stage, None), None
        return msgspec.structs.replace(
            state, stage=stage, following=following, reached=reached,
            page=state.page + bool(page.resources), rows=state.rows + len(page.resources),
        )

    def _fresh(self, since: Instant | None, start: Instant | None) -> State:
        door, url = self._door, self._api.url
        until = door.received - SETTLING
        told = f"{door.shop}\n{url}\n{since}\n{door.received.isoformat()}"
        first = State(
            url=url, since=since, start=start, until=until, stage=STAGES[0], following="",
            receipt=hashlib.blake2b(told.encode(), digest_size=8).hexdigest(),
            page=self._settling.cursor(),
        )
        self.state = first
        return msgspec.structs.replace(first, following=self._query(STAGES[0], None))

    def _query(self, stage: str, reached: Instant | None) -> str:
        """The query of a stage's first page; with `reached`, of the first page from there on."""
        state = self.state
        start = reached or state.start
        match stage:
            case "items":
                return "page[size]=100"
            case "profiles":
                query = "page[size]=100&sort=updated&additional-fields[profile]=subscriptions"
                return query + (f"&filter={quote(_later('updated', start))}" if start else "")
            case "events":
                wanted = [f"less-than(datetime,{_instant(state.until)})"]
                if start is not None:
                    wanted.insert(0, f"greater-or-equal(datetime,{_instant(start)})")
                chosen = quote(",".join(wanted))
                return f"page[size]=1000&sort=datetime&include=metric,profile&filter={chosen}"
        return ""

    def _all(self, path: str, query: str) -> Iterator[Page]:
        following: str | None = query
        while following is not None:
            page = self._api.page(path, following)
            yield page
            following = page.following

    def _tell(self) -> None:
        """How far it is: of events by their time, of others by their number."""
        state = self.state
        if state.stage == "events" and state.reached is not None:
            start = state.start or state.reached - timedelta(days=365)
            share = (state.reached - start) / max(state.until - start, timedelta(seconds=1))
            label = f"events: up to {state.reached:%Y-%m-%d}, {state.rows:,} rows"
            self._progress(label, round(100 * min(max(share, 0.0), 1.0)), 100)
        else:
            self._progress(f"{state.stage}: {state.rows:,} rows", state.rows, None)

    def _save(self, state: State) -> None:
        """Replace the file, durably, and go on from there."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        with draft.open("wb") as handle:
            handle.write(msgspec.json.encode(state))
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(self._file)
        self.state = state


class _Pages:
    """The way of pages into the lake, each in one commit with its number as the cursor."""

    def __init__(self, home: Home) -> None:
        self.door = home.door
        self._lake, self._refusals = home.lake, home.refuses
        self._log = _PageLog()
        self._committer = Committer(home.lake, self._log, 0, refuses=home.refuses)
        self._committer.application = f"klaviyo-{home.door.shop}"

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


def _read_state(file: Path) -> State | None:
    """The state of the last import; None where there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _instant(time: Instant) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _later(field: str, time: Instant) -> str:
    return f"greater-than({field},{_instant(time)})"
