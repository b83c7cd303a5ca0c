"""Why a customer is predicted what they are: factors whose effects add up to the prediction.

Effects are told on the scale on which causes multiply: the log of the cumulative hazard behind a
probability (its odds, where it is small), the log of expected orders and revenue. `points` are the
same in the question's own unit. Both add up from the reference, a typical new customer, to what
`predict` says.
"""

import time
from dataclasses import dataclass

import msgspec
import numpy as np

from habitue.errors import BadSetting
from habitue.predictions.explain.again import Scorer
from habitue.predictions.explain.factors import parts_of
from habitue.predictions.explain.shares import Clock, shares
from habitue.predictions.explain.words import words_of
from habitue.predictions.scores.answers import Scores
from habitue.predictions.scores.questions import EXPLAINED

TOLERANCE = 1e-4                           # of a sum of effects that nothing was cut from
_LEAST = 1e-12                             # chance, orders or money
_SMALL = 1e-6


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """One reason: what there was, and what it did to the prediction."""

    kind: str
    words: str
    effect: float                          # on the scale of logs
    error: float | None                    # its standard error; 0 where exact, none where unknown
    points: float                          # in the unit of the question


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """reference + all points + unshared = value; and alike for effects, on the scale of logs."""

    customer: str
    question: str
    horizon_days: float
    value: float                           # as predicted
    reference: float                       # of a typical new customer, who ordered at the cutoff
    factors: tuple[Factor, ...]            # the largest effect first
    unshared: float                        # points that no factor is known to have made
    unshared_effect: float
    exact: bool                            # every coalition was scored; else the budget cut it
    coalitions: int                        # that were scored
    seconds: float                         # that it took


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be explained, and how long that may take."""

    question: str
    horizon_days: float
    budget_seconds: float = 0.5
    clock: Clock = time.perf_counter
    seed: int = 0                          # of the orders that are drawn where time is short

    def __post_init__(self) -> None:
        if self.question not in EXPLAINED:
            raise BadSetting(
                f"{self.question!r} is not explained\nhint: ask {', '.join(EXPLAINED)}"
            )
        if not self.budget_seconds >= 0:
            raise BadSetting(
                f"a budget of {1_000 * self.budget_seconds:g} ms is none\nhint: --budget-ms 500"
            )


def explain(scorer: Scorer, row: int, ask: Ask) -> Explanation:
    """Why the customer in a row of the scores is predicted what they are."""
    begun = ask.clock()
    scores, customer = scorer.scores, int(scorer.scores.customer[row])
    sequences = scorer.corpus.sequences
    parts = parts_of(sequences, customer, season=scores.level.known)

    def told(some: Scores) -> np.ndarray:
        return _on_logs(ask.question, _asked(some, ask))

    divided = shares(
        scorer.value_of(customer, parts, told),
        len(parts),
        budget_seconds=ask.budget_seconds,
        clock=ask.clock,
        rng=np.random.default_rng(ask.seed),
    )
    value = float(_asked(scores.take(slice(row, row + 1)), ask)[0])
    scale = _Scale(ask.question, divided.reference, float(_on_logs(ask.question, value)))
    effects = [float(effect) for effect in divided.effects]
    factors = [
        Factor(
            kind=part.kind,
            words=words_of(sequences, customer, part),
            effect=effect,
            error=None if np.isnan(error) else float(error),
            points=effect * scale.slope,
        )
        for part, effect, error in zip(parts, effects, divided.errors, strict=True)
    ]
    unshared = scale.whole - scale.reference - sum(effects)
    return Explanation(
        customer=str(scores.names[row]),
        question=ask.question,
        horizon_days=ask.horizon_days,
        value=value,
        reference=scale.shown(scale.reference),
        factors=tuple(sorted(factors, key=lambda one: -abs(one.effect))),
        unshared=unshared * scale.slope,
        unshared_effect=unshared,
        exact=divided.exact,
        coalitions=divided.coalitions,
        seconds=ask.clock() - begun,
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """From logs back to the unit of a question, so that what adds up there adds up here."""

    question: str
    reference: float                       # log
    whole: float                           # log

    def shown(self, log: float) -> float:
        """The answer that a log stands for."""
        match self.question:
            case "order":
                return float(-np.expm1(-np.exp(log)))
            case "churn":
                return float(np.exp(-np.exp(log)))
            case _:
                return float(np.exp(log))

    @property
    def slope(self) -> float:
        """Units per log between the reference and the whole; of a small step where they meet."""
        step = self.whole - self.reference
        if abs(step) < _SMALL:
            step = _SMALL
        return (self.shown(self.reference + step) - self.shown(self.reference)) / step


def _asked(scores: Scores, ask: Ask) -> np.ndarray:
    """(C,) the answers to the question."""
    match ask.question:
        case "order":
            return scores.order(ask.horizon_days).value
        case "churn":
            return scores.churn(ask.horizon_days).value
        case "orders":
            return scores.orders(ask.horizon_days).value
        case _:
            return scores.revenue(ask.horizon_days).value


def _on_logs(question: str, value: np.ndarray | float) -> np.ndarray:
    """Answers on the scale on which causes multiply; more orders are more, of churn too."""
    value = np.asarray(value, dtype=np.float64)
    match question:
        case "order":
            return np.log(np.maximum(-np.log1p(-np.minimum(value, 1 - _LEAST)), _LEAST))
        case "churn":
            return np.log(np.maximum(-np.log(np.maximum(value, _LEAST)), _LEAST))
        case _:
            return np.log(np.maximum(value, _LEAST))
