"""Purchase models beside the model: whose totals hold, and who of the customers is likelier.

How many orders a shop gets in all is for three purchase models (BG/NBD, MBG/NBD, Pareto/NBD) to
say, averaged on the log scale: they err less about it than a network that has seen a season once or
never. Who orders more than another is asked of the best of them, Pareto/NBD, and of the model:

    log L = log L_classical + share * (log L_model - log L_classical)

for a cumulative hazard L, which never falls with the horizon, and alike for expected orders. Beyond
the longest closed window the difference stays what it was at its end, so that the purchase model's
shape leads. Then one factor per bin makes the whole shop's buyers those of the purchase models.
With a share of 0 the forecast is classical.
"""

# C customers · B hazard bins · N horizons of orders · K closed windows
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from habitue.predictions.baselines import CLASSICAL, FittedBuyTillYouDie
from habitue.predictions.curves import gathered_by_edge, log_rates, meet_buyers
from habitue.predictions.targets import outcomes
from habitue.sequences.aggregates import Running, summaries_of
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.classical import BgNbd, GammaGamma, MbgNbd, ParetoNbd, Purchases
from habitue.sequences.tokens import BIN_EDGES

AT_ONCE = 50_000                           # customers that purchase models are asked about
LEAST_EXPECTED = 1e-9
MOST_WINDOWS = 4                           # a year of quarters, in which seasons cancel
LEAST_PAST_DAYS = 45.0                     # of a shop before a window that tells of its level
LEAST_CUSTOMERS = 50                       # of a closed window
MOST_FACTOR = 4.0                          # log, of what the model's total is off by
# Over windows of 90 days of CDNOW, Online Retail II, grocery, Complete Journey and 14 simulated
# shops, all before the test cutoffs: how far the purchase models' level lies from what comes
LASTING = 0.10                             # log: that part of it which stays from window to window
PASSING_ORDERS, PASSING_BUYERS = 0.3, 0.2  # log: that which does not, as two windows would show it
_TWO = 2.0
Past = tuple[np.ndarray, np.ndarray, np.ndarray]         # repeats, last, age: see classical.py


class Classical(msgspec.Struct, frozen=True, kw_only=True):
    """A shop's purchase models as of its training's cutoff: their parameters, in days."""

    bg_nbd: tuple[float, float, float, float]
    mbg_nbd: tuple[float, float, float, float]
    pareto_nbd: tuple[float, float, float, float]
    gamma_gamma: tuple[float, float, float]
    orders_per_day: float                  # orders on a day with any: the models count days

    def purchases(self) -> tuple[Purchases, ...]:
        """The three models."""
        return BgNbd(*self.bg_nbd), MbgNbd(*self.mbg_nbd), ParetoNbd(*self.pareto_nbd)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What Pareto/NBD and Gamma-Gamma expect of customers at their anchors; float32."""

    log_hazard: np.ndarray                 # (C, B) cumulative by each bin edge
    log_orders: np.ndarray                 # (C, N)
    log_value: np.ndarray                  # (C,) of an order, major units


@dataclass(frozen=True, slots=True)
class Factors:
    """What makes a shop's totals those of its purchase models; logs, to be added."""

    hazard: np.ndarray                     # (B,) of each bin's hazard
    orders: np.ndarray                     # (N,) of the orders within each horizon


def fit_classical(sequences: Sequences, cutoff: int) -> Classical | None:
    """The purchase models of everything up to `cutoff` (µs); None where nobody had ordered."""
    fitted = fit_all(sequences, cutoff)
    return classical_of(fitted) if fitted else None


def fit_all(sequences: Sequences, cutoff: int) -> list[FittedBuyTillYouDie]:
    """The three models, fitted at an instant (µs); none where nobody had ordered by then."""
    until = sequences.is_order & (sequences.cancelled_at > cutoff) & (sequences.time <= cutoff)
    return [method.fit(sequences, cutoff) for method in CLASSICAL] if until.any() else []


def classical_of(fitted: Sequence[FittedBuyTillYouDie]) -> Classical:
    """What of the fitted models goes with a version."""
    by_kind = {type(one.purchases): one.purchases for one in fitted}
    bg, mbg, pareto = by_kind[BgNbd], by_kind[MbgNbd], by_kind[ParetoNbd]
    assert isinstance(bg, BgNbd) and isinstance(mbg, MbgNbd) and isinstance(pareto, ParetoNbd)
    spend = fitted[0].spend
    return Classical(
        bg_nbd=(bg.r, bg.alpha, bg.a, bg.b),
        mbg_nbd=(mbg.r, mbg.alpha, mbg.a, mbg.b),
        pareto_nbd=(pareto.r, pareto.alpha, pareto.s, pareto.beta),
        gamma_gamma=(spend.p, spend.q, spend.v),
        orders_per_day=fitted[0].orders_per_day,
    )


