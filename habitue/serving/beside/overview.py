"""How a workspace's service goes, from files alone: what `habitue status` shows.

Works beside a running server, and where none runs.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from habitue.config import clock
from habitue.errors import Busy, LogUnavailable
from habitue.lake.live.kept.opening import held_scores
from habitue.lake.live.told import instant
from habitue.scoring.told import SCORING_FILE, read_told
from habitue.serving.app import Place
from habitue.serving.beside.settlement import PROGRESS_FILE, depth_bytes, depth_rows, read_progress
from habitue.serving.server import is_served
from habitue.serving.several.told import TOLD_FILE, ServerTold


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopStatus:
    """How one shop's sending goes, since the server started."""

    shop: str
    accepted: int
    rejected: int
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringStatus:
    """How far the scores of one shop are."""

    shop: str
    version: str | None                    # none: it could not be scored as a whole yet
    cutoff: datetime | None                # when it was
    waiting: int                           # keys of which no score knows all
    lag_seconds: float                     # how long the first of what no score knows has waited
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How a service goes."""

    address: str | None                    # none: no server runs
    seconds_up: float
    rows_per_second: float                 # that come in, over the last second
    committed_per_second: float            # over the last ten
    lag_seconds: float                     # how long the oldest request waits that the lake lacks
    log_rows: int                          # requests in the log that the lake lacks
    log_bytes: int                         # the log's files, with what was committed of late
    last_commit: float | None              # seconds since 1970
    appended: int                          # since the worker started
    duplicate: int
    files: int                             # of the lake
    small_files: int
    failure: str | None                    # what keeps the worker from committing
    shops: tuple[ShopStatus, ...]
    scoring: tuple[ScoringStatus, ...]
    # customers whose score live audiences are yet to take over; none: scores are out of reach
    untold_scores: int | None = 0
    workers: int = 1                       # processes that should answer


def overview(place: Place) -> Overview:
    """How the service of a workspace goes now."""
    from habitue.lake.maintenance import lake_status

    told = _told(place.online / TOLD_FILE) if is_served(place.online) else None
    progress = read_progress(place.online / PROGRESS_FILE)
    lake, now = place.lake(), clock()
    cursors = [max(lake.cursor(f"log-{shard}"), 0) for shard in range(place.log.shards)]
    tables = lake_status(lake)
    settled = progress.settled if progress else {}
    waiting, failure = _waiting(place, cursors)
    since = progress.behind_since if progress and waiting else None
    return Overview(
        address=_address(told),
        seconds_up=now - told.started if told else 0.0,
        rows_per_second=told.rows_per_second if told else 0.0,
        committed_per_second=progress.rows_per_second if told and progress else 0.0,
        lag_seconds=now - since if since else 0.0,
        log_rows=waiting,
        log_bytes=depth_bytes(place.path / "log"),
        last_commit=progress.last_commit if progress else None,
        appended=settled.get("appended", 0),
        duplicate=settled.get("duplicate", 0),
        files=sum(table.files for table in tables),
        small_files=sum(table.small_files for table in tables),
        failure=failure or (progress.failure if progress else None),
        shops=_shops(told),
        scoring=scoring(place.online, now),
        untold_scores=_untold(place.online),
        workers=told.workers if told else 0,
    )


def scoring(online: Path, now: float) -> tuple[ScoringStatus, ...]:
    """How far the scores of each shop are, by the scorer's last word; `now` in seconds."""
    told = read_told(online / SCORING_FILE)
    if told is None:
        return ()
    scored = [
        ScoringStatus(
            shop=shop, version=one.version, cutoff=instant(one.cutoff), waiting=one.waiting,
            lag_seconds=0.0 if one.since is None else now - one.since / 1e6, problem=None,
        )
        for shop, one in sorted(told.shops.items())
    ]  # fmt: skip
    return *scored, *(
        ScoringStatus(
            shop=shop, version=None, cutoff=None, waiting=0, lag_seconds=0.0, problem=why
        )
        for shop, why in sorted(told.not_yet.items())
    )


def _untold(online: Path) -> int | None:
    try:
        kept = held_scores(online)
        if kept is None:
            return 0
        with closing(kept):
            return kept.untold()
    except Busy:
        return None


def _told(path: Path) -> ServerTold | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerTold)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _address(told: ServerTold | None) -> str | None:
    if told is None:
        return None
    return f"http://{told.host}:{told.port}" if told.workers else "others answer for it"


def _waiting(place: Place, cursors: list[int]) -> tuple[int, str | None]:
    """Requests that the lake lacks, and what keeps them from being counted."""
    try:
        return max(depth_rows(place.log, cursors), 0), None
    except LogUnavailable as error:
        return 0, str(error)


def _shops(told: ServerTold | None) -> tuple[ShopStatus, ...]:
    if told is None:
        return ()
    return tuple(
        ShopStatus(
            shop=shop,
            accepted=told.accepted.get(shop, 0),
            rejected=sum(told.rejected.get(shop, {}).values()),
            reasons=told.rejected.get(shop, {}),
        )
        for shop in sorted({*told.accepted, *told.rejected})
    )
