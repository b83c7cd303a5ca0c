"""Nodes to Klaviyo's segment definition: `from_klaviyo(to_klaviyo(condition)) == condition`."""

import re
from decimal import Decimal
from typing import Any

from habitue.audiences.language.klaviyo import (
    ANNIVERSARIES,
    ATTRIBUTES,
    COMPLETION,
    CONSENTS,
    NUMERIC,
    OPERATORS,
    OPPOSED,
    PREDICTED,
    Names,
    opposite,
)
from habitue.audiences.language.limits import Value
from habitue.audiences.language.nodes import (
    And,
    Anniversary,
    Compared,
    Condition,
    Consent,
    Count,
    Dated,
    Field,
    Followed,
    Member,
    Not,
    Or,
    Profile,
    Property,
    Similar,
    Step,
    Sum,
)
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
from habitue.audiences.language.writing import written

_PUSHED = ("subscribed", Consent("push"))


def to_klaviyo(condition: Condition, names: Names | None = None) -> dict[str, Any]:
    """The segment definition of a condition; `from_klaviyo` gives the condition back."""
    held = (names or Names({}, {})).back()
    groups = condition.parts if isinstance(condition, And) else (condition,)
    return {
        "condition_groups": [
            {
                "conditions": [
                    _json(one, held)
                    for one in (group.parts if isinstance(group, Or) else (group,))
                ]
            }
            for group in groups
        ]
    }


def _json(condition: Condition, ids: Names) -> dict[str, Any]:
    """A condition as Klaviyo says it, or as a sentence."""
    told = _spelt(condition, ids)
    if told is None:
        return {"type": "habitue-condition", "condition": written(condition)}
    return told


def _spelt(condition: Condition, ids: Names) -> dict[str, Any] | None:
    match condition:
        case Count() | Sum(of=Field("value")):
            return _spelt_metric(condition, ids)
        case Followed(steps=(Step(),)):
            return _spelt_funnel(condition, ids)
        case Member(name):
            return _spelt_member(name, ids, is_member=True)
        case Not(Member(name)):
            return _spelt_member(name, ids, is_member=False)
        case Compared(operand=Consent()) | Not(Compared(operand=Consent())):
            return _spelt_consent(condition)
        case Similar(name, top, of):
            id = ids.audiences.get(name, name)
            return {"type": "habitue-similar-to", "group_id": id, "top": top, "unit": of}
    return _spelt_known(condition)


def _spelt_known(condition: Condition) -> dict[str, Any] | None:
    """What is known or predicted of a customer."""
    inner = condition.inner if isinstance(condition, Not) else condition
    told = _filter(condition)
    if told is None or not isinstance(inner, (Compared, Dated, Anniversary)):
        return None
    for dimension, operand in PREDICTED.items():
        if operand == inner.operand:
            return {"type": "profile-predictive-analytics", "dimension": dimension, "filter": told}
    match inner.operand:
        case Profile((name,)) if name in ATTRIBUTES:
            return {"type": "profile-property", "property": name, "filter": told}
        case Profile((name,)) if not re.search(r"'|^location\.|\n", name):
            return {"type": "profile-property", "property": f"properties['{name}']", "filter": told}
        case Profile((name,)) if re.fullmatch(r"location\.[^'\n]+", name):
            place = name.removeprefix("location.")
            return {"type": "profile-property", "property": f"location['{place}']", "filter": told}
    return None


def _spelt_metric(condition: Count | Sum, ids: Names) -> dict[str, Any] | None:
    filters = _filters(condition.where)
    if filters is None:
        return None
    is_sum = isinstance(condition, Sum)
    value = _plain(condition.amount if isinstance(condition, Sum) else Decimal(condition.number))
    timeframe = _timeframe_of(condition.window)
    if value is None or timeframe is None:
        return None
    names = {sign: name for name, sign in NUMERIC.items()} | {"!=": "not-equals"}
    measured = {"type": "numeric", "operator": names[condition.operator], "value": value}
    return {
        "type": "profile-metric",
        "metric_id": ids.events.get(condition.event, condition.event),
        "measurement": "sum" if is_sum else "count",
        "measurement_filter": measured,
        "timeframe_filter": timeframe,
        "metric_filters": filters,
    }


def _spelt_funnel(condition: Followed, ids: Names) -> dict[str, Any] | None:
    (then,) = condition.steps
    names: dict[Span | None, str | None] = {span: name for name, span in COMPLETION.items()}
    names[None] = None
    before, after = _filters(condition.where), _filters(then.where)
    timeframe = _timeframe_of(condition.window)
    if then.within not in names or before is None or after is None or timeframe is None:
        return None
    told = ((condition.event, True, before), (then.event, not then.is_absent, after))
    return {
        "type": "profile-metric-funnel",
        "timeframe_filter": timeframe,
        "completion_window_seconds": names[then.within],
        "steps": [
            {
                "metric_exists": exists,
                "metric_id": ids.events.get(event, event),
                "metric_filters": filters,
            }
            for event, exists, filters in told
        ],
    }


