"""How much a shop's own past can carry: `full`, `transfer` or `insufficient`, and what is missing.

The thresholds of `full` are those below which Klaviyo predicts nothing (research/product.md,
section 1); below them the answers rest on what holds for most shops.
"""

from dataclasses import dataclass

import numpy as np

from habitue.predictions.learn import LEAST_ORDERS
from habitue.sequences.build import DAY, Sequences

FULL, TRANSFER, INSUFFICIENT = "full", "transfer", "insufficient"
FULL_CUSTOMERS, FULL_DAYS, FULL_QUIET_DAYS, FULL_ORDERS = 500, 180, 30, 3
UNTRAINED = "a training on this shop (`habitue train`)"


@dataclass(frozen=True, slots=True)
class Standing:
    """A status, and what is missing for a better one, apart by `; `; none where nothing is."""

    status: str
    missing: str | None = None


def standing_of(sequences: Sequences, *, own: bool) -> Standing:
    """Where a shop stands at its cutoff; `own` says that the weights were trained on it."""
    placed = sequences.is_order
    count = int(placed.sum())
    if count < LEAST_ORDERS:
        return Standing(INSUFFICIENT, f"{LEAST_ORDERS} orders in all, and there are {count}")
    missing = [] if own else [UNTRAINED]
    each = np.bincount(sequences.customer_of_event[placed])
    customers = int((each > 0).sum())
    days = (sequences.cutoff - int(sequences.time[placed].min())) / DAY
    quiet = (sequences.cutoff - int(sequences.time[placed].max())) / DAY
    if customers < FULL_CUSTOMERS:
        missing.append(f"{FULL_CUSTOMERS} customers with an order, and there are {customers}")
    if days < FULL_DAYS:
        missing.append(f"{FULL_DAYS} days of past, and there are {days:.0f}")
    if quiet > FULL_QUIET_DAYS:
        last = f"the last is {quiet:.0f} days ago"
        missing.append(f"an order within {FULL_QUIET_DAYS} days, and {last}")
    if each.max() < FULL_ORDERS:
        most = f"the most anyone has is {each.max()}"
        missing.append(f"someone with {FULL_ORDERS} orders, and {most}")
    return Standing(TRANSFER, "; ".join(missing)) if missing else Standing(FULL)
