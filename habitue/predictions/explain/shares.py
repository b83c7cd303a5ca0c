"""What each player adds: Shapley values, exact where there is time for all coalitions.

A player's share is what it adds to those who came before it, averaged over all orders of coming
(Shapley 1953). Every order adds up to the whole, so shares add up however few orders were tried.
"""

# N players · K coalitions · R orders of coming
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import factorial

import numpy as np

MOST_EXACT = 12                            # players whose coalitions may all be asked for
MOST_PAIRS = 400                           # of orders and their reverses
Value = Callable[[np.ndarray], np.ndarray]     # (K, N) bool who takes part -> (K,)
Clock = Callable[[], float]                # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How a difference is divided: reference + effects.sum() + unshared = whole."""

    reference: float                       # without any player
    whole: float                           # with all of them
    effects: np.ndarray                    # (N,)
    errors: np.ndarray                     # (N,) standard errors; 0 where exact, NaN where unknown
    coalitions: int                        # that were asked for
    exact: bool

    @property
    def unshared(self) -> float:
        """What there was no time to divide."""
        return float(self.whole - self.reference - self.effects.sum())


def shares(
    value: Value,
    players: int,
    *,
    budget_seconds: float,
    clock: Clock,
    rng: np.random.Generator,
) -> Shares:
    """Divide value(all) - value(none) among the players, in about `budget_seconds`.

    Nothing is begun that would, by the pace so far, end after the budget; the two ends are always
    asked for, and without time for a single order of coming all shares are zero.
    """
    asked = _Asked(value, players, clock, budget_seconds)
    asked.ask(np.array([0, (1 << players) - 1]))
    added: list[np.ndarray] = []           # (N,) what each player added, order by order
    for order in _orders(players, rng):
        if players <= MOST_EXACT and asked.affords(every := np.arange(1 << players)):
            return _exact(asked, asked.ask(every))
        # the coalitions that grow as one after the other comes
        growing = np.concatenate([[0], np.cumsum(1 << order)])
        if not asked.affords(growing):
            break
        one = np.empty(players)
        one[order] = np.diff(asked.ask(growing))
        added.append(one)
    return _drawn(asked, added)


def _orders(players: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Orders drawn at random, each followed by its reverse, whose error points the other way."""
    for _ in range(MOST_PAIRS):
        order = rng.permutation(players)
        yield order
        yield order[::-1]


class _Asked:
    """What was asked for so far, and how long it took."""

    def __init__(self, value: Value, players: int, clock: Clock, budget_seconds: float) -> None:
        self.value, self.players, self.clock = value, players, clock
        self.deadline = clock() + budget_seconds
        self.known: dict[int, float] = {}
        self.pace = 0.0                    # seconds a coalition, of the latest that were asked for

    def ask(self, coalitions: np.ndarray) -> np.ndarray:
        """(K,) the value of coalitions (K,), bit i of which says that player i takes part."""
        fresh = np.array([one for one in np.unique(coalitions) if int(one) not in self.known])
        if len(fresh):
            begun = self.clock()
            members = (fresh[:, None] >> np.arange(self.players)) & 1 > 0      # (K, N)
            found = self.value(members)
            self.pace = (self.clock() - begun) / len(fresh)
            self.known.update(zip(fresh.tolist(), found.tolist(), strict=True))
        return np.array([self.known[int(one)] for one in coalitions])

    def affords(self, coalitions: np.ndarray) -> bool:
        """Whether there is time for these, by the pace of the latest ones."""
        fresh = sum(int(one) not in self.known for one in coalitions)
        return not fresh or self.clock() + fresh * self.pace <= self.deadline


def _exact(asked: _Asked, values: np.ndarray) -> Shares:
    """From the values of all coalitions (2^N,), each in the place of its number."""
    players = asked.players
    every = np.arange(1 << players)
    size = ((every[:, None] >> np.arange(players)) & 1).sum(axis=1)            # (2^N,)
    weight = np.array(
        [factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)]
    )
    effects = np.empty(players)
    for player in range(players):
        without = every[(every >> player) & 1 == 0]
        steps = values[without | (1 << player)] - values[without]
        effects[player] = (weight[size[without]] * steps).sum()
    return _told(asked, effects, np.zeros(players), exact=True)


def _drawn(asked: _Asked, added: list[np.ndarray]) -> Shares:
    """From what players added in some orders; errors are between pairs of them."""
    players = asked.players
    if not added:
        return _told(asked, np.zeros(players), np.full(players, np.nan), exact=False)
    orders = np.stack(added)                                                   # (R, N)
    pairs = len(orders) // 2
    errors = np.full(players, np.nan)
    if pairs >= 2:
        means = orders[: 2 * pairs].reshape(pairs, 2, players).mean(axis=1)
        errors = means.std(axis=0, ddof=1) / np.sqrt(pairs)
    return _told(asked, orders.mean(axis=0), errors, exact=False)


def _told(asked: _Asked, effects: np.ndarray, errors: np.ndarray, *, exact: bool) -> Shares:
    return Shares(
        reference=asked.known[0],
        whole=asked.known[(1 << asked.players) - 1],
        effects=effects,
        errors=errors,
        coalitions=len(asked.known),
        exact=exact,
    )
