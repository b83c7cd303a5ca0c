"""How the report speaks: numbers, money and dates as text, and what each measure means.

Every function takes None and NaN and gives a dash for them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeGuard

from habitue.demo.figures import NextOrder
from habitue.events import currency_exponent

OURS = "habitue"                         # our method among those compared
DASH = "–"
_MINUS = "\u2212"
_SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "$", "JPY": "¥", "INR": "₹", "KRW": "₩"}


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None, places: int = 0) -> str:
    """A number with thousands separators.

    >>> number(1234.5), number(-0.25, 2), number(None)
    ('1,234', '−0.25', '–')
    """
    if not known(value):
        return DASH
    text = f"{value:,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("-")
    return text.replace("-", _MINUS)


def percent(value: float | None, places: int = 0) -> str:
    """A share as a percentage.

    >>> percent(0.684), percent(-0.0123, 1)
    ('68%', '−1.2%')
    """
    return f"{number(100 * value, places)}%" if known(value) else DASH


def money(value: float | None, currency: str) -> str:
    """An amount in major units: minor units below one hundred, millions from a million on.

    >>> money(1234.4, "GBP"), money(12.5, "GBP"), money(3_140_000, "GBP"), money(99.0, "CHF")
    ('£1,234', '£12.50', '£3.14M', 'CHF 99.00')
    """
    if not known(value):
        return DASH
    size = abs(value)
    symbol = symbol_of(currency)
    sign = _MINUS if value < 0 else ""
    if size >= 1e6:
        return f"{sign}{symbol}{size / 1e6:,.2f}M"
    places = currency_exponent(currency) if 0 < size < 100 else 0
    return f"{sign}{symbol}{number(size, places)}"


def short(value: float | None, symbol: str = "") -> str:
    """A round number for an axis.

    >>> short(400_000, "£"), short(1_250_000), short(2.5), short(800)
    ('£400k', '1.25M', '2.5', '800')
    """
    if not known(value):
        return DASH
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{symbol}{value / size:g}{letter}"
    return f"{symbol}{value:g}"


def symbol_of(currency: str) -> str:
    """The sign of a currency, or its code and a space.

    >>> symbol_of("EUR"), symbol_of("CHF")
    ('€', 'CHF ')
    """
    return _SYMBOLS.get(currency, f"{currency} ")


def about(value: float | None) -> float | None:
    """A value to three digits, for a sentence that says "about".

    >>> about(2_502.4), about(312_480.0), about(7.0)
    (2500.0, 312000.0, 7.0)
    """
    return float(f"{value:.3g}") if known(value) else None


def day(instant: datetime | None) -> str:
    """A date without its time of day.

    >>> from datetime import UTC
    >>> day(datetime(2011, 6, 9, 17, tzinfo=UTC))
    '9 Jun 2011'
    """
    return DASH if instant is None else f"{instant.day} {instant:%b %Y}"


def day_span(start: datetime | None, end: datetime | None) -> str:
    """Two dates; the year is said once where it is the same, and an end not known is open.

    >>> from datetime import UTC
    >>> day_span(datetime(2012, 1, 3, tzinfo=UTC), datetime(2012, 2, 1, tzinfo=UTC))
    '3 Jan to 1 Feb 2012'
    """
    latest = "open" if end is None else day(end)
    same_year = start is not None and end is not None and start.year == end.year
    return f"{day(start).rsplit(' ', 1)[0] if same_year else day(start)} to {latest}"


def next_in_words(expected: NextOrder) -> str:
    """The expected date of the next order, with its interval.

    >>> next_in_words(NextOrder(p10=None, p50=None, p90=None))
    'beyond the forecast'
    """
    if expected.p50 is None:
        start = f", {day(expected.p10)} at the earliest" if expected.p10 else ""
        return f"beyond the forecast{start}"
    return f"{day(expected.p50)} ({day_span(expected.p10, expected.p90)})"


def days(value: float | None) -> str:
    """A number of days, in days.

    >>> days(1), days(45.6)
    ('1 day', '46 days')
    """
    text = number(value)
    return f"{text} day" if text == "1" else f"{text} days"


def counted(value: int, one: str, many: str) -> str:
    """A count with its noun.

    >>> counted(1, "customer", "customers"), counted(2000, "customer", "customers")
    ('1 customer', '2,000 customers')
    """
    return f"{number(value)} {one if value == 1 else many}"


class Bounded(Protocol):
    """Whatever lies between two percentiles."""

    @property
    def low(self) -> float | None:
        """The 5th."""

    @property
    def high(self) -> float | None:
        """The 95th."""


def span(estimate: Bounded, show: Callable[[float | None], str]) -> str:
    """The interval of an estimate, empty where it is not known.

    >>> from habitue.demo.figures import Estimate
    >>> span(Estimate(0.7, 0.58, 0.82), percent), span(Estimate(0.7), percent)
    ('58% to 82%', '')
    """
    if not (known(estimate.low) and known(estimate.high)):
        return ""
    return f"{show(estimate.low)} to {show(estimate.high)}"


def off_by(predicted: float | None, actual: float) -> float | None:
    """How far a prediction lies above what happened, as a share; None where nothing happened.

    >>> off_by(110.0, 100.0)
    0.1
    """
    return (predicted - actual) / actual if known(predicted) and actual else None


def above_or_below(share: float, thing: str) -> str:
    """A signed share of a thing, in words.

    >>> above_or_below(0.018, "what happened"), above_or_below(-0.2, "what happened")
    ('1.8% above what happened', '20.0% below what happened')
    """
    if abs(share) < 0.0005:
        return f"equal to {thing}"
    return f"{percent(abs(share), 1)} {'above' if share > 0 else 'below'} {thing}"


def silence(days_since: float, usual_gap_days: float | None) -> str:
    """Why a customer seems to slip away, in words.

    >>> silence(46.2, 30.1)
    'no order for 46 days; usually every 30'
    >>> silence(200.0, None)
    'no order for 200 days; ordered once'
    """
    usual = "ordered once" if usual_gap_days is None else f"usually every {number(usual_gap_days)}"
    return f"no order for {days(days_since)}; {usual}"


def shown_title(title: str | None, item: str) -> str:
    """An item's title, quietened where it shouts; the item's code where it has no title.

    >>> shown_title("WHITE HANGING HEART T-LIGHT HOLDER", "85123A")
    'White hanging heart t-light holder'
    """
    text = " ".join((title or "").split())
    if not text:
        return item
    return text.capitalize() if text.isupper() and len(text) > 5 else text


Unit = Literal["ratio", "percent", "own", "weeks"]
Better = Literal["higher", "lower", "zero", "one", "ninety", "none"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's name for people, the way it points, and what it means."""

    label: str
    better: Better
    unit: Unit
    meaning: str

    @property
    def goal(self) -> str:
        """Which way is better, in words."""
        return _GOALS[self.better]


