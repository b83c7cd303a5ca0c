"""Abandoned carts in a shop whose service is killed and runs again, and who was told of them.

Each customer puts something into a cart an hour ago, less a second or two, so the hour is over
soon; some then order, before it is or after. The server is killed, or the worker beside it alone,
and so is the command that delivers the changes to a file. In the end every change that there should
have been is worked out from the lake's events, and held against the stream and the file.
"""

import heapq
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from habitue.audiences.live import tables
from habitue.config import utc_now
from habitue.lake.live.told import instant
from habitue.lake.profiles import PROFILES_FILE
from habitue.workspace import open_workspace
from tests.serving.small import Server, start

CARTS = "did cart_added between 72 and 1 hour ago then not order_placed"
HOUR, MILLISECOND = timedelta(hours=1), timedelta(milliseconds=1)
CAUGHT_UP = timedelta(seconds=0.5)         # until what came in a break is done with
PAUSE_SECONDS = 0.15                       # between two customers
PATIENCE_SECONDS = 60.0
NAME = "carts"
FAR = datetime(9999, 1, 1, tzinfo=UTC)

Change = tuple[str, str, datetime]         # customer, entered or left, at

# one row per cart and order of a customer
EVENTS = """
SELECT customer, name, "time", greatest("time", received) AS visible FROM events
WHERE name IN ('cart_added', 'order_placed') ORDER BY customer, "time"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the stream of changes was, beside what it should have been."""

    customers: int
    kills: dict[str, int]
    expected: int
    found: int
    lost: int                              # expected, and not told
    doubled: int                           # told, and not expected, or twice
    delivered_lost: int                    # of the stream, and not in the file
    delivered_doubled: int
    in_order: bool                         # sequence numbers without a gap, each customer's in time
    wrong: list[str]                       # each of `doubled`, and what is known of its customer
    while_down: int                        # changes whose time came, or passed, in a break
    late_ms: dict[str, list[float]] = field(default_factory=dict)    # cause -> of the others


