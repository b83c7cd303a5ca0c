"""Small requests in Klaviyo's shape, and the door they come through."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from habitue.events import Event, Noun
from habitue.ingest.doors.intake import Door, Intake

RECEIVED = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
DOOR = Door(
    shop="acme", source="klaviyo", received=RECEIVED, secret=b"a secret of the shop", currency="EUR"
)
PUBLIC = Door(
    shop="acme", source="klaviyo", received=RECEIVED, secret=b"a secret of the shop", public=True
)
ORDER: dict[str, Any] = {
    "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
    "profile": {
        "data": {
            "type": "profile",
            "attributes": {"email": "ada@example.com", "external_id": "cust-42"},
        }
    },
    "properties": {
        "OrderId": "1001",
        "Items": [{"ProductID": "SKU1", "Quantity": 2, "ItemPrice": 12.5}],
    },
    "time": "2026-11-22T10:15:00+00:00",
    "value": 25.0,
    "value_currency": "USD",
    "unique_id": "order-1001",
}


def event_body(**changes: Any) -> bytes:
    """An order placed, with these attributes instead; one that is `...` is left out."""
    attributes = {k: v for k, v in {**deepcopy(ORDER), **changes}.items() if v is not ...}
    return encoded({"type": "event", "attributes": attributes})


def metric(name: str) -> dict[str, Any]:
    return {"data": {"type": "metric", "attributes": {"name": name}}}


def profile(**attributes: Any) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": attributes}}


def bulk_body(*groups: tuple[dict[str, Any], list[dict[str, Any]]]) -> bytes:
    """Events of several profiles: (profile, the attributes of its events)."""
    data = [
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": who,
                "events": {"data": [{"type": "event", "attributes": one} for one in events]},
            },
        }
        for who, events in groups
    ]
    return encoded(
        {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": data}}}
    )


def encoded(data: object) -> bytes:
    return json.dumps({"data": data}).encode()


def nouns(intake: Intake, kind: type) -> list[Any]:
    return [noun for entry in intake.entries for noun in entry.nouns if isinstance(noun, kind)]


def only_event(intake: Intake) -> Event:
    (event,) = nouns(intake, Event)
    return event


def put_of(noun: Noun) -> dict[str, Any]:
    """What a profile change sets."""
    return json.loads(bytes(noun.put))
