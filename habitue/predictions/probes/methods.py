"""Ways to answer a target from lessons: what anyone would say, linear probes, boosted trees.

Each is tuned on a window that it has not seen (how strongly weights are held down, how long trees
are grown) and then fitted again with what that said.
"""

# N rows · F features
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression, PoissonRegressor, TweedieRegressor

from habitue.predictions import metrics
from habitue.predictions.probes.language import Aggregation
from habitue.predictions.probes.lessons import Lessons
from habitue.predictions.trees import MOST_ROUNDS, PATIENCE, SHARED

STRENGTHS = (0.3, 0.03, 0.003)             # of the pull of weights towards 0, per row
TWEEDIE_POWER = 1.5                        # between counts (1) and sizes (2)
WIDE = 512                                 # features from which no matrix of theirs is solved
FARTHEST = 5.0                             # standard deviations from the mean that a feature counts
_LEAST_SHARE = 1e-3                        # of the mean: no expected amount is below it

Learner = Literal["base", "last", "linear", "trees"]
Predict = Callable[[Lessons], np.ndarray]


@dataclass(frozen=True, slots=True)
class Method:
    """A learner and what it looks at."""

    learner: Learner
    aggregates: bool = False
    embedding: bool = False

    @property
    def name(self) -> str:
        """Its name in tables."""
        if self.learner in ("base", "last"):
            return {"base": "base_rate", "last": "last_window"}[self.learner]
        looks_at = "both" if self.aggregates and self.embedding else "aggregates"
        return f"{self.learner}_{looks_at if self.aggregates else 'embedding'}"

    def features(self, lessons: Lessons) -> np.ndarray:
        """(N, F) what it looks at."""
        columns = [lessons.aggregates] if self.aggregates else []
        columns += [lessons.embedding] if self.embedding else []
        return np.concatenate(columns, axis=1).astype(np.float64)


METHODS = (
    Method("base"),
    Method("last"),
    Method("linear", aggregates=True),
    Method("linear", embedding=True),
    Method("linear", aggregates=True, embedding=True),
    Method("trees", aggregates=True),
    Method("trees", aggregates=True, embedding=True),
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a window said of a method."""

    method: Method
    dial: float                            # the strength, or the rounds of boosting
    predicted: np.ndarray                  # (N,) for that window
    loss: float


def tune(
    method: Method, aggregation: Aggregation, early: Lessons, late: Lessons, seed: int
) -> Tuned:
    """The method as it does best on `late`, having learnt from `early`."""
    tries = []
    for dial in STRENGTHS if method.learner == "linear" else (0.0,):
        if method.learner == "trees":
            dial = _rounds(method, aggregation, early, late, seed)
        predicted = fit(method, aggregation, early, dial, seed)(late)
        tries.append(Tuned(method, dial, predicted, loss(aggregation, late.label, predicted)))
    return min(tries, key=lambda one: one.loss)


def loss(aggregation: Aggregation, actual: np.ndarray, predicted: np.ndarray) -> float:
    """The negative log likelihood of what happened, up to what no forecast changes."""
    if aggregation == "exists":
        return metrics.log_loss(actual, predicted)
    mean = np.maximum(predicted, _LEAST_SHARE * max(float(actual.mean()), 1e-12))
    if aggregation == "count":
        return float((mean - actual * np.log(mean)).mean())
    power = TWEEDIE_POWER
    terms = mean ** (2 - power) / (2 - power) - actual * mean ** (1 - power) / (1 - power)
    return float(terms.mean())


def fit(
    method: Method, aggregation: Aggregation, lessons: Lessons, dial: float, seed: int
) -> Predict:
    """The method after learning from lessons."""
    match method.learner:
        case "base":
            rate = float(lessons.label.mean())
            return lambda asked: np.full(len(asked.label), rate)
        case "last":
            return _last_window(aggregation, lessons)
        case "linear":
            return _linear(method, aggregation, lessons, dial)
        case "trees":
            return _trees(method, aggregation, lessons, int(dial), seed)


def _last_window(aggregation: Aggregation, lessons: Lessons) -> Predict:
    """The same as last time; of a probability, how often it was the same."""
    if aggregation != "exists":
        return lambda asked: np.maximum(asked.recent, 0.0)
    did = lessons.recent > 0
    rates = [
        (lessons.label[group].sum() + lessons.label.mean()) / (group.sum() + 1)
        for group in (~did, did)
    ]
    return lambda asked: np.where(asked.recent > 0, rates[1], rates[0])


def _linear(
    method: Method, aggregation: Aggregation, lessons: Lessons, strength: float
) -> Predict:
    """A generalised linear model over standardised features."""
    features, label = method.features(lessons), lessons.label
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)

    def standard(asked: Lessons) -> np.ndarray:
        return np.clip((method.features(asked) - mean) / spread, -FARTHEST, FARTHEST)

    how = "lbfgs" if features.shape[1] >= WIDE else "newton-cholesky"
    if aggregation == "exists":
        logistic = LogisticRegression(C=1 / (strength * len(label)), solver=how, max_iter=300)
        logistic.fit(standard(lessons), label)
        return lambda asked: logistic.predict_proba(standard(asked))[:, 1]
    solver = {"alpha": strength, "solver": how, "max_iter": 300}
    unit = float(label[label > 0].mean())
    model = (
        PoissonRegressor(**solver)
        if aggregation == "count"
        else TweedieRegressor(power=TWEEDIE_POWER, link="log", **solver)
    )
    model.fit(standard(lessons), label / unit)
    # a straight line in the logarithm may lead anywhere: no further than anyone has been
    most = float(label.max())
    return lambda asked: np.minimum(model.predict(standard(asked)) * unit, most)


def _trees(
    method: Method, aggregation: Aggregation, lessons: Lessons, rounds: int, seed: int
) -> Predict:
    """Boosted trees; amounts are brought to the level of the lessons, which few rounds miss."""
    unit = _unit(aggregation, lessons.label)
    whole = lightgbm.Dataset(method.features(lessons), lessons.label / unit)
    booster = lightgbm.train(_settings(aggregation, seed), whole, rounds)
    if aggregation == "exists":
        return lambda asked: np.asarray(booster.predict(method.features(asked)))
    found = np.asarray(booster.predict(method.features(lessons))).sum() * unit
    level = float(lessons.label.sum() / found)
    return lambda asked: np.asarray(booster.predict(method.features(asked))) * unit * level


def _rounds(
    method: Method, aggregation: Aggregation, early: Lessons, late: Lessons, seed: int
) -> int:
    """How long to boost, as the late window says."""
    unit = _unit(aggregation, early.label)
    train = lightgbm.Dataset(method.features(early), early.label / unit)
    valid = lightgbm.Dataset(method.features(late), late.label / unit, reference=train)
    stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
    booster = lightgbm.train(
        _settings(aggregation, seed), train, MOST_ROUNDS, valid_sets=[valid], callbacks=[stopping]
    )
    return max(int(booster.best_iteration), 1)


def _settings(aggregation: Aggregation, seed: int) -> dict[str, object]:
    objective = {"exists": "binary", "count": "poisson", "sum": "tweedie"}[aggregation]
    return {**SHARED, "objective": objective, "seed": seed, "num_threads": 1}


def _unit(aggregation: Aggregation, label: np.ndarray) -> float:
    """What a sum is measured in, so that trees see numbers around one."""
    return float(label[label > 0].mean()) if aggregation == "sum" else 1.0
