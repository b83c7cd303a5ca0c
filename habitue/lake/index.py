"""`DedupeIndex`: the digest of everything the lake holds, so that a repeat is known at once.

It is derived: it carries the number of the lake's last commit that it knows, catches up by reading
the digests of newer files, and may be deleted at any time. LMDB writes without waiting for the
disk; a marker tells whether the machine went down meanwhile, and then the index is made anew.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lmdb
import pyarrow.parquet as pq

from habitue.lake.tables import Lake, data_sequence

log = logging.getLogger(__name__)

TABLES_WITH_DIGESTS = ("events", "items", "identifiers", "links", "profiles", "consents")

_FIRST_MAP_BYTES = 64 << 20
_PER_TRANSACTION = 20_000                  # digests; bounds the pages that are held in memory
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SEQUENCE = b"sequence"


class DedupeIndex:
    """The digests under one folder. Several may be open at once, in one process or in many.

    Whoever changes it holds the lease of its lake.
    """

    def __init__(self, path: Path | str) -> None:
        """Open the folder, made where it is missing or damaged."""
        self._shared = _Shared.open(Path(path).absolute())

    @property
    def sequence(self) -> int:
        """The lake's last commit whose rows are known here; -1: none."""
        held = self._shared.about(_SEQUENCE)
        return -1 if held is None else int(held)

    def known(self, digests: Iterable[bytes]) -> set[bytes]:
        """Those of the digests that the lake holds."""
        return self._shared.known(sorted(digests))

    def add(self, digests: Iterable[bytes], *, sequence: int) -> None:
        """Learn the digests that a commit brought, everything before it being known.

        A disk that is full or broken is logged and no more: what was not learnt now is caught up.
        """
        try:
            self._add(digests, sequence)
        except lmdb.Error as error:
            log.warning("dedupe index could not be written, will catch up error=%s", error)

    def _add(self, digests: Iterable[bytes], sequence: int) -> None:
        ordered = sorted(digests)
        for start in range(0, len(ordered), _PER_TRANSACTION):
            self._shared.put(ordered[start : start + _PER_TRANSACTION])
        self._shared.set_about(_SEQUENCE, str(sequence).encode())

    def forget(self, digests: Iterable[bytes]) -> None:
        """Unlearn digests, such as those of an erased customer's rows."""
        self._shared.delete(sorted(digests))

    def catch_up(self, lake: Lake) -> int:
        """Learn what the lake holds beyond what is known here; returns how many files were read.

        A lake that is behind what is known here was put back from a copy: all is learnt anew.

        Raises:
            OSError: the index cannot be written, such as on a full disk; nothing is lost by it.
        """
        try:
            return self._catch_up(lake)
        except lmdb.Error as error:
            raise OSError(
                f"the dedupe index cannot be written: {error}\n"
                f"hint: make room, or delete {self._shared.path}; it is made anew"
            ) from error

    def _catch_up(self, lake: Lake) -> int:
        held = self.sequence               # first: the lake may go on while we look
        wanted = lake.sequence
        if held == wanted:
            return 0
        if held > wanted:
            log.warning("dedupe index is ahead of its lake: made anew held=%d", held)
            self._shared.clear()
            held = -1
        read = 0
        for name in TABLES_WITH_DIGESTS:
            for file in lake.written(name):
                if data_sequence(file.path) > held:
                    self._learn(lake.storage.source(lake.path / name / file.path))
                    read += 1
        self._add((), wanted)
        return read

    def close(self) -> None:
        """Give the files back; the last one to do so leaves them whole on disk."""
        self._shared.close()

    def _learn(self, source: Any) -> None:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=_PER_TRANSACTION, columns=["digest"]):
                self._shared.put(sorted(batch.column(0).to_pylist()))


