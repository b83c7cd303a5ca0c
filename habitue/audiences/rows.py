"""SQL of what a condition looks at: orders, their lines, other events, and who there is.

Every relation of what happened has the columns `customer`, `id` (with the customer, what is counted
once), `moment`, `value`, `source` and `properties`; with lines also `item`, `quantity`, `title`,
`category` and `brand`. Amounts are decimals in major units of the shop's currency; amounts of
other currencies are missing.
"""

NUMBER = "DECIMAL(28, 9)"

# one row: the shop's currency, as it says
CURRENCY = "SELECT currency FROM shop_settings"

# one row: the shop's time zone
ZONE = "SELECT timezone FROM shop_settings"

# one row per text that some customer has where a time zone of their own would stand
TOLD_ZONES = """
SELECT DISTINCT json_extract_string(properties, path) AS zone
FROM profiles CROSS JOIN (SELECT unnest($1) AS path)
"""

# one row: whether two keys are one customer by now
IS_LINKED = """
SELECT count(*) > 0 FROM duckdb_tables() WHERE schema_name = 'stored' AND table_name = 'identities'
"""

# one row per event name of the shop
NAMES = "SELECT DISTINCT name FROM events"

# one row per version, cutoff, question and horizon for which there are predictions; what was
# published at once has one row per customer
PREDICTED = """
SELECT version, cutoff, question, horizon_days, max(received) AS received,
    min(received) = max(received) AS is_one
FROM predictions GROUP BY ALL
"""

_AMOUNT = (
    "CASE WHEN {currency} IS NULL OR {currency} = $currency"
    " THEN TRY_CAST({minor} AS DECIMAL(18, 0)) * CAST($unit AS DECIMAL(10, 9)) END"
)

# one row per order of positive value that stands
PLACED = f"""
placed AS (
    SELECT customer, "order" AS id, "time" AS moment,
        {_AMOUNT.format(currency="currency", minor="value_minor")} AS value, source{{lines}}
    FROM orders
    WHERE customer IS NOT NULL AND value_minor > 0 AND cancelled_at IS NULL
)"""

# the same with the properties that it was first told with
PLACED_TOLD = f"""
placed AS (
    SELECT o.customer, o."order" AS id, o."time" AS moment,
        {_AMOUNT.format(currency="o.currency", minor="o.value_minor")} AS value,
        o.source, told.properties{{lines}}
    FROM orders o
    LEFT JOIN (
        SELECT coalesce("order", id) AS "order", customer, source,
            arg_min(properties, ("time", received, digest)) AS properties
        FROM events WHERE name = 'order_placed' GROUP BY ALL
    ) AS told USING ("order", customer, source)
    WHERE o.customer IS NOT NULL AND o.value_minor > 0 AND o.cancelled_at IS NULL
)"""

# one row per line of an order that stands; an order without lines has one, of which nothing is told
PLACED_LINES = """
placed_lines AS (
    SELECT placed.* EXCLUDE (line), line.item, line.quantity, c.title, c.category, c.brand
    FROM (
        SELECT * EXCLUDE (lines),
            unnest(CASE WHEN len(lines) > 0 THEN lines ELSE [NULL] END) AS line
        FROM placed
    ) AS placed
    LEFT JOIN items AS c ON c.item = line.item
)"""

# one row per line of an order that stands, at the time at which the line was told
ORDERED = f"""
ordered_lines AS (
    SELECT line.customer, line."time" AS moment, line.source,
        {_AMOUNT.format(currency="line.currency", minor="line.amount_minor")} AS value,
        line.item, line.quantity, c.title, c.category, c.brand
    FROM hidden.lined AS line
    LEFT JOIN items AS c ON c.item = line.item
    WHERE line.customer IS NOT NULL
        AND line.is_item AND line.value_minor > 0 AND line.cancelled_at IS NULL
)"""

# one row per other event, as it came
TOLD = f"""
told AS (
    SELECT customer, digest AS id, name, "time" AS moment,
        {_AMOUNT.format(currency="currency", minor="value_minor")} AS value,
        source, properties, lines
    FROM events WHERE customer IS NOT NULL
)"""

