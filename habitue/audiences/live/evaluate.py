"""Does a condition hold of one customer at an instant, and until when at least.

A condition becomes a function once; it is then asked of what is known of a customer at an instant
(µs). `until` is the earliest instant after it at which the answer may be another one though nothing
new is told: an event leaves a window or comes into it, the time of a sequence is over, a date
arrives. Asking too early does no harm: the answer is then the same, with another `until`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from habitue.audiences.asking import of_nobody, reads_lines
from habitue.audiences.language.calendar import anniversaries, zone_of
from habitue.audiences.language.nodes import (
    CLOCK_FIELDS,
    LINE_FIELDS,
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
from habitue.audiences.language.windows import (
    After,
    Ago,
    Before,
    Between,
    Calendar,
    Earlier,
    InMonth,
    Last,
    Next,
    Window,
    bounds,
    days,
)
from habitue.audiences.live.asking.matched import PLACES, Answer, Matched, Meaning, Summed, moments
from habitue.audiences.live.asking.steering import of_event, reach, reads, settled
from habitue.audiences.live.bought import bought, known_of
from habitue.audiences.live.clock import Moment, day_of, is_in_month, next_day, shown
from habitue.audiences.live.facts import NEVER, View
from habitue.audiences.live.orders import Row, rows
from habitue.audiences.live.scored import drift
from habitue.audiences.live.values import SIGNS, date_of, reached, tested, tested_float
from habitue.errors import BadAudience
from habitue.events import ITEM_ORDERED
from habitue.lake.live.told import instant, microseconds

Asked: TypeAlias = Callable[[View, int], Answer]
Compares: TypeAlias = tuple[str, Condition | None]  # of an event: a `where`
Found: TypeAlias = Callable[[View, int], tuple[Matched, int]]  # rows, and until when they are so
Inside: TypeAlias = tuple[int, int, int]  # from and to a place, and until when that is so
Reach: TypeAlias = tuple[int | None, int]  # (after, until] from an instant, µs; none: ever since

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Ready:
    """A condition that can be asked."""

    asked: Asked
    reads: frozenset[str]  # names of events, profiles, consents, items, predictions
    of_nobody: bool  # whether it holds of those of whom nothing is known
    settled: Mapping[str, bool]  # kinds of rows that leave an answer as it is, and which answer
    drifting: tuple[drift.Drifting, ...] = ()      # its comparisons that silence alone moves
    # what it compares, where that is no more than when events happened; none: it asks for more
    moments: tuple[Meaning, ...] | None = None
    similar: tuple[Similar, ...] = ()      # of what it asks who is similar to it
    reach: int | None = None  # how far back events are looked at at most, µs; none: all are

    def holds(self, view: View, time: int) -> Answer:
        """Whether a customer is in the audience at an instant, and until when at least."""
        if not view.exists:
            return False, view.until
        told, until = self.asked(view, time)
        return told, min(until, view.until)


def prepared(
    condition: Condition, zone: str = "UTC", meanings: dict[Compares, Meaning] | None = None
) -> Ready:
    """The condition as a function; audiences stand in the place of their names.

    `zone` is the shop's, by whose days windows of the calendar are told. Conditions that are
    prepared with the same `meanings` share what they compare of events.

    Raises:
        BadAudience: something in it cannot be followed live.
    """
    preparing = _Preparing(zone, {} if meanings is None else meanings)
    asked = preparing.asked(condition)
    drifting = tuple({one.key: one for one in preparing.drifting}.values())
    return Ready(
        asked, reads(condition), of_nobody(condition), settled(condition), drifting,
        moments(condition, list(preparing.compared)), tuple(preparing.similar), reach(condition),
    )  # fmt: skip


class _Preparing:
    """Functions in the making."""

    def __init__(self, zone: str, meanings: dict[Compares, Meaning]) -> None:
        self._zone, self._meanings = zone, meanings
        self.compared: dict[Meaning, None] = {}
        self.drifting: list[drift.Drifting] = []
        self.similar: dict[Similar, None] = {}

    def asked(self, condition: Condition) -> Asked:
        """A condition on a customer."""
        match condition:
            case And(parts):
                return _joined([self.asked(one) for one in parts], stops=False)
            case Or(parts):
                return _joined([self.asked(one) for one in parts], stops=True)
            case Not(inner):
                return _opposite(self.asked(inner))
            case Theirs(inner):
                return self._theirs(inner)
            case Compared() | Dated() | Anniversary():
                return self._known(condition)
        return self._happened(condition)

    def _happened(self, condition: Condition) -> Asked:
        match condition:
            case Count():
                return self._count(condition)
            case Sum():
                return self._sum(condition)
            case Followed():
                return self._followed(condition)
            case Similar():
                self.similar[condition] = None
                return lambda view, time: view.shop.near[condition].of(view.name, time)
        raise unknown(condition)

    def _theirs(self, inner: Condition) -> Asked:
        """By the clock of the customer's own time zone, or of the shop's."""
        shop, by_zone = self._zone, {self._zone: self.asked(inner)}

        def theirs(view: View, time: int) -> Answer:
            zone = zone_of(view.properties, shop)
            asked = by_zone.get(zone)
            if asked is None:
                asked = by_zone[zone] = _Preparing(zone, {}).asked(inner)
            return asked(view, time)

        return theirs

    def _known(self, condition: Compared | Dated | Anniversary) -> Asked:
        if isinstance(condition.operand, (Prediction, NextOrder)):
            return self._predicted(condition)
        held = _held(condition.operand)
        match condition:
            case Dated():
                inside = _inside(condition.window, self._zone)
            case Anniversary():
                inside = _remembered(condition.window, self._zone)
            case Compared():
                test = tested(condition)
                return lambda view, time: (test(held(view)), NEVER)
        return lambda view, time: inside(held(view), time)

    def _predicted(self, condition: Compared | Dated | Anniversary) -> Asked:
        """By the customer's curve where the shop is scored; else by what was published."""
        held = _held(condition.operand)
        match condition:
            case Dated(window=window):
                inside = _inside(window, self._zone)
                moving = drift.dated(condition, inside, _reached(window), self._zone)
            case Compared(operand=operand):
                is_chance = isinstance(operand, Prediction)
                test = tested_float(condition) if is_chance else tested(condition)
                moving = drift.compared(condition, test, self._zone)

                def inside(held: Any, _: int) -> Answer:
                    return test(held), NEVER

            case _:
                raise unknown(condition)
        self.drifting.append(moving)

        def predicted(view: View, time: int) -> Answer:
            if moving.asked in view.shop.scored:
                return moving.of(view, time)
            return inside(held(view), time)

        return predicted

    # -- what happened

    def _rows(self, event: str, where: Condition | None) -> Found:
        """The rows that a `where` means, an event once, in time; until when they are the same."""
        found = self._meanings.get((event, where))
        if found is None:
            found = self._meanings[event, where] = _meaning(event, where, self._zone)
        self.compared[found] = None
        return found.found

    def _count(self, condition: Count) -> Asked:
        found = self._rows(condition.event, condition.where)
        compare, number = SIGNS[condition.operator], condition.number
        if isinstance(condition.window, Last):
            return _latest(found, _reach(condition.window), (condition.operator, number))
        within = _within(condition.window, self._zone)

        def counted(view: View, time: int) -> Answer:
            told, until = found(view, time)
            first, last, then = within(told.times, time)
            return compare(last - first, number), min(until, then)

        return counted

    def _sum(self, condition: Sum) -> Asked:
        _refuse_quantity(condition)
        found = self._rows(condition.event, condition.where)
        compare, amount = SIGNS[condition.operator], condition.amount.scaleb(PLACES)
        within = _within(condition.window, self._zone)
        what = Summed(_told(condition.of, condition.event, self._zone))

        def added(view: View, time: int) -> Answer:
            told, until = found(view, time)
            first, last, then = within(told.times, time)
            sums = told.summed(what)
            return compare(sums[last] - sums[first], amount), min(until, then)

        return added

    def _followed(self, condition: Followed) -> Asked:
        first = self._rows(condition.event, condition.where)
        steps = [
            (_next(step), self._rows(step.event, step.where)) for step in condition.steps
        ]  # fmt: skip
        within = _within(condition.window, self._zone)

        def followed(view: View, time: int) -> Answer:
            told, until = first(view, time)
            start, end, then = within(told.times, time)
            until = min(until, then)
            here: Sequence[int] = told.times[start:end]
            for following, found in steps:
                if not here:
                    break
                after, then = found(view, time)
                here, over = following(here, after.times, time)
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


