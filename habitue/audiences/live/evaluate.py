"""Does a condition hold of one customer at an instant, and until when at least.

A condition becomes a function once; it is then asked of what is known of a customer at an instant
(µs). `until` is the earliest instant after it at which the answer may be another one though nothing
new is told: an event leaves a window or comes into it, the time of a sequence is over, a date
arrives. Asking too early does no harm: the answer is then the same, with another `until`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from habitue.audiences.compile import of_nobody
from habitue.audiences.language.nodes import (
    LINE_FIELDS,
    And,
    Compared,
    Condition,
    Consent,
    Count,
    Dated,
    Field,
    Followed,
    NextOrder,
    Not,
    Operand,
    Or,
    Prediction,
    Profile,
    Property,
    Rfm,
    Step,
    Sum,
    every,
)
from habitue.audiences.language.windows import (
    After,
    Ago,
    Before,
    Between,
    Earlier,
    Last,
    Next,
    Window,
)
from habitue.audiences.live.facts import NEVER, View
from habitue.audiences.live.orders import Row, rows
from habitue.audiences.live.values import SIGNS, date_of, number_of, reached, tested, tested_float
from habitue.errors import BadAudience
from habitue.events import ITEM_ORDERED, ORDER_PLACED, ORDER_UPDATED
from habitue.lake.live.told import microseconds

Answer: TypeAlias = tuple[bool, int]  # whether it holds, and until when at least
Asked: TypeAlias = Callable[[View, int], Answer]
Reach: TypeAlias = tuple[int | None, int]  # (after, until] from an instant, µs; none: ever since

_ORDERS = (ORDER_PLACED, ORDER_UPDATED, ITEM_ORDERED, "order_cancelled")
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Ready:
    """A condition that can be asked."""

    asked: Asked
    reads: frozenset[str]  # names of events, profiles, consents, items, predictions
    of_nobody: bool  # whether it holds of those of whom nothing is known

    def holds(self, view: View, time: int) -> Answer:
        """Whether a customer is in the audience at an instant, and until when at least."""
        if not view.exists:
            return False, view.until
        told, until = self.asked(view, time)
        return told, min(until, view.until)


def prepared(condition: Condition) -> Ready:
    """The condition as a function; audiences stand in the place of their names.

    Raises:
        BadAudience: something in it cannot be followed live.
    """
    return Ready(_Preparing().asked(condition), frozenset(_reads(condition)), of_nobody(condition))


def _reads(condition: Condition) -> set[str]:
    """What may change the answer when it is told."""
    found = set()
    for one in every(condition):
        match one:
            case Count(event=event) | Sum(event=event):
                found |= _events(event)
            case Followed(event=event, steps=steps):
                found |= set().union(*map(_events, (event, *(step.event for step in steps))))
            case Compared(Field(name)) if name in LINE_FIELDS:
                found.add("items")
            case Compared(operand=operand) | Dated(operand=operand):
                found |= _READS.get(type(operand), set())
    return found


_READS: dict[type, set[str]] = {
    Profile: {"profiles"},
    Consent: {"consents"},
    Prediction: {"predictions"},
    NextOrder: {"predictions"},
    Rfm: {"rfm", *_ORDERS, "order_refunded"},
}


def _events(event: str) -> set[str]:
    return set(_ORDERS) if event in (ORDER_PLACED, ITEM_ORDERED) else {event}


# what is compared of events -> a number, under which views keep the rows that it means
_NUMBERS: dict[tuple[str, Condition | None], int] = {}


class _Preparing:
    """Functions in the making."""

    def asked(self, condition: Condition) -> Asked:
        """A condition on a customer."""
        match condition:
            case And(parts):
                return _joined([self.asked(one) for one in parts], stops=False)
            case Or(parts):
                return _joined([self.asked(one) for one in parts], stops=True)
            case Not(inner):
                return _opposite(self.asked(inner))
            case Count():
                return self._count(condition)
            case Sum():
                return self._sum(condition)
            case Followed():
                return self._followed(condition)
            case Compared() | Dated():
                return self._known(condition)
        raise unknown(condition)

    def _known(self, condition: Compared | Dated) -> Asked:
        held = _held(condition.operand)
        if isinstance(condition, Dated):
            inside = _inside(condition.window)
            if isinstance(condition.operand, NextOrder):
                return lambda view, time: inside(held(view), time)
            return lambda view, time: inside(date_of(held(view)), time)
        is_chance = isinstance(condition.operand, Prediction)
        test = tested_float(condition) if is_chance else tested(condition)
        return lambda view, time: (test(held(view)), NEVER)

    # -- what happened

    def _rows(
        self, event: str, where: Condition | None
    ) -> Callable[[View, int], tuple[list[Row], int]]:
        """The rows that a `where` means, an event once, in time; until when they are the same."""
        number = _NUMBERS.setdefault((event, where), len(_NUMBERS))
        lined = where is not None and any(map(_reads_lines, every(where)))
        meets = None if where is None else _row(where, event)
        is_still = where is None or not any(map(_moves, every(where)))

        def found(view: View, time: int) -> tuple[list[Row], int]:
            if is_still and (kept := view.matches.get(number)) is not None:
                return kept, NEVER
            until = NEVER
            chosen: dict[object, Row] = {}
            for one in rows(view, event, lined=lined):
                if meets is not None:
                    holds, then = meets(one, time)
                    until = min(until, then)
                    if not holds:
                        continue
                chosen[one.id] = one
            told = sorted(chosen.values(), key=lambda one: one.time)
            if is_still:
                view.matches[number] = told
            return told, until

        return found

    def _count(self, condition: Count) -> Asked:
        found = self._rows(condition.event, condition.where)
        compare, number = SIGNS[condition.operator], condition.number
        window = condition.window
        if isinstance(window, Last):
            return _latest(found, _reach(window), lambda count: compare(count, number))

        def counted(view: View, time: int) -> Answer:
            told, until = found(view, time)
            inside, then = _within(told, window, time)
            return compare(len(inside), number), min(until, then)

        return counted

    def _sum(self, condition: Sum) -> Asked:
        _refuse_quantity(condition)
        found = self._rows(condition.event, condition.where)
        compare, amount = SIGNS[condition.operator], condition.amount
        held, window = _told(condition.of, condition.event), condition.window

        def added(view: View, time: int) -> Answer:
            told, until = found(view, time)
            inside, then = _within(told, window, time)
            amounts = (number_of(held(one)) for one in inside)
            total = sum((one for one in amounts if one is not None), Decimal(0))
            return compare(total, amount), min(until, then)

        return added

    def _followed(self, condition: Followed) -> Asked:
        first = self._rows(condition.event, condition.where)
        steps = [(step, self._rows(step.event, step.where)) for step in condition.steps]
        window = condition.window

        def followed(view: View, time: int) -> Answer:
            told, until = first(view, time)
            inside, then = _within(told, window, time)
            until = min(until, then)
            here = [one.time for one in inside]
            for step, found in steps:
                after, then = found(view, time)
                here, over = _next(here, step, [one.time for one in after], time)
                until = min(until, then, over)
            return bool(here), until

        return followed


def _joined(parts: list[Asked], *, stops: bool) -> Asked:
    """And, or: as soon as one part decides, the answer stands as long as that part's does."""

    def joined(view: View, time: int) -> Answer:
        until = NEVER
        for part in parts:
            holds, then = part(view, time)
            if holds is stops:
                return stops, then
            until = min(until, then)
        return not stops, until

    return joined


