"""What a shop's owner looks through: refused inputs, keys in conflict, who tells of orders."""

# one row per input that was not taken, in the order of its file
REJECTED = """
SELECT receipt, position, pointer, reason, payload, received FROM rejected
ORDER BY received, receipt, position
"""

# one row per pair of keys that was linked and is still two customers
CONFLICTS = """
SELECT "time", key, other, customer, other_customer, why, source, cause FROM conflicts
ORDER BY "time", key, other
"""

# one row per source that told of orders; `believed` counts from 1, null: after those that have one
SOURCES = """
SELECT source, count(DISTINCT coalesce("order", id)) AS orders, min("time") AS first,
    max("time") AS last,
    (SELECT nullif(list_position(order_sources, source), 0) FROM shop_settings) AS believed
FROM events WHERE name = 'order_placed' GROUP BY source ORDER BY believed NULLS LAST, source
"""
