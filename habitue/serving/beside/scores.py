"""Scores on their way to the audiences that compare them: from the scorer's file to the keeper."""

import contextlib
import logging
import time
from pathlib import Path

import msgspec

from habitue.audiences.live.keeping import Keeper
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.curves import Rescored
from habitue.errors import Busy
from habitue.lake.live.kept.interface import KeptScores
from habitue.lake.live.kept.opening import open_scores
from habitue.lake.live.scored import News
from habitue.lake.profiles import Profiles
from habitue.scoring.told import WholeShop

log = logging.getLogger(__name__)

AT_ONCE = 256                              # customers of one transaction
REST_SECONDS = 5.0                         # between two looks for a store that is out of reach


class ScoreNews:
    """What is told of scores, taken over some customers at a time."""

    def __init__(self, online: Path, profiles: Profiles, keeper: Keeper) -> None:
        self._online = online
        self._held: KeptScores | None = None
        self._rest = 0.0                   # until when a store out of reach is not asked again
        self._profiles, self._keeper = profiles, keeper
        # what scorings of whole shops are called here, by their number
        self._wholes: dict[tuple[str, int], int] = {}
        self._is_complete = False          # whether nothing was left when it was looked last

    def close(self) -> None:
        """Give the store back."""
        if self._held is not None:
            self._held.close()

    def again(self) -> None:
        """Look again at those who were not known."""
        with contextlib.suppress(Busy):    # what is out of reach is told in full when it is back
            self._scored.again()

    @property
    def _scored(self) -> KeptScores:
        """The store, opened when first asked; raises `Busy` where it is out of reach."""
        if self._held is None:
            self._held = open_scores(self._online)
        return self._held

    def waits(self) -> bool:
        """Whether there is something to take over, or to be told as complete."""
        if time.monotonic() < self._rest:
            return False
        return not self._is_complete or bool(self._told(1))

    def _told(self, most: int = AT_ONCE) -> list[News]:
        """What is new; nothing while the store is out of reach, which keeps nobody else waiting."""
        if time.monotonic() < self._rest:
            return []
        try:
            return self._scored.news(most)
        except Busy as error:
            log.warning("scores are out of reach, trying again: %s", str(error).partition("\n")[0])
            self._rest = time.monotonic() + REST_SECONDS
            return []

    def take(self, now: int) -> bool:
        """Take some over; whether there were any.

        A crash before they are settled makes that they are told again, which changes nothing.
        """
        told = self._told()
        if not told:
            if not self._is_complete and time.monotonic() >= self._rest:
                with self._profiles.writing() as connection:
                    curves.complete(connection, now)
                self._is_complete = True
            return False
        self._is_complete = False
        found = self._looked_up(told)
        with self._profiles.writing() as connection:
            wholes = self._wholes | {
                (shop, number): curves.put_whole(connection, shop, whole)
                for (shop, number), whole in found.items()
            }
            if found:
                self._keeper.readings.look(connection)
            # what was told of a scoring that counts no more is told again by the next one
            told = [one for one in told if one.number is None or (one.shop, one.number) in wholes]
            unknown = self._keeper.scored(
                connection, [(one.shop, _rescored(one, wholes)) for one in told], now
            )
        self._wholes = wholes
        aside = [one for one in told if (one.shop, one.customer) in unknown]
        done = [one for one in told if (one.shop, one.customer) not in unknown]
        self._scored.settle(done, aside)
        return True

    def _looked_up(self, told: list[News]) -> dict[tuple[str, int], bytes]:
        """What the curves rest on that was not taken yet."""
        found = {}
        for shop, number in {(one.shop, one.number) for one in told}:
            if number is None or (shop, number) in self._wholes:
                continue
            whole = self._scored.whole(shop)
            if whole is not None and whole[0] == number:
                kept = msgspec.json.decode(whole[1], type=WholeShop).whole
                found[shop, number] = msgspec.json.encode(kept)
        return found


def _rescored(one: News, wholes: dict[tuple[str, int], int]) -> Rescored:
    whole = None if one.number is None else wholes[one.shop, one.number]
    return Rescored(one.customer, whole, one.anchor, one.curve)