def expect(
    classical: Classical,
    sequences: Sequences,
    customer: np.ndarray,                  # (C,) indices
    anchor: np.ndarray,                    # (C,) µs
    horizons_days: np.ndarray,             # (N,)
) -> Expectation:
    """What Pareto/NBD expects of each customer from their anchor on."""
    running = Running(sequences)
    blocks = [
        _expect(classical, running, customer[rows], anchor[rows], horizons_days)
        for rows in _blocks(len(customer))
    ]
    return Expectation(
        log_hazard=np.concatenate([block.log_hazard for block in blocks]),
        log_orders=np.concatenate([block.log_orders for block in blocks]),
        log_value=np.concatenate([block.log_value for block in blocks]),
    )


def _expect(
    classical: Classical,
    running: Running,
    customer: np.ndarray,
    anchor: np.ndarray,
    horizons_days: np.ndarray,
) -> Expectation:
    repeats, last, age, mean_value = summaries_of(running, customer, anchor)
    spend = GammaGamma(*classical.gamma_gamma)
    value = spend.expected_value(repeats, mean_value) / classical.orders_per_day
    past = (repeats[:, None], last[:, None], age[:, None])
    model = [ParetoNbd(*classical.pareto_nbd)]
    orders = mean_log_orders(model, past, horizons_days) + np.log(classical.orders_per_day)
    return Expectation(
        log_hazard=mean_log_hazard(model, past, BIN_EDGES).astype(np.float32),
        log_orders=orders.astype(np.float32),
        log_value=np.log(np.maximum(value, LEAST_EXPECTED)).astype(np.float32),
    )


def mean_log_hazard(
    models: Sequence[Purchases], past: Past, days: np.ndarray | float
) -> np.ndarray:
    """Log of the cumulative hazard by `days`, averaged over the models."""
    chances = (np.minimum(one.probability_of_order(*past, days), 1 - 1e-9) for one in models)
    logs = [np.log(np.maximum(-np.log1p(-chance), LEAST_EXPECTED)) for chance in chances]
    return np.asarray(sum(logs)) / len(models)


def mean_log_orders(
    models: Sequence[Purchases], past: Past, days: np.ndarray | float
) -> np.ndarray:
    """Log of the days with an order expected within `days`, averaged over the models."""
    means = (one.expected_orders(*past, days) for one in models)
    logs = [np.log(np.maximum(mean, LEAST_EXPECTED)) for mean in means]
    return np.asarray(sum(logs)) / len(models)


def mixed_rates(
    log_rate: np.ndarray, expected: Expectation, share: float, window_days: float
) -> np.ndarray:
    """(C, B) float32 log hazards between the model's and the purchase models'."""
    log_model = np.log(gathered_by_edge(log_rate))
    log_classical = expected.log_hazard.astype(np.float64)
    apart = _held(share * (log_model - log_classical), BIN_EDGES, window_days)
    return log_rates(np.exp(log_classical + apart))


def mixed_orders(
    log_orders: np.ndarray,
    expected: Expectation,
    share: float,
    horizons_days: np.ndarray,
    window_days: float,
) -> np.ndarray:
    """(C, N) float32 log of expected orders between the model's and the purchase models'."""
    apart = _held(share * (log_orders - expected.log_orders), horizons_days, window_days)
    return (expected.log_orders + apart).astype(np.float32)


