"""From a shop's past to a model that has been held to account: train, calibrate, train again.

First on everything up to an earlier instant, so that the days since show how far to trust it; then
on everything. A model that was trained earlier anyway (a backtest's) can stand in for the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import structs

from habitue.config import HERE, Launch, TrainConfig
from habitue.errors import NotEnoughHistory
from habitue.model.backbone import Model
from habitue.model.checkpoint import over
from habitue.model.embed import embed, item_scores
from habitue.model.inputs import make_vocabulary, query_quantiles
from habitue.model.launch import Job, run, shares_of
from habitue.model.texts.folder import pinned
from habitue.model.texts.vectors import item_vectors
from habitue.model.train import Step
from habitue.predictions.blend import Expectation, expect, fit_classical, past_levels
from habitue.predictions.calibrate import (
    Calibration,
    Window,
    fit_calibration,
    spend_level,
    without_window,
)
from habitue.predictions.curves import cumulative_hazard, log_rates
from habitue.predictions.score import Reading, anchors, read_known, score, scores_of
from habitue.predictions.scores.answers import Scores
from habitue.predictions.targets import outcomes
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences, upto
from habitue.sequences.snapshots import take_snapshots

CALIBRATION_DAYS = 90.0                    # of the closed window, where there is so much past
MOST_OF_PAST = 0.4                         # of the past that the window may take
LEAST_DAYS = 14.0
LEAST_ORDERS = 20                          # in all, below which nothing is learnt
Progress = Callable[[str, Step], None]
ItemScores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model, the corpus it read, and the instant up to which it did."""

    model: Model
    corpus: Corpus
    cutoff: int                            # µs


    def item_scores(self, sequences: Sequences, at: int) -> ItemScores:
        """Log-probabilities (B, V) of what customers (B,) of `sequences` order after `at` (µs).

        `sequences` are of the same shop, possibly longer; nothing after `at` is looked at.
        """
        model, corpus = self.model, self.corpus
        if sequences is not corpus.sequences:
            model = over(model, corpus.sequences.items, sequences)
            corpus = corpus_of(sequences, model)

        def scores(customers: np.ndarray) -> np.ndarray:
            instants = anchors(corpus, customers, at)
            return item_scores(model, embed(model, corpus, customers, instants))

        return scores


