"""What is asked of a workspace: is it followed, how late, and in what order are lake and log."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from habitue.directory import Job
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.records import EventLog, decode
from habitue.serving.beside.overview import Overview, ScoringStatus
from habitue.serving.beside.settlement import Progress
from habitue.serving.doctor.findings import Finding, State, above, found, worst

SILENT_SECONDS = 30.0                      # of a process that speaks every second
LATE, VERY_LATE = 10.0, 120.0              # seconds behind: warning, problem
SCORES_LATE, SCORES_VERY_LATE = 60.0, 3600.0
LONG, VERY_LONG = 10_000, 1_000_000        # requests in the log that the lake lacks
SMALL_FILES, MANY_SMALL_FILES = 500, 5_000
UNSUMMED, LONG_UNSUMMED = 100, 1_000       # commits of a table since its last checkpoint
ERASED_WITHIN = timedelta(hours=1)


_NEWEST = """
-- one row: when the last event of anybody happened, or the last change was told
SELECT max(max(coalesce(last_event, 0)), max(coalesce(updated, 0))) FROM keys
"""


@dataclass(frozen=True, slots=True)
class LiveState:
    """How far the live profiles are."""

    waiting: int                           # requests that they lack
    lag_seconds: float                     # how long the first of these has waited
    newest: float | None                   # of all that was told of anybody, in seconds since 1970


def server(seen: Overview, living: int) -> Finding:
    """Whether a server runs, and as many of its processes as should; `living` counts them."""
    if seen.address is None:
        return Finding("server", "ok", "none runs")
    told = f"{seen.address}, up {seen.seconds_up:,.0f} s"
    if seen.workers <= 1:
        return Finding("server", "ok", told)
    state: State = "ok" if living >= seen.workers else "warning"
    told += f", {living} of {seen.workers} processes answer"
    hint = "one that died is started again by itself; where that goes on, its stderr says why"
    return found("server", state, told, hint)


def committer(seen: Overview, progress: Progress | None, now: float) -> Finding:
    """Whether what comes in reaches the lake, and how soon."""
    hint = "`habitue status` shows more; `habitue follow` settles what a dead service left"
    if seen.failure:
        return found("committer", "problem", f"cannot go on: {seen.failure}", hint)
    silent = now - progress.time if progress else 0.0
    if seen.address and silent > SILENT_SECONDS:
        told = f"has said nothing for {silent:,.0f} s, while the server runs"
        return found("committer", "problem", told, "restart the service")
    if not seen.address and seen.log_rows:
        told = f"nobody follows the log, which holds {seen.log_rows:,} requests"
        return found("committer", "warning", told, "`habitue serve`, or `habitue follow`")
    state = above(seen.lag_seconds, warning=LATE, problem=VERY_LATE)
    return found("committer", state, f"{seen.lag_seconds:,.1f} s behind", hint)


def live(seen: Overview, state: LiveState | None) -> Finding:
    """Whether live profiles and audiences follow."""
    if state is None:
        return found("live", "ok", "no live profiles yet", "")
    hint = "`habitue serve` keeps them; what waits is taken when it starts"
    late = above(state.lag_seconds, warning=LATE, problem=VERY_LATE)
    if not seen.address and state.waiting:
        late = "warning"                   # nobody says that they should follow now
    told = f"{state.waiting:,} requests wait, {state.lag_seconds:,.1f} s"
    return found("live", late, told, hint)


def scorer(scoring: Sequence[ScoringStatus], told_at: float | None, seen: Overview) -> Finding:
    """Whether scores follow; `told_at` says how many seconds ago the scorer spoke."""
    hint = "`habitue status` shows each shop; `habitue score` scores all of them now"
    if told_at is None:
        return found("scorer", "ok", "nothing was scored beside a server here", "")
    if seen.address and told_at > SILENT_SECONDS:
        told = f"has said nothing for {told_at:,.0f} s, while the server runs"
        return found("scorer", "warning", told, hint)
    lag = max((one.lag_seconds for one in scoring if one.problem is None), default=0.0)
    without = sum(one.problem is not None for one in scoring)
    state = above(lag, warning=SCORES_LATE, problem=SCORES_VERY_LATE)
    told = f"{lag:,.1f} s behind" + (f", {without} shops without a forecast yet" * bool(without))
    return found("scorer", state, told, hint)


def backlog(rows: int, size: int, free: int) -> Finding:
    """Whether the log is short, and fits beside what is free."""
    hint = "the committer takes it into the lake; see what keeps it from that"
    state = above(rows, warning=LONG, problem=VERY_LONG)
    if rows and size > free:
        state = "problem"
    return found("log", state, f"{rows:,} requests wait, {size / 1e6:,.1f} MB of files", hint)


def files(active: int, small: int, unsummed: tuple[str, int]) -> Finding:
    """Whether the lake is quick to open; `unsummed` names the table with the most commits."""
    many = above(small, warning=SMALL_FILES, problem=MANY_SMALL_FILES)
    long = above(unsummed[1], warning=UNSUMMED, problem=LONG_UNSUMMED)
    told = f"{active:,} files, {small:,} small, {unsummed[1]:,} commits since a checkpoint"
    hint = "`habitue compact` merges small files, and sums the log up"
    return found("lake", worst(many, long), told, hint)


def damage(files: int, unreadable: Sequence[str]) -> Finding:
    """Whether the lake's files are there, and end as they should."""
    if not unreadable:
        return Finding("files", "ok", f"{files:,} files of the lake can be opened")
    told = f"{len(unreadable):,} of {files:,} files of the lake cannot be opened: {unreadable[0]}"
    told += f", and {len(unreadable) - 1:,} more" * (len(unreadable) > 1)
    hint = "what reads them fails: stop the service, and `habitue restore` a copy, or that file"
    return found("files", "problem", told, hint)


