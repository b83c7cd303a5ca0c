"""Klaviyo's segment definition, JSON, to nodes.

A definition is groups that must all hold, each of conditions of which one must. Types that Klaviyo
has and we have not are refused, with a pointer; what Klaviyo cannot say travels in a type of our
own, `habitue-condition`, as a sentence. Its negations are plain complements: `not-equals` holds
where nothing is known. Its predictions look a year ahead.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from habitue.audiences.language.calendar import MONTHS
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
    Followed,
    Member,
    NextOrder,
    Not,
    Operand,
    Operator,
    Or,
    Order,
    Prediction,
    Profile,
    Property,
    Similar,
    Step,
    Sum,
    check,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import (
    UNITS,
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
from habitue.errors import BadAudience
from habitue.events import ORDER_PLACED

Json = Mapping[str, Any]

YEAR = 365                                 # days that Klaviyo's predictions look ahead
NUMERIC: dict[str, Order] = {
    "equals": "=",
    "greater-than": ">",
    "greater-than-or-equal": ">=",
    "less-than": "<",
    "less-than-or-equal": "<=",
}
OPERATORS: dict[str, dict[str, Operator]] = {
    "numeric": {**NUMERIC},
    "string": {
        "equals": "=",
        "contains": "contains",
        "starts-with": "starts with",
        "ends-with": "ends with",
        "regex": "matches",
        "in": "in",
    },
    "boolean": {"equals": "="},
    "list": {
        "contains": "has",
        "contains-any": "has any of",
        "contains-all": "has all of",
        "contains-substring": "has any containing",
        "length-equals": "has exactly",
        "length-greater-than-or-equal": "has at least",
        "length-less-than-or-equal": "has at most",
    },
}
# lengths of lists that are said by the length beside them
BESIDE: dict[str, tuple[Operator, int]] = {
    "length-greater-than": ("has at least", 1),
    "length-less-than": ("has at most", -1),
}
# with `not-` before them, or `nregex`, they are the complement of what they are without
OPPOSED: dict[str, frozenset[str]] = {
    "numeric": frozenset({"equals"}),
    "string": frozenset(OPERATORS["string"]),
    "boolean": frozenset(),
    "list": frozenset(name for name in OPERATORS["list"] if name.startswith("contains")),
}
ATTRIBUTES = frozenset(
    (
        "email", "phone_number", "external_id", "first_name", "last_name", "organization", "title",
        "locale", "image",
    )
)  # fmt: skip
PREDICTED: dict[str, Operand] = {
    "churn_probability": Prediction("churn", YEAR),
    "predicted_number_of_orders": Prediction("orders", YEAR),
    "predicted_clv": Prediction("revenue", YEAR),
    "expected_date_of_next_purchase": NextOrder(),
    "historic_clv": Bought("net_spend"),
    "average_order_value": Bought("average_order_value"),
    "average_days_between_orders": Bought("average_days_between_orders"),
}
COMPLETION: dict[str, Span] = {
    "HOURS_1": Span(1, "hour"),
    **{f"DAYS_{number}": Span(number, "day") for number in (1, 3, 5, 30, 90, 180)},
    "WEEKS_1": Span(1, "week"),
    "YEARS_1": Span(365, "day"),
}
ANNIVERSARIES: dict[str, type[Last] | type[Next] | Calendar] = {
    "anniversary": Calendar("day"),
    "anniversary-month": Calendar("month"),
    "anniversary-last": Last,
    "anniversary-next": Next,
}
_REFUSED = {
    "predicted_gender": "is not inferred: names say little of it, and it is nobody's business",
    "total_clv": "adds what was and what is predicted: there are historic_clv, predicted_clv",
    "channel_affinity": "is not predicted: there are churn_probability, predicted_clv",
    "profile-region": "is not known: profile-property of location['country'] is",
    "profile-postal-code-distance": "is not known: profile-property of location['zip'] is",
    "profile-permissions": "is not known: profile-marketing-consent of a channel is",
    "profile-has-custom-object": "is not known: profile-metric and profile-property are",
}
# by whether marketing can be received, and by what was said: who may be written to has said so
CONSENTS: dict[bool, dict[str, Callable[[Consent], Condition]]] = {
    True: {
        "any": lambda channel: Compared(channel, "=", "subscribed"),
        "subscribed": lambda channel: Compared(channel, "=", "subscribed"),
    },
    False: {
        "any": lambda channel: Not(Compared(channel, "=", "subscribed")),
        "unsubscribed": lambda channel: Compared(channel, "=", "unsubscribed"),
        "never_subscribed": lambda channel: Not(Compared(channel, "is set")),
    },
}
_BRACKETS = re.compile(r"(properties|location)\['(.+)'\]")


@dataclass(frozen=True, slots=True)
class Names:
    """What Klaviyo's ids stand for here; what is not told of stands for itself."""

    events: Mapping[str, str]              # by metric id
    audiences: Mapping[str, str]           # by the id of a list or segment

    def back(self) -> "Names":
        """The same, from names to ids."""
        return Names(
            {name: id for id, name in self.events.items()},
            {name: id for id, name in self.audiences.items()},
        )


