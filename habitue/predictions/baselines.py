"""Classical forecasts of a shop's customers, and the shape that every forecast shares.

A `Predictor` is fitted on everything up to a cutoff and asked for any horizon after it. It
forecasts every customer with an order by the cutoff, in the shop's order of customers. Sequences
may go on after the cutoff; nothing there is looked at.
"""

# C customers with an order by the cutoff
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from habitue.errors import NotEnoughHistory
from habitue.predictions.targets import standing_orders
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.classical import GammaGamma, Purchases
from habitue.sequences.classical_fit import (
    BG_NBD_PRIOR,
    MBG_NBD_PRIOR,
    PARETO_NBD_PRIOR,
    Fitted,
    fit_bg_nbd,
    fit_gamma_gamma,
    fit_mbg_nbd,
    fit_pareto_nbd,
    gamma_gamma_prior,
)

QUANTILES = (0.1, 0.5, 0.9)                # of the next order's date


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of customers within a horizon."""

    customers: np.ndarray                  # (C,) str objects
    probability: np.ndarray                # (C,) of at least one order
    orders: np.ndarray                     # (C,) expected
    revenue: np.ndarray                    # (C,) expected, major units
    next_order_days: np.ndarray            # (C, 3) p10, p50, p90, given that one comes in time
    extrapolated: bool = False             # no horizon of this length had passed before the cutoff


class Forecaster(Protocol):
    """A fitted predictor."""

    def predict(self, horizon_days: float) -> Forecast:
        """The forecast for (cutoff, cutoff + horizon]."""
        ...


class Predictor(Protocol):
    """A way to forecast, named as in tables."""

    @property
    def name(self) -> str:
        """Its name in tables, of the questions `order`, `orders` and `next_order`."""
        ...

    @property
    def revenue_name(self) -> str:
        """Its name in tables of the question `revenue`."""
        ...

    def fit(self, sequences: Sequences, cutoff: int) -> Forecaster:
        """Learn from everything up to `cutoff` (µs), and nothing after it."""
        ...


class Purchased(NamedTuple):
    """Purchase days of customers as of an instant; all columns (C,)."""

    customers: np.ndarray                  # indices
    repeats: np.ndarray                    # days with an order after the first such day
    last: np.ndarray                       # days from the first of them to the last
    age: np.ndarray                        # days from the first of them to the instant
    mean_value: np.ndarray                 # of a repeat day's orders together; 0 without repeats


def rfm(sequences: Sequences, at: int, customers: np.ndarray | None = None) -> Purchased:
    """Recency, frequency and value as of `at` (µs), orders of one UTC day merged.

    Of all customers with an order by then, or of those among `customers` (indices).
    """
    rows = np.flatnonzero(standing_orders(sequences, at) & (sequences.time <= at))
    owner, day = sequences.customer_of_event[rows], sequences.time[rows] // DAY
    fresh = _changes(owner) | _changes(day)
    starts = np.flatnonzero(fresh)
    value = np.add.reduceat(sequences.value[rows], starts) if len(rows) else np.zeros(0)
    owner, day = owner[starts], day[starts]              # one row per customer and purchase day
    first = np.flatnonzero(_changes(owner))
    last = np.r_[first[1:], len(owner)].astype(np.int64)[: len(first)] - 1
    repeats = (last - first).astype(np.float64)
    total = np.add.reduceat(value, first) if len(first) else np.zeros(0)
    found = Purchased(
        customers=owner[first],
        repeats=repeats,
        last=(day[last] - day[first]).astype(np.float64),
        age=(at // DAY - day[first]).astype(np.float64),
        mean_value=np.where(repeats > 0, (total - value[first]) / np.maximum(repeats, 1), 0.0),
    )
    if customers is None:
        return found
    kept = np.isin(found.customers, customers)
    return Purchased(*(column[kept] for column in found))


@dataclass(frozen=True, slots=True)
class BuyTillYouDie:
    """A classical model of orders with Gamma-Gamma values.

    Its parameters lean on a weak prior, so that a shop of a few customers gets an answer too.
    """

    name: str                              # "bg_nbd", "mbg_nbd" or "pareto_nbd"

    @property
    def revenue_name(self) -> str:
        """Orders and values are two models, and the name says both."""
        return f"{self.name}+gamma_gamma"

    def fit(self, sequences: Sequences, cutoff: int) -> "FittedBuyTillYouDie":
        """Fit both models to what each customer had bought by the cutoff."""
        bought = rfm(sequences, cutoff)
        if not len(bought.customers):
            raise NotEnoughHistory(
                "wanted a customer with an order before the cutoff, found none\n"
                "hint: choose a later --cutoff"
            )
        counted = standing_orders(sequences, cutoff) & (sequences.time <= cutoff)
        days = float((bought.repeats + 1).sum())
        belief = gamma_gamma_prior(float(sequences.value[counted].sum()) / days)
        spend = fit_gamma_gamma(bought.repeats, bought.mean_value, prior=belief).model
        return FittedBuyTillYouDie(
            customers=sequences.customers[bought.customers],
            bought=bought,
            purchases=self._fit(bought).model,
            spend=spend,
            orders_per_day=float(counted.sum()) / days,
        )

    def _fit(self, bought: Purchased) -> Fitted:
        columns = (bought.repeats, bought.last, bought.age)
        match self.name:
            case "bg_nbd":
                return fit_bg_nbd(*columns, prior=BG_NBD_PRIOR)
            case "mbg_nbd":
                return fit_mbg_nbd(*columns, prior=MBG_NBD_PRIOR)
            case "pareto_nbd":
                return fit_pareto_nbd(*columns, prior=PARETO_NBD_PRIOR)
            case _:
                raise AssertionError(f"no classical model is called {self.name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedBuyTillYouDie:
    """Parameters and the customers they are asked about."""

    customers: np.ndarray                  # (C,) str objects
    bought: Purchased
    purchases: Purchases
    spend: GammaGamma
    orders_per_day: float                  # orders on a day with any: the models count days

    def predict(self, horizon_days: float) -> Forecast:
        """The forecast for (cutoff, cutoff + horizon]."""
        _, repeats, last, age, mean_value = self.bought
        seen = (repeats, last, age)
        probability = self.purchases.probability_of_order(*seen, horizon_days)
        days = self.purchases.expected_orders(*seen, horizon_days)
        within = [self.purchases.days_until(*seen, share * probability) for share in QUANTILES]
        dates = np.stack(within, axis=1)
        # a chance that vanishes has no date of its own: it is spread over the horizon
        even = np.array(QUANTILES) * horizon_days
        certain = (probability > 1e-12)[:, None] & np.isfinite(dates)
        return Forecast(
            customers=self.customers,
            probability=probability,
            orders=days * self.orders_per_day,
            revenue=days * self.spend.expected_value(repeats, mean_value),
            next_order_days=np.where(certain, np.minimum(dates, horizon_days), even),
        )


CLASSICAL = (BuyTillYouDie("bg_nbd"), BuyTillYouDie("mbg_nbd"), BuyTillYouDie("pareto_nbd"))


def _changes(sorted_keys: np.ndarray) -> np.ndarray:
    """Bool: this key differs from the one before it."""
    return np.r_[True, np.diff(sorted_keys) != 0][: len(sorted_keys)]
