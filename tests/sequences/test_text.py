import numpy as np

from habitue.sequences.text import hash_texts


def grams(text: str, category: str = "", *, buckets: int = 1 << 20) -> set[int]:
    return set(hash_texts([text], [category], buckets=buckets).values.tolist())


def test_case_does_not_matter_and_words_do() -> None:
    assert grams("RED Mug") == grams("red mug")
    assert grams("red mug") != grams("red jug")


def test_items_of_like_titles_share_most_of_their_grams() -> None:
    one, other, far = grams("red enamel mug"), grams("blue enamel mugs"), grams("paper kite")
    assert len(one & other) > 0.4 * len(one)
    assert not one & far


def test_the_category_is_one_more_gram() -> None:
    assert len(grams("mug", "kitchen") - grams("mug")) == 1
    assert grams("kitchen") & grams("", "kitchen") == set()


def test_an_item_without_text_has_no_grams_and_keeps_its_row() -> None:
    rows = hash_texts(["mug", "", "jug"], ["", "", ""], buckets=100)
    assert np.diff(rows.offsets).tolist() == [4, 0, 4]
    assert hash_texts([], [], buckets=100).offsets.tolist() == [0]


def test_every_gram_falls_in_a_bucket_and_stays_there() -> None:
    rows = hash_texts(["a vintage rocket lamp"], ["toys"], buckets=7)
    assert 0 <= rows.values.min() <= rows.values.max() < 7
    # weights on disk are rows of these buckets
    mug = hash_texts(["mug"], [""], buckets=16_384).values
    assert mug.tolist() == [12860, 12008, 894, 10293]
