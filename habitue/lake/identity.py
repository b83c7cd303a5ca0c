"""Whose key is whose: links between keys in, the customer of every key out.

`resolve` is a function of its rows alone: the order in which they arrived, and what was asked
before, change nothing. Whoever wants the answer as of an instant gives it the links up to then,
which is what the view `links` holds.
"""

# N links · K keys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.lake.keys import STRENGTH, kind_of, profile_id

TWO_EXTERNALS = "two_external_ids"         # both sides hold an external id, and not the same one
PUBLIC = "public_key"                      # said with a public key, of two customers who are known

IDENTITIES = pa.schema([("key", pa.string()), ("customer", pa.string())])

CONFLICTS = pa.schema(
    [
        ("key", pa.string()),
        ("other", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("source", pa.string()),
        ("cause", pa.string()),
        ("why", pa.string()),
        ("customer", pa.string()),                     # of `key`
        ("other_customer", pa.string()),
    ]
)

_PROFILE = STRENGTH["profile"]
_ANONYMOUS = STRENGTH["anonymous"]
_UNSEEN = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain that leads from a key to its customer's name."""

    key: str
    other: str
    time: datetime | None                  # None where nothing was said: a profile id is its key's
    source: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The customers that links make of keys."""

    links: pa.Table                        # (N,) in the order in which they count
    keys: pa.Array                         # (K,) every key that a link names, each once
    names: np.ndarray                      # (K,) int64: which key names this one's customer
    meant: np.ndarray                      # (K,) int64: the key itself; of a profile id, its key
    joined: np.ndarray                     # rows of `links` that made two customers one
    refused: np.ndarray                    # rows of `links` that two customers contradict
    why: tuple[str, ...]                   # of each refused

    def identities(self) -> pa.Table:
        """Columns key, customer: one row per key that is not its customer's name."""
        other = np.flatnonzero(self.names != np.arange(len(self.names)))
        columns = [self.keys.take(pa.array(rows)) for rows in (other, self.names[other])]
        return pa.table(columns, schema=IDENTITIES)

    def conflicts(self) -> pa.Table:
        """One row per pair of keys that was linked and is still two customers."""
        rows = self.links.take(pa.array(self.refused))
        customers = [self._customers(rows[side]) for side in ("key", "other")]
        columns = [
            rows["key"], rows["other"], rows["time"], rows["source"], rows["cause"],
            pa.array(self.why, pa.string()), *customers,
        ]
        return pa.table(columns, schema=CONFLICTS).filter(pc.not_equal(*customers))

    def customer_of(self, key: str) -> str:
        """The name of the customer whom a key belongs to; a key without links is its own."""
        place = self._place(key)
        return key if place is None else str(self.keys[int(self.names[place])])

    def keys_of(self, key: str) -> list[str]:
        """Every key of the customer whom a key belongs to, the name first."""
        place = self._place(key)
        if place is None:
            return [key]
        name = self.names[place]
        held = [str(self.keys[int(one)]) for one in np.flatnonzero(self.names == name)]
        return sorted(held, key=lambda one: (one != str(self.keys[int(name)]), _order(one)))

    def explain(self, key: str) -> list[Step]:
        """The chain of links from a key to its customer's name; empty for the name itself."""
        place = self._place(key)
        if place is None:
            return []
        steps = []
        start, goal = int(self.meant[place]), int(self.names[place])
        if start != place:
            steps.append(Step(key, str(self.keys[start]), None, "habitue", "profile_id"))
        return steps + list(self._chain(start, goal))

    def _chain(self, start: int, goal: int) -> Iterator[Step]:
        """Breadth first over the links that joined this customer's keys: they form a tree."""
        came: dict[int, tuple[int, int]] = {start: (start, -1)}
        beside = self._beside(goal)
        waiting = deque([start])
        while waiting and goal not in came:
            here = waiting.popleft()
            for there, row in beside.get(here, ()):
                if there not in came:
                    came[there] = (here, row)
                    waiting.append(there)
        path = []
        while goal != start:
            before, row = came[goal]
            path.append((before, goal, row))
            goal = before
        for before, after, row in reversed(path):
            told = self.links.slice(row, 1).to_pylist()[0]
            yield Step(
                str(self.keys[before]), str(self.keys[after]),
                told["time"], told["source"], told["cause"],
            )  # fmt: skip

    def _beside(self, name: int) -> dict[int, list[tuple[int, int]]]:
        """Of one customer's keys: the keys joined to each, and by which row of `links`."""
        rows = self.links.take(pa.array(self.joined))
        ends = [self.meant[_places(self.keys, rows[side])] for side in ("key", "other")]
        mine = np.flatnonzero(self.names[ends[0]] == name)
        found: dict[int, list[tuple[int, int]]] = {}
        for one in mine:
            left, right, row = int(ends[0][one]), int(ends[1][one]), int(self.joined[one])
            found.setdefault(left, []).append((right, row))
            found.setdefault(right, []).append((left, row))
        return found

    def _customers(self, keys: pa.ChunkedArray) -> pa.Array:
        return self.keys.take(pa.array(self.names[_places(self.keys, keys)]))

    def _place(self, key: str) -> int | None:
        place = pc.index(self.keys, key).as_py()
        return place if place >= 0 else None


def resolve(links: pa.Table, *, shop: str, seen: Sequence[str] = ()) -> Resolution:
    """The customers of one shop's keys, from rows of the LINKS schema in any order.

    Links count in the order (time, received, digest). Each makes two customers one, unless both
    hold an external id already, or it was said with a public key and both are known by more than
    anonymous ids. An undo voids the links between its two keys, until a later one is deliberate
    (see `Link.deliberate`): what events say in passing does not undo it. A customer is named by the
    strongest key, among equals by the one that a link named first. A `profile:` key means the key
    whose profile has that id, among those that links name and those in `seen`.
    """
    links = _in_order(links)
    told = [links[side].combine_chunks() for side in ("key", "other")]
    keys, place = _numbered([*told, pa.array(seen, pa.string())])
    strength = strength_of(keys)
    meant = _meant(keys, strength, shop)
    left, right = (meant[place[start : start + len(links)]] for start in (0, len(links)))
    rows = _effective(links, left, right, count=len(keys))
    joining = _Joining(meant, strength)
    joining.tell(rows, left[rows], right[rows], links["public"].to_numpy()[rows])
    first = _first_seen(links, left, right, len(keys))
    return Resolution(
        links=links,
        keys=keys,
        names=_names(keys, strength, joining.roots(), first, meant),
        meant=meant,
        joined=np.array(joining.joined, dtype=np.int64),
        refused=np.array([row for row, _ in joining.refused], dtype=np.int64),
        why=tuple(why for _, why in joining.refused),
    )


def strength_of(keys: pa.Array) -> np.ndarray:
    """(K,) int8: how strong each key is by its kind; 0, an external id, is the strongest."""
    found = np.zeros(len(keys), dtype=np.int8)
    for kind, strength in STRENGTH.items():
        if kind != "external":
            has = pc.starts_with(keys, f"{kind}:").to_numpy(zero_copy_only=False)
            found[has] = strength
    return found


class _Joining:
    """Customers while links are told one after the other: a forest over keys."""

    def __init__(self, meant: np.ndarray, strength: np.ndarray) -> None:
        self._parent: list[int] = meant.tolist()
        external = np.where(strength == 0, np.arange(len(strength)), -1)
        self._external: list[int] = external.tolist()            # of the customer, at its root
        self._is_known: list[bool] = (strength < _ANONYMOUS).tolist()
        self.joined: list[int] = []
        self.refused: list[tuple[int, str]] = []

    def tell(
        self, rows: np.ndarray, left: np.ndarray, right: np.ndarray, public: np.ndarray
    ) -> None:
        """Make the customers of each row's two keys one, or note why not; rows in their order."""
        parent, external, is_known = self._parent, self._external, self._is_known
        columns = (rows.tolist(), left.tolist(), right.tolist(), public.tolist())
        for row, a, b, is_public in zip(*columns, strict=True):
            while parent[a] != a:
                parent[a] = a = parent[parent[a]]
            while parent[b] != b:
                parent[b] = b = parent[parent[b]]
            if a == b:
                continue
            if external[a] >= 0 and external[b] >= 0:
                self.refused.append((row, TWO_EXTERNALS))
            elif is_public and is_known[a] and is_known[b]:
                self.refused.append((row, PUBLIC))
            else:
                parent[b] = a
                if external[b] >= 0:
                    external[a] = external[b]
                is_known[a] = is_known[a] or is_known[b]
                self.joined.append(row)

    def roots(self) -> np.ndarray:
        """(K,) int64: the root of each key's tree."""
        found = np.array(self._parent, dtype=np.int64)
        while not np.array_equal(found, higher := found[found]):
            found = higher
        return found


def _in_order(links: pa.Table) -> pa.Table:
    time, received = (links[name].cast(pa.int64()).to_numpy() for name in ("time", "received"))
    return links.take(pa.array(_sorted(time, received, links["digest"])))


def _sorted(first: np.ndarray, second: np.ndarray, last: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The rows in the order of three columns; the last is looked at only where the others tie."""
    order = np.lexsort((second, first))
    a, b = first[order], second[order]
    same = (a[1:] == a[:-1]) & (b[1:] == b[:-1])
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    if len(tied):
        run = np.cumsum(np.insert(~same, 0, False))[tied]
        told = pa.table({"run": run, "last": last.take(pa.array(order[tied]))})
        within = pc.sort_indices(told, sort_keys=[("run", "ascending"), ("last", "ascending")])
        order[tied] = order[tied][within.to_numpy()]
    return order


def _numbered(columns: Sequence[pa.Array]) -> tuple[pa.Array, np.ndarray]:
    """Every different text of some columns, and the place of each row's among them."""
    coded = pc.dictionary_encode(pa.concat_arrays(columns))
    return coded.dictionary, coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _effective(
    links: pa.Table, left: np.ndarray, right: np.ndarray, *, count: int
) -> np.ndarray:
    """Rows that may join two keys, in order: not void, and the first of each kind.

    Telling a pair again changes nothing, except that a secret key may do what a public one may not.
    """
    pair = np.minimum(left, right) * max(count, 1) + np.maximum(left, right)
    undo = links["undo"].to_numpy()
    alive = ~undo & (left != right)
    if undo.any():
        undone, of = np.unique(pair[undo], return_inverse=True)
        last = np.zeros(len(undone), dtype=np.int64)
        np.maximum.at(last, of, np.flatnonzero(undo))
        place = np.searchsorted(undone, pair).clip(max=len(undone) - 1)
        again = (np.arange(len(pair)) > last[place]) & _deliberate(links["cause"])
        alive &= (undone[place] != pair) | again
    rows = np.flatnonzero(alive)
    told = pair[rows] * 2 + links["public"].to_numpy()[rows]
    _, first = np.unique(told, return_index=True)
    return rows[np.sort(first)]


def _deliberate(causes: pa.ChunkedArray) -> np.ndarray:
    """(N,) bool: as `Link.deliberate`."""
    said = pc.or_(pc.starts_with(causes, "person"), pc.equal(causes, "alias"))
    return said.to_numpy(zero_copy_only=False).astype(bool)


def _meant(keys: pa.Array, strength: np.ndarray, shop: str) -> np.ndarray:
    """(K,) int64: each key's own place; of a profile id that we gave out, the place of its key."""
    meant = np.arange(len(keys))
    profiles = np.flatnonzero(strength == _PROFILE)
    if not len(profiles):
        return meant
    places = {str(keys[int(one)]).removeprefix("profile:"): one for one in profiles}
    for place in np.flatnonzero(strength != _PROFILE):
        found = places.get(profile_id(shop, str(keys[int(place)])))
        if found is not None:
            meant[found] = place
    return meant


def _first_seen(
    links: pa.Table, left: np.ndarray, right: np.ndarray, count: int
) -> np.ndarray:
    """(K,) int64 µs: when a link first named each key."""
    times = links["time"].cast(pa.int64()).to_numpy()
    first = np.full(count, _UNSEEN)
    np.minimum.at(first, left, times)
    np.minimum.at(first, right, times)
    return first


def _names(
    keys: pa.Array, strength: np.ndarray, roots: np.ndarray, first: np.ndarray, meant: np.ndarray
) -> np.ndarray:
    """(K,) int64: the place of the key that names each one's customer."""
    order = _sorted(strength, first, keys)
    order = order[meant[order] == order]                         # a profile id names nobody else
    best = np.empty(len(keys), dtype=np.int64)
    best[roots[order[::-1]]] = order[::-1]                       # the last one written stands
    return best[roots]


def _places(keys: pa.Array, wanted: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Where each wanted key stands in `keys`, which holds it."""
    found = pc.index_in(wanted, keys)
    return found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()


def _order(key: str) -> tuple[int, str]:
    return STRENGTH[kind_of(key)], key
