"""Where a shop's customers are in the space of embeddings: by key, as links may join customers."""

# K keys · N customers · D width
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from habitue.audiences.lookalike import SET, unit
from habitue.lake.live.told import microseconds
from habitue.lake.query import opened
from habitue.lake.tables import Lake

MOST = 100_000                             # customers with an embedding, of a shop

NOTHING_KEPT = (
    "nothing was kept yet of what a model knows of customers\nhint: `habitue embed --cutoff now`"
)
TOO_MANY = (
    "{held:,} customers have an embedding, and who is similar is kept live among {most:,} at most:"
    " all are compared whenever one enters or leaves the audience\n"
    "hint: ask for it when it is needed: `habitue audience 'in audience \"NAME\"'`"
)

# one row per key: the latest that is known of it
_KEYS = """
SELECT customer AS key, max(anchor) AS anchor,
    arg_max(received, (anchor, received)) AS received,
    arg_max(embedding, (anchor, received)) AS embedding
FROM customer_embeddings WHERE version = ? AND width = ? GROUP BY 1 ORDER BY 1
"""

_COUNT = "SELECT count(DISTINCT customer) FROM customer_embeddings WHERE version = ? AND width = ?"


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What was kept last of the keys of a shop: of one version and one width."""

    version: str
    keys: list[str]                        # (K,) in order
    told: list[tuple[int, int]]            # (K,) anchor and receipt, µs
    vectors: np.ndarray                    # (K, D) float32, of length 1

    @property
    def visible(self) -> int:
        """From when on all of it is known, µs."""
        return max(map(max, self.told))

    @property
    def named(self) -> list[object]:
        """What tells it from others."""
        return [self.version, self.vectors.shape[1], len(self.keys), self.visible]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The customers who have an embedding, in order, and where each of them is."""

    names: list[str]                       # (N,)
    vectors: np.ndarray                    # (N, D)
    rows: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, names: list[str], vectors: np.ndarray) -> "Space":
        """With the place of each name."""
        return cls(names, vectors, {name: row for row, name in enumerate(names)})


def refused(held: int) -> str:
    """Why it cannot be kept live who is similar among so many; an empty text: it can."""
    if held == 0:
        return NOTHING_KEPT
    return TOO_MANY.format(held=held, most=MOST) if held > MOST else ""


def read_places(lake: Lake, shop: str, now: datetime) -> Places | None:
    """Where the keys of a shop are by now; none: nothing was kept."""
    views = {"customer_embeddings"}
    with opened(lake, views, shop=shop, cutoff=now, known_at=now) as (connection, _):
        found = connection.execute(SET).fetchall()
        if not found:
            return None
        version, width = found[0]
        rows = connection.sql(_KEYS, params=[version, width]).to_arrow_table()
    told = [
        (microseconds(anchor), microseconds(received))
        for anchor, received in zip(
            rows["anchor"].to_pylist(), rows["received"].to_pylist(), strict=True
        )
    ]
    return Places(version, rows["key"].to_pylist(), told, unit(rows["embedding"], width))


def count_places(lake: Lake, shop: str, now: datetime) -> int:
    """How many keys of a shop are in the set that was kept last."""
    views = {"customer_embeddings"}
    with opened(lake, views, shop=shop, cutoff=now, known_at=now) as (connection, _):
        found = connection.execute(SET).fetchall()
        if not found:
            return 0
        return int(connection.execute(_COUNT, found[0]).fetchall()[0][0])


def space_of(places: Places, names: Mapping[str, str]) -> Space:
    """The customers of these keys; `names`: of each key that does not name its customer, who does.

    Of keys that are one customer the latest counts, their own name first.
    """
    joined = [row for row, key in enumerate(places.keys) if key in names]
    if not joined:
        return Space.of(places.keys, places.vectors)
    own = {name: row for row, name in enumerate(places.keys) if name not in names}
    best: dict[str, int] = {}
    for row in joined:
        name = names[places.keys[row]]
        held = best.get(name, own.get(name, row))
        best[name] = max(held, row, key=lambda one: _order(places, one, name))
    kept = {**own, **best}
    order = sorted(kept)
    return Space.of(order, places.vectors[[kept[name] for name in order]])


def _order(places: Places, row: int, name: str) -> tuple[int, int, bool, str]:
    key = places.keys[row]
    return (*places.told[row], key == name, key)