def _meaning(event: str, where: Condition | None, zone: str) -> Meaning:
    inside = [] if where is None else list(every(where))
    return Meaning(
        event=event,
        meets=None if where is None else _row(where, event, zone),
        lined=any(map(reads_lines, inside)),
        is_still=not any(map(_moves, inside)),
        reads=of_event(event),
    )


def _latest(found: Found, reach: Reach, wanted: tuple[str, int]) -> Asked:
    """A count over the last so long: it only falls, and each row's leaving has its instant."""
    assert reach[0] is not None, "the last so long has a length"
    length, (sign, number) = -reach[0], wanted
    holds = SIGNS[sign]
    # the counts at which the answer becomes another one, when it falls
    turns = {">=": (number - 1,), "<": (number - 1,), ">": (number,), "<=": (number,)}.get(
        sign, (number, number - 1)
    )

    def counted(view: View, time: int) -> Answer:
        told, until = found(view, time)
        times = told.times
        start = bisect_right(times, time - length)
        inside = bisect_right(times, time, start) - start
        for count in turns:
            if 0 <= count < inside:  # the row whose leaving changes the answer
                until = min(until, times[start + inside - count - 1] + length)
                break
        return holds(inside, number), until

    return counted


def _within(window: Window | None, zone: str) -> Callable[[Sequence[int], int], Inside]:
    """The rows inside a window, from and to, and when the next one comes into it or leaves it."""
    match window:
        case None:
            return lambda times, _: (0, len(times), NEVER)
        case Before() | After() | Between():
            start, end = _dates(window)
            return lambda times, _: (bisect_left(times, start), bisect_left(times, end), NEVER)
        case Calendar():

            def on_days(times: Sequence[int], time: int) -> Inside:
                start, end = map(microseconds, _sure(bounds(window, instant(time), zone)))
                return bisect_left(times, start), bisect_left(times, end), next_day(time, zone)

            return on_days
    after, until = _reach(window)

    def inside(times: Sequence[int], time: int) -> Inside:
        first = 0 if after is None else bisect_right(times, time + after)
        last = bisect_right(times, time + until)
        then = NEVER
        if after is not None and first < last:
            then = times[first] - after
        if last < len(times):
            then = min(then, times[last] - until)
        return first, last, then

    return inside


