"""What is compared, in each form it may have: the twin of `habitue.audiences.comparisons`.

A property has the form of its JSON: a text, a number (also one written as a text), a date (a text
in ISO 8601), true or false, a list. In every other form it is missing, and a comparison with what
is missing is false. Instants are µs since the epoch.
"""

import functools
import json
import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from habitue.audiences.language.calendar import DATE
from habitue.audiences.language.limits import LENGTHS, Value
from habitue.audiences.language.nodes import Compared
from habitue.lake.live.told import microseconds

Test = Callable[[Any], bool]

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
_NINTH = Decimal("0.000000001")
_MOST_DIGITS = 19  # before the point, of a decimal of 28 digits
_DIGITS = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_DATE = re.compile(DATE)
# letters that SQL makes lower one by one, and Python by what stands beside them, or into two
_LETTERS = str.maketrans({"İ": "i", "Σ": "σ"})
_LARGEST = 2**64  # from here on a whole number is read as a float


def number_of(held: object) -> Decimal | None:
    """A number, or what is written as one, to nine places."""
    match held:
        case bool() | None:
            return None
        case str():
            told = Decimal(held) if _DIGITS.fullmatch(held) else None
        case Decimal():
            told = held
        case int() if abs(held) < _LARGEST:
            told = Decimal(held)
        case int() | float():
            told = Decimal(repr(float(held)))
        case _:
            return None
    if told is None or not told.is_finite() or told.adjusted() >= _MOST_DIGITS:
        return None
    return told.quantize(_NINTH, ROUND_HALF_UP)


def date_of(held: object) -> int | None:
    """The instant that a text in ISO 8601 says; without a time zone it is in UTC."""
    if not isinstance(held, str) or not _DATE.fullmatch(held):
        return None
    try:
        told = datetime.fromisoformat(held)
    except ValueError:
        return None
    return microseconds(told if told.tzinfo else told.replace(tzinfo=UTC))


def reached(held: Any, path: tuple[str, ...]) -> Any:
    """What stands in a JSON value, by the names that lead to it; None: nothing."""
    for name in path:
        if isinstance(held, dict):
            held = held.get(name)
        elif isinstance(held, list) and name.isdecimal() and int(name) < len(held):
            held = held[int(name)]
        else:
            return None
    return held


def tested(condition: Compared) -> Test:
    """Whether what is held, in whatever form, meets a comparison."""
    sign, value = condition.operator, condition.value
    if sign == "is set":
        return lambda held: held is not None
    if sign in SIGNS:
        return _compared(SIGNS[sign], value)
    if sign == "in":
        assert isinstance(value, tuple), "`in` compares with a list"
        each = [_compared(operator.eq, one) for one in value]
        return lambda held: any(one(held) for one in each)
    if sign in LENGTHS:
        compare = SIGNS[LENGTHS[sign]]
        return lambda held: isinstance(held, list) and compare(len(held), value)
    if sign.startswith("has"):
        return _listed(sign, value)
    assert isinstance(value, str), "texts are compared with a text"
    return _reads(sign, value)


def tested_float(condition: Compared) -> Test:
    """The same of a number that is predicted, which is compared as it is."""
    sign, value = condition.operator, condition.value
    if sign == "is set":
        return lambda held: held is not None
    if sign == "in":
        assert isinstance(value, tuple), "`in` compares with a list"
        among = {float(one) for one in value}
        return lambda held: held in among
    assert isinstance(value, Decimal), "a prediction is compared with a number"
    wanted, compare = float(value), SIGNS[sign]
    return lambda held: held is not None and compare(held, wanted)


def _compared(compare: Callable[[Any, Any], bool], value: Value) -> Test:
    match value:
        case bool():
            return lambda held: isinstance(held, bool) and compare(held, value)
        case str():
            return lambda held: isinstance(held, str) and compare(held, value)

    def numbers(held: object) -> bool:
        number = number_of(held)
        return number is not None and compare(number, value)

    return numbers


def _listed(sign: str, value: Value) -> Test:
    wanted = {value} if isinstance(value, str) else set(value or ())  # type: ignore[arg-type]
    parts = [lowered(str(one)) for one in wanted]

    def has(held: object) -> bool:
        if not isinstance(held, list):
            return False
        found = {
            one if isinstance(one, str) else _compact(one) for one in held if one is not None
        }
        if sign == "has any containing":
            return any(part in lowered(one) for part in parts for one in found)
        return bool(wanted & found) if sign == "has any of" else wanted <= found

    return has


def _compact(held: object) -> str:
    """JSON as SQL writes it."""
    return json.dumps(held, ensure_ascii=False, separators=(",", ":"))


def lowered(text: str) -> str:
    """A text in lower case, as SQL has it.

    >>> lowered("İSTANBUL ΟΔΟΣ")
    'istanbul οδοσ'
    """
    return (text if text.isascii() else text.translate(_LETTERS)).lower()


def _reads(sign: str, value: str) -> Test:
    part = lowered(value)
    match sign:
        case "contains":
            return lambda held: isinstance(held, str) and part in lowered(held)
        case "starts with":
            return lambda held: isinstance(held, str) and lowered(held).startswith(part)
        case "ends with":
            return lambda held: isinstance(held, str) and lowered(held).endswith(part)
    assert sign == "matches", "there is no other operator of texts"
    return lambda held: isinstance(held, str) and matches(value, held)


@functools.lru_cache(maxsize=10_000)
def matches(pattern: str, text: str) -> bool:
    """Whether RE2, as in SQL, finds a pattern in a text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return bool(pc.match_substring_regex(pa.array([text]), pattern)[0].as_py())
