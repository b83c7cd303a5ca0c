"""Windows of time: relative to the instant as of which is asked, of the calendar, or between dates.

Half-open, to the microsecond: the last N days are (t - N * 24 h, t]. Those of the calendar begin
and end with days of the shop's time zone.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypeAlias, assert_never

from habitue.audiences.language.calendar import (
    CALENDAR_UNITS,
    MONTHS,
    CalendarUnit,
    days_of,
    local,
    start_of,
)
from habitue.errors import BadAudience

Unit = Literal["minute", "hour", "day", "week"]

MOST_DAYS = 36_525                         # of a window: a hundred years

UNITS: dict[Unit, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time; days are of 24 hours."""

    amount: int
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise BadAudience(f"{self.unit!r} is no unit of time\nhint: {', '.join(UNITS)}")
        if isinstance(self.amount, bool) or not isinstance(self.amount, int) or self.amount < 1:
            raise BadAudience(f"{self.amount} {self.unit}s: wanted a whole number from 1 on")
        if self.amount > MOST_DAYS * (UNITS["day"] // UNITS["minute"]) or (
            self.length > timedelta(days=MOST_DAYS)
        ):
            raise BadAudience(f"{self.amount} {self.unit}s are more than {MOST_DAYS:,} days")

    @property
    def length(self) -> timedelta:
        """The same as a difference of times."""
        return self.amount * UNITS[self.unit]


@dataclass(frozen=True, slots=True)
class Last:
    """(t - span, t], where t is the instant as of which is asked."""

    span: Span


@dataclass(frozen=True, slots=True)
class Next:
    """(t, t + span]; for dates only, events of the future are not known."""

    span: Span


@dataclass(frozen=True, slots=True)
class Ago:
    """At or before t - span."""

    span: Span


@dataclass(frozen=True, slots=True)
class Earlier:
    """(t - far, t - near], both in one unit."""

    far: Span
    near: Span

    def __post_init__(self) -> None:
        if self.far.unit != self.near.unit:
            raise BadAudience("both ends of a window in the past are told in one unit")
        if self.far.amount <= self.near.amount:
            raise BadAudience(
                f"between {self.far.amount} and {self.near.amount} {self.far.unit}s ago is empty:"
                " the longer one stands first"
            )


@dataclass(frozen=True, slots=True)
class Before:
    """Before an instant."""

    at: datetime

    def __post_init__(self) -> None:
        _refuse_naive(self.at)


@dataclass(frozen=True, slots=True)
class After:
    """At an instant or after it."""

    at: datetime

    def __post_init__(self) -> None:
        _refuse_naive(self.at)


@dataclass(frozen=True, slots=True)
class Between:
    """From an instant on, and before another."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        _refuse_naive(self.start)
        _refuse_naive(self.end)
        if self.start >= self.end:
            raise BadAudience("nothing is between these: the earlier one stands first")


@dataclass(frozen=True, slots=True)
class Calendar:
    """This day, week, month, quarter or year in the shop's time zone, the last one or the next."""

    unit: CalendarUnit
    ahead: int = 0                         # -1: the one before this, 1: the one after

    def __post_init__(self) -> None:
        if self.unit not in CALENDAR_UNITS:
            held = ", ".join(CALENDAR_UNITS)
            raise BadAudience(f"{self.unit!r} is no unit of the calendar\nhint: {held}")
        if isinstance(self.ahead, bool) or self.ahead not in (-1, 0, 1):
            raise BadAudience(f"{self.ahead} {self.unit}s ahead: wanted -1, 0 or 1")


@dataclass(frozen=True, slots=True)
class InMonth:
    """A month of the calendar, of whatever year, in the shop's time zone; of dates only."""

    month: str

    def __post_init__(self) -> None:
        if self.month not in MONTHS:
            raise BadAudience(f"{self.month!r} is no month\nhint: {', '.join(MONTHS)}")

    @property
    def number(self) -> int:
        """1 for January."""
        return MONTHS.index(self.month) + 1


Window: TypeAlias = Last | Next | Ago | Earlier | Before | After | Between | Calendar | InMonth


def bounds(
    window: Window | None, at: datetime, zone: str = "UTC"
) -> tuple[datetime | None, datetime | None]:
    """The first instant of a window and the first after it, to the microsecond; none: no bound.

    `zone` is the shop's, in which a window of the calendar is one.

    >>> at = datetime(2025, 3, 3, tzinfo=UTC)
    >>> start, end = bounds(Last(Span(1, "day")), at)
    >>> str(start), str(end)
    ('2025-03-02 00:00:00.000001+00:00', '2025-03-03 00:00:00.000001+00:00')
    """
    match window:
        case None:
            return None, None
        case Before(end):
            return None, end
        case After(start):
            return start, None
        case Between(start, end):
            return start, end
        case Calendar():
            begin, final = days(window, at, zone)
            return start_of(begin, zone), start_of(final + timedelta(days=1), zone)
        case InMonth():
            raise AssertionError("months of every year have no bounds: dates alone are in them")
    after, until = _lengths(window)
    tick = timedelta(microseconds=1)
    first = None if after is None else _moved(at, after + tick)
    return first, _moved(at, until + tick)


def days(window: Calendar | Last | Next, at: datetime, zone: str) -> tuple[date, date]:
    """The first and the last day of a window that is told in whole days of a zone.

    Of the last 7 days the last is today, of the next 7 days the first is tomorrow.

    >>> at = datetime(2025, 3, 3, 12, tzinfo=UTC)
    >>> [str(day) for day in days(Last(Span(1, "week")), at, "UTC")]
    ['2025-02-25', '2025-03-03']
    """
    today = local(at, zone).date()
    match window:
        case Calendar(unit, ahead):
            return days_of(unit, ahead, today)
        case Last(span):
            return today - span.length + timedelta(days=1), today
        case Next(span):
            return today + timedelta(days=1), today + span.length
    assert_never(window)


def _lengths(window: Last | Next | Ago | Earlier) -> tuple[timedelta | None, timedelta]:
    """(after, until] from an instant; none: ever since."""
    match window:
        case Last(span):
            return -span.length, timedelta()
        case Next(span):
            return timedelta(), span.length
        case Ago(span):
            return None, -span.length
        case Earlier(far, near):
            return -far.length, -near.length
    assert_never(window)


def _refuse_naive(at: datetime) -> None:
    if at.tzinfo is None:
        raise BadAudience(f"{at.isoformat()} does not say its time zone")
    try:
        at.astimezone(UTC)
    except OverflowError:
        raise BadAudience(f"{at.isoformat()} is not between the years 1 and 9999 in UTC") from None


def _moved(at: datetime, by: timedelta) -> datetime | None:
    """An instant moved; none where it would be outside of what dates can say."""
    try:
        return at.astimezone(UTC) + by
    except OverflowError:
        return None
