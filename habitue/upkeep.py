"""Care of a whole workspace: copy it, put a copy back, bring it up to this release.

A copy is taken beside a running service: the lake's lease is held meanwhile, so that nothing is
committed, and what comes in waits in the log, which is copied last. What can be derived (dedupe
index, live state) is not copied.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from habitue import privacy
from habitue.audit import AUDIT_FILE
from habitue.directory import DIRECTORY_FILE, Directory
from habitue.errors import BadWorkspace
from habitue.events import Instant
from habitue.lake import maintenance
from habitue.lake.eventlog.opening import TOPIC_FILE
from habitue.lake.tables import Lake
from habitue.marker import (
    FORMAT,
    FORMAT_FILE,
    keep_private,
    lake_place,
    read_format,
    write_format,
)

REGISTRY_FILE = "registry.sqlite"
BACKUP_FILE = "habitue-backup.json"        # written last: a copy without it is not whole

Progress = Callable[[str, int, int | None], None]    # what is being done, steps done, of how many


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy says of itself."""

    format: int
    created: Instant
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of putting a copy back."""

    backup: Backup
    erased_rows: int                       # of customers who were erased since, or before


def backup(folder: Path, target: Path, *, now: Instant, progress: Progress | None = None) -> Backup:
    """Copy a workspace into a new folder, as it is at one instant.

    Raises:
        BadWorkspace: the target exists and holds something.
        Busy: another process writes for long; try again.
    """
    if target.exists() and any(target.iterdir()):
        raise BadWorkspace(f"{target} is not empty\nhint: name a new folder for the copy")
    told = progress or (lambda *_: None)
    if isinstance(lake_place(folder), str):
        raise BadWorkspace(
            f"the lake of {folder} is at {lake_place(folder)}, and a copy of the folder holds"
            " no event of it\nhint: let the object store keep versions, or copy the bucket"
        )
    keep_private(target)
    lake = Lake(lake_place(folder), beside=folder)
    with maintenance.housekeeping(lake), lake.lease():
        files = [*_plain_files(folder), *_databases(folder)]
        for number, path in enumerate(files):
            _copy(path, target / path.relative_to(folder))
            told("copying", number + 1, len(files))
    copied = [target / path.relative_to(folder) for path in files]
    made = Backup(
        format=read_format(folder),
        created=now,
        files=len(copied),
        bytes=sum(path.stat().st_size for path in copied),
    )
    (target / BACKUP_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    return made


def restore(
    copy: Path, folder: Path, *, erased_in: Path | None = None, progress: Progress | None = None
) -> Restored:
    """Put a copy back into a new folder; whoever was erased stays erased.

    `erased_in` is a workspace whose tombstones count, too: the one that the copy replaces.

    Raises:
        BadWorkspace: the copy is not whole, or the folder holds something.
    """
    made = _read_backup(copy)
    if folder.exists() and any(folder.iterdir()):
        raise BadWorkspace(
            f"{folder} is not empty\nhint: move it away first, and name it with --erased-in, so"
            " that customers who were erased since stay erased"
        )
    keep_private(folder)
    told = progress or (lambda *_: None)
    files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    for number, path in enumerate(files):
        if path.name not in (BACKUP_FILE, FORMAT_FILE):
            place = folder / path.relative_to(copy)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
        told("copying", number + 1, len(files))
    directory = Directory(folder / DIRECTORY_FILE)
    if erased_in is not None:
        directory.adopt_erasures(Directory(erased_in / DIRECTORY_FILE))
    write_format(folder, made.format)      # last: before it, the folder is no workspace
    lake = Lake(lake_place(folder), beside=folder)
    places = privacy.Places(lake=lake, directory=directory, folder=folder)
    return Restored(backup=made, erased_rows=privacy.reapply(places))


def upgrade(folder: Path) -> int:
    """Bring a workspace of an earlier release up to this one; returns the format that it had.

    It may be cut short and begun again. Raises `BadWorkspace` for what is no workspace.
    """
    former = read_format(folder)
    if former > FORMAT:
        raise BadWorkspace(
            f"{folder} has format {former}; this version of habitue reads up to {FORMAT}\n"
            "hint: install a newer habitue"
        )
    lake, directory = Lake(lake_place(folder), beside=folder), Directory(folder / DIRECTORY_FILE)
    maintenance.evolve(lake)
    for shop in lake.shops():
        directory.shop(shop, create=True)
    write_format(folder, FORMAT)
    return former


def _read_backup(copy: Path) -> Backup:
    try:
        return msgspec.json.decode((copy / BACKUP_FILE).read_bytes(), type=Backup)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError) as error:
        raise BadWorkspace(
            f"{copy} is no whole copy of a workspace: it holds no readable {BACKUP_FILE}\n"
            "hint: `habitue backup FOLDER` makes one"
        ) from error


def _plain_files(folder: Path) -> Iterator[Path]:
    """Files that never change once they are there, or only under the lease that is held."""
    for room in ("lake", "models"):
        for path in sorted((folder / room).rglob("*")):
            if path.is_file() and path.name not in ("lease", "housekeeping"):
                yield path
    for path in sorted((*(folder / "log").rglob("shards*"), folder / "log" / TOPIC_FILE)):
        if path.is_file():
            yield path


def _databases(folder: Path) -> Iterator[Path]:
    """SQLite files; the log's are last, so that they hold all that the lake does not."""
    for name in (REGISTRY_FILE, DIRECTORY_FILE, AUDIT_FILE):
        if (folder / name).is_file():
            yield folder / name
    yield from sorted((folder / "log").rglob("*.sqlite"))


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".sqlite":
        shutil.copy2(path, place)
        return
    # the database's own way: it sees what its write-ahead log holds, and no half of a transaction
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(place)) as target,
    ):
        source.backup(target)
    shutil.copymode(path, place)
