"""Purchase summaries, outcomes and the classical forecasts on small shops."""

from dataclasses import replace

import numpy as np
import pytest

from habitue.errors import NotEnoughHistory
from habitue.predictions.baselines import CLASSICAL, BuyTillYouDie, rfm
from habitue.predictions.targets import known_customers, outcomes
from habitue.sequences.build import DAY, NEVER, Sequences
from habitue.simulation import PerOrder, ShopConfig, flat
from tests.shops import sequences_of

EARLY = 15_000 * DAY                       # an instant at midnight


def orders(*rows: tuple[str, float, float], cancelled: dict[int, float] | None = None) -> Sequences:
    """A shop of (customer, day, value) orders, sorted; `cancelled` maps a row to a day."""
    names = sorted({customer for customer, _, _ in rows})
    sizes = [sum(customer == name for customer, _, _ in rows) for name in names]
    cancelled_at = np.full(len(rows), NEVER)
    for row, day in (cancelled or {}).items():
        cancelled_at[row] = EARLY + round(day * DAY)
    nothing = np.zeros(0)
    time = np.array([EARLY + round(day * DAY) for _, day, _ in rows], dtype=np.int64)
    return Sequences(
        shop="acme",
        currency="GBP",
        timezone="UTC",
        cutoff=EARLY + 1_000 * DAY,
        customers=np.array(names, dtype=object),
        offsets=np.r_[0, np.cumsum(sizes)],
        time=time,
        kind=np.zeros(len(rows), dtype=np.int16),
        kinds=("order_placed",),
        value=np.array([value for _, _, value in rows]),
        cancelled_at=cancelled_at,
        line_offsets=np.zeros(len(rows) + 1, dtype=np.int64),
        line_item=nothing.astype(np.int32),
        line_quantity=nothing.astype(np.float32),
        line_amount=nothing,
        items=nothing.astype(object),
        titles=nothing.astype(object),
        categories=nothing.astype(object),
        sales_day=nothing.astype(np.int32),
        sales_item=nothing.astype(np.int32),
        sales_orders=nothing.astype(np.int32),
    )


SHOP = orders(
    ("ann", 0.2, 10.0),
    ("ann", 0.9, 5.0),
    ("ann", 30.5, 20.0),
    ("ann", 40.1, 30.0),
    ("ann", 40.2, 6.0),
    ("ben", 35.0, 9.0),
    ("cat", 90.0, 50.0),
)


def test_orders_of_one_day_are_one_purchase_and_values_leave_the_first_day_out() -> None:
    bought = rfm(SHOP, EARLY + 60 * DAY)
    assert bought.customers.tolist() == [0, 1]
    assert bought.repeats.tolist() == [2, 0]
    assert bought.last.tolist() == [40, 0]
    assert bought.age.tolist() == [60, 25]
    assert bought.mean_value.tolist() == [(20 + 36) / 2, 0]


def test_a_summary_can_be_of_some_customers_only() -> None:
    assert rfm(SHOP, EARLY + 60 * DAY, customers=np.array([1, 2])).customers.tolist() == [1]


def test_an_order_counts_until_its_cancellation_is_known() -> None:
    shop = orders(("ann", 0.0, 10.0), ("ann", 10.0, 10.0), cancelled={1: 20.0})
    assert rfm(shop, EARLY + 19 * DAY).repeats.tolist() == [1]
    assert rfm(shop, EARLY + 20 * DAY).repeats.tolist() == [0]
    assert known_customers(shop, EARLY + 20 * DAY).tolist() == [0]


def test_outcomes_lie_in_the_horizon_after_the_cutoff_up_to_its_end() -> None:
    cutoff = EARLY + 30 * DAY + DAY // 2   # the instant of ann's third order
    customers = known_customers(SHOP, cutoff)
    assert customers.tolist() == [0]
    found = outcomes(SHOP, np.array([0, 1, 2]), cutoff, 59.5)
    assert found.orders.tolist() == [2, 1, 1]
    assert found.revenue.tolist() == [36, 9, 50]
    assert found.days == pytest.approx([9.6, 4.5, 59.5])
    shorter = outcomes(SHOP, np.array([0, 1, 2]), cutoff, 59.4)
    assert shorter.observed.tolist() == [True, True, False]
    assert shorter.days[2] == pytest.approx(59.4)


