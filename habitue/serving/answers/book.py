"""`Book`: the files that answers are read from, opened when first asked for."""

import asyncio
import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from habitue.audiences.changes.reading import memberships
from habitue.audiences.live.definitions import settings_of
from habitue.audiences.live.facts import Shop
from habitue.audiences.live.loading import currency
from habitue.audiences.saved import Saved
from habitue.config import utc_now
from habitue.directory import DIRECTORY_FILE, Directory
from habitue.lake.live import fresh
from habitue.lake.live.kept.opening import open_scores
from habitue.lake.live.scored import ScoredCustomer, ScoredItem
from habitue.lake.live.told import instant
from habitue.lake.profiles import PROFILES_FILE, Named, Profiles
from habitue.lake.tables import Lake
from habitue.recommendations.shelf.listed import Listed
from habitue.recommendations.shelf.rulebook import Rulebook
from habitue.recommendations.shelf.rules import Rule, in_force
from habitue.scoring.desk import DESK_FILE, Desk
from habitue.scoring.told import WholeShop

LOOK_SECONDS = 1.0                         # between looks whether a shop's settings changed

Found = TypeVar("Found")

# one row per customer of some, by the key that names them
_IDS = "SELECT key, id FROM keys WHERE shop = ? AND key IN (SELECT value FROM json_each(?))"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One customer as they are known at this moment."""

    profile: Named
    shop: WholeShop | None                 # none: the shop was never scored
    scored: ScoredCustomer | None          # none: no order of theirs stands
    waiting_since: int | None              # µs: when what no score knows yet was received


class Book:
    """All that one server reads answers from. Reads wait for no writer."""

    def __init__(self, online: Path) -> None:
        self.path = online / PROFILES_FILE
        self.profiles = Profiles(self.path)
        self.scored = open_scores(online)
        self.desk = Desk(online / DESK_FILE)
        self.directory = Directory(online.parent / DIRECTORY_FILE)
        self._wholes: dict[bytes, WholeShop] = {}      # the last that were read
        # when they were looked for, in which files, what was told, and with a currency
        self._saved: dict[str, tuple[list[str] | None, dict[str, tuple[str, datetime]]]] = {}
        self._rules: dict[str, tuple[float, list[Rule]]] = {}
        self._settings: dict[str, tuple[float, list[str] | None, Shop, Shop]] = {}

    def close(self) -> None:
        """Give the files back."""
        self.profiles.close()
        self.scored.close()
        self.desk.close()

    async def ask(self, question: "Callable[[Book], Found]") -> Found:
        """Ask in a thread, so that no other request waits for the disk."""
        return await asyncio.to_thread(question, self)

    def customer(self, shop: str, key: str) -> Known | None:
        """Who is known by a key, or by the id of their profile; none: nobody."""
        return self.profiles.look(lambda held: self._customer(held, shop, key))

    def _customer(self, held: sqlite3.Connection, shop: str, key: str) -> Known | None:
        profile = self.profiles.named(shop, key)
        if profile is None:
            return None
        told, scored = self.scored.customers(shop, [profile.customer])
        return Known(
            profile=profile,
            shop=self._whole(told) if told else self.shop(shop),
            scored=scored[0] if scored else None,
            waiting_since=fresh.waits(held, shop, profile.keys),
        )

    def ids(self, shop: str, customers: Sequence[str]) -> dict[str, int]:
        """Of customers by name: the ids by which the live state's tables call them."""
        asked = msgspec.json.encode(list(customers)).decode()
        rows = self.profiles.look(lambda one: one.execute(_IDS, [shop, asked]).fetchall())
        return dict(rows)

    def shop(self, shop: str) -> WholeShop | None:
        """What is of the whole shop; none: it was never scored."""
        found = self.scored.whole(shop)
        return None if found is None else self._whole(found[1])

    def listed(self, scored: ScoredCustomer) -> list[Listed]:
        """A customer's list."""
        return msgspec.json.decode(zlib.decompress(scored.listed), type=list[Listed])

    def item(self, shop: str, item: str) -> ScoredItem | None:
        """An item as it was when the shop was scored; none: it is not known."""
        found = self.scored.items(shop, [item])
        return found[0] if found else None

    def rules(self, shop: str, now: int) -> list[Rule]:
        """A shop's rules in force now (µs); what was changed is looked for again after a second."""
        looked, held = self._rules.get(shop, (-math.inf, []))
        if time.monotonic() - looked >= LOOK_SECONDS:
            held = Rulebook(self.directory, shop, utc_now).lasting()
            self._rules[shop] = time.monotonic(), held
        return in_force(held, instant(now))

    def memberships(self, shop: str, customer: str) -> list[tuple[str, int]]:
        """The audiences a customer is in now, and since when (µs)."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            return memberships(connection, shop, customer)

        return self.profiles.look(read)

    def settings(self, lake: Lake, shop: str) -> Shop:
        """How a shop counts its orders; what it said is looked for again after a second."""
        looked, files, told, held = self._settings.get(shop, (-math.inf, None, Shop(), Shop()))
        if time.monotonic() - looked >= LOOK_SECONDS:
            found = lake.files("shops")
            if found != files:
                told = settings_of(lake, shop)[0] if shop in lake.shops() else Shop()
            usual = self.profiles.look(lambda connection: currency(connection, shop))
            held = replace(told, currency=told.currency or usual)
            self._settings[shop] = time.monotonic(), found, told, held
        return held

    def saved(self, lake: Lake, shop: str) -> dict[str, tuple[str, datetime]]:
        """The audiences of a shop as they are saved now: what each means, and since when."""
        files, held = self._saved.get(shop, (None, {}))
        found = lake.files("audiences")
        if found != files:
            table = Saved(lake, shop, utc_now).table() if shop in lake.shops() else None
            rows = [] if table is None else table.to_pylist()
            held = {row["name"]: (row["condition"], row["since"]) for row in rows}
            self._saved[shop] = found, held
        return held

    def _whole(self, told: bytes) -> WholeShop:
        if told not in self._wholes:
            if len(self._wholes) >= 100:
                self._wholes.clear()
            self._wholes[told] = msgspec.json.decode(told, type=WholeShop)
        return self._wholes[told]
