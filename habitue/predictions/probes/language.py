"""`Target`: a question about the future, and the sentence that asks it.

    did message_clicked in 14 days
    count of order_placed in 60 days
    sum of order_placed value in 90 days where value >= 20 and source = "web"
    did item_ordered in 28 days where category = "mugs"

A sentence is parsed into a `Target` and printed from one, and the two agree. Names that are no
plain words, and texts, stand in double quotes; what cannot be read is pointed at.
"""

import json
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, TypeVar, get_args

from habitue.errors import BadTarget, pointed

Aggregation = Literal["exists", "count", "sum"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "contains"]
Value = str | float | bool
Made = TypeVar("Made")

MOST_DAYS = 730.0
MOST_CONDITIONS = 20
UNIT_DAYS = {"hour": 1 / 24, "day": 1.0, "week": 7.0}
_ORDERED = ("<", "<=", ">", ">=")
_FORM = (
    'wanted "did EVENT in N days", "count of EVENT in N days" or "sum of EVENT value in N days",'
    ' and perhaps "where FIELD = VALUE"'
)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\d.]))
      | (?P<word>[^\W\d][\w.]*)
      | (?P<sign><=|>=|!=|=|<|>)
    )""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"[^\W\d][\w.]*")
_KEYWORDS = frozenset({"in", "of", "where", "and", "contains", "true", "false"})


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of one event for it to count; with a missing value it does not."""

    field: str                             # value, source, item, category, … or a property
    operator: Operator
    value: Value

    def __post_init__(self) -> None:
        if not self.field:
            raise BadTarget("a condition needs a field, such as value or category")
        if self.operator not in get_args(Operator):
            known = " ".join(get_args(Operator))
            raise BadTarget(f"{self.operator!r} is no comparison\nhint: there are {known}")
        if self.operator == "contains" and not isinstance(self.value, str):
            raise BadTarget(f"{self.field} contains {_value(self.value)}: wanted a text in quotes")
        if self.operator in _ORDERED and (isinstance(self.value, (str, bool))):
            raise BadTarget(
                f"{self.field} {self.operator} {_value(self.value)}: wanted a number after"
                f" {self.operator}"
            )
        if not isinstance(self.value, (str, bool)):
            if not math.isfinite(self.value):
                raise BadTarget(f"{self.value} is no number that can be compared with")
            object.__setattr__(self, "value", float(self.value))


@dataclass(frozen=True, slots=True)
class Target:
    """A question about the future: an event, what to make of it, and how far ahead.

    >>> print(Target("item_ordered", "exists", 28, where='category = "mugs"'))
    did item_ordered in 28 days where category = "mugs"
    >>> Target.parse("sum of order_placed value in 3 weeks").horizon_days
    21.0
    """

    event: str
    aggregation: Aggregation
    horizon_days: float
    of: str = ""                           # what a sum adds up: value, quantity or a property
    where: tuple[Condition, ...] | str = ()    # all must hold; text is parsed

    def __post_init__(self) -> None:
        if not self.event:
            raise BadTarget("a target needs an event, such as order_placed")
        if self.aggregation not in get_args(Aggregation):
            known = ", ".join(get_args(Aggregation))
            raise BadTarget(f"{self.aggregation!r} is no aggregation\nhint: there are {known}")
        if not 0 < self.horizon_days <= MOST_DAYS:
            raise BadTarget(
                f"a horizon of {self.horizon_days:g} days: wanted more than 0 and at most"
                f" {MOST_DAYS:g}"
            )
        if self.of and self.aggregation != "sum":
            raise BadTarget(f"only a sum is of something; {self.aggregation} of {self.of!r} is not")
        where = _Reader(self.where).conditions() if isinstance(self.where, str) else self.where
        object.__setattr__(self, "horizon_days", float(self.horizon_days))
        object.__setattr__(self, "where", tuple(where))
        if self.aggregation == "sum" and not self.of:
            object.__setattr__(self, "of", "value")

    @classmethod
    def parse(cls, sentence: str) -> "Target":
        """The target that a sentence asks for.

        Raises:
            BadTarget: the sentence cannot be read; the message points at the character.
        """
        return _Reader(sentence).target()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What must hold of an event; never text."""
        assert not isinstance(self.where, str), "text was parsed when the target was made"
        return self.where

    def __str__(self) -> str:
        head = {"exists": "did", "count": "count of", "sum": "sum of"}[self.aggregation]
        what = f" {_name(self.of)}" if self.of else ""
        where = " and ".join(
            f"{_name(one.field)} {one.operator} {_value(one.value)}" for one in self.conditions
        )
        unit = "day" if self.horizon_days == 1 else "days"
        asked = f"{head} {_name(self.event)}{what} in {_number(self.horizon_days)} {unit}"
        return f"{asked} where {where}" if where else asked


def refuse_unknown_event(target: Target, known: Collection[str]) -> None:
    """Raise `BadTarget`, pointing at the event, where the shop has none of that name."""
    if target.event in known:
        return
    sentence, name = str(target), _name(target.event)
    near = get_close_matches(target.event, known, n=1, cutoff=0.5)
    held = ", ".join(sorted(known)[:20]) or "none"
    hint = f"did you mean {near[0]}?" if near else f"its events are: {held}"
    place = sentence.index(name, sentence.index(" "))
    raise BadTarget(pointed(sentence, place, f"the shop has no event {name}", hint))


