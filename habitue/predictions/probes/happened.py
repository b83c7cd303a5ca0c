"""What a target counts: every event of the shop that meets its conditions, and what it adds.

Orders are those of the view `orders`, of positive value, until it is known that they were
cancelled; `item_ordered` is a view over their lines; anything else is an event as it came.
"""

# C customers · H rows that happened · Q queries
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.errors import BadTarget
from habitue.events import currency_exponent
from habitue.predictions.probes.language import Condition, Target, refuse_unknown_event
from habitue.sequences.aggregates import rows_upto
from habitue.sequences.build import DAY, NEVER, Sequences
from habitue.sequences.ragged import offsets_of

Read = Callable[[str, list[object]], pa.Table]     # the answer to SQL over the shop's views
UNITS = 10_000                             # of one; sums of integers are exact

LINE_FIELDS = ("item", "title", "category", "brand", "quantity")
_OWN_FIELDS = ("value", "source")
_OF_LINES = {
    "item": "i.item",
    "title": "i.title",
    "category": "i.category",
    "brand": "i.brand",
    "quantity": "CAST(i.quantity AS DOUBLE)",
}

# one row per event name of the shop
_NAMES = "SELECT DISTINCT name FROM events"

# one row per order of positive value that meets the conditions; the properties are those it was
# first told with
_ORDERS = """
WITH told AS (
    SELECT coalesce("order", id) AS "order", customer, source,
        arg_min(properties, ("time", received, digest)) AS properties
    FROM events WHERE name = 'order_placed' GROUP BY ALL
),
line AS (
    SELECT l."order", l.customer, l.item, l.quantity, c.title, c.category, c.brand
    FROM lines l LEFT JOIN items c USING (item)
)
SELECT o.customer, epoch_us(o."time") AS "time", coalesce(epoch_us(o.cancelled_at), $never) AS gone,
    coalesce({amount}, 0) AS amount
FROM (
    SELECT o.*, told.properties,
        CASE WHEN o.currency IS NULL OR o.currency = $currency THEN o.value_minor END / $scale
            AS value
    FROM orders o LEFT JOIN told USING ("order", customer, source)
) AS o
WHERE o.customer IS NOT NULL AND o.value_minor > 0 AND {own}
  AND ({no_lines} OR ("order", customer) IN (SELECT ("order", customer) FROM line i WHERE {lines}))
"""

# one row per line of an order of positive value that meets the conditions
_LINES = """
SELECT o.customer, epoch_us(o."time") AS "time", coalesce(epoch_us(o.cancelled_at), $never) AS gone,
    coalesce({amount}, 0) AS amount
FROM (
    SELECT l.*, told.source,
        CASE WHEN told.currency IS NULL OR told.currency = $currency THEN l.amount_minor END
            / $scale AS value
    FROM lines l JOIN orders told USING ("order", customer)
    WHERE l.is_item AND told.value_minor > 0
) AS o
LEFT JOIN (SELECT item AS code, title, category, brand FROM items) AS c ON c.code = o.item
CROSS JOIN LATERAL (SELECT o.item, o.quantity, c.title, c.category, c.brand) AS i
WHERE o.customer IS NOT NULL AND {own} AND {lines}
"""

