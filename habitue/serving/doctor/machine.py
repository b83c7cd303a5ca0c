"""What is asked of the computer: room on the disk, the clock, versions, who may read what."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from habitue.directory import DIRECTORY_FILE
from habitue.serving.doctor.findings import Finding, above, found, worst

LEAST_BYTES, SCARCE_BYTES = 500_000_000, 5_000_000_000     # free on the disk: problem, warning
LEAST_SHARE, SCARCE_SHARE = 0.01, 0.05
APART_SECONDS, FAR_APART_SECONDS = 2.0, 30.0               # between two clocks: warning, problem
LEAST_PYTHON = (3, 11)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(;.*)?$")


def disk(free: int, total: int) -> Finding:
    """Whether there is room for what comes in."""
    share = free / max(total, 1)
    state = worst(
        above(-free, warning=-SCARCE_BYTES, problem=-LEAST_BYTES),
        above(-share, warning=-SCARCE_SHARE, problem=-LEAST_SHARE),
    )
    told = f"{free / 1e9:,.1f} of {total / 1e9:,.1f} GB are free"
    hint = "make room: a full disk is told to clients as 503, and nothing is taken until then"
    return found("disk", state, told, hint)


def room(folder: Path) -> Finding:
    """Whether there is room on the disk of a folder."""
    usage = shutil.disk_usage(folder)
    return disk(usage.free, usage.total)


def clock(now: float, stamped: float, known: Sequence[tuple[str, float]]) -> Finding:
    """Whether the clock is that of the file system, and later than all that is written down.

    `stamped` is what the file system called now; `known` names instants that are over (seconds).
    """
    apart = abs(now - stamped)
    ahead = max(known, key=lambda one: one[1], default=("nothing", now))
    before = max(ahead[1] - now, 0.0)
    if before > APART_SECONDS:
        state = above(before, warning=APART_SECONDS, problem=FAR_APART_SECONDS)
        told = f"{ahead[0]} is {before:,.0f} s in the future"
    else:
        state = above(apart, warning=APART_SECONDS, problem=FAR_APART_SECONDS)
        told = f"{apart:,.1f} s from the file system's, later than all that is written down"
    hint = "let a time service set the clock; what comes in is ordered by it and never changed"
    return found("clock", state, told, hint)


def stamp(folder: Path) -> float:
    """What the file system of a folder calls now, in seconds since 1970."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.utime(file.name)
        return Path(file.name).stat().st_mtime


def versions(
    requirements: Sequence[str], version_of: Callable[[str], str], python: tuple[int, ...]
) -> Finding:
    """Whether Python and the packages are of versions that were asked for."""
    wrong = list(_wrong(requirements, version_of))
    if python[:2] < LEAST_PYTHON:
        wrong.insert(0, f"Python {'.'.join(map(str, python[:2]))} is below 3.11")
    ours = ".".join(map(str, python[:3]))
    told = ", ".join(wrong) or f"Python {ours}, {len(requirements)} packages as they should be"
    hint = "`make install`, or `pip install habitue` again, brings the versions that are asked for"
    return found("versions", "problem" if wrong else "ok", told, hint)


def installed() -> Finding:
    """Whether what is installed is what this release asks for."""
    try:
        told = metadata.requires("habitue") or []
    except metadata.PackageNotFoundError:
        hint = "install it, so that it can say what it needs"
        return found("versions", "warning", "habitue is not installed as a package", hint)
    needed = [one for one in told if "extra ==" not in one]
    return versions(needed, metadata.version, sys.version_info[:3])


def privacy(folder: Path, user: int) -> Finding:
    """Whether nobody but its owner can read what is kept, and whether that is us."""
    wrong = []
    for path in (folder, folder / "online", folder / DIRECTORY_FILE):
        if not path.exists():
            continue
        status = path.stat()
        name = path.name if path != folder else "the folder"
        if status.st_mode & 0o077:
            wrong.append(f"{name} can be entered or read by others")
        if status.st_uid != user:
            wrong.append(f"{name} belongs to another user")
    told = ", ".join(wrong) or "the owner alone reads what is kept, and that is us"
    hint = f"chmod -R go-rwx {folder}, and run as its owner"
    return found("permissions", "problem" if wrong else "ok", told, hint)


def _wrong(requirements: Sequence[str], version_of: Callable[[str], str]) -> Iterator[str]:
    for requirement in requirements:
        parts = _REQUIREMENT.match(requirement)
        assert parts, f"{requirement!r} is a requirement of this package"
        name, bounds = parts[1], parts[2]
        try:
            held = version_of(name)
        except metadata.PackageNotFoundError:
            yield f"{name} is missing"
            continue
        if not meets(held, bounds):
            yield f"{name} {held} is not {bounds.strip()}"


def meets(version: str, bounds: str) -> bool:
    """Whether a version meets bounds as this package writes them: >=, < and ==, with commas.

    >>> meets("1.10.0", ">=1.9,<2"), meets("2.0", ">=1.9,<2"), meets("2.1", "==2.1")
    (True, False, True)
    """
    held = _numbers(version)
    for bound in filter(None, (one.strip() for one in bounds.split(","))):
        sign, wanted = re.findall(r"^([<>=!~]+)\s*(.*)$", bound)[0]
        limit = _numbers(wanted)
        width = max(len(held), len(limit))
        left, right = (one + (0,) * (width - len(one)) for one in (held, limit))
        if not {">=": left >= right, "<": left < right, "==": left == right}.get(sign, True):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version.partition("+")[0]))
