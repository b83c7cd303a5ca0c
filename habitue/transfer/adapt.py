"""Which weights answer for a shop: those that ship, those trained on, or its own from nothing.

Each way is tried on everything up to the beginning of a window that closed before the cutoff, and
asked for the window. The simplest way that is as good as the best, within one standard error of the
difference (Breiman et al. 1984), is then made with everything. Nothing after the cutoff is looked
at, and a shop with too little past for a window takes the weights that ship.
"""

# C customers known when the window begins
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import structs

from habitue.config import TrainConfig
from habitue.errors import BadSetting, SawTheFuture
from habitue.evaluation import ITEM_DAYS
from habitue.model.objectives import WEIGHTS
from habitue.model.starter import Starter, open_starter
from habitue.predictions.blend import fit_classical
from habitue.predictions.calibrate import Calibration, negative_binomial_nll
from habitue.predictions.learn import (
    LEAST_DAYS,
    LEAST_ORDERS,
    Learnt,
    Progress,
    Trained,
    closed_window_days,
    learn,
    made_of,
    refuse_too_little,
    train_model,
)
from habitue.predictions.score import score
from habitue.predictions.targets import outcomes
from habitue.recommendations.candidates import ordered_within
from habitue.sequences.build import DAY, Sequences, upto
from habitue.transfer.levels import Training, as_it_is, choose_starter, trained_on
from habitue.transfer.shelf import SHELF, is_starter
from habitue.transfer.totals import USUAL_SHARE, expected_apart, share_right