def _next(step: Step) -> Callable[[Sequence[int], Sequence[int], int], tuple[list[int], int]]:
    """The instants of a step that follow those of the step before, and when that may change.

    Of a step that is absent, those of the step before that nothing follows, its time being over.
    """
    length = None if step.within is None else step.within.length // _TICK

    def there(here: Sequence[int], after: Sequence[int], time: int) -> tuple[list[int], int]:
        found: set[int] = set()
        for one in here:
            end = time if length is None else one + length
            found.update(after[bisect_right(after, one) : bisect_right(after, end)])
        return sorted(found), NEVER

    def absent(here: Sequence[int], after: Sequence[int], time: int) -> tuple[list[int], int]:
        found, until = [], NEVER
        for one in here:
            end = time if length is None else one + length
            if bisect_right(after, one) == bisect_right(after, end):
                if end <= time:
                    found.append(one)
                else:
                    until = min(until, end)
        return found, until

    return absent if step.is_absent else there


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
        case Rfm():
            return lambda view: view.group
        case Bought(what):
            return lambda view: known_of(bought(view), what)
    return _held_date(operand)


def _held_date(operand: Operand) -> Callable[[View], Any]:
    """A date that is known of a customer."""
    match operand:
        case NextOrder():
            return lambda view: _moment(view.next_order())
        case ConsentSince(channel):
            return lambda view: _moment(view.consents_since.get(channel))
        case First(event):
            return lambda view: _moment(
                min((row.time for row in rows(view, event, lined=False)), default=None)
            )
    raise unknown(operand)


