"""Erasure and export of what is kept of one customer.

An erasure is a job that may be cut short anywhere and goes on where it was: tombstones first, so
that nothing more of the customer comes in; then, when the lake holds all that the log held, their
rows are removed from tables, dedupe index and live state; and when the log has dropped what it
held by then, the job is complete and keeps nothing of them but its proof.
"""

import json
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from habitue.audiences.live import tables
from habitue.audit import BY_HAND, Act
from habitue.directory import ERASURE, Directory, Job
from habitue.errors import BadSetting, Dropped
from habitue.events import Instant
from habitue.ingest.commit import Committer
from habitue.lake.erasing import Whose, count_rows, erase_rows
from habitue.lake.eventlog.opening import open_log
from habitue.lake.eventlog.records import EventLog
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.index import DedupeIndex
from habitue.lake.keys import kind_of
from habitue.lake.live.kept.opening import held_scores
from habitue.lake.profiles import Profiles
from habitue.lake.query import opened
from habitue.lake.tables import Lake
from habitue.lake.views.customer import customer
from habitue.refusals import Refusals

_EXPORTED = {                              # view -> the kind of its lines
    "profile_changes": "profile",
    "identifiers": "identifier",
    "consent_history": "consent",
    "events": "event",
}
_OURS = {"bucket", "digest", "receipt"}    # columns that say nothing of a customer
_OF_KEYS = """
-- one row per row of a view that is the customer's
SELECT * FROM {view}
WHERE key IN (SELECT unnest(?)) ORDER BY "time", received
"""
_LINKS = """
-- one row per link that names one of the customer's keys
SELECT * FROM links
WHERE key IN (SELECT unnest(?)) OR other IN (SELECT unnest(?)) ORDER BY "time", received
"""
_EVERY_KEY = """
-- one row per key that any row names
SELECT key FROM events WHERE key IS NOT NULL UNION SELECT key FROM profile_changes
UNION SELECT key FROM consent_history UNION SELECT key FROM identifiers
UNION SELECT key FROM links UNION SELECT other FROM links
"""
_PREDICTIONS = """
-- one row per prediction about the customer
SELECT * FROM predictions WHERE customer IN (SELECT unnest(?))
ORDER BY cutoff, question, horizon_days
"""
_EMBEDDINGS = """
-- one row per embedding of the customer
SELECT * FROM customer_embeddings WHERE customer IN (SELECT unnest(?))
ORDER BY version, anchor, width
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a workspace keeps what an erasure has to look at."""

    lake: Lake
    directory: Directory
    folder: Path                           # of the workspace
    log_place: str | None = None           # the setting; none: in files
    held_log: EventLog | None = None       # the log, where it is open already
    who: str = BY_HAND                     # does what is done: the id of a key, or nobody's

    @property
    def index(self) -> Path:
        """The folder of the dedupe index."""
        return self.folder / "index"

    @property
    def online(self) -> Path:
        """The folder of what can be made anew."""
        return self.folder / "online"

    @property
    def profiles(self) -> Path:
        """The file of the live state."""
        return self.online / "profiles.sqlite"

    @property
    def log(self) -> Path:
        """The folder of the event log, or of what says where it is."""
        return self.folder / "log"

    def open_log(self) -> EventLog:
        """The event log; close it when done."""
        return open_log(self.log, self.log_place, lambda n: self.lake.cursor(f"log-{n}"))


def reapply(places: Places) -> int:
    """Erase again whoever was erased before, as after a copy was put back; returns the rows."""
    refuses = Refusals(places.directory)
    erased = 0
    for shop in places.directory.erased_shops():
        if shop not in places.lake.shops():
            continue
        with opened(places.lake, {*_EXPORTED, "links"}, shop=shop) as (connection, _):
            keys = [key for (key,) in connection.execute(_EVERY_KEY).fetchall()]
        for key, until in refuses.until(shop, keys).items():
            whose = Whose(shop=shop, keys=frozenset((key,)), until=until)
            erased += sum(erase_rows(places.lake, whose).rows.values())
    return erased


