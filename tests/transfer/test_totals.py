"""How much of a starter's total is believed: what holds over shops, moved by the closed window."""

from dataclasses import replace

import pytest

from habitue.model.starter import Starter, open_starter
from habitue.predictions.blend import fit_classical
from habitue.predictions.calibrate import Calibration
from habitue.sequences.build import DAY, Sequences, upto
from habitue.transfer import totals
from habitue.transfer.adapt import unseen
from habitue.transfer.levels import as_it_is
from habitue.transfer.totals import Totals, expected_apart, share_right
from tests.shops import sequences_of
from tests.transfer.shelves import OTHER_SHOP, put_starter


@pytest.fixture(scope="module")
def shop() -> Sequences:
    return sequences_of(OTHER_SHOP, 5)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Starter:
    shelf = tmp_path_factory.mktemp("shelf")
    put_starter(shelf, "one", sequences_of(replace(OTHER_SHOP, shop="elsewhere"), 6))
    return open_starter("one", shelf)


@pytest.mark.parametrize(("right", "least", "most"), [(1.0, 0.6, 1.0), (0.0, 0.0, 0.4)])
def test_a_window_moves_the_share_to_where_it_was_right(
    shop: Sequences, starter: Starter, monkeypatch: pytest.MonkeyPatch,
    right: float, least: float, most: float,
) -> None:  # fmt: skip
    earlier = as_it_is(starter, upto(shop, shop.cutoff - 90 * DAY))

    def told(*_: object) -> tuple[Totals, Totals, float]:
        return Totals(0.6, 0.6), Totals(0.6 * right, 0.6 * right), 400.0

    monkeypatch.setattr(totals, "_apart", told)
    assert least <= share_right(earlier, shop) <= most


def test_a_window_in_which_both_said_the_same_moves_nothing(
    shop: Sequences, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = as_it_is(starter, upto(shop, shop.cutoff - 90 * DAY))
    same = Totals(0.0, 0.0), Totals(0.5, 0.5), 400.0
    monkeypatch.setattr(totals, "_apart", lambda *_: same)
    assert share_right(earlier, shop) == totals.USUAL_SHARE


def test_the_total_of_a_starter_is_met_half_way(shop: Sequences, starter: Starter) -> None:
    alone = as_it_is(starter, shop)
    apart = expected_apart(alone, Calibration(classical=fit_classical(shop, shop.cutoff)))
    half = unseen(starter, shop)
    assert half.calibration.order_level == pytest.approx(apart.orders / 2)
    assert half.calibration.log_level == pytest.approx(apart.hazard / 2)
