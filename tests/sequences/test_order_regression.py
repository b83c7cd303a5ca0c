"""Weights of the past: the solution of what they say they solve, from what came before alone."""

import numpy as np
import pytest

from habitue.sequences.order.regression import FADE, HOLD, REACH, lessons, ridge_weights
from habitue.sequences.ragged import Ragged

ROWS = [[0, 1, 2, 3], [4], [], [1, 2, 0], [3, 3, 1, 2, 0, 4]]


def ragged(rows: list[list[int]]) -> Ragged:
    sizes = [len(row) for row in rows]
    values = np.array([item for row in rows for item in row], dtype=np.int64)
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def by_hand(rows: list[list[int]], items: int) -> tuple[np.ndarray, np.ndarray]:
    past, following = [], []
    for row in rows:
        for place in range(len(row) - 1):
            held = np.zeros(items)
            for back, item in enumerate(reversed(row[: place + 1])):
                held[item] += FADE**back if back < REACH else 0.0
            past.append(held / np.linalg.norm(held))
            following.append(np.eye(items)[row[place + 1]])
    return np.array(past), np.array(following)


def test_lessons_are_the_fading_past_and_what_came_next() -> None:
    past, following = lessons(ragged(ROWS), 5)
    wanted_past, wanted_following = by_hand(ROWS, 5)
    assert np.allclose(past.toarray(), wanted_past, atol=1e-6)
    assert np.array_equal(following.toarray(), wanted_following)


def test_weights_solve_the_ridge_regression() -> None:
    past, following = by_hand(ROWS, 5)
    hold = HOLD * np.sqrt(len(past) / 5)
    wanted = np.linalg.solve(past.T @ past + hold * np.eye(5), past.T @ following)
    assert np.allclose(ridge_weights(ragged(ROWS), 5), wanted, atol=1e-5)


def test_the_last_item_of_a_row_teaches_nothing_by_what_is_in_the_next_row() -> None:
    one = ridge_weights(ragged([[0, 1], [2, 3]]), 4)
    assert one[1].max() == pytest.approx(0.0, abs=1e-7)
    assert one[0].argmax() == 1


@pytest.mark.parametrize("rows", [[], [[]], [[3]], [[0], [1]]])
def test_rows_without_anything_that_follows_say_nothing(rows: list[list[int]]) -> None:
    assert np.array_equal(ridge_weights(ragged(rows), 4), np.zeros((4, 4), np.float32))
