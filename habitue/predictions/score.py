"""Everyone's predictions at a cutoff: probabilities, counts, spend and dates, with intervals.

Each customer is read at an anchor (the later of the last event and the shop's weekly refresh) and
the curve stored there is asked as of the cutoff, after the silence in between.
"""

# C customers · B hazard bins · N horizons of orders · M spend components
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from msgspec import structs

from habitue.config import HERE, Launch
from habitue.model.backbone import Model
from habitue.model.embed import read
from habitue.model.launch import over, share_of
from habitue.model.readings import Readings, joined
from habitue.predictions.blend import (
    Expectation,
    Factors,
    expect,
    factors_to_meet,
    mixed_orders,
    mixed_rates,
    totals_of,
)
from habitue.predictions.calendar import PERIOD_EDGES, Level, year_ago_level
from habitue.predictions.calibrate import (
    DRIFT,
    Calibration,
    calibrated_orders,
    calibrated_rates,
)
from habitue.predictions.scores.answers import BLOCK, Bent, Scores, blocks
from habitue.predictions.targets import known_customers
from habitue.sequences.aggregates import past_end
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.tokens import BIN_EDGES

REFRESH_DAYS = 7                           # Mondays, 00:00 UTC
_MONDAY = 4                                # days since the epoch of the first one


