"""`Scorer`: who is scored when. Customers of whom something was told, at once; shops, once a day.

What waits stands in the live state, a row per key, so a burst makes answers later and no queue
longer, and what a crash cut short still waits afterwards.
"""

import logging
import sqlite3
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from habitue.config import collecting_rarely
from habitue.errors import BadLake, HabitueError, NoSuchShop
from habitue.lake.live import fresh
from habitue.lake.live.bell import FOLLOW_BELL, SCORE_BELL, Bell
from habitue.lake.live.kept.opening import open_scores
from habitue.lake.live.told import instant
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.lake.tables import Lake
from habitue.registry import CHAMPION
from habitue.scoring.basis import Basis, open_basis
from habitue.scoring.told import SCORING_FILE, ScoringTold, ShopTold, WholeShop
from habitue.sequences.build import DAY
from habitue.transfer.opening import Source

log = logging.getLogger(__name__)

AT_ONCE = 256                              # keys scored together
LOOK_SECONDS = 0.05                        # between looks while somebody does
DUE_SECONDS = 1.0                          # between looks whether a shop is due as a whole
TELL_SECONDS = 1.0
GROWN = 1.2                                # customers over those of the basis that make it due
GROWN_BY = 20                              # … and so many more at least
COUNTED_AGAIN = 0.01                       # of them scored again, until they are counted again
REST = 20.0                                # times what scoring a shop cost, until it is due again
AGAIN_SECONDS = 10.0                       # after a shop could not be scored as a whole


