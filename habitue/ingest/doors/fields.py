"""Fields that every protocol has: times, numbers, money, lines, text and free-form properties.

Each function takes what was sent and where it stood, and returns what it means; what cannot be
read is None and a `Fault` in the list that the caller hands in. None of them raises.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

import msgspec

from habitue.events import EMPTY, NO_CURRENCY, Instant, Line, Money, currency_exponent
from habitue.ingest.doors.faults import Fault, escaped
from habitue.ingest.doors.keys import readable_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=24)                # how far a clock may be ahead of ours
MOST_MINOR = 10**15                        # of an amount, in minor units
_MOST_DIGITS = 12                          # before the point, of a price: decimal(18, 6)
_MILLISECONDS_FROM = 100_000_000_000       # as seconds the year 5138, as milliseconds 1973

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[])
_SIX = Decimal("0.000001")
_ONE = Decimal(1)
_NUMBER = re.compile(
    r"\s*[+-]?([0-9]{1,60}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][+-]?[0-9]{1,3})?\s*"
)
_CURRENCY = re.compile("[A-Z]{3}")

# properties with none of these, and small, are within every limit: an escaped NUL, and digits that
# may make a number too large
_ODD = re.compile(rb"\\u0000|[0-9]{300}|[eE][+-]?[0-9]{3}")
_SMALL_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What free-form properties may hold at most."""

    keys: int = 400                        # of the outermost object
    depth: int = 10                        # objects and lists; the outermost is 1
    entries: int = 4_000                   # of one list
    text_bytes: int = 100_000              # of one text, in UTF-8


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Window:
    """Between when and when a time may be, both included."""

    earliest: Instant
    latest: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line of an order as it was sent; numbers may be text."""

    item: object
    quantity: object = None                # 1 if not told
    unit_price: object = None              # major units
    amount: object = None                  # major units; quantity * unit price if not told


def usual_window(received: Instant) -> Window:
    """From 1970 to a day ahead, since a clock may be a little fast."""
    return Window(EPOCH, received + AHEAD)


def time(value: object, window: Window, pointer: str, faults: list[Fault]) -> Instant | None:
    """An instant from ISO 8601 text (UTC if it names no zone) or a number since 1970.

    A number is of seconds, or of milliseconds from 10^11 on.
    """
    found = instant(value)
    if found is None:
        faults.append(Fault(pointer, "bad_time", "a time looks like 2026-11-22T10:15:00Z"))
    elif not window.earliest <= found <= window.latest:
        wanted = f"{window.earliest.isoformat()} to {window.latest.isoformat()}"
        faults.append(Fault(pointer, "bad_time", f"the time is not within {wanted}"))
        return None
    return found


def instant(value: object) -> Instant | None:
    """As `time`, of any year; None if it cannot be read.

    >>> instant("2026-11-22T11:15:00.5+01:00"), instant(1_000_000_000_000), instant("soon")
    (datetime.datetime(2026, 11, 22, 10, 15, 0, 500000, tzinfo=datetime.timezone.utc),
     datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.timezone.utc), None)
    """
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            unit = 1_000 if abs(value) >= _MILLISECONDS_FROM else 1_000_000
            return EPOCH + timedelta(microseconds=round(value * unit))
    except (ValueError, OverflowError):       # no such day, or a year beyond 1 to 9999
        pass
    return None


def number(value: object) -> Decimal | None:
    """A decimal from a number, by its shortest representation, or from text; None if it is none.

    >>> number(0.1), number("12.50"), number("1,50"), number(float("nan")), number(True)
    (Decimal('0.1'), Decimal('12.50'), None, None, None)
    """
    match value:
        case Decimal():
            return value if value.is_finite() else None
        case bool():
            return None
        case int():
            return Decimal(value)
        case float():
            found = Decimal(repr(value))
            return found if found.is_finite() else None
        case str():
            return Decimal(value.strip()) if _NUMBER.fullmatch(value) else None
    return None


def currency(value: object, pointer: str, faults: list[Fault]) -> str | None:
    """A currency's three letters in upper case; None if not told."""
    if value is None or value == "":
        return None
    found = value.strip().upper() if isinstance(value, str) else ""
    if _CURRENCY.fullmatch(found):
        return found
    faults.append(Fault(pointer, "bad_currency", "a currency is three letters, as EUR"))
    return None


def money(value: object, of: str | None, pointer: str, faults: list[Fault]) -> Money | None:
    """An amount in major units as money, rounded half-even; None if not told."""
    if value is None:
        return None
    found = number(value)
    if found is None or found.adjusted() > _MOST_DIGITS + 3:
        faults.append(Fault(pointer, "bad_amount", "an amount is a number of major units"))
        return None
    if of is None:
        faults.append(Fault(pointer, "bad_currency", "an amount needs a currency"))
        return None
    return _rounded(found, of, pointer, faults)