def _moment(time: int | None) -> Moment | None:
    return None if time is None else Moment(time)


def _told(operand: Operand, event: str, zone: str) -> Callable[[Row], Any]:
    """What an event is told with."""
    match operand:
        case Field(name) if name in CLOCK_FIELDS:
            return lambda row: shown(name, row.time, zone)
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


def _row(where: Condition, event: str, zone: str) -> Callable[[Row, int], Answer]:
    """A condition on one row."""
    match where:
        case And(parts) | Or(parts):
            each = [_row(one, event, zone) for one in parts]
            stops = isinstance(where, Or)

            def joined(row: Row, time: int) -> Answer:
                told = [one(row, time) for one in each]
                is_met = any(met for met, _ in told) if stops else all(met for met, _ in told)
                return is_met, min(then for _, then in told)

            return joined
        case Not(inner):
            opposite = _row(inner, event, zone)

            def opposed(row: Row, time: int) -> Answer:
                met, then = opposite(row, time)
                return not met, then

            return opposed
        case Compared():
            held, test = _told(where.operand, event, zone), tested(where)
            return lambda row, _: (test(held(row)), NEVER)
        case Dated(operand, window):
            dated, inside = _told(operand, event, zone), _inside(window, zone)
            return lambda row, time: inside(dated(row), time)
    raise unknown(where)


def _inside(window: Window, zone: str) -> Callable[[Any, int], Answer]:
    """Whether a date, an instant or a text, is in a window, and until when that stands."""
    match window:
        case Before() | After() | Between():
            start, end = _dates(window)

            def between(held: Any, _: int) -> Answer:
                date = _instant(held)
                return date is not None and start <= date < end, NEVER

            return between
        case Calendar():

            def among(held: Any, time: int) -> Answer:
                day = day_of(held, zone)
                first, last = days(window, instant(time), zone)
                return day is not None and first <= day <= last, next_day(time, zone)

            return among
        case InMonth():
            return lambda held, _: (is_in_month(held, window.number, zone), NEVER)
    after, until = _reach(window)

    def inside(held: Any, time: int) -> Answer:
        date = _instant(held)
        if date is None:
            return False, NEVER
        turns = [date - until] + ([] if after is None else [date - after])
        then = min((one for one in turns if one > time), default=NEVER)
        return date <= time + until and (after is None or date > time + after), then

    return inside


def _remembered(window: Calendar | Last | Next, zone: str) -> Callable[[Any, int], Answer]:
    """Whether the day and month of a date, in a later year, are among some days of the shop."""

    def remembered(held: Any, time: int) -> Answer:
        day = day_of(held, zone)
        until = next_day(time, zone)
        if day is None:
            return False, NEVER
        code = day.month * 100 + day.day
        among = anniversaries(*days(window, instant(time), zone))
        return any(code in codes and day.year < year for year, codes in among.items()), until

    return remembered


def _instant(held: Any) -> int | None:
    return held.time if isinstance(held, Moment) else date_of(held)


def _sure(told: tuple[datetime | None, datetime | None]) -> tuple[datetime, datetime]:
    start, end = told
    assert start is not None, "a window of the calendar has a first day"
    assert end is not None, "a window of the calendar has a last day"
    return start, end


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


def _reached(window: Window) -> dict[str, tuple[int | None, ...]]:
    """How far ahead a window begins and ends, or the dates at which it does."""
    match window:
        case Before() | After() | Between():
            return {"dates": _dates(window)}
        case Calendar():
            return {}
    return {"ahead": _reach(window)}


def _dates(window: Before | After | Between) -> tuple[int, int]:
    match window:
        case Before(at):
            return -NEVER, microseconds(at)
        case After(at):
            return microseconds(at), NEVER
        case Between(start, end):
            return microseconds(start), microseconds(end)
    raise unknown(window)


def _moves(condition: Condition) -> bool:
    """Whether time alone changes what a comparison on a row says."""
    match condition:
        case Dated(window=window):
            return not isinstance(window, (Before, After, Between, InMonth))
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
