"""`VIEWS`: every view of a shop, in the order in which they stand on each other."""

from dataclasses import dataclass

from habitue.lake.views import orders, people

REJECTED = """
-- one row per input that was not taken; `replayed` is the receipt it has since it was tried again
CREATE VIEW rejected AS
SELECT refused.*, again.taken AS replayed
FROM stored.rejected AS refused
LEFT JOIN (
    SELECT shop, receipt, position, min(taken) AS taken FROM stored.replayed
    WHERE received <= getvariable('known_at') GROUP BY ALL
) AS again USING (shop, receipt, position)
WHERE shop = getvariable('shop') AND refused.received <= getvariable('known_at')
"""

RECEIPTS = """
-- one row per batch that was settled
CREATE VIEW receipts AS
SELECT * FROM stored.receipts
WHERE shop = getvariable('shop') AND received <= getvariable('known_at')
"""

SHOP_SETTINGS = """
-- one row: the settings in force now
CREATE VIEW shop_settings AS
SELECT * FROM stored.shops
WHERE shop = getvariable('shop') ORDER BY received DESC LIMIT 1
"""

AUDIENCES = """
-- one row per audience that has a name: what it is, and since when
CREATE VIEW audiences AS
SELECT name, condition, received AS since FROM stored.audiences
WHERE shop = getvariable('shop') AND received <= getvariable('known_at')
QUALIFY row_number() OVER (PARTITION BY name ORDER BY received DESC) = 1
    AND condition IS NOT NULL
"""

PREDICTIONS = """
-- one row per customer, version, anchor, question and horizon, published for the cutoff or before
CREATE VIEW predictions AS
SELECT * FROM stored.predictions
WHERE shop = getvariable('shop')
  AND cutoff <= getvariable('cutoff')
  AND received <= getvariable('known_at')
"""

CUSTOMER_EMBEDDINGS = """
-- one row per customer, version, anchor and width: what that model knew of them then
CREATE VIEW customer_embeddings AS
SELECT * FROM stored.customer_embeddings
WHERE shop = getvariable('shop')
  AND anchor <= getvariable('cutoff')
  AND received <= getvariable('known_at')
"""

ITEM_EMBEDDINGS = """
-- one row per item, version, anchor and width: what that model knew of it then
CREATE VIEW item_embeddings AS
SELECT * FROM stored.item_embeddings
WHERE shop = getvariable('shop')
  AND anchor <= getvariable('cutoff')
  AND received <= getvariable('known_at')
"""


@dataclass(frozen=True, slots=True)
class View:
    """A view: what it rests on, and whether SQL from outside may name it."""

    name: str
    sql: str
    tables: tuple[str, ...] = ()           # that it reads itself
    views: tuple[str, ...] = ()            # that it names, and that stand before it
    is_public: bool = True


# `customers` is no table: it stands for links, and for what they make of keys
VIEWS = (
    View("links", people.LINKS, tables=("links",)),
    View("events", orders.EVENTS, tables=("events", "customers")),
    View("tellings", orders.TELLINGS, views=("events",), is_public=False),
    View("believed", orders.BELIEVED, ("shops",), ("events", "tellings"), is_public=False),
    View("orders", orders.ORDERS, views=("believed",)),
    View("lined", orders.LINED, views=("events", "believed"), is_public=False),
    View("lines", orders.LINES, views=("lined",)),
    View("catalogue", orders.CATALOGUE, tables=("items",)),
    View("items", orders.ITEMS, tables=("shops",), views=("catalogue",)),
    View("profile_changes", people.PROFILE_CHANGES, tables=("profiles", "customers")),
    View("profiles", people.PROFILES, views=("profile_changes",)),
    View("consent_history", people.CONSENT_HISTORY, tables=("consents", "customers")),
    View("consents", people.CONSENTS, views=("consent_history",)),
    View("identifiers", people.IDENTIFIERS, tables=("identifiers", "customers")),
    View("conflicts", people.CONFLICTS, tables=("customers",)),
    View("rejected", REJECTED, tables=("rejected", "replayed")),
    View("receipts", RECEIPTS, tables=("receipts",)),
    View("shop_settings", SHOP_SETTINGS, tables=("shops",)),
    View("audiences", AUDIENCES, tables=("audiences",)),
    View("predictions", PREDICTIONS, tables=("predictions",)),
    View("customer_embeddings", CUSTOMER_EMBEDDINGS, tables=("customer_embeddings",)),
    View("item_embeddings", ITEM_EMBEDDINGS, tables=("item_embeddings",)),
)
