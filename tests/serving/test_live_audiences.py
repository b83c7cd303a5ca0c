"""Audiences kept live by a server that runs, is killed, and runs again."""

import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path

from habitue.config import utc_now
from habitue.workspace import open_workspace
from tests.serving.small import Server, running, settled, start

CARTS = "did cart_added between 72 and 1 hour ago then not order_placed"
HOUR = timedelta(hours=1)


def send(server: Server, id: str, name: str, when: datetime, customer: str = "c1") -> str:
    body = {"id": id, "name": name, "customer": customer, "time": when.isoformat()}
    body |= {"order": id, "value": 5, "currency": "GBP"} if "order" in name else {}
    with server.client() as client:
        return client.post("/v1/events", json=body).raise_for_status().json()["id"]


def changes(folder: Path, *, number: int, within_seconds: float = 60) -> list[dict]:
    """The changes of the shop, as soon as there are so many."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            found = open_workspace(folder).shop("acme").audiences.changes().to_pylist()
        except LookupError:
            found = []
        if len(found) >= number:
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def test_an_abandoned_cart_is_told_at_its_instant_also_across_a_kill(tmp_path):
    folder = tmp_path / "work"
    server = start(folder)
    with server.client() as client:
        receipt = send(server, "seen", "item_viewed", utc_now() - 3 * HOUR)
        settled(client, receipt)
    shop = open_workspace(folder).shop("acme")
    shop.audiences.save("carts", CARTS)
    first = utc_now() - HOUR + timedelta(seconds=3)
    send(server, "cart", "cart_added", first)
    one = changes(folder, number=1)[0]
    assert (one["change"], one["cause"], one["at"]) == ("entered", "time", first + HOUR)
    late = one["detected_at"] - one["at"]
    assert timedelta(0) <= late < timedelta(seconds=20)    # how late is a benchmark's figure
    second = utc_now() - HOUR + timedelta(seconds=1)
    send(server, "other", "cart_added", second, customer="c2")
    os.kill(server.process.pid, signal.SIGKILL)            # its time is over while nothing runs
    server.process.wait()
    server.process.stdout.close()
    time.sleep(1)
    with running(folder) as server:
        two = changes(folder, number=2)[1]
        assert (two["customer"], two["change"], two["at"]) == ("c2", "entered", second + HOUR)
        sent = utc_now()
        send(server, "order", "order_placed", sent)
        three = changes(folder, number=3)[2]
        assert (three["customer"], three["change"], three["cause"]) == ("c1", "left", "event")
        assert sent <= three["at"] <= three["detected_at"] < sent + timedelta(seconds=20)
        assert shop.audiences.members("carts").to_pylist() == [
            {"customer": "c2", "joined_at": second + HOUR}
        ]
        shop.audiences.remove("carts")
        four = changes(folder, number=4)[3]
        assert (four["customer"], four["change"], four["cause"]) == ("c2", "left", "definition")
    assert [row["sequence"] for row in changes(folder, number=4)] == [1, 2, 3, 4]
