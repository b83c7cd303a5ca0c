"""`Book`: the files that answers are read from, opened when first asked for."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from habitue.audiences.changes.reading import memberships
from habitue.lake.live import fresh
from habitue.lake.live.scored import SCORES_FILE, Scored, ScoredCustomer
from habitue.lake.profiles import PROFILES_FILE, LiveProfile, Profiles
from habitue.scoring.told import Listed, Similar, WholeShop

Found = TypeVar("Found")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One customer as they are known at this moment."""

    profile: LiveProfile
    shop: WholeShop | None                 # none: the shop was never scored
    scored: ScoredCustomer | None          # none: no order of theirs stands
    waiting_since: int | None              # µs: when what no score knows yet was received


class Book:
    """All that one server reads answers from. Reads wait for no writer."""

    def __init__(self, online: Path) -> None:
        self.path = online / PROFILES_FILE
        self._profiles = Profiles(self.path)
        self._scored = Scored(online / SCORES_FILE)
        self._wholes: dict[bytes, WholeShop] = {}      # the last that were read

    def close(self) -> None:
        """Give the files back."""
        self._profiles.close()
        self._scored.close()

    async def ask(self, question: "Callable[[Book], Found]") -> Found:
        """Ask in a thread, so that no other request waits for the disk."""
        return await asyncio.to_thread(question, self)

    def customer(self, shop: str, key: str) -> Known | None:
        """Who is known by a key, or by the id of their profile; none: nobody."""
        found = self._profiles.find(shop, key)
        profile = found[0] if found else self._profiles.get(shop, key)
        if profile is None:
            return None
        told, scored = self._scored.customers(shop, [profile.customer])
        return Known(
            profile=profile,
            shop=self._whole(told) if told else self.shop(shop),
            scored=scored[0] if scored else None,
            waiting_since=self._profiles.look(
                lambda connection: fresh.waits(connection, shop, profile.keys)
            ),
        )

    def shop(self, shop: str) -> WholeShop | None:
        """What is of the whole shop; none: it was never scored."""
        found = self._scored.whole(shop)
        return None if found is None else self._whole(found[1])

    def listed(self, scored: ScoredCustomer) -> list[Listed]:
        """A customer's list."""
        return msgspec.json.decode(scored.listed, type=list[Listed])

    def item(self, shop: str, item: str) -> Similar | None:
        """An item, and those bought beside it."""
        told = self._scored.item(shop, item)
        return None if told is None else msgspec.json.decode(told, type=Similar)

    def memberships(self, shop: str, customer: str) -> list[tuple[str, int]]:
        """The audiences a customer is in now, and since when (µs)."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            return memberships(connection, shop, customer)

        return self._profiles.look(read)

    def _whole(self, told: bytes) -> WholeShop:
        if told not in self._wholes:
            if len(self._wholes) >= 100:
                self._wholes.clear()
            self._wholes[told] = msgspec.json.decode(told, type=WholeShop)
        return self._wholes[told]
