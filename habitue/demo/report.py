"""The report: `Figures` in, one page of HTML out, which needs no network and no script.

`render` prepares a small view of each section here; template.html.j2 only places it. Text is
escaped by the template (autoescape); only charts.py makes markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from habitue.demo import charts, summary, words
from habitue.demo.charts import Period, Quantity
from habitue.demo.figures import (
    Comparison,
    Figures,
    Ingest,
    Lift,
    ReadyAudience,
    Reliability,
    Slipping,
    Timing,
    Verdict,
    Week,
)
from habitue.demo.words import OURS
from habitue.events import Instant

_WIDE, _NARROW = 960, 350                # chart widths, for desks and for phones
_OPEN_CUSTOMERS = 3                      # shown with their timeline from the start


def render(figures: Figures) -> str:
    """The whole page, deterministic: the same figures give the same bytes."""
    page = _environment(figures.currency).get_template("template.html.j2")
    return page.render(
        figures=figures,
        headline=summary.headline(figures),
        held_out=summary.held_out(figures.holdout, figures.currency),
        tested=summary.tested(figures.holdout),
        standing=summary.standing(figures.verdicts),
        customers=_customers(figures),
        weekly=_weekly(figures),
        ready=_ready(figures),
        trust=_trust(figures),
        questions=_questions(figures),
        meanings=_meanings(figures.comparison),
        losses=[summary.loss(verdict, figures.currency) for verdict in figures.verdicts
                if verdict.verdict == "loss"],
        slowest=max((timing.seconds for timing in figures.timings), default=0.0),
        total=_total(figures.timings),
        marks=summary.MARKS,
        unaccounted=_unaccounted(figures.ingest),
    )


def _environment(currency: str) -> Environment:
    """Autoescaping for every template, and the words the template may use."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    cash = partial(words.money, currency=currency)
    environment.filters |= {
        "number": words.number, "percent": words.percent, "money": cash,
        "day": words.day, "day_span": words.day_span,
        "method": words.method_name, "anchor": _anchor, "width": _width,
        "gauge": charts.probability_bar,
        "title_of": lambda item: words.shown_title(item.title, item.item),
        "money_span": partial(words.span, show=cash),
        "percent_span": partial(words.span, show=words.percent),
        "number_span": partial(words.span, show=words.number),
    }
    environment.globals |= {"counted": words.counted, "DASH": words.DASH}
    return environment


def _width(share: float | None) -> str:
    return f"{100 * share:.1f}%" if words.known(share) else "0"


def _unaccounted(ingest: Ingest) -> int:
    return abs(ingest.rows - ingest.appended - ingest.duplicate - ingest.rejected)


def _anchor(metric: str) -> str:
    return "measure-" + "".join(letter if letter.isalnum() else "-" for letter in metric)


@dataclass(frozen=True, slots=True)
class Pair:
    """One chart twice: for desks and for phones."""

    wide: Markup
    narrow: Markup


# --- who is slipping away ------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class CustomerView:
    """One customer with a drawing of what they did."""

    figures: Slipping
    timeline: Pair
    is_open: bool


def _customers(figures: Figures) -> list[CustomerView]:
    outlook = figures.outlook
    period = Period(start=_first_mark(outlook.slipping, outlook.as_of), now=outlook.as_of,
                    end=_horizon_end(figures))
    views = []
    for position, customer in enumerate(outlook.slipping):
        draw = partial(
            charts.timeline_chart, customer, period, currency=figures.currency)
        pair = Pair(draw(name=f"time-{position}-w", width=_WIDE),
                    draw(name=f"time-{position}-n", width=_NARROW))
        views.append(CustomerView(customer, pair, position < _OPEN_CUSTOMERS))
    return views


def _first_mark(customers: Sequence[Slipping], as_of: Instant) -> Instant:
    times = [mark.time for customer in customers for mark in customer.timeline]
    return min(times, default=as_of)


def _horizon_end(figures: Figures) -> Instant:
    return figures.outlook.as_of + timedelta(days=figures.outlook.horizon_days)


# --- ready audiences -----------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class ReadyView:
    """One ready audience, with a drawing of its size over time."""

    figures: ReadyAudience
    chart: Markup
    gap: str                             # of the share that ordered, beside its matches
    gap_span: str


def _ready(figures: Figures) -> list[ReadyView]:
    held = figures.audiences
    if held is None:
        return []
    return [
        ReadyView(one, charts.size_chart(one, held, name=f"size-{place}"),
                  *summary.points(one.ordered.difference))
        for place, one in enumerate(held.shown)
    ]


# --- predicted against actual --------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class WeeklyView:
    """One quantity week by week."""

    quantity: Quantity
    chart: Pair
    weeks: tuple[Week, ...]
    has_newcomers: bool


def _weekly(figures: Figures) -> list[WeeklyView]:
    cash = Quantity("Revenue", partial(words.money, currency=figures.currency),
                    partial(words.short, symbol=words.symbol_of(figures.currency)))
    orders = Quantity("Orders", words.number, words.short)
    views = []
    for quantity, weeks in ((orders, figures.weekly_orders), (cash, figures.weekly_revenue)):
        if weeks:
            draw = partial(charts.weekly_chart, weeks, quantity, cutoff=figures.holdout.cutoff)
            name = quantity.name.lower()
            pair = Pair(draw(name=f"{name}-w", width=_WIDE), draw(name=f"{name}-n", width=_NARROW))
            newcomers = any(week.with_newcomers is not None for week in weeks)
            views.append(WeeklyView(quantity, pair, weeks, newcomers))
    return views


