"""Two readings of the lake: what was known of everyone at an instant, and what they did after it.

The first sees what had happened and had reached us by the cutoff, the second what stands at the
end of the days that followed, with all that is known of it by now.
"""

# C customers
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa

from habitue.audiences import rows
from habitue.audiences.comparisons import Bound
from habitue.audiences.members import AsOf, currency_of, put_in_place
from habitue.errors import BadSetting, NotEnoughHistory
from habitue.events import (
    MESSAGE_CLICKED,
    MESSAGE_OPENED,
    MESSAGE_SENT,
    NO_CURRENCY,
    UNSUBSCRIBED,
    currency_exponent,
)
from habitue.lake.query import opened, read
from habitue.lake.tables import Lake

MESSAGES = (MESSAGE_SENT, MESSAGE_OPENED, MESSAGE_CLICKED, UNSUBSCRIBED)
MOST_DAYS = 730                            # that are looked ahead

# one row: the shop's first and last event
_LAST = 'SELECT min("time") AS first, max("time") AS last FROM events'

# one row: how many events were told later than they happened, and all of them
_BACKFILLED = "SELECT count(*) FILTER (backfilled), count(*) FROM events"

# one row per customer of whom anything was known at the cutoff, as it was known then
_KNOWN = """
WITH {everyone}, {placed},
bought AS (
    SELECT customer, max(moment) AS last, count(*) AS orders, coalesce(sum(value), 0) AS value
    FROM placed GROUP BY customer
),
seen AS (
    SELECT customer, min("time") AS first, max("time") AS last FROM events
    WHERE customer IS NOT NULL GROUP BY customer
){predicted}
SELECT everyone.customer,
    epoch_us(bought.last) AS last_order, coalesce(bought.orders, 0) AS orders,
    CAST(coalesce(bought.value, 0) AS DOUBLE) AS value,
    epoch_us(seen.first) AS first_seen, epoch_us(seen.last) AS last_seen,
    {chance} AS chance
FROM everyone LEFT JOIN bought USING (customer) LEFT JOIN seen USING (customer){joined}
ORDER BY everyone.customer
"""

# one row per customer: what they did after the cutoff; keys that are one by now are one customer
_DONE = """
WITH {placed}, {told},
units AS (
    SELECT customer_of(customer) AS customer, max(place) AS place, list(place) AS places
    FROM asked GROUP BY 1
),
ordered AS (
    SELECT customer, count(*) AS orders, sum(value) AS revenue,
        count(*) FILTER (value IS NULL) AS other_currency
    FROM placed WHERE moment > {start} AND moment <= {end} GROUP BY customer
),
did AS (
    SELECT customer, {messages},
        sum(abs(value)) FILTER (name = 'order_refunded') AS refunded
    FROM told WHERE moment > {start} AND moment <= {end} GROUP BY customer
)
SELECT place, places, coalesce(orders, 0) AS orders,
    CAST(coalesce(revenue, 0) AS DECIMAL(38, 9)) AS revenue,
    CAST(coalesce(refunded, 0) AS DECIMAL(38, 9)) AS refunded,
    coalesce(other_currency, 0) AS other_currency, {counted}
FROM units LEFT JOIN ordered USING (customer) LEFT JOIN did USING (customer)
ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Days:
    """The days after a cutoff, (cutoff, end]."""

    cutoff: datetime
    days: int

    @property
    def end(self) -> datetime:
        """Their last instant."""
        return self.cutoff + timedelta(days=self.days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """The predicted chance of an order that was in force at the cutoff."""

    version: str
    cutoff: datetime
    horizon_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everyone of whom anything was known at the cutoff, and what it was."""

    table: pa.Table                        # customer, last_order, orders, value, …; C rows
    chance: Chance | None
    backfilled: float                      # share of events that count as known when they happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What everyone did in the days after, in the shop's currency."""

    table: pa.Table                        # place (of a row in Known), places, orders, …; C rows
    currency: str
    messages: tuple[str, ...]              # the kinds that the shop has at all
    joined: int                            # keys that turned out to be someone else's

    def any_of(self, flags: np.ndarray) -> np.ndarray:
        """(C,) whether it is true of any of a customer's rows in Known; flags of these rows."""
        places = self.table["places"].combine_chunks()
        if not len(places):
            return np.zeros(0, bool)
        starts = places.offsets.to_numpy()[:-1]
        return np.logical_or.reduceat(flags[places.flatten().to_numpy()], starts)


