"""Views of what customers did and bought: events, orders, lines, catalogue, items."""

from habitue.events import NO_CURRENCY

IS_ITEM = """
-- one boolean per item code: false for what the shop declared to be no item
CREATE MACRO is_item(code) AS
    NOT list_contains(getvariable('not_item_codes'), code)
    AND NOT coalesce(regexp_matches(code, getvariable('not_item_pattern')), false)
"""

SOURCE_RANK = """
-- one number per source: the smaller, the sooner its telling of an order is believed
CREATE MACRO source_rank(source) AS
    coalesce(nullif(list_position(getvariable('order_sources'), source), 0), 2147483647)
"""

OWN_EVENTS = """
-- one row per event of every shop, with the customer and the customer's bucket: where nothing links
-- two keys these are the key, and the bucket in which the event is stored
CREATE VIEW stored.own_events AS
SELECT *, customer AS key, bucket AS customer_bucket FROM stored.events
"""

LINKED_EVENTS = """
-- the same where links make one customer of several keys: all their events have one bucket
CREATE VIEW stored.own_events AS
SELECT told.* REPLACE (coalesce(known.customer, told.customer) AS customer),
    told.customer AS key, coalesce(known.bucket, told.bucket) AS customer_bucket
FROM stored.events AS told LEFT JOIN stored.identities AS known ON known.key = told.customer
"""

EVENTS = """
-- one row per event of the shop that happened by the cutoff and was known by then
CREATE VIEW events AS
SELECT * FROM stored.own_events
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

CATALOGUE = """
-- one row per change of what is known of an item, by the cutoff
CREATE VIEW catalogue AS
SELECT * FROM stored.items
WHERE shop = getvariable('shop')
  AND "time" <= getvariable('cutoff')
  AND CASE WHEN backfilled THEN "time" ELSE received END <= getvariable('known_at')
"""

# one row: the currency of most of a shop's events, of as many the first by its letters
USUAL_CURRENCY = f"""
SELECT (SELECT currency FROM events WHERE currency <> '{NO_CURRENCY}'
        GROUP BY currency ORDER BY count(*) DESC, currency LIMIT 1) AS currency
"""

TELLINGS = """
-- one row per order, source that told of it and currency; `first` says which was told first
CREATE VIEW hidden.tellings AS
WITH
-- one row per event that tells of an order, or of one of its lines
telling AS MATERIALIZED (
    SELECT * FROM events WHERE name IN ('order_placed', 'order_updated', 'item_ordered')
),
told AS (
    SELECT
        coalesce("order", id) AS "order",
        customer,
        source,
        currency,
        min(("time", name, received, digest)) AS first,
        min("time") AS "time",
        sum(value_minor)::BIGINT AS value_minor,
        -- sorted by content: the same whichever of several events told of which lines
        CASE WHEN count(*) = 1 THEN any_value(lines) ELSE list_sort(flatten(list(lines))) END
            AS lines
    FROM telling
    WHERE name <> 'item_ordered'
    GROUP BY ALL
),
-- one row per order and source that told its lines apart
apart AS (
    SELECT "order", customer, source, list_sort(flatten(list(lines))) AS lines
    FROM telling WHERE name = 'item_ordered' AND "order" IS NOT NULL
    GROUP BY "order", customer, source
)
SELECT told.* REPLACE (
        CASE WHEN len(told.lines) > 0 THEN told.lines ELSE coalesce(apart.lines, told.lines) END
            AS lines
    ),
    coalesce(len(told.lines), 0) = 0 AS wants_lines
FROM told
LEFT JOIN apart
    ON apart."order" = told."order" AND apart.source = told.source
    AND apart.customer IS NOT DISTINCT FROM told.customer
"""

BELIEVED = """
-- one row per order and customer, as orders, and whether its lines are told apart
CREATE VIEW hidden.believed AS
WITH
-- one row per order and customer
told AS (
    SELECT "order", customer, arg_min(source, rank) AS source, arg_min("time", rank) AS "time",
        arg_min(value_minor, rank) AS value_minor, arg_min(currency, rank) AS currency,
        arg_min(lines, rank) AS lines, arg_min(wants_lines, rank) AS wants_lines
    FROM (SELECT *, (source_rank(source), first) AS rank FROM hidden.tellings)
    GROUP BY "order", customer
),
-- one row per order and customer (or none) that a cancellation named
cancelled AS (
    SELECT "order", customer, min("time") AS cancelled_at
    FROM events WHERE name = 'order_cancelled' AND "order" IS NOT NULL
    GROUP BY "order", customer
)
SELECT told."order", told.source, told.customer, told."time", told.value_minor, told.currency,
    least(named.cancelled_at, unnamed.cancelled_at) AS cancelled_at, told.lines, told.wants_lines
FROM told
LEFT JOIN cancelled AS named
    ON named."order" = told."order" AND named.customer = told.customer
LEFT JOIN cancelled AS unnamed
    ON unnamed."order" = told."order" AND unnamed.customer IS NULL
"""

ORDERS = """
-- one row per order and customer; of several sources the shop's first, else the one told first
CREATE VIEW orders AS SELECT * EXCLUDE (wants_lines) FROM hidden.believed
"""

LINED = """
-- one row per order line, at the time it was told, with the source, currency and value of its order
CREATE VIEW hidden.lined AS
SELECT o."order", o.customer, told."time", told.line.item AS item,
    told.line.quantity AS quantity, told.line.unit_price AS unit_price,
    told.line.amount_minor AS amount_minor, is_item(told.line.item) AS is_item, o.cancelled_at,
    o.source, o.currency, o.value_minor
FROM (
    SELECT coalesce("order", id) AS "order", customer, source, currency, "time",
        name = 'item_ordered' AS is_apart, unnest(lines) AS line
    FROM events
    WHERE name IN ('order_placed', 'order_updated')
        OR (name = 'item_ordered' AND "order" IS NOT NULL)
) AS told
JOIN (
    SELECT "order", customer, source, currency, value_minor, cancelled_at, wants_lines
    FROM hidden.believed
) AS o
    ON o."order" = told."order" AND o.source = told.source
    AND o.customer IS NOT DISTINCT FROM told.customer
    AND CASE WHEN told.is_apart THEN o.wants_lines
        ELSE o.currency IS NOT DISTINCT FROM told.currency END
"""

LINES = """
-- one row per order line, at the time it was told
CREATE VIEW lines AS SELECT * EXCLUDE (source, currency, value_minor) FROM hidden.lined
"""

ITEMS = """
-- one row per item of the catalogue: the latest that is known of each column
CREATE VIEW items AS
SELECT item,
    max("time") AS "time",
    arg_max(title, ("time", received, digest)) AS title,
    arg_max(category, ("time", received, digest)) AS category,
    arg_max(brand, ("time", received, digest)) AS brand,
    arg_max(price_minor, ("time", received, digest)) AS price_minor,
    arg_max(currency, ("time", received, digest)) AS currency,
    is_item(item) AS is_item,
    arg_max(stock, ("time", received, digest)) AS stock,
    arg_max(image, ("time", received, digest)) AS image,
    arg_max(published, ("time", received, digest)) AS published
FROM catalogue GROUP BY item
"""
