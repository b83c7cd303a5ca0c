"""Figures in, drawings out: inline SVG that needs no script and follows the page's colours.

Wide charts take their width, so that the page can hold one for desks and one for phones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from habitue.demo import svg
from habitue.demo.figures import (
    Audiences,
    Comparison,
    Estimate,
    Lift,
    LiftPoint,
    Mark,
    NextOrder,
    ReadyAudience,
    Reliability,
    Slipping,
    Week,
)
from habitue.demo.svg import Frame, Scale
from habitue.demo.words import (
    OUTCOMES,
    day,
    days,
    known,
    method_name,
    money,
    next_in_words,
    number,
    percent,
)

Show = Callable[[float | None], str]

_WHOLE_WEEK = 6.999                      # days; shorter weeks would look like a fall in orders
_NARROW_PAST = timedelta(days=366)       # shown before the cutoff where there is little room
_SHAPES = "●■▲◆▼"                        # of the curves: colour alone never tells them apart

_OUTLINES: tuple[tuple[svg.Point, ...], ...] = (   # of every shape after the circle
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1), (1, 1), (-1, 1)),
    ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    ((-1, -1), (1, -1), (0, 1)),
)


# --- orders per week -----------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Quantity:
    """Something counted by week: its name, and how its amounts are written."""

    name: str
    show: Show
    short: Show                          # for an axis


def weekly_chart(
    weeks: Sequence[Week], quantity: Quantity, *, name: str, cutoff: datetime, width: int,
) -> Markup:
    """Actual weeks before the cutoff; after it the prediction, its band and what happened."""
    whole = [week for week in weeks if week.days >= _WHOLE_WEEK
             and (width > 600 or week.start >= cutoff - _NARROW_PAST)]
    if not whole:
        return Markup("")
    frame = Frame(width=width, height=290 if width > 600 else 250, top=30, left=48)
    top = max((value for week in whole for value in _values(week)), default=0.0)
    marks = svg.ticks(top, 4)
    end = whole[-1].start + timedelta(days=7)
    x = Scale(whole[0].start.timestamp(), end.timestamp(), frame.left, frame.x_end)
    y = Scale(0.0, marks[-1], frame.y_end, frame.top)
    parts = [*svg.value_grid(frame, y, marks, quantity.short),
             *svg.months(frame, x, whole[0].start, end),
             *_cutoff_mark(frame, x, cutoff)]
    after = [week for week in whole if week.predicted is not None]
    parts += [_band(after, x, y),
              _weekly_line(whole, lambda week: week.with_newcomers, x, y, "newcomers"),
              _weekly_line(whole, lambda week: week.actual, x, y, "actual"),
              _weekly_line(after, _predicted, x, y, "predicted"),
              *(_week_note(week, x, frame, quantity.show) for week in whole)]
    return svg.drawing(name, f"{quantity.name} per week", _weekly_words(whole, quantity, cutoff),
                       (frame.width, frame.height), parts)


def _values(week: Week) -> list[float]:
    bounds = (week.predicted.value, week.predicted.high) if week.predicted else ()
    return [value for value in (week.actual, week.with_newcomers, *bounds) if known(value)]


def _predicted(week: Week) -> float | None:
    return week.predicted.value if week.predicted else None


def _middle(week: Week, x: Scale) -> float:
    return x((week.start + timedelta(days=3.5)).timestamp())


def _weekly_line(
    weeks: Sequence[Week], value: Callable[[Week], float | None], x: Scale, y: Scale, style: str,
) -> Markup:
    points = [(_middle(week, x), y(seen)) for week in weeks if known(seen := value(week))]
    return svg.path(points, f"line {style}")


def _band(weeks: Sequence[Week], x: Scale, y: Scale) -> Markup:
    spans = [(_middle(week, x), week.predicted.low, week.predicted.high)
             for week in weeks if week.predicted]
    lower = [(at, y(low)) for at, low, _ in spans if known(low)]
    upper = [(at, y(high)) for at, _, high in spans if known(high)]
    return svg.path([*upper, *reversed(lower)], "band", closed=True)


def _cutoff_mark(frame: Frame, x: Scale, cutoff: datetime) -> list[Markup]:
    at = x(cutoff.timestamp())
    if not frame.left <= at <= frame.x_end:
        return []
    anchor = "end" if at > frame.width / 2 else "start"
    label = f"cutoff {day(cutoff)}"
    label = f"{label}: nothing later was seen" if frame.width > 600 else label
    return [svg.line((at, frame.top - 20), (at, frame.y_end), "cutoff"),
            svg.text((at + (-8 if anchor == "end" else 8), frame.top - 11), label, "strong",
                     anchor=anchor)]


def _week_note(week: Week, x: Scale, frame: Frame, show: Show) -> Markup:
    words = f"week of {day(week.start)}: {show(week.actual)}"
    if week.predicted:
        words += f", predicted {_with_span(week.predicted, show)}"
    left = x(week.start.timestamp())
    right = x((week.start + timedelta(days=7)).timestamp())
    return svg.box((left, frame.top), right - left, frame.y_end - frame.top, "touch", words)


def _with_span(estimate: Estimate, show: Show) -> str:
    if not (known(estimate.low) and known(estimate.high)):
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


def _weekly_words(whole: Sequence[Week], quantity: Quantity, cutoff: datetime) -> str:
    after = [week for week in whole if week.predicted is not None]
    actual = sum(week.actual for week in after if known(week.actual))
    predicted = sum(value for week in after if known(value := _predicted(week)))
    return (f"{quantity.name} per week from {day(whole[0].start)}. In the {len(after)} whole weeks "
            f"after {day(cutoff)}, {quantity.show(predicted)} were predicted and "
            f"{quantity.show(actual)} happened.")


# --- can the number be trusted -------------------------------------------------------------------

def shape_of(position: int) -> str:
    """The mark of the curve at a position: its legend shows the same one.

    >>> shape_of(0), shape_of(1)
    ('●', '■')
    """
    return _SHAPES[position % len(_SHAPES)]


def reliability_chart(curves: Sequence[Reliability], *, name: str, width: int = 360) -> Markup:
    """Probability given against share that ordered; the first curve is ours, with its band."""
    curves = [curve for curve in curves if curve.bins]
    if not curves:
        return Markup("")
    reached = max(max(group.predicted, group.observed, group.high or 0.0)
                  for curve in curves for group in curve.bins)
    marks = svg.ticks(min(max(reached, 0.05), 1.0), 5)
    frame = Frame(width=width, height=width - 20, left=44, right=18, top=28, bottom=38)
    x, y = _square(frame, marks[-1])
    ours = curves[0]
    band = [group for group in ours.bins if known(group.low) and known(group.high)]
    around = [*((x(group.predicted), y(group.high or 0)) for group in band),
              *((x(group.predicted), y(group.low or 0)) for group in reversed(band))]
    parts = [*_share_grid(frame, x, y, marks, ("probability given", "share that ordered")),
             svg.path(around, "band", closed=True),
             svg.line((x(0), y(0)), (x(marks[-1]), y(marks[-1])), "diagonal")]
    for position, curve in reversed(list(enumerate(curves))):
        points = [(x(group.predicted), y(group.observed)) for group in curve.bins]
        notes = [f"{method_name(curve.method)}: {group.customers:,} customers given "
                 f"{percent(group.predicted, 1)}, {percent(group.observed, 1)} ordered"
                 for group in curve.bins]
        dots = [_dot(point, position, note) for point, note in zip(points, notes, strict=True)]
        parts += [svg.path(points, f"line thin curve-{position}"), *dots]
    words = "; ".join(f"given {percent(group.predicted)}, {percent(group.observed)} ordered"
                      for group in ours.bins)
    return svg.drawing(name, "Reliability of the probability of ordering",
                       f"{method_name(ours.method)}: {words}.", (frame.width, frame.height), parts)


def lift_chart(curves: Sequence[Lift], *, name: str, width: int = 360) -> Markup:
    """Share of customers contacted, best first, against the share of the outcome reached."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup("")
    outcome = OUTCOMES[curves[0].outcome]
    frame = Frame(width=width, height=width - 20, left=44, right=18, top=28, bottom=38)
    marks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x, y = _square(frame, 1.0)
    parts = [*_share_grid(frame, x, y, marks, ("customers contacted, best first",
                                               f"share of {outcome}")),
             svg.line((x(0), y(0)), (x(1), y(1)), "diagonal")]
    for position, curve in reversed(list(enumerate(curves))):
        points = [(x(point.contacted), y(point.captured)) for point in curve.points]
        parts.append(svg.path(points, f"line curve-{position}"))
        mark = nearest(curve, 0.2)
        note = (f"{method_name(curve.method)}: {percent(mark.contacted)} of customers, "
                f"{percent(mark.captured)} of {outcome}")
        parts.append(_dot((x(mark.contacted), y(mark.captured)), position, note))
    words = "; ".join(f"{percent(point.contacted)} of customers reach {percent(point.captured)}"
                      for point in curves[0].points)
    return svg.drawing(name, f"Lift: share of {outcome} reached",
                       f"{method_name(curves[0].method)}: {words}.", (frame.width, frame.height),
                       parts)