def window(lake: Lake, shop: str, cutoff: datetime | None, days: int) -> Days:
    """The days after a cutoff; none: the last cutoff whose days are over.

    Raises:
        NotEnoughHistory: they are not over by the shop's last event, or it has no events.
        BadSetting: no such number of days.
    """
    if not 1 <= days <= MOST_DAYS:
        raise BadSetting(f"{days} days ahead: wanted 1 to {MOST_DAYS}")
    first, last = _ends(lake, shop)
    latest = last - timedelta(days=days)
    asked = Days(cutoff or latest, days)
    if asked.end > last:
        raise NotEnoughHistory(
            f"the {days} days after {asked.cutoff.isoformat()} are not over: the shop's last event"
            f" was at {last.isoformat()}\n"
            f"hint: the last cutoff that works is --cutoff {latest.isoformat()}"
        )
    if asked.cutoff < first:
        raise NotEnoughHistory(
            f"nothing was known at {asked.cutoff.isoformat()}: the shop's first event was at"
            f" {first.isoformat()}\nhint: the last cutoff that works is --cutoff"
            f" {latest.isoformat()}"
        )
    return asked


def last_event(lake: Lake, shop: str) -> datetime:
    """When the shop's last event happened.

    Raises:
        NotEnoughHistory: it has none.
    """
    return _ends(lake, shop)[1]


def _ends(lake: Lake, shop: str) -> tuple[datetime, datetime]:
    """When its first and its last event happened."""
    first, last = read(lake, _LAST, shop=shop).to_pylist()[0].values()
    if last is None:
        raise NotEnoughHistory(f"shop {shop!r} has no events yet\nhint: import its orders first")
    return first, last


def known(
    lake: Lake, shop: str, as_of: AsOf, days: int, recomputed: pa.Table | None = None
) -> Known:
    """What was known of everyone at a cutoff, with a view to so many days ahead."""
    views = {"events", "orders", "profile_changes", "consent_history", "identifiers", "links"}
    with opened(
        lake,
        views | {"predictions", "shop_settings"},
        shop=shop,
        cutoff=as_of.cutoff,
        known_at=as_of.known_at,
    ) as (connection, _):
        if recomputed is not None:
            put_in_place(connection, recomputed)
        bound = Bound()
        chance = _chance(connection, days)
        sql = _KNOWN.format(
            everyone=rows.EVERYONE.strip(),
            placed=rows.PLACED.format(lines="").strip(),
            predicted="" if chance is None else "," + _predicted(chance, bound),
            chance="CAST(NULL AS DOUBLE)" if chance is None else "predicted.value",
            joined="" if chance is None else " LEFT JOIN predicted USING (customer)",
        )
        values = bound.values | _money(currency_of(connection))
        table = connection.sql(sql, params=values).to_arrow_table()
        told, whole = connection.execute(_BACKFILLED).fetchall()[0]
    return Known(table=table, chance=chance, backfilled=told / max(whole, 1))


def done(lake: Lake, shop: str, asked: Days, customers: pa.Table) -> Done:
    """What some customers (customer, place) did in the days after the cutoff.

    As it stands at the end of these days, with all that has reached us since.
    """
    with opened(
        lake, {"events", "orders", "shop_settings"}, shop=shop, cutoff=asked.end
    ) as (connection, _):
        connection.register("asked", customers)
        currency = currency_of(connection) or NO_CURRENCY
        bound = Bound()
        start, end = bound.instant(asked.cutoff), bound.instant(asked.end)
        sql = _DONE.format(
            placed=rows.PLACED.format(lines="").strip(),
            told=rows.TOLD.strip(),
            start=start,
            end=end,
            messages=", ".join(f"count(*) FILTER (name = '{one}') AS {one}" for one in MESSAGES),
            counted=", ".join(f"coalesce({one}, 0) AS {one}" for one in MESSAGES),
        )
        table = connection.sql(sql, params=bound.values | _money(currency)).to_arrow_table()
        held = connection.execute("SELECT DISTINCT name FROM events").fetchall()
    names = {name for (name,) in held}
    return Done(
        table=table,
        currency=currency,
        messages=tuple(one for one in MESSAGES if one in names),
        joined=customers.num_rows - table.num_rows,
    )


def columns(table: pa.Table, *names: str) -> list[np.ndarray]:
    """Columns as numbers, missing ones as NaN; (C,) each."""
    return [table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]


def _money(currency: str | None) -> dict[str, object]:
    held = currency or NO_CURRENCY
    return {"currency": held, "unit": f"{10 ** -currency_exponent(held):.9f}"}


def _chance(connection: duckdb.DuckDBPyConnection, days: int) -> Chance | None:
    """The latest set of the horizon that is nearest to so many days."""
    told = connection.sql(rows.PREDICTED).to_arrow_table().to_pylist()
    sets = [one for one in told if one["question"] == "order"]
    if not sets:
        return None
    horizon = min((one["horizon_days"] for one in sets), key=lambda one: (abs(one - days), one))
    latest = max(
        (one["cutoff"], one["received"], one["version"])
        for one in sets
        if one["horizon_days"] == horizon
    )
    return Chance(version=latest[2], cutoff=latest[0], horizon_days=horizon)


def _predicted(chance: Chance, bound: Bound) -> str:
    return rows.PREDICTION.format(
        name="predicted",
        version=bound(chance.version, "VARCHAR"),
        cutoff=bound.instant(chance.cutoff),
        question=bound("order", "VARCHAR"),
        horizon=bound(chance.horizon_days, "DOUBLE"),
        **rows.LINKED,
    )