# one row per line of another event; without lines an event has one, of the item that it may name
TOLD_LINES = """
told_lines AS (
    SELECT told.* EXCLUDE (lines), line.item, line.quantity, c.title, c.category, c.brand
    FROM (
        SELECT *, unnest(CASE WHEN len(lines) > 0 THEN lines ELSE [
            {'item': CASE WHEN json_type(properties, '/item') = 'VARCHAR'
                THEN json_extract_string(properties, '/item') END,
             'quantity': NULL, 'unit_price': NULL, 'amount_minor': NULL, 'row': NULL}] END) AS line
        FROM told WHERE name IN (SELECT unnest($lined))
    ) AS told
    LEFT JOIN items AS c ON c.item = line.item
)"""

# one row per customer of whom anything is known
EVERYONE = """
everyone AS (
    SELECT customer FROM events WHERE customer IS NOT NULL
    UNION SELECT customer FROM profile_changes
    UNION SELECT customer FROM consent_history
    UNION SELECT customer FROM identifiers
    UNION SELECT customer_of(key) FROM links
    UNION SELECT customer_of(other) FROM links
)"""

# one row per customer who ever said something of one channel
CONSENT = """
{name} AS (SELECT customer, status, since FROM consents WHERE channel = {channel})"""

# one row per customer whose properties were told: their own time zone, where it is one of some
THEIRS = """
theirs AS (
    SELECT customer, list_filter([{names}], lambda one: list_contains({zones}, one))[1] AS zone
    FROM profiles
)"""

# one row per customer of one set of predictions; of keys that are one by now, their own name first
PREDICTION = """
{name} AS (
    SELECT {customer} AS customer, {value} AS value, {cutoff} AS cutoff
    FROM predictions
    WHERE version = {version} AND cutoff = {cutoff} AND question = {question}
        AND horizon_days = {horizon} AND value IS NOT NULL
    {grouped}
)"""

# one row per customer of those whom scores tell of, by the key that names them; without the name of
# its relation, the column would be taken for that of what the macro looks up
SCORED = """
{name} AS (
    SELECT customer, value, date FROM {relation} AS told WHERE customer = customer_of(told.customer)
)"""

LINKED = {
    "customer": "customer_of(customer)",
    "value": "arg_max(value, (customer = customer_of(customer), customer))",
    "grouped": "GROUP BY 1",
}
# where no two keys are one customer
UNLINKED = {"customer": "customer", "value": "max(value)", "grouped": "GROUP BY 1"}
# and the set was published at once
SINGLE = {"customer": "customer", "value": "value", "grouped": ""}

# one row per customer with an order that stands: tertiles of recency, frequency and value, ties
# alike, and the group that they make
RFM = """
scored AS (
    SELECT customer,
        CAST(1 + 3 * (rank() OVER (ORDER BY last) - 1) // count(*) OVER () AS INT) AS r,
        CAST(1 + 3 * (rank() OVER (ORDER BY number) - 1) // count(*) OVER () AS INT) AS f,
        CAST(1 + 3 * (rank() OVER (ORDER BY worth) - 1) // count(*) OVER () AS INT) AS m
    FROM (
        SELECT customer, last, number, worth - coalesce(taken_back, 0) AS worth
        FROM (
            SELECT customer, max(moment) AS last, count(*) AS number,
                coalesce(sum(value), 0) AS worth
            FROM placed GROUP BY customer
        )
        LEFT JOIN (
            SELECT customer, sum(abs(value)) AS taken_back FROM told
            WHERE name = 'order_refunded' GROUP BY customer
        ) AS refunds USING (customer)
    )
),
grouped AS (
    SELECT customer, CASE
        WHEN r = 3 AND f = 3 AND m >= 2 THEN 'champions'
        WHEN r = 3 AND f = 1 THEN 'recent'
        WHEN r = 2 AND f = 1 THEN 'needs attention'
        WHEN r = 1 AND (f >= 2 OR m >= 2) THEN 'at risk'
        WHEN r = 1 THEN 'inactive'
        ELSE 'loyal' END AS rfm
    FROM scored
)"""

