"""A local folder: every file is written beside, flushed, and given its name in one step."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from habitue.lake.storage.interface import Held

_PAUSE_SECONDS = 0.05
_BEGUN, _DONE = "journal.json", "journal.done"


class Folder:
    """Local files. `flush` forces a file's or a folder's content to the disk."""

    options: dict[str, str] | None = None
    is_shared = False

    def __init__(self, flush: Callable[[Path], None]) -> None:
        self._flush = flush

    def read(self, place: Path) -> bytes | None:
        """See `Storage`."""
        try:
            return place.read_bytes()
        except FileNotFoundError:
            return None

    def put_new(self, place: Path, content: bytes) -> None:
        """See `Storage`."""
        draft = place.with_name(f".{place.stem}.draft")
        draft.write_bytes(content)
        self._flush(draft)
        try:
            os.link(draft, place)
        finally:
            draft.unlink()
        self._flush(place.parent)

    def replace(self, place: Path, content: bytes) -> None:
        """See `Storage`."""
        draft = place.with_name(f"{place.stem}.draft")
        draft.write_bytes(content)
        self._flush(draft)
        draft.rename(place)
        self._flush(place.parent)

    def delete(self, place: Path) -> None:
        """See `Storage`."""
        place.unlink(missing_ok=True)

    def list(self, place: Path, *, after: str = "") -> list[Held]:
        """See `Storage`."""
        if not place.is_dir():
            return []
        found = []
        for path in sorted(place.iterdir()):
            if path.is_file() and path.name > after:
                told = path.stat()
                found.append(Held(path.name, told.st_size, told.st_mtime))
        return found

    def save(self, place: Path, fill: Callable[[Path], None]) -> int:
        """See `Storage`."""
        place.parent.mkdir(parents=True, exist_ok=True)
        fill(place)
        return place.stat().st_size

    def settle(self) -> None:
        """See `Storage`: it is there already."""

    def source(self, place: Path | str) -> Path | str:
        """See `Storage`."""
        return place

    def own(self, name: str) -> str:
        """See `Storage`: writers to a folder never are at it at the same time."""
        return name

    def moment(self, place: Path) -> int:
        """See `Storage`."""
        return place.stat().st_mtime_ns // 1_000_000

    def lease(self, place: Path) -> "FileLease":
        """See `Storage`."""
        return FileLease(place)

    def begun(self, root: Path) -> bytes | None:
        """See `Storage`."""
        return self.read(root / _BEGUN)

    def done(self, root: Path) -> bytes | None:
        """See `Storage`."""
        return self.read(root / _DONE)

    def begin(self, root: Path, intention: bytes) -> None:
        """See `Storage`."""
        self.replace(root / _BEGUN, intention)

    def lay_aside(self, root: Path) -> None:
        """See `Storage`."""
        (root / _BEGUN).rename(root / _DONE)
        self._flush(root)

    def attach(self, connection: object) -> None:
        """See `Storage`: DuckDB reads local files by itself."""


class FileLease:
    """A lock of the kernel on a file: it is given back even where its holder is killed."""

    pause_seconds = _PAUSE_SECONDS

    def __init__(self, place: Path) -> None:
        self._place = place
        self._handle: int | None = None

    def take(self) -> bool:
        """See `Lease`."""
        if self._handle is None:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._place, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def confirm(self) -> None:
        """See `Lease`: the kernel takes no lock away."""

    def release(self) -> None:
        """See `Lease`."""
        if self._handle is not None:
            os.close(self._handle)         # closing gives the lock back
            self._handle = None