def nearest(curve: Lift, contacted: float) -> LiftPoint:
    """The point of a lift curve nearest to a share of customers."""
    return min(curve.points, key=lambda point: abs(point.contacted - contacted))


def _square(frame: Frame, high: float) -> tuple[Scale, Scale]:
    return (Scale(0.0, high, frame.left, frame.x_end), Scale(0.0, high, frame.y_end, frame.top))


def _share_grid(
    frame: Frame, x: Scale, y: Scale, marks: Sequence[float], names: tuple[str, str],
) -> list[Markup]:
    parts = svg.value_grid(frame, y, marks, percent)
    parts += [svg.text((x(mark), frame.y_end + 17), percent(mark), anchor="middle")
              for mark in marks]
    return [*parts,
            svg.text(((frame.left + frame.x_end) / 2, frame.height - 4), names[0], anchor="middle"),
            svg.text((8, 12), f"↑ {names[1]}")]


def _dot(at: svg.Point, position: int, note: str) -> Markup:
    x, y = at
    position %= len(_SHAPES)
    style = f"mark curve-{position}"
    reach = 4.5 if position == 0 else 3.5
    if position == 0:
        return svg.circle(at, reach, style, note)
    corners = [(x + reach * right, y + reach * down) for right, down in _OUTLINES[position - 1]]
    return svg.path(corners, style, closed=True, note=note)


