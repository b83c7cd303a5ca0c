"""Requests that Klaviyo's schema allows, one of each kind, with the path that each is sent to."""

from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]               # the members and places that lead to a value

_MUG = {
    "type": "catalog-item",
    "attributes": {
        "external_id": "SKU1", "integration_type": "$custom", "catalog_type": "$default",
        "title": "Enamel mug", "description": "350 ml", "url": "https://shop.example/p/sku1",
        "image_full_url": "https://shop.example/i/sku1.jpg", "price": 12.5,
        "custom_metadata": {"brand": "Acme"}, "published": True,
    },
    "relationships": {
        "categories": {"data": [{"type": "catalog-category", "id": "$custom:::$default:::MUGS"}]}
    },
}  # fmt: skip
_RED = {
    "type": "catalog-variant",
    "attributes": {
        "external_id": "SKU1-RED", "title": "Enamel mug, red", "description": "350 ml",
        "sku": "MUG-RED", "inventory_policy": 1, "inventory_quantity": 40, "price": 12.5,
        "url": "https://shop.example/p/sku1?v=red", "published": True,
    },
    "relationships": {
        "item": {"data": {"type": "catalog-item", "id": "$custom:::$default:::SKU1"}}
    },
}  # fmt: skip
_ADA = {
    "type": "profile",
    "attributes": {
        "email": "ada@example.com", "external_id": "cust-42", "first_name": "Ada",
        "location": {"city": "London", "latitude": "51.5", "longitude": -0.12},
        "properties": {"plan": "gold"},
    },
    "meta": {"patch_properties": {"append": {"skus": "92538"}, "unset": "old_key"}},
}  # fmt: skip
_ORDER = {
    "type": "event",
    "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": _ADA},
        "properties": {
            "OrderId": "1001",
            "Items": [{"ProductID": "SKU1", "Quantity": 2, "ItemPrice": 12.5}],
        },
        "time": "2026-11-22T10:15:00+00:00", "value": 25.0, "value_currency": "USD",
        "unique_id": "order-1001", "backfill": False,
    },
}  # fmt: skip
_VIEW = {
    "type": "event",
    "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Viewed Product"}}},
        "properties": {"ProductID": "SKU1"}, "time": "2026-11-22T10:10:00+00:00",
        "unique_id": "v-1",
    },
}  # fmt: skip
_GROUP = {
    "type": "event-bulk-create",
    "attributes": {"backfill": True, "profile": {"data": _ADA}, "events": {"data": [_VIEW, _VIEW]}},
}
_SUBSCRIBED = {
    "type": "profile",
    "attributes": {
        "email": "ada@example.com",
        "subscriptions": {"email": {"marketing": {"consent": "SUBSCRIBED"}}},
    },
}


def _job(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"data": {"type": kind, "attributes": attributes}}


def _kept(resource: dict[str, Any]) -> dict[str, Any]:
    shown = f"$custom:::$default:::{resource['attributes']['external_id']}"
    return {"data": {**resource, "id": shown}}


EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("/api/events", {"data": _ORDER}),
    ("/client/events", {"data": _ORDER}),
    (
        "/api/event-bulk-create-jobs",
        _job("event-bulk-create-job", **{"events-bulk-create": {"data": [_GROUP]}}),
    ),
    ("/client/event-bulk-create", {"data": _GROUP}),
    ("/api/profile-import", {"data": _ADA}),
    ("/api/profiles", {"data": _ADA}),
    ("/api/profiles/{id}", {"data": {**_ADA, "id": "01ABC"}}),
    ("/client/profiles", {"data": _ADA}),
    ("/api/profile-bulk-import-jobs", _job("profile-bulk-import-job", profiles={"data": [_ADA]})),
    (
        "/api/profile-bulk-import-jobs",
        {
            "data": {
                "type": "profile-bulk-import-job",
                "attributes": {"profiles": {"data": [_ADA]}},
                "relationships": {"lists": {"data": [{"type": "list", "id": "LST"}]}},
            }
        },
    ),
    (
        "/api/profile-merge",
        {
            "data": {
                "type": "profile-merge",
                "id": "DEST",
                "relationships": {"profiles": {"data": [{"type": "profile", "id": "SRC"}]}},
            }
        },
    ),
    (
        "/client/subscriptions",
        _job("subscription", custom_source="footer", profile={"data": _SUBSCRIBED}),
    ),
    (
        "/api/profile-subscription-bulk-create-jobs",
        _job("profile-subscription-bulk-create-job", profiles={"data": [_SUBSCRIBED]}),
    ),
    (
        "/api/profile-subscription-bulk-delete-jobs",
        _job(
            "profile-subscription-bulk-delete-job",
            profiles={"data": [{"type": "profile", "attributes": {"email": "ada@example.com"}}]},
        ),
    ),
    ("/api/catalog-items", {"data": _MUG}),
    ("/api/catalog-items/{id}", _kept(_MUG)),
    ("/api/catalog-variants", {"data": _RED}),
    ("/api/catalog-variants/{id}", _kept(_RED)),
    (
        "/api/catalog-item-bulk-create-jobs",
        _job("catalog-item-bulk-create-job", items={"data": [_MUG]}),
    ),
    (
        "/api/catalog-item-bulk-update-jobs",
        _job("catalog-item-bulk-update-job", items={"data": [_kept(_MUG)["data"]]}),
    ),
    (
        "/api/catalog-item-bulk-delete-jobs",
        _job("catalog-item-bulk-delete-job", items={"data": [_kept(_MUG)["data"]]}),
    ),
    (
        "/api/catalog-variant-bulk-create-jobs",
        _job("catalog-variant-bulk-create-job", variants={"data": [_RED]}),
    ),
    (
        "/api/catalog-variant-bulk-update-jobs",
        _job("catalog-variant-bulk-update-job", variants={"data": [_kept(_RED)["data"]]}),
    ),
    (
        "/api/catalog-variant-bulk-delete-jobs",
        _job("catalog-variant-bulk-delete-job", variants={"data": [_kept(_RED)["data"]]}),
    ),
]


def paths(value: object, way: Path = ()) -> Iterator[Path]:
    """Where each value of a document stands, the document itself left out."""
    if way:
        yield way
    inside = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ()
    )
    for step, member in inside:
        yield from paths(member, (*way, step))
