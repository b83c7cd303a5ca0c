"""The slow twin: who meets a condition, customer by customer and event by event, in plain Python.

It shares nodes with the compiler, and nothing else.
"""

import json
import math
import operator
import re
from calendar import day_name, isleap, month_name
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from habitue.audiences.language import nodes, windows
from habitue.events import Money
from tests.audiences.histories import History

SIGNS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
UNIT = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800}
NINTH = Decimal("0.000000001")


@dataclass(frozen=True)
class Row:
    """Something that happened, with one of its lines."""

    id: str
    time: datetime
    fields: dict[str, object]
    properties: object


class Slow:
    """A history as of an instant."""

    def __init__(self, told: History, at: datetime, known_at: datetime | None) -> None:
        self.at = at
        self.known_at = known_at
        self.zone = ZoneInfo(told.zone)
        self.events = [one for one in told.events if self.sees(one)]
        self.items: dict[str, dict[str, str]] = {}
        for one in self.in_order(told.items):
            held = {name: getattr(one, name) for name in ("title", "category", "brand")}
            new = {name: text for name, text in held.items() if text is not None}
            self.items.setdefault(one.item, {}).update(new)
        self.profiles: dict[str, dict] = {}
        for one in self.in_order(told.changes):
            self.profiles.setdefault(one.customer, {}).update(json.loads(bytes(one.put)))
        self.consents: dict[tuple[str, str], tuple[str, datetime]] = {}
        for one in self.in_order(told.consents):
            before = self.consents.get((one.customer, one.channel))
            since = before[1] if before and before[0] == one.status else one.time
            self.consents[one.customer, one.channel] = (one.status, since)
        rows = [
            one
            for one in told.predictions
            if one.cutoff <= at and (known_at is None or one.received <= known_at)
        ]
        self.questions = {one.question for one in rows}
        self.predicted = dict(
            found for question in self.questions for found in latest(rows, question)
        )
        everyone = {one.customer for one in self.events if one.customer is not None}
        self.customers = everyone | set(self.profiles) | {who for who, _ in self.consents}
        self.groups = self._groups()
        self.places = self._places(told)
        self.named: dict[str, object] = {}     # what audiences are, where similarity is asked

    def sees(self, one) -> bool:
        known = one.time if one.backfilled else one.received
        return one.time <= self.at and (self.known_at is None or known <= self.known_at)

    def in_order(self, rows):
        return sorted(filter(self.sees, rows), key=lambda one: (one.time, one.received, one.digest))

    def members(self, condition) -> list[str]:
        return sorted(one for one in self.customers if self.holds(condition, one))

    def holds(self, condition, who: str) -> bool:  # noqa: C901 - one case per node
        if isinstance(condition, (nodes.Similar, nodes.Anniversary)):
            return self.is_near(condition, who)
        if isinstance(condition, nodes.Theirs):
            return self.by_their_clock(condition.inner, who)
        match condition:
            case nodes.And(parts):
                return all(self.holds(one, who) for one in parts)
            case nodes.Or(parts):
                return any(self.holds(one, who) for one in parts)
            case nodes.Not(inner):
                return not self.holds(inner, who)
            case nodes.Count(event, sign, number, window, where):
                return SIGNS[sign](len(self.once(who, event, window, where)), number)
            case nodes.Sum(event, of, sign, amount, window, where):
                rows = self.once(who, event, window, where)
                amounts = [number_of(self.told(one, of)) or Decimal(0) for one in rows]
                return SIGNS[sign](sum(amounts, Decimal(0)), amount)
            case nodes.Followed(event, steps, window, where):
                first = self.once(who, event, window, where)
                return any(self.follows(who, one.time, steps) for one in first)
            case nodes.Compared(nodes.Prediction(question, _), sign, value):
                return floats(self.predicted.get((question, who), (None,))[0], sign, value)
        return self.compares(condition, self.known(condition.operand, who))

    def by_their_clock(self, condition, who: str) -> bool:
        shop, held = self.zone, self.profiles.get(who, {})
        for name in ("location.timezone", "timezone"):
            try:
                self.zone = ZoneInfo(held[name])
            except (KeyError, TypeError, ValueError, OSError, AttributeError):
                continue
        try:
            return self.holds(condition, who)
        finally:
            self.zone = shop

    def is_near(self, condition, who: str) -> bool:
        if isinstance(condition, nodes.Similar):
            return who in self.similar(condition.audience, condition.top, condition.of)
        return self.remembers(self.known(condition.operand, who), condition.window)

    def follows(self, who, time, steps) -> bool:
        if not steps:
            return True
        step, *rest = steps
        end = self.at if step.within is None else time + length(step.within)
        rows = self.once(who, step.event, None, step.where)
        after = [one for one in rows if time < one.time <= end]
        if step.is_absent:
            return end <= self.at and not after
        return any(self.follows(who, one.time, rest) for one in after)

    def once(self, who, event, window, where) -> list[Row]:
        """Rows that meet the where, but an event with several lines once."""
        rows = [
            one
            for one in self.rows(who, event, has_lines(where))
            if (window is None or self.inside(one.time, window))
            and (where is None or self.meets(where, one))
        ]
        return list({one.id: one for one in rows}.values())

    def rows(self, who, event, lined: bool):
        if event == "item_ordered":
            for order in self.orders(who):
                yield from self.ordered(order)
            return
        named = (one for one in self.events if one.customer == who and one.name == event)
        for one in self.orders(who) if event == "order_placed" else named:
            fields = {"source": one.source, "value": self.amount(one.value)}
            fields |= self.clock(one.time)
            properties = json.loads(bytes(one.properties))
            for line in self.lines(one, properties) if lined else [{}]:
                yield Row(one.id, one.time, fields | line, properties)

    def ordered(self, order):
        for place, line in enumerate(order.lines):
            # a line has the currency of its order: the lake keeps no other
            amount = self.amount(Money(line.amount.minor, order.value.currency))
            fields = {"source": order.source, "value": amount}
            fields |= self.of_item(line.item, line.quantity) | self.clock(order.time)
            yield Row(f"{order.id}/{place}", order.time, fields, None)

    def lines(self, one, properties) -> list[dict[str, object]]:
        if one.lines:
            return [self.of_item(line.item, line.quantity) for line in one.lines]
        code = properties.get("item") if one.name != "order_placed" else None
        return [self.of_item(code if isinstance(code, str) else None, None)]

    def orders(self, who):
        gone = {one.order for one in self.events if one.name == "order_cancelled"}
        return [
            one
            for one in self.events
            if (one.customer, one.name) == (who, "order_placed")
            and one.order not in gone
            and one.value is not None
            and one.value.minor > 0
        ]

    def of_item(self, code, quantity) -> dict[str, object]:
        return {"item": code, "quantity": quantity, **self.items.get(code, {})}

    @staticmethod
    def amount(money):
        if money is None or money.currency != "GBP":
            return None
        return Decimal(money.minor) / 100

    def meets(self, where, row: Row) -> bool:
        match where:
            case nodes.And(parts):
                return all(self.meets(one, row) for one in parts)
            case nodes.Or(parts):
                return any(self.meets(one, row) for one in parts)
            case nodes.Not(inner):
                return not self.meets(inner, row)
        return self.compares(where, self.told(row, where.operand))

    @staticmethod
    def told(row: Row, operand):
        match operand:
            case nodes.Field(name):
                return row.fields.get(name)
            case nodes.Property(path):
                return reached(row.properties, path)

    def known(self, operand, who):
        match operand:
            case nodes.Profile(path):
                return reached(self.profiles.get(who, {}), path)
            case nodes.Consent(channel):
                return self.consents.get((who, channel), (None,))[0]
            case nodes.ConsentSince(channel):
                return self.consents.get((who, channel), (None, None))[1]
            case nodes.First(event):
                return min((row.time for row in self.rows(who, event, False)), default=None)
            case nodes.Rfm() | nodes.Bought():
                return self.of_orders(operand, who)
            case nodes.NextOrder():
                if ("next_order", who) not in self.predicted:
                    return None
                days, cutoff = self.predicted["next_order", who]
                return cutoff + timedelta(microseconds=int(days * 86_400_000_000))

    def compares(self, condition, held) -> bool:
        if isinstance(condition, nodes.Dated):
            if isinstance(condition.window, windows.InMonth):
                day = self.day_of(held)
                return day is not None and month_name[day.month].lower() == condition.window.month
            if isinstance(condition.window, windows.Calendar):
                day = self.day_of(held)
                return day is not None and day in self.days(condition.window)
            date = held if isinstance(held, datetime) else date_of(held)
            return date is not None and self.inside(date, condition.window)
        sign, value = condition.operator, condition.value
        if sign == "is set":
            return held is not None
        if sign in SIGNS:
            return same_kind(held, value, SIGNS[sign])
        if sign == "in":
            return any(same_kind(held, one, operator.eq) for one in value)
        if sign.startswith("has"):
            return isinstance(held, list) and holds(held, sign, value)
        return isinstance(held, str) and reads(held, sign, value)

    def inside(self, time: datetime, window) -> bool:  # noqa: C901 - one case per window
        if isinstance(window, windows.InMonth):
            return month_name[time.astimezone(self.zone).month].lower() == window.month
        if isinstance(window, windows.Calendar):
            return time.astimezone(self.zone).date() in self.days(window)
        match window:
            case windows.Last(span):
                return self.at - length(span) < time <= self.at
            case windows.Next(span):
                return self.at < time <= self.at + length(span)
            case windows.Ago(span):
                return time <= self.at - length(span)
            case windows.Earlier(far, near):
                return self.at - length(far) < time <= self.at - length(near)
            case windows.Before(end):
                return time < end
            case windows.After(start):
                return start <= time
            case windows.Between(start, end):
                return start <= time < end

    def clock(self, time: datetime) -> dict[str, object]:
        shown = time.astimezone(self.zone)
        return {
            "weekday": day_name[shown.weekday()].lower(),
            "month": month_name[shown.month].lower(),
            "hour": shown.hour,
        }

    def days(self, window) -> list[date]:
        """The days of the shop that a window holds, one by one."""
        today = self.at.astimezone(self.zone).date()
        near = [today + timedelta(days=number) for number in range(-1000, 1000)]
        match window:
            case windows.Last(span):
                count = length(span).days
                return [one for one in near if -count < (one - today).days <= 0]
            case windows.Next(span):
                count = length(span).days
                return [one for one in near if 0 < (one - today).days <= count]
        unit = units(today)[window.unit] + window.ahead
        return [one for one in near if units(one)[window.unit] == unit]

    def day_of(self, held) -> date | None:
        """The day of a date that is told without a time, or that of the shop."""
        if isinstance(held, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", held):
            at = date_of(held)
            return None if at is None else at.date()
        at = held if isinstance(held, datetime) else date_of(held)
        return None if at is None else at.astimezone(self.zone).date()

    def remembers(self, held, window) -> bool:
        day = self.day_of(held)
        for one in [] if day is None else self.days(window):
            leaps = (day.month, day.day) == (2, 29) and not isleap(one.year)
            month_day = (2, 28) if leaps else (day.month, day.day)
            if (one.month, one.day) == month_day and day.year < one.year:
                return True
        return False

    def _places(self, told) -> dict[str, tuple[float, ...]]:
        """Of each customer the latest embedding of the version that came last."""
        rows = [
            one
            for one in told.embeddings
            if one.anchor <= self.at and (self.known_at is None or one.received <= self.known_at)
        ]
        last = max(((one.received, one.version) for one in rows), default=(None, None))[1]
        held = sorted((one for one in rows if one.version == last), key=lambda one: one.anchor)
        return {one.customer: unit_vector(one.vector) for one in held}

    def similar(self, audience, top, of) -> list[str]:
        seed = [
            one for one in self.places
            if one in self.customers and self.holds(self.named[audience], one)
        ]
        if not seed:
            return []
        rest = [one for one in self.places if one not in seed]
        count = math.ceil(len(rest) * top / 100) if of == "percent" else top
        near = {
            one: sum(
                a * b for other in seed for a, b in zip(self.places[one], self.places[other],
                                                        strict=True)
            ) / len(seed)
            for one in rest
        }  # fmt: skip
        return sorted(rest, key=lambda one: (-round(near[one], 6), one))[:count]

    def of_orders(self, operand, who):
        if isinstance(operand, nodes.Rfm):
            return self.groups.get(who)
        return self.bought(who)[operand.what]

    def bought(self, who) -> dict[str, Decimal | None]:
        """Net spend, order by order."""
        orders = {one.order: one for one in self.orders(who)}
        refunds = [one for one in self.events
                   if one.customer == who and one.name == "order_refunded"
                   and self.amount(one.value) is not None]  # fmt: skip
        left, times = [], []
        for id, order in orders.items():
            value = self.amount(order.value)
            if value is not None:
                value -= self.back([one for one in refunds if one.order == id], order)
                if value <= 0:
                    continue
            times.append(order.time)
            left.append(value)
        amounts = [one for one in left if one is not None]
        net = sum(amounts, Decimal(0))
        if times:
            gone = {one.order for one in self.events if one.name == "order_cancelled"}
            for id in {one.order for one in refunds}:
                order = orders.get(id)
                if id is None:
                    net -= sum(abs(self.amount(one.value)) for one in refunds if one.order is None)
                elif (order is None or self.amount(order.value) is None) and not (
                    id in gone
                    and any((one.customer, one.order) == (who, id) for one in self.events
                            if one.name == "order_placed")
                ):
                    net -= self.back([one for one in refunds if one.order == id], order)
        span = max(times) - min(times) if times else None
        return {
            "net_spend": net if times else Decimal(0),
            "average_order_value": net / len(amounts) if amounts else None,
            "average_days_between_orders": (
                Decimal(span // timedelta(microseconds=1)) / (len(times) - 1) / 86_400_000_000
                if len(times) > 1 else None
            ),
        }  # fmt: skip

    def back(self, refunds, order) -> Decimal:
        """What was taken back of an order, by the source that is believed."""
        by_source: dict[str, Decimal] = {}
        for one in sorted(refunds, key=lambda one: (one.time, one.received, one.digest)):
            by_source[one.source] = by_source.get(one.source, 0) + abs(self.amount(one.value))
        if order is not None and order.source in by_source:
            return by_source[order.source]
        return next(iter(by_source.values()), Decimal(0))

    def _groups(self) -> dict[str, str]:
        told = {}
        for who in self.customers:
            orders = list(self.orders(who))
            if orders:
                amounts = [self.amount(one.value) or 0 for one in orders]
                back = [abs(self.amount(one.value) or 0) for one in self.events
                        if one.customer == who and one.name == "order_refunded"]  # fmt: skip
                last = max(one.time for one in orders)
                told[who] = (last, len(orders), sum(amounts) - sum(back))
        groups = {}
        for who, mine in told.items():
            below = [
                sum(other[place] < mine[place] for other in told.values()) for place in range(3)
            ]
            recency, often, worth = (1 + 3 * number // len(told) for number in below)
            groups[who] = group(recency, often, worth)
        return groups


def unit_vector(vector) -> tuple[float, ...]:
    size = math.sqrt(sum(one * one for one in vector)) or 1.0
    return tuple(one / size for one in vector)


def units(day: date) -> dict[str, int]:
    """How many units of the calendar there were before a day's own."""
    months = day.year * 12 + day.month - 1
    weeks = (day.toordinal() - 1) // 7
    return {
        "day": day.toordinal(), "week": weeks, "month": months, "quarter": months // 3,
        "year": day.year,
    }  # fmt: skip


def latest(rows, question: str):
    """Of each customer the value and the cutoff in the set that came last."""
    asked = [one for one in rows if one.question == question]
    last = max((one.cutoff, one.received, one.version) for one in asked)
    for one in asked:
        if (one.cutoff, one.received, one.version) == last and one.value is not None:
            yield (question, one.customer), (one.value, one.cutoff)


def holds(held: list, sign: str, value) -> bool:
    wanted = set(value) if isinstance(value, tuple) else {value}
    told = [one for one in held if one is not None]
    found = {one if isinstance(one, str) else json.dumps(one) for one in told}
    lengths = {"has exactly": operator.eq, "has at least": operator.ge, "has at most": operator.le}
    if sign in lengths:
        return lengths[sign](len(held), value)
    if sign == "has any containing":
        return any(value.lower() in one.lower() for one in found)
    return bool(wanted & found) if sign == "has any of" else wanted <= found


def reads(held: str, sign: str, value: str) -> bool:
    if sign == "matches":
        return re.search(value, held) is not None
    text, part = held.lower(), value.lower()
    return {
        "contains": part in text,
        "starts with": text.startswith(part),
        "ends with": text.endswith(part),
    }[sign]


def group(recency: int, often: int, worth: int) -> str:
    if recency == 3:
        return "recent" if often == 1 else "champions" if often == 3 and worth >= 2 else "loyal"
    if recency == 2:
        return "needs attention" if often == 1 else "loyal"
    return "at risk" if often >= 2 or worth >= 2 else "inactive"


def has_lines(where) -> bool:
    def inside(one):
        return [one, *(found for part in nodes.children(one) for found in inside(part))]

    return where is not None and any(
        isinstance(one, nodes.Compared) and isinstance(one.operand, nodes.Field)
        and one.operand.name not in ("value", "source")
        for one in inside(where)
    )  # fmt: skip


def length(span) -> timedelta:
    return timedelta(seconds=span.amount * UNIT[span.unit])


def reached(held, path):
    for name in path:
        if not isinstance(held, dict) or name not in held:
            return None
        held = held[name]
    return held


def number_of(held) -> Decimal | None:
    if isinstance(held, bool) or held is None:
        return None
    if isinstance(held, str) and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", held):
        return None
    if isinstance(held, (int, float, Decimal, str)):
        return Decimal(str(held)).quantize(NINTH, ROUND_HALF_UP)
    return None


def date_of(held) -> datetime | None:
    if not isinstance(held, str) or not re.match(r"\d{4}-\d\d-\d\d", held):
        return None
    try:
        at = datetime.fromisoformat(held)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def same_kind(held, value, sign) -> bool:
    if isinstance(value, bool):
        return isinstance(held, bool) and sign(held, value)
    if isinstance(value, str):
        return isinstance(held, str) and sign(held, value)
    number = number_of(held)
    return number is not None and sign(number, value)


def floats(held: float | None, sign: str, value) -> bool:
    if sign == "is set" or held is None:
        return held is not None
    if sign == "in":
        return any(held == float(one) for one in value)
    return SIGNS[sign](held, float(value))