def request(places: Places, shop: str, keys: Collection[str], *, now: Instant) -> Job:
    """Refuse some keys of a customer from now on, and begin to erase what is kept of them.

    Raises:
        NoSuchShop: the workspace has no such shop.
        BadSetting: no key is named.
    """
    if not keys:
        raise BadSetting("whose data? name a customer by id, email or phone")
    places.directory.shop(shop, create=shop in places.lake.shops())
    places.directory.erase(shop, keys, erased_at=now, requested=now)
    erasure = places.directory.erasures(shop)[-1]
    job = Job(
        id=f"er_{secrets.token_hex(8)}",
        shop=shop,
        kind=ERASURE,
        status="queued",
        created=now,
        updated=now,
        detail={"erasure": erasure.id, "keys": sorted(keys), "ends": _ends(places), "rows": {}},
    )
    places.directory.put_job(job)
    _note(places, shop, "erasure.request", job.id, now)
    return job


def pending(places: Places) -> list[Job]:
    """Erasures that are not complete, oldest first."""
    return places.directory.open_jobs(ERASURE)


def advance(places: Places, job: Job, *, now: Instant) -> Job:
    """Take an erasure as far as it can go beside a running service; returns what it has become.

    Raises:
        Busy: somebody else writes to the lake; try again.
    """
    if job.status == "complete":
        return job
    ends = job.detail["ends"]
    if any(places.lake.cursor(f"log-{shard}") < end for shard, end in enumerate(ends) if end):
        return _put(places, job, "queued", now)
    if job.status != "processing":
        job = _put(places, _erased(places, job), "processing", now)
    if _holds(places, ends):
        return job
    return _complete(places, job, now)


def finish(places: Places, job: Job, *, now: Instant) -> Job:
    """Take an erasure to its end where no service runs: settle the log, and drop what it held.

    Raises:
        LogUnavailable: a service runs, which will take it to its end.
    """
    refuses = Refusals(places.directory)
    with closing(places.open_log()) as log:
        for shard in range(log.shards):
            if isinstance(log, SqliteLog):
                log.rotate(shard)          # which only the one who may append can do
            _settle(places.lake, log, shard, refuses)
        _catch_up(places, log)
        job = advance(places, job, now=now)
        for shard in range(log.shards):
            log.trim(shard, log.end(shard))
    return advance(places, job, now=now)


def export(places: Places, shop: str, key: str) -> Iterator[dict[str, Any]]:
    """All that is kept of a customer, one object a line; the first says who it is."""
    found = customer(places.lake, key, shop=shop, events=0)
    keys = [known.key for known in found.keys]
    yield {
        "line": "customer",
        "shop": shop,
        "customer": found.customer,
        "id": found.id,
        "keys": [{"key": one.key, "kind": one.kind, "value": one.value} for one in found.keys],
        "properties": msgspec.json.decode(found.properties),
        "consents": found.consents,
    }
    views = {*_EXPORTED, "links", "predictions", "customer_embeddings"}
    with opened(places.lake, views, shop=shop) as (connection, _):
        for view, kind in _EXPORTED.items():
            rows = connection.sql(_OF_KEYS.format(view=view), params=[keys]).to_arrow_table()
            for batch in rows.to_batches(max_chunksize=10_000):
                yield from (_line(kind, row) for row in batch.to_pylist())
        for row in connection.sql(_LINKS, params=[keys, keys]).to_arrow_table().to_pylist():
            yield _line("link", row)
        for row in connection.sql(_PREDICTIONS, params=[keys]).to_arrow_table().to_pylist():
            yield _line("prediction", row)
        for row in connection.sql(_EMBEDDINGS, params=[keys]).to_arrow_table().to_pylist():
            yield _line("embedding", row)


