from datetime import UTC, datetime

import numpy as np
import pytest

from habitue.sequences import snapshots as snapshots_module
from habitue.sequences.aggregates import purchase_summaries
from habitue.sequences.build import DAY, Sequences, instant, microseconds, upto
from habitue.sequences.classical_fit import MBG_NBD_PRIOR, fit_mbg_nbd
from habitue.sequences.snapshots import take_snapshots
from tests.sequences.small import CONFIG, another_future, past_of, sequences_at, tangled
from tests.shops import end_of, events_of, orders_of, sequences_of


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(CONFIG, seed=4)


def test_a_median_is_of_what_came_before_the_day(shop: Sequences) -> None:
    snapshots = take_snapshots(shop)
    event = np.repeat(np.arange(len(shop.time)), np.diff(shop.line_offsets))
    for time in np.random.default_rng(0).integers(shop.time.min(), shop.cutoff, 20):
        midnight = time // DAY * DAY
        values = shop.value[shop.is_order & (shop.time < midnight)]
        amounts = shop.line_amount[(shop.time < midnight)[event] & shop.is_order[event]]
        day = snapshots.day(np.array([time]))[0]
        assert snapshots.order_median[day] == (np.median(values) if len(values) else 1.0)
        assert snapshots.line_median[day] == (np.median(amounts) if len(amounts) else 1.0)


def test_orders_in_a_span_are_those_of_its_whole_days_before_today(shop: Sequences) -> None:
    snapshots = take_snapshots(shop)
    ordered_day = shop.time[shop.is_order] // DAY
    for time in np.random.default_rng(1).integers(shop.time.min(), shop.cutoff, 20):
        today = time // DAY
        for since, until in ((28, 0), (56, 28), (182, 91)):
            days = (ordered_day >= today - since) & (ordered_day < today - until)
            assert snapshots.orders_in(np.array([time]), since, until)[0] == days.sum()


def test_a_month_s_process_is_fitted_on_what_came_before_it(shop: Sequences) -> None:
    snapshots = take_snapshots(shop)
    starts = [instant(int(start)) for start in snapshots.month_starts]
    assert [(at.day, at.hour) for at in starts[1:]] == [(1, 0)] * (len(starts) - 1)
    for month in (3, len(starts) - 1):
        start = int(snapshots.month_starts[month])
        past = upto(shop, start - 1)
        everyone = np.arange(len(past.customers))
        x, t_x, age, _ = purchase_summaries(past, everyone, np.full(len(everyone), start - 1))
        known = age > 0
        fitted = fit_mbg_nbd(x[known], t_x[known], age[known], prior=MBG_NBD_PRIOR).model
        assert snapshots.processes[month] == fitted


def test_customers_counted_a_few_at_a_time_give_the_same_processes(
    shop: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take_snapshots(shop)
    monkeypatch.setattr(snapshots_module, "CUSTOMERS_AT_ONCE", 7)
    assert take_snapshots(shop).processes == whole.processes


def test_the_month_that_serves_an_instant_had_begun_by_then(shop: Sequences) -> None:
    snapshots = take_snapshots(shop)
    times = np.random.default_rng(2).integers(shop.time.min(), shop.cutoff, 50)
    month = snapshots.month(times)
    assert np.all(snapshots.month_starts[month] <= np.maximum(times, snapshots.month_starts[0]))
    assert snapshots.month(snapshots.month_starts).tolist() == list(range(len(snapshots.processes)))


@pytest.mark.parametrize("seed", range(3))
def test_no_future_changes_a_snapshot_of_the_past(seed: int) -> None:
    events = events_of(CONFIG, seed)
    cutoff = end_of(CONFIG)
    at = cutoff - int(np.random.default_rng(seed).integers(20, 200) * DAY) - 777
    whole = take_snapshots(sequences_at(events, cutoff))
    for other in (past_of(events, at), another_future(events, at)):
        there = take_snapshots(sequences_at(other, cutoff))
        days = at // DAY - whole.first_day + 1
        assert there.first_day == whole.first_day
        for name in ("order_median", "line_median", "orders_before"):
            assert np.array_equal(getattr(whole, name)[:days], getattr(there, name)[:days]), name
        months = int((whole.month_starts <= at).sum())
        assert whole.processes[:months] == there.processes[:months]
        assert np.array_equal(whole.descriptors[:months], there.descriptors[:months])


def test_shops_of_one_day_or_of_nothing_have_snapshots() -> None:
    monday = datetime(2024, 1, 1, tzinfo=UTC)
    for rows in ([("ada", 0.5, ["mug"])], []):
        shop = sequences_at(orders_of(rows, start=monday), microseconds(monday) + DAY // 2)
        snapshots = take_snapshots(shop)
        assert snapshots.order_median.tolist() == [1.0]
        assert snapshots.age_days(np.array([shop.cutoff])).tolist() == [0.5]
        assert len(snapshots.processes) == 1


def test_an_instant_past_the_end_is_served_by_the_last_day() -> None:
    shop = tangled(1)
    snapshots = take_snapshots(shop)
    far = np.array([shop.cutoff + 1000 * DAY])
    assert snapshots.day(far)[0] == len(snapshots.order_median) - 1
    assert snapshots.month(far)[0] == len(snapshots.processes) - 1
