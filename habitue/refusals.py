"""`Refusals`: which nouns are of customers who were erased, asked of each that comes in."""

import math
from collections.abc import Callable, Collection
from datetime import datetime

from habitue.directory import LOOK_SECONDS, Directory, Watch, tombstone
from habitue.events import Identifier, Item, Link, Noun


class Refusals:
    """Tells nouns of erased customers; one for each process that takes nouns in.

    Tombstones are held in memory. With a `clock` (seconds) they are read again when the directory
    was changed, which is looked at once in `LOOK_SECONDS`; without, they stay as they are now.
    """

    def __init__(
        self, directory: Directory, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._watch: Watch | None = None
        self._looked = -math.inf
        self._tombstones: dict[str, tuple[bytes, dict[str, datetime]]] = {}
        self.look()

    def __call__(self, noun: Noun) -> bool:
        """Whether the noun is of a customer who was erased after it."""
        if self._clock is not None:
            self._look(self._clock())
        if noun.shop not in self._tombstones or isinstance(noun, Item):
            return False
        secret, erased = self._tombstones[noun.shop]
        return any(
            noun.time <= erased[stone]
            for key in _keys_of(noun)
            if (stone := tombstone(secret, key)) in erased
        )

    def close(self) -> None:
        """Give the file back."""
        if self._watch is not None:
            self._watch.close()

    def look(self) -> None:
        """Read the tombstones as they are now."""
        shops = self._directory.erased_shops()
        self._tombstones = {
            shop: (self._directory.shop(shop).secret, self._directory.erased(shop))
            for shop in shops
        }

    def refuses_key(self, shop: str, key: str, time: datetime) -> bool:
        """Whether a row of this key and time is of a customer who was erased after it."""
        if shop not in self._tombstones:
            return False
        secret, erased = self._tombstones[shop]
        until = erased.get(tombstone(secret, key))
        return until is not None and time <= until

    def until(self, shop: str, keys: Collection[str]) -> dict[str, datetime]:
        """Those of some keys that are erased, and up to when each is refused."""
        if shop not in self._tombstones:
            return {}
        secret, erased = self._tombstones[shop]
        stones = {key: tombstone(secret, key) for key in keys}
        return {key: erased[stone] for key, stone in stones.items() if stone in erased}

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self._watch is None:
            if not self._directory.path.exists():
                return
            self._watch = self._directory.watch()
            self.look()
        elif self._watch.changed():
            self.look()


def _keys_of(noun: Noun) -> tuple[str, ...]:
    match noun:
        case Link():
            return (noun.key, noun.other)
        case Identifier():
            return (noun.key,)
        case Item():
            return ()
    return () if noun.customer is None else (noun.customer,)
