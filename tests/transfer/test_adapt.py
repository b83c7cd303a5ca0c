"""Which weights answer for a shop is decided before its cutoff, by what had happened by then."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from habitue.errors import NotEnoughHistory, SawTheFuture
from habitue.model.starter import open_starter
from habitue.predictions.learn import learn, made_of
from habitue.sequences.build import DAY, Sequences, upto
from habitue.transfer.adapt import (
    AS_IT_IS,
    FROM_NOTHING,
    TRAINED_ON,
    TRIED_DRIFT,
    UNTRIED_DRIFT,
    Adapted,
    adapt,
    again,
    simplest_of_the_best,
    starter_for,
    window_start,
    with_totals,
)
from habitue.transfer.levels import Training, as_it_is, choose_starter, trained_on
from habitue.transfer.totals import expected_apart, share_right
from tests.model.small import TINY
from tests.sequences.small import another_future, past_of, sequences_at
from tests.shops import events_of, sequences_of
from tests.transfer.shelves import OTHER_SHOP, SEEN_SHOP, shelf_of_two

TRAINING = Training(config=TINY)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf_of_two(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(OTHER_SHOP, 5)


@pytest.fixture(scope="module")
def adapted(shop: Sequences, shelf: Path) -> Adapted:
    return adapt(shop, TRAINING, shelf)


def weights_of(found: Adapted) -> dict[str, torch.Tensor]:
    return dict(found.learnt.trained.model.state_dict())


def test_every_way_is_held_against_the_closed_window(adapted: Adapted, shop: Sequences) -> None:
    assert set(adapted.costs) == {AS_IT_IS, TRAINED_ON, FROM_NOTHING}
    assert adapted.learnt.earlier is not None
    assert adapted.learnt.earlier.cutoff == window_start(shop)
    assert adapted.learnt.trained.cutoff == shop.cutoff


def test_what_is_chosen_is_no_worse_than_the_starter_but_for_chance(adapted: Adapted) -> None:
    assert adapted.costs[adapted.way] <= adapted.costs[AS_IT_IS] + 1e-9


def test_of_ways_alike_the_simplest_is_taken_and_a_clear_winner_otherwise() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    alike = {"simple": noise, "other": noise + rng.normal(0, 1, 400) * 0.5 - 0.001}
    assert simplest_of_the_best(alike) == "simple"
    assert simplest_of_the_best({"simple": noise, "other": noise - 0.2}) == "other"


def test_nothing_after_the_cutoff_changes_what_is_chosen_or_learnt(shelf: Path) -> None:
    events = events_of(OTHER_SHOP, 6)
    cutoff = sequences_of(OTHER_SHOP, 6).cutoff - 60 * DAY
    one, *others = (
        adapt(sequences_at(table, cutoff), TRAINING, shelf)
        for table in (events, past_of(events, cutoff), another_future(events, cutoff))
    )
    for other in others:
        assert (other.way, other.costs) == (one.way, one.costs)
        assert other.learnt.calibration == one.learnt.calibration
        for name, tensor in weights_of(one).items():
            assert torch.equal(tensor, weights_of(other)[name]), name


def test_trained_on_begins_at_the_starter_and_leaves_it_as_it_was(
    shop: Sequences, shelf: Path
) -> None:
    starter = open_starter("first", shelf)
    before = {name: tensor.clone() for name, tensor in starter.tensors.items()}
    start = as_it_is(starter, shop).model.state_dict()
    end = trained_on(starter, shop, TRAINING, "a test").model.state_dict()
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert "items.residual.weight" in moved
    assert all(torch.equal(before[name], starter.tensors[name]) for name in before)
    step = max(float((start[n] - end[n]).abs().max()) for n in before if n in moved)
    assert step < 0.1


def test_a_starter_that_saw_the_shop_is_passed_over_for_one_that_did_not(shelf: Path) -> None:
    seen = sequences_of(SEEN_SHOP, 3)
    earlier = upto(seen, seen.cutoff - 30 * DAY)
    assert choose_starter(earlier, earlier.cutoff, shelf).name == "second"
    assert starter_for(earlier, shelf)[0].name == "second"
    # its closed window was seen too, whatever the cutoff
    assert starter_for(seen, shelf)[0].name == "second"


def test_where_every_starter_saw_the_shop_none_is_used(shelf: Path, tmp_path: Path) -> None:
    seen = sequences_of(SEEN_SHOP, 3)
    earlier = upto(seen, seen.cutoff - 30 * DAY)
    (tmp_path / "first").symlink_to(shelf / "first")
    with pytest.raises(SawTheFuture):
        starter_for(earlier, tmp_path)
    found = adapt(earlier, TRAINING, tmp_path)
    assert (found.way, found.starter) == (FROM_NOTHING, None)


def test_a_shop_that_asks_for_it_is_trained_from_nothing(shop: Sequences, shelf: Path) -> None:
    alone = adapt(shop, Training(config=replace(TINY, from_nothing=True)), shelf)
    assert (alone.way, alone.starter, alone.costs) == (FROM_NOTHING, None, {})
    assert alone.learnt.least_drift == 0


def test_a_shop_without_a_closed_window_takes_the_starter(shop: Sequences, shelf: Path) -> None:
    days = 20
    young = upto(shop, int(shop.time.min()) + days * DAY)
    while young.is_order.sum() < 20:
        days += 5
        young = upto(shop, int(shop.time.min()) + days * DAY)
    assert window_start(young) is None
    found = adapt(young, TRAINING, shelf)
    assert (found.way, found.costs) == (AS_IT_IS, {})
    assert found.learnt.least_drift == UNTRIED_DRIFT


def test_a_shop_with_too_few_orders_is_adapted_to_nothing(shop: Sequences, shelf: Path) -> None:
    with pytest.raises(NotEnoughHistory):
        adapt(upto(shop, int(shop.time.min()) + DAY), TRAINING, shelf)


def test_a_starter_s_intervals_are_wider(shop: Sequences, shelf: Path) -> None:
    learnt = starter_for(shop, shelf)[1]
    scores = learnt.scores((90.0,))
    assert scores.calibration.drift >= TRIED_DRIFT
    narrow = replace(learnt, least_drift=0.0).scores((90.0,))
    wide, usual = scores.churn(90.0), narrow.churn(90.0)
    np.testing.assert_array_equal(wide.value, usual.value)
    assert np.all(wide.high - wide.low >= usual.high - usual.low - 1e-12)


def test_totals_are_moved_alike_whichever_way_is_learnt(shop: Sequences, shelf: Path) -> None:
    at = window_start(shop)
    assert at is not None
    starter, _ = starter_for(shop, shelf)
    now, before = as_it_is(starter, shop), as_it_is(starter, upto(shop, at))
    apart = expected_apart(now, learn(shop, TINY).calibration)
    moved = []
    for learnt in (learn(shop, TINY), made_of(now, before, shop)):
        found = with_totals(learnt, now, before).calibration
        moved.append(found.order_level - learnt.calibration.order_level)
    assert moved[0] == pytest.approx(moved[1])
    assert moved[0] == pytest.approx(share_right(before, shop) * apart.orders)


def test_the_same_way_again_is_held_to_account_by_what_came_since(shelf: Path) -> None:
    whole = sequences_of(OTHER_SHOP, 5)
    past = upto(whole, whole.cutoff - 60 * DAY)
    before = adapt(past, TRAINING, shelf)
    found = again(before, whole, TRAINING, shelf)
    assert (found.way, found.starter) == (before.way, before.starter)
    assert found.learnt.trained.cutoff == whole.cutoff
    assert found.learnt.earlier is before.learnt.trained
    assert found.learnt.calibration.window_days == pytest.approx(60.0)