# the rows of a sequence's step that the step after them follows, strictly later and in time
FOLLOWED = """
{name} AS (
    SELECT a.customer, a.moment FROM ({rows}) AS a
    ASOF JOIN {after} AS b ON a.customer = b.customer AND a.moment < b.moment
    WHERE {within}
)"""

# the rows of a sequence's step that nothing follows, its time being over
NOT_FOLLOWED = """
{name} AS (
    SELECT a.customer, a.moment FROM ({rows}) AS a
    ASOF LEFT JOIN {after} AS b ON a.customer = b.customer AND a.moment < b.moment
    WHERE {within}
)"""

# one row per customer with an order of which not all was taken back: the numbers of Klaviyo's
# profiles, to nine places. Of an order's refunds those count that the source told of which is
# believed of the order, else the shop's first, else the one that was told first
BOUGHT = f"""
refunded AS (
    SELECT customer, coalesce("order", '') AS id, source, sum(abs(value)) AS value,
        min((moment, received, digest)) AS first
    FROM (
        SELECT customer, "order", source, "time" AS moment, received, digest,
            {_AMOUNT.format(currency="currency", minor="value_minor")} AS value
        FROM events WHERE name = 'order_refunded' AND customer IS NOT NULL
    ) WHERE value IS NOT NULL GROUP BY ALL
),
taken_back AS (
    SELECT customer, id,
        CASE WHEN id = '' THEN sum(value) ELSE arg_min(value, (
            source IS DISTINCT FROM believed, ranked, first)) END AS value
    FROM (
        SELECT r.*, p.source AS believed, coalesce(nullif(list_position(
            getvariable('order_sources'), r.source), 0), 2147483647) AS ranked
        FROM refunded AS r LEFT JOIN placed AS p USING (customer, id)
    ) GROUP BY customer, id
),
-- of orders that nobody told of, or that have no amount
beside AS (
    SELECT t.customer, sum(t.value) AS value FROM taken_back AS t
    LEFT JOIN placed AS p ON p.customer = t.customer AND p.id = t.id AND p.value IS NOT NULL
    WHERE p.id IS NULL AND NOT EXISTS (
        SELECT 1 FROM events AS e WHERE e.name = 'order_cancelled' AND e."order" = t.id
            AND e.customer = t.customer
    ) AND NOT EXISTS (
        SELECT 1 FROM orders AS o WHERE o."order" = t.id AND o.customer = t.customer
            AND o.cancelled_at IS NOT NULL
    ) GROUP BY t.customer
),
summed AS (
    SELECT customer, count(*) AS number, count(value) AS valued,
        coalesce(sum(value), 0) - coalesce(any_value(beside), 0) AS net_spend,
        epoch_us(max(moment)) - epoch_us(min(moment)) AS span
    FROM (
        SELECT p.customer, p.moment, p.value - coalesce(t.value, 0) AS value,
            beside.value AS beside
        FROM placed AS p LEFT JOIN taken_back AS t USING (customer, id)
        LEFT JOIN beside ON beside.customer = p.customer
    ) WHERE value IS NULL OR value > 0 GROUP BY customer
),
bought AS (
    SELECT customer, CAST(net_spend AS {NUMBER}) AS net_spend,
        CASE WHEN valued > 0 THEN {{mean}} END AS average_order_value,
        CASE WHEN number > 1 THEN {{days}} END AS average_days_between_orders
    FROM summed
)"""

# one whole number of ninths by another number, half of one away from nought
_SHARED = (
    "sign({total}) * CAST(((2 * abs({total}) + {by}) // (2 * {by})) AS DECIMAL(28, 0))"
    " * CAST('0.000000001' AS DECIMAL(10, 9))"
)
BOUGHT = BOUGHT.format(
    mean=_SHARED.format(
        total=f"CAST(replace(CAST(CAST(net_spend AS {NUMBER}) AS VARCHAR), '.', '') AS HUGEINT)",
        by="CAST(valued AS HUGEINT)",
    ),
    days=_SHARED.format(
        total="(CAST(span AS HUGEINT) * 1000000000)",
        by="(CAST(number - 1 AS HUGEINT) * 86400000000)",
    ),
)
