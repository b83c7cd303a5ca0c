"""The language of audiences: a sentence is parsed into nodes, and nodes are written as one.

    did order_placed >= 2 times in 90 days and churn_90d > 0.7
    did not order_placed in 26 weeks where category in ("mugs", "bowls")
    sum of order_placed value >= 100 in 365 days
    did cart_added in 3 days then not order_placed within 1 hour
    profile.city = "Paris" and consent.email = "subscribed" and not in audience "staff"

`and` binds closer than `or`, `not` closer still, and `where` takes one comparison or a group in
parentheses. What cannot be read is pointed at.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from habitue.audiences.language import nodes, windows
from habitue.audiences.language.calendar import CALENDAR_UNITS, MONTHS
from habitue.audiences.language.limits import LENGTHS, Value
from habitue.audiences.language.nodes import (
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
    Operator,
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
from habitue.audiences.language.reading import KEYWORDS, Reader, Token, near
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
    Unit,
    Window,
)
from habitue.events import CANONICAL_NAMES

_QUESTIONS = nodes.CHANCES | nodes.EXPECTED | {"orders": "orders", "revenue": "revenue"}
_PREDICTED = re.compile(rf"({'|'.join(_QUESTIONS)})(?:_(\d{{1,4}})d)?")
_BEGINNINGS = (
    "did", "did not", "count of", "sum of", "in audience", "profile.", "consent.", "rfm",
    "net_spend", "average_order_value", "average_days_between_orders", "next_order_date",
    "churn_90d", "order_90d", "expected_orders_90d", "expected_spend_90d",
    "anniversary of", "first", "similar to audience", "in their time zone",
)  # fmt: skip
_ONCE: tuple[nodes.Order, int] = (">=", 1)
_SIGNS = ("=", "!=", "<", "<=", ">", ">=")
_OPERATORS = (
    *_SIGNS, "contains", "starts with", "ends with", "matches", "in", "has", "is set", "is not set",
    "before", "after", "between", "at least", "today", "this month",
)  # fmt: skip
_WINDOWS = (
    "in", "at", "between", "before", "after", "yesterday", "today", "tomorrow", "last", "this",
    "next",
)  # fmt: skip
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_AHEAD = {"last": -1, "this": 0, "next": 1}


@lru_cache(maxsize=1_000)                  # whoever follows audiences asks of each again and again
def parse(sentence: str) -> Condition:
    """The condition that a sentence says.

    Raises:
        BadAudience: it cannot be read, or makes no sense; the message points at the character.
    """
    reader = Reader(sentence)
    if reader.peek().kind == "end":
        hint = 'did order_placed >= 2 times in 90 days, churn_90d > 0.7, profile.city = "Paris"'
        raise reader.error(reader.peek(), "a condition was wanted, and nothing was told", hint)
    start = reader.peek()
    found = _Parser(reader).condition()
    return reader.made(start, lambda: nodes.check(found))


class _Parser:
    """Reads conditions: one method for each rule of the grammar."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._depth = 0
        self._count = 0

    def condition(self) -> Condition:
        """A condition up to the end of the sentence."""
        found = self._any(is_where=False)
        left = self._reader.peek()
        if left.kind != "end":
            hint = self._reader.near(["and", "or", "where", "then", "in", "within"])
            if left.text == ")":
                hint = "this closes no parenthesis"
            raise self._reader.error(left, 'wanted "and", "or" or the end', hint)
        return found

    def _any(self, *, is_where: bool) -> Condition:
        parts = [self._all(is_where=is_where)]
        while self._reader.takes("or"):
            parts.append(self._all(is_where=is_where))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, *, is_where: bool) -> Condition:
        parts = [self._one(is_where=is_where)]
        while self._reader.takes("and"):
            parts.append(self._one(is_where=is_where))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, *, is_where: bool) -> Condition:
        reader, begun = self._reader, self._reader.peek()
        is_theirs = not is_where and reader.takes("in", "their", "time", "zone")
        if not (is_theirs or begun.word == "not" or begun.text == "("):
            self._count += 1
            if self._count > nodes.MOST_CONDITIONS:
                raise reader.error(begun, f"more than {nodes.MOST_CONDITIONS} conditions")
            return self._where_part() if is_where else self._part()
        self._depth += 1
        if self._depth >= nodes.MOST_DEPTH:
            raise reader.error(begun, f"more than {nodes.MOST_DEPTH} levels of conditions")
        if is_theirs:
            found: Condition = Theirs(self._one(is_where=False))
        elif reader.take().word == "not":
            found = Not(self._one(is_where=is_where))
        else:
            found = self._any(is_where=is_where)
            reader.wants(")", "every parenthesis that is opened is closed")
        self._depth -= 1
        return found

    def _part(self) -> Condition:
        """One condition on a customer."""
        reader, begun = self._reader, self._reader.peek()
        if reader.takes("did"):
            return self._did(begun)
        if reader.takes("count", "of"):
            return self._count_of(begun)
        if reader.takes("sum", "of"):
            return self._sum_of(begun)
        if reader.takes("in", "audience"):
            told = self._named('the name of an audience: in audience "vip"')
            return reader.made(begun, lambda: Member(told))
        if reader.takes("similar", "to", "audience"):
            return self._similar(begun)
        if reader.takes("anniversary", "of"):
            return self._anniversary(begun)
        return self._compared(self._operand())

    def _similar(self, begun: Token) -> Condition:
        reader = self._reader
        told = self._named('the name of an audience: similar to audience "vip" top 500')
        reader.wants("top", "top 500 customers, top 5 percent")
        number = self._whole()
        if reader.takes("percent"):
            return reader.made(begun, lambda: Similar(told, number, "percent"))
        reader.takes("customers")
        return reader.made(begun, lambda: Similar(told, number))

    def _anniversary(self, begun: Token) -> Condition:
        reader = self._reader
        operand, token = self._operand(), reader.peek()
        window = self._window(of_dates=True)
        if not isinstance(window, (Calendar, Last, Next)):
            raise reader.error(token, "wanted days", "today, this month, in the next 7 days")
        told = window
        return reader.made(begun, lambda: Anniversary(operand, told))

    def _where_part(self) -> Condition:
        """One comparison of what an event is told with."""
        return self._compared(self._event_operand())

    # -- what happened

    def _did(self, begun: Token) -> Condition:
        reader = self._reader
        if reader.takes("not"):
            event = self._event()
            if reader.peek().text in _SIGNS:
                raise reader.error(reader.peek(), "did not: takes no number", "not did …")
            window, where = self._window_and_where()
            return reader.made(begun, lambda: Count(event, "=", 0, window, where))
        event = self._event()
        operator, number = self._times() if reader.peek().text in _SIGNS else _ONCE
        counts = reader.peek()
        window, where = self._window_and_where()
        if reader.peek().word != "then":
            return reader.made(begun, lambda: Count(event, operator, number, window, where))
        if (operator, number) != _ONCE:
            raise reader.error(counts, "a sequence does not count", "did A then B")
        steps = []
        while reader.takes("then"):
            steps.append(self._step())
        return reader.made(begun, lambda: Followed(event, tuple(steps), window, where))

    def _step(self) -> Step:
        reader, begun = self._reader, self._reader.peek()
        is_absent = reader.takes("not")
        event = self._event()
        within = self._span() if reader.takes("within") else None
        where = self._where()
        return reader.made(begun, lambda: Step(event, within, where, is_absent))

    def _count_of(self, begun: Token) -> Condition:
        event = self._event()
        operator, number = self._times()
        window, where = self._window_and_where()
        return self._reader.made(begun, lambda: Count(event, operator, number, window, where))

    def _sum_of(self, begun: Token) -> Condition:
        reader = self._reader
        event = self._event()
        of: Operand = Field("value")
        if reader.peek().text not in _SIGNS:
            of = self._event_operand()
        operator = self._sign()
        told = reader.peek()
        amount = self._value()
        window, where = self._window_and_where()
        if not isinstance(amount, Decimal) or not isinstance(of, (Field, Property)):
            raise reader.error(told, "wanted a number, such as 100")
        summed, number = of, amount
        return reader.made(begun, lambda: Sum(event, summed, operator, number, window, where))

    def _event(self) -> str:
        return self._named("the name of an event, such as order_placed")

    def _named(self, wanted: str) -> str:
        token = self._reader.peek()
        if token.kind not in ("name", "text") or token.word in KEYWORDS:
            raise self._reader.error(token, f"wanted {wanted}")
        return ".".join(self._reader.path(self._reader.take()))

    def _times(self) -> tuple[nodes.Order, int]:
        operator, token = self._sign(), self._reader.take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 10:
            raise self._reader.error(token, "wanted a whole number of times, such as 2")
        if not self._reader.takes("times"):
            self._reader.takes("time")
        return operator, int(token.text)

    def _sign(self) -> nodes.Order:
        token = self._reader.peek()
        for sign in nodes.ORDERS:
            if self._reader.takes(sign):
                told: nodes.Order = sign
                return told
        raise self._reader.error(token, f"wanted one of {' '.join(nodes.ORDERS)}")

    def _window_and_where(self) -> tuple[Window | None, Condition | None]:
        window = self._window()
        return window, self._where()

    def _where(self) -> Condition | None:
        if not self._reader.takes("where"):
            return None
        self._depth += 1
        found = self._one(is_where=True)
        self._depth -= 1
        return found

    # -- windows

    def _window(self, *, of_dates: bool = False) -> Window | None:
        reader, begun = self._reader, self._reader.peek()
        if reader.takes("ever"):
            return None
        if reader.takes("in"):
            return self._in(of_dates=of_dates)
        if reader.takes("at", "least"):
            span = self._span()
            reader.wants("ago")
            return Ago(span)
        if reader.takes("between"):
            return self._between(begun)
        if reader.takes("before"):
            return Before(self._date())
        if reader.takes("after"):
            return After(self._date())
        return self._calendar()

    def _calendar(self) -> Calendar | None:
        """Days of the calendar: today, this week, last month; nothing, where none is next."""
        reader, word, unit = self._reader, self._reader.peek().word, self._reader.peek(1).word
        if word in _DAYS:
            reader.take()
            return Calendar("day", _DAYS[word])
        for one in CALENDAR_UNITS:
            if word in _AHEAD and unit == one:
                reader.takes(word, unit)
                return Calendar(one, _AHEAD[word])
        if word in _AHEAD:
            hint = near(unit, CALENDAR_UNITS) or f"in the {word} 7 days"
            raise reader.error(
                reader.peek(1), "wanted day, week, month, quarter or year", hint
            )
        return None

    def _in(self, *, of_dates: bool) -> Window:
        reader = self._reader
        reader.takes("the")
        if reader.takes("next"):
            return Next(self._span())
        if (month := reader.peek().word) in MONTHS:
            return reader.made(reader.take(), lambda: InMonth(month))
        if not reader.takes("last") and of_dates:
            raise reader.error(reader.peek(), 'wanted "last" or "next"', "in the next 7 days")
        return Last(self._span())

    def _between(self, begun: Token) -> Window:
        reader = self._reader
        if reader.peek().kind != "number":
            start = self._date()
            reader.wants("and", "between 2025-01-01 and 2025-02-01")
            end = self._date()
            return reader.made(begun, lambda: Between(start, end))
        far = self._whole()
        reader.wants("and", "between 60 and 30 days ago")
        near_span = self._span()
        reader.wants("ago")
        far_span = reader.made(begun, lambda: Span(far, near_span.unit))
        return reader.made(begun, lambda: Earlier(far_span, near_span))

    def _span(self) -> Span:
        reader, begun = self._reader, self._reader.peek()
        amount, token = self._whole(), self._reader.peek()
        named: Iterator[Unit] = (
            one for one in windows.UNITS if token.word in (one, f"{one}s")
        )
        unit = next(named, None)
        if unit is None:
            hint = reader.near([f"{one}s" for one in windows.UNITS])
            if token.word.removesuffix("s") in CALENDAR_UNITS:
                hint = f"a {token.word.removesuffix('s')} has no one length: 90 days, or last month"
            raise reader.error(token, "wanted minutes, hours, days or weeks", hint)
        reader.take()
        return reader.made(begun, lambda: Span(amount, unit))

    def _whole(self) -> int:
        token = self._reader.take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            hint = "12 hours instead of 0.5 days" if "." in token.text else ""
            raise self._reader.error(token, "wanted a whole number, such as 90", hint)
        return int(token.text)

    def _date(self) -> datetime:
        token = self._reader.take()
        if token.kind != "date":
            raise self._reader.error(token, "wanted a date, 2025-03-01 or 2025-03-01T12:30:00Z")
        try:
            at = datetime.fromisoformat(token.text.upper())
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise self._reader.error(token, f"{token.text} is no date") from None

    # -- comparisons

    def _operand(self) -> Operand:
        """What of a customer is compared."""
        reader, token = self._reader, self._reader.peek()
        if reader.takes("first"):
            event = self._event()
            return reader.made(token, lambda: First(event))
        parts = reader.path(token) if token.kind == "name" else ("",)
        head, rest = parts[0].lower(), parts[1:]
        found = _PREDICTED.fullmatch(head)
        make: Callable[[], Operand]
        if head == "profile" and rest:
            make = lambda: Profile(rest)                                 # noqa: E731
        elif head == "consent" and len(rest) == 1:
            make = lambda: Consent(rest[0].lower())                      # noqa: E731
        elif head == "consent" and len(rest) == 2 and rest[1].lower() == "since":
            make = lambda: ConsentSince(rest[0].lower())                 # noqa: E731
        elif len(parts) == 1 and found:
            question, days = _QUESTIONS[found[1]], int(found[2] or nodes.DEFAULT_HORIZON)
            make = lambda: Prediction(question, days)                    # noqa: E731
        elif len(parts) == 1 and head in nodes.BOUGHT:
            make = lambda: Bought(head)                                  # noqa: E731
        elif parts in (("rfm",), ("next_order_date",)):
            make = lambda: Rfm() if head == "rfm" else NextOrder()       # noqa: E731
        else:
            raise reader.error(token, "wanted a condition", self._beginning(token, head))
        operand = reader.made(token, make)
        reader.take()
        return operand

    def _beginning(self, token: Token, head: str) -> str:
        """A hint of what the next word may have been meant to be."""
        if head in nodes.FIELDS or head == "properties":
            return f"this is told of an event: did order_placed where ({token.text} … and …)"
        if token.kind == "end" or token.kind == "sign":
            return f"conditions begin with {', '.join(_BEGINNINGS[:8])}, churn_90d, …"
        if head in CANONICAL_NAMES:
            return f"what customers did begins with did: did {head} >= 2 times in 90 days"
        if close := near(head, [one.removesuffix(".") for one in _BEGINNINGS]):
            return close
        if token.kind == "name" and head not in KEYWORDS:
            return f"what is known of a customer is spelt profile.{token.text}"
        return f"conditions begin with {', '.join(_BEGINNINGS[:8])}, churn_90d, …"

    def _event_operand(self) -> Operand:
        """What of an event is compared."""
        reader, token = self._reader, self._reader.peek()
        if token.kind not in ("name", "text") or token.word in KEYWORDS:
            raise reader.error(token, "wanted a field of the event, such as value or category")
        parts = reader.path(reader.take())
        if token.kind == "name" and len(parts) == 1 and parts[0].lower() in nodes.FIELDS:
            return Field(parts[0].lower())
        if parts[0] == "properties" and len(parts) > 1:
            parts = parts[1:]
        return reader.made(token, lambda: Property(parts))

    def _compared(self, operand: Operand) -> Condition:
        reader, token = self._reader, self._reader.peek()
        if reader.takes("is"):
            is_not = reader.takes("not")
            reader.wants("set", "is set, is not set")
            found = Compared(operand, "is set")
            return Not(found) if is_not else found
        listed = token.word == "in" and reader.peek(1).text == "("
        if token.word in _WINDOWS and not listed:
            window = self._window(of_dates=True)
            if window is None:
                raise reader.error(token, "wanted a comparison", reader.near(_OPERATORS))
            told = window
            return reader.made(token, lambda: Dated(operand, told))
        operator = self._operator()
        value = self._listed() if operator in ("in", "has any of", "has all of") else self._value()
        if operator in LENGTHS and not reader.takes("values"):
            reader.takes("value")
        return reader.made(token, lambda: Compared(operand, operator, value))

    def _operator(self) -> Operator:
        reader, token = self._reader, self._reader.peek()
        if token.kind == "sign" and token.text in _SIGNS:
            return self._sign()
        words: tuple[Operator, ...] = (
            "contains", "starts with", "ends with", "matches", "in", "has any of", "has all of",
            "has any containing", "has exactly", "has at least", "has at most", "has",
        )  # fmt: skip
        for one in words:
            if reader.takes(*one.split()):
                return one
        raise reader.error(
            token, "wanted a comparison, such as = or contains", reader.near(_OPERATORS)
        )

    def _listed(self) -> tuple[str | Decimal, ...]:
        reader = self._reader
        reader.wants("(", 'a list stands in parentheses: ("mugs", "bowls")')
        found: list[str | Decimal] = []
        while True:
            token = reader.peek()
            value = self._value()
            if isinstance(value, bool) or not isinstance(value, (str, Decimal)):
                raise reader.error(token, "a list holds texts and numbers")
            found.append(value)
            if not reader.takes(","):
                reader.wants(")")
                return tuple(found)

    def _value(self) -> Value:
        reader, token = self._reader, self._reader.peek()
        match token.kind:
            case "text":
                return reader.text(reader.take())
            case "number":
                return Decimal(reader.take().text)
            case "name" if token.word in ("true", "false"):
                return reader.take().word == "true"
            case "date":
                raise reader.error(token, "a date is compared by before, after or between")
        hint = f'a text stands in quotes: "{token.text}"' if token.kind == "name" else ""
        hint = "one = is enough" if token.text == "=" else hint
        raise reader.error(token, "wanted a number, a text, true or false", hint)
