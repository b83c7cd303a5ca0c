"""What the model reads: a batch's arrays as tensors, and the vocabulary they index."""

# B chunks · T events · K queries · L lines · V items · G n-grams
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from habitue.sequences.batch import Batch, sample_queries
from habitue.sequences.build import Sequences, part
from habitue.sequences.snapshots import SHOP_COLUMNS, Snapshots
from habitue.sequences.text import hash_texts
from habitue.sequences.tokens import (
    BIN_EDGES,
    EVENT_COLUMNS,
    LINE_COLUMNS,
    QUERY_COLUMNS,
    make_queries,
)

QUERY_BINS = 12
EDGE_SAMPLE = 20_000
NOTHING = torch.empty(0)                   # stands for answers that are not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Sizes of all that the model indexes, and the content of its items.

    Row 0 of every item tensor stands for an item the model has never seen.
    """

    kinds: tuple[str, ...]
    items: int                             # V
    ngram: Tensor                          # (G,) int64, flat
    ngram_offset: Tensor                   # (V + 1,) int64 where each row begins
    evidence: Tensor                       # (V + 1,) float, orders that held the item
    query_edges: Tensor                    # (A, E) float, quantiles of each query column
    text: Tensor | None = None             # (V + 1, W) float, sentence vectors; none: no encoder
    event_columns: int = len(EVENT_COLUMNS)
    line_columns: int = len(LINE_COLUMNS)
    query_columns: int = len(QUERY_COLUMNS)
    shop_columns: int = len(SHOP_COLUMNS)
    bins: int = len(BIN_EDGES)


def make_vocabulary(
    sequences: Sequences,
    *,
    text_buckets: int,
    query_edges: Tensor,
    kinds: tuple[str, ...] | None = None,
    text: Tensor | None = None,
) -> Vocabulary:
    """The vocabulary of a shop as of the sequences' cutoff.

    `kinds` are those of a trained model; without them, all that the shop has. `text` are the
    sentence vectors of its items, where an encoder reads them.
    """
    grams = hash_texts(sequences.titles, sequences.categories, buckets=text_buckets)
    evidence = np.bincount(
        sequences.sales_item, weights=sequences.sales_orders, minlength=len(sequences.items)
    )
    return Vocabulary(
        kinds=sequences.kinds if kinds is None else kinds,
        items=len(sequences.items),
        ngram=torch.from_numpy(grams.values),
        ngram_offset=torch.from_numpy(np.concatenate([[0], grams.offsets[:-1]])),
        evidence=torch.from_numpy(np.concatenate([[0.0], evidence])).float(),
        query_edges=query_edges,
        text=text,
    )


def query_quantiles(sequences: Sequences, snapshots: Snapshots, *, seed: int) -> Tensor:
    """(A, QUERY_BINS + 1) quantiles of the columns over a sample of training queries."""
    rng = np.random.default_rng(seed)
    customer, time = sample_queries(sequences, 4, rng)
    if len(customer) > EDGE_SAMPLE:
        drawn = rng.choice(len(customer), EDGE_SAMPLE, replace=False)
        customer, time = customer[drawn], time[drawn]
    customers, row = np.unique(customer, return_inverse=True)
    columns = make_queries(part(sequences, customers), snapshots, row, time).columns
    if not len(columns):
        columns = np.zeros((1, len(QUERY_COLUMNS)), np.float32)
    edges = np.quantile(columns, np.linspace(0, 1, QUERY_BINS + 1), axis=0)
    return torch.from_numpy(np.ascontiguousarray(edges.T)).float()


@dataclass(frozen=True, slots=True)
class Inputs:
    """A Batch as tensors, on one device; fields as there. Items are shifted by one."""

    kind: Tensor
    columns: Tensor
    event_days: Tensor
    line_item: Tensor
    line_columns: Tensor
    line_event: Tensor
    query_days: Tensor
    query_columns: Tensor
    shop_columns: Tensor
    asked: Tensor
    log_prior_rate: Tensor
    query_row: Tensor
    log_expected: Tensor
    mean_value: Tensor
    wait_days: Tensor = NOTHING
    ordered: Tensor = NOTHING
    horizon_days: Tensor = NOTHING
    orders: Tensor = NOTHING
    revenue: Tensor = NOTHING
    query_item: Tensor = NOTHING
    query_item_of: Tensor = NOTHING
    next_kind: Tensor = NOTHING
    next_gap_days: Tensor = NOTHING
    followed: Tensor = NOTHING
    next_item: Tensor = NOTHING
    next_item_of: Tensor = NOTHING


def to_inputs(batch: Batch, device: str = "cpu") -> Inputs:
    """Tensors of a batch; times stay float64, other floats become float32."""
    tensors = {}
    for field in fields(batch):
        array = getattr(batch, field.name)
        if array is None:
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.dtype == torch.float64 and not field.name.endswith(("event_days", "query_days")):
            tensor = tensor.float()
        tensors[field.name] = tensor.to(device)
    tensors["line_item"] = tensors["line_item"] + 1
    return Inputs(**tensors)
