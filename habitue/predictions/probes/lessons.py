"""Past cutoffs, what was known of everyone at each, and what followed it.

Three windows of the horizon close one after the other before the shop's cutoff T: of the instants
up to T - 3H the ways to answer learn, on the window after T - 2H one of them is chosen, and the
window after T - H, which none of them has seen, says how good it is.
"""

# Q queries · N rows (customer, instant) · A aggregates · D width · W instants
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from habitue.predictions.probes.happened import Happened, outcome
from habitue.predictions.probes.language import Target
from habitue.sequences.aggregates import LONG_AGO_DAYS, WINDOW_DAYS, Running, rows_upto
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.snapshots import Snapshots
from habitue.sequences.tokens import QUERY_COLUMNS, queries_of

INSTANTS = 14                              # W at most
LEAST_STEP_DAYS = 7.0                      # between two of them, or the horizon where it is less
LEAST_PAST_DAYS = 60.0                     # before the first of them, or the horizon if less
MOST_ROWS = 40_000                         # N, drawn evenly over the instants
# the rest of the query columns says what day it is, of which a shop has seen too few to learn from
PERSONAL = QUERY_COLUMNS.index("log_shop_age")

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]    # customers (Q,), instants -> (Q, D)


@dataclass(frozen=True, slots=True)
class Windows:
    """The past cutoffs from which a horizon is learnt; µs."""

    instants: np.ndarray                   # (W,) ascending; the last one is `judged`
    chosen: int                            # its window ends at `judged`
    judged: int                            # its window ends at the shop's cutoff
    horizon: int


def windows_before(sequences: Sequences, horizon_days: float) -> Windows | None:
    """The past cutoffs of a horizon; None where the past is too short for three windows."""
    horizon = round(horizon_days * DAY)
    if days_of_past(sequences) < days_needed(horizon_days):
        return None
    least = round(min(LEAST_PAST_DAYS, horizon_days) * DAY)
    judged = sequences.cutoff - horizon
    reach = judged - (int(sequences.time.min()) + least)
    # steps divide the horizon, so that the windows that decide are among them
    most_parts = max(horizon_days // LEAST_STEP_DAYS, 1)
    parts = int(np.clip((INSTANTS - 1) * horizon // reach, 1, most_parts))
    back = np.arange(reach * parts // horizon + 1)
    others = np.setdiff1d(back, [0, parts, 2 * parts])
    even = np.linspace(0, len(others) - 1, min(len(others), INSTANTS - 3)).round().astype(int)
    back = np.union1d([0, parts, 2 * parts], others[even] if len(others) else [])
    instants = judged - back.astype(np.int64)[::-1] * horizon // parts
    return Windows(instants, chosen=judged - horizon, judged=judged, horizon=horizon)


def days_needed(horizon_days: float) -> float:
    """Days of past that a horizon asks for: three windows, and something before them."""
    return 3 * horizon_days + min(LEAST_PAST_DAYS, horizon_days)


def days_of_past(sequences: Sequences) -> float:
    """Days from the shop's first event to its cutoff."""
    if not len(sequences.time):
        return 0.0
    return float((sequences.cutoff - int(sequences.time.min())) / DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What was known of some customers at some instants, and what followed."""

    customer: np.ndarray                   # (N,)
    at: np.ndarray                         # (N,) µs
    aggregates: np.ndarray                 # (N, A) float32
    recent: np.ndarray                     # (N,) what the target asks, of the window before
    embedding: np.ndarray                  # (N, D) float32
    label: np.ndarray                      # (N,) float64; 0 where the window has not closed

    def take(self, rows: np.ndarray) -> "Lessons":
        """Some rows, by a mask or by places."""
        return Lessons(
            customer=self.customer[rows],
            at=self.at[rows],
            aggregates=self.aggregates[rows],
            recent=self.recent[rows],
            embedding=self.embedding[rows],
            label=self.label[rows],
        )

    def upto(self, instant: int) -> "Lessons":
        """The rows of instants up to one (µs)."""
        return self.take(self.at <= instant)

    def of(self, instant: int) -> "Lessons":
        """The rows of one instant (µs)."""
        return self.take(self.at == instant)


class Past:
    """One shop and one target, ready to be asked what was known and what followed."""

    def __init__(
        self, target: Target, sequences: Sequences, snapshots: Snapshots, happened: Happened
    ) -> None:
        self.target = target
        self.sequences = sequences
        self.happened = happened
        # a sum of what was taken back is learnt as an amount, and told as it is
        is_negative = target.aggregation == "sum" and happened.units.sum() < 0
        self.sign = -1.0 if is_negative else 1.0
        self._snapshots = snapshots
        self._running = Running(sequences)

    def known(self, instant: int) -> np.ndarray:
        """(C,) the customers with an event at or before an instant (µs)."""
        customers = np.flatnonzero(np.diff(self.sequences.offsets) > 0)
        first = self.sequences.time[self.sequences.offsets[customers]]
        return customers[first <= instant]

    def draw(self, windows: Windows, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(customer (N,), instant (N,)): everyone known at each past cutoff, or some of them."""
        rng = np.random.default_rng(seed)
        most = MOST_ROWS // len(windows.instants)
        drawn = []
        for instant in windows.instants:
            known = self.known(int(instant))
            if len(known) > most:
                known = np.sort(rng.choice(known, most, replace=False))
            drawn.append(known)
        return np.concatenate(drawn), np.repeat(windows.instants, [len(one) for one in drawn])

    def lessons(self, customer: np.ndarray, at: np.ndarray, embed: Embed) -> Lessons:
        """All that was known of each customer (N,) at each instant (N,), without labels."""
        horizon = round(self.target.horizon_days * DAY)
        return Lessons(
            customer=customer,
            at=at,
            aggregates=self.aggregates(customer, at),
            recent=self._amount(self.happened, customer, at - horizon),
            embedding=embed(customer, at),
            label=np.zeros(len(customer)),
        )

    def labelled(self, lessons: Lessons, known_at: int) -> Lessons:
        """The same rows with what followed, as far as it was known at an instant (µs)."""
        standing = self.happened.standing(known_at)
        label = self._amount(standing, lessons.customer, lessons.at)
        closed = lessons.at + round(self.target.horizon_days * DAY) <= known_at
        return replace(lessons, label=np.where(closed, label, 0.0))

    def _amount(self, happened: Happened, customer: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(N,) what the target asks, never negative: amounts of the rarer sign count as nothing."""
        return np.maximum(outcome(self.target, happened, customer, at) * self.sign, 0.0)

    def aggregates(self, customer: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(N, A) float32: the model's own aggregates, and the target's past, as of each instant."""
        columns = queries_of(self._running, self._snapshots, customer, at).columns[:, :PERSONAL]
        return np.concatenate([columns, self._own_past(customer, at)], axis=1)

    def _own_past(self, customer: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(N, P) float32: when, how often and how much it happened before."""
        happened, columns = self.happened, []
        for days in (*WINDOW_DAYS, LONG_AGO_DAYS):
            times, total = happened.within(customer, at - round(days * DAY), at)
            columns += [np.log1p(times) / 2, np.sign(total) * np.log1p(np.abs(total)) / 4]
        end = rows_upto(happened.offsets, happened.time, customer, at)
        seen = end > happened.offsets[customer]
        days_since = np.full(len(customer), LONG_AGO_DAYS)
        days_since[seen] = (at[seen] - happened.time[end[seen] - 1]) / DAY
        columns.append(np.log1p(np.minimum(days_since, LONG_AGO_DAYS)) / 3)
        return np.stack(columns, axis=1).astype(np.float32)
