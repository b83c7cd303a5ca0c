"""`Control`: the one object by which writers to a bucket take turns and promise commits.

It holds who has the lease and until when, and the intentions that are begun and done. Every change
is a conditional put over the e-tag that was read before, so taking a lease over invalidates what
its former holder knows: whoever was stopped for long and goes on cannot promise anything any more,
whatever the clocks say. Clocks only decide when a lease may be taken over.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from habitue.errors import Busy
from habitue.lake.storage.objects import Objects

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0                       # of a holder that is not heard of
NOTHING = msgspec.Raw(b"null")
_PAUSE_SECONDS = 0.1


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """The object's content."""

    number: int = 0                        # of changes; with `owner` it makes a content unique
    owner: str = ""                        # empty: nobody has the lease
    expires: float = 0.0                   # seconds since 1970, by the owner's clock
    begun: msgspec.Raw = NOTHING
    done: msgspec.Raw = NOTHING


class Control:
    """A lease on an object, and the intentions in it; one of several that want it."""

    pause_seconds = _PAUSE_SECONDS

    def __init__(
        self, objects: Objects, key: str, *, clock: Callable[[], float],
        seconds: float = LEASE_SECONDS,
    ) -> None:  # fmt: skip
        self._objects = objects
        self._key = key
        self._clock = clock
        self._seconds = seconds
        self._owner = secrets.token_hex(8)
        self._gate = threading.Lock()      # the beat and the holder both write
        self._held: tuple[Turn, str] | None = None     # what we wrote last, and its e-tag
        self._beat: threading.Thread | None = None
        self._over = threading.Event()

    def look(self) -> Turn:
        """What the object says; as long as the lease is ours, what we wrote."""
        held = self._held
        return held[0] if held is not None else self._read()[0]

    def take(self) -> bool:
        """See `Lease`."""
        found, tag = self._read()
        if found.owner and self._clock() < found.expires:
            return False
        with self._gate:
            if not self._write(self._following(found), over=tag):
                return False
        if found.owner:
            log.warning("took over the lease of a writer that was not heard of key=%s", self._key)
        self._over.clear()
        self._beat = threading.Thread(target=self._keep, name="habitue-lease", daemon=True)
        self._beat.start()
        return True

    def confirm(self) -> None:
        """See `Lease`."""
        self.change()

    def change(self, **changes: Any) -> None:
        """Write what is begun or done; raises `Busy`, and nothing is written, without the lease."""
        with self._gate:
            if self._held is None:
                raise Busy(_lost(self._key))
            found, tag = self._held
            if not self._write(self._following(found, **changes), over=tag):
                self._held = None
                raise Busy(_lost(self._key))

    def note(self, **changes: Any) -> None:
        """As `change`, but written only with the next one; where the lease was lost, never."""
        with self._gate:
            if self._held is not None:
                found, tag = self._held
                self._held = msgspec.structs.replace(found, **changes), tag

    def release(self) -> None:
        """See `Lease`."""
        if self._beat is not None:
            self._over.set()
            self._beat.join()
            self._beat = None
        with self._gate:
            if self._held is None:
                return
            found, tag = self._held
            self._held = None
            free = self._following(found, owner="", expires=0.0)
            try:
                self._write(free, over=tag)
            except OSError as error:       # then it expires by itself
                log.warning("could not give the lease back key=%s error=%s", self._key, error)
            self._held = None

    def _following(self, found: Turn, **changes: Any) -> Turn:
        told = {
            "owner": self._owner, "expires": self._clock() + self._seconds,
            "number": found.number + 1,
        }  # fmt: skip
        return msgspec.structs.replace(found, **(told | changes))

    def _read(self) -> tuple[Turn, str | None]:
        found = self._objects.get(self._key)
        if found is None:
            return Turn(), None
        return msgspec.json.decode(found[0], type=Turn), found[1]

    def _write(self, turn: Turn, *, over: str | None) -> bool:
        """Whether the object was as we knew it, and now is this."""
        tag = self._objects.put_over(self._key, msgspec.json.encode(turn), tag=over)
        if tag is not None:
            self._held = turn, tag
        return tag is not None

    def _keep(self) -> None:
        """Renew the lease now and then until it is given back or lost."""
        while not self._over.wait(self._seconds / 3):
            try:
                self.change()
            except Busy:
                log.warning("lost the lease key=%s", self._key)
                return
            except OSError as error:
                log.warning("could not renew the lease key=%s error=%s", self._key, error)


def _lost(key: str) -> str:
    return (
        f"another writer has taken the lease of {key} over: this one was not heard of for"
        f" {LEASE_SECONDS:g} seconds\nhint: nothing of this commit is stored; try again"
    )
