"""An invented shop's figures: numbers for looking at the report, never results."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from habitue.demo.figures import (
    Audiences,
    Beside,
    Bin,
    Comparison,
    Decile,
    Estimate,
    Figures,
    Holdout,
    Ingest,
    Lift,
    LiftPoint,
    Mark,
    NextOrder,
    Outlook,
    ReadyAudience,
    Recommended,
    Reliability,
    SizeAt,
    Slipping,
    Timing,
    Verdict,
    Version,
    Versions,
    Week,
)
from habitue.demo.words import silence

CUTOFF = datetime(2011, 6, 12, 12, tzinfo=UTC)
AS_OF = datetime(2011, 12, 9, 12, 50, tzinfo=UTC)
TITLES = (
    "WHITE HANGING HEART T-LIGHT HOLDER", "REGENCY CAKESTAND 3 TIER", "JUMBO BAG RED RETROSPOT",
    "ASSORTED COLOUR BIRD ORNAMENT", "PARTY BUNTING", "LUNCH BAG BLACK SKULL.",
    "Pack of 72 retrospot cake cases", "HEART OF WICKER SMALL", "JAM MAKING SET WITH JARS",
)
REASONS = ("bought 4 times, last in May", "often bought with Party bunting", "popular this month",
           "what customers like this one buy next")


@pytest.fixture(scope="session")
def figures() -> Figures:
    """A shop of two years with 40 customers slipping away."""
    return example()


def example(customers: int = 40, seed: int = 7) -> Figures:
    """Figures of the size that a real shop has; every number is drawn, none is measured."""
    rng = np.random.default_rng(seed)
    comparison, verdicts = _comparison()
    return Figures(
        shop="online_retail", currency="GBP", created=datetime(2025, 3, 3, 9, tzinfo=UTC),
        versions=Versions(evaluated=Version(id="demo-0001", cutoff=CUTOFF),
                          final=Version(id="demo-0002", cutoff=AS_OF)),
        ingest=Ingest(
            rows=1_044_847, appended=1_038_660, duplicate=0, rejected=6_187,
            reasons={"bad_price": 5_981, "no_order": 201, "bad_time": 5}, events=53_628,
            orders=45_336, refunds=8_292, customers=5_942, items=4_917, anonymous_share=0.081,
            first=datetime(2009, 12, 1, 7, 45, tzinfo=UTC), last=AS_OF,
        ),
        holdout=Holdout(
            cutoff=CUTOFF, horizon_days=180, customers=5_026,
            orderers=Estimate(2_190, 2_120, 2_262), orderers_actual=2_231,
            orders=Estimate(8_690, 8_310, 9_090), orders_actual=8_841,
            revenue=Estimate(3_912_000, 3_510_000, 4_330_000), revenue_actual=4_105_320.5,
        ),
        outlook=_outlook(rng, customers),
        weekly_orders=_weeks(rng, 1.0), weekly_revenue=_weeks(rng, 460.0),
        reliability=_reliability(rng), lift=_lift(), comparison=comparison, verdicts=verdicts,
        audiences=_audiences(),
        timings=(Timing(step="Import", seconds=9.4, note="111,000 rows/s"),
                 Timing(step="Train and calibrate up to the cutoff", seconds=84.1, note="seed 0"),
                 Timing(step="Evaluate", seconds=31.7),
                 Timing(step="Refit on everything", seconds=92.6),
                 Timing(step="Score everyone", seconds=3.2, note="1,860 customers/s"),
                 Timing(step="Recommend", seconds=4.8)),
        protocol=(
            "Events up to the cutoff only: vocabularies, weights, popularity and calibration.",
            "Calibration was fitted on closed windows before the cutoff.",
            "Intervals: 1,000 bootstrap resamples of customers, seed 0.",
            "Items: all 3,912 sold in the 365 days before the cutoff are ranked, none sampled; "
            "bought items stay in; ties by item code.",
            "Imported rows are backfilled: their own time counts as the time they were known.",
        ),
        attribution="Data: Online Retail II, Chen (2012), CC BY 4.0, doi 10.24432/C5CG6D.",
    )


def _audiences() -> Audiences:
    months = [CUTOFF + timedelta(days=30 * place) for place in range(-18, 7)]
    sizes = tuple(SizeAt(month, 40 + 11 * place) for place, month in enumerate(months))
    lapsing = ReadyAudience(
        name="lapsing", purpose="used to order, and has been quiet",
        condition="did order_placed and did not order_placed in 60 days", sizes=sizes,
        members=747, with_match=389,
        ordered=Beside(inside=0.43, outside=0.3, with_match=0.41, matches=0.316,
                       difference=Estimate(0.094, 0.028, 0.161)),
        revenue=Beside(inside=281.4, outside=347.2))
    due = ReadyAudience(
        name="replenishment-due", purpose="is expected to order within a week",
        condition="next_order_date in the next 7 days", sizes=(sizes[18], sizes[-1]),
        members=10, with_match=1,
        ordered=Beside(inside=1.0, outside=0.32, with_match=1.0, matches=0.5,
                       difference=Estimate(0.5)),
        revenue=Beside(inside=1_538.9, outside=307.0))
    nobody = ReadyAudience(
        name="nobody", purpose="met by nobody", condition="did order_placed = 999 times", sizes=(),
        members=0, with_match=0, ordered=Beside(inside=None, outside=0.32),
        revenue=Beside(inside=None, outside=307.0))
    return Audiences(cutoff=CUTOFF, days=90, customers=5_041, start=months[0], end=months[-1],
                     shown=(lapsing, due, nobody))


def _outlook(rng: np.random.Generator, customers: int) -> Outlook:
    means = (0.94, 0.83, 0.7, 0.56, 0.43, 0.31, 0.21, 0.13, 0.07, 0.03)
    edges = (0.99, 0.89, 0.77, 0.63, 0.5, 0.37, 0.26, 0.17, 0.1, 0.05, 0.01)
    deciles = tuple(
        Decile(customers=594, low=edges[place + 1], high=edges[place], probability=mean,
               orders=594 * mean * (5 - place / 3), revenue=594 * mean * (2_400 - 190 * place))
        for place, mean in enumerate(means))
    slipping = sorted((_slipping(rng, place) for place in range(customers)),
                      key=lambda one: -one.value_at_risk)
    return Outlook(
        as_of=AS_OF, horizon_days=180, customers=5_942, orderers=Estimate(2_502, 2_431, 2_570),
        orders=Estimate(9_824, 9_402, 10_260), revenue=Estimate(4_402_310, 3_950_000, 4_870_000),
        deciles=deciles, slipping=tuple(slipping), slipping_customers=214, value_at_risk=312_480.0,
        slipping_rule="Customers with three orders or more who have been silent for longer than "
        "one and a half of their usual gaps. At risk is what they used to spend in 180 days, less "
        "what is expected of them now.",
    )


def _slipping(rng: np.random.Generator, place: int) -> Slipping:
    gap = float(rng.uniform(18, 75))
    silent = gap * float(rng.uniform(1.6, 4.2))
    orders = int(rng.integers(3, 26))
    times = [AS_OF - timedelta(days=silent)]
    while len(times) < orders and times[-1] > datetime(2010, 1, 3, tzinfo=UTC):
        times.append(times[-1] - timedelta(days=float(rng.gamma(3, gap / 3))) - timedelta(hours=3))
    values = rng.lognormal(6, 0.7, len(times))
    marks = [Mark(time=time, name="order_placed", value=round(float(value), 2))
             for time, value in zip(times, values, strict=True)]
    if place % 3 == 0:
        marks.append(Mark(time=times[len(times) // 2] + timedelta(days=4), name="order_refunded",
                          value=-round(float(values[0]) / 3, 2)))
    chance = float(rng.beta(3, 5))
    past = float(values.sum())
    expected = chance * past * 180 / ((times[0] - times[-1]).days + 60)
    late = AS_OF + timedelta(days=float(rng.uniform(20, 240)))
    return Slipping(
        customer=str(12_346 + 37 * place), past_value=round(past, 2), orders=len(times),
        last_order=times[0], usual_gap_days=gap, churn=1 - chance,
        expected_value=Estimate(expected, 0.0, expected * 3.4),
        probability=Estimate(chance, max(chance - 0.11, 0), min(chance + 0.12, 1)),
        next_order=NextOrder(
            p10=AS_OF + (late - AS_OF) * 0.2, p50=late if place % 5 else None,
            p90=None if place % 4 == 0 else late + timedelta(days=60)),
        value_at_risk=round(expected * float(rng.uniform(0.4, 2.2)), 2), why=silence(silent, gap),
        timeline=tuple(sorted(marks, key=lambda mark: mark.time)),
        recommendations=tuple(
            Recommended(item=f"{22_100 + 13 * int(pick)}", title=TITLES[pick],
                        reason=REASONS[int(pick) % len(REASONS)], score=1 / (rank + 1))
            for rank, pick in enumerate(rng.permutation(len(TITLES))[:5])),
    )


def _weeks(rng: np.random.Generator, scale: float) -> tuple[Week, ...]:
    weeks = []
    for place in range(-79, 26):
        start = CUTOFF + timedelta(weeks=place)
        season = 1 + 0.75 * np.exp(-((start.timetuple().tm_yday - 322) / 32) ** 2)
        level = 290 * season * (1 + 0.0015 * place) * scale
        seen = float(level * rng.normal(1, 0.09))
        if place < 0:
            weeks.append(Week(start=start, actual=seen))
            continue
        forecast = float(level * rng.normal(0.98, 0.025))
        weeks.append(Week(
            start=start, actual=seen, days=7 if place < 25 else 5,
            with_newcomers=seen * (1 + 0.011 * place),
            predicted=Estimate(forecast, forecast * 0.86, forecast * 1.15)))
    return tuple(weeks)


def _reliability(rng: np.random.Generator) -> tuple[Reliability, ...]:
    given = (0.02, 0.06, 0.12, 0.2, 0.3, 0.42, 0.55, 0.69, 0.83, 0.95)
    curves = []
    for method, shift in (("habitue", 0.0), ("bg_nbd+gamma_gamma", 0.06), ("lightgbm", -0.03)):
        bins = []
        for chance in given:
            width = 1.64 * (chance * (1 - chance) / 500) ** 0.5
            seen = chance + shift * 4 * chance * (1 - chance) + float(rng.normal(0, width / 2.2))
            bins.append(Bin(predicted=chance, observed=min(max(seen, 0), 1), customers=502,
                            low=max(chance - width, 0), high=min(chance + width, 1)))
        curves.append(Reliability(method=method, bins=tuple(bins), perfect_mean=0.0121,
                                  ece=0.0148 + abs(shift) / 2, perfect_p95=0.0193))
    return tuple(curves)


def _lift() -> tuple[Lift, ...]:
    shares = [place / 20 for place in range(21)]
    return tuple(
        Lift(method=method, outcome=outcome, points=tuple(
            LiftPoint(share, 1 - (1 - share) ** power) for share in shares))
        for outcome, extra in (("orderers", 0.0), ("revenue", 3.0))
        for method, power in (("habitue", 2.7 + extra), ("bg_nbd+gamma_gamma", 2.45 + extra),
                              ("lightgbm", 2.66 + extra)))


def _comparison() -> tuple[tuple[Comparison, ...], tuple[Verdict, ...]]:
    heights = {                          # value, half of its interval, and the outcome
        ("order", "auc"): (0.8124, 0.011, "win"), ("order", "brier"): (0.1688, 0.005, "tie"),
        ("order", "ece"): (0.0148, 0.006, "win"), ("orders", "mae"): (1.412, 0.08, "win"),
        ("orders", "bias"): (-0.017, 0.04, "tie"), ("orders", "ngini"): (0.791, 0.021, "tie"),
        ("orders", "decile_mape"): (0.142, 0.03, "loss"), ("revenue", "mae"): (702.4, 71, "tie"),
        ("revenue", "ngini"): (0.826, 0.03, "win"),
        ("next_order", "c_index"): (0.744, 0.012, "win"),
        ("items", "recall@10"): (0.1432, 0.006, "win"),
        ("items", "ndcg@10"): (0.121, 0.006, "win"),
        ("items", "new_recall@10"): (0.041, 0.004, "loss"),
    }
    lower = ("brier", "ece", "mae", "decile_mape")
    rows, verdicts = [], []
    for (question, metric), (value, half, outcome) in heights.items():
        others = {"items": ("popular_90d", "top_frequency", "item_neighbours"),
                  "revenue": ("bg_nbd+gamma_gamma", "pareto_nbd+gamma_gamma", "lightgbm")}.get(
                      question, ("bg_nbd", "mbg_nbd", "pareto_nbd", "lightgbm"))
        direction = -1 if metric in lower else 1
        gain = {"win": 2.2, "tie": 0.3, "loss": -1.9}[outcome] * half * direction
        rows.append(_row(question, metric, "habitue", value, half))
        for place, method in enumerate(others):
            theirs = value - gain * (1 + (len(others) - 1 - place) * 0.5)
            rows.append(_row(question, metric, method, theirs, half))
        spread = abs(gain) * 0.6 if outcome != "tie" else half
        verdicts.append(Verdict(question=question, metric=metric, verdict=outcome, difference=gain,
                                best_baseline=others[-1], low=gain - spread, high=gain + spread))
    rows += [_row("order", "ece_perfect_mean", "habitue", 0.0121),
             _row("order", "ece_perfect_p95", "habitue", 0.0193),
             _row("order", "slope", "habitue", 0.987, 0.05),
             _row("orders", "coverage_90", "habitue", 0.894, 0.009),
             _row("orders", "coverage_90", "bg_nbd", None)]
    return tuple(rows), tuple(verdicts)


def _row(question: str, metric: str, method: str, value: float | None,
         half: float | None = None) -> Comparison:
    around = (None, None) if value is None or half is None else (value - half, value + half)
    return Comparison(question=question, metric=metric, method=method, value=value, low=around[0],
                      high=around[1], customers=5_026)
