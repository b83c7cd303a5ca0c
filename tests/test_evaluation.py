"""The backtest: its rows, what it refuses, and that nothing after the cutoff is looked at."""

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from habitue.config import TrainConfig
from habitue.errors import NotEnoughHistory
from habitue.evaluation import (
    ITEM_DAYS,
    Backtest,
    Learner,
    backtest,
    evaluate,
    known_and_future,
    learn_recommender,
)
from habitue.ingest.gate import Gate
from habitue.lake.tables import Lake
from habitue.predictions.baselines import BuyTillYouDie, Forecast
from habitue.predictions.learn import learn
from habitue.recommendations.candidates import past_of
from habitue.recommendations.recommend import fit_recommender
from habitue.sequences.build import DAY, Sequences, instant, sequences_from_events
from habitue.simulation import ShopConfig, catalogue
from tests.shops import altered, end_of, events_of

SHOP = ShopConfig(shop="acme", customers=70, items=20, days=300, arrival_days=240)
TINY = TrainConfig(width=32, layers=1, epochs=1)
END = end_of(SHOP)
CUTOFF = END - 60 * DAY
KEYS = [
    "shop", "cutoff", "horizon_days", "question", "method", "metric", "value", "low", "high",
    "customers",
]  # fmt: skip
CLASSICAL = {"bg_nbd", "mbg_nbd", "pareto_nbd"}
METHODS = {"habitue", "lightgbm", *CLASSICAL}
REVENUE = {"habitue", "lightgbm", *(f"{name}+gamma_gamma" for name in CLASSICAL)}
ITEMS = {"habitue", "popular_90d", "top_frequency", "item_neighbours"}


def sequences(events: pa.Table, cutoff: int) -> Sequences:
    return sequences_from_events(events, catalogue(SHOP, 1), shop="acme", cutoff=cutoff)


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return events_of(SHOP, 1)


