"""Whom of those outside the members of an audience were most like, by what was known of them.

Each member is matched with up to `MOST` customers outside who differ by less than `CALIPER`
standard deviations in everything that is compared, nearest first, and who may serve several
members. A member without such a match has none: nothing is extrapolated. The interval of a
difference is that of Abadie and Imbens, Large Sample Properties of Matching Estimators for Average
Treatment Effects, Econometrica 74 (2006), theorem 7, for the members.
"""

# C customers · I members · O outside · F compared
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

CALIPER = 0.25                             # standard deviations
MOST = 5                                   # matches of one member
FEWEST = 30                                # members with a match, for an interval
Z = 1.645                                  # of the 5th and 95th percentile


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 5th and 95th percentile; none where they cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Who was matched with whom."""

    weights: "csr_matrix"                  # (I, O); of a member with matches they add up to one
    twins: np.ndarray                      # (O,) the nearest other one outside; -1: none was sought

    @property
    def found(self) -> np.ndarray:
        """(I,) whether a member has a match."""
        return np.diff(self.weights.indptr) > 0

    @property
    def used(self) -> np.ndarray:
        """(O,) whether somebody outside is a match of anyone."""
        return np.bincount(self.weights.indices, minlength=self.weights.shape[1]) > 0


def match(compared: np.ndarray, alike: np.ndarray, is_in: np.ndarray) -> Matched:
    """Match the members among C customers by (C, F) numbers; `alike` (C,) must be equal."""
    # a fifth of a second, which whoever asks for no comparison need not wait
    from scipy.sparse import csr_matrix
    from scipy.spatial import cKDTree

    inside, outside = np.flatnonzero(is_in), np.flatnonzero(~is_in)
    twins = np.full(len(outside), -1)
    members, matches, shares = [], [], []
    for kind in np.unique(alike[inside]):
        mine = np.flatnonzero(alike[inside] == kind)
        theirs = np.flatnonzero(alike[outside] == kind)
        if not len(theirs):
            continue
        scaled = _scaled(compared, alike == kind)
        points = scaled[outside[theirs]]
        # equal points are common: a tree that splits at the median would not end
        tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
        distance, place = tree.query(
            scaled[inside[mine]], k=MOST, p=np.inf, distance_upper_bound=CALIPER
        )
        near = np.isfinite(distance)                                  # (mine, MOST)
        count = near.sum(axis=1)
        members.append(np.repeat(mine, count))
        matches.append(theirs[place[near]])
        shares.append(np.repeat(1 / np.maximum(count, 1), count))
        used = np.unique(place[near])
        twins[theirs[used]] = _twins(tree, points, used, theirs)
    shape = (len(inside), len(outside))
    flat = [np.concatenate(one) if one else np.array([]) for one in (shares, members, matches)]
    weights = csr_matrix((flat[0], (flat[1].astype(int), flat[2].astype(int))), shape=shape)
    return Matched(weights=weights, twins=twins)


def difference(values: np.ndarray, is_in: np.ndarray) -> Estimate:
    """The mean of (C,) values of members less that of the others, by Welch."""
    inside, outside = values[is_in], values[~is_in]
    found = float(inside.mean() - outside.mean())
    if min(len(inside), len(outside)) < FEWEST:
        return Estimate(found)
    variance = inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)
    return _around(found, float(variance))


def matched_means(
    values: np.ndarray, is_in: np.ndarray, matched: Matched
) -> tuple[float, float, Estimate]:
    """Of members with a match, the mean of (C,) values; of their matches; and the difference."""
    inside, outside, found = values[is_in], values[~is_in], matched.found
    count = int(found.sum())
    mine = inside[found]
    theirs = (matched.weights @ outside)[found]
    gaps = mine - theirs                                              # (found,)
    told = float(gaps.mean())
    if count < FEWEST:
        return float(mine.mean()), float(theirs.mean()), Estimate(told)
    load = np.asarray(matched.weights.sum(axis=0)).ravel()            # (O,)
    own = np.asarray(matched.weights.power(2).sum(axis=0)).ravel()
    has_twin = matched.twins >= 0
    noise = np.zeros(len(outside))
    noise[has_twin] = (outside[has_twin] - outside[matched.twins[has_twin]]) ** 2 / 2
    variance = ((gaps - told) ** 2).sum() + ((load**2 - own) * noise).sum()
    return float(mine.mean()), float(theirs.mean()), _around(told, float(variance / count**2))


def apart(
    compared: np.ndarray, is_in: np.ndarray, matched: Matched
) -> tuple[np.ndarray, np.ndarray]:
    """By how many standard deviations the means of (C, F) lie apart, before and after; (F,) each.

    Before: of members and all others; after: of members with a match and their matches.
    """
    spread = compared.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    inside, outside, found = compared[is_in], compared[~is_in], matched.found
    before = (inside.mean(axis=0) - outside.mean(axis=0)) / spread
    gaps = inside[found] - (matched.weights @ outside)[found]
    after = gaps.mean(axis=0) / spread if found.any() else np.full(len(spread), np.nan)
    return before, after


def _scaled(compared: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """In standard deviations among customers of one kind; what does not vary tells nothing."""
    spread = compared[kind].std(axis=0)
    return np.where(spread > 0, compared / np.where(spread > 0, spread, 1.0), 0.0)


def _twins(
    tree: "cKDTree", points: np.ndarray, used: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
    """The nearest other one of some points, by their number outside; -1 where there is none."""
    if len(points) < 2:
        return np.full(len(used), -1)
    _, place = tree.query(points[used], k=2, p=np.inf)                # (used, 2)
    other = np.where(place[:, 0] == used, place[:, 1], place[:, 0])
    return theirs[other]


def _around(value: float, variance: float) -> Estimate:
    half = Z * float(np.sqrt(max(variance, 0.0)))
    return Estimate(value, value - half, value + half)
