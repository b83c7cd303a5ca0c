"""The calendar of a time zone: which day an instant is, when a day begins, and units of days.

Days begin where the zone's clock says so: some have 23 or 25 hours.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from habitue.errors import BadAudience

CalendarUnit = Literal["day", "week", "month", "quarter", "year"]

CALENDAR_UNITS: tuple[CalendarUnit, ...] = ("day", "week", "month", "quarter", "year")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
# texts that are dates: a day of the years 1 to 9999, and an instant, by RE2 and by Python's `re`
DAY = (
    r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
    r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
DATE = rf"{DAY}(?:[T ]{_CLOCK}(?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?(?:Z|[+-]{_CLOCK})?)?"
# instants that are within those years by the clock of every zone
EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
THEIR_ZONE = ("timezone", "location.timezone")     # properties of a customer
_MONTHS_OF: dict[CalendarUnit, int] = {"month": 1, "quarter": 3, "year": 12}


def local(at: datetime, zone: str) -> datetime:
    """What clocks of a zone show at an instant.

    >>> str(local(datetime(2025, 7, 1, 23, 30, tzinfo=UTC), "Europe/London"))
    '2025-07-02 00:30:00+01:00'
    """
    return at.astimezone(_zone(zone))


def is_zone(name: object) -> bool:
    """Whether something names a time zone, as the IANA's database spells it."""
    return isinstance(name, str) and name in _zones()


def zone_of(properties: Mapping[str, Any], otherwise: str) -> str:
    """The time zone that a customer's properties name, or another one.

    >>> zone_of({"timezone": "Mars/Olympus", "location.timezone": "Asia/Tokyo"}, "UTC")
    'Asia/Tokyo'
    """
    told = (properties.get(name) for name in THEIR_ZONE)
    return next((str(name) for name in told if is_zone(name)), otherwise)


def start_of(day: date, zone: str) -> datetime:
    """The first instant of a day, also of one that begins at one o'clock.

    >>> str(start_of(date(2018, 11, 4), "America/Sao_Paulo"))
    '2018-11-04 03:00:00+00:00'
    """
    return datetime.combine(day, time(), tzinfo=_zone(zone)).astimezone(UTC)


def days_of(unit: CalendarUnit, ahead: int, today: date) -> tuple[date, date]:
    """The first and the last day of this unit, or of one before (-1) or after (1) it.

    Weeks begin on Mondays.

    >>> first, last = days_of("quarter", -1, date(2025, 2, 14))
    >>> str(first), str(last)
    ('2024-10-01', '2024-12-31')
    """
    if unit == "day":
        day = today + timedelta(days=ahead)
        return day, day
    if unit == "week":
        monday = today - timedelta(days=today.weekday()) + timedelta(weeks=ahead)
        return monday, monday + timedelta(days=6)
    months = _MONTHS_OF[unit]
    count = today.year * 12 + today.month - 1          # months since the year 0
    begin = count - count % months + ahead * months
    return _first_of(begin), _first_of(begin + months) - timedelta(days=1)


def anniversaries(first: date, last: date) -> dict[int, list[int]]:
    """By year, the dates whose anniversaries lie in some days, as month * 100 + day.

    That of 29 February is on 28 February where a year has no other.

    >>> anniversaries(date(2024, 12, 31), date(2025, 1, 1))
    {2024: [1231], 2025: [101]}
    """
    found: dict[int, list[int]] = {}
    for place in range((last - first).days + 1):
        day = first + timedelta(days=place)
        codes = found.setdefault(day.year, [])
        codes.append(day.month * 100 + day.day)
        if (day.month, day.day) == (2, 28) and (day + timedelta(days=1)).month == 3:
            codes.append(229)
    return found


def _first_of(months: int) -> date:
    return date(months // 12, months % 12 + 1, 1)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadAudience(f"the shop's time zone {name!r} is none") from None
