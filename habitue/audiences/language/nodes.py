"""The nodes of a condition: one tree, whether it came from a sentence, from JSON or from Python.

    did order_placed >= 2 times in 90 days and churn_90d > 0.7

is an `And` of a `Count` and a `Compared`. Nodes are frozen, refuse what makes no sense when they
are made, and know nothing of text or of SQL. A comparison with a missing value is false, and `Not`
is the plain complement.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import UnionType
from typing import Literal, TypeAlias, cast, get_args

from habitue.audiences.language.calendar import MONTHS, WEEKDAYS
from habitue.audiences.language.limits import Value, exact, refuse_text, refuse_value, shown
from habitue.audiences.language.windows import Calendar, InMonth, Last, Next, Span, Window
from habitue.errors import BadAudience

Order = Literal["=", "!=", "<", "<=", ">", ">="]
Operator = Literal[
    "=", "!=", "<", "<=", ">", ">=", "contains", "starts with", "ends with", "matches", "in",
    "has", "has any of", "has all of", "has any containing", "has exactly", "has at least",
    "has at most", "is set",
]  # fmt: skip

MOST_CONDITIONS = 100
MOST_DEPTH = 20                            # of groups, `not` and `where` in each other
MOST_STEPS = 5                             # of a sequence
ORDERS = get_args(Order)
OWN_FIELDS = ("value", "source")
LINE_FIELDS = ("item", "title", "category", "brand", "quantity")
CLOCK_FIELDS = ("weekday", "month", "hour")    # of the shop's clock when it happened
FIELDS = OWN_FIELDS + LINE_FIELDS + CLOCK_FIELDS
SUMMED_FIELDS = ("value", "quantity")
NUMBER_FIELDS = (*SUMMED_FIELDS, "hour")
CHANCES = {"order": "order", "churn": "churn"}
EXPECTED = {"expected_orders": "orders", "expected_spend": "revenue"}
DEFAULT_HORIZON = 90                       # days of a bare `churn`
GROUPS = ("champions", "loyal", "recent", "needs attention", "at risk", "inactive")
# major units in all; those of an order; days from one order to the next, where there are two
BOUGHT = ("net_spend", "average_order_value", "average_days_between_orders")
CHANNELS = ("email", "sms", "push", "whatsapp")
MOST_NEAREST = 1_000_000                   # customers who are similar to an audience
MOST_ANNIVERSARY_DAYS = 365                # of a window of anniversaries


@dataclass(frozen=True, slots=True)
class Field:
    """What an event or one of its lines is told with: value, source, item, category and so on."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in FIELDS:
            held = ", ".join(FIELDS)
            raise BadAudience(f"{self.name!r} is no field of events\nhint: {held}, properties.NAME")


@dataclass(frozen=True, slots=True)
class Property:
    """What else an event is told with, by the names that lead to it."""

    path: tuple[str, ...]

    def __post_init__(self) -> None:
        _refuse_path(self.path)


@dataclass(frozen=True, slots=True)
class Profile:
    """A property of the customer, by the names that lead to it."""

    path: tuple[str, ...]

    def __post_init__(self) -> None:
        _refuse_path(self.path)


@dataclass(frozen=True, slots=True)
class Consent:
    """The status of a channel, such as subscribed or unsubscribed."""

    channel: str

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise BadAudience(f"{self.channel!r} is no channel\nhint: {', '.join(CHANNELS)}")


@dataclass(frozen=True, slots=True)
class ConsentSince:
    """Since when a channel has had its status."""

    channel: str

    def __post_init__(self) -> None:
        Consent(self.channel)


