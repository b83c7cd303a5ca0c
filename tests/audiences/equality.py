"""The long run: a history told piece by piece, and live compared with batch at every instant.

A seed decides everything: the shop, what is told of it and when (late, twice, of keys that are
joined and parted, of items that change, as of before), which audiences there are and when they
become others, when predictions are published, and when the process starts anew.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from habitue.audiences.compile import asked as predictions_asked
from habitue.audiences.language.nodes import (
    And,
    Compared,
    Condition,
    Dated,
    Member,
    Not,
    Or,
    Rfm,
    Similar,
    children,
    every,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.members import AsOf, expanded, find_all
from habitue.errors import HabitueError
from habitue.events import Noun
from habitue.lake.live.told import instant, microseconds
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK, asked, groups, happened, known
from tests.audiences.histories import (
    Embedded,
    History,
    Predicted,
    history,
    item_changes,
    links,
    stored,
)
from tests.audiences.living import Living
from tests.lake.people import ADA, APP, BOB, WEB, A, B, rows_of
from tests.lake.small import day

KEYS = (A, B, ADA, BOB, WEB, APP)
CUSTOMERS, EVENTS = 300, 1_500
ALL = 1_000                                # of the steps in which an audience is applied
AUDIENCES, LATER = 10, 14                  # conditions at first, and those that come in their place
END, LONG_AFTER = day(9), day(40)
NAMED = {"reds": 'profile.color = "red" or did cart_added where color = "red"',
         "buyers": "did order_placed and not in audience \"reds\""}  # fmt: skip


@dataclass(slots=True)
class Tally:
    """What was compared: one membership is one audience and customer at one instant."""

    instants: int = 0
    now: int = 0                           # memberships, live beside batch
    folded: int = 0                        # the changes so far, beside batch
    earlier: int = 0                       # the changes up to an earlier instant, beside batch
    inside: int = 0                        # of `now`, those of members
    changes: int = 0
    restarts: int = 0
    differences: list[str] = field(default_factory=list)


def conditions(number: int) -> list[Condition]:
    """The conditions of a seed: any, about what happened, about what is known; in turns."""
    strategies = (asked, groups(happened(), most=2), groups(known(), most=2))
    each = range(AUDIENCES + LATER + 6)
    return [drawn(strategies[place % 3], 1_000 * number + place) for place in each]


def drawn(strategy: SearchStrategy[Condition], number: int) -> Condition:
    """A condition of a strategy, always the same by its number; not the first, which is simple."""
    found: list[Condition] = []

    @seed(number)
    @settings(max_examples=3, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def collect(condition: Condition) -> None:
        found.append(condition)

    collect()
    return found[-1]


def is_similar(condition: Condition) -> bool:
    """Whether it asks who is similar to an audience."""
    return any(isinstance(one, Similar) for one in every(condition))


def in_full(whole: Condition, held: Mapping[str, str]) -> list[Condition]:
    """A condition, and those of the audiences to which it asks who is similar, and so on."""
    found = [whole]
    for one in every(whole):
        if isinstance(one, Similar):
            found += in_full(expanded(Member(one.audience), held), held)
    return found


def rests_on_all(whole: Condition) -> bool:
    """Whether it rests on what is told of all customers at once."""
    return bool(predictions_asked(whole)) or any(
        isinstance(one, (Compared, Dated)) and isinstance(one.operand, Rfm) for one in every(whole)
    )


def kinds(condition: Condition) -> Iterator[str]:
    """The kinds of nodes, operands and windows of a condition."""
    yield type(condition).__name__
    for name in ("operand", "window", "of"):
        if (part := getattr(condition, name, None)) is not None and not isinstance(part, str):
            yield type(part).__name__
    for one in children(condition):
        yield from kinds(one)


class Running:
    """One seed's run."""

    def __init__(
        self, number: int, folder: Path, *, customers: int = CUSTOMERS, events: int = EVENTS
    ) -> None:
        self.draw = random.Random(number)
        self.customers = (*(f"c{place}" for place in range(customers)), *KEYS)
        self.told = history(number, rows=events, customers=self.customers)
        one = self.told
        nouns: list[Noun] = [*one.events, *one.items, *one.changes, *one.consents]
        nouns += item_changes(self.draw, 8)
        self.is_linked, self.is_imported = number % 2 == 0, number % 3 == 0
        nouns += links(self.draw, KEYS, 12) if self.is_linked else ()
        self.nouns = [one for one in nouns if self.is_imported or not is_backfilled(one)]
        ahead = [one for one in nouns if not is_backfilled(one)]
        predictions = tuple(
            one for one in self.told.predictions if self._is_known(one, one.cutoff)
        )
        embeddings = tuple(
            one for one in self.told.embeddings if self._is_known(one, one.anchor)
        )
        self.told = replace(self.told, predictions=predictions, embeddings=embeddings)
        bare = History((), (), (), (), predictions, embeddings, self.told.zone)
        self.lake = stored(Lake(folder / "lake", buckets=1), bare)
        self.lake.append(rows_of(ahead))
        self.live = Living(folder / "profiles.sqlite", self.told.zone)
        self.live.now = microseconds(day(-1))
        self.waiting = conditions(number)
        self.sentences: list[tuple[datetime, dict[str, str]]] = []    # since when they are these
        self.answers: dict[datetime, dict[str, set[str]]] = {}        # of batch
        self.stream: list[tuple] = []
        self.standing: dict[str, set[str]] = {}
        self.placed = day(-1)              # when embeddings that were published were noticed
        self.tally = Tally()

    def run(self) -> Tally:
        """Tell all of it, and compare; it ends at the first difference."""
        try:
            self._run()
        finally:
            self.live.profiles.close()
        return self.tally

    def _run(self) -> None:
        self.live.define(None, **NAMED)
        for _ in range(AUDIENCES):
            self._define()
        told = pieces(self.nouns, self.draw, most=max(len(self.told.events) // 20, 1))
        ends = [min(one.received for one in piece) - TICK for piece in told[1:]]
        for piece, end in zip(told, [*ends, END], strict=True):
            self._live_through(piece, end)
            if self.tally.differences:
                return
        self.live.steps = ALL
        for until in (END, LONG_AFTER):
            self._until(until)
        self._compare_earlier()

    def _is_known(self, made: Predicted | Embedded, cutoff: datetime) -> bool:
        """Whether its customer had been told of when it was made: of others none is."""
        return any(
            getattr(one, "customer", None) == made.customer
            and one.time <= cutoff
            and one.received <= made.received
            for one in self.nouns
        )

    # -- what happens

    def _live_through(self, piece: list[Noun], end: datetime) -> None:
        """Tell some, let time pass until more is told, and change audiences in between."""
        # now and then an audience is applied to some customers, to the others after more news
        self.live.steps = self.draw.choice([ALL, ALL, 0, 1, 2])
        self._tell(piece)
        if self.draw.random() < 0.35:
            self._define()
        if self.draw.random() < 0.05:
            self.live.restart()
            self.tally.restarts += 1
        self._compare()
        self._wait(end)

    def _tell(self, piece: list[Noun]) -> None:
        """Tell it, some of what was told before once more; what is imported, batch gets now."""
        fresh = [one for one in piece if is_backfilled(one)]
        if fresh:
            self.lake.append(rows_of(fresh))
        again = self.draw.choices(self.live.nouns or piece, k=self.draw.choice([0, 0, 1]))
        self.live.tell([*piece, *again])
        self._until(instant(self.live.now), compare=False)

    def _until(self, until: datetime, *, compare: bool = True) -> None:
        self.live.wait(until)
        before = self.live.places
        self.live.publish(self.told.predictions, self.told.embeddings)
        if self.live.places is not before:
            self.placed = instant(self.live.now)
        if compare:
            self._compare()

    def _wait(self, end: datetime) -> None:
        """Let time pass before more is told: to when something may change, and somewhere else."""
        for _ in range(self.draw.choice([0, 0, 1, 3])):
            with self.live.profiles.writing() as connection:
                due = self.live.keeper.due(connection)
            if due > microseconds(end):
                return
            self._until(instant(due))
        until = instant(self.live.now) + self.draw.choice([TICK, timedelta(hours=1)])
        if self.draw.random() < 0.2 and until <= end:
            self._until(until)

    def _define(self) -> None:
        """An audience is another one, is new, or is no more."""
        name = f"a{self.draw.randrange(AUDIENCES)}"
        names = [f"a{place}" for place in range(AUDIENCES) if f"a{place}" not in self._held()]
        name = min(names) if names and self.draw.random() < 0.9 else name
        if self.draw.random() < 0.1 or not self.waiting:
            self.live.define(None, **{name: None})
        else:
            condition = self.waiting.pop()
            below = [one for one in self._held() if one[0] == "a" and one < name]
            if below and self.draw.random() < 0.25:    # never of itself: only of those before it
                other: Condition = Member(self.draw.choice(below))
                parts = (condition, self.draw.choice([other, Not(other)]))
                condition = self.draw.choice([And(parts), Or(parts)])
            if below and self.draw.random() < 0.2:
                near = Similar(self.draw.choice(below), self.draw.randint(1, 40), "percent")
                condition = self.draw.choice([near, And((near, condition)), Or((near, condition))])
            self.live.define(None, **{name: written(condition)})
        self.sentences.append((instant(self.live.now), dict(self.live.sentences)))

    def _held(self) -> Mapping[str, str]:
        return self.live.sentences

    # -- what is compared

    def _compare(self) -> None:
        if self.live.keeper.is_applying:
            return
        now = instant(self.live.now)
        wanted = self._batch(now, self.live.sentences, list(self.live.sentences))
        live = self._members()
        self._fold()
        self.answers[now] = wanted
        tally, number = self.tally, len(self.customers)
        tally.instants += 1
        for name, members in wanted.items():
            tally.now += number
            tally.folded += number
            tally.inside += len(members)
            self._equal("live", name, now, live.get(name, set()), members)
            self._equal("folded", name, now, self.standing.get(name, set()), members)

    def _compare_earlier(self) -> None:
        """The changes up to earlier instants; and that none of those that were told is another."""
        rows = self.live.changes()
        self.tally.changes = len(rows)
        if rows != self.stream:
            self.tally.differences.append("a change that was told is another one")
        if self.is_imported:               # batch knows what is imported as of when it happened
            return
        for at in self.draw.sample(sorted(self.answers), min(40, len(self.answers))):
            self._earlier(at, self.answers[at])
        if self.is_linked:                 # links count from when they are read
            return
        for _ in range(10):
            at = self.draw.choice(rows)[3] + self.draw.choice([-1, 0, 1]) * TICK
            held = [told for since, told in self.sentences if since <= at]
            if held and at <= LONG_AFTER:
                names = [one for one in held[-1] if self._is_of_one(one, held[-1], at)]
                self._earlier(at, self._batch(at, held[-1], names))

    def _is_of_one(self, name: str, held: Mapping[str, str], at: datetime) -> bool:
        """Whether an audience is told at any instant: it rests on no set that was noticed later."""
        try:
            wholes = in_full(expanded(Member(name), held), held)
        except HabitueError:
            return False
        return not any(map(rests_on_all, wholes)) and (len(wholes) == 1 or at > self.placed)

    def _earlier(self, at: datetime, wanted: Mapping[str, set[str]]) -> None:
        found = folded(self.stream, at)
        for name, members in wanted.items():
            self.tally.earlier += len(self.customers)
            self._equal("earlier", name, at, found.get(name, set()), members)

    def _equal(
        self, what: str, name: str, at: datetime, found: set[str], wanted: set[str]
    ) -> None:
        if found != wanted:
            self.tally.differences.append(
                f"{what}: {name} at {at.isoformat()}: without {sorted(wanted - found)}, with"
                f" {sorted(found - wanted)} as well: {self.live.sentences.get(name)}"
            )

    def _batch(
        self, at: datetime, held: Mapping[str, str], names: list[str]
    ) -> dict[str, set[str]]:
        """Who is in each audience, as a recomputation finds; nobody where it cannot be asked."""
        published = {
            (one.question, int(one.horizon_days)) for one in self.told.predictions
            if one.cutoff <= at and one.received <= at
        }  # fmt: skip
        is_placed = any(
            one.anchor <= at and one.received <= at for one in self.told.embeddings
        )
        found: dict[str, set[str]] = {name: set() for name in names}
        able = [name for name in names if self._can_be_asked(name, held, published, is_placed)]
        told = find_all(
            self.lake, "acme", [parse(held[name]) for name in able], AsOf(at, at), held
        )
        for name, one in zip(able, told, strict=True):
            found[name] = set(one.members["customer"].to_pylist())
        return found

    @staticmethod
    def _can_be_asked(
        name: str, held: Mapping[str, str], published: set, is_placed: bool
    ) -> bool:
        try:
            wholes = in_full(expanded(parse(held[name]), held), held)
        except HabitueError:               # it names an audience that is no more
            return False
        if any(is_similar(one) for one in wholes) and not is_placed:
            return False
        return all(predictions_asked(one) <= published for one in wholes)

    def _members(self) -> dict[str, set[str]]:
        sql = """SELECT followed.name, keys.key FROM standing
            JOIN keys ON keys.id = standing.customer
            JOIN followed ON followed.id = standing.audience WHERE joined IS NOT NULL"""
        found: dict[str, set[str]] = {}
        with self.live.profiles.writing() as connection:
            for name, key in connection.execute(sql):
                found.setdefault(name, set()).add(key)
        return found

    def _fold(self) -> None:
        """Take the changes that were found since."""
        fresh = self.live.changes(after=len(self.stream))
        self.stream += fresh
        for audience, customer, change, *_ in fresh:
            held = self.standing.setdefault(audience, set())
            (held.add if change == "entered" else held.discard)(customer)


def is_backfilled(noun: Noun) -> bool:
    """Whether it counts as known since it happened."""
    return bool(getattr(noun, "backfilled", False))


def folded(stream: list[tuple], at: datetime) -> dict[str, set[str]]:
    """Who is in each audience by the changes up to an instant."""
    found: dict[str, set[str]] = {}
    for audience, customer, change, when, *_ in stream:
        if when <= at:
            held = found.setdefault(audience, set())
            (held.add if change == "entered" else held.discard)(customer)
    return found


def pieces(nouns: list[Noun], draw: random.Random, *, most: int) -> list[list[Noun]]:
    """All in the order in which it was received, in pieces; what came at once stays together."""
    told = sorted(nouns, key=lambda one: (one.received, one.digest))
    found: list[list[Noun]] = []
    size = 0
    for one in told:
        if found and (one.received == found[-1][-1].received or len(found[-1]) < size):
            found[-1].append(one)
        else:
            found.append([one])
            size = draw.choice([1, 1, most // 10, most // 5, most])
    return found


def kinds_of(seeds: range) -> Counter[str]:
    """In how many conditions of some seeds each kind of node is."""
    return Counter(
        kind for number in seeds for one in conditions(number) for kind in set(kinds(one))
    )
