"""One customer looked at for some audiences: at the instants given, and up to a horizon.

An answer and its `until` are kept from one look to the next, so a look begins where the last one
ended; and where what was told cannot change an answer before its `until`, nothing is asked.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from habitue.audiences.live.evaluate import Ready
from habitue.audiences.live.facts import NEVER, Facts, Shop, View
from habitue.audiences.live.tables import NOWHERE, Changed, Stands

MOST_RECENT = 100_000  # pairs of which the last change is remembered
DONE = NEVER  # `reached` of an audience that was applied to everybody

Pair: TypeAlias = tuple[int, int]  # customer, audience


@dataclass(slots=True, kw_only=True)
class Audience:
    """One audience that is followed."""

    id: int
    name: str
    ready: Ready | None  # none: it cannot be asked, and nobody is in it
    since: int  # from when on the condition, or what it rests on, is so
    cause: str
    reached: int                           # the last customer to whom it was applied

    def waits(self, customer: int) -> str | None:
        """Why it is still to be applied to a customer; none: it was."""
        return None if customer <= self.reached else self.cause

    def settled(self, kinds: Sequence[str]) -> bool | None:
        """The answer that rows of these kinds leave as it is; none: there is none."""
        if self.ready is None:
            return None
        told = {self.ready.settled.get(kind) for kind in kinds}
        return told.pop() if len(told) == 1 else None


@dataclass(frozen=True, slots=True)
class Look:
    """Instants at which one customer is looked at for some audiences, and what makes it so."""

    audiences: Sequence[tuple[Audience, bool | None]]  # with the answer that stays as it is
    steps: Sequence[int]  # in order, one at least
    cause: str
    causes: Mapping[int, str] = field(default_factory=dict)    # of steps that have another

    def why(self, step: int) -> str:
        """What makes one look at an instant."""
        return self.causes.get(step, self.cause)


class Recent:
    """When pairs of customers and audiences last changed, as long as it matters."""

    def __init__(self) -> None:
        self._at: dict[Pair, int] = {}
        self.get = self._at.get

    def clear(self) -> None:
        """Forget all."""
        self._at.clear()

    def put(self, pair: Pair, at: int) -> None:
        """Remember one more."""
        if len(self._at) >= MOST_RECENT:
            self._at.clear()
        self._at[pair] = at


@dataclass(slots=True, kw_only=True)
class Looking:
    """Looks at customers of one shop, and the changes and standings that come of them."""

    name: str
    shop: Shop
    recent: Recent
    horizon: int
    changes: list[Changed] = field(default_factory=list)
    kept: dict[Pair, tuple[Stands, Stands]] = field(default_factory=dict)  # before, now

    def at(self, facts: Facts, look: Look, standing: Mapping[int, Stands]) -> None:
        """Look at one customer, who stands so to audiences."""
        customer, horizon, time = facts.customer, self.horizon, look.steps[0]
        view = facts.at(self.shop, time) if len(look.steps) == 1 else None
        for audience, settled in look.audiences:
            before = standing.get(audience.id, NOWHERE)
            joined, until = before
            if until <= horizon or customer > audience.reached:
                now = self._followed(facts, audience, look, before)
            elif settled is (joined is not None):
                continue
            elif view is not None and self.recent.get((customer, audience.id), 0) <= time:
                now = self._asked(facts, audience, (view, time, look.why(time)), joined)
                while now[1] <= horizon:
                    asked = (facts.at(self.shop, now[1]), now[1], "time")
                    now = self._asked(facts, audience, asked, now[0])
            else:
                now = self._followed(facts, audience, look, before)
            if now != before:
                self.kept[customer, audience.id] = (before, now)

    def _followed(self, facts: Facts, audience: Audience, look: Look, before: Stands) -> Stands:
        """How one customer stands to an audience after some instants, up to the horizon."""
        joined, until = before
        first = self.recent.get((facts.customer, audience.id), 0)
        steps = look.steps
        if steps[0] < first or facts.customer > audience.reached:
            begins = () if audience.waits(facts.customer) is None else (audience.since,)
            steps = sorted({max(one, first) for one in (*steps, *begins)})
        time, cause = steps[0], look.why(steps[0])
        if until < time:
            time, cause = max(until, first), "time"
        while True:
            asked = (facts.at(self.shop, time), time, cause)
            joined, until = self._asked(facts, audience, asked, joined)
            step = _after(steps, time)
            time, cause = (step, look.why(step)) if step <= until else (until, "time")
            if time > self.horizon:
                return joined, until

    def _asked(
        self, facts: Facts, audience: Audience, asked: tuple[View, int, str], joined: int | None
    ) -> Stands:
        """Ask what holds at an instant; how the customer stands from then on, and until when."""
        view, time, cause = asked
        ready = audience.ready
        holds, until = (False, NEVER) if ready is None else ready.holds(view, time)
        if holds is not (joined is None):
            return joined, until
        self.recent.put((facts.customer, audience.id), time)
        self.changes.append(
            Changed(shop=self.name, audience=audience.name, customer=facts.name, entered=holds,
                    at=time, cause=cause)
        )  # fmt: skip
        return (time if holds else None), until


def restart(connection: sqlite3.Connection, audience: Audience, since: int, cause: str) -> None:
    """Apply an audience to everybody again, from an instant on."""
    if audience.reached != DONE:           # to those who were not reached it is still to be applied
        since, cause = min(since, audience.since), audience.cause
    audience.since, audience.cause, audience.reached = since, cause, 0
    connection.execute(
        "UPDATE followed SET since = ?, cause = ?, reached = 0 WHERE id = ?",
        [since, cause, audience.id],
    )
    if audience.ready is not None and audience.ready.similar:  # till then nobody is looked at
        sql = "UPDATE standing SET until = ? WHERE audience = ?"
        connection.execute(sql, [NEVER, audience.id])


def _after(steps: Sequence[int], time: int) -> int:
    if steps[-1] <= time:
        return NEVER
    return steps[bisect_right(steps, time)]