def _name(name: str) -> str:
    is_plain = _PLAIN.fullmatch(name) and name.lower() not in _KEYWORDS
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _value(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
    return _number(value)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else repr(float(value))


class _Reader:
    """A sentence being read, and how far."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.place = 0

    def target(self) -> Target:
        head, place = self._word("how a question begins", ("did", "count", "sum"))
        if head != "did":
            self._keyword("of")
        event = self._named("the name of an event")
        of = ""
        if head == "sum" and not self._is_next("in"):
            of = self._named("what to add up")
        self._keyword("in")
        days = self._days()
        where: tuple[Condition, ...] = ()
        if self._kind()[0] != "end":
            self._keyword("where")
            where = self.conditions()
        names: dict[str, Aggregation] = {"did": "exists", "count": "count", "sum": "sum"}
        return self._checked(place, lambda: Target(event, names[head], days, of, where))

    def conditions(self) -> tuple[Condition, ...]:
        """Conditions up to the end of the sentence."""
        found = [self._condition()]
        while self._kind()[0] != "end":
            place = self._start()
            self._keyword("and")
            if len(found) == MOST_CONDITIONS:
                raise self._error(place, f"more than {MOST_CONDITIONS} conditions")
            found.append(self._condition())
        return tuple(found)

    def _condition(self) -> Condition:
        place = self._start()
        field = self._named("a field, such as value or category")
        operator = self._operator()
        kind, text = self._kind()
        value: Value
        if kind == "number":
            value = float(text)
        elif kind == "text":
            value = self._unquoted(text)
        elif kind == "word" and text.lower() in ("true", "false"):
            value = text.lower() == "true"
        else:
            hint = f'a text stands in quotes: "{text}"' if kind == "word" else ""
            raise self._error(self._start(), "wanted a number, a text or true or false", hint)
        self._take()
        return self._checked(place, lambda: Condition(field, operator, value))

    def _operator(self) -> Operator:
        kind, text = self._kind()
        signs = get_args(Operator)
        if kind not in ("sign", "word") or text.lower() not in signs:
            raise self._error(self._start(), f"wanted one of {' '.join(signs)}", _near(text, signs))
        self._take()
        operator: Operator = next(one for one in signs if one == text.lower())
        return operator

    def _days(self) -> float:
        place = self._start()
        kind, text = self._kind()
        if kind != "number":
            raise self._error(place, "wanted how many days, such as 60")
        self._take()
        unit, _ = self._word("days", tuple(f"{one}s" for one in UNIT_DAYS) + tuple(UNIT_DAYS))
        days = float(text) * UNIT_DAYS[unit.removesuffix("s")]
        if not 0 < days <= MOST_DAYS:
            raise self._error(place, f"wanted more than 0 and at most {MOST_DAYS:g} days")
        return days

    def _named(self, wanted: str) -> str:
        kind, text = self._kind()
        name = self._unquoted(text) if kind == "text" else text
        if kind not in ("text", "word") or not name:
            raise self._error(self._start(), f"wanted {wanted}")
        self._take()
        return name

    def _keyword(self, word: str) -> None:
        self._word(word, (word,))

    def _word(self, wanted: str, among: tuple[str, ...]) -> tuple[str, int]:
        place = self._start()
        kind, text = self._kind()
        if kind != "word" or text.lower() not in among:
            told = f'wanted "{wanted}"' if len(among) == 1 else f"wanted {' or '.join(among[:3])}"
            raise self._error(place, told, _near(text, among) or _FORM)
        self._take()
        return text.lower(), place

    def _is_next(self, word: str) -> bool:
        kind, text = self._kind()
        return kind == "word" and text.lower() == word

    def _start(self) -> int:
        """Where the next token begins."""
        rest = self.sentence[self.place :]
        return self.place + len(rest) - len(rest.lstrip())

    def _kind(self) -> tuple[str, str]:
        """The next token's kind and text, which is not taken yet."""
        place = self._start()
        if place == len(self.sentence):
            return "end", ""
        found = _TOKEN.match(self.sentence, place)
        if found is None or found.lastgroup is None:
            open_quote = self.sentence[place] == '"'
            hint = "a text that is opened by a quote is closed by one" if open_quote else ""
            raise self._error(place, f"cannot read {self.sentence[place]!r}", hint)
        return found.lastgroup, found[found.lastgroup]

    def _take(self) -> None:
        found = _TOKEN.match(self.sentence, self.place)
        assert found is not None, "what is taken was read before"
        self.place = found.end()

    def _unquoted(self, text: str) -> str:
        try:
            told: str = json.loads(text, strict=False)
        except ValueError:
            raise self._error(self._start(), "this text holds a \\ that escapes nothing") from None
        return told

    def _checked(self, place: int, make: Callable[[], Made]) -> Made:
        try:
            return make()
        except BadTarget as error:
            raise self._error(place, str(error)) from None

    def _error(self, place: int, message: str, hint: str = "") -> BadTarget:
        return BadTarget(pointed(self.sentence, place, message, hint))


def _near(text: str, among: Collection[str]) -> str:
    found = get_close_matches(text.lower(), among, n=1)
    return f"did you mean {found[0]}?" if found else ""
