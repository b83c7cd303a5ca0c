"""Items that are found beside each other begin beside each other."""

import numpy as np

from habitue.sequences.order.spectral import near_counts, spectral_vectors
from habitue.sequences.ragged import Ragged, offsets_of


def rows_of(*rows: list[int]) -> Ragged:
    sizes = np.array([len(row) for row in rows])
    return Ragged(np.concatenate(rows).astype(np.int64), offsets_of(sizes))


def slow_counts(rows: Ragged, items: int, reach: int, fade: float, back: float) -> np.ndarray:
    found = np.zeros((items, items))
    for low, high in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        held = rows.values[low:high]
        for i, one in enumerate(held):
            for j in range(i + 1, min(i + 1 + reach, len(held))):
                found[one, held[j]] += fade ** (j - i - 1)
                found[held[j], one] += back * fade ** (j - i - 1)
    return found


def test_counts_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    rows = rows_of(*[list(rng.integers(0, 6, size)) for size in (1, 5, 0, 9, 2)])
    found = near_counts(rows, 6, reach=3, fade=0.7, back=0.4)
    np.testing.assert_allclose(found.toarray(), slow_counts(rows, 6, 3, 0.7, 0.4), rtol=1e-5)


def test_two_crowds_begin_apart_and_each_together():
    rng = np.random.default_rng(0)
    crowds = [list(rng.integers(0, 10, 8) + 10 * (number % 2)) for number in range(200)]
    vectors = spectral_vectors(rows_of(*crowds), 20, 4, seed=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    own = (np.arange(20)[:, None] < 10) == (np.arange(20)[None] < 10)
    assert alike[own].mean() > alike[~own].mean() + 0.5


def test_the_same_seed_begins_the_same_and_no_item_is_left_out():
    rows = rows_of([0, 1, 2], [3], [1, 2])
    one, other = (spectral_vectors(rows, 5, 8, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (5, 8)
    assert np.isfinite(one).all()
    assert not one[:, 5:].any(), "no more directions than items"


def test_directions_are_those_of_a_full_decomposition():
    rng = np.random.default_rng(1)
    rows = rows_of(*[list(rng.integers(0, 30, 12)) for _ in range(60)])
    counts = near_counts(rows, 30, reach=20, fade=0.9, back=1.0).toarray() + np.eye(30)
    scale = (counts.sum(axis=1) + 1.0) ** -0.5
    size, basis = np.linalg.eigh(scale[:, None] * counts * scale)
    order = np.argsort(-np.abs(size))[:3]
    expected = basis[:, order] * np.sqrt(np.abs(size[order]))
    found = spectral_vectors(rows, 30, 3, seed=0)
    ratio = expected.std() * found
    np.testing.assert_allclose(np.abs(ratio), np.abs(expected), rtol=0.02, atol=5e-3)
