"""Who is known now, as Klaviyo's paths ask: the live profiles, and those of the last moments.

The live state follows the log by some milliseconds. A profile that is being made is known here at
once, to all processes that answer, so that making it again is told to be a conflict.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from habitue.directory import ShopEntry
from habitue.lake.keys import kind_of, profile_id
from habitue.serving.several.claiming import Claim, Claims, OwnClaims

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile, Profiles

_RECENT_SECONDS = 60.0                     # by then the live state knows them

Answer = TypeVar("Answer")


class People:
    """The live profiles of all shops, opened when first asked for."""

    def __init__(self, path: Path, claims: Claims | None = None) -> None:
        """As one of several processes, with claims that all of them share."""
        self._path, self._claims = path, claims or OwnClaims()
        self._profiles: Profiles | None = None
        self._opening = asyncio.Lock()

    async def conflict(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        """The id of a profile that has one of these identifiers already; None: nobody has."""
        found = await self._ask(lambda known: known.conflict(shop.name, keys))
        return found or self.recent(shop, _own(keys))

    async def find(self, shop: ShopEntry, keys: Sequence[str]) -> "list[LiveProfile]":
        """The customers whom some keys belong to, each once."""
        return await self._ask(lambda known: known.find(shop.name, *keys))

    async def get(self, shop: ShopEntry, shown: str) -> "LiveProfile | None":
        """The customer whom a profile id shows."""
        return await self._ask(lambda known: known.get(shop.name, shown))

    def claim(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        """Say that a profile is about to be made; the id of one that claimed a key before.

        Of several who say so at once one is the first, in whichever process. Whoever does not make
        it gives it up; who was refused meanwhile asks again.
        """
        with self._claims.alone():
            taken = self._held(shop, _own(keys))
            if taken is None:
                self._put(shop, keys)
            return taken

    def give_up(self, shop: ShopEntry, keys: Sequence[str]) -> None:
        """Say that a profile that was claimed was not made."""
        with self._claims.alone():
            for key in (*keys, f"profile:{_shown(shop, keys)}"):
                self._claims.drop(_named(shop, key))

    def made(self, shop: ShopEntry, keys: Sequence[str]) -> str:
        """Remember a profile that was told just now; the id that shows it."""
        with self._claims.alone():
            return self._put(shop, keys)

    def recent(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        """The id of a profile of the last moments that has one of these keys."""
        with self._claims.alone():
            return self._held(shop, keys)

    def close(self) -> None:
        """Give the files back."""
        self._claims.close()
        if self._profiles is not None:
            self._profiles.close()

    async def open(self) -> "Profiles":
        """The live state; the first call takes a moment."""
        async with self._opening:
            if self._profiles is None:
                self._profiles = await asyncio.to_thread(_open, self._path)
        return self._profiles

    def _held(self, shop: ShopEntry, keys: Sequence[str]) -> str | None:
        now = time.time()
        for key in keys:
            claim = self._claims.get(_named(shop, key))
            if claim is not None and now - _RECENT_SECONDS <= claim.at <= now + _RECENT_SECONDS:
                return claim.shown
        return None

    def _put(self, shop: ShopEntry, keys: Sequence[str]) -> str:
        claim = Claim(_shown(shop, keys), time.time())
        for key in (*keys, f"profile:{claim.shown}"):
            self._claims.put(_named(shop, key), claim)
        return claim.shown

    async def _ask(self, question: "Callable[[Profiles], Answer]") -> Answer:
        known = self._profiles or await self.open()
        return await asyncio.to_thread(question, known)


def _own(keys: Sequence[str]) -> list[str]:
    """Keys that two profiles cannot share; anonymous ids are attached."""
    return [key for key in keys if kind_of(key) != "anonymous"]


def _shown(shop: ShopEntry, keys: Sequence[str]) -> str:
    """The id that shows the profile of some keys, the strongest first."""
    first = keys[0]
    is_shown = kind_of(first) == "profile"
    return first.removeprefix("profile:") if is_shown else profile_id(shop.name, first)


def _named(shop: ShopEntry, key: str) -> str:
    """A key among those of all shops."""
    return f"{shop.name}\0{key}"


def _open(path: Path) -> "Profiles":
    from habitue.lake.profiles import Profiles

    return Profiles(path)
