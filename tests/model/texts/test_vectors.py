"""Texts are read once: what was read is kept, in memory and in a folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from habitue.model.texts.vectors import Reader, item_vectors
from tests.model.texts.small import WIDTH, encoder_folder
from tests.sequences.small import tangled

TEXTS = ["red mug", "", "blue lamp", "red mug"]


@pytest.fixture
def name(tmp_path):
    return str(encoder_folder(tmp_path / "encoder"))


def test_equal_texts_have_one_vector_and_no_text_has_none(name):
    vectors = Reader(name).vectors(TEXTS)
    assert vectors.shape == (4, WIDTH)
    assert np.array_equal(vectors[0], vectors[3])
    assert not vectors[1].any()
    assert np.allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1, atol=1e-6)


def test_what_was_kept_is_not_read_again_and_is_the_same_to_the_bit(name, tmp_path):
    kept, told = tmp_path / "texts", []
    first = Reader(name).vectors(TEXTS, kept=kept)
    again = Reader(name).vectors([*TEXTS, "cup"], kept=kept, told=lambda *step: told.append(step))
    assert np.array_equal(first, again[:4])
    assert [(done, of) for _, done, of in told] == [(1, 1)]      # the cup alone
    assert told[0][0].endswith("texts/s")


def test_another_encoder_reads_for_itself(name, tmp_path):
    other = str(encoder_folder(tmp_path / "other", seed=1))
    kept = tmp_path / "texts"
    vectors = [Reader(one).vectors(TEXTS, kept=kept) for one in (name, other)]
    assert not np.allclose(*vectors)
    assert len(list(kept.glob("*.lmdb"))) == 2


def test_a_shop_without_texts_has_vectors_of_nothing(name):
    assert np.array_equal(Reader(name).vectors(["", ""]), np.zeros((2, WIDTH)))


def test_items_are_read_by_title_and_category_the_unknown_one_first(name):
    shop = tangled(0)
    categories = np.array(["lamp"] + [""] * (len(shop.items) - 1), dtype=object)
    vectors = item_vectors(name, replace(shop, categories=categories))
    assert vectors.shape == (len(shop.items) + 1, WIDTH)
    assert not vectors[0].any()
    expected = Reader(name).vectors(["RED MUG, lamp", "RED MUG"])
    assert torch.allclose(vectors[1:3], torch.from_numpy(expected), atol=1e-6)


def test_without_an_encoder_there_are_no_vectors():
    assert item_vectors("", tangled(0)) is None
