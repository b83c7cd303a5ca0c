"""What is sent moves what is read: within a second, and after the service was killed as before."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from habitue.audiences.changes.reading import NotFollowed
from habitue.workspace import open_workspace
from tests.scoring.small import SHOP, source_of
from tests.serving.small import Server, start

WITHIN_SECONDS = 90.0                      # of a machine on which other tests run


def read(server: Server, customer: str, what: str = "predictions") -> httpx.Response:
    with server.client() as client:
        return client.get(f"/v1/customers/{customer}/{what}")


def scored(server: Server, customer: str, than: str | None = None) -> dict:
    """The answers about a customer, as soon as they are others than those scored before."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        told = read(server, customer)
        if told.status_code == 200 and told.json()["scored"] not in (None, than):
            return told.json()
        time.sleep(0.05)
    raise AssertionError(f"nothing new was told of {customer}: {told.text}")


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        with suppress(NotFollowed):        # nothing is followed yet
            if is_so():
                return
        time.sleep(0.05)
    raise AssertionError("it did not come to be")


def send(server: Server, customer: str, name: str = "order_placed") -> None:
    event = {"name": name, "customer": customer, "value": 30, "currency": "GBP",
             "lines": [{"item": "i000001", "quantity": 1, "unit_price": 30}]}  # fmt: skip
    with server.client() as client:
        client.post("/v1/events", json=event).raise_for_status()


def test_an_order_moves_predictions_and_lists_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    open_workspace(folder)
    source_of(folder)
    audiences = open_workspace(folder).shop(SHOP.shop).audiences
    audiences.save("likely", "order_365d > 0.000001")
    server = start(folder, "--scores", shop=SHOP.shop)
    try:
        until(lambda: any(one["members"] for one in audiences.followed().to_pylist()))
        send(server, "newcomer", "item_viewed")
        send(server, "newcomer")
        first = scored(server, "newcomer")
        order = next(one for one in first["predictions"] if one["question"] == "order")
        assert 0 < order["low"] <= order["value"] <= order["high"] < 1
        listed = read(server, "newcomer", "recommendations").json()["items"]
        assert listed[0]["reason"] in ("bought_once", "bought_together", "likely_next", "popular")

        until(lambda: read(server, "newcomer", "memberships").json()["memberships"])
        told = [one for one in audiences.changes("likely").to_pylist()
                if one["customer"] == "newcomer"]  # fmt: skip
        assert [(one["change"], one["cause"]) for one in told] == [("entered", "score")]

        send(server, "newcomer")
        second = scored(server, "newcomer", than=first["scored"])
        moved = next(one for one in second["predictions"] if one["question"] == "order")
        assert moved["value"] != order["value"]

        at = second["at"]
        asked = {"at": at, "question": "order,churn,orders,revenue"}
        with server.client() as client:
            before = client.get("/v1/customers/newcomer/predictions", params=asked).json()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
        server.process.stdout.close()
        server = start(folder, "--scores", shop=SHOP.shop)
        with server.client() as client:    # at once, before any model is loaded
            again = client.get("/v1/customers/newcomer/predictions", params=asked).json()
        assert again["predictions"] == before["predictions"]
        send(server, "newcomer")
        scored(server, "newcomer", than=second["scored"])
    finally:
        server.stop()
