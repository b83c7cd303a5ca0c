"""From nothing: events in by Segment's client, answers out by Klaviyo's, silence, and a crash.

Starts the service over an empty folder and sends what a small shop's customers ordered this year.
Then one of them looks at an item and puts it into the cart: what Klaviyo's client reads of them
changes within a second. Thirty days of silence are let pass by a clock that runs ahead, and what
is known survives a kill.
"""

import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import segment.analytics as segment
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now

CUSTOMERS, ITEMS = 60, ("mug", "teapot", "kettle", "tea", "honey", "tray", "spoon", "sugar")
ADA = "customer-10"
DAYS_OF_SILENCE = 30
WAIT_SECONDS = 90.0

Read = TypeVar("Read")


@dataclass(frozen=True)
class Shop:
    """A service that runs, and how it is asked."""

    process: subprocess.Popen[str]
    klaviyo: KlaviyoAPI
    ours: httpx.Client

    @property
    def churn(self) -> float | None:
        """What Klaviyo's client reads: will Ada stay away?"""
        found = self.klaviyo.Profiles.get_profiles(
            filter=f'equals(external_id,"{ADA}")',
            additional_fields_profile=["predictive_analytics"],
        ).data
        told = found[0].attributes.predictive_analytics if found else None
        return None if told is None else told.churn_probability

    def members(self, audience: str) -> list[str]:
        """Who is in a segment."""
        found = self.klaviyo.Segments.get_profiles_for_segment(audience).data
        return [one.attributes.external_id for one in found]

    def knows_all_since(self, instant: datetime) -> bool:
        """Whether Ada was scored after an instant, and nothing is known of her that came later."""
        told = self.ours.get(f"/v1/customers/{ADA}/predictions").json()
        if told.get("scored") is None or told["behind_since"] is not None:
            return False
        return datetime.fromisoformat(told["scored"]) > instant

    def answers(self, at: datetime) -> list[Any]:
        """All that our own paths say of Ada: predictions as of an instant, items, audiences."""
        of_ada = f"/v1/customers/{ADA}"
        told = self.ours.get(f"{of_ada}/predictions", params={"at": at.isoformat()}).json()
        items = self.ours.get(f"{of_ada}/recommendations").json()["items"]
        return [told, items, self.ours.get(f"{of_ada}/memberships").json()]


def main(folder: Path) -> None:
    """Walk from an empty folder to answers that outlive a crash."""
    with running(folder / "work", key=None) as (shop, key):
        send_a_past(shop, key)
        until(lambda: shop.churn)
        carts = cart_audience(shop)
        before = until(lambda: shop.churn)
        print(f"before the visit: stays away with probability {before:.3f}")

        sent = utc_now()
        segment.track(ADA, "Product Viewed", {"product_id": "teapot", "price": 30})
        segment.track(ADA, "Product Added", {"product_id": "teapot", "price": 30})
        segment.flush()
        until(lambda: shop.knows_all_since(sent))
        after = until(lambda: shop.churn)
        print(f"with a cart:      stays away with probability {after:.3f}")
        print("in the segment:  ", *until(lambda: shop.members(carts)))
        print("to show:         ", *(one["item"] for one in shop.answers(utc_now())[1][:3]))

    silence = timedelta(days=DAYS_OF_SILENCE)
    with running(folder / "work", key, ahead=silence) as (shop, _):
        quiet = until(lambda: shop.churn)
        print(f"30 days later:    stays away with probability {quiet:.3f}")
        until(lambda: not shop.members(carts))
        print("in the segment:   nobody, since a day after the cart")
        until(lambda: shop.knows_all_since(sent + silence))     # the shop is scored every day
        at = utc_now() + silence + timedelta(days=1)
        known = shop.answers(at)
        shop.process.kill()

    with running(folder / "work", key, ahead=silence) as (shop, _):
        print("after a kill:    ", "the same answers" if shop.answers(at) == known else "others")
    if after >= before or quiet <= after:
        sys.exit("a cart makes an order likelier, and silence less so")


@contextmanager
def running(
    work: Path, key: str | None, ahead: timedelta = timedelta()
) -> Iterator[tuple[Shop, str]]:
    """A service over the workspace, until the block ends; the shop's secret key beside it."""
    serve = ["habitue.cli.app", "serve", "--workspace", str(work), "--port", "0"]
    command = ["env", f"HABITUE_CLOCK_AHEAD={ahead.total_seconds()}", sys.executable, "-m", *serve]
    command += ["--shop", "acme", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        key, address = key or told["keys"]["secret"], told["listening"]
        headers = {"X-Habitue-Key": key}
        try:
            with httpx.Client(base_url=address, headers=headers, timeout=30) as ours:
                until(lambda: ours.get("/readyz").status_code == 200)
                yield Shop(process, KlaviyoAPI(key, test_host=address), ours), key
        finally:
            process.terminate()


def send_a_past(shop: Shop, key: str) -> None:
    """What sixty customers ordered in the last year, each at a pace of their own."""
    segment.host, segment.write_key = str(shop.ours.base_url).rstrip("/"), key
    chance, now = random.Random(7), utc_now()
    for number in range(CUSTOMERS):
        pace, customer = chance.uniform(10, 80), f"customer-{number}"
        at = now - timedelta(days=chance.uniform(200, 360))
        while at < now - timedelta(days=1):
            for name, properties in bought(chance, f"{customer}-{at:%Y%m%d}"):
                segment.track(customer, name, properties, timestamp=at)
            at += timedelta(days=1 + chance.expovariate(1 / pace))
    segment.flush()


def bought(chance: random.Random, order: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A look and an order, as Segment's specification of e-commerce names them."""
    lines: list[dict[str, Any]] = [
        {"product_id": item, "quantity": 1, "price": 5 + 3 * ITEMS.index(item)}
        for item in chance.sample(ITEMS, 2)
    ]
    yield "Product Viewed", lines[0]
    revenue = sum(line["price"] for line in lines)
    yield (
        "Order Completed",
        {"order_id": order, "revenue": revenue, "currency": "USD", "products": lines},
    )


def cart_audience(shop: Shop) -> str:
    """Make a segment of who put something into the cart in the last day; its id."""
    shop.ours.post("/v1/events", json={"name": "cart_added", "customer": "passer-by",
                                       "time": "2020-01-01T00:00:00Z", "item": "tray"})  # fmt: skip
    metrics = until(lambda: {
        one.attributes.name: one.id for one in shop.klaviyo.Metrics.get_metrics().data
    }.get("Added to Cart"))  # fmt: skip
    condition = {
        "type": "profile-metric", "metric_id": metrics, "measurement": "count",
        "measurement_filter": {
            "type": "numeric", "operator": "greater-than-or-equal", "value": 1,
        },
        "timeframe_filter": {
            "type": "date", "operator": "in-the-last", "unit": "day", "quantity": 1,
        },
    }  # fmt: skip
    definition = {"condition_groups": [{"conditions": [condition]}]}
    attributes = {"name": "A cart today", "definition": definition}
    made = shop.klaviyo.Segments.create_segment(
        {"data": {"type": "segment", "attributes": attributes}}
    ).data
    until(lambda: not shop.klaviyo.Segments.get_segment(made.id).data.attributes.is_processing)
    return str(made.id)


def until(look: Callable[[], Read | None]) -> Read:
    """What is found as soon as something is."""
    began = time.monotonic()
    while not (found := look()):
        if time.monotonic() - began > WAIT_SECONDS:
            raise TimeoutError(f"nothing came within {WAIT_SECONDS:.0f} s")
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]))
