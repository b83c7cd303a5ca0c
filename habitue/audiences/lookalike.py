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

BLOCK = 512                                # customers compared at a time: they stay in the cache

# one row: the version and width that were kept last
SET = """
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
        found = connection.execute(SET).fetchall()
        if not found:
            return None
        version, width = found[0]
        rows = connection.sql(_EMBEDDED, params=[version, width]).to_arrow_table()
    return Space(version, rows["customer"].combine_chunks(), unit(rows["embedding"], width))


def unit(embeddings: pa.ChunkedArray, width: int) -> np.ndarray:
    """(N, D) float32 of length 1, of embeddings as they are kept."""
    raw = b"".join(embeddings.to_pylist())
    vectors = np.frombuffer(raw, "<f2").reshape(-1, width).astype(np.float32)    # (N, D)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)                      # (N, 1)
    vectors /= np.where(length == 0, 1, length)
    return vectors


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
    """The customers who are nearest to a seed, as many as the condition says.

    To a seed of whom nobody has an embedding nobody is similar.
    """
    is_near = are_similar(condition, _is_in(found.customers, seed), found.vectors)
    told: list[str] = found.customers.filter(pa.array(is_near)).to_pylist()
    return told


def are_similar(condition: Similar, is_seed: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(N,) whether each customer is among the nearest to a seed, as many as the condition says.

    Of equally near ones at the end the first come in. What is kept live is told by it, too.
    """
    is_near = np.zeros(len(is_seed), bool)
    rows = np.flatnonzero(~is_seed)
    count = condition.top
    if condition.of == "percent":
        count = -(-len(rows) * condition.top // 100)
    if len(rows) == len(is_seed) or count >= len(rows):
        is_near[rows] = len(rows) < len(is_seed)       # all of them, or nobody
        return is_near
    near = nearness(vectors, is_seed)[rows]
    last = np.partition(near, len(near) - count)[len(near) - count]
    above = near > last
    equal = np.flatnonzero(near == last)[: count - int(above.sum())]
    is_near[rows[above]] = is_near[rows[equal]] = True
    return is_near


def nearness(vectors: np.ndarray, is_seed: np.ndarray) -> np.ndarray:
    """(N,) the mean cosine of each customer with those of a seed, in float64.

    Each is worked out by itself, so that it is the same number wherever a customer stands.
    """
    middle = vectors[is_seed].mean(axis=0, dtype=np.float64)                     # (D,)
    return np.concatenate(
        [
            np.vecdot(vectors[start : start + BLOCK].astype(np.float64), middle)
            for start in range(0, len(vectors), BLOCK)
        ]
    )


def nearest(
    found: Space, is_seed: np.ndarray, is_wanted: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) rows of the wanted who are nearest to a seed, and how near they are, nearest first.

    Near is the mean cosine with the customers of the seed, in float64; of equal ones the first
    name comes first.
    """
    near = nearness(found.vectors, is_seed)                                      # (N,)
    rows = np.flatnonzero(is_wanted)
    order = rows[np.argsort(-near[rows], kind="stable")[:count]]
    return order, near[order]


def _is_in(customers: pa.Array, names: Collection[str]) -> np.ndarray:
    told = pc.is_in(customers, pa.array(list(names), pa.string()))
    return np.asarray(told.to_numpy(zero_copy_only=False), bool)
