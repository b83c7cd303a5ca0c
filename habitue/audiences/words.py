"""The words of conditions in Python: they make the nodes that sentences make.

    did("order_placed", at_least=2, window=last(90, "days")) & (churn() > 0.7)
    ~did("order_placed", window=this("month")) | anniversary(profile.birthday, in_next(7, "days"))

`&` binds closer than comparisons, so these stand in parentheses.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from habitue.audiences.language import nodes
from habitue.audiences.language.calendar import CalendarUnit
from habitue.audiences.language.nodes import (
    DEFAULT_HORIZON,
    Anniversary,
    Compared,
    Condition,
    Count,
    Dated,
    Followed,
    Member,
    Not,
    Operand,
    Operator,
    Similar,
    Step,
    Sum,
    Theirs,
)
from habitue.audiences.language.windows import (
    Ago,
    Calendar,
    Earlier,
    InMonth,
    Last,
    Next,
    Span,
    Unit,
    Window,
)

Told = str | bool | int | float | Decimal


@dataclass(frozen=True, slots=True, eq=False)
class Word:
    """Something that can be compared; `profile.city` and `consent.email` are made of it."""

    operand: Operand

    def __eq__(self, value: object) -> Compared:    # type: ignore[override]
        return self._compared("=", value)

    def __ne__(self, value: object) -> Compared:    # type: ignore[override]
        return self._compared("!=", value)

    def __lt__(self, value: Told) -> Compared:
        return self._compared("<", value)

    def __le__(self, value: Told) -> Compared:
        return self._compared("<=", value)

    def __gt__(self, value: Told) -> Compared:
        return self._compared(">", value)

    def __ge__(self, value: Told) -> Compared:
        return self._compared(">=", value)

    def contains(self, text: str) -> Compared:
        """A text that holds another, in upper or lower case."""
        return self._compared("contains", text)

    def starts_with(self, text: str) -> Compared:
        """A text that begins with another."""
        return self._compared("starts with", text)

    def ends_with(self, text: str) -> Compared:
        """A text that ends with another."""
        return self._compared("ends with", text)

    def matches(self, pattern: str) -> Compared:
        """A text in which a regular expression of RE2 is found."""
        return self._compared("matches", pattern)

    def is_in(self, *values: Told) -> Compared:
        """One of some texts and numbers."""
        return self._compared("in", values)

    def has(self, text: str) -> Compared:
        """A list that holds a text."""
        return self._compared("has", text)

    def has_any_of(self, *texts: str) -> Compared:
        """A list that holds one of some texts."""
        return self._compared("has any of", texts)

    def has_all_of(self, *texts: str) -> Compared:
        """A list that holds all of some texts."""
        return self._compared("has all of", texts)

    def has_any_containing(self, text: str) -> Compared:
        """A list with a text that holds another, in upper or lower case."""
        return self._compared("has any containing", text)

    def has_exactly(self, number: int) -> Compared:
        """A list of so many values."""
        return self._compared("has exactly", number)

    def has_at_least(self, number: int) -> Compared:
        """A list of so many values, or more."""
        return self._compared("has at least", number)

    def has_at_most(self, number: int) -> Compared:
        """A list of so many values, or fewer."""
        return self._compared("has at most", number)

    def is_set(self) -> Compared:
        """Whether it is known."""
        return self._compared("is set", None)

    def during(self, window: Window) -> Dated:
        """A date in a window."""
        return Dated(self.operand, window)

    def _compared(self, operator: Operator, value: object) -> Compared:
        return Compared(self.operand, operator, cast("Decimal", value))


class _Profile:
    """`profile.city`, or `profile["Loyalty Tier", "level"]` of names that lie in each other."""

    def __getattr__(self, name: str) -> Word:
        return Word(nodes.Profile((name,)))

    def __getitem__(self, names: str | tuple[str, ...]) -> Word:
        return Word(nodes.Profile((names,) if isinstance(names, str) else names))


class _Consent:
    """`consent.email`: the status of a channel."""

    def __getattr__(self, channel: str) -> Word:
        return Word(nodes.Consent(channel))

    def since(self, channel: str) -> Word:
        """Since when a channel has its status."""
        return Word(nodes.ConsentSince(channel))


class _Where:
    """`where.category` or `where.value`, and by `where["Color"]` any other property of an event."""

    def __getattr__(self, name: str) -> Word:
        return Word(nodes.Field(name))

    def __getitem__(self, names: str | tuple[str, ...]) -> Word:
        return Word(nodes.Property((names,) if isinstance(names, str) else names))


profile, consent, where = _Profile(), _Consent(), _Where()
rfm = Word(nodes.Rfm())
net_spend = Word(nodes.Bought("net_spend"))
average_order_value = Word(nodes.Bought("average_order_value"))
average_days_between_orders = Word(nodes.Bought("average_days_between_orders"))
next_order_date = Word(nodes.NextOrder())


def did(
    event: str,
    *,
    at_least: int = 1,
    window: Window | None = None,
    where: Condition | None = None,
) -> Count:
    """An event happened, at least so often."""
    return Count(event, ">=", at_least, window, where)


def did_not(event: str, *, window: Window | None = None, where: Condition | None = None) -> Count:
    """An event never happened."""
    return Count(event, "=", 0, window, where)


def spent(
    at_least: Told, *, window: Window | None = None, where: Condition | None = None
) -> Sum:
    """Orders came to so much, at least, in major units of the shop's currency."""
    amount = cast("Decimal", at_least)
    return Sum("order_placed", nodes.Field("value"), ">=", amount, window, where)


