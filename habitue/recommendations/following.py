"""What follows what: the model and the neighbours of recent items, mixed as a held-out item asks.

For sequences that know order alone. The neighbours are counts of what stood near what, asked with
the latest items first; on few sequences they know as much as any model, and other things.
"""

# N rows · B of them in a batch · V items · R rows judged
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from habitue.sequences.order.spectral import near_counts
from habitue.sequences.ragged import Ragged

Scores = Iterator[tuple[np.ndarray, np.ndarray]]   # rows (B,) and what is said of items (B, V)
REACH, FADE, BACK = 10, 0.8, 0.8           # of what stood near what
PALE = 1.0                                 # items' worth of even chance, beside all neighbours
FADES = (0.5, 0.65, 0.8, 0.9, 0.97)        # what an item back counts, to choose from
HUBS = (0.1, 0.2, 0.3, 0.5)                # how far being found everywhere is held against an item
SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)  # of the neighbours in the mixture
MOST_JUDGED = 4_000                        # rows that a choice is made on


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Similarities of items, and how fast a past item fades."""

    similar: sp.csr_matrix                 # (V, V) float32
    fade: float

    def scores(self, rows: Ragged, row: np.ndarray) -> np.ndarray:
        """(B, V) float32 log-probabilities of what follows the given rows (B,)."""
        recent = fading(rows, row, self.similar.shape[0], self.fade)
        found = (recent @ self.similar).toarray().astype(np.float32)
        total = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
        return np.log(found / total + PALE / found.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A mixture of neighbours and a model, and whether rows hold an item more than once."""

    neighbours: Neighbours
    share: float                           # of the neighbours; the rest is the model's
    repeats: bool                          # False where no row ever held an item twice

    def mixed(self, rows: Ragged, row: np.ndarray, model: np.ndarray) -> np.ndarray:
        """(B, V) scores of what follows; `model` (B, V) is the model's say."""
        scores = (1 - self.share) * model
        if self.share > 0:
            scores = scores + self.share * self.neighbours.scores(rows, row)
        return scores if self.repeats else without_seen(scores, rows, row)


def near(rows: Ragged, items: int, *, hubs: float, fade: float) -> Neighbours:
    """Neighbours counted over rows; `hubs` is how far popularity is held against an item."""
    counts = near_counts(rows, items, reach=REACH, fade=FADE, back=BACK)
    popular = np.maximum(np.bincount(rows.values, minlength=items), 1).astype(np.float32)
    scale = sp.diags(popular**-hubs)
    return Neighbours(similar=(scale @ counts @ scale).tocsr().astype(np.float32), fade=fade)


def choose_neighbours(
    rows: Ragged, aims: np.ndarray, learnt_from: Ragged, items: int
) -> Neighbours:
    """The neighbours, counted over `learnt_from`, that rank what followed rows, `aims`, highest."""
    judged = _judged(rows)
    best, most = None, -1.0
    for hubs in HUBS:
        counted = near(learnt_from, items, hubs=hubs, fade=1.0)
        for fade in FADES:
            tried = replace(counted, fade=fade)
            gain = sum(_gain(tried, rows, row, aims) for row in _batches(judged, items))
            if gain > most:
                best, most = tried, gain
    assert best is not None, "there are neighbours to choose from"
    return best


def mix(rows: Ragged, aims: np.ndarray, model: Scores, neighbours: Neighbours) -> Following:
    """The mixture that ranks what followed each row, `aims` (N,), highest."""
    repeats = bool(_held_before(rows, aims).any())
    found = np.zeros(len(SHARES))
    for row, scores in model:
        near_scores = neighbours.scores(rows, row)
        for place, share in enumerate(SHARES):
            mixed = (1 - share) * scores + share * near_scores
            if not repeats:
                mixed = without_seen(mixed, rows, row)
            found[place] += gains(ranks(mixed, aims[row])).sum()
    return Following(neighbours=neighbours, share=SHARES[int(found.argmax())], repeats=repeats)


def fading(rows: Ragged, row: np.ndarray, items: int, fade: float) -> sp.csr_matrix:
    """(B, V) what each row held, the latest item 1, one before it `fade`, and so on."""
    held = rows.take(row)
    sizes = np.diff(held.offsets)
    back = np.repeat(held.offsets[1:], sizes) - 1 - np.arange(len(held.values))
    weight = np.float32(fade) ** back.astype(np.float32)
    owner = np.repeat(np.arange(len(row)), sizes)
    return sp.csr_matrix((weight, (owner, held.values)), shape=(len(row), items))


def without_seen(scores: np.ndarray, rows: Ragged, row: np.ndarray) -> np.ndarray:
    """The scores (B, V), of what each row holds already -inf."""
    held = rows.take(row)
    scores = scores.copy()
    scores[np.repeat(np.arange(len(row)), np.diff(held.offsets)), held.values] = -np.inf
    return scores


def ranks(scores: np.ndarray, aims: np.ndarray) -> np.ndarray:
    """(B,) 0 for the highest; of equals the one with the lower number stands first."""
    aimed = np.take_along_axis(scores, aims[:, None], axis=1)
    before = np.arange(scores.shape[1])[None] < aims[:, None]
    return ((scores > aimed) | ((scores == aimed) & before)).sum(axis=1)


def gains(rank: np.ndarray, places: int = 10) -> np.ndarray:
    """(B,) NDCG of one relevant item at these ranks."""
    return np.where(rank < places, 1 / np.log2(rank + 2.0), 0.0)


def _gain(tried: Neighbours, rows: Ragged, row: np.ndarray, aims: np.ndarray) -> float:
    scores = without_seen(tried.scores(rows, row), rows, row)
    return float(gains(ranks(scores, aims[row])).sum())


def _judged(rows: Ragged) -> np.ndarray:
    known = np.flatnonzero(np.diff(rows.offsets) > 0)
    if len(known) <= MOST_JUDGED:
        return known
    return known[np.linspace(0, len(known) - 1, MOST_JUDGED).astype(int)]


def _batches(row: np.ndarray, items: int) -> Sequence[np.ndarray]:
    size = max((1 << 23) // max(items, 1), 1)
    return np.split(row, range(size, len(row), size))


def _held_before(rows: Ragged, aims: np.ndarray) -> np.ndarray:
    """(N,) bool: the row holds what followed it."""
    owner = np.repeat(np.arange(len(aims)), np.diff(rows.offsets))
    held = np.zeros(len(aims), dtype=bool)
    held[owner[rows.values == aims[owner]]] = True
    return held
