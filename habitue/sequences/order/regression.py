"""What follows as a linear function of the fading past, solved at once (ridge regression).

Every place of every row is a lesson: the items before it, the latest weighing most, say which item
comes next. Unlike counts of what stood near what, the weights know which of the past items has
told already what another tells (Ning and Karypis 2011, SLIM; Choi et al. 2021, SLIST). The price
is a matrix of items by items, so this is for catalogues of up to MOST_ITEMS.
"""

# N rows · P places with something before and after · V items
import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve

from habitue.sequences.ragged import Ragged

MOST_ITEMS = 20_000                        # three matrices of them, squared, are held: 4.8 GB
FADE, REACH = 0.8, 30                      # what an item back counts; how many back are read
HOLD = 3.0                                 # how strongly weights are held down, per root of lessons


def ridge_weights(rows: Ragged, items: int) -> np.ndarray:
    """(V, V) float32: what each item of the past (a row) says for each item to come (a column).

    Weights are held down by HOLD times the root of how many lessons there are per item. A lesson's
    past has unit length, so that long rows do not speak louder.
    """
    past, following = lessons(rows, items)
    hold = HOLD * np.sqrt(max(past.shape[0] / max(items, 1), 1.0))
    alike = np.asarray((past.T @ past).todense(), dtype=np.float32)        # (V, V)
    alike[np.diag_indices(items)] += np.float32(hold)
    told = np.asarray((past.T @ following).todense(), dtype=np.float32)    # (V, V)
    factor = cho_factor(alike, lower=True, overwrite_a=True, check_finite=False)
    weights: np.ndarray = cho_solve(factor, told, overwrite_b=True, check_finite=False)
    return np.ascontiguousarray(weights)


def lessons(rows: Ragged, items: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """(P, V) the fading past of every place, of unit length, and (P, V) the item after it."""
    count = len(rows.values)
    owner = np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    place = np.arange(count) - rows.offsets[owner]
    last = np.zeros(count, dtype=bool)
    last[rows.offsets[1:][np.diff(rows.offsets) > 0] - 1] = True
    taught = np.flatnonzero(~last)
    number = np.full(count, -1)
    number[taught] = np.arange(len(taught))
    parts = []
    for back in range(REACH):
        held = taught[place[taught] >= back]
        if not len(held):
            break
        weight = np.full(len(held), FADE**back, np.float32)
        parts.append((weight, number[held], rows.values[held - back]))
    weight, lesson, item = (
        (np.concatenate(column) for column in zip(*parts, strict=True))
        if parts
        else (np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    )
    shape = (len(taught), items)
    past = sp.csr_matrix((weight, (lesson, item)), shape=shape)
    length = np.sqrt(np.asarray(past.multiply(past).sum(axis=1))[:, 0])
    past = (sp.diags((1 / np.maximum(length, 1e-9)).astype(np.float32)) @ past).tocsr()
    ones = np.ones(len(taught), np.float32)
    return past, sp.csr_matrix((ones, (np.arange(len(taught)), rows.values[taught + 1])), shape)
