"""Charts stay inside their frame, say what they show, and survive having nothing to show."""

import math
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from habitue.demo import charts, svg, words
from habitue.demo.charts import Period, Quantity
from habitue.demo.figures import (
    Bin,
    Comparison,
    Estimate,
    Figures,
    Lift,
    LiftPoint,
    Mark,
    NextOrder,
    Reliability,
    Slipping,
    Week,
)

ORDERS = Quantity("Orders", words.number, words.short)
weekly = partial(charts.weekly_chart, quantity=ORDERS, name="w")


def customer(figures: Figures, **changed: object) -> Slipping:
    return msgspec.structs.replace(figures.outlook.slipping[0], **changed)


def period(figures: Figures) -> Period:
    end = figures.outlook.as_of
    return Period(start=end - timedelta(days=700), now=end, end=end + timedelta(days=180))


def places(drawn: str) -> tuple[list[float], list[float]]:
    """Every x and every y of lines, dots and paths."""
    xs = [float(x) for x in re.findall(r' (?:x1|x2|cx)="([^"]*)"', drawn)]
    ys = [float(y) for y in re.findall(r' (?:y1|y2|cy)="([^"]*)"', drawn)]
    for outline in re.findall(r' d="M([^"]*)"', drawn):
        for pair in re.findall(r"[-\d.]+ [-\d.]+", outline):
            x, y = pair.split()
            xs.append(float(x))
            ys.append(float(y))
    return xs, ys


@given(high=st.floats(1e-300, 1e300), count=st.integers(2, 8))
def test_ticks_start_at_zero_and_are_the_first_to_reach_the_highest_value(high: float, count: int):
    marks = svg.ticks(high, count)
    assert marks[0] == 0
    assert marks[-1] >= high * (1 - 1e-6)
    assert marks[-2] < high


@given(actual=st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(0, 1e300)),
                       min_size=1, max_size=12), width=st.sampled_from([350, 960]))
def test_whatever_the_weeks_hold_the_drawing_stays_inside_its_frame(
    actual: list[float | None], width: int,
):
    cutoff = datetime(2011, 6, 12, 12, tzinfo=UTC)
    start = cutoff - timedelta(weeks=4)
    weeks = [Week(start=start + timedelta(weeks=place), actual=value,
                  predicted=Estimate(value, value, value) if place >= 4 else None)
             for place, value in enumerate(actual)]
    drawn = weekly(weeks, cutoff=cutoff, width=width)
    assert "nan" not in drawn
    xs, ys = places(drawn)
    assert all(0 <= x <= width for x in xs)
    assert all(0 <= y <= (290 if width == 960 else 250) for y in ys)


def test_a_week_cut_short_is_not_drawn_as_a_fall(figures: Figures):
    whole = figures.weekly_orders[:10]
    short = Week(start=whole[-1].start + timedelta(weeks=1), actual=3.0, days=2.0)
    cutoff = figures.holdout.cutoff
    assert weekly([*whole, short], cutoff=cutoff, width=960) == weekly(
        whole, cutoff=cutoff, width=960)


def test_no_weeks_draw_nothing(figures: Figures):
    assert weekly([], cutoff=figures.holdout.cutoff, width=960) == ""


def test_the_weekly_chart_says_in_words_what_it_draws(figures: Figures):
    cutoff = figures.holdout.cutoff
    weeks = [Week(start=cutoff + timedelta(weeks=place), actual=11.0, predicted=Estimate(10.0))
             for place in range(2)]
    drawn = weekly(weeks, cutoff=cutoff, width=960)
    assert 'role="img"' in drawn
    assert "In the 2 whole weeks after 12 Jun 2011, 20 were predicted and 22 happened." in drawn


def test_what_was_taken_back_is_hollow_and_what_was_ordered_is_not(figures: Figures):
    time = figures.outlook.as_of - timedelta(days=40)
    marks = (Mark(time=time, name="order_placed", value=80.0),
             Mark(time=time + timedelta(days=3), name="order_refunded", value=-20.0))
    drawn = charts.timeline_chart(customer(figures, timeline=marks), period(figures), name="t",
                                  currency="GBP", width=350)
    assert re.search(r'class="event order"><title>30 Oct 2011: order placed, £80.00', drawn)
    assert re.search(r'class="event refund"><title>2 Nov 2011: order refunded, −£20.00', drawn)


def test_an_order_of_more_value_is_a_larger_dot(figures: Figures):
    time = figures.outlook.as_of - timedelta(days=40)
    marks = tuple(Mark(time=time + timedelta(days=place), name="order_placed", value=value)
                  for place, value in enumerate((10.0, 90.0, 40.0)))
    drawn = charts.timeline_chart(customer(figures, timeline=marks), period(figures), name="t",
                                  currency="GBP", width=960)
    sizes = [float(size) for size in re.findall(r' r="([^"]*)" class="event order"', drawn)]
    assert sizes == sorted(sizes, reverse=True)      # drawn largest first, so that none is hidden
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_next_order_past_the_horizon_is_said_and_not_drawn(figures: Figures):
    drawn = charts.timeline_chart(
        customer(figures, next_order=NextOrder(p10=None, p50=None, p90=None)), period(figures),
        name="t", currency="GBP", width=960)
    assert "not expected" in drawn
    assert 'class="expected' not in drawn


def test_a_customer_without_any_event_still_has_a_timeline(figures: Figures):
    now = figures.outlook.as_of
    instant = Period(start=now, now=now, end=now)
    drawn = charts.timeline_chart(customer(figures, timeline=()), instant, name="t",
                                  currency="GBP", width=350)
    assert drawn.startswith("<svg")


def test_the_reliability_chart_holds_the_band_of_our_curve_only(figures: Figures):
    curve = Reliability(method="habitue", bins=(
        Bin(predicted=0.2, observed=0.25, customers=10, low=0.1, high=0.3),
        Bin(predicted=0.6, observed=0.55, customers=10, low=0.5, high=0.7)))
    drawn = charts.reliability_chart([curve, *figures.reliability[1:]], name="r")
    assert drawn.count('class="band"') == 1
    assert "given 20%, 25% ordered; given 60%, 55% ordered" in drawn


def test_curves_without_points_draw_nothing():
    assert charts.reliability_chart([Reliability(method="habitue", bins=())], name="r") == ""
    empty = Lift(method="habitue", outcome="orderers", points=())
    assert charts.lift_chart([empty], name="l") == ""


def test_a_lift_curve_of_a_single_point_is_drawn():
    curve = Lift(method="habitue", outcome="revenue", points=(LiftPoint(1.0, 1.0),))
    assert "100% of customers reach 100%" in charts.lift_chart([curve], name="l")


def test_a_strip_leaves_out_methods_without_a_value_and_draws_equal_ones():
    rows = [Comparison(question="order", metric="auc", method=method, value=value)
            for method, value in (("habitue", 0.5), ("bg_nbd", 0.5), ("lightgbm", math.nan))]
    drawn = charts.strip_chart(rows, name="s", label="AUC", show=words.number)
    assert "BG/NBD" in drawn
    assert "LightGBM" not in drawn
    assert "nan" not in drawn


def test_text_in_a_drawing_is_escaped():
    drawn = svg.drawing("n", "<script>", "a & b", (10, 10), [svg.text((0, 0), "<b>")])
    assert "<script>" not in drawn
    assert "&lt;b&gt;" in drawn