def from_klaviyo(definition: Json, names: Names | None = None) -> Condition:
    """The condition of a segment definition.

    Raises:
        BadAudience: it is none, or holds what is not supported; the message begins with a pointer.
    """
    held = names or Names({}, {})
    top = _At(definition, "")
    groups = [
        _joined(Or, [_condition(one, held) for one in group.list("conditions")])
        for group in top.list("condition_groups")
    ]
    found: Condition = top.made(lambda: check(_joined(And, groups)))
    return found


def from_json(text: str, names: Names | None = None) -> Condition:
    """The condition of a segment definition as text.

    Raises:
        BadAudience: it is no JSON, or no definition that is supported.
    """
    try:
        definition = json.loads(text)
    except ValueError as error:
        raise BadAudience(f"this begins like JSON and is none: {error}") from None
    except RecursionError:
        raise BadAudience("/: JSON too deep to be read") from None
    return from_klaviyo(definition, names)


class _At:
    """A JSON value and the pointer to it."""

    def __init__(self, value: Any, pointer: str) -> None:
        self.value = value
        self.pointer = pointer

    def get(self, name: str, kind: type | tuple[type, ...] = object) -> "_At":
        """A member, which must be there and of a kind."""
        if not isinstance(self.value, Mapping):
            raise self.error("an object was wanted")
        found = _At(self.value.get(name), f"{self.pointer}/{name}")
        is_odd = isinstance(found.value, bool) and kind in (int, (int, float))
        if is_odd or not isinstance(found.value, kind):
            raise found.error("is missing" if found.value is None else "is of the wrong type")
        return found

    def list(self, name: str) -> "list[_At]":
        """The members of a list that is not empty."""
        found = self.get(name, list)
        if not found.value:
            raise found.error("is empty")
        return [_At(one, f"{found.pointer}/{at}") for at, one in enumerate(found.value)]

    def among(self, name: str, known: Mapping[str, Any]) -> Any:
        """What one of the known names stands for."""
        found = self.get(name)
        if not isinstance(found.value, str) or found.value not in known:
            why = _REFUSED.get(str(found.value), f"is not supported; there are {', '.join(known)}")
            raise found.error(f"{found.value!r} {why}")
        return known[found.value]

    def made(self, make: Callable[[], Any]) -> Any:
        """What is made, or its refusal with the pointer."""
        try:
            return make()
        except BadAudience as error:
            if str(error).startswith(f"{self.pointer}/"):
                raise                      # what is inside was pointed at
            raise self.error(str(error)) from None

    def error(self, message: str) -> BadAudience:
        """An error that begins with the pointer."""
        return BadAudience(f"{self.pointer or '/'}: {message}")


def _condition(at: _At, names: Names) -> Condition:
    read: Callable[[_At, Names], Condition] = at.among("type", _READERS)
    found: Condition = at.made(lambda: read(at, names))
    return found


