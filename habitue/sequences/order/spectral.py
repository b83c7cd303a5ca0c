"""Where items begin: near those they are found beside.

Item vectors learnt from nothing take tens of passes to learn what counting says at once. The
leading directions of the counts of what stands near what are a start from which a few passes are
enough; they make the most of sequences too few for any other start.
"""

# V items · D width
import numpy as np
import scipy.sparse as sp

from habitue.sequences.ragged import Ragged

REACH = 20                                 # places apart that still count
FADE = 0.9                                 # what a place further counts beside the one before it
SPARE, ITERATIONS = 16, 8                  # directions beside those asked for; rounds


def near_counts(rows: Ragged, items: int, *, reach: int, fade: float, back: float) -> sp.csr_matrix:
    """(V, V) how often a column's item came after a row's, each weighing fade ** (places - 1).

    What came before counts `back` of that.
    """
    item, owner = rows.values, np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))
    counts = sp.csr_matrix((items, items), dtype=np.float32)
    for apart in range(1, reach + 1):
        same = owner[apart:] == owner[:-apart]
        if not same.any():
            break
        pairs = (item[:-apart][same], item[apart:][same])
        weight = np.full(len(pairs[0]), fade ** (apart - 1), np.float32)
        counts = counts + sp.csr_matrix((weight, pairs), shape=counts.shape)
    return (counts + back * counts.T).tocsr()


def spectral_vectors(rows: Ragged, items: int, width: int, *, seed: int) -> np.ndarray:
    """(V, D) float32 of unit variance: the leading directions of the normalised counts.

    Counts are divided by the roots of both items' sums, as in spectral clustering (Ng et al.
    2001); a direction is weighed by the root of its eigenvalue's size. Directions are found by
    iterating a random subspace (Halko et al. 2011), which does not mind that many are alike.
    Columns past the rank are 0.
    """
    counts = near_counts(rows, items, reach=REACH, fade=FADE, back=1.0) + sp.eye(items)
    scale = sp.diags((np.asarray(counts.sum(axis=1))[:, 0] + 1.0) ** -0.5)
    normal = (scale @ counts @ scale).tocsr()
    space = np.random.default_rng(seed).normal(size=(items, min(width + SPARE, items)))
    for _ in range(ITERATIONS):
        space, _ = np.linalg.qr(normal @ space)
    size, turn = np.linalg.eigh(space.T @ (normal @ space))
    leading = np.argsort(-np.abs(size), kind="stable")[:width]
    found = space @ turn[:, leading]                                       # (V, min(D, V))
    # a sign of its own is as good as another: fixed, so that equal counts start equal
    found = found * np.sign(found[np.abs(found).argmax(axis=0), np.arange(len(leading))])
    vectors = np.zeros((items, width), np.float32)
    vectors[:, : len(leading)] = found * np.sqrt(np.abs(size[leading]))
    return vectors / max(float(vectors.std()), 1e-12)
