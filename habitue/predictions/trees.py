"""Boosted trees on recency, frequency, value and windowed counts: the strongest simple rival.

One question at one horizon is learnt from many past instants whose horizon has passed by the
cutoff: aggregates as of the instant in, what followed out. How long to boost, and whether the
calendar is worth knowing, is decided on the latest such instant by trees that saw only what had
passed before it; then all instants are used.
"""

# C customers at the cutoff · W past instants · N rows (customer, instant) · F features
from dataclasses import dataclass, field, replace

import lightgbm
import numpy as np

from habitue.predictions.baselines import QUANTILES, BuyTillYouDie, FittedBuyTillYouDie, Forecast
from habitue.predictions.targets import Outcomes, known_customers, outcomes, standing_orders
from habitue.sequences.aggregates import aggregates
from habitue.sequences.build import DAY, Sequences

INSTANTS = 12                              # W at most
LEAST_STEP_DAYS = 7.0                      # between two of them
LEAST_PAST_DAYS = 60.0                     # of the shop before the first of them
LEAST_CUSTOMERS = 50                       # below which we do not learn
LEAST_BUYERS = 30                          # nor with fewer rows that an order followed
MOST_ROWS = 60_000                         # N, drawn evenly over the instants
MOST_ROUNDS = 400
PATIENCE = 30                              # rounds without gain before boosting stops
DATE_ROUNDS = 80
YEAR_DAYS = 365.2425
CALENDAR = 2                               # the last features