def _metric(at: _At, names: Names) -> Condition:
    event = _event(at, names)
    sign, amount = _measured(at.get("measurement_filter"))
    window, where = _timeframe(at), _where(at)
    if at.among("measurement", {"count": False, "sum": True}):
        return Sum(event, Field("value"), sign, amount, window, where)
    return Count(event, sign, _whole(at.get("measurement_filter"), amount), window, where)


def _funnel(at: _At, names: Names) -> Condition:
    steps = at.list("steps")
    if len(steps) != 2:
        raise at.get("steps").error("a sequence of two steps is supported")
    first, then = steps
    if first.get("metric_exists", bool).value is not True:
        raise first.error("the first step is something that happened")
    within: Span | None = None             # whenever after the first
    if at.value.get("completion_window_seconds") is not None:
        within = at.among("completion_window_seconds", COMPLETION)
    is_absent = not then.get("metric_exists", bool).value
    step = Step(_event(then, names), within, _where(then), is_absent)
    return Followed(_event(first, names), (step,), _timeframe(at), _where(first))


def _property(at: _At, _: Names) -> Condition:
    name = at.get("property", str).value
    found = _BRACKETS.fullmatch(name)
    kept = name if found is None else found[2]
    if found is not None and found[1] == "location":
        kept = f"location.{found[2]}"      # as profiles hold it
    return _filtered(at.get("filter"), Profile((kept,)))


def _predicted(at: _At, _: Names) -> Condition:
    if at.value.get("dimension") == "historic_number_of_orders":
        sign, amount = _measured(at.get("filter"))
        return Count(ORDER_PLACED, sign, _whole(at.get("filter"), amount))
    return _filtered(at.get("filter"), at.among("dimension", PREDICTED))


def _membership(at: _At, names: Names) -> Condition:
    if at.value.get("timeframe_filter") is not None:
        raise at.get("timeframe_filter").error("when someone came in is not supported yet")
    ids = [_text(one) for one in at.list("group_ids")]
    found = _joined(Or, [Member(names.audiences.get(one, one)) for one in ids])
    return found if at.get("is_member", bool).value else Not(found)


def _consent(at: _At, _: Names) -> Condition:
    consent = at.get("consent")
    channel = consent.get("channel", str).value
    known = CONSENTS[consent.get("can_receive_marketing", bool).value]
    if consent.value.get("consent_status") is None:
        return known["any"](Consent(channel))
    told = consent.get("consent_status")
    found: Condition = told.among("subscription", known)(Consent(channel))
    dates = told.list("filters") if told.value.get("filters") else []
    return _joined(And, [found, *(_consented(one, ConsentSince(channel)) for one in dates)])


def _consented(at: _At, since: ConsentSince) -> Condition:
    at.among("field", {"status_date": None})
    return _filtered(at.get("filter"), since)


def _own(at: _At, _: Names) -> Condition:
    return parse(at.get("condition", str).value)


def _similar(at: _At, names: Names) -> Condition:
    id = at.get("group_id", str).value
    top, of = at.get("top", int).value, at.get("unit", str).value
    return Similar(names.audiences.get(id, id), top, of)


_READERS: dict[str, Callable[[_At, Names], Condition]] = {
    "profile-metric": _metric,
    "profile-metric-funnel": _funnel,
    "profile-property": _property,
    "profile-predictive-analytics": _predicted,
    "profile-group-membership": _membership,
    "profile-marketing-consent": _consent,
    "habitue-similar-to": _similar,
    "habitue-condition": _own,
}


def _measured(at: _At) -> tuple[Order, Decimal]:
    """With what a count or a sum is compared."""
    sign: Order = at.among("operator", NUMERIC | {"not-equals": "!="})
    value = at.get("value", (int, float))
    if not math.isfinite(value.value):
        raise value.error("is no number that can be compared with")
    return sign, Decimal(str(value.value))