def _opposite(inner: Asked) -> Asked:
    def opposite(view: View, time: int) -> Answer:
        holds, until = inner(view, time)
        return not holds, until

    return opposite


def _latest(
    found: Callable[[View, int], tuple[list[Row], int]],
    reach: Reach,
    holds: Callable[[int], bool],
) -> Asked:
    """A count over the last so long: it only falls, and each row's leaving has its instant."""
    assert reach[0] is not None, "the last so long has a length"
    length = -reach[0]

    def counted(view: View, time: int) -> Answer:
        told, until = found(view, time)
        start = bisect_right(told, time - length, key=_time)
        inside = bisect_right(told, time, key=_time) - start
        now = holds(inside)
        # the first of them whose leaving changes the answer
        for gone in range(inside):
            if holds(inside - gone - 1) is not now:
                return now, min(until, told[start + gone].time + length)
        return now, until

    return counted


def _time(row: Row) -> int:
    return row.time


def _within(told: list[Row], window: Window | None, time: int) -> tuple[Sequence[Row], int]:
    """The rows inside a window, and when the next one comes into it or leaves it."""
    match window:
        case None:
            return told, NEVER
        case Before() | After() | Between():
            start, end = _dates(window)
            first, last = (bisect_left(told, one, key=_time) for one in (start, end))
            return told[first:last], NEVER
    after, until = _reach(window)
    first = 0 if after is None else bisect_right(told, time + after, key=_time)
    last = bisect_right(told, time + until, key=_time)
    then = NEVER
    if after is not None and first < last:
        then = told[first].time - after
    if last < len(told):
        then = min(then, told[last].time - until)
    return told[first:last], then