_GOALS = {
    "higher": "higher is better", "lower": "lower is better", "zero": "best at 0",
    "one": "best at 1", "ninety": "best at 90%", "none": "for reading the others",
}

OUTCOMES = {"orderers": "those who ordered", "revenue": "the revenue"}

QUESTIONS = {
    "order": ("Will they order?", "The probability of at least one order within the horizon."),
    "orders": ("How often?", "The number of orders within the horizon."),
    "revenue": ("How much?", "The gross spend within the horizon."),
    "next_order": ("When next?", "The date of the next order."),
    "items": ("What will they buy?", "Ten items for each customer, against what they then bought."),
}

MEASURES = {
    "auc": Measure("AUC", "higher", "ratio", "Take one customer who ordered and one who did not: "
                   "how often the one who ordered had the higher score. 0.5 is a coin."),
    "brier": Measure("Brier score", "lower", "ratio", "The mean squared distance between the "
                     "probability and what happened (0 or 1)."),
    "brier_skill": Measure("Brier skill", "higher", "percent", "How much smaller the Brier score "
                           "is than that of giving everyone the average."),
    "log_loss": Measure("Log loss", "lower", "ratio", "Like the Brier score, and harder on "
                        "confident mistakes."),
    "ece": Measure("Calibration error (ECE)", "lower", "ratio", "The mean distance between the "
                   "probability given and the share that ordered, over ten groups of customers."),
    "ece_perfect_mean": Measure("ECE of a perfect forecast", "none", "ratio", "What chance alone "
                                "leaves of the calibration error when probabilities are exact."),
    "ece_perfect_p95": Measure("ECE of a perfect forecast, 95%", "none", "ratio", "A calibration "
                               "error below this cannot be told from a perfect one."),
    "slope": Measure("Calibration slope", "one", "ratio", "Below 1, probabilities are too extreme; "
                     "above 1, too timid."),
    "intercept": Measure("Calibration intercept", "zero", "ratio", "Above 0, more customers "
                         "ordered than predicted; below 0, fewer."),
    "mae": Measure("Mean absolute error", "lower", "own", "How far off a single customer's "
                   "prediction is, on average. Guessing low is rewarded; read it with the bias."),
    "rmse": Measure("Root mean squared error", "lower", "own", "Like the mean absolute error, and "
                    "harder on large misses."),
    "bias": Measure("Bias of the total", "zero", "percent", "How far the sum of all predictions "
                    "lies above or below what happened."),
    "spearman": Measure("Rank correlation", "higher", "ratio", "How well the order of predictions "
                        "agrees with the order of what happened. 1 is the same order."),
    "ngini": Measure("Normalised Gini", "higher", "ratio", "How well the best customers are ranked "
                     "first, weighted by what they did. 1 is perfect."),
    "decile_mape": Measure("Error by decile", "lower", "percent", "Customers in ten groups by "
                           "prediction: how far off a group's total is, on average."),
    "coverage_90": Measure("Coverage of 90% intervals", "ninety", "percent", "The share of "
                           "customers whose true value fell inside their 90% interval."),
    "pit_ks": Measure("Distance from uniform (PIT)", "lower", "ratio", "How far the whole "
                      "predicted distribution is from right, 0 being right."),
    "interval_width": Measure("Mean interval width", "lower", "own", "Narrow is useful, and only "
                              "worth something where the coverage holds."),
    "c_index": Measure("Concordance", "higher", "ratio", "Take two customers: how often the one "
                       "predicted to order first did. 0.5 is a coin."),
    "mae_weeks": Measure("Mean absolute error, weeks", "lower", "weeks", "How far off the date of "
                         "the next order is, in weeks, among those who ordered."),
    "recall@10": Measure("Recall@10", "higher", "percent", "Of the items customers then bought, "
                         "the share that was among their ten."),
    "ndcg@10": Measure("NDCG@10", "higher", "percent", "Like recall, and better the earlier in the "
                       "list the bought items stand."),
    "coverage@10": Measure("Coverage@10", "higher", "percent", "The share of the catalogue that is "
                           "recommended to anyone."),
    "repeat_recall@10": Measure("Recall@10, repeats", "higher", "percent", "Recall on items the "
                                "customer had bought before."),
    "new_recall@10": Measure("Recall@10, new items", "higher", "percent", "Recall on items the "
                             "customer had never bought."),
}