def followed(
    event: str, *steps: Step, window: Window | None = None, where: Condition | None = None
) -> Followed:
    """Events one after the other; the last of them may be one that did not follow."""
    return Followed(event, steps, window, where)


def then(event: str, within: Span | None = None, where: Condition | None = None) -> Step:
    """What followed."""
    return Step(event, within, where)


def then_not(event: str, within: Span | None = None, where: Condition | None = None) -> Step:
    """What did not follow."""
    return Step(event, within, where, is_absent=True)


def first(event: str) -> Word:
    """When an event happened first."""
    return Word(nodes.First(event))


def anniversary(date: Word, window: Calendar | Last | Next) -> Anniversary:
    """A date whose day and month, in a later year, is among some days."""
    return Anniversary(date.operand, window)


def member(audience: str) -> Member:
    """Membership of an audience."""
    return Member(audience)


def similar(audience: str, *, top: int | None = None, percent: int | None = None) -> Similar:
    """Who is nearest to an audience, and not one of it."""
    return Similar(audience, percent, "percent") if percent else Similar(audience, top or 0)


def in_their_time_zone(condition: Condition) -> Theirs:
    """A condition by the clock of each customer's own time zone, where they have one."""
    return Theirs(condition)


def churn(days: int = DEFAULT_HORIZON) -> Word:
    """The chance of no order in so many days."""
    return Word(nodes.Prediction("churn", days))


def order(days: int = DEFAULT_HORIZON) -> Word:
    """The chance of an order in so many days."""
    return Word(nodes.Prediction("order", days))


def expected_orders(days: int = DEFAULT_HORIZON) -> Word:
    """How many orders are expected in so many days."""
    return Word(nodes.Prediction("orders", days))


def expected_spend(days: int = DEFAULT_HORIZON) -> Word:
    """How much is expected to be spent in so many days."""
    return Word(nodes.Prediction("revenue", days))


def never(condition: Condition) -> Not:
    """Everyone else; the same as `~condition`."""
    return Not(condition)


def span(amount: int, unit: str) -> Span:
    """A length of time: `span(1, "hour")`, `span(90, "days")`."""
    return Span(amount, cast("Unit", unit.removesuffix("s")))


def last(amount: int, unit: str) -> Last:
    """(t - span, t]."""
    return Last(span(amount, unit))


def in_next(amount: int, unit: str) -> Next:
    """(t, t + span]; of dates."""
    return Next(span(amount, unit))


def ago(amount: int, unit: str) -> Ago:
    """At least so long ago."""
    return Ago(span(amount, unit))


def earlier(far: int, near: int, unit: str) -> Earlier:
    """Between so long and so long ago, the longer one first."""
    return Earlier(span(far, unit), span(near, unit))


def in_month(name: str) -> InMonth:
    """A month of whatever year; of dates: `profile.birthday.during(in_month("march"))`."""
    return InMonth(name)


def this(unit: str) -> Calendar:
    """This day, week, month, quarter or year of the shop."""
    return Calendar(cast("CalendarUnit", unit))


def previous(unit: str) -> Calendar:
    """The day, week, month, quarter or year before this one."""
    return Calendar(cast("CalendarUnit", unit), -1)
