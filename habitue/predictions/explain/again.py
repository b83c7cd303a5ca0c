"""A customer scored again without parts of their past, as if those had never been.

Aggregates, the purchase process's expectation and the sequence are all made anew from the events
that are left. What is of the whole shop (snapshots, calibration, level) stays.
"""

# K coalitions, or pasts · N factors
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from habitue.model.backbone import Model
from habitue.model.embed import read
from habitue.predictions.calendar import PERIOD_EDGES, Level, flat_level
from habitue.predictions.explain.factors import (
    FIRST,
    SEASON,
    SILENCE,
    Part,
    first_orders,
    standing,
)
from habitue.predictions.explain.shares import Value
from habitue.predictions.score import Reading, anchors, bend, levelled_rates
from habitue.predictions.scores.answers import Scores
from habitue.sequences.batch import Corpus
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.ragged import members, offsets_of

NEWCOMERS = 201                            # latest first orders, of which the median one is typical
Told = Callable[[Scores], np.ndarray]      # what is explained, of each customer (C,)


@dataclass(frozen=True, slots=True)
class Past:
    """Events of the shop, moved in time: a customer who never was."""

    rows: np.ndarray                       # (n,) of the shop's events
    time: np.ndarray                       # (n,) µs, ascending


class Scorer:
    """A scored shop, ready to score customers who never were."""

    def __init__(
        self, model: Model, corpus: Corpus, scores: Scores, *, newcomer: int | None = None
    ) -> None:
        """`newcomer` is the row of a typical first order, where it is known already."""
        self.model, self.corpus, self.scores = model, corpus, scores
        days = scores.horizons_days[0]
        self.newcomer = self.newcomer_of(days) if newcomer is None else newcomer

    def score(self, pasts: list[Past], level: Level) -> Scores:
        """The scores of some pasts (K,) as of the cutoff, in the way of everyone else's."""
        sequences = peopled(self.corpus.sequences, pasts)
        corpus = Corpus(
            sequences,
            self.corpus.snapshots,
            max_events=self.corpus.max_events,
            kinds=self.model.kinds,
        )
        customer = np.arange(len(pasts))
        anchor = anchors(corpus, customer, sequences.cutoff)
        readings = read(
            self.model,
            corpus,
            customer,
            anchor,
            horizons_days=self.scores.horizons_days,
            order_horizons_days=PERIOD_EDGES[1:],
        )
        reading = Reading(
            customer=customer, anchor=anchor, cutoff=sequences.cutoff, readings=readings
        )
        bent = bend(sequences, reading, self.scores.calibration, self.scores.bent.factors)
        return replace(
            self.scores,
            names=sequences.customers,
            customer=customer,
            anchor=anchor,
            silent_days=(sequences.cutoff - anchor) / DAY,
            log_rate=levelled_rates(bent.log_rate, level),
            readings=readings,
            bent=bent,
            level=level,
        )

    def value_of(self, customer: int, parts: tuple[Part, ...], told: Told) -> Value:
        """What is told of a customer of whose past some factors (K, N) alone are left."""
        in_season = [i for i, part in enumerate(parts) if part.kind == SEASON]
        of_past = [i for i, part in enumerate(parts) if part.kind != SEASON]

        def value(kept: np.ndarray) -> np.ndarray:
            # the season changes no reading of the model: each past is read once
            distinct, row = np.unique(kept[:, of_past], axis=0, return_inverse=True)
            held = tuple(parts[i] for i in of_past)
            scores = self.score(
                [self.past(customer, held, one) for one in distinct], self.scores.level
            )
            if not in_season:
                return told(scores)[row]
            flat = flat_level()
            rates = levelled_rates(scores.bent.log_rate, flat)
            without = replace(scores, log_rate=rates, level=flat)
            return np.where(kept[:, in_season[0]], told(scores)[row], told(without)[row])

        return value

    def past(self, customer: int, parts: tuple[Part, ...], kept: np.ndarray) -> Past:
        """A customer's past of which the factors `kept` (N,) are left."""
        sequences = self.corpus.sequences
        rows = np.arange(sequences.offsets[customer], sequences.offsets[customer + 1])
        time, there = sequences.time[rows], np.ones(len(rows), dtype=bool)
        source = rows.copy()
        silent = any(part.kind == SILENCE and on for part, on in zip(parts, kept, strict=True))
        for part in (part for part, on in zip(parts, kept, strict=True) if not on):
            if part.kind == FIRST:
                source[part.rows - rows[0]] = self.newcomer
            else:
                there[part.rows - rows[0]] = False
        if not silent:
            # the last order is now; what came after it cannot be later
            last = time[standing(sequences, rows)][-1]
            time = np.minimum(time + (sequences.cutoff - last), sequences.cutoff)
        return Past(source[there], time[there])

    def newcomer_of(self, horizon_days: float) -> int:
        """The row of a typical first order: of the latest ones, the median by what it promises.

        Each is scored as the only order of someone who placed it at the cutoff.
        """
        sequences = self.corpus.sequences
        rows = first_orders(sequences)[:NEWCOMERS]
        if not len(rows):
            return -1                      # nobody is predicted: nobody is asked about
        now = np.array([sequences.cutoff])
        pasts = [Past(rows[i : i + 1], now) for i in range(len(rows))]
        chance = self.score(pasts, self.scores.level).order(horizon_days).value
        return int(rows[np.argsort(chance, kind="stable")[(len(rows) - 1) // 2]])


def with_past_of(some: Sequences, shop: Sequences, row: int) -> Sequences:
    """Some customers, and after them one whose only event is an order (a row) of their shop's."""
    one = peopled(shop, [Past(np.array([row]), shop.time[[row]])])
    assert not one.kind.any(), "an order is of the first kind, whatever other kinds there are"
    return replace(
        some,
        customers=np.append(some.customers, one.customers),
        offsets=np.append(some.offsets, some.offsets[-1] + 1),
        time=np.append(some.time, one.time),
        kind=np.append(some.kind, one.kind),
        value=np.append(some.value, one.value),
        cancelled_at=np.append(some.cancelled_at, one.cancelled_at),
        line_offsets=np.append(some.line_offsets, some.line_offsets[-1] + len(one.line_item)),
        line_item=np.append(some.line_item, one.line_item),
        line_quantity=np.append(some.line_quantity, one.line_quantity),
        line_amount=np.append(some.line_amount, one.line_amount),
    )


def peopled(sequences: Sequences, pasts: list[Past]) -> Sequences:
    """The shop with some pasts (K,) for customers; items, kinds, sales and cutoff stay."""
    rows = np.concatenate([past.rows for past in pasts])
    lines, line_offsets = members(sequences.line_offsets, rows)
    return replace(
        sequences,
        customers=np.array([f"{number:09d}" for number in range(len(pasts))], dtype=object),
        offsets=offsets_of(np.array([len(past.rows) for past in pasts])),
        time=np.concatenate([past.time for past in pasts]),
        kind=sequences.kind[rows],
        value=sequences.value[rows],
        cancelled_at=sequences.cancelled_at[rows],
        line_offsets=line_offsets,
        line_item=sequences.line_item[lines],
        line_quantity=sequences.line_quantity[lines],
        line_amount=sequences.line_amount[lines],
    )