# --- can the number be trusted -------------------------------------------------------------------

@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A chart, its plain words, and the methods in it with their marks."""

    title: str
    said: str
    chart: Markup
    legend: list[tuple[int, str, str]]   # position, mark, method
    diagonal: str                        # what the dashed line stands for
    has_band: bool


@dataclass(frozen=True, slots=True)
class TrustView:
    """What speaks for and against believing a probability."""

    said: str
    calibration: str
    drawings: list[Drawing]
    curves: list[Reliability]


def _trust(figures: Figures) -> TrustView:
    curves = sorted((curve for curve in figures.reliability if curve.bins), key=_after_ours)
    ours = summary.ours(figures.reliability)
    drawings = [_reliability(curves)] if curves else []
    for outcome, title in (("orderers", "Lift: who orders"), ("revenue", "Lift: revenue")):
        lifts = sorted((curve for curve in figures.lift
                        if curve.outcome == outcome and curve.points), key=_after_ours)
        if lifts:
            drawings.append(_lift(lifts, title, f"lift-{outcome}"))
    return TrustView(summary.reliability_words(ours), summary.calibration_words(ours), drawings,
                     curves)


def _reliability(curves: Sequence[Reliability]) -> Drawing:
    return Drawing(
        title="Reliability", chart=charts.reliability_chart(curves, name="reliability"),
        said="On the dashed line, the share that ordered is exactly the probability given. "
             "Inside the shading, a distance from it can be chance.",
        legend=_legend([curve.method for curve in curves]), diagonal="exactly right",
        has_band=any(group.high is not None for group in curves[0].bins),
    )


def _lift(curves: Sequence[Lift], title: str, name: str) -> Drawing:
    return Drawing(
        title=title, chart=charts.lift_chart(curves, name=name), said=summary.lift_words(curves),
        legend=_legend([curve.method for curve in curves]), diagonal="in any order",
        has_band=False,
    )


def _after_ours(shown: Reliability | Lift | Comparison) -> bool:
    """Sorts what is ours before the rest, which keep their order."""
    return shown.method != OURS


def _legend(methods: Sequence[str]) -> list[tuple[int, str, str]]:
    return [(position, charts.shape_of(position), words.method_name(method))
            for position, method in enumerate(methods)]


# --- the comparison ------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """One measure that was judged."""

    figures: Verdict
    measure: words.Measure
    ours: str
    theirs: str
    difference: str
    span: str
    strip: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionView:
    """One question: what was judged, and every number behind it."""

    title: str
    about: str
    customers: int | None
    verdicts: list[VerdictView]
    methods: list[str]
    table: list[tuple[str, words.Measure, list[tuple[str, str]]]]   # metric, (value, span) each


def _questions(figures: Figures) -> list[QuestionView]:
    names = dict.fromkeys(row.question for row in figures.comparison)
    ordered = sorted(names, key=lambda name: list(words.QUESTIONS).index(name)
                     if name in words.QUESTIONS else len(words.QUESTIONS))
    return [_question(figures, name) for name in ordered]


def _question(figures: Figures, name: str) -> QuestionView:
    rows = [row for row in figures.comparison if row.question == name]
    cells = {(row.metric, row.method): row for row in rows}
    methods = sorted(dict.fromkeys(row.method for row in rows), key=lambda method: method != OURS)
    metrics = dict.fromkeys(row.metric for row in rows)
    title, about = words.QUESTIONS.get(name, (name, ""))
    table = [(metric, words.measure(metric),
              [_cell(cells.get((metric, method)), figures.currency) for method in methods])
             for metric in metrics]
    judged = [verdict for verdict in figures.verdicts if verdict.question == name]
    return QuestionView(
        title=title, about=about, methods=methods, table=table,
        customers=max((row.customers for row in rows if row.customers), default=None),
        verdicts=[_verdict(verdict, rows, figures.currency) for verdict in judged],
    )


def _cell(row: Comparison | None, currency: str) -> tuple[str, str]:
    if row is None:
        return words.DASH, ""
    show = partial(words.measured, question=row.question, metric=row.metric, currency=currency)
    return show(row.value), words.span(row, show)


def _meanings(rows: Sequence[Comparison]) -> list[tuple[str, words.Measure]]:
    """Every measure on the page that has an explanation, once."""
    named = dict.fromkeys(row.metric for row in rows)
    return [(metric, words.measure(metric)) for metric in named if words.measure(metric).meaning]


def _verdict(verdict: Verdict, rows: Sequence[Comparison], currency: str) -> VerdictView:
    question, metric = verdict.question, verdict.metric
    show = partial(words.measured, question=question, metric=metric, currency=currency)
    show_change = partial(words.signed, question=question, metric=metric, currency=currency)
    same = sorted((row for row in rows if row.metric == verdict.metric), key=_after_ours)
    values = {row.method: row.value for row in same}
    label = words.measure(verdict.metric).label
    return VerdictView(
        figures=verdict, measure=words.measure(verdict.metric),
        ours=show(values.get(OURS)), theirs=show(values.get(verdict.best_baseline)),
        difference=show_change(verdict.difference),
        span=words.span(verdict, show_change).replace(" points", ""),
        strip=charts.strip_chart(
            same, name=f"strip-{verdict.question}-{_anchor(verdict.metric)}", label=label,
            show=show),
    )


def _total(timings: Sequence[Timing]) -> float:
    return sum(timing.seconds for timing in timings)
