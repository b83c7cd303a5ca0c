"""A watched folder, or a prefix of a bucket: every complete new file is imported, once.

What was imported is remembered by its content, so that a file that is moved or delivered again
costs one reading. Should the memory be lost, files are imported again and append nothing.
"""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from habitue.config import object_store_options
from habitue.errors import BadFile, BadMapping, BadSetting, Busy, NotInstalled
from habitue.events import Receipt
from habitue.ingest.importing import import_file
from habitue.ingest.mapping import read_mapping
from habitue.lake.tables import Lake

SETTLE_SECONDS = 2.0                       # that a file stays as it is before it counts as complete
UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")
BUCKETS = "s3://"
_BLOCK_BYTES = 1_000_000
log = logging.getLogger(__name__)


class Sighting(msgspec.Struct, frozen=True):
    """A file as it was seen; while two of these are equal, it has not changed."""

    name: str                              # below the folder, with slashes
    size: int
    stamp: str                             # when it was changed, or the bucket's tag of its content


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file."""

    seen: Sighting
    content: str                           # the digest of its bytes
    mapping: str                           # … and of the mapping's
    problem: str | None = None             # why it could not be imported


class Memory(msgspec.Struct, kw_only=True):
    """What a watch remembers; a file of the workspace that is replaced as a whole."""

    files: dict[str, Known] = {}           # by name
    imported: set[str] = set()             # content and mapping of all that was ever imported


class Place(Protocol):
    """Where files are left."""

    def look(self) -> list[Sighting]:
        """Every file that may be complete, sorted by name.

        Raises:
            OSError: the place cannot be looked at.
        """
        ...

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """A file that can be read, under its own name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One file, and what became of it: a receipt, or a problem."""

    name: str
    receipt: Receipt | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Into which shop files go, and what their columns mean."""

    lake: Lake
    shop: str
    mapping: Path
    memory: Path                           # the folder of what watches remember


class Watch:
    """A place that is looked at again and again."""

    def __init__(self, place: Place, name: str, target: Target) -> None:
        """`name` is where the place is, by which its memory is found again."""
        self._place, self._target = place, target
        named = hashlib.blake2b(f"{target.shop}\0{name}".encode(), digest_size=8).hexdigest()
        self._file = target.memory / f"watch-{named}.json"
        self._memory = _remembered(self._file)
        self._last: dict[str, Sighting] = {}       # of the look before
        self._mapping = ""                         # the digest of the mapping then

    def take(self, told: Callable[[Import], None], *, now: Callable[[], datetime]) -> None:
        """Import what is complete: as it was at the look before, and not known to be done.

        Looks are the caller's to space, at least `SETTLE_SECONDS` apart.

        Raises:
            BadMapping: the mapping itself cannot be read.
            OSError, Busy: the place or the lake fails; the next look tries again.
        """
        read_mapping(self._target.mapping)         # its faults are not the files'
        mapping = self._target.mapping.read_bytes()
        self._mapping = hashlib.blake2b(mapping, digest_size=16).hexdigest()
        seen = {one.name: one for one in self._place.look()}
        before, self._last = self._last, seen
        for name in self.waiting():
            if before.get(name) == seen[name]:
                found = self._take(seen[name], now())
                if found is not None:
                    told(found)
        gone = self._memory.files.keys() - seen.keys()
        if gone:
            for name in gone:
                del self._memory.files[name]
            self._save()

    def waiting(self) -> list[str]:
        """The files of the last look that are not dealt with as they are, nor by this mapping."""
        return [
            name for name, one in self._last.items()
            if (known := self._memory.files.get(name)) is None
            or (known.seen, known.mapping) != (one, self._mapping)
        ]

    def _take(self, one: Sighting, now: datetime) -> Import | None:
        """Import a file and remember it; None where its content was imported before."""
        receipt, problem = None, None
        with self._place.fetched(one.name) as path:
            content = _digest(path)
            key = f"{content} {self._mapping}"
            is_new = key not in self._memory.imported
            if is_new:
                try:
                    receipt = import_file(
                        path, lake=self._target.lake, shop=self._target.shop,
                        mapping=read_mapping(self._target.mapping), now=now,
                    )  # fmt: skip
                except (BadFile, BadMapping) as error:
                    problem = str(error)
            if _digest(path) != content:           # it was written to meanwhile
                self._last.pop(one.name, None)
                return None
        self._memory.files[one.name] = Known(
            seen=one, content=content, mapping=self._mapping, problem=problem
        )
        if problem is None:
            self._memory.imported.add(key)
        self._save()
        return Import(name=one.name, receipt=receipt, problem=problem) if is_new else None

    def _save(self) -> None:
        """Replace the memory, durably."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        with draft.open("wb") as handle:
            handle.write(msgspec.json.encode(self._memory))
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(self._file)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine and all below it."""

    path: Path

    def look(self) -> list[Sighting]:
        """Every file but the hidden and the unfinished ones."""
        if not self.path.is_dir():
            raise BadSetting(f"{self.path} is no folder\nhint: make it, or name another one")
        found = []
        for file in sorted(self.path.rglob("*")):
            name = file.relative_to(self.path).as_posix()
            with suppress(FileNotFoundError):      # removed since it was listed
                if may_be_complete(name) and file.is_file():
                    told = file.stat()
                    found.append(Sighting(name, told.st_size, str(told.st_mtime_ns)))
        return found

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self.path / name


