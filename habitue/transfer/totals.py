"""How much comes in all: the shop's own purchase models, moved by what holds of other shops.

Weights that ship expect another total than the purchase models fitted on the shop. Over shops that
were left out a part of the difference was right; a closed window says whether it was on this one.
"""

# C customers
from dataclasses import dataclass

import numpy as np

from habitue.predictions.blend import fit_classical
from habitue.predictions.calibrate import Calibration
from habitue.predictions.curves import cumulative_hazard, meet_buyers
from habitue.predictions.learn import LEAST_DAYS, Trained
from habitue.predictions.score import bend, read_known
from habitue.predictions.targets import outcomes
from habitue.sequences.build import DAY, Sequences

USUAL_SHARE, SHARE_SPREAD = 0.5, 0.5       # of the difference that is right, over shops
PASSING = 0.25                             # log, by which a total differs from window to window
AHEAD_DAYS = 90.0
MOST = 4.0                                 # log, of a difference


@dataclass(frozen=True, slots=True)
class Totals:
    """Logs, over what the purchase models expect: factor on hazards, and orders."""

    hazard: float
    orders: float


def expected_apart(trained: Trained, calibration: Calibration) -> Totals:
    """What weights expect in all after their cutoff."""
    return _apart(trained, calibration, AHEAD_DAYS, None)[0]


def share_right(earlier: Trained, sequences: Sequences) -> float:
    """The share of the difference that was right in the window since `earlier` stood.

    The mean of normal beliefs: what holds over shops, and what came.
    """
    days = (sequences.cutoff - earlier.cutoff) / DAY
    classical = fit_classical(earlier.corpus.sequences, earlier.cutoff)
    if days < LEAST_DAYS or classical is None:
        return USUAL_SHARE
    calibration = Calibration(classical=classical)
    expected, came, count = _apart(earlier, calibration, days, sequences)
    variance = PASSING**2 + 1 / max(count, 1.0)
    # hazards and orders tell of the same customers: together they are one observation
    squares = (expected.hazard**2 + expected.orders**2) / 2
    products = (expected.hazard * came.hazard + expected.orders * came.orders) / 2
    belief = 1 / SHARE_SPREAD**2
    share = (belief * USUAL_SHARE + products / variance) / (belief + squares / variance)
    return float(np.clip(share, 0.0, 1.0))


def _apart(
    trained: Trained, calibration: Calibration, days: float, future: Sequences | None
) -> tuple[Totals, Totals, float]:
    """What weights expect within days, what came where a future is given, and from how many."""
    sequences, at = trained.corpus.sequences, trained.cutoff
    reading = read_known(trained.model, trained.corpus, at, (days,))
    if calibration.classical is None or not len(reading.customer):
        return Totals(0.0, 0.0), Totals(0.0, 0.0), 0.0
    blank = Calibration(classical=calibration.classical, share=0.0, order_share=0.0)
    bent, silent = bend(sequences, reading, blank), (at - reading.anchor) / DAY
    asked = int(np.flatnonzero(np.isclose(reading.readings.order_horizons_days, days))[0])
    hazard = _gathered(bent.log_rate, silent, days)
    orders = float(np.exp(bent.log_orders[:, asked]).sum())

    def over(buyers: float, total: float) -> Totals:
        met = meet_buyers(hazard[:, None], np.array([buyers]), MOST)[0]
        return Totals(float(np.log(met)), float(np.log((total + 1) / (orders + 1))))

    chance = -np.expm1(-_gathered(reading.readings.log_rate, silent, days))
    model = over(float(chance.sum()), float(np.exp(reading.readings.log_orders[:, asked]).sum()))
    if future is None:
        return model, Totals(0.0, 0.0), 0.0
    whom = np.searchsorted(future.customers, sequences.customers[reading.customer])
    what = outcomes(future, whom, at, days)
    buyers = float(what.observed.sum())
    return model, over(buyers, float(what.orders.sum())), buyers


def _gathered(log_rate: np.ndarray, silent: np.ndarray, days: float) -> np.ndarray:
    """(C,) hazard gathered in `days` after a silence."""
    return cumulative_hazard(log_rate, silent + days) - cumulative_hazard(log_rate, silent)
