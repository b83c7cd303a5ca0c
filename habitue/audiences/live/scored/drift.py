"""Does a comparison with a prediction hold of a customer, and until when: silence moves it, too.

A comparison has sides: is the value at least a number, is the date of the next order before an
instant or more than so far ahead. As long as no side is another one, the answer stands. Within a
piece of a curve (see `Reading.turns`) each side changes once at most, so the first change is found
by cutting up the first piece whose end is on another side, to the microsecond.
"""

# C customers · K pieces · S sides · P points that a piece is cut at
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from habitue.audiences.compile import NEXT_ORDER_DAYS
from habitue.audiences.language.nodes import Compared, Dated, Prediction
from habitue.audiences.language.windows import Calendar, Window, bounds
from habitue.audiences.live.clock import Moment, next_day
from habitue.audiences.live.facts import NEVER, Facts, Shop, View
from habitue.audiences.live.scored.curves import Curve, Reading
from habitue.lake.live.told import instant, microseconds

_DAY = 86_400_000_000                      # µs
_CUTS = 32                                 # of a piece at once

Inside = Callable[[object, int], tuple[bool, int]]
Answer = tuple[bool, int]


@dataclass(frozen=True, slots=True)
class Sides:
    """What a value is compared with."""

    values: tuple[float, ...] = ()         # numbers
    dates: tuple[int, ...] = ()            # instants, µs
    ahead: tuple[int, ...] = ()            # µs from the instant at which it is asked
    has_days: bool = False                 # the calendar's, which are others from day to day


@dataclass(frozen=True, slots=True, eq=False)
class Drifting:
    """A comparison with a prediction of one question; the same node is the same question."""

    node: Compared | Dated
    asked: tuple[str, int]
    sides: Sides
    holds: Callable[[float, int], bool]    # of a value at an instant; NaN: none is told
    zone: str

    @property
    def key(self) -> tuple[object, str]:
        """What is found of a curve is found of this: a node, by the clock of a zone."""
        return self.node, self.zone

    def of(self, view: View, time: int) -> Answer:
        """Whether it holds of a customer at an instant, and until when at least."""
        curve = view.curve
        reading = None if curve is None else view.shop.readings.get(curve.whole)
        if curve is None or reading is None or curve.row is None:
            return self.holds(float("nan"), time), NEVER
        known = curve.found.get(self.key)
        if known is None or not known[0] <= time < known[1]:
            self._find(reading, [curve], np.array([time]))
            known = curve.found[self.key]
        return known[2], known[1]

    def foresee(self, shop: Shop, looks: Iterable[tuple[Facts, int]]) -> None:
        """Find the same of many customers together, each at an instant of their own."""
        waiting: defaultdict[int, list[tuple[Curve, int]]] = defaultdict(list)
        for facts, time in looks:
            curve = facts.curve(time)
            if curve is None or curve.whole is None:
                continue
            known = curve.found.get(self.key)
            if known is None or not known[0] <= time < known[1]:
                waiting[curve.whole].append((curve, time))
        for whole, each in waiting.items():
            if (reading := shop.readings.get(whole)) is not None:
                curves = [curve for curve, _ in each]
                self._find(reading, curves, np.array([time for _, time in each]))

    def _find(self, reading: Reading, curves: Sequence[Curve], times: np.ndarray) -> None:
        """Note of each curve whether it holds at an instant (C,), and until when."""
        asking = _Asking(reading, self, curves, times)
        held = asking.values(np.arange(len(curves)), times)
        until = asking.until(held)
        told = zip(curves, held.tolist(), times.tolist(), until.tolist(), strict=True)
        for curve, value, time, then in told:
            curve.found[self.key] = (time, then, self.holds(value, time))


