"""New items are found beside what reads like them, and raised no more than known answers allow."""

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.recommendations.following import Following, Neighbours, near
from habitue.recommendations.unseen import (
    Reaching,
    alike,
    centred,
    choose_reach,
    lent,
    ngram_vectors,
    shares_of,
)
from habitue.sequences.ragged import Ragged

TITLES = ["red mug", "blue mug", "garden hose", "hose reel", "green mug", ""]
NEW = np.array([False, False, False, False, True, False])


def rows_of(*rows: list[int]) -> Ragged:
    sizes = [len(row) for row in rows]
    values = np.array([item for row in rows for item in row], np.int64)
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def likeness(most: int = 3) -> sp.csr_matrix:
    written = ngram_vectors(TITLES, [""] * len(TITLES))
    return alike([written], NEW, ~NEW, most)


def test_texts_that_share_words_are_alike_and_an_item_is_not_like_itself():
    written = ngram_vectors(TITLES, [""] * len(TITLES))
    every = np.ones(len(TITLES), dtype=bool)
    like = alike([written], every, every, 5).toarray()
    assert like[0, 1] > like[0, 2]
    assert like[2, 3] > like[2, 0]
    assert not like.diagonal().any()
    assert not like[5].any()


@pytest.mark.parametrize("most", [1, 2, 50])
def test_an_item_is_like_at_most_so_many_others(most):
    like = likeness(most)
    assert np.diff(like.indptr)[4] <= most
    assert np.argsort(-like[4].toarray().ravel())[0] in {0, 1}      # a mug before any hose
    assert not like[:4].nnz


def test_kinds_of_vectors_add_up():
    written = ngram_vectors(TITLES, [""] * len(TITLES))
    both = alike([written, written], NEW, ~NEW, 2)
    assert np.allclose(both.toarray(), 2 * likeness(2).toarray(), atol=1e-6)


def test_centred_vectors_have_unit_length_and_texts_that_are_none_stay_so():
    vectors = np.vstack([np.random.default_rng(0).normal(3, 1, (5, 8)), np.zeros((1, 8))])
    found = centred(vectors)
    assert np.allclose(np.linalg.norm(found[:5], axis=1), 1, atol=1e-6)
    assert not found[5].any()
    assert not centred(np.zeros((2, 8))).any()


def test_shares_add_up_to_one_where_there_is_anybody_to_borrow_from():
    total = np.asarray(shares_of(likeness()).sum(axis=1)).ravel()
    assert np.allclose(total, NEW.astype(float))


def test_a_new_item_follows_what_its_lenders_follow_and_known_ones_as_before():
    rows = rows_of([2, 0], [2, 1], [3, 0], [2, 3])
    counted = near(rows, len(TITLES), hubs=0.2, fade=0.8)
    borrowed = lent(counted, likeness())
    before, after = counted.similar.toarray(), borrowed.similar.toarray()
    assert before[:, 4].sum() == 0
    assert after[2, 4] == pytest.approx(
        (shares_of(likeness()).toarray()[4] * before[2]).sum(), abs=1e-6
    )
    assert np.allclose(np.delete(before, 4, axis=1), np.delete(after, 4, axis=1))


def reaching(**changed) -> Reaching:
    known = rows_of([0, 1], [1, 0], [2, 3], [3, 2], [2, 0])
    counted = lent(near(known, len(TITLES), hubs=0.2, fade=0.8), likeness())
    every = np.ones(len(TITLES), dtype=bool)
    written = ngram_vectors(TITLES, [""] * len(TITLES))
    texts = Neighbours(similar=alike([written], every, every, 5), fade=0.8)
    plain = {"texts": texts, "text_share": 0.0, "unseen": NEW, "raised": 0.0}
    return Reaching(
        following=Following(neighbours=counted, share=1.0, repeats=False), **(plain | changed)
    )


def test_without_text_and_raise_the_mixture_is_what_it_was():
    rows, one = rows_of([0], [2]), reaching()
    model = np.zeros((2, len(TITLES)), np.float32)
    row = np.arange(2)
    assert np.array_equal(
        one.mixed(rows, row, model), one.following.mixed(rows, row, model)
    )


def test_new_items_are_raised_where_they_follow_and_not_where_they_do_not():
    rows = rows_of([0], [1], [2], [3])

    def model():
        yield np.arange(4), np.zeros((4, len(TITLES)), np.float32)

    shown = choose_reach(rows, np.array([4, 4, 3, 2]), model, reaching())
    hidden = choose_reach(rows, np.array([1, 0, 3, 2]), model, reaching())
    assert hidden.raised == 0
    assert shown.raised > 0 or shown.text_share > 0
    scores = shown.mixed(rows, np.arange(4), np.zeros((4, len(TITLES)), np.float32))
    assert scores[:2].argmax(axis=1).tolist() == [4, 4]
