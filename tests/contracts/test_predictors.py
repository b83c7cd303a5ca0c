"""What every predictor promises. A new one adds a line to PREDICTORS."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from habitue.config import TrainConfig
from habitue.errors import NotEnoughHistory
from habitue.predictions.baselines import CLASSICAL, Forecast, Predictor
from habitue.predictions.learn import LEAST_ORDERS, Learnt, learn
from habitue.predictions.targets import known_customers
from habitue.predictions.trees import BoostedTrees
from habitue.sequences.build import DAY, Sequences, upto
from habitue.simulation import ShopConfig
from tests.shops import end_of, sequences_of

TINY = TrainConfig(width=32, layers=1, epochs=1, queries=2)


@dataclass(frozen=True)
class Asked:
    """A model that was learnt, asked for one horizon after the other."""

    learnt: Learnt

    def predict(self, horizon_days: float) -> Forecast:
        return self.learnt.scores((horizon_days,)).predict(horizon_days)


@dataclass(frozen=True)
class Ours:
    """The model as evaluations use it, tiny and hardly trained."""

    name: str = "habitue"
    revenue_name: str = "habitue"

    def fit(self, sequences: Sequences, cutoff: int) -> Asked:
        return Asked(learn(upto(sequences, cutoff), TINY))


PREDICTORS: tuple[Predictor, ...] = (*CLASSICAL, BoostedTrees(seed=0), Ours())
CONFIG = ShopConfig(customers=250, items=20, days=420, arrival_days=400, views=0.5, refunds=0.1)
CUTOFF = end_of(CONFIG) - 120 * DAY
NAMES = [predictor.name for predictor in PREDICTORS]


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(CONFIG, seed=3)


@pytest.fixture(scope="module", params=PREDICTORS, ids=NAMES)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    found: Predictor = request.param
    return found


@pytest.fixture(scope="module")
def forecast(predictor: Predictor, shop: Sequences) -> Forecast:
    return predictor.fit(shop, CUTOFF).predict(60.0)


def test_every_customer_with_an_order_is_forecast_once_and_in_the_shop_s_order(
    forecast: Forecast, shop: Sequences
) -> None:
    expected = shop.customers[known_customers(shop, CUTOFF)]
    assert forecast.customers.tolist() == expected.tolist()
    assert 100 < len(expected) < 240
    for column in (forecast.probability, forecast.orders, forecast.revenue):
        assert column.shape == expected.shape
    assert forecast.next_order_days.shape == (len(expected), 3)


def test_no_forecast_is_missing_or_out_of_its_range(forecast: Forecast) -> None:
    assert np.all((forecast.probability >= 0) & (forecast.probability <= 1))
    for amount in (forecast.orders, forecast.revenue):
        assert np.all(np.isfinite(amount) & (amount >= 0))
    assert np.all((forecast.next_order_days >= 0) & (forecast.next_order_days <= 60))
    assert np.all(np.diff(forecast.next_order_days, axis=1) >= 0)


def test_forecasts_differ_between_customers(forecast: Forecast) -> None:
    for column in (forecast.probability, forecast.orders, forecast.revenue):
        assert np.std(column) > 0.05 * np.mean(column)


def test_a_longer_horizon_expects_more(
    predictor: Predictor, shop: Sequences, forecast: Forecast
) -> None:
    longer = predictor.fit(shop, CUTOFF).predict(120.0)
    assert longer.probability.mean() > forecast.probability.mean()
    assert longer.orders.sum() > forecast.orders.sum()
    assert longer.revenue.sum() > forecast.revenue.sum()


def test_the_same_question_has_the_same_answer(
    predictor: Predictor, shop: Sequences, forecast: Forecast
) -> None:
    assert_equal(predictor.fit(shop, CUTOFF).predict(60.0), forecast)


def test_deleting_all_that_follows_the_cutoff_changes_nothing(
    predictor: Predictor, forecast: Forecast
) -> None:
    past = sequences_of(CONFIG, seed=3, cutoff=CUTOFF)
    assert_equal(predictor.fit(past, CUTOFF).predict(60.0), forecast)


def test_changing_all_that_follows_the_cutoff_changes_nothing(
    predictor: Predictor, shop: Sequences, forecast: Forecast
) -> None:
    later = shop.time > CUTOFF
    assert later.any()
    changed = replace(
        shop,
        value=np.where(later, shop.value * 7 + 1, shop.value),
        cancelled_at=np.where(shop.is_order, CUTOFF + 5 * DAY, shop.cancelled_at),
    )
    assert_equal(predictor.fit(changed, CUTOFF).predict(60.0), forecast)


@pytest.mark.parametrize("customers", [1, 3, 40])
def test_a_shop_of_few_customers_gets_finite_forecasts_or_is_told_what_is_missing(
    predictor: Predictor, customers: int
) -> None:
    config = replace(CONFIG, customers=customers, arrival_days=20)
    shop = sequences_of(config, seed=1)
    if isinstance(predictor, Ours) and shop.is_order.sum() < LEAST_ORDERS:
        with pytest.raises(NotEnoughHistory, match="are needed to learn from"):
            predictor.fit(shop, end_of(config))
        return
    for horizon in (7.0, 365.0):
        forecast = predictor.fit(shop, end_of(config)).predict(horizon)
        assert len(forecast.customers) == customers
        for column in (forecast.probability, forecast.orders, forecast.revenue):
            assert np.all(np.isfinite(column))
        assert np.all(np.isfinite(forecast.next_order_days))


def assert_equal(one: Forecast, other: Forecast) -> None:
    """Equal to the last bit."""
    assert one.customers.tolist() == other.customers.tolist()
    for name in ("probability", "orders", "revenue", "next_order_days"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.extrapolated == other.extrapolated


@pytest.mark.parametrize("predictor", CLASSICAL, ids=[p.name for p in CLASSICAL], indirect=True)
def test_classical_forecasts_grow_with_the_horizon_for_every_customer(
    predictor: Predictor, shop: Sequences
) -> None:
    fitted = predictor.fit(shop, CUTOFF)
    forecasts = [fitted.predict(horizon) for horizon in (1.0, 30.0, 60.0, 120.0, 400.0)]
    for name in ("probability", "orders", "revenue"):
        grown = np.diff([getattr(forecast, name) for forecast in forecasts], axis=0)
        assert np.all(grown >= 0), name
