"""What may change the answer of a condition when it is told, and in which direction.

A row of an event can make `did it` true and never false. So while somebody is in such an audience,
more of these rows change nothing before the `until` that is known: they need not be looked at.
"""

from collections.abc import Iterable
from datetime import timedelta
from types import MappingProxyType

from habitue.audiences.language.nodes import (
    LINE_FIELDS,
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
    NextOrder,
    Not,
    Operand,
    Or,
    Prediction,
    Profile,
    Rfm,
    Similar,
    Sum,
    Theirs,
    every,
)
from habitue.audiences.language.windows import Earlier, Last, Window
from habitue.events import (
    ITEM_ORDERED,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    ORDER_UPDATED,
)

ORDERS = (ORDER_PLACED, ORDER_UPDATED, ITEM_ORDERED, ORDER_CANCELLED)
NEW_ORDER = "order_placed, of a new order"     # the kind of a row that tells of one at last
_OF_ORDERS = (ORDER_PLACED, ITEM_ORDERED)
_TICK = timedelta(microseconds=1)
NOTHING: frozenset[str] = frozenset()
NOWHERE: frozenset[bool] = frozenset()
UP, DOWN = frozenset({True}), frozenset({False})  # what the answer may become
ANYWHERE = UP | DOWN

_READS: dict[type[Operand], frozenset[str]] = {
    Profile: frozenset({"profiles"}),
    Consent: frozenset({"consents"}),
    ConsentSince: frozenset({"consents"}),
    Prediction: frozenset({"predictions"}),
    NextOrder: frozenset({"predictions"}),
    Rfm: frozenset({"rfm", *ORDERS, ORDER_REFUNDED}),
    Bought: frozenset({*ORDERS, ORDER_REFUNDED}),
}
_OTHERS: dict[type[Condition], frozenset[str]] = {
    Theirs: frozenset({"profiles"}), Similar: frozenset({"similar"}),
}  # fmt: skip


def reads(condition: Condition) -> frozenset[str]:
    """What may change the answer when it is told."""
    return frozenset().union(*map(_read, every(condition)))


def of_event(event: str) -> frozenset[str]:
    """The events of which the rows of an event are made."""
    return frozenset(ORDERS if event in (ORDER_PLACED, ITEM_ORDERED) else (event,))


def settled(condition: Condition) -> MappingProxyType[str, bool]:
    """Kinds of rows that cannot change an answer, each with the answer that it is."""
    found = {}
    kinds = reads(condition)
    for kind in (*kinds, NEW_ORDER) if ORDER_PLACED in kinds else kinds:
        moves = _moves(condition, kind)
        if len(moves) == 1:
            found[kind] = True in moves
    return MappingProxyType(found)


def reach(condition: Condition) -> int | None:
    """How far back counts and sequences look at most, µs; none: at all that happened.

    What follows in a sequence is later than what it follows.
    """
    asked = [one for one in every(condition) if isinstance(one, (Count, Followed))]
    found = [_length(one.window) for one in asked]
    told = [one for one in found if one is not None]
    return max(told) if told and len(told) == len(found) else None


def _length(window: Window | None) -> int | None:
    match window:
        case Last(span):
            return span.length // _TICK
        case Earlier(far, _):
            return far.length // _TICK
    return None


def _read(one: Condition) -> frozenset[str]:
    match one:
        case Count(event=event) | Sum(event=event):
            return of_event(event)
        case Followed(event=event, steps=steps):
            return of_event(event).union(*(of_event(step.event) for step in steps))
        case Compared(Field(name)) if name in LINE_FIELDS:
            return frozenset({"items"})
        case Compared(operand=First(event)) | Dated(operand=First(event)):
            return of_event(event)
        case Anniversary(operand=First(event)):
            return of_event(event)
        case Theirs() | Similar():
            return _OTHERS[type(one)]
        case Compared() | Dated() | Anniversary():
            return _READS.get(type(one.operand), NOTHING)
    return NOTHING



def _moves(condition: Condition, kind: str) -> frozenset[bool]:
    """What one more row of a kind may make of the answer."""
    match condition:
        case And(parts) | Or(parts):
            return NOWHERE.union(*(_moves(one, kind) for one in parts))
        case Not(inner):
            return frozenset(not one for one in _moves(inner, kind))
        case Theirs(inner):                # another zone is another calendar
            return ANYWHERE if kind == "profiles" else _moves(inner, kind)
    if (ORDER_PLACED if kind == NEW_ORDER else kind) not in reads(condition):
        return NOWHERE
    if kind in ORDERS or kind == "items":  # what is told of an order may take another one's place
        return ANYWHERE
    return _moved(condition, kind)


def _moved(condition: Condition, kind: str) -> frozenset[bool]:
    """What one more row that takes no other's place may make of the answer."""
    match condition:
        case Count(operator=">=" | ">"):
            return UP
        case Count(operator="<=" | "<") | Count(operator="=", number=0):
            return DOWN
        case Sum(event=event, of=Field("value"), operator=operator) if event == ORDER_PLACED:
            # an order that stands is worth more than nought
            return {">=": UP, ">": UP, "<=": DOWN, "<": DOWN}.get(operator, ANYWHERE)
        case Followed():
            return _followed(condition, kind)
    return ANYWHERE


def _followed(condition: Followed, kind: str) -> frozenset[bool]:
    events = [(condition.event, UP)]
    events += [(step.event, DOWN if step.is_absent else UP) for step in condition.steps]
    told = _OF_ORDERS if kind == NEW_ORDER else (kind,)
    return _union(moves for event, moves in events if event in told)


def _union(moves: Iterable[frozenset[bool]]) -> frozenset[bool]:
    return NOWHERE.union(*moves)