# one row per event of the name that meets the conditions; an event without lines may name an item
_EVENTS = """
WITH line AS (
    SELECT told.digest, told.item, told.quantity, c.title, c.category, c.brand
    FROM (
        SELECT digest, line.item AS item, line.quantity AS quantity
        FROM (SELECT digest, unnest(lines) AS line FROM events WHERE name = $event)
        UNION ALL
        SELECT digest, json_extract_string(properties, '/item'), NULL
        FROM events WHERE name = $event AND coalesce(len(lines), 0) = 0
    ) AS told LEFT JOIN items c ON c.item = told.item
)
SELECT o.customer, epoch_us(o."time") AS "time", $never AS gone, coalesce({amount}, 0) AS amount
FROM (
    SELECT *, CASE WHEN currency IS NULL OR currency = $currency THEN value_minor END / $scale
        AS value
    FROM events WHERE name = $event
) AS o
WHERE o.customer IS NOT NULL AND {own}
  AND ({no_lines} OR o.digest IN (SELECT i.digest FROM line i WHERE {lines}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What a target counts; customer c's rows are `offsets[c]:offsets[c + 1]`, in time order."""

    offsets: np.ndarray                    # (C + 1,) int64
    time: np.ndarray                       # (H,) int64 µs
    gone: np.ndarray                       # (H,) int64 µs at which it was cancelled, or NEVER
    units: np.ndarray                      # (H,) int64 what each adds to a sum, in UNITS of one

    def standing(self, known_at: int) -> "Happened":
        """Without what is known to be cancelled at an instant (µs)."""
        kept = self.gone > known_at
        before = offsets_of(kept)
        return replace(
            self,
            offsets=before[self.offsets],
            time=self.time[kept],
            gone=self.gone[kept],
            units=self.units[kept],
        )

    def within(
        self, customer: np.ndarray, after: np.ndarray, until: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(Q,) how often, and (Q,) what it adds up to, of each customer in (after, until] µs."""
        start = rows_upto(self.offsets, self.time, customer, after)
        end = rows_upto(self.offsets, self.time, customer, until)
        total = offsets_of(self.units)
        return (end - start).astype(np.float64), (total[end] - total[start]) / UNITS


def outcome(
    target: Target, happened: Happened, customer: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """(Q,) float64: what the target asks of each customer after each instant (Q,) µs."""
    times, total = happened.within(customer, at, at + round(target.horizon_days * DAY))
    match target.aggregation:
        case "exists":
            return (times > 0).astype(np.float64)
        case "count":
            return times
        case "sum":
            return total


def find(target: Target, sequences: Sequences, read: Read) -> Happened:
    """Every row of a shop that a target counts; `read` sees nothing after the sequences' cutoff.

    Raises:
        BadTarget: the shop has no such event, or events of its kind no such field.
    """
    names = set(read(_NAMES, [])["name"].to_pylist())
    refuse_unknown_event(target, names | ({"item_ordered"} if "order_placed" in names else set()))
    sql, values = query_of(target, sequences.currency)
    return _happened(read(sql, values), sequences)


def query_of(target: Target, currency: str) -> tuple[str, list[object]]:
    """The SQL that finds what a target counts, and its values, in the order of its ? marks."""
    values: dict[str, object] = {
        "event": target.event,
        "currency": currency,
        "scale": 10.0 ** currency_exponent(currency),
        "never": int(NEVER),
    }
    has_properties = target.event != "item_ordered"
    own, lines = [], []
    for number, one in enumerate(target.conditions):
        values[f"value_{number}"] = one.value
        if one.field in LINE_FIELDS:
            lines.append(_compared(_OF_LINES[one.field], one, number))
        else:
            field = _field(target, one.field, f"field_{number}", values)
            own.append(_compared(field, one, number))
    amount = "0"
    if target.of == "quantity" and not has_properties:
        amount = "CAST(o.quantity AS DOUBLE)"
    elif target.of:
        amount = f"TRY_CAST({_field(target, target.of, 'of', values)} AS DOUBLE)"
    text = {"order_placed": _ORDERS, "item_ordered": _LINES}.get(target.event, _EVENTS)
    sql = text.format(
        amount=amount,
        own=" AND ".join(own) or "true",
        lines=" AND ".join(lines) or "true",
        no_lines="false" if lines else "true",
    )
    return _numbered(sql, values)


def _field(target: Target, field: str, name: str, values: dict[str, object]) -> str:
    """SQL of an event's own field, or of its property."""
    if field in _OWN_FIELDS:
        return f"o.{field}"
    if target.event == "item_ordered":
        held = ", ".join((*_OWN_FIELDS, *LINE_FIELDS))
        raise BadTarget(f"item_ordered has no {field!r}\nhint: a line has {held}")
    property_name = field.removeprefix("properties.")
    values[name] = "/" + property_name.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(o.properties, ${name})"


def _compared(field: str, condition: Condition, number: int) -> str:
    """SQL of one condition; a missing value, or one of another kind, makes it false."""
    bound = f"${f'value_{number}'}"
    match condition.value:
        case bool():
            told = f"CAST({field} AS VARCHAR)"
            compared = f"({told} = 'true') {_SIGNS[condition.operator]} {bound}"
            return f"coalesce({told} IN ('true', 'false') AND {compared}, false)"
        case str() if condition.operator == "contains":
            return f"coalesce(contains(lower(CAST({field} AS VARCHAR)), lower({bound})), false)"
        case str():
            return f"coalesce(CAST({field} AS VARCHAR) {_SIGNS[condition.operator]} {bound}, false)"
    number_of = f"TRY_CAST({field} AS DOUBLE)"
    return f"coalesce({number_of} {_SIGNS[condition.operator]} {bound}, false)"


_SIGNS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _numbered(sql: str, values: dict[str, object]) -> tuple[str, list[object]]:
    """The same SQL with ? marks in the place of names, and their values in order."""
    bound: list[object] = []
    parts = sql.split("$")
    text = parts[0]
    for part in parts[1:]:
        name = next(one for one in sorted(values, key=len, reverse=True) if part.startswith(one))
        bound.append(values[name])
        text += f"?{part[len(name):]}"
    return text, bound


def _happened(rows: pa.Table, sequences: Sequences) -> Happened:
    """Rows of SQL, sorted by customer and time; whoever the sequences do not know is left out."""
    found = pc.index_in(rows["customer"], pa.array(sequences.customers, pa.string()))
    owner = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    time = rows["time"].to_numpy()
    units = np.rint(rows["amount"].to_numpy() * UNITS).astype(np.int64)
    gone = rows["gone"].to_numpy()
    order = np.lexsort((gone, units, time, owner))
    order = order[owner[order] >= 0]
    sizes = np.bincount(owner[order], minlength=len(sequences.customers))
    return Happened(
        offsets=offsets_of(sizes), time=time[order], gone=gone[order], units=units[order]
    )