def erasures(jobs: Sequence[Job], now: datetime) -> Finding:
    """Whether whoever asked to be erased is gone within the hour."""
    late = [job for job in jobs if now - job.created > ERASED_WITHIN]
    told = f"{len(jobs)} under way, {len(late)} of them for more than an hour"
    hint = "`habitue erasures` shows them; a running service finishes them, if nothing fails"
    return found("erasures", "problem" if late else "ok", told, hint)


def live_state(path: Path, log: EventLog, now: float) -> LiveState | None:
    """How far the live profiles of a workspace are; none: there are none."""
    if not path.exists():
        return None
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        cursors = dict(connection.execute("SELECT shard, next FROM cursors").fetchall())
        (newest,) = connection.execute(_NEWEST).fetchone()
    at = [cursors.get(shard, 0) for shard in range(log.shards)]
    waiting = sum(max(log.end(shard) - at[shard], 0) for shard in range(log.shards))
    lag = max((now - one for one in _first_waiting(log, at)), default=0.0)
    return LiveState(waiting, lag, None if newest is None else newest / 1e6)


def newest_received(log: EventLog) -> float | None:
    """When the log's last request came in, in seconds since 1970; none: it holds none."""
    ends = ((shard, log.end(shard) - 1) for shard in range(log.shards))
    return max(_received(log, ((shard, end) for shard, end in ends if end >= 0)), default=None)


def _first_waiting(log: EventLog, cursors: Sequence[int]) -> Iterator[float]:
    waiting = ((n, at) for n, at in enumerate(cursors) if at < log.end(n))
    yield from _received(log, waiting)


def _received(log: EventLog, places: Iterator[tuple[int, int]]) -> Iterator[float]:
    """When the requests at some offsets came in; of those that are gone, nothing."""
    for shard, offset in places:
        with contextlib.suppress(LogUnavailable):
            for record in log.read(shard, offset, most_bytes=1):
                yield decode(record.body).received.timestamp()