@pytest.fixture(scope="module")
def lake(events, tmp_path_factory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.append({"items": catalogue(SHOP, 1)})
    Gate(lake).append(events, shop="acme", source=SHOP.source, received=instant(END))
    return lake


def judged(events: pa.Table) -> Backtest:
    known = sequences(events, CUTOFF)
    return backtest(
        known,
        sequences(events, CUTOFF + 60 * DAY),
        horizon_days=60.0,
        learnt=learn(known, TINY),
        seed=0,
        baselines=[BuyTillYouDie("mbg_nbd")],
    )


@pytest.fixture(scope="module")
def tested(events) -> Backtest:
    return judged(events)


def test_every_cutoff_has_rows_of_one_shape_for_every_question_and_method(lake):
    cutoffs = [instant(CUTOFF - 30 * DAY), instant(CUTOFF)]

    asked = {"cutoffs": [*cutoffs, cutoffs[0]], "horizon_days": 40.0}
    rows = evaluate(lake, "acme", **asked, learner=Learner(TINY))

    assert all(list(row) == KEYS for row in rows)
    keys = [(row["cutoff"], row["question"], row["method"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["cutoff"] for row in rows} == {cutoff.isoformat() for cutoff in cutoffs}
    for cutoff in cutoffs:
        methods = defaultdict(set)
        for row in rows:
            if row["cutoff"] == cutoff.isoformat():
                methods[row["question"]].add(row["method"])
                days = ITEM_DAYS if row["question"] == "items" else 40.0
                assert (row["shop"], row["horizon_days"]) == ("acme", days)
        assert methods == {
            "order": METHODS, "orders": METHODS, "revenue": REVENUE, "next_order": METHODS,
            "items": ITEMS,
        }  # fmt: skip


def test_a_value_lies_within_its_interval_over_customers(tested):
    # drawing customers again adds noise, which these two count as error
    told = [
        row for row in tested.rows
        if row["low"] is not None and row["metric"] not in {"ece", "decile_mape"}
    ]  # fmt: skip
    assert len(told) > 40
    for row in told:
        assert row["low"] <= row["value"] <= row["high"], row


def test_probabilities_are_judged_by_what_really_followed(tested, events):
    time = events["time"].cast(pa.int64()).to_numpy()
    placed = np.array(events["name"].to_pylist()) == "order_placed"
    owners = np.array(events["customer"].to_pylist(), dtype=object)
    ordered = set(owners[placed & (time > CUTOFF) & (time <= CUTOFF + 60 * DAY)])
    happened = np.array([name in ordered for name in tested.scores.names])
    (row,) = [
        row for row in tested.rows
        if (row["question"], row["method"], row["metric"]) == ("order", "habitue", "brier")
    ]  # fmt: skip
    chance = tested.forecasts["habitue"].probability
    assert 10 < happened.sum() < len(happened) - 10
    assert row["customers"] == len(happened)
    assert row["value"] == pytest.approx(np.mean((chance - happened) ** 2), rel=1e-9)


def test_changing_the_future_changes_what_is_judged_and_no_forecast(tested, events):
    """The first leak test: all after the cutoff altered, every answer equal to the last bit."""
    other = judged(altered(events, CUTOFF))

    assert not np.array_equal(other.actual.revenue, tested.actual.revenue)
    for method, forecast in tested.forecasts.items():
        for one in ("customers", "probability", "orders", "revenue", "next_order_days"):
            np.testing.assert_array_equal(
                getattr(forecast, one), getattr(other.forecasts[method], one), err_msg=method
            )
    everyone = np.arange(len(tested.known.customers))
    for test in (tested, other):
        assert test.known.customers.tolist() == tested.known.customers.tolist()
    for mine, its in zip(
        tested.recommender.recommend(everyone, 10), other.recommender.recommend(everyone, 10),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("days_before", [1.5, 37.25, 111.0])
def test_lists_as_of_an_instant_know_nothing_that_happened_after_it(tested, events, days_before):
    """The second leak test: the weights are given, what they read at the instant is its past."""
    then = CUTOFF - int(days_before * DAY)
    answers = []
    for told in (events, altered(events, then)):
        read = sequences(told, CUTOFF)
        scores = tested.learnt.trained.item_scores(read, then)
        fitted = fit_recommender(read, cutoff=then, model_scores=scores)
        known = np.flatnonzero(past_of(read, then).known)
        items, values = fitted.recommend(known, 10)
        answers.append((read.customers[known].tolist(), read.items[items].tolist(), values))
    (names, items, values), (other_names, other_items, other_values) = answers
    assert len(names) > 20
    assert names == other_names
    assert items == other_items
    # customers are read in batches of other lengths, which moves the last digit
    np.testing.assert_allclose(values, other_values, rtol=1e-5, atol=1e-5)


def test_a_forecast_of_the_model_is_one_of_a_predictor(tested):
    forecast, baseline = tested.forecasts["habitue"], tested.forecasts["mbg_nbd"]
    assert isinstance(forecast, Forecast)
    assert forecast.customers.tolist() == baseline.customers.tolist()


def test_the_mixture_of_a_backtest_is_that_of_its_model(tested):
    again = learn_recommender(tested.learnt, tested.known)
    np.testing.assert_array_equal(
        again.mixture.weights.repeat, tested.recommender.mixture.weights.repeat
    )


def test_items_are_not_judged_before_their_horizon_has_passed(lake):
    known, future = known_and_future(lake, "acme", instant(END - 10 * DAY), 7.0)
    assert future.cutoff == known.cutoff + 7 * DAY
    learnt = learn(known, TINY)
    test = backtest(known, future, horizon_days=7.0, learnt=learnt, seed=0, baselines=[])
    assert {row["question"] for row in test.rows} == {"order", "orders", "revenue", "next_order"}
    assert (test.lists, test.answers) == ({}, None)


def test_a_horizon_that_has_not_passed_is_refused_before_anything_is_trained(lake):
    def told(label: str, *_: object) -> None:
        raise AssertionError(f"{label} began")

    cutoffs = [instant(CUTOFF), instant(END - 5 * DAY)]
    with pytest.raises(NotEnoughHistory, match="have not passed") as refused:
        evaluate(
            lake, "acme", cutoffs=cutoffs, horizon_days=30.0, learner=Learner(TINY), progress=told
        )
    latest = instant(END) - timedelta(days=30)
    assert f"a cutoff up to {latest:%Y-%m}" in str(refused.value)


def test_a_horizon_longer_than_the_shop_s_past_is_not_answered_with_an_impossible_cutoff(lake):
    with pytest.raises(NotEnoughHistory, match="hint: choose a shorter horizon"):
        never = {"horizon_days": 5000.0, "learner": Learner(TINY)}
        evaluate(lake, "acme", cutoffs=[instant(CUTOFF)], **never)


def test_a_shop_without_events_is_told_to_import_them(lake):
    Gate(lake).append([], shop="empty", source="till", received=instant(END))
    with pytest.raises(NotEnoughHistory, match="import its orders first"):
        evaluate(lake, "empty", cutoffs=[instant(CUTOFF)], horizon_days=30.0, learner=Learner(TINY))


def test_the_seed_decides_the_model(tested, events):
    known = sequences(events, CUTOFF)
    future = sequences(events, END)
    learnt = learn(known, replace(TINY, seed=1))
    other = backtest(known, future, horizon_days=60.0, learnt=learnt, seed=1, baselines=[])
    mine, its = tested.forecasts["habitue"], other.forecasts["habitue"]
    assert not np.array_equal(mine.probability, its.probability)
