"""The next basket: habits that fade, people alike, and a mixture chosen on what is known."""

import numpy as np
import scipy.sparse as sp

from habitue.recommendations.baskets import Baskets, choose, mixed, read_sources, recall
from habitue.recommendations.rules import top_k


def baskets_of(customers: list[list[list[int]]], items: int) -> Baskets:
    """Baskets of each customer, in order."""
    lines = [
        (number, item, len(history) - 1 - place)
        for number, history in enumerate(customers)
        for place, basket in enumerate(history)
        for item in basket
    ]
    customer, item, back = np.array(lines, dtype=np.int64).T
    return Baskets(customer, item, back, customers=len(customers), items=items)


def shoppers(count: int = 60, items: int = 30, seed: int = 0) -> Baskets:
    """Everyone buys the same two items of her own in every basket, and one at random."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, items, (count, 2))
    histories = [[[*map(int, two), int(rng.integers(items))] for _ in range(5)] for two in own]
    return baskets_of(histories, items)


def test_habits_are_shares_that_fade_by_basket():
    past = baskets_of([[[0, 1], [1]], [[2]]], 3)
    np.testing.assert_allclose(past.habits(0.5).toarray(), [[0.25, 0.75, 0], [0, 0, 1.0]])


def test_without_the_last_basket_the_one_before_it_is_the_latest():
    past = baskets_of([[[0], [1], [2]], [[1]]], 3).without_last(1)
    assert past.basket(0).toarray().tolist() == [[0, 1, 0], [0, 0, 0]]
    assert past.basket(1).toarray().tolist() == [[1, 0, 0], [0, 0, 0]]


def test_what_goes_with_an_item_is_what_stood_in_the_same_basket_or_the_next():
    past = baskets_of([[[0, 1], [2]], [[3]]], 4)
    beside = read_sources(past, 0.9).beside.toarray()
    # basket [0, 1]: each counts half; then [2]
    assert beside[0].argmax() == 2
    assert beside[0, 1] > 0
    assert not beside[2].any(), "nothing came after 2"
    assert not beside[3].any()
    assert not beside.diagonal().any()


def test_people_alike_are_asked_and_she_is_not_one_of_them():
    past = baskets_of([[[0, 1]], [[0, 1, 2]], [[3]]], 4)
    _, like_her, _, _ = read_sources(past, 0.9).of(np.array([0, 2]))
    assert like_her[0, 2] > 0
    assert like_her[0, 3] == 0
    assert not like_her[1].any(), "nobody is like her"


def test_recall_is_hits_over_the_basket():
    aims = sp.csr_matrix(np.array([[1, 1, 0, 0], [0, 0, 1, 0]], np.float32))
    assert recall(np.array([[0, 3], [2, -1]]), aims).tolist() == [0.5, 1.0]


def test_the_choice_finds_that_people_keep_their_habits():
    known = shoppers()
    past, last = known.without_last(1), known.basket(0)
    mixture = choose(past, last)
    told = read_sources(past, mixture.fade).of(np.arange(60))
    found = recall(top_k(mixed(told, mixture.weights), 2)[0], last).mean()
    popular = recall(top_k(told[3], 2)[0], last).mean()
    assert found > 0.5 > popular


def test_the_last_basket_changes_nothing_that_is_said_without_it():
    known = shoppers()
    other = Baskets(
        known.customer, np.where(known.back == 0, 0, known.item), known.back, 60, known.items
    )
    one, two = (
        mixed(read_sources(past.without_last(1), 0.9).of(np.arange(60)), (1, 0.5, 0.2, 0.1))
        for past in (known, other)
    )
    np.testing.assert_array_equal(one, two)