def _spelt_member(name: str, ids: Names, *, is_member: bool) -> dict[str, Any]:
    id = ids.audiences.get(name, name)
    return {"type": "profile-group-membership", "is_member": is_member, "group_ids": [id]}


def _spelt_consent(condition: Compared | Not) -> dict[str, Any] | None:
    """What was said of a channel; none: it cannot be said so."""
    inner = condition.inner if isinstance(condition, Not) else condition
    assert isinstance(inner, Compared), "what is inside compares a consent"
    assert isinstance(inner.operand, Consent), "what is inside compares a consent"
    channel = inner.operand
    for can_receive, known in CONSENTS.items():
        for subscription, make in reversed(known.items()):
            # to Klaviyo "any" who can receive has subscribed, or never said a word; but of push
            if make(channel) == condition and (subscription, channel) != _PUSHED:
                told = {
                    "channel": channel.channel,
                    "can_receive_marketing": can_receive,
                    "consent_status": {"subscription": subscription},
                }
                return {"type": "profile-marketing-consent", "consent": told}
    return None


def _filters(where: Condition | None) -> list[dict[str, Any]] | None:
    """The filters that must all hold of an event; none: they cannot be said so."""
    if where is None:
        return []
    found = []
    for one in where.parts if isinstance(where, And) else (where,):
        told = _filter(one)
        inner = one.inner if isinstance(one, Not) else one
        match inner:
            case Compared(operand=Field("value")) | Dated(operand=Field("value")):
                name = "$value"
            case Compared(operand=Property((told_name,))) | Dated(operand=Property((told_name,))):
                name = told_name
            case _:
                return None
        if told is None or (name == "$value") != isinstance(inner.operand, Field):
            return None
        found.append({"property": name, "filter": told})
    return found


def _filter(condition: Condition) -> dict[str, Any] | None:
    """What a comparison does with its operand; none: it cannot be said so."""
    is_not = isinstance(condition, Not)
    inner = condition.inner if isinstance(condition, Not) else condition
    match inner:
        case Compared(operator="is set"):
            return {"type": "existence", "operator": "not-set" if is_not else "is-set"}
        case Dated(window=window) if not is_not:
            return _date_filter(window)
        case Anniversary(window=window) if not is_not:
            return _anniversary_filter(window)
        case Compared(operator=operator, value=value):
            kind = _kind(operator, value)
            held = {told: name for name, told in OPERATORS.get(kind, {}).items()}
            name, plain = held.get(operator), _plain(value)
            if name is None or plain is None or (is_not and name not in OPPOSED[kind]):
                return None
            spelt = opposite(name) if is_not else name
            return {"type": kind, "operator": spelt, "value": plain}
    return None


def _kind(operator: str, value: Value) -> str:
    if operator.startswith("has"):
        return "list"
    if operator == "in":
        is_texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        return "string" if is_texts else ""
    return {bool: "boolean", str: "string", Decimal: "numeric"}.get(type(value), "")


def _plain(value: Value) -> object:
    """A value as JSON has it; none: it has no such number."""
    match value:
        case tuple():
            return [_plain(one) for one in value]
        case Decimal():
            told = int(value) if value == int(value) else float(value)
            return told if Decimal(str(told)) == value else None
    return value


def _timeframe_of(window: Window | None) -> dict[str, Any] | None:
    return {"type": "date", "operator": "alltime"} if window is None else _date_filter(window)


def _anniversary_filter(window: Calendar | Last | Next) -> dict[str, Any] | None:
    """The days of an anniversary; none: they cannot be said so."""
    if isinstance(window, Calendar):
        told = (name for name, days in ANNIVERSARIES.items() if days == window)
        return next(({"type": "date", "operator": one} for one in told), None)
    (operator,) = (name for name, kind in ANNIVERSARIES.items() if kind is type(window))
    span = window.span
    return {"type": "date", "operator": operator, "unit": span.unit, "quantity": span.amount}


def _date_filter(window: Window) -> dict[str, Any] | None:
    """A window; none: it cannot be said so."""
    told = _relative(window)
    match window:
        case InMonth():
            told = {"operator": "calendar-month", "value": window.number}
        case Before(at):
            told = {"operator": "before", "date": at.isoformat()}
        case After(at):
            told = {"operator": "after", "date": at.isoformat()}
        case Between(start, end):
            told = {"operator": "between-static", "start": start.isoformat()}
            told["end"] = end.isoformat()
    return None if told is None else {"type": "date", **told}


def _relative(window: Window) -> dict[str, Any] | None:
    """A window by its distance from the instant as of which is asked."""
    match window:
        case Last(span):
            return {"operator": "in-the-last", "unit": span.unit, "quantity": span.amount}
        case Next(span):
            return {"operator": "in-the-next", "unit": span.unit, "quantity": span.amount}
        case Ago(span):
            return {"operator": "at-least", "unit": span.unit, "quantity": span.amount}
        case Earlier(far, near):
            told = {"operator": "between", "start": near.amount, "end": far.amount}
            return {**told, "unit": far.unit}
    return None
