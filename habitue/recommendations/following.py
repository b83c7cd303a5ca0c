"""What follows what: model, neighbours and regression, mixed as held-out items ask.

For sequences that know order alone. The neighbours are counts of what stood near what, asked with
the latest items first; on few sequences they know as much as any model, and other things. The
regression solves for what counting can only add up.
"""

# N rows · B of them in a batch · V items · R rows judged
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from habitue.sequences.order.regression import MOST_ITEMS, ridge_weights
from habitue.sequences.order.spectral import near_counts
from habitue.sequences.ragged import Ragged

Scores = Iterator[tuple[np.ndarray, np.ndarray]]   # rows (B,) and what is said of items (B, V)
REACH, FADE, BACK = 10, 0.8, 0.8           # of what stood near what
PALE = 1.0                                 # items' worth of even chance, beside all neighbours
FADES = (0.5, 0.65, 0.8, 0.9, 0.97)        # what an item back counts, to choose from
HUBS = (0.1, 0.2, 0.3, 0.5)                # how far being found everywhere is held against an item
AGAIN = (0.0, 1.0, 2.0, 3.0)               # log odds that what a row holds comes again, beside
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)    # of neighbours, of the regression
MOST_JUDGED = 4_000                        # rows that a choice is made on
MOST_MIXED = 8_000                         # rows that shares are chosen on


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Similarities of items, and how fast a past item fades."""

    similar: sp.csr_matrix                 # (V, V) float32
    fade: float
    hubs: float = 0.0                      # how far popularity was held against an item

    def scores(self, rows: Ragged, row: np.ndarray) -> np.ndarray:
        """(B, V) float32 log-probabilities of what follows the given rows (B,)."""
        recent = fading(rows, row, self.similar.shape[0], self.fade)
        found = (recent @ self.similar).toarray().astype(np.float32)
        total = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
        return np.log(found / total + PALE / found.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What each item of the past says for each item to come, and how fast a past item fades."""

    weights: np.ndarray                    # (V, V) float32
    fade: float

    def scores(self, rows: Ragged, row: np.ndarray) -> np.ndarray:
        """(B, V) float32 log-probabilities of what follows the given rows (B,)."""
        found = fading(rows, row, len(self.weights), self.fade) @ self.weights
        np.maximum(found, 0, out=found)
        total = np.maximum(found.sum(axis=1, keepdims=True), 1e-9)
        return np.log(found / total + PALE / found.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A mixture of a model with what was counted, and whether rows hold an item more than once."""

    neighbours: Neighbours
    share: float                           # of the neighbours
    repeats: bool                          # False where no row ever held an item twice
    regression: Regression | None = None   # none: the catalogue is too large for it
    regression_share: float = 0.0          # what is left of both shares is the model's
    again: float = 0.0                     # added to what a row holds already, where rows repeat

    def mixed(self, rows: Ragged, row: np.ndarray, model: np.ndarray) -> np.ndarray:
        """(B, V) scores of what follows; `model` (B, V) is the model's say."""
        scores = (1 - self.share - self.regression_share) * model
        if self.share > 0:
            scores = scores + self.share * self.neighbours.scores(rows, row)
        if self.regression is not None and self.regression_share > 0:
            scores = scores + self.regression_share * self.regression.scores(rows, row)
        if not self.repeats:
            return without_seen(scores, rows, row)
        return raised(scores, rows, row, self.again)

    def recounted(self, rows: Ragged) -> "Following":
        """The same mixture with all that is counted counted over rows, its settings kept."""
        items = self.neighbours.similar.shape[0]
        counted = near(rows, items, hubs=self.neighbours.hubs, fade=self.neighbours.fade)
        if self.regression is None:
            return replace(self, neighbours=counted)
        solved = replace(self.regression, weights=ridge_weights(rows, items))
        return replace(self, neighbours=counted, regression=solved)


def near(rows: Ragged, items: int, *, hubs: float, fade: float) -> Neighbours:
    """Neighbours counted over rows; `hubs` is how far popularity is held against an item."""
    counts = near_counts(rows, items, reach=REACH, fade=FADE, back=BACK)
    popular = np.maximum(np.bincount(rows.values, minlength=items), 1).astype(np.float32)
    scale = sp.diags(popular**-hubs)
    similar = (scale @ counts @ scale).tocsr().astype(np.float32)
    return Neighbours(similar=similar, fade=fade, hubs=hubs)


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


def choose_regression(
    rows: Ragged, aims: np.ndarray, learnt_from: Ragged, items: int
) -> Regression | None:
    """The regression over `learnt_from`, asked as ranks what followed rows, `aims`, highest."""
    if items > MOST_ITEMS:
        return None
    solved = Regression(weights=ridge_weights(learnt_from, items), fade=1.0)
    judged = _judged(rows)

    def gain(fade: float) -> float:
        tried = replace(solved, fade=fade)
        return sum(_gain(tried, rows, row, aims) for row in _batches(judged, items))

    return replace(solved, fade=max(FADES, key=gain))


def mix(
    rows: Ragged,
    aims: np.ndarray,
    model: Scores,
    neighbours: Neighbours,
    regression: Regression | None = None,
) -> Following:
    """The mixture that ranks what followed each row, `aims` (N,), highest."""
    repeats = bool(_held_before(rows, aims).any())
    others = SHARES if regression is not None else (0.0,)
    tried = [(n, r) for n in SHARES for r in others if n + r < 1 + 1e-9]
    raises = AGAIN if repeats else (0.0,)
    found = np.zeros((len(tried), len(raises)))
    judged = np.zeros(len(aims), dtype=bool)
    judged[_judged(rows, MOST_MIXED)] = True
    for all_rows, all_scores in model:
        row, scores = all_rows[judged[all_rows]], all_scores[judged[all_rows]]
        near_scores = neighbours.scores(rows, row)
        told = near_scores if regression is None else regression.scores(rows, row)
        for place, (share, other) in enumerate(tried):
            mixed = (1 - share - other) * scores + share * near_scores
            if other:
                mixed += other * told
            if not repeats:
                mixed = without_seen(mixed, rows, row)
            for level, again in enumerate(raises):
                scored = raised(mixed, rows, row, again)
                found[place, level] += gains(ranks(scored, aims[row])).sum()
    best, level = divmod(int(found.argmax()), len(raises))
    share, other = tried[best]
    return Following(
        neighbours=neighbours,
        regression=regression,
        share=share,
        regression_share=other,
        repeats=repeats,
        again=raises[level],
    )


def fading(rows: Ragged, row: np.ndarray, items: int, fade: float) -> sp.csr_matrix:
    """(B, V) what each row held, the latest item 1, one before it `fade`, and so on."""
    held = rows.take(row)
    sizes = np.diff(held.offsets)
    back = np.repeat(held.offsets[1:], sizes) - 1 - np.arange(len(held.values))
    weight = np.float32(fade) ** back.astype(np.float32)
    owner = np.repeat(np.arange(len(row)), sizes)
    return sp.csr_matrix((weight, (owner, held.values)), shape=(len(row), items))


def raised(scores: np.ndarray, rows: Ragged, row: np.ndarray, by: float) -> np.ndarray:
    """The scores (B, V), of what each row holds already raised."""
    if not by:
        return scores
    held = rows.take(row)
    scores = scores.copy()
    # an item that a row holds twice is raised once
    scores[np.repeat(np.arange(len(row)), np.diff(held.offsets)), held.values] += by
    return scores


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


def _gain(tried: Neighbours | Regression, rows: Ragged, row: np.ndarray, aims: np.ndarray) -> float:
    scores = without_seen(tried.scores(rows, row), rows, row)
    return float(gains(ranks(scores, aims[row])).sum())


def _judged(rows: Ragged, most: int = MOST_JUDGED) -> np.ndarray:
    known = np.flatnonzero(np.diff(rows.offsets) > 0)
    if len(known) <= most:
        return known
    return known[np.linspace(0, len(known) - 1, most).astype(int)]


def _batches(row: np.ndarray, items: int) -> Sequence[np.ndarray]:
    size = max((1 << 23) // max(items, 1), 1)
    return np.split(row, range(size, len(row), size))


def _held_before(rows: Ragged, aims: np.ndarray) -> np.ndarray:
    """(N,) bool: the row holds what followed it."""
    owner = np.repeat(np.arange(len(aims)), np.diff(rows.offsets))
    held = np.zeros(len(aims), dtype=bool)
    held[owner[rows.values == aims[owner]]] = True
    return held
