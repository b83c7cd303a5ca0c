"""What the customers of an audience did in the days after it, in figures.

Beside those of everyone outside, and of a matched comparison.
"""

# C customers · F compared
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.audiences.aftermath.happened import Chance, Days, Done, Known, columns, done, known
from habitue.audiences.aftermath.matching import (
    Estimate,
    Matched,
    apart,
    difference,
    match,
    matched_means,
)
from habitue.audiences.members import AsOf, Audience
from habitue.events import currency_exponent
from habitue.lake.tables import Lake

_DAY = 86_400_000_000                      # µs
COMPARED = (
    "days since the last order", "orders", "value", "days since first seen", "days since last seen",
)  # fmt: skip
CHANCE = "predicted chance of an order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What some customers did, added up; amounts are exact, in major units."""

    customers: int
    orderers: int                          # who ordered at least once
    orders: int
    revenue: Decimal                       # of orders that stand, before refunds
    refunded: Decimal
    messages: dict[str, int]               # by kind, of those that the shop has at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure per customer, of those in the audience and of those it is compared with."""

    name: str                              # ordered, orders, revenue, refunded, message_sent, …
    inside: float | None
    outside: float | None
    difference: Estimate | None
    with_match: float | None               # of members with a match
    matches: float | None                  # of those matched with them
    matched_difference: Estimate | None


