"""Items that nobody has ordered yet: reached through what is written of them.

What is counted knows nothing of a new item, and a model little. So a new item borrows what was
counted of the items that read most like it, is found beside them, and is raised by as much as
makes the most of rows where the answer was known: too little and it is never shown, too much and it
is in the way of what sells.
"""

# N rows · B of them in a batch · V items · W width of vectors
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp

from habitue.recommendations.following import (
    Following,
    Neighbours,
    Scores,
    gains,
    ranks,
    without_seen,
)
from habitue.sequences.ragged import Ragged
from habitue.sequences.text import hash_texts

BUCKETS = 1 << 18                          # of hashed n-grams, few of which meet
LENDERS, ALIKE = 20, 200                   # items that one borrows from, or is found beside
HEAT = 0.1                                 # of likeness: how much less the less alike lend
AT_ONCE = 1 << 23                          # likenesses held dense
TEXT_SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
RAISES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
Vectors: TypeAlias = Any                   # (V, W), dense or sparse: both take @ and [rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaching:
    """A mixture that knows new items by text: what is said of text, and how far they are raised."""

    following: Following
    texts: Neighbours                      # similarities of texts
    text_share: float                      # of them; the rest is the mixture's
    unseen: np.ndarray                     # (V,) bool: nobody has ordered it
    raised: float                          # in logarithms of odds

    def mixed(self, rows: Ragged, row: np.ndarray, model: np.ndarray) -> np.ndarray:
        """(B, V) scores of what follows; `model` (B, V) is the model's say."""
        scores = self.following.mixed(rows, row, model)
        if self.text_share > 0:
            scores = (1 - self.text_share) * scores
            scores = scores + self.text_share * self.texts.scores(rows, row)
        return scores + np.float32(self.raised) * self.unseen


def ngram_vectors(texts: list[str], categories: list[str]) -> sp.csr_matrix:
    """(V, W) of unit length: words and trigrams of each text, the rarer the more they count."""
    grams = hash_texts(texts, categories, buckets=BUCKETS)
    shape = (len(texts), BUCKETS)
    counts = sp.csr_matrix((np.ones(len(grams.values)), grams.values, grams.offsets), shape)
    counts.sum_duplicates()
    found_in = np.bincount(counts.indices, minlength=BUCKETS)
    counts.data = (1 + np.log(counts.data)) * (1 + np.log((1 + shape[0]) / (1 + found_in)))[
        counts.indices
    ]
    size = np.sqrt(counts.multiply(counts).sum(axis=1)).A1
    return (sp.diags(1 / np.maximum(size, 1e-9)) @ counts).tocsr().astype(np.float32)


def centred(vectors: np.ndarray) -> np.ndarray:
    """Sentence vectors (V, W) without what all of a catalogue have in common, of unit length."""
    written = np.any(vectors != 0, axis=1)
    if not written.any():
        return vectors.astype(np.float32)
    apart = (vectors - vectors[written].mean(axis=0)) * written[:, None]
    size = np.linalg.norm(apart, axis=1, keepdims=True)
    return (apart / np.maximum(size, 1e-9)).astype(np.float32)


def alike(
    kinds: Sequence[Vectors], items: np.ndarray, to: np.ndarray, most: int
) -> sp.csr_matrix:
    """(V, V) how much `items` (bool) read like the `most` nearest of `to` (bool), never itself.

    Likeness is the sum of cosines over the kinds of vectors; less than nothing is nothing.
    """
    count, ours, theirs = len(items), np.flatnonzero(items), np.flatnonzero(to)
    others = [vectors[theirs].T for vectors in kinds]
    most, rows, columns, values = min(most, len(theirs)), [], [], []
    for part in _parts(ours, len(theirs)):
        pairs = zip(kinds, others, strict=True)
        like = np.sum([_dense(vectors[part] @ other) for vectors, other in pairs], axis=0)
        like[part[:, None] == theirs[None]] = 0
        best = np.argpartition(-like, most - 1, axis=1)[:, :most]
        rows.append(np.repeat(part, most))
        columns.append(theirs[best].ravel())
        values.append(np.maximum(np.take_along_axis(like, best, axis=1), 0).ravel())
    joined = [np.concatenate(one) if one else np.zeros(0) for one in (values, rows, columns)]
    found = sp.csr_matrix((joined[0], (joined[1], joined[2])), shape=(count, count))
    found.eliminate_zeros()
    return found.astype(np.float32)


def lent(counted: Neighbours, like: sp.csr_matrix) -> Neighbours:
    """The neighbours, and new items among them as if they were the items that they are `like`.

    What a new item borrows is a weighted mean, of which the most alike lends most; an item counts
    as its own best neighbour, so that what reads like it follows it.
    """
    return replace(counted, similar=with_lent(counted.similar, shares_of(like)))


def with_lent(similar: sp.csr_matrix, shares: sp.csr_matrix) -> sp.csr_matrix:
    """Similarities (V, V), to new items too: `shares` (V, V) say of whom each of them borrows."""
    itself = sp.diags(similar.max(axis=1).toarray().ravel())
    return (similar + (similar + itself) @ shares.T).tocsr().astype(np.float32)


def choose_reach(
    rows: Ragged,
    aims: np.ndarray,
    model: Callable[[], Scores],
    begun: Reaching,
) -> Reaching:
    """The text's share and the raise that rank what followed rows, `aims` (N,), highest.

    Rows that a new item followed count as much, together, as all others.
    """
    new = begun.unseen[aims]
    weight = np.where(new, 1 / max(new.sum(), 1), 1 / max((~new).sum(), 1))
    found = np.zeros((len(TEXT_SHARES), len(RAISES)))
    for row, scores in model():
        mixed = begun.following.mixed(rows, row, scores)
        texts = begun.texts.scores(rows, row)
        for place, tried in _tried(mixed, texts, begun.unseen):
            if not begun.following.repeats:
                tried = without_seen(tried, rows, row)
            found[place] += (weight[row] * gains(ranks(tried, aims[row]))).sum()
    share, raised = np.unravel_index(found.argmax(), found.shape)
    return replace(begun, text_share=TEXT_SHARES[share], raised=RAISES[raised])


def _tried(
    mixed: np.ndarray, texts: np.ndarray, unseen: np.ndarray
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    for place, share in enumerate(TEXT_SHARES):
        scores = mixed if share == 0 else (1 - share) * mixed + share * texts
        for at, raised in enumerate(RAISES):
            yield (place, at), scores + np.float32(raised) * unseen


def shares_of(like: sp.csr_matrix) -> sp.csr_matrix:
    """Each row as shares that add up to one, by a softmax of what it holds."""
    sizes = np.diff(like.indptr)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    most = np.zeros(len(sizes))
    np.maximum.at(most, owner, like.data)
    share = np.exp((like.data - most[owner]) / HEAT)
    total = np.bincount(owner, share, len(sizes))
    shares = like.copy()
    shares.data = (share / total[owner]).astype(np.float32)
    return shares


def _dense(product: Vectors) -> np.ndarray:
    dense: np.ndarray = product.toarray() if sp.issparse(product) else product
    return dense


def _parts(items: np.ndarray, others: int) -> list[np.ndarray]:
    size = max(AT_ONCE // max(others, 1), 1)
    return [items[low : low + size] for low in range(0, len(items), size)]
