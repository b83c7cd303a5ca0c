"""One changed line per client: Klaviyo's, Segment's, RudderStack's and PostHog's send here.

Starts the service, lets each client send an order or a view, waits until all of it is settled, and
asks the lake.
"""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import httpx
import rudderstack.analytics as rudderstack
import segment.analytics as segment
from klaviyo_api import KlaviyoAPI
from posthog import Posthog

import habitue

QUERY = "SELECT source, name, customer FROM events ORDER BY source, name"


def main(folder: Path) -> None:
    """Leave a workspace with what four clients sent."""
    work = folder / "work"
    serve = ["habitue.cli.app", "serve", "--workspace", str(work), "--port", "0"]
    command = [sys.executable, "-m", *serve, "--shop", "acme", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        told = json.loads(service.stdout.readline())
        try:
            send(told["listening"], told["keys"]["secret"])
            wait_until_settled(told["listening"], told["keys"]["secret"])
        finally:
            service.terminate()
    for row in habitue.open(work).shop("acme").query(QUERY).to_pylist():
        print(row["source"], row["name"], row["customer"], sep="\t")


def send(address: str, key: str) -> None:
    """What a shop's code does today; the first line of each is the one that changes."""
    klaviyo = KlaviyoAPI(key, test_host=address)
    klaviyo.Events.create_event(placed_order("ada@example.com", "order-1"))

    segment.host, segment.write_key = address, key
    segment.track("customer-7", "Product Viewed", {"product_id": "sku-1"})
    segment.flush()

    rudderstack.dataPlaneUrl, rudderstack.write_key = address, key
    rudderstack.track("customer-8", "Product Added", {"product_id": "sku-2"})
    rudderstack.flush()

    posthog = Posthog(key, host=address)
    posthog.capture("searched", distinct_id="customer-9", properties={"query": "mug"})
    posthog.shutdown()


def placed_order(email: str, unique_id: str) -> dict[str, object]:
    """An order, as Klaviyo wants it."""
    attributes = {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
        "properties": {"OrderId": unique_id},
        "value": 25.0,
        "value_currency": "USD",
        "unique_id": unique_id,
    }
    return {"data": {"type": "event", "attributes": attributes}}


def wait_until_settled(address: str, key: str) -> None:
    """Send one event more; when that is in the lake, so is all that was sent before it."""
    with httpx.Client(base_url=address, headers={"X-Habitue-Key": key}, timeout=30) as client:
        last = client.post("/v1/events", json={"name": "switched_over", "customer": "me"}).json()
        print(f"receipt {last['id']}: {last['accepted']} accepted")
        while not (settled := client.get(f"/v1/receipts/{last['id']}").json())["settled"]:
            time.sleep(0.1)
        print(f"settled: {settled['appended']} appended, {settled['duplicate']} duplicate")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