METHODS = {
    "habitue": "habitue", "bg_nbd": "BG/NBD", "mbg_nbd": "MBG/NBD", "pareto_nbd": "Pareto/NBD",
    "gamma_gamma": "Gamma-Gamma", "lightgbm": "LightGBM", "popular_90d": "Popular, 90 days",
    "top_frequency": "Own favourites", "item_neighbours": "Item neighbours",
}


def measure(metric: str) -> Measure:
    """What a metric means; one we do not know keeps its own name."""
    return MEASURES.get(metric, Measure(metric, "none", "ratio", ""))


def method_name(method: str) -> str:
    """A method's name for people.

    >>> method_name("bg_nbd+gamma_gamma"), method_name("oracle")
    ('BG/NBD + Gamma-Gamma', 'oracle')
    """
    return " + ".join(METHODS.get(part, part) for part in method.split("+"))


def measured(value: float | None, question: str, metric: str, currency: str) -> str:
    """A metric's value in its own unit.

    >>> measured(0.1234, "order", "auc", "GBP"), measured(41.5, "revenue", "mae", "GBP")
    ('0.123', '£41.50')
    """
    match measure(metric).unit:
        case "percent":
            return percent(value, 1)
        case "own" if question == "revenue":
            return money(value, currency)
        case "weeks":
            return number(value, 2)
        case _:
            small = metric in ("brier", "ece", "ece_perfect_mean", "ece_perfect_p95")
            return number(value, 4 if small else 3)


def signed(value: float | None, question: str, metric: str, currency: str) -> str:
    """A difference of two values of a metric, with its sign; of percentages, in points.

    >>> signed(0.0123, "order", "auc", "GBP"), signed(-0.005, "items", "recall@10", "GBP")
    ('+0.012', '−0.5 points')
    """
    text = measured(value, question, metric, currency)
    text = text.replace("%", " points")
    return f"+{text}" if known(value) and value > 0 else text
