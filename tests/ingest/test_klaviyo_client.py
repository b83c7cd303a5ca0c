"""Klaviyo's own Python client, unmodified: what it sends is taken, and it reads the answers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from habitue.events import Consent, Event, Item, Link, ProfileChange
from habitue.ingest.doors.intake import Intake
from habitue.ingest.doors.klaviyo.catalog import item_id
from habitue.ingest.doors.klaviyo.problems import Refused, errors_body
from habitue.ingest.doors.klaviyo.routes import ROUTES
from habitue.ingest.doors.klaviyo.routes import Route as Door
from tests.ingest.klaviyo_server import served
from tests.ingest.klaviyo_small import DOOR, nouns, profile

JSON_API = "application/vnd.api+json"


class Taken:
    """What came in, request by request."""

    def __init__(self) -> None:
        self.intakes: list[Intake] = []

    def all(self, kind: type) -> list[Any]:
        return [noun for intake in self.intakes for noun in nouns(intake, kind)]


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def habitue_url(taken: Taken) -> Iterator[str]:
    """A server that does no more than translate, and answers as the real one does."""
    routes = [_route(one, taken) for one in ROUTES]
    with served(Starlette(routes=routes)) as address:
        yield address


@pytest.fixture
def client(habitue_url: str) -> Iterator[Any]:
    from klaviyo_api import KlaviyoAPI

    api = KlaviyoAPI("hs_secret", max_delay=1, max_retries=1, test_host=habitue_url)
    yield api
    api.api_client.rest_client.pool_manager.clear()


def _route(door: Door, taken: Taken) -> Route:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        received = datetime.now(DOOR.received.tzinfo)
        assert request.headers["authorization"] == "Klaviyo-API-Key hs_secret"
        try:
            taken.intakes.append(door.translate(body, replace(DOOR, received=received)))
        except Refused as refused:
            told = errors_body(refused.problems)
            return Response(told, refused.status, media_type=JSON_API)
        if door.status == 202 and "catalog" not in door.path:
            return Response(status_code=202)
        data = json.loads(body)["data"]
        data |= {"id": data.get("id", "1"), "links": {"self": str(request.url)}}
        if data["type"] == "profile-merge":
            data["type"] = "profile"       # the one that is left
        if "job" in data["type"]:
            data["attributes"] = {"status": "queued", "created_at": "2026-11-22T10:15:00Z"}
            data["attributes"] |= {"total_count": 1}
        data.pop("relationships", None)
        return Response(json.dumps({"data": data}), door.status, media_type=JSON_API)

    return Route(door.path, endpoint, methods=[door.method])


def event(unique_id: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "event",
        "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            "properties": {
                "OrderId": unique_id,
                "Items": [{"ProductID": "SKU1", "Quantity": 2, "ItemPrice": 12.5}],
            },
            "value": 25.0, "value_currency": "USD", "unique_id": unique_id, **more,
        },
    }  # fmt: skip


def test_an_event_is_taken(client, taken):
    told = event("1001", profile=profile(email="ada@example.com"), time="2026-11-22T10:15:00+00:00")

    assert client.Events.create_event({"data": told}) is None

    (found,) = taken.all(Event)
    assert (found.name, found.order, found.value.minor) == ("order_placed", "1001", 2500)


def test_many_events_are_taken_at_once(client, taken):
    group = {
        "type": "event-bulk-create",
        "attributes": {
            "profile": profile(email="ada@example.com"),
            "events": {"data": [event("1"), event("2")]},
        },
    }
    job = {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": [group]}}}

    client.Events.bulk_create_events({"data": job})

    assert [one.order for one in taken.all(Event)] == ["1", "2"]


def test_profiles_are_told_created_changed_and_merged(client, taken):
    ada = {"email": "ada@example.com", "external_id": "cust-42", "properties": {"plan": "gold"}}
    meta = {"patch_properties": {"append": {"skus": "92538"}, "unset": "old"}}

    client.Profiles.create_or_update_profile(
        {"data": {"type": "profile", "attributes": ada, "meta": meta}}
    )
    client.Profiles.create_profile({"data": {"type": "profile", "attributes": ada}})
    client.Profiles.update_profile(
        "01AB", {"data": {"type": "profile", "id": "01AB", "attributes": {"first_name": "Ada"}}}
    )
    client.Profiles.merge_profiles({
        "data": {
            "type": "profile-merge",
            "id": "01AB",
            "relationships": {"profiles": {"data": [{"type": "profile", "id": "01CD"}]}},
        }
    })  # fmt: skip

    changes = taken.all(ProfileChange)
    assert [one.customer for one in changes] == ["cust-42", "cust-42", "profile:01AB"]
    assert changes[0].clear == ("old",)
    assert taken.all(Link)[-1].other == "profile:01CD"


def test_subscriptions_are_taken(client, taken):
    who = {
        "type": "profile",
        "attributes": {
            "email": "ada@example.com",
            "subscriptions": {"email": {"marketing": {"consent": "SUBSCRIBED"}}},
        },
    }
    job = {
        "type": "profile-subscription-bulk-create-job",
        "attributes": {"profiles": {"data": [who]}},
    }

    client.Profiles.bulk_subscribe_profiles({"data": job})

    assert [(one.channel, one.status) for one in taken.all(Consent)] == [("email", "subscribed")]


def test_the_catalogue_is_written(client, taken):
    mug = {
        "type": "catalog-item",
        "attributes": {
            "external_id": "SKU1", "title": "Enamel mug", "description": "350 ml", "price": 12.5,
            "url": "https://shop.example/p/sku1",
        },
    }  # fmt: skip
    client.Catalogs.create_catalog_item({"data": mug})
    shown = item_id("SKU1")
    client.Catalogs.update_catalog_item(
        shown, {"data": {"type": "catalog-item", "id": shown, "attributes": {"price": 10}}}
    )
    job = {"type": "catalog-item-bulk-create-job", "attributes": {"items": {"data": [mug]}}}
    client.Catalogs.bulk_create_catalog_items({"data": job})

    assert [one.item for one in taken.all(Item)] == ["SKU1"] * 3
    assert [one.published for one in taken.all(Item)] == [True, None, True]


def test_a_refusal_is_an_error_that_the_client_can_read(client, taken):
    from openapi_client.exceptions import BadRequestException

    told = event("1001", profile=profile(email="ada"))

    with pytest.raises(BadRequestException) as refused:
        client.Events.create_event({"data": told})

    (error,) = json.loads(refused.value.body)["errors"]
    assert error["source"]["pointer"] == "/data/attributes/profile/data/attributes/email"
    assert taken.intakes == []