SHARED: dict[str, object] = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "tweedie_variance_power": 1.5,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """LightGBM: binary for an order, Poisson for orders, Tweedie for revenue."""

    seed: int = 0
    threads: int = 1
    name: str = field(default="lightgbm", init=False)
    revenue_name: str = field(default="lightgbm", init=False)

    def fit(self, sequences: Sequences, cutoff: int) -> "FittedTrees":
        """Remember the past; trees grow when a horizon is known."""
        classical = BuyTillYouDie("mbg_nbd").fit(sequences, cutoff)
        return FittedTrees(sequences, cutoff, classical, self.seed, self.threads)


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """A shop's past, ready to be asked about any horizon."""

    sequences: Sequences
    cutoff: int
    classical: FittedBuyTillYouDie         # a feature, the extrapolation, and the fallback
    seed: int
    threads: int

    def predict(self, horizon_days: float) -> Forecast:
        """The forecast for (cutoff, cutoff + horizon].

        Where no horizon of that length has passed, the longest one that leaves half of the past to
        look back on is learnt, and prolonged by the growth that MBG/NBD expects of each customer.
        Where hardly anyone ordered, the answer is MBG/NBD's.
        """
        past_days = (self.cutoff - _first_order(self.sequences, self.cutoff)) / DAY
        prolonged = horizon_days > max(past_days - LEAST_PAST_DAYS, past_days / 2)
        learnt_days = past_days / 2 if prolonged else horizon_days
        if learnt_days < 1 or len(self.classical.customers) < LEAST_CUSTOMERS:
            return replace(self.classical.predict(horizon_days), extrapolated=prolonged)
        lessons = _lessons(self.sequences, self.cutoff, learnt_days, past_days, self.seed)
        if lessons.answers.observed.sum() < LEAST_BUYERS:
            return replace(self.classical.predict(horizon_days), extrapolated=prolonged)
        forecast = self._learnt(lessons, learnt_days)
        return self._prolonged(forecast, learnt_days, horizon_days) if prolonged else forecast

    def _learnt(self, lessons: "_Lessons", horizon_days: float) -> Forecast:
        customers = known_customers(self.sequences, self.cutoff)
        features = _features(self.sequences, customers, self.cutoff, horizon_days)
        if not self._calendar_helps(lessons):
            lessons = replace(lessons, features=lessons.features[:, :-CALENDAR])
            features = features[:, :-CALENDAR]
        answers = lessons.answers
        unit = max(float(answers.revenue[answers.observed].mean()), 1e-9)
        questions = (
            (answers.observed.astype(np.float64), "binary"),
            (answers.orders, "poisson"),
            (answers.revenue / unit, "tweedie"),
        )
        grown = [self._answer(lessons, features, *question) for question in questions]
        return Forecast(
            customers=self.sequences.customers[customers],
            probability=grown[0],
            orders=grown[1],
            revenue=grown[2] * unit,
            next_order_days=self._dates(lessons, features, horizon_days),
        )

    def _calendar_helps(self, lessons: "_Lessons") -> bool:
        """Whether the season, learnt before the latest instant, foretold that instant better.

        With less than a few seasons of past it usually misleads.
        """
        if not lessons.in_time_order:
            return False
        target = lessons.answers.observed.astype(np.float64)
        bare = replace(lessons, features=lessons.features[:, :-CALENDAR])
        losses = [
            next(iter(self._tried(each, target, "binary").best_score["late"].values()))
            for each in (lessons, bare)
        ]
        return bool(losses[0] < losses[1])

    def _answer(
        self, lessons: "_Lessons", features: np.ndarray, target: np.ndarray, objective: str
    ) -> np.ndarray:
        """The answer (C,) of trees whose rounds were chosen on what came last.

        Few rounds with a log link leave the whole too small, which the lessons themselves mend.
        """
        rounds = max(self._tried(lessons, target, objective).best_iteration, 1)
        everything = lightgbm.Dataset(lessons.features, target)
        booster = lightgbm.train(self._settings(objective), everything, rounds)
        answer = np.asarray(booster.predict(features))
        if objective == "binary":
            return answer
        return answer * (target.sum() / np.asarray(booster.predict(lessons.features)).sum())

    def _tried(self, lessons: "_Lessons", target: np.ndarray, objective: str) -> lightgbm.Booster:
        early, late = lessons.early, lessons.late
        train = lightgbm.Dataset(lessons.features[early], target[early])
        valid = lightgbm.Dataset(lessons.features[late], target[late], reference=train)
        return lightgbm.train(
            self._settings(objective),
            train,
            MOST_ROUNDS,
            valid_sets=[valid],
            valid_names=["late"],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )

    def _dates(self, lessons: "_Lessons", features: np.ndarray, horizon_days: float) -> np.ndarray:
        """(C, 3) quantiles of the next order's date, learnt from those who ordered in time."""
        ordered = lessons.answers.observed
        columns = [
            lightgbm.train(
                {**self._settings("quantile"), "alpha": quantile},
                lightgbm.Dataset(lessons.features[ordered], lessons.answers.days[ordered]),
                DATE_ROUNDS,
            ).predict(features)
            for quantile in QUANTILES
        ]
        return np.sort(np.clip(np.stack(columns, axis=1), 0.0, horizon_days), axis=1)

    def _settings(self, objective: str) -> dict[str, object]:
        run = {"objective": objective, "seed": self.seed, "num_threads": self.threads}
        return {**SHARED, **run}

    def _prolonged(self, forecast: Forecast, learnt_days: float, horizon_days: float) -> Forecast:
        """The same customers at a longer horizon: hazards and amounts grow as MBG/NBD's do.

        Dates are MBG/NBD's own.
        """
        short, long = self.classical.predict(learnt_days), self.classical.predict(horizon_days)
        hazard = _ratio(np.log1p(-long.probability), np.log1p(-short.probability))
        growth = _ratio(long.orders, short.orders)
        none = np.log1p(-np.minimum(forecast.probability, 1 - 1e-12))
        return replace(
            forecast,
            probability=-np.expm1(hazard * none),
            orders=forecast.orders * growth,
            revenue=forecast.revenue * growth,
            next_order_days=long.next_order_days,
            extrapolated=True,
        )


