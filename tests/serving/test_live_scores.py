"""What is sent moves what is read: within a second, and after the service was killed as before."""

import signal
import time
from pathlib import Path

import httpx

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


def send(server: Server, customer: str, name: str = "order_placed") -> None:
    event = {"name": name, "customer": customer, "value": 30, "currency": "GBP",
             "lines": [{"item": "i000001", "quantity": 1, "unit_price": 30}]}  # fmt: skip
    with server.client() as client:
        client.post("/v1/events", json=event).raise_for_status()


def test_an_order_moves_predictions_and_lists_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    open_workspace(folder)
    source_of(folder)
    server = start(folder, "--scores", shop=SHOP.shop)
    try:
        send(server, "newcomer", "item_viewed")
        send(server, "newcomer")
        first = scored(server, "newcomer")
        order = next(one for one in first["predictions"] if one["question"] == "order")
        assert 0 < order["low"] <= order["value"] <= order["high"] < 1
        listed = read(server, "newcomer", "recommendations").json()["items"]
        assert listed[0]["reason"] in ("bought_once", "bought_together", "likely_next", "popular")

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