def _whole(at: _At, amount: Decimal) -> int:
    if amount != int(amount):
        raise at.get("value").error("a count is compared with a whole number")
    return int(amount)


def _text(at: _At) -> str:
    if not isinstance(at.value, str):
        raise at.error("is of the wrong type")
    return at.value


def _event(at: _At, names: Names) -> str:
    id = at.get("metric_id", str).value
    return names.events.get(id, id)


def _where(at: _At) -> Condition | None:
    if not at.value.get("metric_filters"):
        return None
    return _joined(And, [
        _filtered(one.get("filter"), _told(one.get("property", str).value))
        for one in at.list("metric_filters")
    ])  # fmt: skip


def _told(name: str) -> Operand:
    return Field("value") if name == "$value" else Property((name,))


def _timeframe(at: _At) -> Window | None:
    return None if at.value.get("timeframe_filter") is None else _window(at.get("timeframe_filter"))


def _filtered(at: _At, operand: Operand) -> Condition:
    """A filter on something."""
    kind = at.among("type", {one: one for one in (*OPERATORS, "date", "existence")})
    if kind == "existence":
        found: Condition = Compared(operand, "is set")
        return found if at.among("operator", {"is-set": True, "not-set": False}) else Not(found)
    if kind == "date":
        if at.value.get("operator") in tuple(ANNIVERSARIES):
            return at.made(lambda: Anniversary(operand, _days(at)))
        window = _month(at) if at.value.get("operator") == "calendar-month" else _window(at)
        return Compared(operand, "is set") if window is None else Dated(operand, window)
    if kind == "list" and at.value.get("operator") in tuple(BESIDE):
        sign, more = BESIDE[at.value["operator"]]
        return at.made(lambda: Compared(operand, sign, Decimal(at.get("value", int).value + more)))
    known = OPERATORS[kind]
    against = {opposite(one): known[one] for one in OPPOSED[kind]}
    told: Operator = at.among("operator", known | against)
    held = at.get("value").value
    value = str(held) if told == "has" and type(held) is int else held
    found = at.made(lambda: Compared(operand, told, value))
    return Not(found) if at.value["operator"] in against else found


def opposite(name: str) -> str:
    """The operator that says the complement."""
    return {"regex": "nregex"}.get(name, f"not-{name}")


def _window(at: _At) -> Window | None:
    known = ("in-the-last", "in-the-next", "at-least", "between", "before", "after",
             "between-static", "alltime")  # fmt: skip
    match at.among("operator", {one: one for one in known}):
        case "in-the-last":
            return Last(_span(at, "quantity"))
        case "in-the-next":
            return Next(_span(at, "quantity"))
        case "at-least":
            return Ago(_span(at, "quantity"))
        case "between":
            near, far = sorted((_span(at, "start"), _span(at, "end")), key=lambda one: one.amount)
            return Earlier(far, near)
        case "between-static":
            return Between(_instant(at, "start"), _instant(at, "end"))
        case "alltime":
            return None
        case operator:
            return (Before if operator == "before" else After)(_instant(at, "date"))


def _days(at: _At) -> Calendar | Last | Next:
    """The days in which an anniversary lies."""
    known = ANNIVERSARIES[at.value["operator"]]
    return known if isinstance(known, Calendar) else known(_span(at, "quantity"))


def _month(at: _At) -> InMonth:
    """A month of every year."""
    number = at.get("value", int)
    if not 1 <= number.value <= len(MONTHS):
        raise number.error(f"{number.value} is no month: wanted 1 to {len(MONTHS)}")
    return InMonth(MONTHS[number.value - 1])


def _span(at: _At, name: str) -> Span:
    return Span(at.get(name, int).value, at.among("unit", {one: one for one in UNITS}))


def _instant(at: _At, name: str) -> datetime:
    found = at.get(name, str)
    try:
        told = datetime.fromisoformat(found.value)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise found.error(f"{found.value!r} is no date in ISO 8601") from None


def _joined(join: type[And] | type[Or], parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else join(tuple(parts))