def minor(value: object, of: str | None, pointer: str, faults: list[Fault]) -> Money | None:
    """An amount in minor units as money; None if not told."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MOST_MINOR:
        faults.append(Fault(pointer, "bad_amount", "minor units are a whole number up to 10^15"))
        return None
    if of is None:
        faults.append(Fault(pointer, "bad_currency", "an amount needs a currency"))
        return None
    return Money(value, of)


def price(value: object, pointer: str, faults: list[Fault]) -> Decimal | None:
    """A unit price or quantity: decimal(18, 6), rounded half-even; None if it is none."""
    found = number(value)
    if found is None or (found and found.adjusted() >= _MOST_DIGITS):
        faults.append(Fault(pointer, "bad_amount", "a number below 10^12 was wanted"))
        return None
    found = found.quantize(_SIX, context=_EXACT)
    if found.adjusted() >= _MOST_DIGITS:      # rounded up to it
        faults.append(Fault(pointer, "bad_amount", "a number below 10^12 was wanted"))
        return None
    return plain(found)


def plain(value: Decimal) -> Decimal:
    """The same number in the one form that equal numbers share.

    >>> plain(Decimal("1.500000")), plain(Decimal("100")), plain(Decimal("-0.0"))
    (Decimal('1.5'), Decimal('100'), Decimal('0'))
    """
    if not value:
        return Decimal(0)
    found = value.normalize(_EXACT)
    return found.quantize(_ONE, context=_EXACT) if found == found.to_integral_value() else found


def line(told: Told, of: str | None, pointer: str, faults: list[Fault]) -> Line | None:
    """A line of an order; its amount is quantity times unit price, rounded half-even.

    Without a currency a line may have no price: views of an item need none.
    """
    item = readable_id(told.item)
    if item is None:
        faults.append(Fault(f"{pointer}/item", "no_item", "a line names its item"))
        return None
    if told.quantity is None and told.unit_price is None and told.amount is None:
        return Line(                       # a view of an item: the most frequent line by far
            item=item, quantity=_ONE, unit_price=Decimal(0), amount=Money(0, of or NO_CURRENCY)
        )
    known = len(faults)
    told_quantity = 1 if told.quantity is None else told.quantity
    quantity = price(told_quantity, f"{pointer}/quantity", faults)
    unit_price = price(
        0 if told.unit_price is None else told.unit_price, f"{pointer}/unit_price", faults
    )
    if quantity is None or unit_price is None:
        return None
    if told.amount is None:
        amount = _rounded(
            _EXACT.multiply(quantity, unit_price), of or NO_CURRENCY, f"{pointer}/amount", faults
        )
    else:
        amount = money(told.amount, of, f"{pointer}/amount", faults)
    if of is None and unit_price:
        faults.append(Fault(pointer, "bad_currency", "a price needs a currency"))
    if amount is None or len(faults) > known:
        return None
    return Line(item=item, quantity=quantity, unit_price=unit_price, amount=amount)


def text(value: object, most: int, pointer: str, faults: list[Fault]) -> str | None:
    """Text of one to `most` characters without NUL; None if not told."""
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= most and "\0" not in value:
        return value
    faults.append(Fault(pointer, "bad_text", f"text of 1 to {most} characters was wanted"))
    return None


def properties(
    raw: msgspec.Raw, pointer: str, faults: list[Fault], limits: Limits = LIMITS
) -> msgspec.Raw:
    """A free-form JSON object within limits, as it came; `null` is the empty one.

    `raw` must be JSON in UTF-8. What breaks a limit is a fault, with its own pointer.
    """
    held = bytes(raw)
    if held[:1] != b"{":
        if held != b"null":
            faults.append(Fault(pointer, "bad_json", "an object was wanted"))
        return EMPTY
    is_plain = (
        len(held) <= _SMALL_BYTES
        and held.count(b"{") + held.count(b"[") <= limits.depth
        and held.count(b":") <= limits.keys
        and _ODD.search(held) is None
    )
    if not is_plain:
        fault = _beyond(held, limits)
        if fault is not None:
            faults.append(Fault(pointer + fault.pointer, fault.reason, fault.detail))
    return raw


def _rounded(value: Decimal, of: str, pointer: str, faults: list[Fault]) -> Money | None:
    units = value.scaleb(currency_exponent(of), _EXACT).quantize(_ONE, context=_EXACT)
    if not units.is_finite() or abs(units) > MOST_MINOR:
        faults.append(Fault(pointer, "bad_amount", "an amount is at most 10^15 minor units"))
        return None
    return Money(int(units), of)


def _beyond(held: bytes, limits: Limits) -> Fault | None:
    """The first limit that an object breaks, outermost first."""
    try:
        tree = msgspec.json.decode(held)
    except RecursionError:
        return Fault("", "too_deep", f"at most {limits.depth} levels")
    except msgspec.ValidationError:
        return Fault("", "bad_number", "a number is too large")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault("", "bad_json", "JSON was wanted")
    return _first_odd(tree, limits)


def _first_odd(tree: dict[str, object], limits: Limits) -> Fault | None:
    if len(tree) > limits.keys:
        return Fault("", "too_many", f"at most {limits.keys} properties")
    level: list[tuple[str, object]] = [("", tree)]
    for depth in range(limits.depth + 1):
        below: list[tuple[str, object]] = []
        for pointer, value in level:
            fault = _odd(value, pointer, limits)
            if fault is None and isinstance(value, (dict, list)) and depth == limits.depth:
                fault = Fault(pointer, "too_deep", f"at most {limits.depth} levels")
            if fault is not None:
                return fault
            below += _members(value, pointer)
        level = below
    return None


def _members(value: object, pointer: str) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"{pointer}/{escaped(name)}", member) for name, member in value.items()]
    if isinstance(value, list):
        return [(f"{pointer}/{place}", member) for place, member in enumerate(value)]
    return []


def _odd(value: object, pointer: str, limits: Limits) -> Fault | None:
    """What is wrong with one value, whatever it holds."""
    match value:
        case str():
            if len(value) * 4 > limits.text_bytes and len(value.encode()) > limits.text_bytes:
                return Fault(pointer, "too_large", f"text of at most {limits.text_bytes} bytes")
            if "\0" in value:
                return Fault(pointer, "bad_text", "text may not hold NUL")
        case dict() if any("\0" in name for name in value):
            return Fault(pointer, "bad_text", "text may not hold NUL")
        case list() if len(value) > limits.entries:
            return Fault(pointer, "too_many", f"at most {limits.entries} entries")
        case int() if abs(value) >= 1 << 1023:
            return Fault(pointer, "bad_number", "a number is too large")
    return None
