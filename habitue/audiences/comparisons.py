"""SQL of one comparison: what is compared in each form it may have, and the operators on them.

A property that is JSON has the form of its value: a text, a number (also one written as a text), a
date (a text in ISO 8601), true or false, a list. In every other form it is missing, and a
comparison with what is missing is false.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from habitue.audiences.language.calendar import (
    DATE,
    DAY,
    EARLIEST,
    LATEST,
    MONTHS,
    WEEKDAYS,
    anniversaries,
)
from habitue.audiences.language.limits import LENGTHS, Value
from habitue.audiences.language.nodes import Anniversary, Compared, Dated
from habitue.audiences.language.windows import Calendar, InMonth, Window, bounds, days
from habitue.audiences.rows import NUMBER

_DIGITS = r"-?[0-9]{1,15}(\.[0-9]{1,9})?"
_SIGNS: dict[str, str] = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
# upper and lower case are the same, except to a pattern
_TEXTS = {
    "contains": "contains(lower({text}), lower({value}))",
    "starts with": "starts_with(lower({text}), lower({value}))",
    "ends with": "ends_with(lower({text}), lower({value}))",
    "matches": "regexp_matches({text}, {value})",
}
_LISTS = {"has": "list_has_all", "has any of": "list_has_any", "has all of": "list_has_all"}
_ANY_TEXT = (
    "list_bool_or(list_transform({listed}, lambda one: contains(lower(one), lower({value}))))"
)
_NONE = "NULL"
_MOST_LOOKED_UP = 60                       # days of anniversaries that texts are looked up in first
_NEAR_DAYS = 3


@dataclass(slots=True)
class Bound:
    """The values of a statement, by the names under which its text holds them."""

    values: dict[str, object] = field(default_factory=dict)

    def __call__(self, value: object, kind: str = "") -> str:
        """The SQL that stands for a value, which is never in the text itself."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f"CAST(${name} AS {kind})" if kind else f"${name}"

    def number(self, value: Decimal) -> str:
        """The SQL that stands for a number."""
        return self(str(value), NUMBER)

    def instant(self, value: datetime) -> str:
        """The SQL that stands for an instant."""
        return self(value.isoformat(), "TIMESTAMPTZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """SQL of what is compared, in each of its forms; NULL where it has another one."""

    text: str = _NONE
    number: str = _NONE
    boolean: str = _NONE
    listed: str = _NONE
    date: str = _NONE
    day: str = _NONE                       # of a date that is told without a time
    is_set: str = "false"
    kind: str = NUMBER                     # of numbers
    told: str = _NONE                      # as JSON tells it, of whatever kind


def of_text(column: str) -> Forms:
    """A column of texts."""
    return Forms(text=column, is_set=f"{column} IS NOT NULL")


def of_number(column: str, kind: str = NUMBER) -> Forms:
    """A column of numbers."""
    return Forms(number=f"CAST({column} AS {kind})", is_set=f"{column} IS NOT NULL", kind=kind)


def of_date(column: str) -> Forms:
    """A column of instants."""
    return Forms(date=column, is_set=f"{column} IS NOT NULL")


def of_json(column: str, path: tuple[str, ...], bound: Bound) -> Forms:
    """What stands in a column of JSON objects, by the names that lead to it."""
    return of_read(*json_parts(column, path, bound))


def json_parts(column: str, path: tuple[str, ...], bound: Bound) -> tuple[str, str]:
    """The kind and the text of what stands in a column of JSON objects."""
    at = bound(pointer(*path), "VARCHAR")
    return f"json_type({column}, {at})", f"json_extract_string({column}, {at})"


def pointer(*path: str) -> str:
    """What leads to a value in JSON, by names."""
    return "".join(f"/{one.replace('~', '~0').replace('/', '~1')}" for one in path)


def of_read(kind: str, text: str) -> Forms:
    """What was read from JSON, by its kind and its text."""
    is_text, is_number = f"{kind} = 'VARCHAR'", f"{kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
    return Forms(
        text=f"CASE WHEN {is_text} THEN {text} END",
        number=(
            f"CASE WHEN {is_number} OR ({is_text} AND regexp_full_match({text}, '{_DIGITS}'))"
            f" THEN TRY_CAST({text} AS {NUMBER}) END"
        ),
        boolean=f"CASE WHEN {kind} = 'BOOLEAN' THEN {text} = 'true' END",
        listed=(
            f"CASE WHEN {kind} = 'ARRAY' THEN TRY_CAST(CAST({text} AS JSON) AS VARCHAR[]) END"
        ),
        # only a text can look like a date, so its kind need not be read
        date=(
            f"CASE WHEN regexp_full_match({text}, '{DATE}')"
            f" THEN TRY_CAST({text} AS TIMESTAMPTZ) END"
        ),
        day=f"CASE WHEN regexp_full_match({text}, '{DAY}') THEN TRY_CAST({text} AS DATE) END",
        is_set=f"{kind} <> 'NULL'",
        told=text,
    )


def compared(forms: Forms, condition: Compared, bound: Bound) -> str:
    """SQL of a comparison; unknown where what is compared is missing."""
    return f"({_compared(forms, condition, bound)})"


@dataclass(frozen=True, slots=True)
class Clock:
    """As of when is asked, and the time zone of the shop."""

    at: datetime
    zone: str

    @property
    def of(self) -> tuple[datetime, str]:
        """Both."""
        return self.at, self.zone


def dated(forms: Forms, condition: Dated, clock: Clock, bound: Bound) -> str:
    """SQL of a date in a window as of an instant; unknown where it is missing."""
    window = condition.window
    if isinstance(window, InMonth):
        return f"(month({_day(forms, clock, bound)}) = {bound(window.number, 'INTEGER')})"
    if not isinstance(window, Calendar):
        return f"({within(forms.date, window, clock, bound)})"
    first, last = (bound(one, "DATE") for one in days(window, clock.at, clock.zone))
    return f"({_day(forms, clock, bound)} BETWEEN {first} AND {last})"


def remembered(forms: Forms, condition: Anniversary, clock: Clock, bound: Bound) -> str:
    """SQL of a date whose day and month are among some days; unknown where it is missing."""
    day, (first, last) = _day(forms, clock, bound), days(condition.window, *clock.of)
    code = f"month({day}) * 100 + day({day})"
    parts = [
        f"({code} BETWEEN {bound(min(codes), 'INTEGER')} AND {bound(max(codes), 'INTEGER')}"
        f" AND year({day}) < {bound(year, 'INTEGER')})"
        for year, codes in anniversaries(first, last).items()
    ]
    told = f"({' OR '.join(parts)})"
    if forms.told == _NONE or (last - first).days > _MOST_LOOKED_UP:
        return told
    # what has no such day, as most have not, is not read as a date; the text is named once, since
    # it would be taken out of its JSON as often as it is named
    ends = sorted(_texts_near(first, last))
    return f"(list_contains({bound(ends, 'VARCHAR[]')}, substr({forms.told}, 6, 5)) AND {told})"


def _texts_near(first: date, last: date) -> set[str]:
    """MM-DD of every text whose instant may lie in some days, in whatever zone and year.

    A text's offset from UTC and the shop's are less than two days together; around the end of
    a February there may be one day more.
    """
    span = range(-_NEAR_DAYS, (last - first).days + _NEAR_DAYS + 1)
    found = {f"{first + timedelta(days=place):%m-%d}" for place in span}
    return found | ({"02-29"} if found & {"02-28", "03-01"} else set())


def within(column: str, window: Window | None, clock: Clock, bound: Bound) -> str:
    """SQL of an instant in a window; without bounds it need only be there."""
    start, end = bounds(window, clock.at, clock.zone)
    parts = [] if start is None else [f"{column} >= {bound.instant(start)}"]
    parts += [] if end is None else [f"{column} < {bound.instant(end)}"]
    return " AND ".join(parts) or f"{column} IS NOT NULL"


def of_clock(name: str, column: str, zone: str, bound: Bound) -> Forms:
    """What the shop's clock and calendar show at an instant: weekday, month or hour."""
    shown = f"timezone({bound(zone, 'VARCHAR')}, {column})"
    match name:
        case "weekday":
            return of_text(f"{bound(list(WEEKDAYS), 'VARCHAR[]')}[isodow({shown})]")
        case "month":
            return of_text(f"{bound(list(MONTHS), 'VARCHAR[]')}[month({shown})]")
    return of_number(f"hour({shown})")


def _day(forms: Forms, clock: Clock, bound: Bound) -> str:
    """SQL of the day on which a date is: its own, or that of the shop at its instant."""
    shown = f"CAST(timezone({bound(clock.zone, 'VARCHAR')}, {forms.date}) AS DATE)"
    first, end = bound.instant(EARLIEST), bound.instant(LATEST)
    is_sure = f"{forms.date} >= {first} AND {forms.date} < {end}"
    return f"coalesce({forms.day}, CASE WHEN {is_sure} THEN {shown} END)"


def _compared(forms: Forms, condition: Compared, bound: Bound) -> str:
    operator, value = condition.operator, condition.value
    if operator in _TEXTS:
        return _TEXTS[operator].format(text=forms.text, value=bound(value, "VARCHAR"))
    if operator in LENGTHS:
        return f"len({forms.listed}) {LENGTHS[operator]} {bound(str(value), 'DECIMAL(28, 0)')}"
    if operator == "has any containing":
        return _ANY_TEXT.format(listed=forms.listed, value=bound(value, "VARCHAR"))
    if operator in _LISTS:
        told = [value] if isinstance(value, str) else _texts(value)
        return f"{_LISTS[operator]}({forms.listed}, {bound(told, 'VARCHAR[]')})"
    if operator == "is set":
        return forms.is_set
    if operator == "in":
        return _in(forms, value, bound)
    return f"{_form(forms, value)} {_SIGNS[operator]} {_held(forms, value, bound)}"


def _form(forms: Forms, value: Value) -> str:
    match value:
        case bool():
            return forms.boolean
        case str():
            return forms.text
    return forms.number


def _held(forms: Forms, value: Value, bound: Bound) -> str:
    match value:
        case bool():
            return bound(value, "BOOLEAN")
        case str():
            return bound(value, "VARCHAR")
    return bound(str(value), forms.kind)


def _in(forms: Forms, value: Value, bound: Bound) -> str:
    """SQL of a value among texts and numbers."""
    assert isinstance(value, tuple), "`in` compares with a list"
    numbers = [str(one) for one in value if isinstance(one, Decimal)]
    parts = []
    if texts := _texts(value):
        parts.append(f"list_contains({bound(texts, 'VARCHAR[]')}, {forms.text})")
    if numbers:
        parts.append(f"list_contains({bound(numbers, f'{forms.kind}[]')}, {forms.number})")
    return " OR ".join(f"coalesce({one}, false)" for one in parts)


def _texts(value: Value) -> list[str]:
    assert isinstance(value, tuple), "a list is compared with"
    return [one for one in value if isinstance(one, str)]
