"""Spans of time as Klaviyo names them, and the hours, days, weeks and months within one.

Days are those of a time zone, weeks begin on Monday.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

INTERVALS = ("hour", "day", "week", "month")
MOST_PARTS = 10_000
_LAST = {"last_7_days": 7, "last_30_days": 30, "last_90_days": 90, "last_365_days": 365}
_UNITS = ("day", "week", "month", "year")
KEYS = (
    "today", "yesterday", *_LAST, *(f"this_{one}" for one in _UNITS[1:]),
    *(f"last_{one}" for one in _UNITS[1:]), "last_3_months", "last_12_months",
)  # fmt: skip


def zone(name: str) -> tzinfo | None:
    """The time zone of a name; none: there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def floor(time: datetime, unit: str, within: tzinfo) -> datetime:
    """The first instant of the hour, day, week, month or year of a time zone that holds a time.

    >>> floor(datetime(2026, 3, 5, 14, 30, tzinfo=UTC), "week", UTC).isoformat()
    '2026-03-02T00:00:00+00:00'
    """
    local = time.astimezone(within)
    if unit == "hour":
        return (local - timedelta(minutes=local.minute)).replace(second=0, microsecond=0)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match unit:
        case "week":
            day -= timedelta(days=day.weekday())
        case "month":
            day = day.replace(day=1)
        case "year":
            day = day.replace(month=1, day=1)
    return day


def following(start: datetime, unit: str) -> datetime:
    """The first instant of the next one, from the first of one.

    >>> following(datetime(2026, 12, 1, tzinfo=UTC), "month").isoformat()
    '2027-01-01T00:00:00+00:00'
    """
    if unit == "hour":                     # of what passes: clocks that change skip or repeat one
        return (start.astimezone(UTC) + timedelta(hours=1)).astimezone(start.tzinfo)
    if unit in ("day", "week"):            # of the calendar
        return start + timedelta(days=1 if unit == "day" else 7)
    months = start.year * 12 + start.month - 1 + (1 if unit == "month" else 12)
    return start.replace(year=months // 12, month=months % 12 + 1)


def parts(begin: datetime, end: datetime, unit: str, within: tzinfo) -> list[datetime]:
    """The first instants of what a span is divided into; the first may begin before it does."""
    found, at = [], floor(begin, unit, within)
    while at < end:
        found.append(at)
        if len(found) > MOST_PARTS:
            raise ValueError(f"the span has more than {MOST_PARTS:,} parts")
        at = following(at, unit)
    return found


def named(key: str, now: datetime, within: tzinfo) -> tuple[datetime, datetime] | None:
    """The span that one of KEYS names, up to now at most; none: it is none of them."""
    today = floor(now, "day", within)
    if key == "today":
        return today, now
    if key == "yesterday":
        return floor(today - timedelta(hours=12), "day", within), today
    if key in _LAST:
        return today - timedelta(days=_LAST[key]), now
    which, _, unit = key.partition("_")
    months = {"3_months": 3, "12_months": 12}.get(unit)
    if which == "last" and months is not None:
        return _before(floor(now, "month", within), months), floor(now, "month", within)
    spans: dict[str, Callable[[datetime], tuple[datetime, datetime]]] = {
        "this": lambda first: (first, now),
        "last": lambda first: (floor(first - timedelta(hours=12), unit, within), first),
    }
    if which not in spans or unit not in _UNITS[1:]:
        return None
    return spans[which](floor(now, unit, within))


def _before(month: datetime, count: int) -> datetime:
    months = month.year * 12 + month.month - 1 - count
    return month.replace(year=months // 12, month=months % 12 + 1)