# --- one customer --------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The stretch of time that every timeline on the page shares."""

    start: datetime
    now: datetime                        # as of when the customers are scored
    end: datetime


def timeline_chart(
    customer: Slipping, period: Period, *, name: str, currency: str, width: int,
) -> Markup:
    """What a customer did, dots by value, and to the right when the next order is expected."""
    marks, expected = customer.timeline, customer.next_order
    frame = Frame(width=width, height=104, left=14, right=14, top=8, bottom=24)
    x = Scale(period.start.timestamp(), period.end.timestamp(), frame.left, frame.x_end)
    middle = (frame.top + frame.y_end) / 2 + 6
    largest = max((abs(mark.value) for mark in marks if known(mark.value)), default=0.0)
    dots = [_event_dot(mark, x, middle, largest, currency)
            for mark in sorted(marks, key=lambda mark: -abs(mark.value or 0.0))]
    parts = [*svg.months(frame, x, period.start, period.end),
             svg.line((frame.left, middle), (x(period.now.timestamp()), middle), "thread"),
             *_silence(marks, period, x, middle), *_expectation(expected, period, x, frame, middle),
             svg.line((x(period.now.timestamp()), frame.top), (x(period.now.timestamp()),
                                                               frame.y_end), "cutoff"),
             *dots]
    orders = sum(mark.name == "order_placed" for mark in marks)
    words = (f"{number(orders)} orders up to {day(period.now)}; next order expected "
             f"{next_in_words(expected)}.")
    return svg.drawing(name, f"Timeline of {customer.customer}", words,
                       (frame.width, frame.height), parts)


def _event_dot(mark: Mark, x: Scale, middle: float, largest: float, currency: str) -> Markup:
    value = abs(mark.value) if known(mark.value) else 0.0
    reach = 9.0 if x.end > 600 else 5.0
    radius = 2.5 + reach * (value / largest) ** 0.5 if largest else 4.0
    kind = mark.name.replace("_", " ")
    note = f"{day(mark.time)}: {kind}" + (f", {money(mark.value, currency)}" if value else "")
    return svg.circle((x(mark.time.timestamp()), middle), radius, f"event {_look(mark.name)}", note)


def _look(name: str) -> str:
    match name:
        case "order_placed" | "order_updated":
            return "order"
        case "order_refunded" | "order_cancelled":
            return "refund"
        case _:
            return "other"


def _silence(marks: Sequence[Mark], period: Period, x: Scale, middle: float) -> list[Markup]:
    orders = [mark.time for mark in marks if mark.name == "order_placed"]
    if not orders:
        return []
    last, now = x(max(orders).timestamp()), x(period.now.timestamp())
    silent = days((period.now - max(orders)) / timedelta(days=1))
    at = min((last + now) / 2, now - 30)
    return [svg.line((last, middle), (now, middle), "silence"),
            svg.text((at, middle - 18), silent, anchor="middle")]


