"""From hazards to probabilities and dates: the one function that everything shares.

A curve is a row of log hazards per day over the bins of BIN_EDGES, counted from its anchor. Between
anchors silence moves the answer in closed form: P(order in (t, t + H]) = 1 - S(t + H) / S(t).
"""

# Q curves · B hazard bins
import numpy as np

from habitue.sequences.tokens import BIN_EDGES

FAR_DAYS = 20_000.0                        # stands for "not in a lifetime"
_LEFT = np.concatenate([[0.0], BIN_EDGES[:-1]])
_WIDTH = np.diff(BIN_EDGES, prepend=0.0)
_ROOM = np.append(_WIDTH[:-1], np.inf)     # the last bin has no end


def cumulative_hazard(log_rate: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(Q,) float64 hazard gathered from the anchor to `days` (Q,) after it."""
    rate = np.exp(log_rate.astype(np.float64))
    spent = np.clip(np.asarray(days, dtype=np.float64)[:, None] - _LEFT, 0.0, _ROOM)
    return (rate * spent).sum(axis=1)


def probability_of_order(
    log_rate: np.ndarray, silent_days: np.ndarray, horizon_days: float | np.ndarray
) -> np.ndarray:
    """(Q,) P(at least one order in the horizon), after `silent_days` since the anchor."""
    silent = np.asarray(silent_days, dtype=np.float64)
    gathered = cumulative_hazard(log_rate, silent + horizon_days)
    return -np.expm1(cumulative_hazard(log_rate, silent) - gathered)


def gathered_by_edge(log_rate: np.ndarray) -> np.ndarray:
    """(Q, B) float64 hazard gathered from the anchor to each of BIN_EDGES."""
    return np.cumsum(np.exp(log_rate.astype(np.float64)) * _WIDTH, axis=1)


def log_rates(gathered: np.ndarray) -> np.ndarray:
    """(Q, B) float32 log hazards under which so much is gathered by each of BIN_EDGES."""
    steps = np.diff(gathered, axis=1, prepend=0.0)
    return np.log(np.maximum(steps / _WIDTH, 1e-12)).astype(np.float32)


def meet_buyers(steps: np.ndarray, buyers: np.ndarray, most: float) -> np.ndarray:
    """(P,) factors on hazard steps (Q, P) that make the expected buyers by each edge meet.

    `buyers` (P,) by the end of each step; the log of a factor stays within `most`.
    """
    gathered = np.zeros(len(steps))
    factors = np.ones(len(buyers))
    for i, (step, wanted) in enumerate(zip(steps.T, buyers, strict=True)):
        low, high = -most, most
        for _ in range(40):
            middle = (low + high) / 2
            reached = -np.expm1(-(gathered + step * np.exp(middle))).sum()
            low, high = (middle, high) if reached < wanted else (low, middle)
        factors[i] = np.exp(high)
        gathered = gathered + step * factors[i]
    return factors


def days_until(
    log_rate: np.ndarray, silent_days: np.ndarray, probability: np.ndarray
) -> np.ndarray:
    """(Q,) days from now until P(order) reaches `probability` (Q,); at most FAR_DAYS."""
    rate = np.exp(log_rate.astype(np.float64))
    silent = np.asarray(silent_days, dtype=np.float64)
    target = cumulative_hazard(log_rate, silent) - np.log1p(-np.clip(probability, 0, 1 - 1e-12))
    at_edge = np.cumsum(rate[:, :-1] * _WIDTH[:-1], axis=1)                # (Q, B - 1)
    bin_ = (at_edge < target[:, None]).sum(axis=1)                         # (Q,)
    rows = np.arange(len(rate))
    before = np.where(bin_ > 0, at_edge[rows, np.maximum(bin_ - 1, 0)], 0.0)
    days = _LEFT[bin_] + (target - before) / np.maximum(rate[rows, bin_], 1e-300)
    return np.clip(days - silent, 0.0, FAR_DAYS)
