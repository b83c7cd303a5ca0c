"""Whether those who are most like an audience did, in the days after, what its customers did.

Beside as many neighbours by ranks of recency, frequency and value, and everyone else: among the
customers whom a model knows. A holdout: who is like whom is told by what was known at the cutoff.
"""

# C customers
import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.audiences.aftermath.figures import Setting
from habitue.audiences.aftermath.happened import columns
from habitue.audiences.aftermath.matching import FEWEST, Estimate, Z

_RANKED = ("last_order", "orders", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What some customers did, a customer."""

    name: str                              # seed, lookalikes, rfm_neighbours, others
    customers: int
    ordered: Estimate | None               # the share that ordered
    orders: Estimate | None
    revenue: Estimate | None               # in major units, before refunds


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """A seed, who is like it, who is near it by ranks, and everyone else, in the days after."""

    shop: str
    condition: str
    cutoff: datetime
    days: int
    until: datetime
    currency: str
    version: str                           # whose embeddings tell who is like whom
    groups: tuple[Followed, ...]


def groups(held: Setting, known: pa.Array, seed: pa.Array, alike: pa.Array) -> tuple[Followed, ...]:
    """The four groups among the customers of whom a model knows (`known`)."""
    customers = held.known.table["customer"]
    is_known, is_seed, is_like = (_is_in(customers, one) for one in (known, seed, alike))
    is_rest = is_known & ~is_seed
    near = _nearest(_ranks(held), is_known & is_seed, is_rest, int(is_like.sum()))
    told = {
        "seed": is_known & is_seed, "lookalikes": is_like, "rfm_neighbours": near,
        "others": is_rest,
    }  # fmt: skip
    return tuple(_followed(held, name, flags) for name, flags in told.items())


def _ranks(held: Setting) -> np.ndarray:
    """(C, 3) shares of customers below in recency, frequency and value."""
    told = [np.nan_to_num(one) for one in columns(held.known.table, *_RANKED)]
    return np.stack([np.searchsorted(np.sort(one), one) / max(len(one), 1) for one in told], 1)


def _nearest(
    ranks: np.ndarray, is_seed: np.ndarray, is_wanted: np.ndarray, count: int
) -> np.ndarray:
    """(C,) the wanted whose ranks are nearest to the mean of the seed's."""
    found = np.zeros(len(ranks), bool)
    if is_seed.any():
        away = ((ranks - ranks[is_seed].mean(axis=0)) ** 2).sum(axis=1)
        rest = np.flatnonzero(is_wanted)
        found[rest[np.argsort(away[rest], kind="stable")[:count]]] = True
    return found


def _followed(held: Setting, name: str, flags: np.ndarray) -> Followed:
    is_in = held.done.any_of(flags)
    orders, revenue = (one[is_in] for one in columns(held.done.table, "orders", "revenue"))
    return Followed(
        name=name,
        customers=int(is_in.sum()),
        ordered=_mean((orders > 0).astype(float)),
        orders=_mean(orders),
        revenue=_mean(revenue),
    )


def _mean(values: np.ndarray) -> Estimate | None:
    if not len(values):
        return None
    mean = float(values.mean())
    if len(values) < FEWEST:
        return Estimate(mean)
    half = Z * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def _is_in(customers: pa.ChunkedArray, names: pa.Array) -> np.ndarray:
    return np.asarray(pc.is_in(customers, names).to_numpy(), bool)
