"""Who is known now, as Klaviyo's paths ask: the live profiles, and those of the last moments.

The live state follows the log by some milliseconds. A profile that was acknowledged is known here
at once, so that making it again is told to be a conflict.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from habitue.directory import ShopEntry
from habitue.lake.keys import kind_of, profile_id

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile, Profiles

_MOST_RECENT = 50_000                      # keys of profiles that were told here
_RECENT_SECONDS = 60.0                     # by then the live state knows them

Answer = TypeVar("Answer")


class People:
    """The live profiles of all shops, opened when first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._profiles: Profiles | None = None
        self._opening = asyncio.Lock()
        # (shop, key) -> id, and when it was told
        self._recent: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    async def conflict(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        """The id of a profile that has one of these identifiers already; None: nobody has."""
        found = await self._ask(lambda known: known.conflict(shop.name, keys))
        return found or self.recent(shop, [key for key in keys if kind_of(key) != "anonymous"])

    async def find(self, shop: ShopEntry, keys: Sequence[str]) -> "list[LiveProfile]":
        """The customers whom some keys belong to, each once."""
        return await self._ask(lambda known: known.find(shop.name, *keys))

    async def get(self, shop: ShopEntry, shown: str) -> "LiveProfile | None":
        """The customer whom a profile id shows."""
        return await self._ask(lambda known: known.get(shop.name, shown))

    def made(self, shop: ShopEntry, keys: Sequence[str]) -> str:
        """Remember a profile that was told just now; the id that shows it."""
        first = keys[0]
        is_shown = kind_of(first) == "profile"
        shown = first.removeprefix("profile:") if is_shown else profile_id(shop.name, first)
        for key in (*keys, f"profile:{shown}"):
            self._recent[shop.name, key] = shown, time.monotonic()
            self._recent.move_to_end((shop.name, key))
        while len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        return shown

    def recent(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        """The id of a profile of the last moments that has one of these keys."""
        since = time.monotonic() - _RECENT_SECONDS
        found = (self._recent.get((shop.name, key), ("", -1.0)) for key in keys)
        return next((shown for shown, at in found if at >= since and shown), None)

    def close(self) -> None:
        """Give the file back."""
        if self._profiles is not None:
            self._profiles.close()

    async def open(self) -> "Profiles":
        """The live state; the first call takes a moment."""
        async with self._opening:
            if self._profiles is None:
                self._profiles = await asyncio.to_thread(_open, self._path)
        return self._profiles

    async def _ask(self, question: "Callable[[Profiles], Answer]") -> Answer:
        known = self._profiles or await self.open()
        return await asyncio.to_thread(question, known)


def _open(path: Path) -> "Profiles":
    from habitue.lake.profiles import Profiles

    return Profiles(path)