@dataclass(frozen=True, slots=True)
class First:
    """When an event happened first."""

    event: str

    def __post_init__(self) -> None:
        refuse_text("the name of an event", self.event)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted over so many days: the chance of an order or of none, how many, how much.

    >>> Prediction("churn", 90).name
    'churn_90d'
    """

    question: str                          # order, churn, orders, revenue
    horizon_days: int

    def __post_init__(self) -> None:
        held = (*CHANCES.values(), *EXPECTED.values())
        if self.question not in held:
            raise BadAudience(f"{self.question!r} is not predicted\nhint: {', '.join(held)}")
        if not isinstance(self.horizon_days, int) or not 1 <= self.horizon_days <= 730:
            raise BadAudience(f"a horizon of {self.horizon_days} days: wanted 1 to 730")

    @property
    def name(self) -> str:
        """As sentences spell it."""
        spelt = {question: name for name, question in (CHANCES | EXPECTED).items()}
        return f"{spelt[self.question]}_{self.horizon_days}d"


@dataclass(frozen=True, slots=True)
class NextOrder:
    """The date by which the next order is as likely as not, as it was last predicted."""


@dataclass(frozen=True, slots=True)
class Rfm:
    """The group by recency, frequency and value among the shop's customers."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What a customer's orders that stand come to, refunds taken off."""

    what: str                              # one of BOUGHT

    def __post_init__(self) -> None:
        if self.what not in BOUGHT:
            raise BadAudience(f"{self.what!r} is not known of orders\nhint: {', '.join(BOUGHT)}")


Operand: TypeAlias = (
    Field | Property | Profile | Consent | ConsentSince | First | Prediction | NextOrder | Rfm
    | Bought
)  # fmt: skip


class Joined:
    """What lets conditions be joined by `&`, `|` and `~`, in Python."""

    __slots__ = ()

    def __and__(self, other: "Condition") -> "And":
        return And((*_parts(And, self), *_parts(And, other)))

    def __or__(self, other: "Condition") -> "Or":
        return Or((*_parts(Or, self), *_parts(Or, other)))

    def __invert__(self) -> "Not":
        return Not(cast("Condition", self))


@dataclass(frozen=True, slots=True)
class Compared(Joined):
    """An operand compared with a value; false where either is of another kind, or missing."""

    operand: Operand
    operator: Operator
    value: Value = None

    def __post_init__(self) -> None:
        _refuse_odd(self.operand, Operand)
        object.__setattr__(self, "value", exact(self.value))
        refuse_value(self.operator, self.value)
        _refuse_kind(self.operand, self.operator, self.value)


@dataclass(frozen=True, slots=True)
class Dated(Joined):
    """An operand that is a date, in a window."""

    operand: Operand
    window: Window

    def __post_init__(self) -> None:
        _refuse_odd(self.operand, Operand)
        _refuse_odd(self.window, Window)
        if isinstance(self.operand, (Field, Consent, Prediction, Rfm, Bought)):
            raise BadAudience("this is no date")
        if isinstance(self.operand, NextOrder) and isinstance(self.window, InMonth):
            raise BadAudience("next_order_date is in the future\nhint: in the next 30 days")


@dataclass(frozen=True, slots=True)
class Anniversary(Joined):
    """A date of a customer whose day and month, in a later year, is among some days of the shop."""

    operand: Operand
    window: Calendar | Last | Next

    def __post_init__(self) -> None:
        if not isinstance(self.operand, (Profile, First, ConsentSince)):
            raise BadAudience("only dates of customers have anniversaries\nhint: profile.birthday")
        match self.window:
            case Calendar():
                return
            case Last(span) | Next(span):
                if span.unit not in ("day", "week"):
                    raise BadAudience("anniversaries are told in days and weeks")
                if span.length.days > MOST_ANNIVERSARY_DAYS:
                    raise BadAudience(f"anniversaries within {MOST_ANNIVERSARY_DAYS} days at most")
                return
        raise BadAudience("anniversaries are today, this month, in the next 7 days or in the last")


@dataclass(frozen=True, slots=True)
class Count(Joined):
    """How often an event happened, compared with a number; `did not` is = 0."""

    event: str
    operator: Order = ">="
    number: int = 1
    window: Window | None = None
    where: "Condition | None" = None       # of Compared and Dated, of what the event is told with

    def __post_init__(self) -> None:
        _refuse_happened(self.event, self.operator, self.window, self.where)
        if isinstance(self.number, bool) or not isinstance(self.number, int):
            raise BadAudience(f"{self.number} times: wanted a whole number")
        if not 0 <= self.number <= 10**9:
            raise BadAudience(f"{self.number} times: wanted 0 to 1,000,000,000")


@dataclass(frozen=True, slots=True)
class Sum(Joined):
    """What an event adds up to, compared with an amount; of no events it is nought."""

    event: str
    of: Field | Property                   # value (major units), quantity or a property
    operator: Order
    amount: Decimal
    window: Window | None = None
    where: "Condition | None" = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", exact(self.amount))
        _refuse_happened(self.event, self.operator, self.window, self.where)
        refuse_value(self.operator, self.amount)
        _refuse_odd(self.of, Field | Property)
        if not isinstance(self.amount, Decimal):
            raise BadAudience(f"a sum is compared with a number, not with {self.amount!r}")
        if isinstance(self.of, Field) and self.of.name not in SUMMED_FIELDS:
            raise BadAudience(f"{self.of.name} cannot be added up\nhint: value, quantity")


@dataclass(frozen=True, slots=True)
class Step:
    """What follows in a sequence: strictly later, and at most so long after the step before."""

    event: str
    within: Span | None = None
    where: "Condition | None" = None
    is_absent: bool = False                # it does not follow, and `within` is over

    def __post_init__(self) -> None:
        refuse_text("the name of an event", self.event)


@dataclass(frozen=True, slots=True)
class Followed(Joined):
    """An event of the window that others followed, or (the last of them) did not."""

    event: str
    steps: tuple[Step, ...]
    window: Window | None = None
    where: "Condition | None" = None

    def __post_init__(self) -> None:
        _refuse_happened(self.event, "=", self.window, self.where)
        if not 1 <= len(self.steps) < MOST_STEPS:
            raise BadAudience(f"a sequence has 2 to {MOST_STEPS} steps")
        if any(step.is_absent for step in self.steps[:-1]):
            raise BadAudience("only the last step of a sequence can be one that does not follow")


@dataclass(frozen=True, slots=True)
class Member(Joined):
    """Membership of another audience, by its name."""

    audience: str

    def __post_init__(self) -> None:
        refuse_text("the name of an audience", self.audience)


@dataclass(frozen=True, slots=True)
class Similar(Joined):
    """Among the customers who are nearest to those of an audience, and not one of them."""

    audience: str
    top: int
    of: Literal["customers", "percent"] = "customers"

    def __post_init__(self) -> None:
        refuse_text("the name of an audience", self.audience)
        if self.of not in ("customers", "percent"):
            raise BadAudience(f"top {self.top} {self.of}: wanted customers or percent")
        most = 100 if self.of == "percent" else MOST_NEAREST
        if isinstance(self.top, bool) or not isinstance(self.top, int) or not 0 < self.top <= most:
            raise BadAudience(f"top {self.top} {self.of}: wanted 1 to {most:,}")


@dataclass(frozen=True, slots=True)
class Not(Joined):
    """Everyone else."""

    inner: "Condition"

    def __post_init__(self) -> None:
        _refuse_odd(self.inner, Joined)


@dataclass(frozen=True, slots=True)
class Theirs(Joined):
    """By the clock and the calendar of each customer's own time zone, where they have one."""

    inner: "Condition"

    def __post_init__(self) -> None:
        _refuse_odd(self.inner, Joined)