def _expectation(
    expected: NextOrder, period: Period, x: Scale, frame: Frame, middle: float,
) -> list[Markup]:
    edge = period.end
    start = max(expected.p10 or edge, period.now)
    if start >= edge:
        return [svg.text((frame.x_end, middle + 4), "not expected →", anchor="end")]
    end = min(expected.p90 or edge, edge)
    left, right = x(start.timestamp()), x(end.timestamp())
    style = "expected" if expected.p90 and expected.p90 <= edge else "expected open"
    parts = [svg.box((left, middle - 13), right - left, 26, style,
                     f"next order expected {next_in_words(expected)}")]
    if right - left > 70:
        parts.append(svg.text(((left + right) / 2, middle - 18), "next order", anchor="middle"))
    if expected.p50 and expected.p50 <= edge:
        at = x(expected.p50.timestamp())
        parts.append(svg.line((at, middle - 13), (at, middle + 13), "expected-middle"))
    return parts


# --- small bars ----------------------------------------------------------------------------------

def strip_chart(rows: Sequence[Comparison], *, name: str, label: str, show: Show) -> Markup:
    """One measure of every method, ours marked: dots with their intervals, one line each."""
    rows = [row for row in rows if known(row.value)]
    if not rows:
        return Markup("")
    longest = max(len(_tight_name(row.method)) for row in rows)
    frame = Frame(width=330, height=17 * len(rows) + 6, left=max(104, min(6.6 * longest + 16, 150)),
                  right=8, top=3, bottom=3)
    bounds = [value for row in rows for value in (row.value, row.low, row.high) if known(value)]
    x = Scale(min(bounds), max(bounds), frame.left + 6, frame.x_end - 6)
    parts = []
    for position, row in enumerate(rows):
        parts += _strip_row(row, x, frame.top + 17 * position + 8.5, frame, show)
    words = "; ".join(f"{method_name(row.method)} {_with_span(_estimate(row), show)}"
                      for row in rows)
    return svg.drawing(name, label, f"{words}.", (frame.width, frame.height), parts)


def _tight_name(method: str) -> str:
    return method_name(method).replace("Gamma-Gamma", "GG")


def _estimate(row: Comparison) -> Estimate:
    return Estimate(row.value, row.low, row.high)


def _strip_row(row: Comparison, x: Scale, y: float, frame: Frame, show: Show) -> list[Markup]:
    style = "ours" if row.method == "habitue" else "theirs"
    parts = [svg.text((frame.left - 8, y + 4), _tight_name(row.method), style, anchor="end"),
             svg.line((frame.left, y), (frame.x_end, y), "grid")]
    if known(row.low) and known(row.high):
        parts.append(svg.line((x(row.low), y), (x(row.high), y), f"whisker {style}"))
    note = f"{method_name(row.method)}: {_with_span(_estimate(row), show)}"
    parts.append(svg.circle((x(row.value or 0.0), y), 4, f"mark {style}", note))
    return parts


def size_chart(one: ReadyAudience, held: Audiences, *, name: str) -> Markup:
    """How large an audience was over time, from nought; a dot where it was at the cutoff."""
    frame = Frame(width=200, height=46, left=4, right=4, top=6, bottom=4)
    x = Scale(held.start.timestamp(), held.end.timestamp(), frame.left, frame.x_end)
    top = max((size.customers for size in one.sizes), default=0)
    y = Scale(0.0, float(max(top, 1)), frame.y_end, frame.top)
    points = [(x(size.at.timestamp()), y(size.customers)) for size in one.sizes]
    notes = [f"{number(size.customers)} on {day(size.at)}" for size in one.sizes]
    parts = [svg.line((frame.left, frame.y_end), (frame.x_end, frame.y_end), "grid"),
             svg.line((x(held.cutoff.timestamp()), frame.top),
                      (x(held.cutoff.timestamp()), frame.y_end), "cutoff")]
    if len(points) > 2:                  # of two, a line would tell a course that nobody saw
        parts.append(svg.path(points, "line curve-0"))
    seen = points if len(points) <= 2 else points[-1:]
    parts += [svg.circle(point, 3, "mark curve-0", note)
              for point, note in zip(seen, notes[-len(seen):], strict=True)]
    words = f"{'; '.join(notes)}." if notes else "no size is known."
    return svg.drawing(name, f"size of {one.name}", words, (frame.width, frame.height), parts)


def probability_bar(estimate: Estimate) -> Markup:
    """A probability on a track from 0 to 1, its interval as a paler bar."""
    if not known(estimate.value):
        return Markup("")
    track = svg.box((0, 5), 100, 4, "track")
    spread = Markup("")
    if known(estimate.low) and known(estimate.high):
        spread = svg.box((100 * estimate.low, 3), 100 * (estimate.high - estimate.low), 8, "spread")
    point = svg.box((100 * estimate.value - 1.5, 0), 3, 14, "point")
    return Markup('<svg viewBox="-2 0 104 14" class="gauge" aria-hidden="true">{}</svg>').format(
        track + spread + point)