def test_an_order_cancelled_later_never_counts_among_outcomes() -> None:
    shop = orders(("ann", 0.0, 10.0), ("ann", 10.0, 10.0), cancelled={1: 20.0})
    assert outcomes(shop, np.array([0]), EARLY, 15).orders.tolist() == [0]
    known = outcomes(shop, np.array([0]), EARLY, 15, known_at=EARLY + 15 * DAY)
    assert known.orders.tolist() == [1]


def test_a_horizon_that_has_not_passed_cannot_be_judged() -> None:
    with pytest.raises(AssertionError, match="when it has passed"):
        outcomes(SHOP, np.array([0]), EARLY, 1_001)


def test_a_shop_without_orders_by_the_cutoff_is_told_to_ask_later() -> None:
    with pytest.raises(NotEnoughHistory, match="later --cutoff"):
        BuyTillYouDie("bg_nbd").fit(SHOP, EARLY - DAY)


def test_several_orders_a_day_raise_the_expected_orders_and_not_the_revenue() -> None:
    rows = [(f"c{n:03d}", day, 10.0) for n in range(60) for day in (0.0, 20.0 + n, 90.0 + n)]
    single = orders(*rows)
    double = orders(*(row for pair in zip(rows, rows, strict=True) for row in pair))
    halved = replace(double, value=double.value / 2)
    cutoff = EARLY + 200 * DAY
    once = BuyTillYouDie("bg_nbd").fit(single, cutoff).predict(90)
    twice = BuyTillYouDie("bg_nbd").fit(halved, cutoff).predict(90)
    assert twice.orders == pytest.approx(2 * once.orders)
    assert twice.revenue == pytest.approx(once.revenue)
    assert twice.probability == pytest.approx(once.probability)


@pytest.fixture(scope="module")
def true_shop() -> Sequences:
    """4,000 customers of a shop that is exactly BG/NBD, without seasons."""
    config = ShopConfig(
        customers=4_000, days=720, arrival_days=300, rate_days=60.0, dropout=PerOrder(0.8, 5.0),
        items=30, views=0.0, carts=0.0, refunds=0.0, lines=1.0,
    )  # fmt: skip
    return sequences_of(flat(config), seed=5)


def test_forecasts_of_a_shop_that_is_bg_nbd_come_true(true_shop: Sequences) -> None:
    """Seed 5: totals of about 4,000 orders within 8%, four standard errors or more."""
    cutoff = true_shop.cutoff - 180 * DAY
    fitted = BuyTillYouDie("bg_nbd").fit(true_shop, cutoff)
    forecast = fitted.predict(180)
    truth = outcomes(true_shop, known_customers(true_shop, cutoff), cutoff, 180)
    assert len(forecast.customers) == len(truth.orders)
    assert forecast.orders.sum() == pytest.approx(truth.orders.sum(), rel=0.08)
    assert forecast.revenue.sum() == pytest.approx(truth.revenue.sum(), rel=0.10)
    assert forecast.probability.mean() == pytest.approx(truth.observed.mean(), abs=0.025)
    below = (truth.days[:, None] <= forecast.next_order_days)[truth.observed].mean(axis=0)
    assert below == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


def test_the_shop_of_one_customer_gets_a_forecast_from_every_model() -> None:
    shop = orders(("ann", 0.0, 10.0))
    for predictor in CLASSICAL:
        forecast = predictor.fit(shop, EARLY + DAY).predict(30)
        assert 0 < forecast.probability[0] < 1
        assert 0 < forecast.orders[0] < 3
        assert 0 < forecast.revenue[0] < 60
