"""`import_history`: a shop's metrics, catalogue, profiles and events out of Klaviyo, into the lake.

Each page is settled like a request at a live door, by the same committer and with the same
identities, so that an import beside live traffic doubles nothing. The number of the page is a
cursor in the same commit, and a file says which page comes next: cut short at any instant, the
import goes on after the last complete page.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec

from habitue.directory import ShopEntry
from habitue.errors import NoAnswer
from habitue.events import Instant, Receipt
from habitue.faults import reach
from habitue.ingest.commit import settlement
from habitue.ingest.doors.intake import Door
from habitue.ingest.history import pages
from habitue.ingest.history.api import Api, Page
from habitue.ingest.history.settling import Settling, State
from habitue.lake.query import read
from habitue.lake.tables import Lake
from habitue.refusals import Refusals

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]    # what is being done, steps done, of how many

SETTLING = timedelta(minutes=5)            # events younger than this are left to the next import
TIDY_EVERY = 16                            # pages
OVERLAP = timedelta(days=1)                # that an import reads again of what the last one read
SOURCE = "klaviyo"                         # as of the live door
STAGES = ("items", "profiles", "events", "done")

_PATHS = {"items": "/api/catalog-items", "profiles": "/api/profiles", "events": "/api/events"}
_STALE = frozenset({400, 404, 410, 422})   # answers to the link of a page that is no more

COUNTS = """
-- one row: what the pages of a receipt added
SELECT (SELECT count(*) FROM events WHERE receipt = ?) AS events,
    (SELECT count(*) FROM catalogue WHERE receipt = ?) AS items
"""

REASONS = """
-- one row per reason: how many rows of a receipt were rejected for it
SELECT reason, count(*) AS count FROM rejected WHERE receipt = ? GROUP BY reason ORDER BY reason
"""


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
    settling = Settling(home.lake, home.door, home.refuses)
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

    def __init__(self, api: Api, settling: Settling, file: Path, progress: Progress) -> None:
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
