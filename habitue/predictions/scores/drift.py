"""What kept scores say at many instants at once, and between which instants they only rise or fall.

Silence moves a chance in closed form: what is gathered in the horizon ahead is linear in time until
one end of the horizon comes into another bin of the hazard. So whoever looks for the instant at
which a prediction crosses a number need look at the ends of these pieces, and inside one piece.
"""

# C customers · K pieces · B hazard bins
from collections.abc import Sequence

import msgspec
import numpy as np

from habitue.predictions.curves import gathered_by_edge
from habitue.predictions.scores.kept import Whole, scores_of_rows
from habitue.sequences.build import DAY
from habitue.sequences.tokens import BIN_EDGES

MAX_HORIZON_DAYS = 730.0                   # beyond it nothing is said of a chance or of a date
_OF_ANY_HORIZON = ("order", "churn")       # the others at the horizons that were read
_HALF = float(np.log(2.0))                 # gathered hazard at which an order is as likely as not


class Drift:
    """One scoring of a whole shop: what its customers' rows say at any later instant."""

    def __init__(self, whole: Whole) -> None:
        self.whole = whole

    def answers(self, question: str, horizon_days: float) -> bool:
        """Whether a question can be asked at a horizon."""
        if question == "next_order":
            return True
        if question in _OF_ANY_HORIZON:
            return 0 < horizon_days <= MAX_HORIZON_DAYS
        return any(abs(horizon_days - one) < 1e-6 for one in self.whole.horizons_days)

    def values(
        self,
        asked: tuple[str, float],
        anchors: np.ndarray,               # (C,) int64 µs
        rows: Sequence[bytes],             # (C,)
        times: np.ndarray,                 # (C,) int64 µs, not before the anchors
    ) -> np.ndarray:
        """(C,) float64, each customer's value at an instant of their own; NaN where none is told.

        Of `next_order` it is the days to its median.
        """
        question, horizon_days = asked
        if not self.answers(question, horizon_days):
            return np.full(len(rows), np.nan)
        names = [""] * len(rows)
        told = scores_of_rows(self.whole, names, anchors, rows, time=times)
        found = told.value(question, float(horizon_days))
        return np.where(found > MAX_HORIZON_DAYS, np.nan, found) if question == "next_order" else (
            found
        )

    def turns(
        self, asked: tuple[str, float], anchors: np.ndarray, rows: Sequence[bytes]
    ) -> np.ndarray:
        """(C, K) int64 µs: between two of them, in order, a value only rises or falls."""
        question, horizon_days = asked
        if question == "orders":           # they hold from anchor to anchor
            return np.empty((len(rows), 0), np.int64)
        if question == "next_order":
            days = np.concatenate([self._dated(anchors, rows), _edges(len(rows))], axis=1)
        else:
            days = np.concatenate([_edges(len(rows)), _edges(len(rows)) - horizon_days], axis=1)
        turns = anchors[:, None] + np.rint(days * DAY).astype(np.int64)
        return np.sort(turns, axis=1)

    def _dated(self, anchors: np.ndarray, rows: Sequence[bytes]) -> np.ndarray:
        """(C, B) days after the anchor at which the date of the next order comes to an edge."""
        curves = scores_of_rows(self.whole, [""] * len(rows), anchors, rows, time=anchors)
        gathered = gathered_by_edge(curves.log_rate)
        edges, start = np.concatenate([[0.0], BIN_EDGES]), np.zeros((len(rows), 1))
        known = np.concatenate([start, gathered], axis=1)                  # (C, B + 1)
        return np.stack(
            [np.interp(by - _HALF, held, edges) for by, held in zip(gathered, known, strict=True)]
        )


def opened(told: bytes) -> Drift:
    """What a whole shop's scores were kept as, ready to be asked."""
    return Drift(msgspec.json.decode(told, type=Whole))


def _edges(count: int) -> np.ndarray:
    """(C, B) days."""
    return np.broadcast_to(BIN_EDGES, (count, len(BIN_EDGES)))