def anchors(corpus: Corpus, customer: np.ndarray, cutoff: int | np.ndarray) -> np.ndarray:
    """(C,) µs: the later of a customer's last event and the shop's last weekly refresh.

    As of one cutoff (µs), or of one (C,) for each customer.
    """
    day = cutoff // DAY
    refresh = (day - (day - _MONDAY) % REFRESH_DAYS) * DAY
    end = past_end(corpus.sequences, customer, np.full(len(customer), cutoff))
    last = corpus.sequences.time[np.maximum(end - 1, 0)]
    seen = end > corpus.sequences.offsets[customer]
    return np.where(seen, np.maximum(last, refresh), refresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Customers known at a cutoff, and what the model reads of them: nothing is bent yet."""

    customer: np.ndarray                   # (C,) indices
    anchor: np.ndarray                     # (C,) µs
    cutoff: int                            # µs
    readings: Readings


def score(
    model: Model,
    corpus: Corpus,
    calibration: Calibration,
    *,
    cutoff: int,
    horizons_days: tuple[float, ...],
    launch: Launch = HERE,
) -> Scores:
    """Read every customer known at `cutoff` (µs) and bend the readings as history asks.

    They may be read among several workers, each a share; what bends them is of the whole shop.
    """
    reading = read_known(model, corpus, cutoff, horizons_days, launch)
    return scores_of(corpus.sequences, reading, calibration)


def read_known(
    model: Model,
    corpus: Corpus,
    cutoff: int,
    horizons_days: tuple[float, ...],
    launch: Launch = HERE,
    *,
    keeps_states: bool = False,
) -> Reading:
    """What the model reads of every customer known at `cutoff` (µs)."""
    customer = known_customers(corpus.sequences, cutoff)
    anchor = anchors(corpus, customer, cutoff)
    read_them = partial(_read, model, horizons_days, keeps_states)
    if launch.place == "here":
        readings = read_them((corpus, customer, anchor))
    else:
        readings = _read_among(launch, read_them, corpus, customer, anchor)
    return Reading(customer=customer, anchor=anchor, cutoff=cutoff, readings=readings)


def scores_of(sequences: Sequences, reading: Reading, calibration: Calibration) -> Scores:
    """Readings of a whole shop, bent as its history asks; nothing after the cutoff is looked at."""
    readings, cutoff = reading.readings, reading.cutoff
    bent = bend(sequences, reading, calibration)
    expected = np.exp(bent.log_orders).sum(axis=0)
    asked = list(readings.order_horizons_days)
    periods = [0.0, *(expected[asked.index(edge)] for edge in PERIOD_EDGES[1:])]
    level = year_ago_level(sequences, np.maximum.accumulate(periods), cutoff)
    if level.known:
        # what windows said of the level is superseded
        calibration = structs.replace(
            calibration, spend_level=0.0, drift=DRIFT, rate_drift=None
        )
    scores = Scores(
        names=sequences.customers[reading.customer],
        customer=reading.customer,
        anchor=reading.anchor,
        silent_days=(cutoff - reading.anchor) / DAY,
        log_rate=_in_blocks(lambda block: levelled_rates(block, level), bent.log_rate),
        horizons_days=tuple(float(days) for days in readings.horizons_days),
        readings=readings,
        bent=bent,
        expected_orders=expected,
        calibration=calibration,
        level=level,
    )
    if bent.log_value is None:
        return scores
    return replace(
        scores, spend_shift=tuple(_spend_shift(scores, days) for days in scores.horizons_days)
    )


def score_on(
    scores: Scores, model: Model, corpus: Corpus, sequences: Sequences, level: Level | None = None
) -> Scores:
    """Score customers of `sequences` anew, on what stands of a shop that was scored as a whole.

    What is of the whole shop (snapshots, calibration, level, totals) stays as it was then; that
    part of the scores, read with `model` over `corpus`, is what is taken over. Of the customers
    those are scored who have an order that stands at `sequences.cutoff`. Their states are kept.
    """
    level = level or scores.level
    asked = Corpus(
        sequences, corpus.snapshots, max_events=corpus.max_events, kinds=model.kinds
    )
    reading = read_known(
        model, asked, sequences.cutoff, scores.horizons_days, keeps_states=True
    )
    bent = bend(sequences, reading, scores.calibration, scores.bent.factors)
    return replace(
        scores,
        names=sequences.customers[reading.customer],
        customer=reading.customer,
        anchor=reading.anchor,
        silent_days=(sequences.cutoff - reading.anchor) / DAY,
        log_rate=levelled_rates(bent.log_rate, level),
        readings=reading.readings,
        bent=bent,
        level=level,
        factors=None,
    )


def _spend_shift(scores: Scores, horizon_days: float) -> float:
    """What makes everyone's spend, before its own level, orders times what Gamma-Gamma expects.

    Mixing on the log scale keeps who spends more than another, and loses some of the sum.
    """
    mixed_sum, classical_sum = 1e-9, 1e-9
    for block in scores.blocks():
        assert block.bent.log_value is not None, "there are purchase models"
        orders, value = block.counts(horizon_days)[0], np.exp(block.bent.log_value)
        mixed_sum += float(block.mean_revenue(horizon_days).sum())
        classical_sum += float((orders * value).sum())
    level = scores.calibration.spend_level + np.log(scores.value_factor(horizon_days))
    return float(np.log(classical_sum / mixed_sum) + level)


def bend(
    sequences: Sequences,
    reading: Reading,
    calibration: Calibration,
    factors: Factors | None = None,        # of the whole shop, where only some of it is bent
) -> Bent:
    """Mix what the model reads with what purchase models expect, then calibrate."""
    readings, customer, value = reading.readings, reading.customer, None
    log_rate, log_orders = readings.log_rate, readings.log_orders
    classical = calibration.classical
    if classical is not None:
        horizons = readings.order_horizons_days
        expected = expect(classical, sequences, customer, reading.anchor, horizons)
        log_rate, log_orders = mixed(readings, expected, calibration)
        if factors is None:
            who = (customer, reading.anchor, reading.cutoff)
            totals = totals_of(classical, sequences, *who, horizons)
            factors = factors_to_meet(log_rate, log_orders, totals)
        log_rate, log_orders = log_rate + factors.hazard, log_orders + factors.orders
        value = expected.log_value
    return Bent(
        log_rate=_in_blocks(lambda block: calibrated_rates(block, calibration), log_rate),
        log_orders=calibrated_orders(log_orders, calibration).astype(np.float32),
        log_value=value,
        factors=factors,
    )


def mixed(
    readings: Readings, expected: Expectation, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Log hazards (C, B) and log orders (C, N) between the model's and the purchase models'."""
    held = calibration.held_days
    days = calibration.window_days if held is None else held
    log_rate = mixed_rates(readings.log_rate, expected, calibration.share, days)
    horizons, share = readings.order_horizons_days, calibration.order_share
    return log_rate, mixed_orders(readings.log_orders, expected, share, horizons, days)


def _read(
    model: Model,
    horizons_days: tuple[float, ...],
    keeps_states: bool,
    asked: tuple[Corpus, np.ndarray, np.ndarray],      # of whom, and when
) -> Readings:
    return read(
        model, *asked, horizons_days=horizons_days, order_horizons_days=PERIOD_EDGES[1:],
        keeps_states=keeps_states,
    )


def _read_among(
    launch: Launch,
    read_them: Callable[[tuple[Corpus, np.ndarray, np.ndarray]], Readings],
    corpus: Corpus,
    customer: np.ndarray,
    anchor: np.ndarray,
) -> Readings:
    """The readings of `customer` at `anchor`, (C,) each, a share of them at a time."""
    count = max(launch.workers, len(customer) // BLOCK)
    share = share_of(corpus.sequences, count)[customer]
    rows = [held for one in range(count) if len(held := np.flatnonzero(share == one))]
    asked = ((corpus.part(customer[r]), np.arange(len(r)), anchor[r]) for r in rows)
    found = list(over(read_them, asked, launch))
    if not found:
        return read_them((corpus, customer, anchor))
    return joined(found).take(np.argsort(np.concatenate(rows)))


def _in_blocks(work: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """What `work` makes of rows (C, …), with room for the temporaries of one block alone."""
    return np.concatenate([work(rows[block]) for block in blocks(len(rows))])


def levelled_rates(log_rate: np.ndarray, level: Level) -> np.ndarray:
    """(C, B) float32: each bin's hazard times the mean factor of the days it spans."""
    left = np.concatenate([[0.0], BIN_EDGES[:-1]])
    overlap = np.minimum(BIN_EDGES[:, None], level.edges[None, 1:]) - np.maximum(
        left[:, None], level.edges[None, :-1]
    )                                                                      # (B, P)
    overlap = np.maximum(overlap, 0.0)
    beyond = np.maximum(BIN_EDGES - np.maximum(left, level.edges[-1]), 0.0)
    factor = (overlap @ level.orders + beyond * level.orders.mean()) / (BIN_EDGES - left)
    return (log_rate + np.log(factor)).astype(np.float32)