class Bucket:
    """A prefix of a bucket. Credentials come from the environment (AWS_*), or the machine."""

    def __init__(self, address: str) -> None:
        """`s3://bucket/prefix`.

        Raises:
            BadSetting: it names no bucket.
            NotInstalled: the client is not there.
        """
        NotInstalled.unless("obstore", package="obstore", extra="s3")
        import obstore
        from obstore.store import S3Store

        parts = urlsplit(address)
        if not parts.netloc:
            raise BadSetting(f"{address!r} names no bucket\nhint: s3://bucket/prefix")
        prefix = parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        options: Any = {"allow_http": True} if object_store_options() else {}
        self._obstore = obstore
        self._store = S3Store(parts.netloc, client_options=options)

    def look(self) -> list[Sighting]:
        """Every object but the hidden and the unfinished ones."""
        with self._told():
            pages = list(self._obstore.list(self._store, self._prefix or None))
        found = [
            Sighting(name, one["size"], str(one["e_tag"] or one["last_modified"]))
            for page in pages for one in page
            if may_be_complete(name := one["path"].removeprefix(self._prefix))
        ]
        return sorted(found, key=lambda one: one.name)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """A copy of the object, for the time being."""
        with tempfile.TemporaryDirectory(prefix="habitue-") as folder:
            path = Path(folder) / PurePosixPath(name).name
            with self._told(), path.open("wb") as file:
                for block in self._obstore.get(self._store, f"{self._prefix}{name}").stream():
                    file.write(block)
            yield path

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._obstore.exceptions.BaseError as error:
            raise OSError(f"the object store did not answer: {error}") from error


def watch_address(
    address: str,
    target: Target,
    told: Callable[[Import], None],
    *,
    once: bool,
    now: Callable[[], datetime],
) -> list[str]:
    """Import what comes to a folder or an s3:// prefix, as `watch` does."""
    return watch(Watch(place_of(address), address, target), told, once=once, now=now)


def watch(
    one: Watch,
    told: Callable[[Import], None],
    *,
    once: bool,
    now: Callable[[], datetime],
    pace_seconds: float = SETTLE_SECONDS,
) -> list[str]:
    """Import what comes, for ever; or what is there, and return which files still change.

    Raises:
        BadMapping: the mapping itself cannot be read.
    """
    if once:
        one.take(told, now=now)
        if one.waiting():                  # that a file stays as it is takes a second look
            time.sleep(pace_seconds)
            one.take(told, now=now)
        return one.waiting()
    while True:
        try:
            one.take(told, now=now)
        except (Busy, OSError) as error:
            log.warning("looking failed, trying again: %s", error)
        time.sleep(pace_seconds)


def place_of(address: str) -> Place:
    """The folder or the bucket's prefix of that name."""
    return Bucket(address) if address.startswith(BUCKETS) else Folder(Path(address))


def may_be_complete(name: str) -> bool:
    """Whether a name is one of a file that is there to be read.

    >>> [may_be_complete(name) for name in ("a/b.csv", "b.csv.tmp", ".a/b.csv", "_SUCCESS")]
    [True, False, False, False]
    """
    parts = PurePosixPath(name).parts
    if not parts or any(part.startswith((".", "_")) for part in parts):
        return False
    return not name.lower().endswith(("/", *UNFINISHED))


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(path.suffix.encode(), digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _remembered(file: Path) -> Memory:
    """What was remembered; nothing where that cannot be read, which costs time and no rows."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory()
    except msgspec.DecodeError:
        log.warning("forgot what was imported: %s cannot be read", file)
        return Memory()
