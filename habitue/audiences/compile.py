"""Nodes to one SQL statement over the lake's views, every value bound.

All counts and sums over one kind of rows are taken in one pass, one row per customer; sequences
are sets of customers; what is known of a customer is joined. Nobody is looked at who could not be
meant: where a customer of whom nothing is known would not be in the audience, only those are who
have a row in what the condition reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from habitue.audiences import rows
from habitue.audiences.asking import (
    event_of,
    of_nobody,
    reads_lines,
    reads_order_lines,
    reads_properties,
)
from habitue.audiences.comparisons import (
    Bound,
    Clock,
    Forms,
    compared,
    dated,
    json_parts,
    of_clock,
    of_date,
    of_json,
    of_number,
    of_read,
    of_text,
    remembered,
    within,
)
from habitue.audiences.language.calendar import THEIR_ZONE
from habitue.audiences.language.nodes import (
    BOUGHT,
    CLOCK_FIELDS,
    LINE_FIELDS,
    NUMBER_FIELDS,
    And,
    Anniversary,
    Bought,
    Compared,
    Condition,
    Consent,
    ConsentSince,
    Count,
    Dated,
    Field,
    First,
    Followed,
    NextOrder,
    Not,
    Operand,
    Or,
    Order,
    Prediction,
    Profile,
    Property,
    Rfm,
    Similar,
    Step,
    Sum,
    Theirs,
    every,
)
from habitue.audiences.language.windows import Calendar, InMonth, Window, bounds
from habitue.errors import BadAudience
from habitue.events import ITEM_ORDERED, NO_CURRENCY, ORDER_PLACED, currency_exponent

NEXT_ORDER_DAYS = 730                      # the horizon of `next_order` in the table predictions

_AMOUNTS = (Field("value"), Rfm(), *map(Bought, BOUGHT))
_CLOCK = tuple(map(Field, CLOCK_FIELDS))

# one row per member
_MEMBERS = """
WITH {relations}
SELECT {everyone}.customer FROM {everyone}
{joins}
WHERE {condition}
ORDER BY {everyone}.customer
"""


@dataclass(frozen=True, slots=True)
class Told:
    """One set of predictions: of one version, for one cutoff."""

    version: str
    cutoff: datetime
    relation: str = ""                     # that holds it; else it was published
    is_one: bool = False                   # it was published at once, a row per customer


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a statement needs to know of the shop."""

    at: datetime                           # as of when
    currency: str | None
    predicted: Mapping[tuple[str, int], Told]    # (question, horizon) -> the set in force
    zone: str = "UTC"                      # of the shop
    zones: tuple[str, ...] = ()            # that customers have of their own
    is_linked: bool = True                 # keys may be one customer by now
    similar: Mapping[Similar, Sequence[str]] = field(default_factory=dict)    # who is

    @property
    def clock(self) -> Clock:
        """As of when, and where the shop is."""
        return Clock(self.at, self.zone)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL, its values, and the views it names."""

    sql: str
    values: dict[str, object]
    views: frozenset[str]


def statement(condition: Condition, known: Known) -> Statement:
    """The statement whose rows are the members of a condition; it holds no `Member`."""
    return _Compiler(known).statement(condition)


def asked(condition: Condition) -> set[tuple[str, int]]:
    """The questions and horizons of the predictions that a condition compares."""
    found = set()
    for one in every(condition):
        match one:
            case Compared(Prediction(question, days)):
                found.add((question, days))
            case Compared(NextOrder()) | Dated(NextOrder()):
                found.add(("next_order", NEXT_ORDER_DAYS))
    return found


def reads_amounts(condition: Condition) -> bool:
    """Whether amounts of money are compared, whose currency must be known."""
    return any(
        isinstance(one, Sum) or (isinstance(one, Compared) and one.operand in _AMOUNTS)
        for one in every(condition)
    )


def reads_clock(condition: Condition) -> bool:
    """Whether days of the shop are asked for, whose time zone must be known."""
    return any(
        isinstance(one, Anniversary)
        or (isinstance(one, Compared) and one.operand in _CLOCK)
        or isinstance(getattr(one, "window", None), (Calendar, InMonth))
        for one in every(condition)
    )


@dataclass(slots=True)
class _Tally:
    """What is counted and added up in one pass over one relation."""

    columns: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    starts: list[datetime | None] = field(default_factory=list)


class _Compiler:
    """A statement in the making: relations and joins are added as conditions ask for them."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._bound = Bound()
        self._relations: dict[str, str] = {}       # by name, in the order in which they rest
        self._joined: dict[str, None] = {}         # those with one row per customer, in order
        self._touched: dict[str, None] = {}        # those of the part that is compiled now
        self._enough: list[list[str]] = []         # in one of each of these is whoever is meant
        self._tallies: dict[str, _Tally] = {}
        self._views: set[str] = set()
        self._lined: set[str] = set()              # names of other events whose lines are read
        self._inside_not = 0                       # how many complements are around
        self._channels: dict[str, str] = {}
        self._paths: dict[tuple[str, ...], int] = {}    # of properties of customers
        self._questions: dict[tuple[str, int], str] = {}
        self._has_properties = False
        self._placed = ""                          # the relation of orders, with what is asked

    def statement(self, condition: Condition) -> Statement:
        """The whole statement."""
        self._has_properties = any(
            reads_properties(one) for one in every(condition) if event_of(one) is not None
        )
        has_lines = any(map(reads_order_lines, every(condition)))
        placed = rows.PLACED_TOLD if self._has_properties else rows.PLACED
        self._placed = placed.format(lines=", lines" if has_lines else "")
        parts = condition.parts if isinstance(condition, And) else (condition,)
        text = self._all_of(parts)
        for relation, tally in self._tallies.items():
            self._relations[f"{relation}_tally"] = self._tallied(relation, tally)
        if self._paths:
            self._relations["known"] = self._known_properties()
        everyone = self._everyone(condition)
        relations = ",".join(self._relations.values())
        joined = [name for name in self._joined if name != everyone]
        joins = "\n".join(f"LEFT JOIN {name} USING (customer)" for name in joined)
        values = {f"v{place}": value for place, value in enumerate(self._bound.values.values())}
        for name, value in self._shared().items():
            if f"${name}" in relations:
                values[name] = value
        sql = _MEMBERS.format(
            relations=relations, everyone=everyone, joins=joins, condition=text
        )
        return Statement(sql, values, frozenset(self._views))

    def _shared(self) -> dict[str, object]:
        currency = self._known.currency or NO_CURRENCY
        unit = Decimal(1).scaleb(-currency_exponent(currency))
        return {"currency": currency, "unit": str(unit), "lined": sorted(self._lined)}

    def _known_properties(self) -> str:
        """The pass over profiles that reads each property once."""
        self._views.add("profiles")
        columns = []
        for path, place in self._paths.items():
            kind, text = json_parts("properties", path, self._bound)
            columns.append(f"{kind} AS kind_{place}, {text} AS text_{place}")
        return f"\nknown AS (SELECT customer, {', '.join(columns)} FROM profiles)"

    def _everyone(self, condition: Condition) -> str:
        """The relation of all who could be meant: everybody, or who has a row in what is joined."""
        if of_nobody(condition) or not self._joined:
            self._views |= {"events", "profile_changes", "consent_history", "identifiers", "links"}
            self._relations["everyone"] = rows.EVERYONE
            return "everyone"
        wanted = min(self._enough, key=len, default=list(self._joined))
        if len(wanted) == 1:
            return wanted[0]
        each = " UNION ".join(f"SELECT customer FROM {name}" for name in wanted)
        self._relations["everyone"] = f"\neveryone AS ({each})"
        return "everyone"

    def _join(self, name: str) -> None:
        """Join a relation with one row per customer."""
        self._joined[name] = None
        self._touched[name] = None

    def _all_of(self, parts: tuple[Condition, ...]) -> str:
        """SQL of all parts; whoever is meant has a row in what any part joins, or is nobody's."""
        told = []
        for part in parts:
            self._touched = {}
            told.append(self._condition(part))
            if not of_nobody(part) and self._touched:
                self._enough.append(list(self._touched))
        return f"({' AND '.join(told)})"

    # -- conditions

    def _condition(self, condition: Condition) -> str:
        match condition:
            case And(parts):
                return f"({' AND '.join(map(self._condition, parts))})"
            case Or(parts):
                return f"({' OR '.join(map(self._condition, parts))})"
            case Not(inner):
                return self._opposite(inner, self._condition)
            case Theirs(inner):
                return self._theirs(inner)
        return self._sure(self._leaf(condition))

    def _opposite(self, inner: Condition, compiled: Callable[[Condition], str]) -> str:
        """The complement, for which what is inside must be true or false and never unknown."""
        self._inside_not += 1
        told = f"(NOT {compiled(inner)})"
        self._inside_not -= 1
        return told

    def _theirs(self, inner: Condition) -> str:
        """The same condition by the clock of each time zone; of who has none, by the shop's."""
        self._views.add("profiles")
        whole = self._known
        zones = [one for one in whole.zones if one != whole.zone]
        self._known = replace(whole, zones=())
        told = self._condition(inner)
        if zones:
            if "theirs" not in self._joined:
                self._joined["theirs"] = None
                self._relations["theirs"] = self._their_zones(zones)
            cases = []
            for zone in zones:
                self._known = replace(whole, zone=zone, zones=())
                cases.append(f"WHEN {self._bound(zone, 'VARCHAR')} THEN {self._condition(inner)}")
            told = f"(CASE theirs.zone {' '.join(cases)} ELSE {told} END)"
        self._known = whole
        return told

    def _their_zones(self, zones: Sequence[str]) -> str:
        """The relation of customers with a time zone of their own."""
        names = [json_parts("properties", (name,), self._bound)[1] for name in THEIR_ZONE]
        return rows.THEIRS.format(
            names=", ".join(names), zones=self._bound(zones, "VARCHAR[]")
        )

    def _sure(self, told: str) -> str:
        """True or false, where it matters: of what is wanted, unknown is as good as false."""
        return f"coalesce({told}, false)" if self._inside_not else told

    def _held(self, counted: str, is_nought: bool) -> str:
        """A count or sum, which is missing of who has no rows: as good as one that is not meant."""
        return f"coalesce({counted}, 0)" if is_nought or self._inside_not else counted

    def _leaf(self, condition: Condition) -> str:
        match condition:
            case Count(operator=operator, number=number):
                counted = self._held(self._tally(condition, "count(*)"), of_nobody(condition))
                return f"({counted} {_sign(operator)} {self._bound(number, 'BIGINT')})"
            case Sum(of=of, operator=operator, amount=amount):
                added = self._tally(condition, f"sum({self._amount(condition.event, of)})")
                told = self._held(added, of_nobody(condition))
                return f"({told} {_sign(operator)} {self._bound.number(amount)})"
            case Followed():
                return f"{self._followed(condition)}.is_in"
            case Compared(operand=operand):
                return compared(self._customer(operand), condition, self._bound)
            case Dated(operand=operand):
                return dated(self._customer(operand), condition, self._known.clock, self._bound)
            case Anniversary(operand=operand):
                forms = self._customer(operand)
                return remembered(forms, condition, self._known.clock, self._bound)
            case Similar():
                return f"{self._similar(condition)}.is_in"
        raise AssertionError(f"audiences are put in the place of their names: {condition}")

    def _customer(self, operand: Operand) -> Forms:
        """What is known of a customer, which is joined."""
        match operand:
            case Profile(path):
                self._join("known")
                place = self._paths.setdefault(path, len(self._paths))
                return of_read(f"known.kind_{place}", f"known.text_{place}")
            case Consent(channel):
                return of_text(f"{self._channel(channel)}.status")
            case ConsentSince(channel):
                return of_date(f"{self._channel(channel)}.since")
            case First(event):
                return of_date(self._tally(Count(event), "min(moment)"))
            case Prediction(question, days):
                return of_number(f"{self._question(question, days)}.value", "DOUBLE")
            case NextOrder():
                return self._next_order()
            case Rfm() | Bought():
                return self._of_orders(operand)
        raise AssertionError("where a customer is compared, no event is")

    def _next_order(self) -> Forms:
        """The date by which an order is as likely as not."""
        told = self._question("next_order", NEXT_ORDER_DAYS)
        if self._known.predicted["next_order", NEXT_ORDER_DAYS].relation:
            return of_date(f"{told}.date")
        ahead = f"CAST(trunc({told}.value * 86400000000.0) AS BIGINT)"
        return of_date(f"({told}.cutoff + to_microseconds({ahead}))")

    def _of_orders(self, operand: Rfm | Bought) -> Forms:
        """What the orders of a customer come to."""
        self._relation("placed")
        if isinstance(operand, Rfm):
            self._relation("told")
            self._relations["grouped"] = rows.RFM
            self._join("grouped")
            return of_text("grouped.rfm")
        self._views.add("shop_settings")
        self._relations["bought"] = rows.BOUGHT
        self._join("bought")
        column = f"bought.{operand.what}"
        return of_number(f"coalesce({column}, 0)" if operand.what == "net_spend" else column)

    def _channel(self, channel: str) -> str:
        if channel not in self._channels:
            name = self._channels[channel] = f"consent_{len(self._channels)}"
            self._views.add("consents")
            self._relations[name] = rows.CONSENT.format(name=name, channel=self._bound(channel))
        self._join(self._channels[channel])
        return self._channels[channel]

    def _question(self, question: str, days: int) -> str:
        if (question, days) not in self._questions:
            name = self._questions[question, days] = f"predicted_{len(self._questions)}"
            self._relations[name] = self._predicted(name, question, days)
        self._join(self._questions[question, days])
        return self._questions[question, days]

    def _predicted(self, name: str, question: str, days: int) -> str:
        """The relation of one set of predictions."""
        told = self._known.predicted[question, days]
        if told.relation:
            return rows.SCORED.format(name=name, relation=told.relation)
        self._views.add("predictions")
        one_each = rows.SINGLE if told.is_one else rows.UNLINKED
        return rows.PREDICTION.format(
            name=name,
            version=self._bound(told.version, "VARCHAR"),
            cutoff=self._bound.instant(told.cutoff),
            question=self._bound(question, "VARCHAR"),
            horizon=self._bound(float(days), "DOUBLE"),
            **(rows.LINKED if self._known.is_linked else one_each),
        )

    def _similar(self, condition: Similar) -> str:
        """The relation of who is similar to an audience, which was looked up before."""
        name = f"similar_{len(self._relations)}"
        who = self._bound(list(self._known.similar[condition]), "VARCHAR[]")
        self._relations[name] = f"\n{name} AS (SELECT unnest({who}) AS customer, true AS is_in)"
        self._join(name)
        return name

    # -- what happened

    def _relation(self, name: str) -> str:
        """A relation of what happened, made when it is first asked for."""
        below = {"placed_lines": "placed", "told_lines": "told"}
        if name in below:
            self._relation(below[name])
        if name not in self._relations:
            text = {
                "placed": self._placed,
                "placed_lines": rows.PLACED_LINES,
                "ordered_lines": rows.ORDERED,
                "told": rows.TOLD,
                "told_lines": rows.TOLD_LINES,
            }[name]
            views = {
                "placed": {"orders", "events"},
                "told": {"events"},
                "ordered_lines": {"lined", "items"},
            }
            self._relations[name] = text
            self._views |= views.get(name, {"items"})
        return name

    def _of(self, event: str, where: Condition | None) -> str:
        """The relation that holds an event, with its lines where they are compared."""
        if event == ITEM_ORDERED:
            return self._relation("ordered_lines")
        has_lines = where is not None and any(map(reads_lines, every(where)))
        if event == ORDER_PLACED:
            return self._relation("placed_lines" if has_lines else "placed")
        if has_lines:
            self._lined.add(event)
        return self._relation("told_lines" if has_lines else "told")

    def _chosen(
        self, event: str, window: Window | None, where: Condition | None, *, is_named: bool
    ) -> str:
        """SQL that is true of the rows that count."""
        around, self._inside_not = self._inside_not, 0    # rows that are unknown do not count
        parts = [f"name = {self._bound(event, 'VARCHAR')}"] if is_named else []
        if window is not None:
            parts.append(within("moment", window, self._known.clock, self._bound))
        if where is not None:
            parts.append(self._row(where, event))
        self._inside_not = around
        return " AND ".join(parts) or "true"

    def _row(self, where: Condition, event: str) -> str:
        """SQL of a condition on one row."""
        match where:
            case And(parts):
                return f"({' AND '.join(self._row(one, event) for one in parts)})"
            case Or(parts):
                return f"({' OR '.join(self._row(one, event) for one in parts)})"
            case Not(inner):
                return self._opposite(inner, lambda one: self._row(one, event))
            case Compared(operand=operand):
                return self._sure(compared(self._told(operand, event), where, self._bound))
            case Dated(operand=operand):
                forms, clock = self._told(operand, event), self._known.clock
                return self._sure(dated(forms, where, clock, self._bound))
        raise AssertionError("where holds comparisons of what one event is told with")

    def _told(self, operand: Operand, event: str) -> Forms:
        """What an event is told with."""
        match operand:
            case Field(name) if name in CLOCK_FIELDS:
                return of_clock(name, "moment", self._known.zone, self._bound)
            case Field(name):
                return of_number(name) if name in NUMBER_FIELDS else of_text(name)
            case Property(path) if event != ITEM_ORDERED:
                return of_json("properties", path, self._bound)
            case Property(path):
                raise BadAudience(
                    f"item_ordered has no {'.'.join(path)!r}\n"
                    f"hint: a line has value, source, {', '.join(LINE_FIELDS)}"
                )
        raise AssertionError("where an event is compared, no customer is")

    def _amount(self, event: str, of: Field | Property) -> str:
        if of == Field("quantity") and event != ITEM_ORDERED:
            raise BadAudience(f"{event} has no quantity\nhint: sum of item_ordered quantity")
        return self._told(of, event).number

    def _tally(self, condition: Count | Sum, aggregate: str) -> str:
        """The column with how many, or how much, of each customer."""
        event, window, where = condition.event, condition.window, condition.where
        relation = self._of(event, where)
        is_named = relation in ("told", "told_lines")
        chosen = self._chosen(event, window, where, is_named=is_named)
        if relation in ("placed_lines", "told_lines"):
            return self._once(relation, aggregate, chosen)
        tally = self._tallies.setdefault(relation, _Tally())
        name = f"n{len(tally.columns)}"
        tally.columns.append(f"{aggregate} FILTER (WHERE {chosen}) AS {name}")
        tally.names.add(event)
        tally.starts.append(bounds(window, self._known.at, self._known.zone)[0])
        self._join(f"{relation}_tally")
        return f"{relation}_tally.{name}"

    def _tallied(self, relation: str, tally: _Tally) -> str:
        """The pass over one relation; rows that no column counts are left out before."""
        parts = ["customer IS NOT NULL"]
        if relation == "told":
            parts.append(f"name IN (SELECT unnest({self._bound(sorted(tally.names))}))")
        starts = [one for one in tally.starts if one is not None]
        if starts and len(starts) == len(tally.starts):
            parts.append(f"moment >= {self._bound.instant(min(starts))}")
        columns = ", ".join(tally.columns)
        return (
            f"\n{relation}_tally AS (SELECT customer, {columns} FROM {relation}"
            f" WHERE {' AND '.join(parts)} GROUP BY customer)"
        )

    def _once(self, relation: str, aggregate: str, chosen: str) -> str:
        """A pass over lines of its own, in which an event counts once whichever lines are meant."""
        name = f"once_{len(self._relations)}"
        amount = "0" if aggregate == "count(*)" else aggregate.removeprefix("sum")
        total = "count(*)" if aggregate == "count(*)" else "sum(amount)"
        self._relations[name] = (
            f"\n{name} AS (SELECT customer, {total} AS n FROM ("
            f"SELECT DISTINCT customer, id, {amount} AS amount FROM {relation} WHERE {chosen})"
            " GROUP BY customer)"
        )
        self._join(name)
        return f"{name}.n"

    # -- sequences

    def _followed(self, condition: Followed) -> str:
        """The relation of who did a sequence, made from its end."""
        first = Step(condition.event, None, condition.where)
        steps = (first, *condition.steps)
        last = steps[-1]
        since = bounds(condition.window, self._known.at, self._known.zone)[0]
        after = f"({self._rows(last, None, since)})"
        for place in range(len(steps) - 2, -1, -1):
            window = condition.window if place == 0 else None
            name = f"step_{len(self._relations)}"
            shape = rows.NOT_FOLLOWED if steps[place + 1].is_absent else rows.FOLLOWED
            self._relations[name] = shape.format(
                name=name,
                rows=self._rows(steps[place], window, since if place else None),
                after=after,
                within=self._in_time(steps[place + 1]),
            )
            after = name
        done = f"done_{len(self._relations)}"
        told = f"SELECT DISTINCT customer, true AS is_in FROM {after} AS a"
        self._relations[done] = f"\n{done} AS ({told})"
        self._join(done)
        return done

    def _in_time(self, step: Step) -> str:
        """SQL: that a step follows in time, or (absent) did not and cannot any more."""
        if step.within is None:
            return "b.moment IS NULL" if step.is_absent else "true"
        length = self._bound(step.within.length // timedelta(microseconds=1), "BIGINT")
        late = f"a.moment + to_microseconds({length})"
        if step.is_absent:
            over = f"{late} <= {self._bound.instant(self._known.at)}"
            return f"{over} AND (b.moment IS NULL OR b.moment > {late})"
        return f"b.moment <= {late}"

    def _rows(self, step: Step, window: Window | None, since: datetime | None = None) -> str:
        """A query of the rows of one step: customer and instant; none are before `since`."""
        after = "" if since is None else f" AND moment >= {self._bound.instant(since)}"
        relation = self._of(step.event, step.where)
        is_named = relation in ("told", "told_lines")
        chosen = self._chosen(step.event, window, step.where, is_named=is_named)
        return f"SELECT customer, moment FROM {relation} WHERE {chosen}{after}"


def _sign(operator: Order) -> str:
    return "<>" if operator == "!=" else operator