def _next(here: list[int], step: Step, after: list[int], time: int) -> tuple[list[int], int]:
    """The instants of a step that follow those of the step before, and when that may change.

    Of a step that is absent, those of the step before that nothing follows, its time being over.
    """
    length = None if step.within is None else step.within.length // _TICK
    found, until = set(), NEVER
    for one in here:
        start = bisect_right(after, one)
        end = time if length is None else one + length
        stop = bisect_right(after, end)
        if not step.is_absent:
            found.update(after[start:stop])
        elif start == stop and end <= time:
            found.add(one)
        elif start == stop:
            until = min(until, end)
    return sorted(found), until


# -- comparisons


def _held(operand: Operand) -> Callable[[View], Any]:
    """What is known of a customer."""
    match operand:
        case Profile(path):
            return lambda view: reached(view.properties, path)
        case Consent(channel):
            return lambda view: view.consents.get(channel)
        case Prediction(question, days):
            return lambda view: view.predicted(question, days)
        case NextOrder():
            return lambda view: view.next_order()
        case Rfm():
            return lambda view: view.group
    raise unknown(operand)


def _told(operand: Operand, event: str) -> Callable[[Row], Any]:
    """What an event is told with."""
    match operand:
        case Field(name):
            return lambda row: row.fields.get(name)
        case Property(path) if event != ITEM_ORDERED:
            return lambda row: reached(row.properties, path)
        case Property(path):
            raise BadAudience(
                f"item_ordered has no {'.'.join(path)!r}\n"
                f"hint: a line has value, source, {', '.join(LINE_FIELDS)}"
            )
    raise unknown(operand)


def _row(where: Condition, event: str) -> Callable[[Row, int], Answer]:
    """A condition on one row."""
    match where:
        case And(parts) | Or(parts):
            each = [_row(one, event) for one in parts]
            stops = isinstance(where, Or)

            def joined(row: Row, time: int) -> Answer:
                told = [one(row, time) for one in each]
                is_met = any(met for met, _ in told) if stops else all(met for met, _ in told)
                return is_met, min(then for _, then in told)

            return joined
        case Not(inner):
            opposite = _row(inner, event)

            def opposed(row: Row, time: int) -> Answer:
                met, then = opposite(row, time)
                return not met, then

            return opposed
        case Compared():
            held, test = _told(where.operand, event), tested(where)
            return lambda row, _: (test(held(row)), NEVER)
        case Dated(operand, window):
            dated, inside = _told(operand, event), _inside(window)
            return lambda row, time: inside(date_of(dated(row)), time)
    raise unknown(where)


def _inside(window: Window) -> Callable[[int | None, int], Answer]:
    """Whether a date is in a window as of an instant, and until when that stands."""
    match window:
        case Before() | After() | Between():
            start, end = _dates(window)
            return lambda date, _: (date is not None and start <= date < end, NEVER)
    after, until = _reach(window)

    def inside(date: int | None, time: int) -> Answer:
        if date is None:
            return False, NEVER
        turns = [date - until] + ([] if after is None else [date - after])
        then = min((one for one in turns if one > time), default=NEVER)
        return date <= time + until and (after is None or date > time + after), then

    return inside


def _reach(window: Window) -> Reach:
    match window:
        case Last(span):
            return -(span.length // _TICK), 0
        case Next(span):
            return 0, span.length // _TICK
        case Ago(span):
            return None, -(span.length // _TICK)
        case Earlier(far, near):
            return -(far.length // _TICK), -(near.length // _TICK)
    raise unknown(window)


def _dates(window: Before | After | Between) -> tuple[int, int]:
    match window:
        case Before(at):
            return -NEVER, microseconds(at)
        case After(at):
            return microseconds(at), NEVER
        case Between(start, end):
            return microseconds(start), microseconds(end)
    raise unknown(window)


def _reads_lines(condition: Condition) -> bool:
    match condition:
        case Compared(Field(name)):
            return name in LINE_FIELDS
    return False


def _moves(condition: Condition) -> bool:
    """Whether time alone changes what a comparison on a row says."""
    match condition:
        case Dated(window=window):
            return not isinstance(window, (Before, After, Between))
    return False


def _refuse_quantity(condition: Sum) -> None:
    if condition.of == Field("quantity") and condition.event != ITEM_ORDERED:
        raise BadAudience(f"{condition.event} has no quantity\nhint: sum of item_ordered quantity")


def unknown(part: object) -> BadAudience:
    """The error for what cannot be followed live."""
    return BadAudience(
        f"{type(part).__name__} cannot be followed live yet: an audience that is saved is followed"
        " from event to event\nhint: ask for it once with `habitue audience`, without --save"
    )
