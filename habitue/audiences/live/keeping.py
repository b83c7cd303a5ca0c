"""`Keeper`: who is in which audience, kept up to date with what is told and with time.

It works in the transactions of the live state: what was told, who entered or left because of it,
and when to look again are written together or not at all. A change is looked for at the instants
at which it can come: when a row begins to count, and when `until` of the last answer is over. So
its `at` is exact however late it is found.
"""

import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from habitue.audiences.live import tables
from habitue.audiences.live.alike.settling import Alike
from habitue.audiences.live.asking.followed import Followed, reading
from habitue.audiences.live.asking.glancing import glanced
from habitue.audiences.live.asking.looking import DONE, Audience, Look, Looking, Recent, restart
from habitue.audiences.live.asking.news import (
    RACE,
    Work,
    by_customer,
    clamped,
    ordering,
    relinked,
    whose_of,
)
from habitue.audiences.live.asking.remembered import Remembered
from habitue.audiences.live.facts import NEVER, Facts, ItemChange, Shop
from habitue.audiences.live.loading import items, wanted
from habitue.audiences.live.ranking import Ranking
from habitue.audiences.live.scored import curves
from habitue.audiences.live.scored.taking import Opens, Readings, by_shop, foresee
from habitue.audiences.live.tables import NOWHERE, Changed
from habitue.lake.live.happened import Touched

AT_ONCE = 2_000  # pairs of customer and audience whose time is over, of one transaction
FILLED = 100  # customers to whom audiences are applied in one
FILLED_ALONE = 1_000  # with one audience only
FEW = 0.2  # of a shop's audiences: for so many customers are read as far as these go, and not kept

_DUE = f"""
-- one row per customer and audience whose time is over, the earliest first
SELECT customer, audience, until FROM standing WHERE until <= ? AND until < {NEVER}
    AND audience NOT IN (SELECT value FROM json_each(?))
ORDER BY until LIMIT ?
"""

_NEXT = f"SELECT min(until) FROM standing WHERE until < {NEVER}"

_LAST = """
-- one row per audience and customer who came into it or left it, found customer by customer
SELECT keys.id, changes.audience, max(changes.at)
FROM json_each(?) AS asked CROSS JOIN keys ON keys.id = asked.value
CROSS JOIN json_each(?) AS named
CROSS JOIN changes ON changes.shop = keys.shop AND changes.customer = keys.key
    AND changes.audience = named.value
GROUP BY 1, 2
"""