@dataclass(frozen=True, slots=True)
class And(Joined):
    """All of two or more."""

    parts: tuple["Condition", ...]

    def __post_init__(self) -> None:
        _refuse_few(self.parts)


@dataclass(frozen=True, slots=True)
class Or(Joined):
    """Any of two or more."""

    parts: tuple["Condition", ...]

    def __post_init__(self) -> None:
        _refuse_few(self.parts)


Condition: TypeAlias = (
    Compared | Dated | Anniversary | Count | Sum | Followed | Member | Similar | Not | And | Or
    | Theirs
)  # fmt: skip


def children(condition: Condition) -> tuple[Condition, ...]:
    """The conditions right inside one, those of its `where` included."""
    match condition:
        case And(parts) | Or(parts):
            return parts
        case Not(inner) | Theirs(inner):
            return (inner,)
        case Count(where=where) | Sum(where=where):
            return () if where is None else (where,)
        case Followed(steps=steps, where=where):
            held = [where, *(step.where for step in steps)]
            return tuple(one for one in held if one is not None)
        case _:
            return ()


def every(condition: Condition) -> Iterator[Condition]:
    """The condition and all inside it."""
    yield condition
    for one in children(condition):
        yield from every(one)


def check(condition: Condition) -> Condition:
    """The condition itself, where it is no larger than conditions may be and each part fits.

    Raises:
        BadAudience: it is too large or too deep, or something stands where it means nothing.
    """
    _refuse_deep(condition, 1)
    groups = (And, Or, Not, Theirs)
    number = sum(1 for one in every(condition) if not isinstance(one, groups))
    if number > MOST_CONDITIONS:
        raise BadAudience(f"{number} conditions: wanted at most {MOST_CONDITIONS}")
    _refuse_misplaced(condition, is_where=False)
    return condition