class _Shared:
    """One folder's LMDB environment, which a process may open only once."""

    _opened: ClassVar[dict[Path, "_Shared"]] = {}
    _gate: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users = 0
        self._lock = threading.RLock()     # the map may not grow under another thread's feet
        self._marker = _enter(path)
        try:
            self._open()
        except lmdb.Error as error:
            log.warning("dedupe index is damaged: made anew error=%s", error)
            _empty(path)
            self._open()

    @classmethod
    def open(cls, path: Path) -> "_Shared":
        with cls._gate:
            shared = cls._opened.get(path) or cls._opened.setdefault(path, cls(path))
            shared._users += 1
            return shared

    def close(self) -> None:
        with self._gate:
            self._users -= 1
            if self._users == 0:
                del self._opened[self.path]
                self._environment.sync(True)
                self._environment.close()
                _leave(self._marker)

    def about(self, key: bytes) -> bytes | None:
        with self._lock, self._begin(write=False) as transaction:
            held = transaction.get(key, db=self._about)
            return None if held is None else bytes(held)

    def set_about(self, key: bytes, value: bytes) -> None:
        with self._lock, self._begin(write=True) as transaction:
            transaction.put(key, value, db=self._about)

    def known(self, ordered: Sequence[bytes]) -> set[bytes]:
        with self._lock, self._begin(write=False) as transaction, transaction.cursor(
            self._digests
        ) as cursor:
            return {bytes(key) for key, _ in cursor.getmulti(ordered)}

    def put(self, ordered: Sequence[bytes]) -> None:
        pairs = [(digest, b"") for digest in ordered]
        with self._lock:
            while not self._try_put(pairs):
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def _try_put(self, pairs: Sequence[tuple[bytes, bytes]]) -> bool:
        """False where the map is too small; nothing was put then."""
        try:
            with self._begin(write=True) as transaction, transaction.cursor(
                self._digests
            ) as cursor:
                cursor.putmulti(pairs, overwrite=False)
        except lmdb.MapFullError:
            return False
        return True

    def delete(self, ordered: Sequence[bytes]) -> None:
        with self._lock, self._begin(write=True) as transaction:
            for digest in ordered:
                transaction.delete(digest, db=self._digests)

    def clear(self) -> None:
        with self._lock, self._begin(write=True) as transaction:
            transaction.drop(self._digests, delete=False)
            transaction.drop(self._about, delete=False)

    def _open(self) -> None:
        self._environment = lmdb.open(
            str(self.path), map_size=_FIRST_MAP_BYTES, max_dbs=2, sync=False, metasync=False,
            readahead=False,
        )
        self._digests = self._environment.open_db(b"digests")
        self._about = self._environment.open_db(b"about")

    def _begin(self, *, write: bool) -> lmdb.Transaction:
        try:
            return self._environment.begin(write=write)
        except lmdb.MapResizedError:       # another process made the map larger
            self._environment.set_mapsize(0)
            return self._environment.begin(write=write)


def _enter(path: Path) -> int:
    """Note that the index is in use since this start of the machine; empties it after a crash.

    The marker holds that start's id while anyone uses the index, and nothing once it is whole on
    disk. Users hold a shared lock on it.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path / "in-use", os.O_RDWR | os.O_CREAT, 0o644)
    boot = _BOOT.read_bytes().strip() if _BOOT.exists() else b"unknown"
    while True:
        fcntl.flock(handle, fcntl.LOCK_SH)
        held = os.pread(handle, 100, 0)
        if held == boot and boot != b"unknown":
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if held == boot:               # others use it: so the machine did not go down
                return handle
            fcntl.flock(handle, fcntl.LOCK_UN)
            time.sleep(0.01)
            continue
        if os.pread(handle, 100, 0):
            log.warning("the machine went down while the dedupe index was in use: made anew")
            _empty(path)
        os.ftruncate(handle, 0)
        os.pwrite(handle, boot, 0)
        os.fsync(handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle


def _leave(handle: int) -> None:
    """Note that the index is whole on disk, unless others still use it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.fsync(handle)
    except BlockingIOError:
        pass
    finally:
        os.close(handle)


def _empty(path: Path) -> None:
    for inner in path.iterdir():
        if inner.name != "in-use":
            shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
