"""Every check of a workspace, a line each; what cannot be looked at is a problem, too."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from habitue.config import clock, clock_ahead, utc_now
from habitue.directory import ERASURE
from habitue.errors import HabitueError
from habitue.lake.profiles import PROFILES_FILE
from habitue.marker import FORMAT, check_format
from habitue.scoring.told import SCORING_FILE, read_told
from habitue.serving.app import Place
from habitue.serving.beside.overview import Overview, overview
from habitue.serving.beside.settlement import PROGRESS_FILE, read_progress
from habitue.serving.doctor import machine, service
from habitue.serving.doctor.findings import Finding
from habitue.serving.several.sharing import counted

Check = Callable[[], Finding]


def of_machine(folder: Path, user: int) -> list[Finding]:
    """What can be asked where there is a folder, whatever it holds."""
    checks: dict[str, Check] = {
        "format": lambda: _format(folder),
        "versions": machine.installed,
        "disk": lambda: machine.room(folder),
        "permissions": lambda: machine.privacy(folder, user),
    }
    return list(_asked(checks.items()))


def of_service(place: Place) -> list[Finding]:
    """What is asked of a workspace that can be opened; a service may run."""
    try:
        seen = overview(place)
    except (HabitueError, OSError, sqlite3.Error) as error:
        return [_unseen("service", error)]
    return list(_asked(_checks(place, seen).items()))


def _checks(place: Place, seen: Overview) -> dict[str, Check]:
    now, online = clock(), place.online
    progress = read_progress(online / PROGRESS_FILE)
    free = shutil.disk_usage(place.path).free
    return {
        "server": lambda: service.server(seen, _living(online)),
        "clock": lambda: _clock(place, now),
        "committer": lambda: service.committer(seen, progress, now),
        "live": lambda: service.live(
            seen, service.live_state(online / PROFILES_FILE, place.log, now)
        ),
        "scorer": lambda: service.scorer(seen.scoring, _told_at(online, now), seen),
        "log": lambda: service.backlog(seen.log_rows, seen.log_bytes, free),
        "lake": lambda: service.files(seen.files, seen.small_files, _unsummed(place)),
        "files": lambda: service.damage(seen.files, _unreadable(place)),
        "erasures": lambda: service.erasures(place.directory.open_jobs(ERASURE), utc_now()),
    }


def _asked(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    for name, check in checks:
        try:
            yield check()
        except (HabitueError, OSError, sqlite3.Error) as error:
            yield _unseen(name, error)


def _unseen(name: str, error: Exception) -> Finding:
    told = f"cannot be looked at: {str(error).partition(chr(10))[0]}"
    return Finding(name, "problem", told, "what it says must be mended first")


def _format(folder: Path) -> Finding:
    try:
        check_format(folder)
    except HabitueError as error:
        told, _, hint = str(error).partition("\n")
        return Finding("format", "problem", told, hint.removeprefix("hint: "))
    return Finding("format", "ok", f"the folder has format {FORMAT}, as this release")


def _living(online: Path) -> int:
    """How many processes that answer beside others live."""
    return sum(_lives(one.pid) for one in counted(online))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:                # it is another user's
        return True
    return True


def _clock(place: Place, now: float) -> Finding:
    live = service.live_state(place.online / PROFILES_FILE, place.log, now)
    progress = read_progress(place.online / PROGRESS_FILE)
    known = {
        "what the committer said last": progress.time if progress else None,
        "the log's last request": service.newest_received(place.log),
        "what came last of a customer": live.newest if live else None,
    }
    over = [(name, at) for name, at in known.items() if at is not None]
    return machine.clock(clock(), machine.stamp(place.path) + clock_ahead().total_seconds(), over)


def _told_at(online: Path, now: float) -> float | None:
    told = read_told(online / SCORING_FILE)
    return None if told is None else now - told.time


def _unsummed(place: Place) -> tuple[str, int]:
    """The table with the most commits since its last checkpoint."""
    from habitue.lake.maintenance import unsummed

    return max(unsummed(place.lake()).items(), key=lambda one: one[1], default=("", 0))


def _unreadable(place: Place) -> list[str]:
    from habitue.lake.maintenance import unreadable

    return [str(file) for file in unreadable(place.lake())]


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether no problem stands."""
    return all(one.state != "problem" for one in findings)

