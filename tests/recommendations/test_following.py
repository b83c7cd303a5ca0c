"""What follows what: neighbours, the mixture, and what it may look at."""

from dataclasses import replace

import numpy as np

from habitue.recommendations import following
from habitue.recommendations.following import (
    choose_neighbours,
    choose_regression,
    fading,
    mix,
    near,
    ranks,
    without_seen,
)
from habitue.sequences.ragged import Ragged, offsets_of


def rows_of(*rows: list[int]) -> Ragged:
    sizes = np.array([len(row) for row in rows])
    return Ragged(np.concatenate(rows).astype(np.int64), offsets_of(sizes))


def cycles(count: int = 200, items: int = 12, seed: int = 0) -> tuple[Ragged, np.ndarray]:
    """Rows that walk up the items one by one, and the item that comes next."""
    start = np.random.default_rng(seed).integers(0, items, count)
    rows = [[(first + step) % items for step in range(4)] for first in start]
    return rows_of(*rows), (start + 4) % items


def test_the_latest_item_weighs_most():
    weight = fading(rows_of([2, 0, 1], [3]), np.array([0, 1]), 4, 0.5).toarray()
    np.testing.assert_allclose(weight, [[0.5, 1.0, 0.25, 0], [0, 0, 0, 1.0]])


def test_of_equal_scores_the_lower_number_stands_first():
    scores = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    assert ranks(scores, np.array([2, 1])).tolist() == [2, 1]


def test_what_a_row_holds_is_struck_out_of_a_copy():
    scores = np.zeros((1, 4))
    out = without_seen(scores, rows_of([1, 3]), np.array([0]))
    assert np.isneginf(out[0, [1, 3]]).all()
    assert not scores.any()


def test_neighbours_find_the_next_item_of_a_walk():
    rows, aims = cycles()
    found = choose_neighbours(rows, aims, rows, 12)
    scores = without_seen(found.scores(rows, np.arange(len(aims))), rows, np.arange(len(aims)))
    assert (ranks(scores, aims) == 0).mean() > 0.95


def test_a_model_that_knows_is_believed_and_one_that_does_not_is_not():
    rows, aims = cycles()
    neighbours = near(rows, 12, hubs=0.3, fade=0.5)
    every = np.arange(len(aims))
    knows = np.where(np.arange(12)[None] == aims[:, None], 0.0, -20.0)
    against = np.where(np.arange(12)[None] == aims[:, None], -20.0, 0.0)
    assert mix(rows, aims, iter([(every, knows)]), neighbours).share < 1.0
    assert mix(rows, aims, iter([(every, against)]), neighbours).share == 1.0


def test_the_regression_finds_what_two_past_items_say_together():
    # 0 then 1 leads to 2, 3 then 1 leads to 4, and 1 alone to either
    rows = rows_of(*([[0, 1, 2], [3, 1, 4]] * 20))
    asked, aims = rows_of([0, 1], [3, 1]), np.array([2, 4])
    found = choose_regression(asked, aims, rows, 5)
    scores = found.scores(asked, np.arange(2))
    assert (ranks(without_seen(scores, asked, np.arange(2)), aims) == 0).all()
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 2.0, rtol=1e-5)


def test_shares_of_a_mixture_are_chosen_together_and_add_up():
    rows, aims = cycles()
    every = np.arange(len(aims))
    neighbours = choose_neighbours(rows, aims, rows, 12)
    regression = choose_regression(rows, aims, rows, 12)
    blank = np.full((len(aims), 12), -np.log(12.0))
    found = mix(rows, aims, iter([(every, blank)]), neighbours, regression)
    assert 0 < found.share + found.regression_share <= 1
    listed = found.mixed(rows, every, blank)
    assert (ranks(listed, aims) == 0).mean() > 0.95


def test_a_catalogue_too_large_for_a_matrix_has_no_regression(monkeypatch):
    monkeypatch.setattr(following, "MOST_ITEMS", 11)
    rows, aims = cycles()
    assert choose_regression(rows, aims, rows, 12) is None


def test_where_nothing_ever_repeats_nothing_seen_is_listed():
    rows, aims = cycles()
    blank = np.zeros((len(aims), 12), np.float32)
    every = np.arange(len(aims))
    neighbours = near(rows, 12, hubs=0.3, fade=0.5)
    once = mix(rows, aims, iter([(every, blank)]), neighbours)
    assert not once.repeats
    again = mix(rows, rows.values[rows.offsets[1:] - 1], iter([(every, blank)]), neighbours)
    assert again.repeats
    listed = once.mixed(rows, every, blank)
    assert np.isneginf(listed[0, rows.values[:4]]).all()
    assert np.isfinite(again.mixed(rows, every, blank)).all()


def test_what_follows_a_row_changes_nothing_that_is_said_of_it():
    rows, _ = cycles()
    other = rows.values.copy()
    other[rows.offsets[1]:] = 0            # every row but the first
    one, two = (
        near(rows, 12, hubs=0.3, fade=0.5).scores(read, np.array([0]))
        for read in (rows, Ragged(other, rows.offsets))
    )
    np.testing.assert_array_equal(one, two)


def test_counting_again_keeps_the_settings_and_sees_the_new_rows():
    rows, aims = cycles()
    every = np.arange(len(aims))
    blank = np.full((len(aims), 12), -np.log(12.0))
    neighbours = choose_neighbours(rows, aims, rows, 12)
    regression = choose_regression(rows, aims, rows, 12)
    first = mix(rows, aims, iter([(every, blank)]), neighbours, regression)
    longer = rows_of([0, 2, 4, 6], [1, 3, 5, 7])
    again = first.recounted(longer)
    assert (again.share, again.regression_share) == (first.share, first.regression_share)
    assert again.neighbours.fade == first.neighbours.fade
    assert again.regression.fade == first.regression.fade
    wanted = near(longer, 12, hubs=first.neighbours.hubs, fade=1.0).similar
    assert (again.neighbours.similar != wanted).nnz == 0
    assert again.regression.weights[4].argmax() == 6


def test_where_rows_repeat_what_a_row_holds_is_raised_as_far_as_it_comes_again():
    """Half of the aims are the item seen first: no neighbour says so."""
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 30, (200, 3))
    aims = np.where(rng.random(200) < 0.5, seen[:, 0], rng.integers(0, 30, 200))
    rows = rows_of(*seen.tolist())
    every, even = np.arange(200), np.zeros((200, 30))
    found = mix(rows, aims, iter([(every, even)]), near(rows, 30, hubs=0.3, fade=0.5))
    assert found.repeats and found.again > 0
    first = rows_of([4, 4, 5])
    scores = found.mixed(first, np.array([0]), np.zeros((1, 30)))
    plain = replace(found, again=0.0).mixed(first, np.array([0]), np.zeros((1, 30)))
    np.testing.assert_allclose((scores - plain)[0, [4, 5, 6]], [found.again, found.again, 0])
