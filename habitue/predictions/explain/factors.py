"""What may be left out of a past: some of its events, or the time since its last order.

A factor that holds events is left out by leaving them out; the first order by putting a typical
first order in its place; the silence by moving all events forward until the last order is now.
"""

# C customers · n events
from dataclasses import dataclass

import numpy as np

from habitue.predictions.targets import standing_orders
from habitue.sequences.build import DAY, Sequences

FIRST, LAST, ORDERS, SILENCE, SEASON = "first_order", "last_order", "orders", "silence", "season"
TAKEN_BACK, BROWSING, MESSAGES, OTHER = "taken_back", "browsing", "messages", "other_events"
FEW_ORDERS = 3                             # between the first and the last: each is a factor
AGE_EDGES_DAYS = (90.0, 365.0)             # more are put together by age
_TAKEN_BACK = ("order_refunded", "order_cancelled", "order_updated")
_BROWSING = ("item_viewed", "items_searched", "cart_added", "checkout_started")


@dataclass(frozen=True, slots=True)
class Part:
    """One factor: its kind, and the rows of the customer's events that it holds."""

    kind: str
    rows: np.ndarray                       # (n,) ascending; none for silence and season


def parts_of(sequences: Sequences, customer: int, *, season: bool) -> tuple[Part, ...]:
    """The factors of a customer with an order by the cutoff; every event is in exactly one.

    An order that was cancelled counts as taken back, with what took it back.
    """
    rows = np.arange(sequences.offsets[customer], sequences.offsets[customer + 1])
    names = np.array(sequences.kinds, dtype=object)[sequences.kind[rows]]
    stands = standing(sequences, rows)
    orders = rows[stands]
    assert len(orders), "only customers with an order are predicted"
    other = np.array([_kind_of(name) for name in names], dtype=object)
    silent = sequences.cutoff > int(sequences.time[orders[-1]])
    found = [
        *([Part(SILENCE, rows[:0])] if silent else []),
        Part(FIRST, orders[:1]),
        *([Part(LAST, orders[-1:])] if len(orders) > 1 else []),
        *(Part(ORDERS, held) for held in _between(sequences, orders[1:-1])),
        *(
            Part(kind, rows[~stands & (other == kind)])
            for kind in (TAKEN_BACK, BROWSING, MESSAGES, OTHER)
        ),
        *([Part(SEASON, rows[:0])] if season else []),
    ]
    return tuple(part for part in found if len(part.rows) or part.kind in (SILENCE, SEASON))


def standing(sequences: Sequences, rows: np.ndarray) -> np.ndarray:
    """(n,) bool: which of some events are orders that were not cancelled by the cutoff."""
    return (sequences.kind[rows] == 0) & (sequences.cancelled_at[rows] > sequences.cutoff)


def first_orders(sequences: Sequences) -> np.ndarray:
    """(C,) the row of the first standing order of every customer who has one, latest first."""
    rows = np.flatnonzero(standing_orders(sequences, sequences.cutoff))
    _, first = np.unique(sequences.customer_of_event[rows], return_index=True)
    found = rows[first]
    return found[np.argsort(-sequences.time[found], kind="stable")]


def _kind_of(name: str) -> str:
    if name == "order_placed" or name in _TAKEN_BACK:
        return TAKEN_BACK
    if name in _BROWSING:
        return BROWSING
    return MESSAGES if name.startswith("message_") or name == "unsubscribed" else OTHER


def _between(sequences: Sequences, orders: np.ndarray) -> list[np.ndarray]:
    """The orders between the first and the last, latest first: one by one, or by their age."""
    if len(orders) <= FEW_ORDERS:
        return [orders[i : i + 1] for i in reversed(range(len(orders)))]
    age = np.searchsorted(AGE_EDGES_DAYS, (sequences.cutoff - sequences.time[orders]) / DAY)
    return [held for i in range(len(AGE_EDGES_DAYS) + 1) if len(held := orders[age == i])]
