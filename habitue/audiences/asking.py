"""What a condition looks at of what happened: which event, its lines, its properties."""

from habitue.audiences.language.nodes import (
    LINE_FIELDS,
    Compared,
    Condition,
    Count,
    Dated,
    Field,
    Followed,
    Property,
    Sum,
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
