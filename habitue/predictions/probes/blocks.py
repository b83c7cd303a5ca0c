"""The table of embeddings: what is known, in blocks of length one, brought to a width.

Blocks are what the model thinks (a customer's query state, an item's vector), what it would offer
(the mean of the item vectors by how likely each comes next), and the aggregates: as normal scores
of their quantiles, and which of 16 quantile bins each falls in. Narrower widths are principal
components of all blocks together, fitted on the past of the version's cutoff; where a width has
room for more than the blocks, random cosines of them follow (Rahimi & Recht, 2007), which a linear
probe can use as a kernel.
"""

# Q rows · A aggregates · D width of the model · R width of the blocks · W width of the table
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from habitue.sequences.build import DAY, Sequences

WIDTHS = (64, 256, 2048)
BINS = 16                                  # of one aggregate
EDGES = 65                                 # quantiles by which aggregates are ranked
NEAR = 1.5                                 # distance within which the random cosines see likeness
SALES_DAYS = (28, 90, 365)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of some customers or items, before it is brought to a width."""

    dense: tuple[np.ndarray, ...]          # (Q, D) each
    aggregates: np.ndarray                 # (Q, A)


@dataclass(frozen=True, slots=True)
class Basis:
    """How blocks are brought to one width; made once for a version and a shop."""

    quantiles: np.ndarray                  # (A, EDGES) of each aggregate
    mean: np.ndarray                       # (R,) of the blocks; none where no component is taken
    components: np.ndarray                 # (R, W) float32
    waves: np.ndarray                      # (D + … + A, W - R) float32; none where there is no room
    phases: np.ndarray                     # (W - R,)

    def embed(self, known: Known) -> np.ndarray:
        """(Q, W) float16."""
        ranks = _ranks(known.aggregates, self.quantiles)
        dense = _dense(known, ranks)
        blocks = np.concatenate([dense, _bins(ranks)], axis=1)
        if self.components.size:
            return ((blocks - self.mean) @ self.components).astype(np.float16)
        cosines = np.cos(dense @ self.waves + self.phases) * np.sqrt(2 / max(len(self.phases), 1))
        return np.concatenate([blocks, cosines], axis=1).astype(np.float16)

    def save(self, path: Path) -> None:
        """Write it into a file."""
        with path.open("wb") as file:
            np.savez(file, **{one.name: getattr(self, one.name) for one in fields(self)})


def load(path: Path) -> Basis:
    """The basis of a file."""
    with np.load(path) as held:
        return Basis(**{one.name: held[one.name] for one in fields(Basis)})


def fit_basis(known: Known, width: int, seed: int) -> Basis:
    """The basis of a width that keeps most of what tells these rows apart."""
    if not len(known.aggregates):          # nothing to tell apart
        known = Known(
            tuple(np.zeros((1, block.shape[1])) for block in known.dense),
            np.zeros((1, known.aggregates.shape[1])),
        )
    quantiles = np.quantile(known.aggregates, np.linspace(0, 1, EDGES), axis=0).T
    ranks = _ranks(known.aggregates, quantiles)
    dense = _dense(known, ranks)
    blocks = np.concatenate([dense, _bins(ranks)], axis=1)
    none = np.zeros(0, np.float32)
    if blocks.shape[1] < width:
        rng = np.random.default_rng(seed)
        room = width - blocks.shape[1]
        waves = rng.normal(0, 1 / NEAR, (dense.shape[1], room)).astype(np.float32)
        phases = rng.uniform(0, 2 * np.pi, room).astype(np.float32)
        return Basis(quantiles, none, none, waves, phases)
    mean = blocks.mean(axis=0)
    centred = (blocks - mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, :width]
    # a direction and its opposite are the same one: its largest part is positive
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(width)])
    return Basis(quantiles, mean, components.astype(np.float32), none, none)


def item_aggregates(sequences: Sequences) -> np.ndarray:
    """(V, A) what is known of each item at the cutoff: sales, age, price, who buys it and again."""
    count, last_day = len(sequences.items), sequences.cutoff // DAY
    columns = []
    for days in (*SALES_DAYS, last_day + 1):
        recent = sequences.sales_day > last_day - days
        sold = np.bincount(
            sequences.sales_item[recent],
            weights=sequences.sales_orders[recent],
            minlength=count,
        )
        columns.append(np.log1p(sold))
    first, last = np.full(count, last_day), np.zeros(count)
    np.minimum.at(first, sequences.sales_item, sequences.sales_day)
    np.maximum.at(last, sequences.sales_item, sequences.sales_day)
    event = np.repeat(np.arange(len(sequences.time)), np.diff(sequences.line_offsets))
    ordered = sequences.is_order[event]
    item, event = sequences.line_item[ordered], event[ordered]
    pairs, times = np.unique(
        sequences.customer_of_event[event].astype(np.int64) * max(count, 1) + item,
        return_counts=True,
    )
    buyers = np.bincount(pairs % max(count, 1), minlength=count)
    again = np.bincount((pairs % max(count, 1))[times > 1], minlength=count)
    quantity = np.bincount(item, weights=sequences.line_quantity[ordered], minlength=count)
    amount = np.bincount(item, weights=sequences.line_amount[ordered], minlength=count)
    lines = np.bincount(item, minlength=count)
    columns += [
        np.log1p(last_day - first),
        np.log1p(last_day - last),
        np.log1p(buyers),
        again / np.maximum(buyers, 1),
        np.log1p(np.maximum(quantity, 0) / np.maximum(lines, 1)),
        np.log1p(np.maximum(amount, 0) / np.maximum(quantity, 1)),
    ]
    return np.stack(columns, axis=1)


def sold_by(sequences: Sequences, instant: int) -> np.ndarray:
    """(V,) bool: somebody had ordered the item before the day of an instant (µs)."""
    sold = np.zeros(len(sequences.items), dtype=bool)
    sold[sequences.sales_item[sequences.sales_day < instant // DAY]] = True
    return sold


def _ranks(aggregates: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """(Q, A) in [0, 1]: the share of what was seen that each aggregate is above."""
    ranks = [
        (np.searchsorted(edges, column, side="left") + np.searchsorted(edges, column, side="right"))
        / (2 * len(edges))
        for edges, column in zip(quantiles, aggregates.T, strict=True)
    ]
    return np.stack(ranks, axis=1) if ranks else np.zeros(aggregates.shape)


def _dense(known: Known, ranks: np.ndarray) -> np.ndarray:
    """(Q, D + … + A) float32 the blocks but the bins, each of length one."""
    scores = ndtri(np.clip(ranks, 0.01, 0.99))
    return np.concatenate([_unit(block) for block in (*known.dense, scores)], axis=1)


def _bins(ranks: np.ndarray) -> np.ndarray:
    """(Q, A * BINS) float32 the bin of each aggregate, of length one."""
    place = np.minimum((ranks * BINS).astype(np.int64), BINS - 1)
    hot = place[:, :, None] == np.arange(BINS)                             # (Q, A, BINS)
    return _unit(hot.reshape(len(ranks), ranks.shape[1] * BINS))


def _unit(block: np.ndarray) -> np.ndarray:
    """Rows of length one, float32; a row of nothing stays nothing."""
    length = np.sqrt(np.square(block.astype(np.float64)).sum(axis=1, keepdims=True))
    return (block / np.where(length > 0, length, 1.0)).astype(np.float32)