def _line(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row as an export tells it: with its kind, without what says where it is kept."""
    told = {name: value for name, value in row.items() if name not in _OURS}
    return {"line": kind, **told}


def _settle(lake: Lake, log: EventLog, shard: int, refuses: Refusals) -> None:
    """Take all that a shard of the log holds into the lake."""
    with closing(Committer(lake, log, shard, refuses=refuses)) as committer:
        while committer.step() is not None:
            pass


def _erased(places: Places, job: Job) -> Job:
    """Remove the customer's rows everywhere but in the log."""
    whose = _whose(places, job)
    erasure = next(
        one for one in places.directory.erasures(job.shop) if one.id == job.detail["erasure"]
    )
    places.directory.entomb(erasure, whose.keys)
    gone = erase_rows(places.lake, whose)
    if places.index.exists():
        with closing(DedupeIndex(places.index)) as index, places.lake.lease():
            index.forget(gone.digests)
    _forget_live(places, job.shop, sorted(whose.keys))
    rows = dict(job.detail["rows"])
    for name, count in gone.rows.items():
        rows[name] = rows.get(name, 0) + count
    detail = {
        **job.detail,
        "keys": sorted(whose.keys),
        "rows": rows,
        "payloads": job.detail.get("payloads", 0) + gone.payloads,
        "files": job.detail.get("files", 0) + gone.files_deleted,
    }
    return replace(job, detail=detail)


def _forget_live(places: Places, shop: str, keys: Sequence[str]) -> None:
    """Remove some keys from the live state, and what was scored of them."""
    if places.profiles.exists():
        with closing(Profiles(places.profiles)) as profiles:
            profiles.forget(
                shop, keys, beside=lambda connection: tables.forget(connection, shop, keys)
            )
    if (scores := held_scores(places.online)) is not None:
        with closing(scores):
            scores.erase(shop, keys)


def _is_live(places: Places, job: Job) -> bool:
    """Whether the live state knows of the customer from before the erasure was asked for."""
    if not places.profiles.exists():
        return False
    with closing(Profiles(places.profiles)) as profiles:
        found = profiles.find(job.shop, *job.detail["keys"])
    return any(one.created <= job.created for one in found)


def _whose(places: Places, job: Job) -> Whose:
    """Every key of the customer as far as the lake knows, and what payloads may call them."""
    asked = job.detail["keys"]
    keys: set[str] = set(asked)
    mentions: set[str] = set()
    if job.shop in places.lake.shops():
        for key in asked:
            found = customer(places.lake, key, shop=job.shop, events=0)
            keys.update(known.key for known in found.keys)
            mentions.update(known.value for known in found.keys if known.value)
    mentions.update(
        key.partition(":")[2] for key in keys if kind_of(key) in ("anonymous", "profile")
    )
    return Whose(
        shop=job.shop,
        keys=frozenset(keys),
        until=job.created,
        mentions=tuple(sorted(mentions)),
    )


def _complete(places: Places, job: Job, now: Instant) -> Job:
    """Look once more, write the proof down, and forget whom it was about."""
    if _is_live(places, job):
        # who follows the log read of them before it noticed that they were erased
        _forget_live(places, job.shop, job.detail["keys"])
    left = count_rows(places.lake, _whose(places, job))
    if any(left.values()):
        return _put(places, job, "queued", now)     # something came in between: once more
    proof = {
        "rows_erased": job.detail["rows"],
        "payloads_emptied": job.detail.get("payloads", 0),
        "files_deleted": job.detail.get("files", 0),
        "keys": len(job.detail["keys"]),
        "rows_left": sum(left.values()),
        "log_holds_nothing_before": job.detail["ends"],
    }
    places.directory.complete_erasure(
        job.detail["erasure"], completed=now, proof=json.dumps(proof)
    )
    _note(places, job.shop, "erasure.complete", job.id, now)
    return _put(places, replace(job, detail=proof), "complete", now)


def _put(places: Places, job: Job, status: str, now: Instant) -> Job:
    job = replace(job, status=status, updated=now)
    places.directory.put_job(job)
    return job


def _note(places: Places, shop: str, act: str, about: str, now: Instant) -> None:
    places.directory.note(Act(shop=shop, time=now, act=act, about=about, who=places.who))


def _ends(places: Places) -> list[int]:
    """Where each shard of the log ends now; empty where there is no log."""
    if places.held_log is not None:
        return [places.held_log.end(shard) for shard in range(places.held_log.shards)]
    if not places.log.exists():
        return []
    with closing(places.open_log()) as log:
        return [log.end(shard) for shard in range(log.shards)]


def _holds(places: Places, ends: list[int]) -> bool:
    """Whether the log still holds a row from before the request."""
    if not places.log.exists():
        return False
    with closing(places.open_log()) as log:
        return any(_can_read(log, shard, end - 1) for shard, end in enumerate(ends) if end)


def _can_read(log: EventLog, shard: int, offset: int) -> bool:
    try:
        return bool(log.read(shard, offset, most_bytes=1))
    except Dropped:
        return False


def _catch_up(places: Places, log: EventLog) -> None:
    """Let the live state read what the log holds, so that nothing of it is told again later."""
    if not places.profiles.exists():
        return
    refuses = Refusals(places.directory)
    with closing(Profiles(places.profiles, refuses=refuses)) as profiles:
        profiles.catch_up(places.lake, shards=log.shards)