@dataclass(frozen=True, slots=True)
class Balance:
    """By how many standard deviations the means of what is compared lie apart."""

    name: str
    before: float                          # of members and everyone outside
    after: float | None                    # of members with a match and their matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How members were matched."""

    members: int
    with_match: int
    matches: int                           # different customers outside who serve as one
    balance: tuple[Balance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """An audience of an earlier instant, and what its customers and the others did next."""

    shop: str
    condition: str
    cutoff: datetime
    known_at: datetime
    days: int
    until: datetime
    currency: str
    inside: Group
    outside: Group
    measures: tuple[Measure, ...]
    comparison: Comparison
    chance: Chance | None                  # that was compared, beside what had happened
    versions: dict[str, str]               # the predictions in the condition, and who made them
    is_recomputed: bool
    joined: int                            # keys that turned out later to be someone else's
    other_currency: int                    # orders whose amount is in none of the figures
    backfilled: float                      # share of events taken as known when they happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Everyone at a cutoff and what they did in the days after, for one audience or for many."""

    asked: Days
    known: Known
    done: Done
    compared: np.ndarray                   # (C, F)
    names: tuple[str, ...]                 # of what is compared; F
    alike: np.ndarray                      # (C,) what must be equal
    is_recomputed: bool


def setting(
    lake: Lake, shop: str, asked: Days, as_of: AsOf, recomputed: pa.Table | None = None
) -> Setting:
    """Read what was known of everyone by then, and what they did."""
    told = known(lake, shop, as_of, asked.days, recomputed)
    place = pa.array(np.arange(told.table.num_rows))
    customers = pa.table({"customer": told.table["customer"], "place": place})
    happened = done(lake, shop, asked, customers)
    compared, names, alike = _compared(told, happened, asked.cutoff)
    return Setting(
        asked=asked,
        known=told,
        done=happened,
        compared=compared,
        names=names,
        alike=alike,
        is_recomputed=recomputed is not None,
    )


def aftermath(audience: Audience, held: Setting) -> Aftermath:
    """What the customers of an audience, found as of the cutoff, did in the days after it."""
    assert audience.known_at is not None, "who is in it is told by what was known then"
    flags = pc.is_in(held.known.table["customer"], audience.members["customer"])
    is_in = held.done.any_of(flags.to_numpy())
    matched = match(held.compared, held.alike, is_in)
    return Aftermath(
        shop=audience.shop,
        condition=audience.sentence,
        cutoff=audience.cutoff,
        known_at=audience.known_at,
        days=held.asked.days,
        until=held.asked.end,
        currency=held.done.currency,
        inside=_group(held.done, is_in),
        outside=_group(held.done, ~is_in),
        measures=_measures(held.done, is_in, matched),
        comparison=_comparison(held.compared, held.names, is_in, matched),
        chance=held.known.chance,
        versions=_versions(audience),
        is_recomputed=held.is_recomputed,
        joined=held.done.joined,
        other_currency=int(held.done.table["other_currency"].to_numpy().sum()),
        backfilled=held.known.backfilled,
    )


def _compared(
    told: Known, happened: Done, cutoff: datetime
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """(C, F) what is compared; its names; and (C,) what must be equal: which of it is known.

    Counts, amounts and days on the scale of logarithms, where a little and a lot differ alike.
    """
    table = told.table.take(happened.table["place"])
    now = cutoff.timestamp() * 1e6
    last, orders, value, first, seen = columns(
        table, "last_order", "orders", "value", "first_seen", "last_seen"
    )
    days = [np.maximum(now - one, 0) / _DAY for one in (last, first, seen)]
    parts = [days[0], orders, np.maximum(value, 0), days[1], days[2]]
    logs = [np.log1p(np.nan_to_num(one)) for one in parts]
    names: tuple[str, ...] = COMPARED
    held = [~np.isnan(last), ~np.isnan(first)]
    if told.chance is not None:
        (chance,) = columns(table, "chance")
        held.append(~np.isnan(chance))
        safe = np.clip(np.where(np.isnan(chance), 0.5, chance), 1e-4, 1 - 1e-4)
        logs.append(np.log(safe / (1 - safe)))
        names = (*names, CHANCE)
    alike = sum(one.astype(int) << place for place, one in enumerate(held))
    return np.column_stack(logs), names, np.asarray(alike)


def _group(happened: Done, chosen: np.ndarray) -> Group:
    table = happened.table.filter(pa.array(chosen))
    orders = table["orders"].to_numpy()
    return Group(
        customers=table.num_rows,
        orderers=int((orders > 0).sum()),
        orders=int(orders.sum()),
        revenue=_exact(table["revenue"], happened.currency),
        refunded=_exact(table["refunded"], happened.currency),
        messages={one: int(table[one].to_numpy().sum()) for one in happened.messages},
    )


def _exact(amounts: pa.ChunkedArray, currency: str) -> Decimal:
    """A sum of amounts, with as many decimals as the currency has."""
    total = pc.sum(amounts).as_py() or Decimal(0)
    return total.quantize(Decimal(1).scaleb(-currency_exponent(currency)))


def _measures(happened: Done, is_in: np.ndarray, matched: Matched) -> tuple[Measure, ...]:
    names = ("orders", "revenue", "refunded", *happened.messages)
    held = dict(zip(names, columns(happened.table, *names), strict=True))
    held = {"ordered": (held["orders"] > 0).astype(float), **held}
    return tuple(_measure(name, values, is_in, matched) for name, values in held.items())


def _measure(name: str, values: np.ndarray, is_in: np.ndarray, matched: Matched) -> Measure:
    has_both = bool(is_in.any() and not is_in.all())
    told = matched_means(values, is_in, matched) if matched.found.any() else (None, None, None)
    return Measure(
        name=name,
        inside=float(values[is_in].mean()) if is_in.any() else None,
        outside=float(values[~is_in].mean()) if not is_in.all() else None,
        difference=difference(values, is_in) if has_both else None,
        with_match=told[0],
        matches=told[1],
        matched_difference=told[2],
    )


def _comparison(
    compared: np.ndarray, names: tuple[str, ...], is_in: np.ndarray, matched: Matched
) -> Comparison:
    balance: tuple[Balance, ...] = ()
    if is_in.any() and not is_in.all():
        before, after = apart(compared, is_in, matched)
        balance = tuple(
            Balance(name, float(one), None if np.isnan(two) else float(two))
            for name, one, two in zip(names, before, after, strict=True)
        )
    return Comparison(
        members=int(is_in.sum()),
        with_match=int(matched.found.sum()),
        matches=int(matched.used.sum()),
        balance=balance,
    )


def _versions(audience: Audience) -> dict[str, str]:
    return {
        f"{question} {days:g} days": f"{told.version} as of {told.cutoff.isoformat()}"
        for (question, days), told in sorted(audience.predicted.items())
    }