def _refuse_deep(condition: Condition, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise BadAudience(f"conditions inside each other more than {MOST_DEPTH} deep")
    for one in children(condition):
        _refuse_deep(one, depth + 1)


def _refuse_misplaced(condition: Condition, *, is_where: bool) -> None:
    match condition:
        case Compared(operand=operand) | Dated(operand=operand):
            if isinstance(operand, (Field, Property)) != is_where:
                told = "of an event, and stands behind where" if not is_where else "of a customer"
                raise BadAudience(f"{operand} is {told}")
        case Count() | Sum() | Followed():
            if is_where:
                raise BadAudience("where compares what one event is told with, and nothing else")
            is_where = True
        case Member() | Similar() | Anniversary() | Theirs() if is_where:
            raise BadAudience("where compares what one event is told with, and nothing else")
    for one in children(condition):
        _refuse_misplaced(one, is_where=is_where)


_NUMBERS: tuple[Operand, ...] = tuple(map(Field, NUMBER_FIELDS))
_NAMED: dict[Operand, tuple[str, tuple[str, ...]]] = {
    Rfm(): ("group", GROUPS),
    Field("weekday"): ("day of the week", WEEKDAYS),
    Field("month"): ("month", MONTHS),
}


def _refuse_kind(operand: Operand, operator: str, value: Value) -> None:
    """Raise where what is compared is never of the kind that it is compared with."""
    if operator == "is set" or isinstance(operand, (Property, Profile)):
        return
    if isinstance(operand, (NextOrder, ConsentSince, First)):
        told = "next_order_date" if isinstance(operand, NextOrder) else "this"
        raise BadAudience(f"{told} is a date\nhint: in the next 7 days, before …")
    is_number = isinstance(operand, (Prediction, Bought)) or operand in _NUMBERS
    each = value if isinstance(value, tuple) else (value,)
    if operator.startswith("has") or not all(
        isinstance(one, Decimal if is_number else str) for one in each
    ):
        told = "a number" if is_number else "a text"
        raise BadAudience(f"this is {told}: it cannot be compared by {operator} {shown(value)}")
    if isinstance(operand, Prediction) and operand.question in CHANCES.values():
        _refuse_share(operand.name, each)
    if operand in _NAMED and operator in ("=", "!=", "in"):
        told, held = _NAMED[operand]
        for one in each:
            if one not in held:
                raise BadAudience(f"{one!r} is no {told}\nhint: {', '.join(held)}")


def _refuse_share(name: str, each: tuple[Value, ...]) -> None:
    for one in each:
        if isinstance(one, Decimal) and not 0 <= one <= 1:
            share = one / 100
            hint = f"{one}% is {share:f}" if 1 < one <= 100 else "0.7 is seven in ten"
            raise BadAudience(f"{name} is a share from 0 to 1, never {one}\nhint: {hint}")


def _refuse_happened(
    event: str, operator: str, window: Window | None, where: "Condition | None"
) -> None:
    if where is not None:
        _refuse_odd(where, Joined)
    refuse_text("the name of an event", event)
    if operator not in ORDERS:
        raise BadAudience(f"{operator!r} is no comparison\nhint: there are {' '.join(ORDERS)}")
    if window is not None:
        _refuse_odd(window, Window)
    if isinstance(window, InMonth):
        raise BadAudience(
            "the months of every year are compared behind where\n"
            f'hint: where month = "{window.month}"'
        )
    if isinstance(window, Next) or (isinstance(window, Calendar) and window.ahead > 0):
        raise BadAudience("what happens in the future is not known\nhint: churn_90d, order_30d, …")


def _refuse_path(path: tuple[str, ...]) -> None:
    if not path or len(path) > MOST_STEPS:
        raise BadAudience(f"a property is found by 1 to {MOST_STEPS} names")
    for name in path:
        refuse_text("the name of a property", name)


def _parts(join: type, condition: object) -> tuple["Condition", ...]:
    """The parts of one that is joined likewise, or the condition alone."""
    if isinstance(condition, (And, Or)) and type(condition) is join:
        return condition.parts
    if not isinstance(condition, Joined):
        raise BadAudience(f"{condition!r} is no condition")
    return (cast("Condition", condition),)


def _refuse_few(parts: tuple[Condition, ...]) -> None:
    if len(parts) < 2:
        raise BadAudience("and, or: of two conditions or more")
    for one in parts:
        _refuse_odd(one, Joined)


def _refuse_odd(told: object, wanted: UnionType | type) -> None:
    """Raise where Python puts something of another kind into a node."""
    if not isinstance(told, wanted):
        raise BadAudience(f"{told!r} cannot stand here")
