"""Filters of a list: `equals(email,"ada@example.com"),greater-than(created,2026-04-19T00:00:00Z)`.

Commas join what must all hold. Texts stand in double quotes, everything else is bare; a list of
texts or numbers stands in brackets. What is read here is as it was written: which fields and
operators a list knows is for the list to say.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

Scalar: TypeAlias = str | bool | int | float | datetime | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]

MOST_CHARACTERS = 16_384
MOST_FILTERS = 20
MOST_VALUES = 200                          # of one list

OPERATORS = (
    "equals", "any", "contains", "has", "starts-with", "ends-with", "less-than", "less-or-equal",
    "greater-than", "greater-or-equal",
)  # fmt: skip

_NAME = re.compile(r"[a-z]+(?:-[a-z]+)*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\s,()\[\]\"]+")
_SPACE = re.compile(r"\s*")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?")
_BARE_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition of a list."""

    operator: str
    field: str
    value: Value = None                    # of `has` none


class BadFilter(ValueError):
    """A filter cannot be read, or asks for what the list does not know."""


def parsed(text: str) -> tuple[Filter, ...]:
    """The filters of a text.

    Raises:
        BadFilter: it cannot be read; the message says where.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadFilter(f"a filter has at most {MOST_CHARACTERS:,} characters")
    reader = _Reader(text)
    found = [reader.filter()]
    while not reader.ends():
        reader.take(",")
        found.append(reader.filter())
        if len(found) > MOST_FILTERS:
            raise reader.error(f"at most {MOST_FILTERS} filters are joined")
    return tuple(found)


def written(filters: Sequence[Filter]) -> str:
    """Filters as text; `parsed` gives them back.

    >>> written([Filter("equals", "email", "a@b.c"), Filter("less-than", "timestamp", 5)])
    'equals(email,"a@b.c"),less-than(timestamp,5)'
    """
    return ",".join(_written(one) for one in filters)


def checked(
    filters: Sequence[Filter], known: Mapping[str, Sequence[str]]
) -> tuple[Filter, ...]:
    """The same filters, of which each is known: a field, and the operators that it takes.

    Raises:
        BadFilter: one is not.
    """
    for one in filters:
        if one.field not in known:
            raise BadFilter(f"'{one.field}' is no field to filter by; there are {_told(known)}")
        if one.operator not in known[one.field]:
            raise BadFilter(f"'{one.field}' takes {_told(known[one.field])}, not '{one.operator}'")
    return tuple(filters)


def texts(one: Filter) -> tuple[str, ...]:
    """The texts that a filter compares with.

    Raises:
        BadFilter: something else than text is among them.
    """
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    found = tuple(value for value in values if isinstance(value, str))
    if len(found) != len(values):
        raise BadFilter(f"'{one.field}' is compared with text in double quotes")
    return found


def moment(one: Filter) -> datetime:
    """The instant that a filter compares with.

    Raises:
        BadFilter: it is none.
    """
    if isinstance(one.value, str):         # some clients put it in quotes
        return _instant(one.value, f"'{one.field}' is compared with an instant")
    if not isinstance(one.value, datetime):
        raise BadFilter(f"'{one.field}' is compared with an instant: 2026-04-19T00:00:00Z")
    return one.value


class _Reader:
    """A text, and the place up to which it was read."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._skip()

    def ends(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._text)

    def take(self, sign: str) -> None:
        """Read on beyond a sign, which must be there."""
        if not self._text.startswith(sign, self._at):
            raise self.error(f"'{sign}' was wanted")
        self._at += len(sign)
        self._skip()

    def filter(self) -> Filter:
        """Read one filter."""
        operator = self._match(_NAME, "an operator")
        if operator not in OPERATORS:
            raise self.error(f"'{operator}' is no operator; there are {_told(OPERATORS)}")
        self.take("(")
        field = self._match(_FIELD, "a field")
        if operator == "has":
            self.take(")")
            return Filter(operator, field)
        self.take(",")
        value = self._list() if self._text.startswith("[", self._at) else self._scalar()
        if isinstance(value, tuple) is not (operator == "any"):
            raise self.error("`any` takes a list in brackets, and nothing else does")
        self.take(")")
        return Filter(operator, field, value)

    def error(self, message: str) -> BadFilter:
        """What is wrong here."""
        return BadFilter(f"at character {self._at + 1}: {message}")

    def _list(self) -> tuple[Scalar, ...]:
        self.take("[")
        found: list[Scalar] = []
        while not self._text.startswith("]", self._at):
            if found:
                self.take(",")
            if len(found) == MOST_VALUES:
                raise self.error(f"a list has at most {MOST_VALUES} values")
            found.append(self._scalar())
        self.take("]")
        if not found:
            raise self.error("the list is empty")
        return tuple(found)

    def _scalar(self) -> Scalar:
        if self._text.startswith('"', self._at):
            return re.sub(r"\\(.)", r"\1", self._match(_TEXT, "a text that ends"), flags=re.DOTALL)
        bare = self._match(_BARE, "a value")
        if bare in _BARE_WORDS:
            return _BARE_WORDS[bare]
        if _WHOLE.fullmatch(bare):
            return int(bare)
        if _NUMBER.fullmatch(bare) and math.isfinite(float(bare)):
            return float(bare)
        return _instant(bare, self.error("texts stand in double quotes").args[0])

    def _match(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self.error(f"{wanted} was wanted")
        self._at = found.end()
        self._skip()
        return found[found.lastindex or 0]

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at


def _instant(text: str, otherwise: str) -> datetime:
    """An instant in UTC; one that names no zone is in it already."""
    if not _INSTANT.fullmatch(text):
        raise BadFilter(otherwise)
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadFilter(otherwise) from None


def _written(one: Filter) -> str:
    if one.operator == "has":
        return f"has({one.field})"
    if isinstance(one.value, tuple):
        return f"{one.operator}({one.field},[{','.join(map(_scalar, one.value))}])"
    return f"{one.operator}({one.field},{_scalar(one.value)})"


def _scalar(value: Scalar) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            quoted = re.sub(r'(["\\])', r"\\\1", value)
            return f'"{quoted}"'
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return repr(value)


def _told(names: Sequence[str] | Mapping[str, object]) -> str:
    return ", ".join(names)
