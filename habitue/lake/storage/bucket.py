"""A bucket: objects appear whole, and a conditional put decides who was first."""

import secrets
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from habitue.config import clock, object_store_options
from habitue.errors import BadSetting
from habitue.lake.storage.control import NOTHING, Control
from habitue.lake.storage.interface import Held
from habitue.lake.storage.objects import Objects

SCHEME = "s3://"
_WHOLE_BYTES = 32 << 20                    # of a file that is read by one request
_SMALL_BYTES = 4 << 20                     # of a file that waits for others before it is put
_WAITING_BYTES = 64 << 20                  # of all of them
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object, or a folder of them, in a bucket; shaped like a `Path`."""

    storage: "Bucket"
    key: str

    def __truediv__(self, name: object) -> "ObjectPlace":
        return ObjectPlace(self.storage, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{SCHEME}{self.storage.objects.bucket}/{self.key}"


class Bucket:
    """A bucket as one process sees it. One of them serves one lake."""

    is_shared = True

    def __init__(self, bucket: str, *, clock: Callable[[], float] = clock) -> None:
        self.options: dict[str, str] | None = object_store_options()
        self.objects = Objects(bucket, options=self.options)
        self._clock = clock
        self._mark = secrets.token_hex(4)
        self._control: Control | None = None
        self._local = threading.local()

    def read(self, place: ObjectPlace) -> bytes | None:
        """See `Storage`."""
        found = self.objects.get(place.key)
        return None if found is None else found[0]

    def put_new(self, place: ObjectPlace, content: bytes) -> None:
        """See `Storage`. What was there with the same content counts as made."""
        if self.objects.put_over(place.key, content, tag=None) is None:
            raise FileExistsError(str(place))

    def replace(self, place: ObjectPlace, content: bytes) -> None:
        """See `Storage`."""
        self.objects.put(place.key, content)

    def delete(self, place: ObjectPlace) -> None:
        """See `Storage`."""
        self.objects.delete(place.key)

    def list(self, place: ObjectPlace, *, after: str = "") -> list[Held]:
        """See `Storage`."""
        return self.objects.list(f"{place.key}/", after=after)

    def save(self, place: ObjectPlace, fill: Callable[[Path], None]) -> int:
        """See `Storage`."""
        with tempfile.TemporaryDirectory(prefix="habitue-") as folder:
            draft = Path(folder) / place.name
            fill(draft)
            size = draft.stat().st_size
            if size > _SMALL_BYTES:
                self.objects.put(place.key, draft)
                return size
            waiting = self._waiting()
            waiting[place.key] = draft.read_bytes()
        if sum(map(len, waiting.values())) > _WAITING_BYTES:
            self.settle()
        return size

    def settle(self) -> None:
        """See `Storage`: small files go up several at a time."""
        waiting = self._waiting()
        files = list(waiting.items())
        waiting.clear()
        if not files:
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(files))) as pool:
            list(pool.map(lambda file: self.objects.put(*file), files))

    def source(self, place: ObjectPlace | str) -> pa.NativeFile:
        """See `Storage`."""
        key = place.key if isinstance(place, ObjectPlace) else self._key_of(place)
        held, _ = self.objects.whole(key, most_bytes=_WHOLE_BYTES)
        if held is not None:
            return pa.BufferReader(held)
        return pa.PythonFile(self.objects.files().open(f"{self.objects.bucket}/{key}", "rb"))

    def own(self, name: str) -> str:
        """See `Storage`: a writer that lost its lease without knowing may still be uploading."""
        stem, dot, ending = name.rpartition(".")
        return f"{stem}-{self._mark}{dot}{ending}"

    def moment(self, place: ObjectPlace) -> int:
        """See `Storage`: objects tell when they came only to those who ask each of them."""
        return int(self._clock() * 1000)

    def lease(self, place: ObjectPlace) -> Control:
        """See `Storage`."""
        found = Control(self.objects, f"{place.key}.json", clock=self._clock)
        if place.name == "lease":
            self._control = found
        return found

    def begun(self, root: ObjectPlace) -> bytes | None:
        """See `Storage`."""
        return _content(self._of(root).look().begun)

    def done(self, root: ObjectPlace) -> bytes | None:
        """See `Storage`."""
        return _content(self._of(root).look().done)

    def begin(self, root: ObjectPlace, intention: bytes) -> None:
        """See `Storage`. Raises `Busy`, and nothing is promised, where the lease was lost."""
        self._of(root).change(begun=msgspec.Raw(intention))

    def lay_aside(self, root: ObjectPlace) -> None:
        """See `Storage`: written when the lease is given back; until then it may be kept twice.

        Whoever lost the lease meanwhile leaves it to those who took it over.
        """
        control = self._of(root)
        control.note(begun=NOTHING, done=control.look().begun)

    def attach(self, connection: Any) -> None:
        """See `Storage`."""
        from habitue.lake.storage.reading import LakeFiles  # fsspec comes with the extra

        connection.register_filesystem(LakeFiles(self.objects))

    def _waiting(self) -> dict[str, bytes]:
        """What this thread has saved and not put yet."""
        if not hasattr(self._local, "waiting"):
            self._local.waiting = {}
        return self._local.waiting

    def _of(self, root: ObjectPlace) -> Control:
        return self._control or self.lease(root / "lease")

    def _key_of(self, address: str) -> str:
        return address.removeprefix(f"{SCHEME}{self.objects.bucket}/")


def object_place(address: str) -> ObjectPlace:
    """The place that s3://bucket/prefix names; raises `BadSetting` where it names none."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket or not prefix.strip("/"):
        raise BadSetting(f"{address!r} names no place for a lake\nhint: s3://BUCKET/PREFIX")
    return ObjectPlace(Bucket(bucket), prefix.strip("/"))


def _content(held: msgspec.Raw) -> bytes | None:
    return None if held == NOTHING else bytes(held)
