"""Item texts as hashed word and character n-grams: the text encoder that needs no download."""

# V items · N n-grams
import re
import zlib
from collections.abc import Iterable

import numpy as np

from habitue.sequences.ragged import Ragged

_WORD = re.compile(r"\w+")


def hash_texts(texts: Iterable[str], categories: Iterable[str], *, buckets: int) -> Ragged:
    """Rows of n-gram ids in [0, buckets), one row per item; an item without text has none.

    >>> mugs = hash_texts(["RED MUG", "red mug"], ["", ""], buckets=1000)
    >>> one, other = mugs.values.reshape(2, -1)
    >>> bool((one == other).all())
    True
    """
    rows = [_ngrams(text, category) for text, category in zip(texts, categories, strict=True)]
    sizes = [len(row) for row in rows]
    values = np.fromiter(
        (zlib.crc32(gram.encode()) % buckets for row in rows for gram in row), np.int64, sum(sizes)
    )
    return Ragged(values, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _ngrams(text: str, category: str) -> list[str]:
    """Words, and the character trigrams of each, plus the category as one more word."""
    words = _WORD.findall(text.casefold())
    grams = [f"w:{word}" for word in words]
    grams += [
        f"c:{padded[i : i + 3]}"
        for word in words
        for padded in [f"<{word}>"]
        for i in range(len(padded) - 2)
    ]
    return grams + ([f"k:{category.casefold()}"] if category else [])