def corpus_of(sequences: Sequences, model: Model) -> Corpus:
    """A shop's corpus as a trained model reads it."""
    return Corpus(
        sequences,
        take_snapshots(sequences),
        max_events=model.config.max_events,
        kinds=model.kinds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A trained model with its calibration, and the earlier model that the latter comes from."""

    trained: Trained
    calibration: Calibration
    earlier: Trained | None                # none where the past was too short for a closed window
    least_drift: float = 0.0               # log, of the level ahead; of weights of other shops

    def scores(self, horizons_days: tuple[float, ...], launch: Launch = HERE) -> Scores:
        """Everyone's predictions as of the cutoff."""
        scores = score(
            self.trained.model,
            self.trained.corpus,
            self.calibration,
            cutoff=self.trained.cutoff,
            horizons_days=horizons_days,
            launch=launch,
        )
        return replace(scores, calibration=widened(scores.calibration, self.least_drift))


def widened(calibration: Calibration, drift: float) -> Calibration:
    """A calibration that trusts its levels no more than so."""
    rates = calibration.rate_drift
    return structs.replace(
        calibration,
        drift=max(calibration.drift, drift),
        rate_drift=None if rates is None else max(rates, drift),
    )


def learn(
    sequences: Sequences,
    config: TrainConfig,
    *,
    earlier: Trained | None = None,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    launch: Launch = HERE,
) -> Learnt:
    """A calibrated model of a shop from everything up to `sequences.cutoff`.

    `earlier` was trained on the same shop up to an earlier cutoff; without it one is trained. In
    the folder `checkpoints` both trainings leave where they stand, and go on from there.
    """
    refuse_too_little(sequences)
    window = closed_window_days(sequences)
    if earlier is None and window >= LEAST_DAYS:
        past = upto(sequences, sequences.cutoff - round(window * DAY))
        if past.is_order.sum() >= LEAST_ORDERS:
            earlier = train_model(past, config, "trial", progress, checkpoints, launch)
    trained = train_model(sequences, config, "training", progress, checkpoints, launch)
    return made_of(trained, earlier, sequences)


def made_of(trained: Trained, earlier: Trained | None, sequences: Sequences) -> Learnt:
    """A trained model, held to account by what followed the cutoff of an earlier one."""
    calibration = calibrate(earlier, sequences)
    return Learnt(trained=trained, calibration=calibration, earlier=earlier)


def refuse_too_little(sequences: Sequences) -> None:
    """Raise `NotEnoughHistory` where there is too little to learn from."""
    orders = int(sequences.is_order.sum())
    if orders < LEAST_ORDERS:
        raise NotEnoughHistory(
            f"{orders} orders before the cutoff, and {LEAST_ORDERS} are needed to learn from\n"
            "hint: import more of the past, or choose a later cutoff; an order without a positive"
            " value counts for none"
        )


def closed_window_days(sequences: Sequences) -> float:
    """Days held back to calibrate on: a quarter, or less of a short past."""
    if not len(sequences.time):
        return 0.0
    past = (sequences.cutoff - int(sequences.time.min())) / DAY
    return float(min(CALIBRATION_DAYS, np.floor(MOST_OF_PAST * past)))


def train_model(
    sequences: Sequences,
    config: TrainConfig,
    label: str,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    launch: Launch = HERE,
) -> Trained:
    """One training to its end, from the beginning or from its checkpoint."""
    snapshots = take_snapshots(sequences)
    config = replace(config, text_encoder=pinned(config.text_encoder))
    vocabulary = make_vocabulary(
        sequences,
        text_buckets=config.text_buckets,
        query_edges=query_quantiles(sequences, snapshots, seed=config.seed),
        text=item_vectors(config.text_encoder, sequences),
    )
    corpus = Corpus(sequences, snapshots, max_events=config.max_events)
    job = Job(
        config=config,
        vocabulary=vocabulary,
        corpora=shares_of(corpus, config.shares),
        checkpoint=None if checkpoints is None else checkpoints / f"{label}.pt",
    )
    training = run(job, launch, None if progress is None else partial(progress, label))
    return Trained(model=training.model, corpus=corpus, cutoff=sequences.cutoff)


def calibrate(earlier: Trained | None, sequences: Sequences) -> Calibration:
    """What the days since `earlier` was trained say of it, and windows before of the level.

    Without it, or where it is too recent, the purchase models answer alone.
    """
    classical = fit_classical(sequences, sequences.cutoff)
    if earlier is None:
        return without_window(classical)
    days = min((sequences.cutoff - earlier.cutoff) / DAY, 180.0)
    past, then = earlier.corpus.sequences, fit_classical(earlier.corpus.sequences, earlier.cutoff)
    if days < LEAST_DAYS or then is None:
        return without_window(classical)
    reading = read_known(earlier.model, earlier.corpus, earlier.cutoff, (days,))
    rows = np.searchsorted(sequences.customers, past.customers[reading.customer])
    what = outcomes(sequences, rows, earlier.cutoff, days)
    horizons = reading.readings.order_horizons_days
    expected = expect(then, past, reading.customer, reading.anchor, horizons)
    window = _window(reading, expected, what.orders)
    found = fit_calibration(window, classical, past_levels(sequences, days))
    if not found.window_days:
        return found
    scores = scores_of(past, reading, structs.replace(found, classical=then, drift=0.0))
    probability, bought = scores.order(days).value, what.revenue > 0
    spend = scores.revenue(days).value / np.maximum(probability, 1e-9)
    return structs.replace(found, spend_level=spend_level(spend[bought], what.revenue[bought]))


def _window(reading: Reading, expected: Expectation, orders: np.ndarray) -> Window:
    """What was forecast of a window that has closed since, and the orders (C,) that came."""
    readings, days = reading.readings, float(reading.readings.horizons_days[0])
    silent = (reading.cutoff - reading.anchor) / DAY
    at = int(np.flatnonzero(np.isclose(readings.order_horizons_days, days))[0])
    classical_rate = log_rates(np.exp(expected.log_hazard.astype(np.float64)))
    return Window(
        window_days=days,
        log_hazard=_log_hazard(readings.log_rate, silent, days),
        classical_hazard=_log_hazard(classical_rate, silent, days),
        log_orders=readings.log_orders[:, at].astype(np.float64),
        classical_orders=expected.log_orders[:, at].astype(np.float64),
        log_dispersion=readings.log_dispersion[:, 0].astype(np.float64),
        orders=orders,
    )


def _log_hazard(log_rate: np.ndarray, silent: np.ndarray, days: float) -> np.ndarray:
    """(C,) log of the hazard gathered in `days` after a silence."""
    gathered = cumulative_hazard(log_rate, silent + days) - cumulative_hazard(log_rate, silent)
    return np.log(np.maximum(gathered, 1e-9))
