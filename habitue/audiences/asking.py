"""What a condition looks at of what happened, and whether it is met by who did nothing at all."""

from decimal import Decimal
from typing import assert_never, cast

from habitue.audiences.language.limits import Value
from habitue.audiences.language.nodes import (
    LINE_FIELDS,
    And,
    Bought,
    Compared,
    Condition,
    Count,
    Dated,
    Field,
    Followed,
    Not,
    Operator,
    Or,
    Order,
    Property,
    Sum,
    Theirs,
    every,
)
from habitue.events import ORDER_PLACED


def event_of(condition: Condition) -> str | None:
    """The event that is counted, added up, or comes first."""
    match condition:
        case Count(event=event) | Sum(event=event) | Followed(event=event):
            return event
    return None


def reads_order_lines(condition: Condition) -> bool:
    """Whether a condition on orders compares their lines."""
    match condition:
        case Count(event=event, where=where) | Sum(event=event, where=where):
            told = [(event, where)]
        case Followed(event=event, where=where, steps=steps):
            told = [(event, where), *((step.event, step.where) for step in steps)]
        case _:
            return False
    return any(
        event == ORDER_PLACED and where is not None and any(map(reads_lines, every(where)))
        for event, where in told
    )


def reads_lines(condition: Condition) -> bool:
    """Whether a comparison is of a line."""
    match condition:
        case Compared(Field(name)):
            return name in LINE_FIELDS
    return False


def reads_properties(condition: Condition) -> bool:
    """Whether a condition on what happened compares or adds up properties."""
    match condition:
        case Sum(of=Property()):
            return True
    return any(
        isinstance(one, (Compared, Dated)) and isinstance(one.operand, Property)
        for one in every(condition)
    )


def of_nobody(condition: Condition) -> bool:
    """Whether a customer of whom nothing is known meets a condition."""
    match condition:
        case And(parts):
            return all(map(of_nobody, parts))
        case Or(parts):
            return any(map(of_nobody, parts))
        case Not(inner):
            return not of_nobody(inner)
        case Theirs(inner):
            return of_nobody(inner)
        case Count(operator=operator, number=number):
            return _holds(0, operator, number)
        case Sum(operator=operator, amount=amount):
            return _holds(0, operator, amount)
        case Compared(Bought("net_spend"), operator, value):
            return _spent_nothing(operator, value)
    return False


def _spent_nothing(operator: Operator, value: Value) -> bool:
    """Whether nought, which is what somebody without an order has spent, meets a comparison."""
    if operator == "is set":
        return True
    if operator == "in":
        return isinstance(value, tuple) and any(float(one) == 0 for one in value)
    assert isinstance(value, Decimal), "what was spent is compared with a number"
    return _holds(0, cast(Order, operator), value)


def _holds(left: int, operator: Order, right: int | Decimal) -> bool:
    match operator:
        case "=":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
    assert_never(operator)
