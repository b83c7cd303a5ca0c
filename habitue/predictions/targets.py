"""What is asked of the future, and what became of it.

The horizon is (cutoff, cutoff + H]. An order counts from the instant it was placed until one knows
that it was cancelled; revenue is the value of the orders that count.
"""

# C customers of the shop · Q customers with an order
from dataclasses import dataclass

import numpy as np

from habitue.sequences.build import DAY, Sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What customers did within a horizon; all columns (Q,)."""

    orders: np.ndarray                     # float64
    revenue: np.ndarray                    # float64, major units
    days: np.ndarray                       # to the next order, or the horizon where none came
    observed: np.ndarray                   # bool: an order came within the horizon


def known_customers(sequences: Sequences, cutoff: int) -> np.ndarray:
    """(Q,) indices of the customers with an order by the cutoff (µs), not cancelled by then."""
    counted = standing_orders(sequences, cutoff) & (sequences.time <= cutoff)
    return np.unique(sequences.customer_of_event[counted])


def standing_orders(sequences: Sequences, known_at: int) -> np.ndarray:
    """(E,) bool: an order of which no cancellation was known at that instant (µs)."""
    return sequences.is_order & (sequences.cancelled_at > known_at)


def outcomes(
    sequences: Sequences,
    customers: np.ndarray,
    cutoff: int,
    horizon_days: float,
    known_at: int | None = None,
) -> Outcomes:
    """What `customers` (Q,) did within the horizon, by what is known at `known_at` (µs).

    `known_at` is the end of the sequences unless given; all of the horizon must lie before it.
    """
    known_at = sequences.cutoff if known_at is None else known_at
    end = cutoff + round(horizon_days * DAY)
    assert end <= known_at, "a horizon is judged when it has passed"
    within = (sequences.time > cutoff) & (sequences.time <= end)
    rows = np.flatnonzero(standing_orders(sequences, known_at) & within)
    owner, size = sequences.customer_of_event[rows], len(sequences.customers)
    first = np.full(size, end)
    np.minimum.at(first, owner, sequences.time[rows])
    orders = np.bincount(owner, minlength=size).astype(np.float64)
    revenue = np.bincount(owner, weights=sequences.value[rows], minlength=size)
    return Outcomes(
        orders=orders[customers],
        revenue=revenue[customers],
        days=(first[customers] - cutoff) / DAY,
        observed=orders[customers] > 0,
    )
