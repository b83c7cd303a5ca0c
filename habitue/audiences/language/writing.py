"""Nodes as the sentence that says them: `parse(written(condition)) == condition`."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import assert_never

from habitue.audiences.language.limits import LENGTHS, Value
from habitue.audiences.language.nodes import (
    FIELDS,
    And,
    Anniversary,
    Bought,
    Compared,
    Condition,
    Consent,
    ConsentSince,
    Count,
    Dated,
    Field,
    First,
    Followed,
    Member,
    NextOrder,
    Not,
    Operand,
    Or,
    Prediction,
    Profile,
    Property,
    Rfm,
    Similar,
    Step,
    Sum,
    Theirs,
)
from habitue.audiences.language.reading import name, path, quoted
from habitue.audiences.language.windows import (
    After,
    Ago,
    Before,
    Between,
    Calendar,
    Earlier,
    InMonth,
    Last,
    Next,
    Span,
    Window,
)


def written(condition: Condition) -> str:
    """The sentence of a condition.

    >>> print(written(Not(Count("order_placed", window=Last(Span(90, "day"))))))
    not did order_placed in 90 days
    """
    match condition:
        case And(parts):
            return " and ".join(map(_inner, parts))
        case Or(parts):
            return " or ".join(map(_inner, parts))
        case Not(Compared(operand, "is set")):
            return f"{_operand(operand)} is not set"
        case Not(inner):
            return f"not {_inner(inner)}"
        case Theirs(inner):
            return f"in their time zone {_inner(inner)}"
        case Count() | Sum() | Followed():
            return _happened(condition)
        case Member() | Similar():
            return _named(condition)
    return _comparison(condition)


def _named(condition: Member | Similar) -> str:
    audience = quoted(condition.audience)
    if isinstance(condition, Similar):
        return f"similar to audience {audience} top {condition.top} {condition.of}"
    return f"in audience {audience}"


def _comparison(condition: Compared | Dated | Anniversary) -> str:
    match condition:
        case Anniversary(operand, window):
            return f"anniversary of {_comparison(Dated(operand, window))}"
        case Compared(operand, operator, value):
            told = "" if operator == "is set" else f" {_value(value)}"
            told += f" value{'s' * (value != 1)}" * (operator in LENGTHS)
            return f"{_operand(operand)} {operator}{told}"
        case Dated(operand, Last(span)):
            return f"{_operand(operand)} in the last {_span(span)}"
        case Dated(operand, window):
            return f"{_operand(operand)}{_window(window)}"
    assert_never(condition)


def _inner(condition: Condition) -> str:
    """The same as a part of something larger."""
    told = written(condition)
    return f"({told})" if isinstance(condition, (And, Or)) else told


def _happened(condition: Count | Sum | Followed) -> str:
    rest = f"{_window(condition.window)}{_where(condition.where)}"
    event = name(condition.event)
    match condition:
        case Count(operator=">=", number=1):
            return f"did {event}{rest}"
        case Count(operator="=", number=0):
            return f"did not {event}{rest}"
        case Count(operator=operator, number=number):
            return f"did {event} {operator} {number} time{'s' * (number != 1)}{rest}"
        case Sum(of=of, operator=operator, amount=amount):
            return f"sum of {event} {_operand(of)} {operator} {_value(amount)}{rest}"
        case Followed(steps=steps):
            return f"did {event}{rest}{''.join(map(_step, steps))}"
    assert_never(condition)


def _step(step: Step) -> str:
    within = "" if step.within is None else f" within {_span(step.within)}"
    return f" then {'not ' * step.is_absent}{name(step.event)}{within}{_where(step.where)}"


def _where(where: Condition | None) -> str:
    return "" if where is None else f" where {_inner(where)}"


def _window(window: Window | None) -> str:
    match window:
        case None:
            return ""
        case Last(span):
            return f" in {_span(span)}"
        case Next(span):
            return f" in the next {_span(span)}"
        case Ago(span):
            return f" at least {_span(span)} ago"
        case Earlier(far, near):
            return f" between {far.amount} and {_span(near)} ago"
        case Calendar() | InMonth():
            return f" {_calendar(window)}"
    return f" {_dates(window)}"


def _calendar(window: Calendar | InMonth) -> str:
    match window:
        case InMonth(month):
            return f"in {month}"
        case Calendar("day", ahead):
            return ("today", "tomorrow", "yesterday")[ahead]
        case Calendar(unit, ahead):
            return f"{('this', 'next', 'last')[ahead]} {unit}"
    assert_never(window)


def _dates(window: Before | After | Between) -> str:
    match window:
        case Before(at):
            return f"before {_instant(at)}"
        case After(at):
            return f"after {_instant(at)}"
        case Between(start, end):
            return f"between {_instant(start)} and {_instant(end)}"
    assert_never(window)


def _span(span: Span) -> str:
    return f"{span.amount} {span.unit}{'s' * (span.amount != 1)}"


def _instant(at: datetime) -> str:
    """A date where it is the first instant of one in UTC."""
    at = at.astimezone(UTC)
    told = at.isoformat().replace("+00:00", "Z")
    return told.removesuffix("T00:00:00Z")


def _operand(operand: Operand) -> str:
    match operand:
        case NextOrder():
            return "next_order_date"
        case Rfm():
            return "rfm"
        case Bought(what):
            return what
        case Prediction():
            return operand.name
        case Consent(channel):
            return f"consent.{channel}"
        case ConsentSince(channel):
            return f"consent.{channel}.since"
        case First(event):
            return f"first {name(event)}"
    return _told(operand)


def _told(operand: Field | Property | Profile) -> str:
    match operand:
        case Field(told):
            return told
        case Property((one,)) if one.lower() not in FIELDS:
            return name(one)
        case Property(parts):
            return f"properties.{path(parts)}"
        case Profile(parts):
            return f"profile.{path(parts)}"
    assert_never(operand)


def _value(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case Decimal():
            return _number(value)
        case tuple():
            return f"({', '.join(map(_value, value))})"
        case None:
            return ""
    assert_never(value)


def _number(value: Decimal) -> str:
    told = f"{value:f}"
    return (told.rstrip("0").rstrip(".") if "." in told else told) or "0"
