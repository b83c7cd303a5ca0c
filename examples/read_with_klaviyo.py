"""Klaviyo's client, unmodified, reads: a profile with its numbers, a segment and who is in it.

Starts the service, sends orders of two customers, asks for one of them, and saves who ordered at
least twice. Predictions come from `habitue score`, which is left out here: they are null.
"""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

from klaviyo_api import KlaviyoAPI


def main(folder: Path) -> None:
    """Print what the client reads."""
    serve = ["habitue.cli.app", "serve", "--workspace", str(folder / "work"), "--port", "0"]
    command = [sys.executable, "-m", *serve, "--shop", "acme", "--json", "--no-scores"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        told = json.loads(service.stdout.readline())
        try:
            read(KlaviyoAPI(told["keys"]["secret"], test_host=told["listening"]))
        finally:
            service.terminate()


def read(klaviyo: KlaviyoAPI) -> None:
    """Send some orders, and read what became of them."""
    for number, email in enumerate(("ada@example.com", "ada@example.com", "bob@example.com")):
        klaviyo.Events.create_event(placed_order(email, f"order-{number}", 25.0 + number))
    while len(klaviyo.Events.get_events().data) < 3:
        time.sleep(0.1)
    (ada,) = klaviyo.Profiles.get_profiles(
        filter='equals(email,"ada@example.com")',
        additional_fields_profile=["predictive_analytics"],
    ).data
    numbers = ada.attributes.predictive_analytics
    print(f"{ada.attributes.email}: {numbers.historic_number_of_orders} orders,", end=" ")
    print(f"{numbers.historic_clv} in all, {numbers.average_order_value} each")
    (metric,) = klaviyo.Metrics.get_metrics().data
    made = klaviyo.Segments.create_segment(regulars(metric.id)).data
    while klaviyo.Segments.get_segment(made.id).data.attributes.is_processing:
        time.sleep(0.1)
    for one in klaviyo.Segments.get_profiles_for_segment(made.id).data:
        print(f"{made.attributes.name}: {one.attributes.email}")


def placed_order(email: str, unique_id: str, value: float) -> dict[str, object]:
    """An order, as Klaviyo wants it."""
    attributes = {
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
        "properties": {"OrderId": unique_id},
        "value": value,
        "value_currency": "USD",
        "unique_id": unique_id,
    }
    return {"data": {"type": "event", "attributes": attributes}}


def regulars(metric: str) -> dict[str, object]:
    """A segment of who ordered at least twice, as Klaviyo wants it."""
    condition = {
        "type": "profile-metric",
        "metric_id": metric,
        "measurement": "count",
        "measurement_filter": {
            "type": "numeric", "operator": "greater-than-or-equal", "value": 2,
        },
    }  # fmt: skip
    definition = {"condition_groups": [{"conditions": [condition]}]}
    return {
        "data": {"type": "segment", "attributes": {"name": "Regulars", "definition": definition}}
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