class Carts:
    """A workspace that is served, killed and served again."""

    def __init__(
        self, folder: Path, seed: int, *, orders: tuple[float, float] = (-1.0, 2.0)
    ) -> None:
        """`orders` come between so many seconds after a cart's hour is over."""
        self._orders = orders
        self.workspace, self.file = folder / "work", folder / "changes.ndjson"
        self.rng = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.breaks: list[tuple[datetime, datetime]] = []
        self.customers = 0
        self._ending = threading.Event()
        self.server = start(self.workspace)
        self._send(self.server, "seen", "item_viewed", "nobody", utc_now() - 3 * HOUR)
        self.shop = open_workspace(self.workspace).shop("acme")
        self._until(lambda: "acme" in open_workspace(self.workspace).lake.shops())
        self.shop.audiences.save(NAME, CARTS)
        self._until(self._is_followed)

    def run(self, kills: int) -> Judged:
        """Kill so often while carts are filled; then let all come to its end, and judge."""
        sender = threading.Thread(target=self._sending, daemon=True)
        sender.start()
        delivering = self._deliver()
        for number in range(kills):
            time.sleep(self.rng.uniform(1.5, 4))
            (self._kill_server if number % 2 == 0 else self._kill_worker)()
            if self.rng.random() < 0.5:
                _killed(delivering)
                self.kills["delivery"] += 1
                delivering = self._deliver()
        time.sleep(3)
        self._ending.set()
        sender.join(2 * PATIENCE_SECONDS)
        assert not sender.is_alive(), "it does not come to an end"
        expected = self._expected()
        self._until(lambda: len(self._changes()) >= sum(expected.values()))
        time.sleep(1)                      # for one too many
        _killed(delivering)
        done = self._deliver("--once")
        assert done.wait(PATIENCE_SECONDS) == 0
        assert self.server.stop() == 0
        return self._judged()

    # -- customers

    def _sending(self) -> None:
        """Customers come, and some of them order when their instant has come."""
        waiting: list[tuple[datetime, str]] = []
        coming = utc_now()
        while waiting or not self._ending.is_set():
            now = utc_now()
            if waiting and waiting[0][0] <= now:
                _, customer = heapq.heappop(waiting)
                self._send_for_sure(f"order-{customer}", "order_placed", customer, utc_now())
            elif coming <= now and not self._ending.is_set():
                coming = now + timedelta(seconds=self.rng.uniform(0, 2 * PAUSE_SECONDS))
                self._come(waiting)
            else:
                time.sleep(0.002)

    def _come(self, waiting: list[tuple[datetime, str]]) -> None:
        """One more customer, who may order."""
        self.customers += 1
        customer = f"c{self.customers}"
        over = utc_now() + timedelta(seconds=self.rng.uniform(0.4, 2.5))
        self._send_for_sure(f"cart-{customer}", "cart_added", customer, over - HOUR)
        if self.rng.random() < 0.7:
            order = over + timedelta(seconds=self.rng.uniform(*self._orders))
            heapq.heappush(waiting, (order, customer))

    def _send_for_sure(self, id: str, name: str, customer: str, when: datetime) -> None:
        while True:
            with suppress(httpx.HTTPError, OSError):
                self._send(self.server, id, name, customer, when)
                return
            time.sleep(0.05)

    @staticmethod
    def _send(server: Server, id: str, name: str, customer: str, when: datetime) -> None:
        body = {"id": id, "name": name, "customer": customer, "time": when.isoformat()}
        body |= {"order": id, "value": 5, "currency": "GBP"} if "order" in name else {}
        with server.client() as client:
            client.post("/v1/events", json=body).raise_for_status()

    # -- kills

    def _kill_server(self) -> None:
        """The worker dies with it."""
        begun = utc_now()
        assert self.server.process is not None
        assert self.server.process.stdout is not None
        self.server.process.kill()
        self.server.process.wait()
        self.server.process.stdout.close()
        time.sleep(self.rng.uniform(0, 1))
        self.server = start(self.workspace)
        self.kills["server"] += 1
        self._until_it_follows(begun)

    def _kill_worker(self) -> None:
        """The server starts another one."""
        begun = utc_now()
        assert self.server.process is not None
        pid = self.server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        self.kills["worker"] += len(children)
        self._until_it_follows(begun)

    def _until_it_follows(self, begun: datetime) -> None:
        """A break is over soon after something was looked at that came after it had begun."""
        self._until(lambda: self._frontier() > begun)
        self.breaks.append((begun, utc_now() + CAUGHT_UP))

    def _frontier(self) -> datetime:
        path = self.workspace / "online" / PROFILES_FILE
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return instant(tables.frontier(connection))

    def _deliver(self, *options: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "habitue.cli.app", "deliver", str(self.file)]
        where = ["--workspace", str(self.workspace), "--shop", "acme"]
        return subprocess.Popen(
            [*command, *where, *options], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )

    def _is_followed(self) -> bool:
        try:
            return self.shop.audiences.followed().num_rows > 0
        except LookupError:
            return False

    @staticmethod
    def _until(is_so) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.02)

    # -- judgement

    def _changes(self) -> list[dict]:
        found: list[dict] = self.shop.audiences.changes(NAME).to_pylist()
        return found

    def _expected(self) -> Counter[Change]:
        """Every change that there should be, by what the lake holds once it holds all."""
        shop = open_workspace(self.workspace).shop("acme")
        self._until(lambda: self._carts(shop) == self.customers)
        found: Counter[Change] = Counter()
        carts: dict[str, datetime] = {}
        rows = shop.query(EVENTS, known_at=FAR).to_pylist()
        orders = {row["customer"]: row["visible"] for row in rows if row["name"] != "cart_added"}
        for row in rows:
            if row["name"] == "cart_added":
                carts[row["customer"]] = max(row["time"] + HOUR, row["visible"])
        for customer, at in carts.items():
            order = orders.get(customer)
            if order is None or order > at:
                found[customer, "entered", at] += 1
                if order is not None:
                    found[customer, "left", order] += 1
        return found

    def _carts(self, shop) -> int:  # type: ignore[no-untyped-def]
        sql = "SELECT count(*) AS number FROM events WHERE name = 'cart_added'"
        return int(shop.query(sql)["number"][0].as_py())

    def _judged(self) -> Judged:
        rows, expected = self._changes(), self._expected()
        told = Counter((row["customer"], row["change"], row["at"]) for row in rows)
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        stream = Counter(row["sequence"] for row in rows)
        delivered = Counter(line["sequence"] for line in lines)
        last: dict[str, datetime] = {}
        in_order = [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        late: dict[str, list[float]] = {"event": [], "time": []}
        for row in rows:
            in_order &= last.get(row["customer"], row["at"]) <= row["at"]
            last[row["customer"]] = row["at"]
            if not self._is_in_a_break(row["at"], row["detected_at"]):
                late[row["cause"]].append((row["detected_at"] - row["at"]) / MILLISECOND)
        return Judged(
            customers=self.customers,
            kills=dict(self.kills),
            expected=sum(expected.values()),
            found=len(rows),
            lost=sum((expected - told).values()),
            doubled=sum((told - expected).values()),
            wrong=[self._known(*one) for one in (told - expected)],
            delivered_lost=sum((stream - delivered).values()),
            delivered_doubled=sum((delivered - stream).values()),
            in_order=in_order,
            while_down=len(rows) - sum(map(len, late.values())),
            late_ms=late,
        )

    def _known(self, customer: str, change: str, at: datetime) -> str:
        rows = self.shop.query(EVENTS, known_at=FAR).to_pylist()
        mine = [
            f"{row['name']} of {row['time']:%H:%M:%S.%f}, counts since {row['visible']:%H:%M:%S.%f}"
            for row in rows if row["customer"] == customer
        ]  # fmt: skip
        found = [
            f"{row['change']} {row['at']:%H:%M:%S.%f}, found {row['detected_at']:%H:%M:%S.%f}"
            for row in self._changes() if row["customer"] == customer
        ]  # fmt: skip
        return f"{customer} {change} {at:%H:%M:%S.%f}: {'; '.join([*mine, *found])}"

    def _is_in_a_break(self, at: datetime, found: datetime) -> bool:
        return any(begun <= found and at <= end for begun, end in self.breaks)


def _killed(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
