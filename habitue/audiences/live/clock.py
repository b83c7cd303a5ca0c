"""The shop's clock and calendar: what day an instant is, what it shows, when the day ends."""

import functools
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from habitue.audiences.language.calendar import (
    DAY,
    EARLIEST,
    LATEST,
    MONTHS,
    WEEKDAYS,
    local,
    start_of,
)
from habitue.audiences.live.values import date_of
from habitue.lake.live.told import instant, microseconds

_DAY = re.compile(DAY)
_SURE = range(microseconds(EARLIEST), microseconds(LATEST))


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant, µs, that is known of a customer: not a text that may be read as one."""

    time: int


def day_of(held: Any, zone: str) -> date | None:
    """The day of a date: its own where none but it is told, else the shop's at its instant.

    None where it is none, or where not every zone's calendar has a day for the instant.
    """
    if isinstance(held, str) and _DAY.fullmatch(held):
        try:
            return date.fromisoformat(held)
        except ValueError:
            return None
    time = held.time if isinstance(held, Moment) else date_of(held)
    return local(instant(time), zone).date() if time is not None and time in _SURE else None


def is_in_month(held: Any, month: int, zone: str) -> bool:
    """Whether a date is in a month, 1 to 12, of any year."""
    day = day_of(held, zone)
    return day is not None and day.month == month


def shown(name: str, time: int, zone: str) -> str | int:
    """The weekday, month or hour that the shop's clock and calendar show at an instant."""
    at = local(instant(time), zone)
    match name:
        case "weekday":
            return WEEKDAYS[at.weekday()]
        case "month":
            return MONTHS[at.month - 1]
    return at.hour


def next_day(time: int, zone: str) -> int:
    """The instant at which the shop's day ends."""
    return _end(local(instant(time), zone).date(), zone)


@functools.lru_cache(maxsize=1_000)
def _end(day: date, zone: str) -> int:
    return microseconds(start_of(day + timedelta(days=1), zone))
