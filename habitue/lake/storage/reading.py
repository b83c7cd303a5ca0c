"""`LakeFiles`: the files of a bucket for DuckDB, each asked for once.

DuckDB asks whether a file is there, how long and how old it is, and opens it anew for every mention
in a statement. Files of the lake never change, so one request for a small one answers all of that.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from io import BytesIO
from threading import Lock
from typing import Any

import fsspec  # type: ignore[import-untyped]

from habitue.lake.storage.objects import Objects

_WHOLE_BYTES = 32 << 20                    # of a file that is read by one request
_ONCE = datetime(2000, 1, 1, tzinfo=UTC)
_KEPT_BYTES = 256 << 20                    # of such files, as long as a connection lives


class LakeFiles(fsspec.AbstractFileSystem):
    """Objects of one bucket, read only, as fsspec wants them; it lives as long as a connection."""

    protocol = "s3"
    cachable = False                       # fsspec would keep it, and all that it holds

    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self._objects = objects
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._gate = Lock()

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A file, opened for reading."""
        key = self._key(path)
        content = self._whole(key)
        if content is not None:
            return BytesIO(content)
        return self._objects.files().open(f"{self._objects.bucket}/{key}", mode)

    def size(self, path: str) -> int:
        """The bytes of a file."""
        key = self._key(path)
        if key not in self._sizes:
            self._whole(key)
        return self._sizes[key]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether a file is there; the lake names none that is not."""
        return True

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return True

    def glob(self, path: str, **_: Any) -> list[str]:
        """The lake names files one by one."""
        return [path]

    def modified(self, path: str) -> Any:
        """When a file was made: long ago, since it never changes."""
        return _ONCE

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What fsspec calls the details of a file."""
        return {"name": path, "size": self.size(path), "type": "file"}

    def _key(self, path: str) -> str:
        return path.removeprefix("s3://").removeprefix(f"{self._objects.bucket}/")

    def _whole(self, key: str) -> bytes | None:
        """A small file's content; None for a large one."""
        with self._gate:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        if self._sizes.get(key, 0) > _WHOLE_BYTES:
            return None
        content, size = self._objects.whole(key, most_bytes=_WHOLE_BYTES)
        with self._gate:
            self._sizes[key] = size
            if content is not None:
                self._kept[key] = content
                while sum(map(len, self._kept.values())) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
        return content
