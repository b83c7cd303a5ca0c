"""Rows of varying length, flat: what belongs to owner i stands in offsets[i]:offsets[i + 1]."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Ragged:
    """Values of varying number per row: row i owns values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    def take(self, rows: np.ndarray) -> "Ragged":
        """The given rows, in the given order."""
        places, offsets = members(self.offsets, rows)
        return Ragged(self.values[places], offsets)


def members(offsets: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of what some owners hold, owner by owner, and the owners' offsets among them.

    >>> members(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([2, 3, 4, 0, 1]), array([0, 3, 5]))
    """
    start = offsets[owners]
    sizes = offsets[owners + 1] - start
    held = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(held[-1]) + np.repeat(start - held[:-1], sizes), held


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    """(N + 1,) int64 offsets of N owners that hold so many each."""
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
