"""What no node may hold: texts, numbers, lists and patterns that are too large or no such thing."""

from decimal import Decimal
from typing import TypeAlias

from habitue.errors import BadAudience

Value: TypeAlias = str | Decimal | bool | tuple[str | Decimal, ...] | None

MOST_TEXT = 1_000                          # characters of a name or of a text to compare with
MOST_PATTERN = 200                         # characters of a regular expression
MOST_LISTED = 100                          # values of one list
MOST_WHOLE, MOST_DECIMALS = 15, 9          # digits of a number before and after the point

# how many values a list has
LENGTHS = {"has exactly": "=", "has at least": ">=", "has at most": "<="}

_WANTED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("=", "!="), (str, Decimal, bool)),
    **dict.fromkeys(("<", "<=", ">", ">="), (Decimal,)),
    **dict.fromkeys(("contains", "starts with", "ends with", "matches"), (str,)),
    "in": (tuple,),
    "has": (str,),
    **dict.fromkeys(("has any of", "has all of"), (tuple,)),
    "has any containing": (str,),
    **dict.fromkeys(LENGTHS, (Decimal,)),
    "is set": (type(None),),
}
_KINDS: dict[type, str] = {
    str: "a text",
    Decimal: "a number",
    bool: "true or false",
    tuple: "a list",
    type(None): "nothing",
}


def exact(value: object) -> Value:
    """Numbers as decimals, and a list as a tuple."""
    match value:
        case bool() | str() | Decimal() | None:
            return value
        case int() | float():
            return Decimal(str(value))
        case tuple() | list():
            told = tuple(exact(one) for one in value)
            if any(isinstance(one, (bool, tuple)) or one is None for one in told):
                raise BadAudience("a list holds texts and numbers")
            return told    # type: ignore[return-value]    # looked at just now
    raise BadAudience(f"{value!r} is nothing to compare with")


def refuse_value(operator: str, value: Value) -> None:
    """Raise where an operator cannot compare with a value."""
    if operator not in _WANTED:
        raise BadAudience(f"{operator!r} is no comparison\nhint: there are {', '.join(_WANTED)}")
    wanted = _WANTED[operator]
    if not isinstance(value, wanted):
        names = " or ".join(_KINDS[one] for one in wanted)
        raise BadAudience(f"{operator} compares with {names}, not with {shown(value)}")
    each = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(each) <= MOST_LISTED:
        raise BadAudience(f"a list of {len(each)}: wanted 1 to {MOST_LISTED} values")
    if operator in LENGTHS:
        _refuse_length(operator, each[0])
    elif operator.startswith("has") and not all(isinstance(one, str) for one in each):
        raise BadAudience(f"{operator} compares with texts")
    for one in each:
        _refuse_one(one)
    if operator == "matches":
        _refuse_pattern(str(value))


def _refuse_length(operator: str, value: object) -> None:
    if not isinstance(value, Decimal) or value != value.to_integral_value() or value < 0:
        raise BadAudience(f"{operator} {value} values: wanted a whole number from 0 on")


def _refuse_one(value: Value) -> None:
    if isinstance(value, str):
        refuse_text("a text", value, may_be_empty=True)
    elif isinstance(value, Decimal):
        _refuse_number(value)


def shown(value: Value) -> str:
    """A value as messages show it."""
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)


def _refuse_number(value: Decimal) -> None:
    if not value.is_finite():
        raise BadAudience(f"{value} is no number that can be compared with")
    if value.adjusted() >= MOST_WHOLE or value != round(value, MOST_DECIMALS):
        raise BadAudience(
            f"{value}: wanted at most {MOST_WHOLE} digits before the point and {MOST_DECIMALS}"
            " after it"
        )


def _refuse_pattern(pattern: str) -> None:
    """Raise where RE2, which takes time in proportion to the text, cannot follow a pattern."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(pattern) > MOST_PATTERN:
        raise BadAudience(f"a pattern of {len(pattern)} characters: at most {MOST_PATTERN}")
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        told = str(error).splitlines()[0]
        raise BadAudience(f"this is no regular expression of RE2: {told}") from None
    if "(?<" in pattern:
        _refuse_newer(pattern)


def _refuse_newer(pattern: str) -> None:
    """Raise where only a newer RE2 than that of SQL knows how a group is named."""
    import duckdb

    with duckdb.connect() as connection:
        try:
            connection.execute("SELECT regexp_matches('', ?)", [pattern])
        except duckdb.Error:
            raise BadAudience(
                "a group is not named so\nhint: (?P<name>…), or (?:…) without a name"
            ) from None


def refuse_text(what: str, text: str, *, may_be_empty: bool = False) -> None:
    """Raise where a text is none that a name or a value can be."""
    if not isinstance(text, str):
        raise BadAudience(f"{what} is a text, not {text!r}")
    if not text and not may_be_empty:
        raise BadAudience(f"{what} is empty")
    if len(text) > MOST_TEXT:
        raise BadAudience(f"{what} of {len(text):,} characters: wanted at most {MOST_TEXT:,}")
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise BadAudience(f"{what} holds a character that no text has")