def _held(apart: np.ndarray, days: np.ndarray, window_days: float) -> np.ndarray:
    """(C, G) differences by ascending `days`; past the closed window they stay what they were."""
    last = max(int(np.searchsorted(days, window_days + 0.5)) - 1, 0)
    columns = np.minimum(np.arange(len(days)), last)
    return apart[:, columns]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the purchase models expect of all of some customers together."""

    buyers: np.ndarray                     # (B,) by each bin edge after their anchors
    orders: np.ndarray                     # (N,) within each horizon after the cutoff


def totals_of(
    classical: Classical,
    sequences: Sequences,
    customer: np.ndarray,                  # (C,) indices
    anchor: np.ndarray,                    # (C,) µs
    cutoff: int,                           # µs
    horizons_days: np.ndarray,             # (N,)
) -> Totals:
    """The totals of three purchase models; orders of the cutoff, whatever the anchor."""
    running, models = Running(sequences), classical.purchases()
    buyers, orders = np.zeros(len(BIN_EDGES)), np.zeros(len(horizons_days))
    for rows in _blocks(len(customer)):
        now = np.full(len(customer[rows]), cutoff)
        past = _past(running, customer[rows], anchor[rows])
        buyers -= np.expm1(-np.exp(mean_log_hazard(models, past, BIN_EDGES))).sum(axis=0)
        past = _past(running, customer[rows], now)
        orders += np.exp(mean_log_orders(models, past, horizons_days)).sum(axis=0)
    return Totals(buyers=buyers, orders=orders * classical.orders_per_day)


def _past(running: Running, customer: np.ndarray, at: np.ndarray) -> Past:
    """Repeats, last and age as of instants (C,) µs; (C, 1) each."""
    repeats, last, age, _ = summaries_of(running, customer, at)
    return repeats[:, None], last[:, None], age[:, None]


def factors_to_meet(log_rate: np.ndarray, log_orders: np.ndarray, totals: Totals) -> Factors:
    """What makes mixed hazards (C, B) and orders (C, N) add up to the totals."""
    steps = np.diff(gathered_by_edge(log_rate), axis=1, prepend=0.0)
    found = np.zeros(len(totals.orders))
    for rows in _blocks(len(log_orders)):
        found += np.exp(log_orders[rows].astype(np.float64)).sum(axis=0)
    return Factors(
        hazard=np.log(meet_buyers(steps, totals.buyers, MOST_FACTOR)),
        orders=np.log((totals.orders + LEAST_EXPECTED) / (found + LEAST_EXPECTED)),
    )


def _blocks(count: int) -> list[slice]:
    """Rows, AT_ONCE at a time; one block at least."""
    return [slice(begin, begin + AT_ONCE) for begin in range(0, max(count, 1), AT_ONCE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How far purchase models were off in windows that closed: logs, the latest first; (K,)."""

    orders: np.ndarray                     # that came over those expected
    hazard: np.ndarray                     # factor on hazards under which the buyers meet

    def ahead(self) -> tuple[float, float, float, float]:
        """Level of orders ahead and its standard deviation, then the same of hazards."""
        return (*_ahead(self.orders, PASSING_ORDERS), *_ahead(self.hazard, PASSING_BUYERS))


def _ahead(levels: np.ndarray, passing: float) -> tuple[float, float]:
    """Normal beliefs: each window shows what lasts and what passes; the next one does as well.

    What passes has a variance of its own, between a belief worth two windows and what was seen.
    """
    count = len(levels)
    if not count:
        return 0.0, float(np.hypot(LASTING, passing))
    scatter = float(((levels - levels.mean()) ** 2).sum())
    variance = (_TWO * passing**2 + scatter) / (_TWO + count - 1)
    trust = count * LASTING**2 / (count * LASTING**2 + variance)
    deviation = np.sqrt(variance + LASTING**2 * (1 - trust))
    return float(trust * levels.mean()), float(deviation)


def past_levels(sequences: Sequences, window_days: float) -> Levels:
    """The levels of closed windows one before the other, each forecast from before it alone."""
    begun, at = int(sequences.time.min()), sequences.cutoff
    orders, hazard = [], []
    for _ in range(MOST_WINDOWS):
        at -= round(window_days * DAY)
        if at < begun + LEAST_PAST_DAYS * DAY:
            break
        fitted = fit_all(sequences, at)
        if not fitted or len(fitted[0].customers) < LEAST_CUSTOMERS:
            break
        bought = fitted[0].bought
        came = outcomes(sequences, bought.customers, at, window_days)
        models, past = [one.purchases for one in fitted], (bought.repeats, bought.last, bought.age)
        expected = np.exp(mean_log_orders(models, past, window_days)) * fitted[0].orders_per_day
        orders.append(np.log((came.orders.sum() + 1) / (expected.sum() + 1)))
        steps = np.exp(mean_log_hazard(models, past, window_days))[:, None]
        buyers = np.array([came.observed.sum()])
        hazard.append(np.log(meet_buyers(steps, buyers, MOST_FACTOR)[0]))
    return Levels(orders=np.array(orders), hazard=np.array(hazard))