@dataclass(frozen=True, slots=True)
class _Lessons:
    """Past instants and what followed them."""

    features: np.ndarray                   # (N, F) float32
    answers: Outcomes                      # (N,)
    early: np.ndarray                      # (N,) bool: had passed before the latest instant
    late: np.ndarray                       # (N,) bool: of the latest instant
    in_time_order: bool                    # False: `late` are some customers of every instant


def _lessons(
    sequences: Sequences, cutoff: int, horizon_days: float, past_days: float, seed: int
) -> _Lessons:
    """Rows of every past instant, judged by what was known at the cutoff."""
    room_days = past_days - horizon_days                 # from the first order to the last instant
    reach_days = room_days - min(LEAST_PAST_DAYS, room_days / 2)
    count = int(np.clip(reach_days // LEAST_STEP_DAYS + 1, 1, INSTANTS))
    back_days = np.linspace(0.0, reach_days, count) if count > 1 else np.zeros(1)
    instants = cutoff - np.round((horizon_days + back_days) * DAY).astype(np.int64)
    rng = np.random.default_rng(seed)
    drawn = [_draw(known_customers(sequences, int(at)), MOST_ROWS // count, rng) for at in instants]
    features = [
        _features(sequences, customers, int(at), horizon_days)
        for at, customers in zip(instants, drawn, strict=True)
    ]
    found = [
        outcomes(sequences, customers, int(at), horizon_days, known_at=cutoff)
        for at, customers in zip(instants, drawn, strict=True)
    ]
    instant = np.repeat(instants, [len(customers) for customers in drawn])
    late = instant == instants[0]
    # labels of one instant and features of a later one share days unless a horizon lies between;
    # where the past is too short for that, a part of the customers is set aside instead
    early = instant + round(horizon_days * DAY) <= instants[0]
    in_time_order = bool(early.sum() >= 10 * LEAST_BUYERS)
    if not in_time_order:
        aside = np.searchsorted(known_customers(sequences, cutoff), np.concatenate(drawn)) % 5 == 0
        early, late = ~aside, aside
    return _Lessons(
        features=np.concatenate(features),
        answers=Outcomes(
            orders=np.concatenate([each.orders for each in found]),
            revenue=np.concatenate([each.revenue for each in found]),
            days=np.concatenate([each.days for each in found]),
            observed=np.concatenate([each.observed for each in found]),
        ),
        early=early,
        late=late,
        in_time_order=in_time_order,
    )


def _features(
    sequences: Sequences, customers: np.ndarray, at: int, horizon_days: float
) -> np.ndarray:
    """(Q, F) aggregates, the calendar of the horizon, and what MBG/NBD fitted then expects."""
    known = aggregates(sequences, customers, np.full(len(customers), at))
    classical = BuyTillYouDie("mbg_nbd").fit(sequences, at)
    expected = classical.predict(horizon_days)
    # every customer known at `at` is forecast, in the shop's order; `customers` are some of them
    rows = np.searchsorted(known_customers(sequences, at), customers)
    angle = 2 * np.pi * (at / DAY + horizon_days / 2) / YEAR_DAYS
    columns = [
        expected.probability[rows],
        expected.orders[rows],
        expected.revenue[rows],
        np.full(len(customers), np.sin(angle)),          # the calendar comes last
        np.full(len(customers), np.cos(angle)),
    ]
    return np.concatenate([known, np.stack(columns, axis=1).astype(np.float32)], axis=1)


def _draw(customers: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if len(customers) <= count:
        return customers
    return np.sort(rng.choice(customers, count, replace=False))


def _first_order(sequences: Sequences, cutoff: int) -> int:
    counted = standing_orders(sequences, cutoff) & (sequences.time <= cutoff)
    return int(sequences.time[counted].min())


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below where that is defined, else 1."""
    defined = below != 0
    return np.where(defined, above / np.where(defined, below, 1.0), 1.0)
