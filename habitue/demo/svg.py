"""The few SVG elements the charts are made of; text is escaped, colours are left to classes.

Coordinates are in CSS pixels, y downward. A drawing names itself to screen readers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

Point = tuple[float, float]

_NOTHING = 1e-300                        # below it floats run out of digits, and of logarithms


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The outer size of a drawing and the margins around its plot."""

    width: float
    height: float
    left: float = 44
    right: float = 12
    top: float = 10
    bottom: float = 26

    @property
    def x_end(self) -> float:
        """The plot's right edge."""
        return self.width - self.right

    @property
    def y_end(self) -> float:
        """The plot's lower edge."""
        return self.height - self.bottom


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to pixels; a range of no width maps to its start."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value.

        >>> Scale(0, 10, 100, 200)(2.5)
        125.0
        """
        if self.high == self.low:
            return self.start
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(high: float, count: int) -> list[float]:
    """Round values from 0 to the first at or above `high`, about `count` steps.

    >>> ticks(87, 4)
    [0.0, 25.0, 50.0, 75.0, 100.0]
    """
    if high < _NOTHING:
        return [0.0, 1.0]
    rough = high / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= rough * (1 - 1e-9))
    return [step * position for position in range(math.ceil(high / step - 1e-9) + 1)]


def month_ticks(start: datetime, end: datetime, count: int) -> list[datetime]:
    """First days of months between two instants, at most `count`, on a regular step.

    >>> [f"{month:%b %Y}" for month in month_ticks(
    ...     datetime(2010, 1, 15, tzinfo=UTC), datetime(2011, 1, 15, tzinfo=UTC), 4)]
    ['Apr 2010', 'Jul 2010', 'Oct 2010', 'Jan 2011']
    """
    first, last = start.year * 12 + start.month, end.year * 12 + end.month - 1
    for step in (1, 2, 3, 6, 12, 24, 60):
        months = [month for month in range(first, last + 1) if month % step == 0]
        if len(months) <= count:
            break
    return [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in months]


def line(start: Point, end: Point, style: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        _short(start[0]), _short(start[1]), _short(end[0]), _short(end[1]), style)


def path(
    points: Sequence[Point], style: str, *, closed: bool = False, note: str = "",
) -> Markup:
    """A line through points, or the area inside them, with a note that shows on hover."""
    if not points:
        return Markup("")
    steps = " ".join(f"{_short(x)} {_short(y)}" for x, y in points)
    return Markup('<path d="M{}{}" class="{}">{}</path>').format(
        steps, "Z" if closed else "", style, _note(note))


def text(at: Point, content: str, style: str = "", *, anchor: str = "start") -> Markup:
    """Words at a point; `anchor` is start, middle or end."""
    return Markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        _short(at[0]), _short(at[1]), anchor, style, content)


def circle(at: Point, radius: float, style: str, note: str = "") -> Markup:
    """A dot, with a note that shows on hover."""
    return Markup('<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>').format(
        _short(at[0]), _short(at[1]), _short(radius), style, _note(note))


def box(corner: Point, width: float, height: float, style: str, note: str = "") -> Markup:
    """A rectangle from its upper left corner, with a note that shows on hover."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}">{}</rect>').format(
        _short(corner[0]), _short(corner[1]), _short(max(width, 0)), _short(height), style,
        _note(note))


def drawing(
    name: str, title: str, description: str, size: Point, parts: Iterable[Markup],
) -> Markup:
    """One image that scales with the page; `name` is unique on the page."""
    return Markup(
        '<svg viewBox="0 0 {0} {1}" role="img" aria-labelledby="{2}-t {2}-d">'
        '<title id="{2}-t">{3}</title><desc id="{2}-d">{4}</desc>{5}</svg>'
    ).format(_short(size[0]), _short(size[1]), name, title, description, Markup("").join(parts))


def value_grid(
    frame: Frame, y: Scale, marks: Sequence[float], show: Callable[[float], str],
) -> list[Markup]:
    """Level lines with their values at the left."""
    lines = [line((frame.left, y(mark)), (frame.x_end, y(mark)), "grid") for mark in marks]
    labels = [text((frame.left - 8, y(mark) + 4), show(mark), anchor="end") for mark in marks]
    return [*lines, *labels]


def months(frame: Frame, x: Scale, start: datetime, end: datetime) -> list[Markup]:
    """Month names under a plot, as many as there is room for."""
    parts = []
    for month in month_ticks(start, end, 9 if frame.width > 600 else 7):
        at = x(month.timestamp())
        if frame.left + 10 <= at <= frame.x_end - 24:
            parts += [line((at, frame.y_end), (at, frame.y_end + 5), "axis"),
                      text((at, frame.y_end + 19), _month(month, frame), anchor="middle")]
    return parts


def _month(month: datetime, frame: Frame) -> str:
    return f"{month:%b %Y}" if frame.width > 600 or month.month == 1 else f"{month:%b}"


def _note(note: str) -> Markup:
    return Markup("<title>{}</title>").format(note) if note else Markup("")


def _short(value: float) -> str:
    """At most one decimal: a tenth of a pixel is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")
