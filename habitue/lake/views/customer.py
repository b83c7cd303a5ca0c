"""One customer as of an instant: keys and why they are theirs, properties, consents, events."""

from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa

from habitue.events import Instant
from habitue.lake.identity import Step
from habitue.lake.keys import kind_of
from habitue.lake.live.store import shown_id
from habitue.lake.query import opened
from habitue.lake.tables import Lake
from habitue.lake.views.people import fold

_OF_KEYS = """
-- rows of some keys, in the order in which they count
SELECT {columns} FROM {view} WHERE key IN (SELECT unnest(?)) ORDER BY "time", received, digest
"""

_LINKS = """
-- one row per link that names one of some keys, in the order in which they count
SELECT "time", received, key, other, source, cause, undo, public FROM links
WHERE key IN (SELECT unnest(?)) OR other IN (SELECT unnest(?)) ORDER BY "time", received, digest
"""

_EVERY_KEY = """
-- one row per key that anything was told of
SELECT key FROM events WHERE key IS NOT NULL UNION SELECT key FROM profile_changes
UNION SELECT key FROM consent_history UNION SELECT key FROM identifiers
UNION SELECT key FROM links UNION SELECT other FROM links
"""

_RAW = """
-- one row per raw email or phone of some keys
SELECT key, value FROM identifiers WHERE key IN (SELECT unnest(?))
"""

_EVENTS = """
-- one row per event of some keys, the last ones first
SELECT "time", name, source, key, value_minor, currency, "order" FROM events
WHERE key IN (SELECT unnest(?)) ORDER BY "time" DESC, received DESC, digest DESC LIMIT ?
"""

_TOTALS = """
-- one row per event name of some keys
SELECT name, count(*) AS events, min("time") AS first, max("time") AS last FROM events
WHERE key IN (SELECT unnest(?)) GROUP BY name ORDER BY name
"""


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """One of a customer's keys, and why it is theirs."""

    key: str
    kind: str
    value: str | None                      # the raw email or phone, where it is known
    chain: list[Step]                      # the links that lead from it to the customer's name


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """What was known of one customer."""

    shop: str
    id: str                                # of the profile
    customer: str                          # the strongest key
    keys: list[KnownKey]                   # the strongest first
    links: list[dict[str, Any]]            # every link that names one of the keys, undone or not
    properties: msgspec.Raw                # JSON object
    consents: dict[str, str]               # channel -> status in force
    consent_history: list[dict[str, Any]]
    totals: list[dict[str, Any]]           # one per event name
    events: list[dict[str, Any]]           # the last ones first

    @property
    def is_known(self) -> bool:
        """Whether anything was ever told of them."""
        told = (self.links, self.totals, self.consent_history, bytes(self.properties) != b"{}")
        return any(map(bool, told)) or any(one.value is not None for one in self.keys)


def customer(
    lake: Lake,
    key: str,
    *,
    shop: str,
    events: int = 10,
    cutoff: Instant | None = None,
    known_at: datetime | None = None,
) -> Customer:
    """The customer whom a key belonged to, with their last events.

    A key that nothing was told of is a customer of whom nothing is known.
    """
    views = {"links", "identifiers", "profile_changes", "consent_history"}
    with opened(lake, views, shop=shop, cutoff=cutoff, known_at=known_at) as (connection, whose):

        def rows(sql: str, *values: object) -> list[dict[str, Any]]:
            answer: pa.Table = connection.sql(sql, params=list(values)).to_arrow_table()
            return answer.to_pylist()

        if kind_of(key) == "profile" and whose.keys_of(key) == [key]:
            every = (row["key"] for row in rows(_EVERY_KEY))
            shown = key.removeprefix("profile:")
            key = next((one for one in every if shown_id(shop, one) == shown), key)
        keys = whose.keys_of(key)
        raw = {row["key"]: row["value"] for row in rows(_RAW, keys)}
        changes = rows(
            _OF_KEYS.format(columns="put, clear, append, unappend", view="profile_changes"), keys
        )
        told = '"time", key, channel, status, method, source'
        consents = rows(_OF_KEYS.format(columns=told, view="consent_history"), keys)
        return Customer(
            shop=shop,
            id=shown_id(shop, keys[0]),
            customer=keys[0],
            keys=[
                KnownKey(key=one, kind=kind_of(one), value=raw.get(one), chain=whose.explain(one))
                for one in keys
            ],
            links=rows(_LINKS, keys, keys),
            properties=msgspec.Raw(fold(changes)),
            consents={row["channel"]: row["status"] for row in consents},
            consent_history=consents,
            totals=rows(_TOTALS, keys),
            events=rows(_EVENTS, keys, events),
        )