AS_IT_IS, TRAINED_ON, FROM_NOTHING = "starter", "starter, trained on", "from nothing"
# log, of the level ahead of weights that are not of the shop: what was measured over shops that
# were left out (docs/benchmarks.md), without a closed window and after one
UNTRIED_DRIFT, TRIED_DRIFT = 0.24, 0.22
SHARE = 0.5                                # of those weights in differences between customers
HELD_DAYS = 364.0                          # ahead, that many shops have confirmed
JUDGED_LISTS = 1_000                       # customers whose items are looked at
Way = Callable[[Sequences, str], Trained]  # trains on a past, under a label


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What was learnt, which way, and what each way cost on the closed window."""

    learnt: Learnt
    way: str
    starter: Starter | None                # that the weights begin from
    costs: dict[str, float]                # nats a customer; empty where no window had closed


def adapt(sequences: Sequences, training: Training, shelf: Path = SHELF) -> Adapted:
    """The calibrated model of a shop that its closed window speaks for.

    Raises:
        NotEnoughHistory: there are fewer than LEAST_ORDERS orders to learn from.
    """
    refuse_too_little(sequences)
    at = window_start(sequences)
    starter = None if training.config.from_nothing else _allowed(sequences, at, shelf)
    if starter is None or training.config.text_encoder:
        return Adapted(
            learnt=_from_nothing(sequences, training), way=FROM_NOTHING, starter=None, costs={}
        )
    if at is None:
        learnt = unadapted(starter, sequences)
        return Adapted(learnt=learnt, way=AS_IT_IS, starter=starter, costs={})
    ways = _ways(starter, training)
    past = upto(sequences, at)
    tried = {name: way(past, "trial") for name, way in ways.items()}
    costs = {name: window_cost(trained, sequences) for name, trained in tried.items()}
    chosen = simplest_of_the_best(costs)
    learnt = made_of(ways[chosen](sequences, "training"), tried[chosen], sequences)
    learnt = with_totals(learnt, as_it_is(starter, sequences), tried[AS_IT_IS])
    return Adapted(
        learnt=believed(chosen, learnt),
        way=chosen,
        starter=None if chosen == FROM_NOTHING else starter,
        costs={name: float(cost.mean()) for name, cost in costs.items()},
    )


def learn_best(
    sequences: Sequences, config: TrainConfig, *, progress: Progress | None = None
) -> Learnt:
    """What `adapt` learns: what `habitue train` publishes."""
    return adapt(sequences, Training(config=config, progress=progress)).learnt


def again(
    before: Adapted, sequences: Sequences, training: Training, shelf: Path = SHELF
) -> Adapted:
    """The same way with everything that came since, held to account by what that was."""
    at = before.learnt.trained.cutoff
    name = None if before.starter is None else before.starter.name
    weights = made_again(before.way, name, sequences, training, shelf)
    learnt = made_of(weights, before.learnt.trained, sequences)
    starter = None if training.config.from_nothing else _allowed(sequences, at, shelf)
    if starter is not None:
        past = as_it_is(starter, upto(sequences, at))
        learnt = with_totals(learnt, as_it_is(starter, sequences), past)
    return replace(before, learnt=believed(before.way, learnt))


def unadapted(starter: Starter, sequences: Sequences) -> Learnt:
    """The weights that ship, calibrated where a window had closed and they had not seen it.

    What a shop is answered with before its first training, seconds after it is asked.
    """
    at = window_start(sequences)
    earlier = None if at is None else as_it_is(starter, upto(sequences, at))
    return _calibrated(as_it_is(starter, sequences), earlier)


def unseen(starter: Starter, sequences: Sequences) -> Learnt:
    """The same without a closed window: nothing of the shop but its purchase models."""
    return _calibrated(as_it_is(starter, sequences), None)


def _calibrated(weights: Trained, earlier: Trained | None) -> Learnt:
    learnt = made_of(weights, earlier, weights.corpus.sequences)
    return believed(AS_IT_IS, with_totals(learnt, weights, earlier))


def starter_for(sequences: Sequences, shelf: Path = SHELF) -> tuple[Starter, Learnt]:
    """The weights that ship and may be asked about a shop, and what they make of it.

    Raises:
        SawTheFuture: all of them saw the shop after its cutoff.
    """
    at = window_start(sequences)
    starter = None if at is None else _allowed(sequences, at, shelf)
    if starter is not None:
        return starter, unadapted(starter, sequences)
    starter = choose_starter(sequences, sequences.cutoff, shelf)
    return starter, unseen(starter, sequences)


def believed(way: str, learnt: Learnt) -> Learnt:
    """What is learnt, believed as weights of that way have earned it.

    Many shops have confirmed what a starter says of who orders more, so it need not wait until
    this one does. Weights that were trained on are the shop's own, and wait.
    """
    if way != AS_IT_IS:
        return learnt
    own = learnt.calibration
    calibration = structs.replace(
        own,
        share=max(own.share, SHARE),
        order_share=max(own.order_share, SHARE),
        spend_share=max(own.spend_share, SHARE),
        held_days=HELD_DAYS,
    )
    drift = TRIED_DRIFT if own.window_days else UNTRIED_DRIFT
    return replace(learnt, calibration=calibration, least_drift=drift)


def with_totals(learnt: Learnt, weights: Trained, earlier: Trained | None) -> Learnt:
    """What is learnt any way, its totals moved towards those that weights of other shops expect.

    The total is not for a shop's own training to say: it is that of the purchase models, which no
    season has told anything. `earlier` are the same weights before a closed window.
    """
    own = learnt.calibration
    if own.classical is None:
        return learnt
    apart = expected_apart(weights, own)
    share = USUAL_SHARE
    if earlier is not None and own.window_days:
        share = share_right(earlier, weights.corpus.sequences)
    moved = structs.replace(
        own,
        log_level=own.log_level + share * apart.hazard,
        order_level=own.order_level + share * apart.orders,
    )
    return replace(learnt, calibration=moved)


def made_again(
    way: str, starter: str | None, past: Sequences, training: Training, shelf: Path = SHELF
) -> Trained:
    """Weights of a past, made as a version was; from nothing where its starter ships no more."""
    known = starter if is_starter(starter, shelf) else None
    if known is None or way == FROM_NOTHING:
        return _train(training, past, "trial")
    return _ways(open_starter(known, shelf), training)[way](past, "trial")


def window_start(sequences: Sequences) -> int | None:
    """When the closed window begins (µs); none where too little had happened before it."""
    window = closed_window_days(sequences)
    at = sequences.cutoff - round(window * DAY)
    before = int((sequences.is_order & (sequences.time <= at)).sum())
    return at if window >= LEAST_DAYS and before >= LEAST_ORDERS else None


def simplest_of_the_best(costs: dict[str, np.ndarray]) -> str:
    """The first of some ways (C,) whose mean cost is the least, but for one standard error."""
    best = min(costs, key=lambda name: float(costs[name].mean()))
    for name, cost in costs.items():
        more = cost - costs[best]
        if more.mean() <= more.std() / np.sqrt(max(len(more), 1)):
            return name
    return best


def window_cost(trained: Trained, sequences: Sequences) -> np.ndarray:
    """(C,) nats by which what followed `trained.cutoff` was missed, of each customer known then.

    Whether an order came, how many, and which items: what training descends, in its proportions.
    Totals are those of the purchase models, for every way alike.
    """
    at = trained.cutoff
    days = (sequences.cutoff - at) / DAY
    blend = Calibration(
        classical=fit_classical(trained.corpus.sequences, at),
        share=SHARE,
        order_share=SHARE,
        held_days=HELD_DAYS,
        drift=0.0,
    )
    scores = score(trained.model, trained.corpus, blend, cutoff=at, horizons_days=(days,))
    rows = np.searchsorted(sequences.customers, scores.names)
    what = outcomes(sequences, rows, at, days)
    chance = np.clip(scores.order(days).value, 1e-6, 1 - 1e-6)
    missed = -np.log(np.where(what.observed, chance, 1 - chance))
    mean, size = scores.counts(days)
    counted = negative_binomial_nll(what.orders, np.log(np.maximum(mean, 1e-9)), np.log(size))
    items = WEIGHTS["items"] * _item_cost(trained, sequences, rows, min(days, ITEM_DAYS))
    return missed + counted + items


def _item_cost(
    trained: Trained, sequences: Sequences, customers: np.ndarray, days: float
) -> np.ndarray:
    """(C,) mean nats of the items ordered within days, of some who ordered; of others, none."""
    cost, at = np.zeros(len(customers)), trained.cutoff
    if not len(sequences.items):
        return cost
    ordered = ordered_within(sequences, at, at + round(days * DAY))[customers]
    buyers = np.flatnonzero(np.diff(ordered.indptr))
    buyers = buyers[:: max(len(buyers) // JUDGED_LISTS, 1)]
    chances = trained.item_scores(sequences, at)
    for some in np.array_split(buyers, max(len(buyers) // 256, 1)):
        logged = chances(customers[some])                                  # (B, V)
        relevant = ordered[some].toarray() > 0
        cost[some] = -(logged * relevant).sum(axis=1) / np.maximum(relevant.sum(axis=1), 1)
    return cost


def _ways(starter: Starter, training: Training) -> dict[str, Way]:
    """Every way, the simplest first."""
    return {
        AS_IT_IS: lambda past, label: as_it_is(starter, past),
        TRAINED_ON: lambda past, label: trained_on(starter, past, training, f"{label} on"),
        FROM_NOTHING: partial(_train, training),
    }


def _train(training: Training, past: Sequences, label: str) -> Trained:
    return train_model(
        past, training.config, label, training.progress, training.checkpoints, training.launch
    )


def _from_nothing(sequences: Sequences, training: Training) -> Learnt:
    return learn(
        sequences,
        training.config,
        progress=training.progress,
        checkpoints=training.checkpoints,
        launch=training.launch,
    )


def _allowed(sequences: Sequences, at: int | None, shelf: Path) -> Starter | None:
    """The first starter that saw nothing of the shop after `at`, or its cutoff; none: no such."""
    try:
        return choose_starter(sequences, sequences.cutoff if at is None else at, shelf)
    except (SawTheFuture, BadSetting):
        return None
