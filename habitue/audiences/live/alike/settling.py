"""What rests on who is similar waits until everything up to an instant is known, and is looked at.

Whoever enters or leaves an audience can move all who are similar to it, so its changes are taken
in the order of their instants, after all of them are found: what was told, and what time has done.
Audiences that ask who is similar come after those that they are similar to, level by level.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product

from habitue.audiences.language.nodes import Similar
from habitue.audiences.live import tables
from habitue.audiences.live.alike import reading
from habitue.audiences.live.alike.nearness import Move, Near
from habitue.audiences.live.alike.places import Places, Space, space_of
from habitue.audiences.live.asking.looking import DONE, Audience, Look, restart
from habitue.audiences.live.asking.news import RACE
from habitue.audiences.live.facts import NEVER
from habitue.audiences.live.tables import Changed

AT_ONCE = 2_000                            # pairs of customer and audience, of one transaction
COMPARED = 200_000                         # customers with the middle of a seed, of one
MOST_TOLD = 20_000                         # customers of whom is remembered when they were similar


class Alike:
    """The audiences of one shop that ask who is similar, and what they wait for."""

    def __init__(self, shop: str) -> None:
        self.shop = shop
        self.near: dict[Similar, Near] = {}      # those that can be asked; views know it
        self.levels: dict[int, int] = {}         # of audiences that ask who is similar, by id
        self._audiences: dict[str, Audience] = {}
        self._wanted: dict[Similar, list[Audience]] = {}       # by what they ask
        self._places: Places | None = None
        self._space: Space | None = None
        self._names: dict[str, str] = {}         # of keys that do not name their customer
        self._moved: dict[int, int] = {}         # keys that are another's, and since when
        # by customer and audience: instants that wait to be looked at, and why
        self._waiting: defaultdict[int, dict[int, dict[int, str]]] = defaultdict(dict)
        self._settled = 0
        self._read: int | None = None            # the last change that was looked at; none: all
        self._aside = -1
        self._is_new, self._is_behind, self._is_marked = True, True, False

    @property
    def settled(self) -> int:
        """The instant up to which everything was looked at."""
        return self._settled

    def follow(
        self, connection: sqlite3.Connection, audiences: Sequence[Audience], places: Places | None
    ) -> None:
        """Follow these audiences of the shop from now on."""
        self._audiences = {one.name: one for one in audiences}
        asking = [one for one in audiences if one.ready is not None and one.ready.similar]
        self.levels = {one.id: self._level(one) for one in asking}
        wanted: defaultdict[Similar, list[Audience]] = defaultdict(list)
        for one in asking:
            for condition in one.ready.similar if one.ready is not None else ():
                wanted[condition].append(one)
        self._wanted = dict(wanted)
        if places is not self._places:
            self._places, self._space = places, None
            self.near.clear()
        self._drop([one for one in audiences if one.reached == 0])
        self._is_behind = True
        if self._is_new:
            self._start(connection)

    def _level(self, audience: Audience) -> int:
        """How many audiences, each similar to the next, are below one."""
        asked = () if audience.ready is None else audience.ready.similar
        return max((1 + self._level(self._audiences[one.audience]) for one in asked), default=0)

    def resting(self, changed: Iterable[Audience]) -> list[Audience]:
        """Of the audiences that ask who is similar, those that rest on some others."""
        found = {one.name for one in changed}
        added = []
        for one in sorted(self._asking(), key=lambda one: self.levels[one.id]):
            asked = {similar.audience for similar in one.ready.similar} if one.ready else set()
            if one.name not in found and asked & found:
                found.add(one.name)
                added.append(one)
        return added

    def _asking(self) -> list[Audience]:
        return [one for one in self._audiences.values() if one.id in self.levels]

    # -- what is told

    def put(
        self, connection: sqlite3.Connection, looks: Mapping[int, Sequence[Look]]
    ) -> Mapping[int, Sequence[Look]]:
        """Let looks at audiences that ask who is similar wait; returns the others."""
        left: dict[int, list[Look]] = {}
        is_put = False
        for customer, told in looks.items():
            left[customer] = []
            for look in told:
                later = [one for one, _ in look.audiences if one.id in self.levels]
                for one in later:
                    mine = self._waiting[customer].setdefault(one.id, {})
                    mine.update(dict.fromkeys(look.steps, look.cause))
                is_put |= bool(later)
                if len(later) < len(look.audiences):
                    now = [one for one in look.audiences if one[0].id not in self.levels]
                    left[customer].append(Look(now, look.steps, look.cause) if later else look)
        if is_put and not self._is_marked:
            tables.note(connection, f"waiting {self.shop}", 1)
            self._is_marked = True
        return left

    def restart(
        self, connection: sqlite3.Connection, audiences: Collection[Audience], since: int
    ) -> None:
        """Apply those of some audiences that ask who is similar again, and those on any of them."""
        rested = self.resting(audiences)
        mine = {one.id: one for one in (*audiences, *rested) if one.id in self.levels}
        for one in mine.values():
            # what was so by the instant that everything was looked at remains as it was told
            restart(connection, one, min(since, self._settled + 1) if self._settled else since,
                    "event")  # fmt: skip
        self._drop([*audiences, *rested])
        self._is_behind = True

    def forget(self) -> None:
        """Customers have other ids than before."""
        self.near.clear()
        self._waiting.clear()
        self._space = None

    def _drop(self, audiences: Collection[Audience]) -> None:
        """Who is similar to some audiences is not known until they were applied to everybody."""
        names = {one.name for one in audiences}
        for condition in [one for one in self.near if one.audience in names]:
            del self.near[condition]

    def relink(self, keys: Mapping[int, int]) -> None:
        """Keys are another customer's since some instants."""
        self._moved |= keys

    def wake(self) -> None:
        """There is something to do, whatever it is."""
        self._is_behind = True

    def note(self, changes: Sequence[Changed]) -> None:
        """These changes were written."""
        if changes and not self._is_behind:
            seeds = {one.audience for one in self._wanted}
            self._is_behind = any(one.audience in seeds for one in changes)

    def due(self) -> int:
        """The next instant at which there is something to do; 0: there is already."""
        if self._is_behind or self._waiting or self._moved:
            return 0
        told = [one.at for near in self.near.values() for one in near.ahead[:1]]
        told += [one.since for one in self._asking() if one.reached != DONE and self._is_early(one)]
        return min(told, default=NEVER)

    def can_apply(self, audience: Audience) -> bool:
        """Whether an audience can be applied to customers now."""
        return not self._is_early(audience) and self._is_steady(audience)

    def _is_early(self, audience: Audience) -> bool:
        return audience.since > self._settled

    def _is_steady(self, audience: Audience) -> bool:
        """Whether it is known who is similar, as far as an audience asks."""
        assert audience.ready is not None, "it asks who is similar"
        since = NEVER if audience.reached == DONE else audience.since
        return all(
            one in self.near and self.near[one].since <= since for one in audience.ready.similar
        )

    # -- what is looked at

    def begin(self, connection: sqlite3.Connection, now: int) -> int:
        """Read what came, all up to `now` being known; up to when it is looked at in one."""
        self._settled = self._settled or now
        self._load(connection)
        self._check(connection, now)
        self._relink(connection, now)
        for one in self.near.values():
            reading.read_on(connection, self.shop, one)
        return self._reach(connection, now)

    def moves(
        self, connection: sqlite3.Connection, level: int, until: int
    ) -> dict[Similar, list[Move]]:
        """Who is similar to audiences below a level, up to an instant: who came, and who went."""
        found = {}
        for condition, near in self.near.items():
            if self._level(self._audiences[condition.audience]) == level - 1:
                reading.read_on(connection, self.shop, near)
                found[condition] = near.advance(until)
        return found

    def looks(
        self, connection: sqlite3.Connection, level: int, until: int
    ) -> dict[int, list[Look]]:
        """Looks at customers for the audiences of a level, at all instants up to one."""
        audiences = {
            one.id: one for one in self._asking()
            if self.levels[one.id] == level and self._is_steady(one)
        }  # fmt: skip
        asked = self._due(connection, audiences, until)
        for condition, moves in self.moves(connection, level, until).items():
            ids = reading.ids_of(connection, self.shop, {one.name for one in moves})
            mine = [one.id for one in self._wanted[condition] if one.id in audiences]
            for id, move in product(mine, (one for one in moves if one.name in ids)):
                asked[ids[move.name]].setdefault(id, {}).setdefault(move.at, move.cause)
        return {
            customer: [
                Look([(audiences[id], None)], sorted(told), "event", told)
                for id, told in of_customer.items() if customer <= audiences[id].reached
            ]
            for customer, of_customer in asked.items()
        }  # fmt: skip

    def end(self, connection: sqlite3.Connection, until: int, now: int) -> bool:
        """Everything up to an instant was looked at; whether there is more up to now."""
        self._settled = until
        self._read = reading.last_change(connection)
        tables.note(connection, f"settled {self.shop}", until)
        tables.note(connection, f"read {self.shop}", self._read)
        self._waiting = defaultdict(dict, {
            customer: left for customer, told in self._waiting.items()
            if (left := {
                id: later for id, instants in told.items()
                if (later := {at: why for at, why in instants.items() if at > until})
            })
        })  # fmt: skip
        if self._is_marked and not self._waiting:
            tables.note(connection, f"waiting {self.shop}", None)
            self._is_marked = False
        needed = [one.since for one in self._asking() if one.reached != DONE]
        for near in self.near.values():
            if len(near) > MOST_TOLD + 2 * near.size:
                near.prune(min([until - RACE, *needed]))
        self._is_behind = until < now
        return self._is_behind

    def _start(self, connection: sqlite3.Connection) -> None:
        """Go on where it was stopped: what waited then is looked at again."""
        self._is_new = False
        if all(one.reached == 0 for one in self._asking()):
            return                         # all of it is looked at anyhow
        self._settled = tables.noted(connection, f"settled {self.shop}") or 0
        self._read = tables.noted(connection, f"read {self.shop}")
        if tables.noted(connection, f"waiting {self.shop}") is not None and self._settled:
            self._is_marked = True
            for one in self._asking():
                restart(connection, one, self._settled, "event")

    def _load(self, connection: sqlite3.Connection) -> None:
        """Find who is similar, where the audience was applied to everybody."""
        for condition, asking in self._wanted.items():
            seed = self._audiences[condition.audience]
            held = self.near.get(condition)
            if seed.reached != DONE or self._places is None:
                self.near.pop(condition, None)
                continue
            waiting = [one.since for one in asking if one.reached != DONE]
            since = min([self._settled, *waiting])
            if held is None or held.since > since:
                space = self._found_space(connection)
                last = reading.last_change(connection)
                span = (since, last if self._read is None else self._read)
                members, before, fresh = reading.members_at(connection, self.shop, seed, span)
                near = self.near[condition] = Near(condition, space, since, members)
                near.tell(before)
                near.advance(self._settled)      # it was looked at whom these moved
                near.tell(fresh)
                near.sequence = last
        for condition in self.near.keys() - self._wanted.keys():
            del self.near[condition]

    def _found_space(self, connection: sqlite3.Connection) -> Space:
        if self._space is None:
            assert self._places is not None, "it was asked for"
            self._names = reading.names_of(connection, self.shop)
            self._space = space_of(self._places, self._names)
        return self._space

    def _check(self, connection: sqlite3.Connection, now: int) -> None:
        """Take what was erased since."""
        aside = reading.aside(connection)
        if aside != self._aside and self._aside >= 0:
            for condition, near in self.near.items():
                seed = self._audiences[condition.audience]
                reading.read_on(connection, self.shop, near)
                near.miss(reading.members_now(connection, seed), now)
        self._aside = aside

    def _relink(self, connection: sqlite3.Connection, now: int) -> None:
        """Take keys that were joined or parted since."""
        moved, self._moved = self._moved, {}
        if not moved or self._space is None or self._places is None:
            return
        names = dict(self._names)
        for key, name in reading.names_of_keys(connection, moved).items():
            names.pop(key, None)
            if key != name:
                names[key] = name
        if names == self._names:
            return
        self._names, self._space = names, space_of(self._places, names)
        for near in self.near.values():
            near.replace(self._space, min(max(moved.values()), now))

    def _reach(self, connection: sqlite3.Connection, now: int) -> int:
        """Up to when it is looked at in one: no more than fits into a transaction."""
        told = sorted({
            one.at for near in self.near.values() for one in near.ahead
            if self._settled < one.at <= now
        })  # fmt: skip
        most = max(COMPARED // max(len(self._space.names) if self._space else 1, 1), 1)
        until = told[most - 1] if len(told) > most else now
        due = reading.due(connection, self.levels, until, AT_ONCE)
        return due[-1][2] if len(due) == AT_ONCE else until

    def _due(
        self, connection: sqlite3.Connection, audiences: Mapping[int, Audience], until: int
    ) -> defaultdict[int, dict[int, dict[int, str]]]:
        """By customer and audience: what waits, and whose time is over, up to an instant."""
        asked: defaultdict[int, dict[int, dict[int, str]]] = defaultdict(dict)
        for customer, told in self._waiting.items():
            for id, instants in told.items():
                mine = {at: why for at, why in instants.items() if at <= until}
                if mine and id in audiences:
                    asked[customer][id] = mine
        for customer, id, at in reading.due(connection, audiences, until):
            asked[customer].setdefault(id, {}).setdefault(at, "time")
        return asked
