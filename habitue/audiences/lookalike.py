"""Who is like an audience: the customers nearest to it in the space of embeddings.

Embeddings are those that `habitue embed` kept last by the cutoff: of one version and one
width, each customer's latest. Who is in the audience is not like it; who has no embedding neither.
"""

# N customers · S of the seed · D width
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.audiences.language.nodes import Similar
from habitue.errors import BadAudience
from habitue.lake.query import opened
from habitue.lake.tables import Lake

BLOCK = 65_536                             # customers compared at a time

# one row: the version and width that were kept last
_SET = """
SELECT version, width FROM customer_embeddings
GROUP BY version, width ORDER BY max(received) DESC, width DESC, version LIMIT 1
"""

# one row per customer; of keys that are one by now, the latest, and their own name first
_EMBEDDED = """
SELECT customer_of(customer) AS customer,
    arg_max(embedding, (anchor, received, customer = customer_of(customer), customer)) AS embedding
FROM customer_embeddings WHERE version = ? AND width = ? GROUP BY 1 ORDER BY 1
"""


NOTHING_KEPT = (
    "by this cutoff nothing was kept of what a model knows of customers\n"
    "hint: `habitue embed --cutoff TIME` first"
)


@dataclass(frozen=True, slots=True)
class Space:
    """The customers who have an embedding, in order, and where each of them is."""

    version: str
    customers: pa.Array                    # (N,)
    vectors: np.ndarray                    # (N, D) float32, of length 1


def space(
    lake: Lake, shop: str, *, cutoff: datetime, known_at: datetime | None = None
) -> Space | None:
    """Where a shop's customers were by a cutoff; none: no embeddings were kept by then."""
    views = {"customer_embeddings"}
    with opened(lake, views, shop=shop, cutoff=cutoff, known_at=known_at) as (connection, _):
        found = connection.execute(_SET).fetchall()
        if not found:
            return None
        version, width = found[0]
        rows = connection.sql(_EMBEDDED, params=[version, width]).to_arrow_table()
    raw = b"".join(rows["embedding"].to_pylist())
    vectors = np.frombuffer(raw, "<f2").reshape(-1, width).astype(np.float32)    # (N, D)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)                      # (N, 1)
    vectors /= np.where(length == 0, 1, length)
    return Space(version, rows["customer"].combine_chunks(), vectors)


def table(
    found: Space,
    seed: Collection[str],
    size: int,
    *,
    excluded: Collection[str] = (),
    allowed: Collection[str] | None = None,
) -> pa.Table:
    """The customers nearest to a seed: customer, similarity, version, nearest first.

    Nobody of the seed or of `excluded` is among them, and nobody outside `allowed`, where that is
    told.

    Raises:
        BadAudience: nobody of the seed has an embedding.
    """
    is_seed = _is_in(found.customers, seed)                                      # (N,)
    if not is_seed.any():
        raise BadAudience("nobody of the seed has an embedding\nhint: a wider condition")
    is_wanted = ~is_seed & ~_is_in(found.customers, excluded)
    if allowed is not None:
        is_wanted &= _is_in(found.customers, allowed)
    order, near = nearest(found, is_seed, is_wanted, size)
    return pa.table(
        {
            "customer": found.customers.take(pa.array(order)),
            "similarity": pa.array(near, pa.float64()),
            "version": pa.repeat(found.version, len(order)),
        }
    )


def similar(condition: Similar, seed: Collection[str], found: Space) -> list[str]:
    """The customers who are nearest to a seed, nearest first; as many as the condition says.

    Raises:
        BadAudience: nobody of the seed has an embedding.
    """
    is_seed = _is_in(found.customers, seed)                                      # (N,)
    if not is_seed.any():
        raise BadAudience(
            f'nobody in audience "{condition.audience}" has an embedding\n'
            "hint: ask of one with customers of whom `habitue embed` knows"
        )
    count = condition.top
    if condition.of == "percent":
        count = -(-int((~is_seed).sum()) * condition.top // 100)
    order, _ = nearest(found, is_seed, ~is_seed, count)
    told: list[str] = found.customers.take(pa.array(order)).to_pylist()
    return told


def nearest(
    found: Space, is_seed: np.ndarray, is_wanted: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) rows of the wanted who are nearest to a seed, and how near they are, nearest first.

    Near is the mean cosine with the customers of the seed, in float64; of equal ones the first
    name comes first.
    """
    middle = found.vectors[is_seed].mean(axis=0, dtype=np.float64)               # (D,)
    near = np.concatenate(
        [
            found.vectors[start : start + BLOCK].astype(np.float64) @ middle
            for start in range(0, len(found.vectors), BLOCK)
        ]
    )                                                                            # (N,)
    rows = np.flatnonzero(is_wanted)
    order = rows[np.argsort(-near[rows], kind="stable")[:count]]
    return order, near[order]


def _is_in(customers: pa.Array, names: Collection[str]) -> np.ndarray:
    told = pc.is_in(customers, pa.array(list(names), pa.string()))
    return np.asarray(told.to_numpy(zero_copy_only=False), bool)
