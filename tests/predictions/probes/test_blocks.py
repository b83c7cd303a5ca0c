"""The table of embeddings: of the width asked for, the same every time, near what is near."""

import numpy as np
import pytest

from habitue.predictions.probes.blocks import (
    WIDTHS,
    Known,
    fit_basis,
    item_aggregates,
    load,
    sold_by,
)
from habitue.sequences.build import DAY, upto
from habitue.simulation import ShopConfig
from tests.shops import sequences_of

SHOP = ShopConfig(shop="acme", customers=40, items=15, days=150, arrival_days=90)


def known(rows: int, seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(rows, 16))
    return Known((state, rng.normal(size=(rows, 16))), rng.gamma(1, size=(rows, 9)).round(1))


@pytest.mark.parametrize("width", [8, *WIDTHS])
def test_every_width_is_filled_and_finite_and_of_half_precision(width):
    embedding = fit_basis(known(300), width, seed=0).embed(known(50, seed=1))
    assert embedding.shape == (50, width)
    assert embedding.dtype == np.float16
    assert np.all(np.isfinite(embedding))
    # a bin into which none of these rows falls is the same for all of them
    assert (embedding.astype(float).std(axis=0) > 0).mean() > 0.7


def test_components_are_those_of_most_variance_and_have_a_sign():
    told = known(400)
    narrow, wide = fit_basis(told, 8, seed=0), fit_basis(told, 32, seed=5)
    np.testing.assert_allclose(narrow.components, wide.components[:, :8], atol=1e-5)
    spread = wide.embed(told).astype(float).var(axis=0)
    assert np.all(np.diff(spread) < 1e-3)
    largest = np.abs(wide.components).argmax(axis=0)
    assert np.all(wide.components[largest, np.arange(32)] > 0)


def test_a_basis_that_was_kept_embeds_as_it_did(tmp_path):
    for width in (8, 2048):
        basis = fit_basis(known(200), width, seed=0)
        basis.save(tmp_path / "basis.npz")
        again = load(tmp_path / "basis.npz").embed(known(9, seed=2))
        np.testing.assert_array_equal(again, basis.embed(known(9, seed=2)))


def test_who_is_alike_lies_near():
    told = known(300)
    nudged = Known(
        tuple(block + 0.01 for block in told.dense), told.aggregates
    )
    for width in (64, 2048):
        basis = fit_basis(told, width, seed=0)
        here, there = basis.embed(told).astype(float), basis.embed(nudged).astype(float)
        near = np.linalg.norm(here - there, axis=1)
        far = np.linalg.norm(here - np.roll(here, 1, axis=0), axis=1)
        assert np.median(near) < 0.2 * np.median(far)


def test_aggregates_count_by_rank_so_that_an_outlier_moves_nobody():
    told = known(300)
    wild = Known(told.dense, told.aggregates.copy())
    wild.aggregates[0] *= 1e6
    basis = fit_basis(told, 64, seed=0)
    np.testing.assert_array_equal(basis.embed(wild)[1:], basis.embed(told)[1:])
    assert np.all(np.isfinite(basis.embed(wild)))


def test_a_shop_of_nothing_has_a_basis():
    nothing = Known((np.zeros((0, 16)),), np.zeros((0, 9)))
    for width in WIDTHS:
        assert fit_basis(nothing, width, seed=0).embed(nothing).shape == (0, width)


def test_what_is_known_of_items_depends_on_nothing_after_the_cutoff():
    """Items keep their places: those that came later are left out of the earlier shop."""
    whole = sequences_of(SHOP, 3)
    cutoff = whole.cutoff - 40 * DAY
    then = upto(whole, cutoff)
    told = item_aggregates(then)
    assert told.shape == (len(then.items), 10)
    assert np.all(np.isfinite(told))
    sold = sold_by(whole, cutoff)
    assert set(whole.items[sold]) == set(then.items[sold_by(then, cutoff)])
    counts = {
        item: np.log1p(whole.sales_orders[(whole.sales_item == place)
                       & (whole.sales_day < cutoff // DAY)].sum())
        for place, item in enumerate(whole.items)
    }  # fmt: skip
    np.testing.assert_allclose(told[:, 3], [counts[item] for item in then.items])
