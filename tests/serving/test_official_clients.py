"""The official clients, unmodified but for where they send: what they sent is in the lake."""

import logging

import pytest

from habitue.workspace import open_workspace
from tests.serving.small import running, settled

EVENTS = 'SELECT source, name, customer, id, value_minor, "order" FROM events ORDER BY name, id'


def stored(workspace, sql: str = EVENTS) -> list[dict]:
    return open_workspace(workspace).shop("acme").query(sql).to_pylist()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("clients") / "work") as server:
        yield server


def everything_settled(server) -> None:
    """Wait until all that came before is in the lake."""
    with server.client() as client:
        last = {"name": "last_of_all", "customer": "z"}
        told = client.post("/v1/events", json=last).json()
        settled(client, told["id"])


def test_segments_client_is_understood(server):
    from segment.analytics import Client

    told = []
    client = Client(
        server.secret, host=server.url, on_error=lambda *error: told.append(error), gzip=True,
        max_retries=1,
    )  # fmt: skip
    client.identify("u1", {"email": "Ada@Example.com", "plan": "gold"})
    client.track("u1", "Order Completed", {
        "order_id": "o1", "total": 25.0, "currency": "USD",
        "products": [{"product_id": "sku1", "quantity": 2, "price": 12.5}],
    })  # fmt: skip
    client.page("u1", "Docs", "Python")
    client.alias("cookie1", "u1")
    client.flush()
    client.join()
    everything_settled(server)
    assert not told
    found = {row["name"]: row for row in stored(server.workspace)}
    assert found["order_placed"]["customer"] == "u1"
    assert found["order_placed"]["value_minor"] == 2_500
    assert found["order_placed"]["order"] == "o1"
    assert {"identified", "page_viewed"} <= set(found)


def test_rudderstacks_client_is_understood(server):
    from rudderstack.analytics.client import Client

    told = []
    client = Client(
        server.secret, host=server.url, on_error=lambda *error: told.append(error), max_retries=1
    )
    client.track("u2", "Product Viewed", {"product_id": "sku9"})
    client.flush()
    client.join()
    everything_settled(server)
    assert not told
    assert [row["name"] for row in stored(server.workspace) if row["customer"] == "u2"] == [
        "item_viewed"
    ]


def test_posthogs_client_is_understood(server):
    from posthog import Posthog

    told = []
    client = Posthog(
        server.public, host=server.url, on_error=lambda *error: told.append(error),
        disable_geoip=True, max_retries=1,
    )  # fmt: skip
    client.capture("bought something", distinct_id="u3", properties={"sku": "a"})
    client.flush()
    client.shutdown()
    everything_settled(server)
    assert not told
    (row,) = [row for row in stored(server.workspace) if row["source"] == "posthog"]
    assert (row["name"], row["customer"]) == ("bought something", "u3")


def test_klaviyos_client_is_understood(server):
    from klaviyo_api import KlaviyoAPI

    api = KlaviyoAPI(server.secret, max_delay=5, max_retries=2, test_host=server.url)
    ada = {"data": {"type": "profile", "attributes": {"email": "kay@example.com"}}}
    event = {
        "data": {
            "type": "event",
            "attributes": {
                "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
                "profile": ada,
                "properties": {"OrderId": "1001", "Items": [
                    {"ProductID": "SKU1", "Quantity": 2, "ItemPrice": 12.5},
                ]},
                "value": 25.0, "value_currency": "USD", "unique_id": "order-1001",
            },
        }
    }  # fmt: skip
    assert api.Events.create_event(event) is None
    assert api.Events.create_event(event) is None
    made = api.Profiles.create_or_update_profile(
        {"data": {"type": "profile",
                  "attributes": {"email": "ben@example.org", "first_name": "Bo"}}}
    )
    assert made.data.attributes.first_name == "Bo"
    everything_settled(server)
    shown = api.Profiles.get_profile(made.data.id)
    assert shown.data.attributes.email == "ben@example.org"
    with pytest.raises(Exception, match="already exists") as refused:
        api.Profiles.create_profile(
            {"data": {"type": "profile", "attributes": {"email": "BEN@example.org"}}}
        )
    assert refused.value.status == 409
    with pytest.raises(Exception, match="not_authenticated"):
        KlaviyoAPI("pk_wrong", max_retries=0, test_host=server.url).Events.create_event(event)
    views = [
        {"type": "event", "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Viewed Product"}}},
            "properties": {"ProductID": "SKU1"}, "unique_id": f"v-{number}",
        }} for number in range(3)
    ]  # fmt: skip
    group = {"profile": ada, "events": {"data": views}}
    bulk = {"data": [{"type": "event-bulk-create", "attributes": group}]}
    job = {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": bulk}}
    api.Events.bulk_create_events({"data": job})
    everything_settled(server)
    found = [row for row in stored(server.workspace) if row["source"] == "klaviyo"]
    assert [row["name"] for row in found] == ["item_viewed"] * 3 + ["order_placed"]
    assert len({row["customer"] for row in found}) == 1
    assert found[0]["customer"].startswith("email:")
    assert found[-1]["value_minor"] == 2_500


def test_a_wrong_key_is_told_to_segments_client(server, caplog):
    from segment.analytics import Client

    told = []
    logging.getLogger("segment").setLevel(logging.CRITICAL)
    client = Client(
        "wrong", host=server.url, on_error=lambda *error: told.append(error), max_retries=0
    )
    client.track("u1", "x")
    client.flush()
    client.join()
    assert "not_authenticated" in str(told[0][0])
