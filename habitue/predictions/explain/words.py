"""A factor in words: what is behind it, with its numbers."""

from datetime import datetime

import numpy as np

from habitue.predictions.explain import factors
from habitue.predictions.explain.factors import Part, standing
from habitue.sequences.build import DAY, Sequences, instant

_SIGNS = {"GBP": "£", "EUR": "€", "USD": "$"}


def words_of(sequences: Sequences, customer: int, part: Part) -> str:
    """What a factor of a customer is.

    Days between orders are those between days with an order, and usual means their mean.
    """
    rows = np.arange(sequences.offsets[customer], sequences.offsets[customer + 1])
    orders = rows[standing(sequences, rows)]
    match part.kind:
        case factors.SILENCE:
            return _silence(sequences, orders)
        case factors.FIRST:
            which = "only" if len(orders) == 1 else "first"
            return f"the {which} order: {_order(sequences, part.rows[0])}"
        case factors.LAST:
            usual = float(np.median(sequences.value[orders]))
            told = _order(sequences, part.rows[0])
            return f"the last order: {told}; usually {_money(sequences, usual)}"
        case factors.SEASON:
            return "the season: what the shop did in the same months a year ago"
        case factors.TAKEN_BACK:
            return _taken_back(sequences, part.rows, orders)
        case factors.BROWSING | factors.MESSAGES | factors.OTHER:
            return _counted(sequences, part.rows)
        case _:
            return _orders(sequences, part.rows)


def _silence(sequences: Sequences, orders: np.ndarray) -> str:
    ago = (sequences.cutoff - int(sequences.time[orders[-1]])) / DAY
    days = np.unique(sequences.time[orders] // DAY)
    if len(days) < 2:
        return f"no order for {_days(ago)}, after a single one"
    return f"no order for {_days(ago)}; usually every {_number(np.diff(days).mean())}"


def _orders(sequences: Sequences, rows: np.ndarray) -> str:
    if len(rows) == 1:
        return f"an order before: {_order(sequences, rows[0])}"
    total = _money(sequences, float(sequences.value[rows].sum()))
    first, last = (_date(sequences, row) for row in rows[[0, -1]])
    return f"{len(rows)} orders from {first} to {last}, of {total} in all"


def _taken_back(sequences: Sequences, rows: np.ndarray, orders: np.ndarray) -> str:
    names = [sequences.kinds[kind] for kind in sequences.kind[rows]]
    refunded = names.count("order_refunded")
    cancelled = names.count("order_placed")
    told = [
        *([f"{refunded} refund{'s' * (refunded > 1)}"] if refunded else []),
        *([f"{cancelled} cancelled order{'s' * (cancelled > 1)}"] if cancelled else []),
    ]
    if not told:
        return f"{len(rows)} change{'s' * (len(rows) > 1)} of orders"
    return f"{' and '.join(told)}, beside {len(orders)} order{'s' * (len(orders) > 1)}"


def _counted(sequences: Sequences, rows: np.ndarray) -> str:
    names, counts = np.unique(sequences.kind[rows], return_counts=True)
    told = sorted(zip(counts, names, strict=True), key=lambda one: (-one[0], one[1]))
    listed = ", ".join(f"{count} {sequences.kinds[kind]}" for count, kind in told[:3])
    ago = (sequences.cutoff - int(sequences.time[rows[-1]])) / DAY
    return f"{listed}{', …' * (len(told) > 3)}; the last {_days(ago)} ago"


def _order(sequences: Sequences, row: int) -> str:
    return f"{_money(sequences, float(sequences.value[row]))} on {_date(sequences, row)}"


def _money(sequences: Sequences, value: float) -> str:
    sign = _SIGNS.get(sequences.currency, f"{sequences.currency} ")
    return f"{sign}{value:,.0f}" if value >= 100 else f"{sign}{value:,.2f}"


def _date(sequences: Sequences, row: int) -> str:
    at: datetime = instant(int(sequences.time[row]))
    return f"{at.day} {at:%b %Y}"


def _days(days: float) -> str:
    return "less than a day" if days < 1 else f"{_number(days)} day{'s' * (round(days) != 1)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1 else f"{value:.1f}"