@dataclass(slots=True)
class _Kept:
    """A shop's basis, and what is known of it."""

    basis: Basis
    number: int
    customers: int
    champion: str | None
    seconds: float                         # it took
    at: float                              # when it was made; of the monotonic clock
    counted: int | None = None             # customers with a score, when they were counted last
    since: int = 0                         # scored since then, some of whom had none


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the live state was when it was decided to score a shop as a whole."""

    number: int
    cursors: tuple[int, ...]
    now: int                               # µs


class Scorer:
    """Scores what waits in one workspace. One process holds it."""

    def __init__(
        self,
        online: Path,
        shops: Callable[[], Sequence[str]],
        source: Callable[[str], Source],
        *,
        shards: int,
        clock: Callable[[], int],
    ) -> None:
        """`clock` tells µs since the epoch."""
        self.shops = shops
        self._online, self._source = online, source
        self._shards, self._clock = shards, clock
        self.profiles = Profiles(online / PROFILES_FILE)
        self.scored = open_scores(online)
        self.bell, self._follower = (Bell(online / one) for one in (SCORE_BELL, FOLLOW_BELL))
        self._kept: dict[str, _Kept] = {}
        self._marks: dict[str, _Mark] = {}
        self._rest: dict[str, tuple[float, str]] = {}      # until when, and why
        self._scored, self._looked, self._told = 0, 0.0, 0.0

    def close(self) -> None:
        """Give the files back."""
        for kept in self._kept.values():
            kept.basis.close()
        self._kept.clear()
        self.profiles.close()
        self.scored.close()
        self.bell.close()
        self._follower.close()

    @property
    def done(self) -> int:
        """Customers scored again since it began."""
        return self._scored

    def now(self) -> int:
        """The instant (µs) that customers are scored as of."""
        return self._clock()

    def basis(self, shop: str) -> Basis | None:
        """What a shop's customers are scored on now; none: it was not scored as a whole yet."""
        kept = self._kept.get(shop)
        return None if kept is None else kept.basis

    def step(self) -> bool:
        """Score some of those who wait, and one shop that is due; whether to go on at once."""
        with collecting_rarely():          # what is held of shops need not be looked through
            more = [self._follow(shop, kept) for shop, kept in self._kept.items()]
        now = time.monotonic()
        if now - self._looked >= DUE_SECONDS:
            self._looked = now
            for shop in self.shops():
                if self._is_due(shop):
                    self._refresh_when_held(shop)
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._tell()
        return any(more)

    def catch_up(self, lake: Lake) -> None:
        """Let the live state take what came into the lake, where nobody else does."""
        self.profiles.catch_up(lake, shards=self._shards)

    # -- one customer after another

    def _follow(self, shop: str, kept: _Kept) -> bool:
        """Score those of a shop who wait; whether more of them do."""
        if not self.profiles.look(lambda connection: fresh.waiting(connection, shop, 1)):
            return False                   # as most often: nobody who writes is kept waiting
        with self.profiles.writing() as connection:
            waiting = fresh.waiting(connection, shop, AT_ONCE)
            if not waiting:
                return False
            names = {one.customer: one.name for one in waiting if one.customer is not None}
            events = fresh.events_of(connection, shop, names)
            now = self._clock()
        told = list(kept.basis.again(events, now))
        scored = {one.customer for one in told}
        self.scored.put(shop, kept.number, told)
        # nothing stands any more of who has no order left
        self.scored.drop(shop, [name for name in names.values() if name and name not in scored])
        self._follower.ring()
        with self.profiles.writing() as connection:
            fresh.settle(connection, waiting)
        self._scored += len(told)
        kept.since += len(told)
        return len(waiting) == AT_ONCE

    # -- a shop as a whole

    def _is_due(self, shop: str) -> bool:
        kept, now = self._kept.get(shop), time.monotonic()
        if shop in self._rest and now < self._rest[shop][0]:
            return False
        if kept is None:
            return True
        if self._champion(shop) != kept.champion or self._is_forgotten(shop, kept):
            return True
        if now - kept.at < REST * kept.seconds:
            return False
        return kept.basis.cutoff // DAY < self._clock() // DAY or self._has_grown(shop, kept)

    def _has_grown(self, shop: str, kept: _Kept) -> bool:
        """Whether many customers are new; they are counted only when so many could be."""
        least = GROWN * kept.customers + GROWN_BY
        if kept.counted is not None:
            could = max(least - kept.counted, COUNTED_AGAIN * kept.counted)
            if kept.since < could:
                return False
        kept.counted, kept.since = self.scored.count(shop), 0
        return kept.counted >= least

    def _is_forgotten(self, shop: str, kept: _Kept) -> bool:
        """Whether what was kept is gone, as where a store in memory was started again."""
        held = self.scored.whole(shop)
        return held is None or held[0] != kept.number

    def refresh(self, shop: str) -> int:
        """Score a shop as a whole from what the lake holds now; returns how many customers.

        Raises:
            NotEnoughHistory, NoSuchModel, SawTheFuture: nothing can answer for it.
        """
        self._keep(shop, self._scored_whole(shop, self._mark()))
        return self._kept[shop].customers

    def _refresh_when_held(self, shop: str) -> None:
        """Score a shop as a whole as soon as the lake holds what the live state knew.

        One that an earlier process scored today goes on as that left it.
        """
        try:
            scored = self._left(shop) if self._is_new(shop) else None
            scored = scored or self._scored_when_held(shop)
        except sqlite3.Error:              # of files that hold every shop
            raise
        except Exception as error:         # noqa: BLE001 (one shop holds up no other)
            say = log.info if isinstance(error, (HabitueError, OSError)) else log.warning
            say("shop is not scored yet shop=%s why=%s", shop, _logged(error))
            self._rest[shop] = (time.monotonic() + AGAIN_SECONDS, _why(error))
            return
        if scored is not None:
            self._keep(shop, scored)
            self._rest.pop(shop, None)

    def _is_new(self, shop: str) -> bool:
        return shop not in self._kept and shop not in self._marks

    def _left(self, shop: str) -> _Kept | None:
        """The basis of what is kept of a shop; none if another is due."""
        former, began = self.scored.whole(shop), time.monotonic()
        if former is None:
            return None
        number, whole = former[0], msgspec.json.decode(former[1], type=WholeShop).whole
        if whole.cutoff // DAY != self._clock() // DAY:
            return None
        champion = self._champion(shop)
        basis = open_basis(self._source(shop), instant(whole.cutoff))
        if basis.held.version != whole.version:
            basis.close()
            return None
        return _kept(basis, number, champion, began)

    def _scored_when_held(self, shop: str) -> _Kept | None:
        mark = self._marks.setdefault(shop, self._mark())
        lake = self._source(shop).lake
        if any(lake.cursor(f"log-{shard}") < one for shard, one in enumerate(mark.cursors) if one):
            return None
        del self._marks[shop]
        return self._scored_whole(shop, mark)

    def _keep(self, shop: str, kept: _Kept) -> None:
        """From now on score the shop's customers on this."""
        former = self._kept.get(shop)
        self._kept[shop] = kept
        if former is not None:
            former.basis.close()

    def _mark(self) -> _Mark:
        with self.profiles.writing() as connection:
            cursors = tuple(self.profiles.cursor(shard) for shard in range(self._shards))
            return _Mark(fresh.last_number(connection), cursors, self._clock())

    def _scored_whole(self, shop: str, mark: _Mark) -> _Kept:
        began, champion = time.monotonic(), self._champion(shop)
        basis = open_basis(self._source(shop), instant(mark.now))
        former = self.scored.whole(shop)
        number = 1 if former is None else former[0] + 1
        self.scored.put(shop, number, basis.everyone(self._clock()))
        self.scored.put_items(shop, number, basis.items())
        told = WholeShop(whole=basis.whole(), popular=basis.popular())
        self.scored.begin(shop, number, msgspec.json.encode(told))
        self._follower.ring()
        with self.profiles.writing() as connection:
            fresh.settle_shop(connection, shop, mark.number)
        return _kept(basis, number, champion, began)

    def _champion(self, shop: str) -> str | None:
        return self._source(shop).registry.aliases(shop).get(CHAMPION)

    def _tell(self) -> None:
        """Write down how far it has come, for the server and for `habitue status`."""
        with self.profiles.writing() as connection:
            behind = fresh.behind(connection)
        shops = {
            shop: ShopTold(
                version=kept.basis.held.version, cutoff=kept.basis.cutoff,
                waiting=behind.get(shop, (0, None))[0], since=behind.get(shop, (0, None))[1],
                seconds=kept.seconds,
            )
            for shop, kept in self._kept.items()
        }  # fmt: skip
        rests = {shop: why for shop, (_, why) in self._rest.items() if shop not in self._kept}
        at = self._clock() / 1e6
        told = ScoringTold(time=at, scored=self._scored, shops=shops, not_yet=rests)
        path = self._online / SCORING_FILE
        draft = path.with_name(f".{path.name}")
        draft.write_bytes(msgspec.json.encode(told))
        draft.replace(path)


def _why(error: Exception) -> str:
    """Why a shop is not scored, as it may hear it: nothing of others, nor where things lie."""
    match error:
        case NoSuchShop():
            return "nothing was told of it yet"
        case BadLake():
            return "what is kept of it cannot be read"
        case HabitueError():
            return str(error).partition("\n")[0]
        case OSError():
            return f"what is kept of it cannot be read: {error.strerror or type(error).__name__}"
    return "it cannot be worked out; the log of the scorer says more"


def _logged(error: Exception) -> str:
    """What went wrong; where that is not known, its kind and where, and nothing of a customer."""
    if isinstance(error, (HabitueError, OSError)):
        return str(error).partition("\n")[0]
    frames = reversed(traceback.extract_tb(error.__traceback__)[-4:])
    return f"{type(error).__name__} in " + " < ".join(f"{one.name}:{one.lineno}" for one in frames)


def _kept(basis: Basis, number: int, champion: str | None, began: float) -> _Kept:
    now = time.monotonic()
    return _Kept(basis, number, len(basis.scores.names), champion, seconds=now - began, at=now)
