"""`Objects`: a bucket by obstore, with errors as Python's own and conditional puts that can tell.

A request whose answer was lost is sent again by the client, and then meets its own effect; so a put
that is refused looks whether what is there is what it wanted to put.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from habitue.errors import NotInstalled
from habitue.lake.storage.interface import Held

_ATTEMPTS = 5                              # at a conditional put that changes nothing
RETRY: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=30)}


class Objects:
    """The objects of one bucket, by key. Credentials come from the environment, or the machine."""

    def __init__(self, bucket: str, *, options: dict[str, str]) -> None:
        self._obstore, store = _client()
        self.bucket = bucket
        self._told: Any = {"allow_http": True} if options else {}
        self._store = store(bucket, client_options=self._told, retry_config=RETRY)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object's content and e-tag; None where there is none."""
        try:
            with self._errors():
                found = self._obstore.get(self._store, key)
                return bytes(found.bytes()), str(found.meta["e_tag"])
        except FileNotFoundError:
            return None

    def whole(self, key: str, *, most_bytes: int) -> tuple[bytes | None, int]:
        """An object's content, None where it is larger, and its size, by one request."""
        with self._errors():
            found = self._obstore.get(self._store, key)
            size = found.meta["size"]
            return (bytes(found.bytes()) if size <= most_bytes else None), size

    def put(self, key: str, content: bytes | Path) -> None:
        """Make or replace an object; a file goes up in parts where it is large."""
        with self._errors():
            self._obstore.put(self._store, key, content)

    def put_over(self, key: str, content: bytes, *, tag: str | None) -> str | None:
        """Replace the object of that e-tag, or make one where there is none.

        Returns the new e-tag; None, and nothing is changed, where another object is there.
        """
        mode: Any = "create" if tag is None else {"e_tag": tag}
        for _ in range(_ATTEMPTS):
            try:
                return str(self._obstore.put(self._store, key, content, mode=mode)["e_tag"])
            except (FileNotFoundError, self._obstore.exceptions.BaseError) as error:
                refused = error
            found = self.get(key)          # the answer may have been lost on its way
            if found is not None and found[0] == content:
                return found[1]
            if (found and found[1]) != tag:
                return None
            # all is as it was: two were at it at once (409 of AWS), or it never arrived
        raise OSError(f"the object store did not answer: {refused}") from refused

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self._errors():
            self._obstore.delete(self._store, key)

    def list(self, prefix: str, *, after: str = "") -> list[Held]:
        """The objects directly below a prefix that ends in a slash, sorted."""
        offset = prefix + after if after else None
        with self._errors():
            pages = self._obstore.list(self._store, prefix, offset=offset)
            found = [one for page in pages for one in page]
        held = [
            Held(name, one["size"], one["last_modified"].timestamp())
            for one in found if "/" not in (name := one["path"].removeprefix(prefix))
        ]
        return sorted(held, key=lambda one: one.path)

    def files(self) -> Any:
        """The bucket as a file system of fsspec."""
        from obstore.fsspec import FsspecStore

        return FsspecStore("s3", client_options=self._told)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._obstore.exceptions.BaseError as error:
            raise OSError(f"the object store did not answer: {error}") from error


def _client() -> tuple[Any, Callable[..., Any]]:
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError as error:
        raise NotInstalled("obstore", extra="s3") from error
    return obstore, S3Store