class Keeper:
    """The audiences of all shops. One process keeps them; each call is in a transaction.

    A transaction that fails leaves what is remembered here ahead of what was written: `forget`
    it, and `follow` anew.
    """

    def __init__(self, clock: Callable[[], int], opens: Opens | None = None) -> None:
        """Nothing is followed until `follow`; `clock` tells µs since the epoch.

        `opens` makes of what a shop's scores were kept as something that reads its curves.
        """
        self._clock = clock
        self.readings = Readings(opens)
        self._shops: dict[str, Followed] = {}
        self._rankings: dict[str, Ranking] = {}
        self._alike: dict[str, Alike] = {}         # of shops in which it is asked who is similar
        self._recent = Recent()
        self._held = Remembered()

    @property
    def shops(self) -> Mapping[str, Followed]:
        """What is followed, by shop."""
        return self._shops

    @property
    def is_applying(self) -> bool:
        """Whether an audience was not applied to everybody yet."""
        return any(one.reached != DONE for shop in self._shops.values() for one in shop.audiences)

    def forget(self) -> None:
        """Forget what is only remembered: a transaction failed."""
        self._shops, self._rankings, self._alike = {}, {}, {}
        self._recent.clear()
        self._held.clear()

    def follow(self, connection: sqlite3.Connection, shops: Iterable[Followed]) -> None:
        """Follow these audiences from now on."""
        before, self._shops = self._shops, {one.name: one for one in shops if one.audiences}
        self._recent.clear()
        told = self._shops.values()
        same = [one for one in told if one.name in before and one.goes_on(before[one.name])]
        for one in same:                                   # views know their shop
            one.shop, before[one.name].shop.places = before[one.name].shop, one.shop.places
        self._held.begin(connection)
        followed = {one.name: one.audiences for one in told}
        self._held.keep(connection, followed, [one.name for one in same])
        now = tables.frontier(connection) or self._clock()
        self.readings.look(connection)
        for one in self._shops.values():
            one.shop.readings = self.readings.of(one.name)
            _share_items(connection, one)
            if one.name not in before or not one.shop.is_like(before[one.name].shop):
                self._rankings.pop(one.name, None)
            self._rank(connection, one, now)
        self._alike = {one.name: self._alike.get(one.name) or Alike(one.name)
                       for one in told if "similar" in one.by_kind}  # fmt: skip
        for name, alike in self._alike.items():
            alike.follow(connection, self._shops[name].audiences, self._shops[name].shop.places)
            self._shops[name].shop.near = alike.near

    def told(self, connection: sqlite3.Connection, touched: Touched, received: int | None) -> None:
        """Look at whom news is about; it was received by then (none: some time before now)."""
        if not self._shops:
            return
        if self._was_rebuilt(connection):
            return  # everybody is looked at again, later
        start = tables.frontier(connection)
        horizon = (start or self._clock()) if received is None else received
        whose = whose_of(connection, touched)
        self._held.begin(connection)
        self._held.tell(connection, touched, whose, self._reads())
        self._relink(relinked(touched, whose))
        for shop, work in by_customer(touched, whose).items():
            if shop in self._shops:
                self._rerank(connection, self._shops[shop], ordering(work), horizon)
                self._look(connection, self._shops[shop], work, (start, horizon))
        for shop, told in touched.items.items():
            if shop in self._shops:
                self._again(connection, self._shops[shop], told, (start, horizon))
        self._leave(connection, touched)
        tables.set_frontier(connection, max(start, horizon))

    def scored(
        self,
        connection: sqlite3.Connection,
        told: Iterable[tuple[str, curves.Rescored]],
        now: int,
    ) -> set[tuple[str, str]]:
        """Look at whom a score is told of, by shop; from now on it counts.

        Returns shops and customers of whom nothing else is known yet; of them nothing is kept.
        """
        self._was_rebuilt(connection)
        start = tables.frontier(connection)
        horizon, unknown = max(now, start + 1), set()
        waiting = [
            one.since for shop in self._shops.values() for one in shop.audiences
            if one.reached != DONE
        ]  # fmt: skip
        earliest = min([start - RACE, *waiting])
        self._held.begin(connection)
        for name, of_shop in by_shop(told).items():
            moved, strange = curves.put(connection, name, of_shop, (earliest, horizon))
            unknown |= {(name, customer) for customer in strange}
            self._held.drop(moved)
            if name not in self._shops:
                continue
            shop = self._shops[name]
            told_of = shop.by_kind.get("predictions", [])
            looks = {}
            for customer in moved:
                mine = [(one, None) for one in told_of if self._takes(shop, one, customer)]
                looks[customer] = [Look(mine, [horizon], "score")] if mine else []
            self._apply(connection, shop, looks, horizon)
        if self._shops:
            tables.set_frontier(connection, horizon)
        return unknown

    def fire(self, connection: sqlite3.Connection, now: int) -> bool:
        """Look at whom time is over for, up to now; whether there are more of them.

        Everything that was received up to now must have been told before.
        """
        if not self._shops:
            return False
        self._rerank_due(connection, now)
        self._held.begin(connection)
        apart = [id for alike in self._alike.values() for id in alike.levels]
        due = connection.execute(_DUE, [now, _json(apart), AT_ONCE]).fetchall()
        is_more = len(due) == AT_ONCE
        until = due[-1][2] if is_more else now     # nobody is looked at further than others are
        looks: defaultdict[str, dict[int, list[Look]]] = defaultdict(dict)
        by_id = self._by_id()
        for customer, audience, time in due:
            if audience in by_id:
                shop, one = by_id[audience]
                told = looks[shop.name].setdefault(customer, [])
                told.append(Look([(one, None)], [time], "time"))
        for name, of_shop in looks.items():
            self._apply(connection, self._shops[name], of_shop, until)
        if is_more:
            return True
        for name, alike in self._alike.items():
            is_more |= self._settle(connection, self._shops[name], alike, now)
        tables.set_frontier(connection, max(now, tables.frontier(connection)))
        return is_more

    def due(self, connection: sqlite3.Connection) -> int:
        """The next instant at which time alone may change something."""
        (until,) = connection.execute(_NEXT).fetchone()
        beside = [one.due() for one in self._rankings.values()]
        beside += [one.due() for one in self._alike.values()]
        return min([NEVER if until is None else int(until), *beside])

    def backfill(self, connection: sqlite3.Connection) -> bool:
        """Apply an audience that is new, or rests on something new, to some more customers."""
        self._was_rebuilt(connection)
        waiting = [
            (shop, one) for shop in self._shops.values() for one in shop.audiences
            if one.reached != DONE
        ]  # fmt: skip
        able = [one for one in waiting if self._can_apply(*one)]
        if not able:                       # time is to go on first, wherever somebody waits
            return bool(waiting)
        shop, first = min(able, key=lambda one: one[1].reached)
        level = self._level(shop, first)
        together = [
            one for of, one in able
            if of is shop and one.reached == first.reached
            and (one.ready is None) == (first.ready is None) and self._level(of, one) == level
        ]  # fmt: skip
        most = max(FILLED, FILLED_ALONE // len(together))
        customers = _next_of(connection, shop.name, together, most)
        self._recall(connection, together, customers)
        horizon = max([tables.frontier(connection), *(one.since for one in together)])
        horizon = self._alike[shop.name].settled if level else horizon
        only = together if len(together) <= FEW * len(shop.audiences) else None
        looking = self._looking(shop, horizon)
        left = glanced(connection, looking, together, customers)
        self._write(connection, looking)
        self._look_at(connection, shop, _looks(left), horizon, thorough=True, only=only)
        reached = customers[-1] if len(customers) == most else DONE
        for one in together:
            one.reached = reached
        connection.executemany(
            "UPDATE followed SET reached = ? WHERE id = ?", [(reached, one.id) for one in together]
        )
        if reached == DONE and shop.name in self._alike:
            self._alike[shop.name].wake()  # others may be similar to whom was found
        return reached != DONE or len(waiting) > len(together)

    # -- what is told

    def _look(
        self,
        connection: sqlite3.Connection,
        shop: Followed,
        work: Mapping[int, Work],
        span: tuple[int, int],
    ) -> None:
        """Look at the customers of one shop whom something was told of."""
        start, horizon = span
        is_whole = all(one.reached == DONE for one in shop.audiences)
        looks: dict[int, list[Look]] = {}
        held = self._held.of(connection, (shop.name, shop.reads), work)
        for customer, told in work.items():
            if customer in held:
                told.name_orders(held[customer].facts)
            found = looks[customer] = []
            for kinds, audiences in reading(shop, told):
                instants = {*told.everything, *(one for kind in kinds for one in told.kinds[kind])}
                steered = audiences if is_whole else [
                    one for one in audiences
                    if one[0].waits(customer) != "definition" or self._level(shop, one[0])
                ]  # fmt: skip
                found.append(Look(steered, clamped(instants, start, horizon), "event"))
        self._apply(connection, shop, looks, horizon)

    def _relink(self, moved: Mapping[str, Mapping[int, int]]) -> None:
        """Keys are another customer's, by shop; since when."""
        for name, keys in moved.items():
            if name in self._alike:
                self._alike[name].relink(keys)

    def _rank(self, connection: sqlite3.Connection, shop: Followed, now: int) -> None:
        """Rank all customers of a shop, where an audience asks for it."""
        if "rfm" not in shop.by_kind:
            self._rankings.pop(shop.name, None)
            return
        if shop.name not in self._rankings:
            ranking = self._rankings[shop.name] = Ranking()
            rows = connection.execute("SELECT id FROM customers WHERE shop = ?", [shop.name])
            customers = [customer for (customer,) in rows.fetchall()]
            ranking.look(connection, (shop.name, shop.shop), customers, now)
        shop.shop.groups = self._rankings[shop.name].groups

    def _rerank(
        self, connection: sqlite3.Connection, shop: Followed, customers: Collection[int], time: int
    ) -> None:
        """Rank anew after something was told of the orders of some customers."""
        ranking = self._rankings.get(shop.name)
        if ranking is None or not customers:
            return
        moved = ranking.look(connection, (shop.name, shop.shop), customers, time)
        self._apply_before(connection, shop, moved, time)
        shop.shop.groups = ranking.groups
        looks = {}
        for customer in moved:
            mine = [(one, None) for one in shop.by_kind["rfm"] if self._takes(shop, one, customer)]
            looks[customer] = [Look(mine, [time], "event")] if mine else []
        self._apply(connection, shop, looks, time)

    def _apply_before(
        self, connection: sqlite3.Connection, shop: Followed, customers: Collection[int], time: int
    ) -> None:
        """Apply audiences that wait to customers whose group is about to be another one.

        They are as yet in the groups that they were in since; the rest begins at `time`.
        """
        for audience in shop.by_kind["rfm"]:
            if self._level(shop, audience):
                continue                   # it waits until more is known
            ahead = [one for one in customers if one > audience.reached]
            if not ahead or audience.since >= time:
                continue
            self._recall(connection, [audience], ahead)
            looks = [Look([(audience, None)], [audience.since], audience.cause)]
            self._look_at(
                connection, shop, dict.fromkeys(ahead, looks), time - 1, thorough=True
            )
            for customer in ahead:
                self._recent.put((customer, audience.id), time)

    def _rerank_due(self, connection: sqlite3.Connection, now: int) -> None:
        """Rank anew at each instant at which an order that was told ahead begins to count."""
        for name, ranking in self._rankings.items():
            while (time := ranking.due()) <= now:
                customers = [one for one, until in ranking.pending.items() if until == time]
                self._rerank(connection, self._shops[name], customers, time)

    def _again(
        self,
        connection: sqlite3.Connection,
        shop: Followed,
        told: Sequence[tuple[str, int]],
        span: tuple[int, int],
    ) -> None:
        """Look at everybody again for the audiences that read what became known of items."""
        start, horizon = span
        before = dict(shop.shop.items)
        _share_items(connection, shop)
        self._held.clear()                 # views know items, of all customers
        news = [
            since for item, since in told if _latest(before, item) != _latest(shop.shop.items, item)
        ]
        # what counts later has its instant in every answer that is given from now on
        since = min(max(min(news, default=NEVER), start), horizon)
        if news:
            self._restart(connection, shop, shop.by_kind.get("items", ()), since)

    def _leave(self, connection: sqlite3.Connection, touched: Touched) -> None:
        """Customers who became part of another one leave all that they were in."""
        former = {one: since for one, since in touched.moved.values() if one is not None}
        if not former:
            return
        sql = (
            "SELECT id, key FROM keys WHERE id IN (SELECT value FROM json_each(?))"
            " AND customer <> id"
        )
        names = dict(connection.execute(sql, [_json(former)]).fetchall())
        by_id = self._by_id()
        changes, gone = [], {}
        for customer, held in tables.standing(connection, names).items():
            for id, before in held.items():
                shop, audience = by_id[id]
                gone[customer, id] = (before, NOWHERE)
                if (joined := before[0]) is not None:
                    at = max(former[customer], self._recent.get((customer, id), 0), joined)
                    changes.append(
                        Changed(shop=shop.name, audience=audience.name, customer=names[customer],
                                entered=False, at=at, cause="event")
                    )  # fmt: skip
        tables.put_changes(connection, changes, self._clock())
        tables.put_standing(connection, gone)
        self._held.drop(names)
        for alike in self._alike.values():
            alike.note(changes)

    def _was_rebuilt(self, connection: sqlite3.Connection) -> bool:
        """Whether customers have other ids than before; memberships then come from the changes."""
        sql = "SELECT value FROM about WHERE name = 'audiences'"
        if connection.execute(sql).fetchone():
            return False
        connection.execute("INSERT INTO about VALUES ('audiences', 1)")
        since = tables.frontier(connection)
        if not since:                      # it is the first time
            return False
        self._held.clear()
        tables.refold(connection)
        for shop in self._shops.values():
            for audience in shop.audiences:
                audience.reached = DONE
            if shop.name in self._alike:
                self._alike[shop.name].forget()
            self._restart(connection, shop, shop.audiences, since)
        return True

    def _restart(
        self,
        connection: sqlite3.Connection,
        shop: Followed,
        audiences: Collection[Audience],
        since: int,
    ) -> None:
        """Apply some audiences to everybody again, and those that rest on them."""
        for audience in audiences:
            if not self._level(shop, audience):
                restart(connection, audience, since, "event")
        if (alike := self._alike.get(shop.name)) is not None:
            alike.restart(connection, audiences, since)

    # -- looking

    def _apply(
        self,
        connection: sqlite3.Connection,
        shop: Followed,
        looks: Mapping[int, Sequence[Look]],
        horizon: int,
    ) -> None:
        """Look, and write what has changed; what rests on who is similar waits."""
        if (alike := self._alike.get(shop.name)) is not None:
            looks = alike.put(connection, looks)
        self._look_at(connection, shop, looks, horizon)

    def _settle(
        self, connection: sqlite3.Connection, shop: Followed, alike: Alike, now: int
    ) -> bool:
        """Look at what rests on who is similar, all up to `now` being known; whether there is more.
        """
        until = alike.begin(connection, now)
        for level in sorted(set(alike.levels.values())):
            self._look_at(connection, shop, alike.looks(connection, level, until), until)
        return alike.end(connection, until, now)

    def _can_apply(self, shop: Followed, audience: Audience) -> bool:
        return not self._level(shop, audience) or self._alike[shop.name].can_apply(audience)

    def _takes(self, shop: Followed, audience: Audience, customer: int) -> bool:
        """Whether it was applied to a customer, or waits until all is known up to an instant."""
        return customer <= audience.reached or self._level(shop, audience) > 0

    def _level(self, shop: Followed, audience: Audience) -> int:
        """How many audiences, each similar to the next, are below one."""
        alike = self._alike.get(shop.name)
        return 0 if alike is None else alike.levels.get(audience.id, 0)

    def _look_at(
        self,
        connection: sqlite3.Connection,
        shop: Followed,
        looks: Mapping[int, Sequence[Look]],
        horizon: int,
        *,
        thorough: bool = False,
        only: Sequence[Audience] | None = None,
    ) -> None:
        """Look, and write what has changed; thorough: at all that was known since, too.

        `only`: the audiences that are looked at, where they are few.
        """
        wanted_of = [customer for customer, told in looks.items() if told]
        if not wanted_of:
            return
        if only is None:
            held = self._held.of(connection, (shop.name, shop.reads), wanted_of)
        else:
            reads = wanted(frozenset().union(*(one.ready.reads for one in only if one.ready)))
            ids = [one.id for one in only]
            held = self._held.only(connection, (shop.name, reads), wanted_of, ids)
        looking = self._looking(shop, horizon)
        foresee(shop.shop, held, looks)
        for customer, one in held.items():
            for look in looks[customer]:
                now = _more(look, one.facts, shop.shop, horizon) if thorough else look
                looking.at(one.facts, now, one.standing)
        looking.changes.sort(key=lambda change: change.at)
        self._write(connection, looking)
        self._held.settle(held.values())

    def _looking(self, shop: Followed, horizon: int) -> Looking:
        return Looking(name=shop.name, shop=shop.shop, recent=self._recent, horizon=horizon)

    def _write(self, connection: sqlite3.Connection, looking: Looking) -> None:
        """Write what looks found."""
        tables.put_changes(connection, looking.changes, self._clock())
        tables.put_standing(connection, looking.kept)
        self._held.stand(looking.kept)
        if (alike := self._alike.get(looking.name)) is not None:
            alike.note(looking.changes)

    def _recall(
        self,
        connection: sqlite3.Connection,
        audiences: Iterable[Audience],
        customers: Iterable[int],
    ) -> None:
        """Remember the last changes of some customers: what was told stands."""
        by_name = {one.name: one.id for one in audiences}
        for customer, name, at in connection.execute(_LAST, [_json(customers), _json(by_name)]):
            if name in by_name:
                pair = (customer, by_name[name])
                self._recent.put(pair, max(at, self._recent.get(pair, 0)))

    def _reads(self) -> dict[str, frozenset[str]]:
        return {one.name: one.reads for one in self._shops.values()}

    def _by_id(self) -> dict[int, tuple[Followed, Audience]]:
        return {one.id: (shop, one) for shop in self._shops.values() for one in shop.audiences}


def _next_of(
    connection: sqlite3.Connection, shop: str, audiences: Sequence[Audience], most: int
) -> list[int]:
    """The next customers to whom audiences that came as far are to be applied."""
    reached = audiences[0].reached
    if len(audiences) == 1 and audiences[0].ready is None:     # nobody is in it: some were
        sql = (
            "SELECT customer FROM standing WHERE audience = ? AND joined IS NOT NULL"
            " AND customer > ? ORDER BY customer LIMIT ?"
        )
        rows = connection.execute(sql, [audiences[0].id, reached, most])
    else:
        # by id, and not by an index of shops, which would be sorted whole each time
        sql = "SELECT id FROM customers WHERE +shop = ? AND id > ? ORDER BY id LIMIT ?"
        rows = connection.execute(sql, [shop, reached, most])
    return [customer for (customer,) in rows.fetchall()]


def _looks(left: Mapping[int, Sequence[Audience]]) -> dict[int, list[Look]]:
    """Looks at customers from when on audiences are so; audiences that are so together as one."""
    made: dict[tuple[int, ...], list[Look]] = {}
    found = {}
    for customer, audiences in left.items():
        key = tuple(one.id for one in audiences)
        if key not in made:
            together = defaultdict(list)
            for one in audiences:
                together[one.since, one.cause].append((one, None))
            made[key] = [Look(told, [since], cause) for (since, cause), told in together.items()]
        found[customer] = made[key]
    return found


def _more(look: Look, facts: Facts, shop: Shop, horizon: int) -> Look:
    """The same look, also at the instants since its first at which more became known."""
    first, own = look.steps[0], facts.instants()
    known = (*own[bisect_right(own, first) :], *shop.instants[bisect_right(shop.instants, first) :])
    causes: dict[int, str] = {}
    for near in shop.near.values():
        causes |= near.causes(facts.name, first, horizon)
    more = [one for one in known if one <= horizon]
    if not more and not causes:
        return look
    return Look(look.audiences, sorted({*look.steps, *more, *causes}), look.cause, causes)


def _share_items(connection: sqlite3.Connection, shop: Followed) -> None:
    """Let all customers of a shop share what is known of its items."""
    if "items" in shop.by_kind:
        shop.shop.items = items(connection, shop.name)
        told = {one.visible for each in shop.shop.items.values() for one in each}
        shop.shop.instants = sorted(told)


def _latest(told: Mapping[str, Sequence[ItemChange]], item: str) -> list[str | None]:
    """Title, category and brand as they were told last, each."""
    found: list[str | None] = [None, None, None]
    for change in told.get(item, ()):
        found = [old if new is None else new for old, new in zip(found, change.told, strict=True)]
    return found


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