class _Asking:
    """Some curves, of which the first instant is wanted at which a side is another one."""

    def __init__(
        self, reading: Reading, drifting: Drifting, curves: Sequence[Curve], times: np.ndarray
    ) -> None:
        self._reading, self._drifting, self._times = reading, drifting, times
        self._rows = [curve.row or b"" for curve in curves]
        self._anchors = np.array([curve.anchor for curve in curves], np.int64)
        sides, zone = drifting.sides, drifting.zone
        dates = [
            (*sides.dates, *(_days_of(drifting.node, time, zone) if sides.has_days else ()))
            for time in times.tolist()
        ]
        self._dates = np.array(dates, np.int64).reshape(len(curves), -1)   # (C, dates)
        self._limit = np.array(
            [next_day(time, zone) if sides.has_days else NEVER for time in times.tolist()]
        )

    def values(self, which: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(N,) the values of some curves (N,), by their places, at instants (N,)."""
        rows = [self._rows[place] for place in which.tolist()]
        return self._reading.values(self._drifting.asked, self._anchors[which], rows, times)

    def until(self, held: np.ndarray) -> np.ndarray:
        """(C,) the first instant at which a side is another one than it is with what is held."""
        places = np.arange(len(self._rows))
        before = self._sides(places, held, self._times)                    # (C, S)
        if not before.shape[1]:
            return self._limit
        turns = self._turns()                                              # (C, K)
        if not turns.shape[1]:
            return self._limit
        is_other = self._differ(before, places, turns)                     # (C, K)
        first = is_other.argmax(axis=1)
        some = np.flatnonzero(is_other.any(axis=1))
        until = self._limit.copy()
        if len(some):
            ends = turns[some, first[some]]
            begins = np.where(
                first[some] > 0, turns[some, np.maximum(first[some] - 1, 0)], self._times[some]
            )
            until[some] = self._narrowed(before[some], some, begins, ends)
        return until

    def _turns(self) -> np.ndarray:
        """(C, K) the ends of the pieces, none of them earlier than what is asked of."""
        turns = self._reading.turns(self._drifting.asked, self._anchors, self._rows)
        if not turns.shape[1]:
            return turns
        # a date that the next order has is over at the latest when it comes
        dates = np.where(self._dates < NEVER, self._dates, 0)
        far = turns.max(axis=1, keepdims=True)
        last = np.where(self._limit < NEVER, self._limit, far[:, 0])[:, None]
        turns = np.concatenate([turns, dates, last], axis=1)
        turns = np.clip(turns, self._times[:, None], self._limit[:, None])
        return np.sort(turns, axis=1)

    def _narrowed(
        self, before: np.ndarray, which: np.ndarray, begins: np.ndarray, ends: np.ndarray
    ) -> np.ndarray:
        """(N,) the first instants in (begin, end] at which a side is another one."""
        cuts = np.arange(1, _CUTS + 1)
        while True:
            widths = ends - begins
            if (widths <= 1).all():
                return ends
            points = begins[:, None] + np.maximum(widths[:, None] * cuts // _CUTS, 1)   # (N, P)
            is_other = self._differ(before, which, points)
            is_other[:, -1] = True         # as it was found
            first = is_other.argmax(axis=1)
            rows = np.arange(len(which))
            ends = points[rows, first]
            begins = np.where(first > 0, points[rows, np.maximum(first - 1, 0)], begins)

    def _differ(
        self, before: np.ndarray, which: np.ndarray, points: np.ndarray
    ) -> np.ndarray:
        """(N, P) whether some side of curves (N,) at points (N, P) is another one than before."""
        count, number = points.shape
        places, times = np.repeat(which, number), points.reshape(-1)
        sides = self._sides(places, self.values(places, times), times)
        return (sides.reshape(count, number, -1) != before[:, None, :]).any(axis=2)

    def _sides(self, which: np.ndarray, held: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(N, S) on which sides values (N,) are at instants (N,)."""
        sides = self._drifting.sides
        told = [held >= one for one in sides.values] + [held > one for one in sides.values]
        if self._drifting.asked[0] == "next_order":
            is_known = ~np.isnan(held)
            ahead = np.rint(np.where(is_known, held, 0.0) * _DAY).astype(np.int64)
            told.append(is_known)
            told += [is_known & (ahead > one) for one in sides.ahead]
            dates = self._dates[which].T                                   # (dates, N)
            told += [is_known & (times + ahead >= date) for date in dates]
        return np.stack(told, axis=1) if told else np.empty((len(held), 0), bool)


def compared(node: Compared, test: Callable[[object], bool], zone: str) -> Drifting:
    """A comparison of a value with a number or some, or whether there is one."""
    value = node.value
    match node.operand:
        case Prediction(question, days):
            told = value if isinstance(value, tuple) else () if value is None else (value,)
            numbers = tuple(float(one) for one in told)
            asked = (question, days)
        case _:                            # a date: whether there is one
            numbers, asked = (), ("next_order", NEXT_ORDER_DAYS)

    def holds(held: float, _: int) -> bool:
        return test(None if math.isnan(held) else held)

    return Drifting(node, asked, Sides(values=numbers), holds, zone)


def dated(
    node: Dated, inside: Inside, reach: Mapping[str, tuple[int | None, ...]], zone: str
) -> Drifting:
    """Whether the date of the next order is in a window.

    `reach`: of a window that moves on, how far `ahead` it begins and ends; of one that does not,
    its `dates`.
    """
    sides = Sides(
        dates=tuple(one for one in reach.get("dates", ()) if one is not None),
        ahead=tuple(one for one in reach.get("ahead", ()) if one is not None),
        has_days=isinstance(node.window, Calendar),
    )

    def holds(held: float, time: int) -> bool:
        return inside(None if math.isnan(held) else Moment(date_of(held, time)), time)[0]

    return Drifting(node, ("next_order", NEXT_ORDER_DAYS), sides, holds, zone)


def date_of(days: float, time: int) -> int:
    """The instant that lies so many days after another one, as answers tell it."""
    return time + round(days * _DAY)


def _days_of(node: Compared | Dated, time: int, zone: str) -> tuple[int, ...]:
    """The instants at which the days of a window of the calendar begin and are over."""
    window: Window = node.window           # type: ignore[union-attr]
    assert isinstance(window, Calendar), "only the calendar has days"
    told = bounds(window, instant(time), zone)
    return tuple(microseconds(one) for one in told if one is not None)
