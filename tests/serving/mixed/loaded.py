"""Two shops that are asked and told at once, by clients that look at every answer, across kills.

Everything of a shop carries its name: items, events, ids. An answer to one in which the other's
name stands has crossed; one that knows more than was sent, or of a later instant than the clock's,
is from the future; what was acknowledged and is not in the lake in the end is lost.
"""

import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from habitue.config import utc_now
from habitue.scoring.told import SCORING_FILE, read_told
from habitue.workspace import open_workspace
from tests.serving.small import keys_of, listening

SHOPS = ("crimson", "azure")             # words that stand in no answer of ours
ITEMS = 40
CLIENTS = 8
# how many of ten requests are of a kind
MIX = ("event", "event", "predictions", "predictions", "predictions", "recommendations",
       "recommendations", "", "memberships", "similar")  # fmt: skip
AUDIENCES = {
    "lookers": "did {shop}_looked in 7 days",
    "loyal": "count of order_placed >= 5 ever",
}
_SAMPLE_SECONDS = 2.0
_PATIENCE_SECONDS = 60.0


@dataclass(slots=True)
class Seen:
    """What clients sent and were told; each has its own, and adds it up in the end."""

    acknowledged: set[str] = field(default_factory=set)    # ids of events
    answers: Counter[str] = field(default_factory=Counter)   # by kind
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[int] = field(default_factory=Counter)   # by status, and told when to come back
    cut: int = 0                           # connections that a kill ended; asked again
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Seen") -> None:
        """Take in what another has seen."""
        self.acknowledged |= other.acknowledged
        self.answers += other.answers
        self.refused += other.refused
        self.cut += other.cut
        self.wrong += other.wrong
        for kind, seconds in other.seconds.items():
            self.seconds[kind] += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is left of a load."""

    seen: Seen
    rate: float                            # requests a second that were asked for; 0: all that go
    kills: Counter[str]
    lost: int
    doubled: int
    memory: dict[str, list[tuple[float, float]]]    # by process: (monotonic seconds, MB)


class Loaded:
    """A workspace with two shops, served at one port, and what was sent to it."""

    def __init__(self, folder: Path, *, seed: int, customers: int) -> None:
        self.folder, self.seed, self.customers = folder, seed, customers
        open_workspace(folder)
        self.keys = {shop: keys_of(folder, shop)[0] for shop in SHOPS}
        self.port, self._lock = _free_port(), threading.Lock()
        self.process = self._start()
        self.sent: Counter[tuple[str, str]] = Counter()      # (shop, customer): events begun
        self.kills: Counter[str] = Counter()
        self._number = 0

    def close(self) -> None:
        """Stop in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def fill(self) -> None:
        """Send each shop's past year, and wait until both are scored."""
        now = utc_now()
        for shop in SHOPS:
            chance = random.Random(f"{self.seed} {shop}")
            told = [one for n in range(self.customers) for one in _past(chance, shop, n, now)]
            for begin in range(0, len(told), 1_000):
                body = {"events": told[begin : begin + 1_000]}
                status, answer = self._once(shop, "POST", "/v1/events", body)
                assert status < 300, answer
                assert not answer["rejected"], answer["rejected"][:1]
            for one in told:
                self.sent[shop, one["customer"]] += 1
        places = {shop: open_workspace(self.folder).shop(shop) for shop in SHOPS}
        _until(lambda: all(self._is_scored(shop) for shop in SHOPS))
        for shop, place in places.items():
            for name, sentence in AUDIENCES.items():
                place.audiences.save(f"{shop} {name}", sentence.format(shop=shop))

    def run(self, seconds: float, *, rate: float, kills: dict[float, str] | None = None) -> Outcome:
        """Load for some seconds; `kills` says after how many of them what is killed."""
        self._number += 1
        began, seen, memory = time.monotonic(), [Seen() for _ in range(CLIENTS)], defaultdict(list)
        threads = [
            threading.Thread(target=self._client, args=(n, one, began + seconds, rate / CLIENTS))
            for n, one in enumerate(seen)
        ]
        for thread in threads:
            thread.start()
        due = sorted((kills or {}).items())
        while any(thread.is_alive() for thread in threads):
            time.sleep(_SAMPLE_SECONDS / 4)
            now = time.monotonic() - began
            while due and due[0][0] <= now:
                self._kill(due.pop(0)[1])
            for name, pid in self._pids().items():
                memory[name].append((now, _own_mb(pid)))
        all_seen = Seen()
        for one in seen:
            all_seen.add(one)
        lost, doubled = self._counted(all_seen.acknowledged)
        return Outcome(
            seen=all_seen, rate=rate, kills=Counter(self.kills), lost=lost, doubled=doubled,
            memory=dict(memory),
        )  # fmt: skip

    # -- one client

    def _client(self, number: int, seen: Seen, until: float, rate: float) -> None:
        chance = random.Random(f"{self.seed} {self._number} {number}")
        began, asked, connection = time.monotonic(), 0, self._connection()
        while time.monotonic() < until:
            if rate:
                time.sleep(max(began + asked / rate - time.monotonic(), 0))
            asked += 1
            shop, kind = chance.choice(SHOPS), chance.choice(MIX)
            customer = f"c{chance.randrange(self.customers)}"
            event = f"{shop}-{self._number}-{number}-{asked}" if kind == "event" else None
            sent = time.monotonic()
            try:
                connection = self._ask(connection, seen, (shop, kind, customer, event))
            except Exception as error:     # noqa: BLE001 (told with all that is wrong)
                seen.wrong.append(f"{kind}: {type(error).__name__}: {error}")
                connection = self._connection()
            seen.seconds[kind or "profile"].append(time.monotonic() - sent)
        connection.close()

    def _ask(
        self, connection: HTTPConnection, seen: Seen, asked: tuple[str, str, str, str | None]
    ) -> HTTPConnection:
        """One request, again until it is answered; what is wrong with the answer is kept."""
        shop, kind, customer, event = asked
        method, path, body = _request(shop, kind, customer, event)
        if event:
            with self._lock:
                self.sent[shop, customer] += 1
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                status, told, wait = _answer(connection, method, path, self.keys[shop], body)
            except (OSError, HTTPException):
                seen.cut += 1
                connection.close()
                connection = self._connection()
                time.sleep(0.05)
                continue
            if status in (429, 503):
                seen.refused[status] += 1
                time.sleep(min(wait, 1.0))
                continue
            seen.answers[kind or "profile"] += 1
            if status >= 300:
                seen.wrong.append(f"{path}: {status} {told[:200]!r}")
            elif event:
                seen.acknowledged.add(event)
            seen.wrong += self._faults(shop, kind, customer, told)
            return connection
        seen.wrong.append(f"{path}: no answer in {_PATIENCE_SECONDS:.0f} s")
        return connection

    def _faults(self, shop: str, kind: str, customer: str, told: bytes) -> list[str]:
        """What an answer says that it must not know."""
        other = SHOPS[1 - SHOPS.index(shop)]
        faults = [f"of {other}, told to {shop}: {told[:200]!r}"] if other.encode() in told else []
        if kind in ("event", "similar"):
            return faults
        answer, now = json.loads(told), utc_now()
        for name, value in _instants(answer):
            if datetime.fromisoformat(value) > now:
                faults.append(f"{name} {value} is after {now.isoformat()}")
        if not kind:
            counted = sum(answer["events"].values())
            if counted > self.sent[shop, customer]:
                faults.append(f"{shop} {customer}: {counted} events, fewer were sent")
        return faults

    # -- the service

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "habitue.cli.app", "serve"]
        process = subprocess.Popen(
            [*command, "--workspace", str(self.folder), "--port", str(self.port), "--json"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        listening(process)
        return process

    def _kill(self, who: str) -> None:
        self.kills[who] += 1
        pid = self._pids().get(who)
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        if who == "server":
            self.process.wait(20)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = self._start()

    def _pids(self) -> dict[str, int]:
        """The server and the processes beside it."""
        found, own = {"server": self.process.pid}, self.process.pid
        with suppress(OSError):
            for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split():
                told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                name = next((one for one in ("follow", "score") if one.encode() in told), None)
                if name:
                    found[name] = int(pid)
        return found

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=20)

    def _once(self, shop: str, method: str, path: str, body: object) -> tuple[int, dict]:
        with closing(self._connection()) as connection:
            told = json.dumps(body)
            status, answer, _ = _answer(connection, method, path, self.keys[shop], told)
            return status, json.loads(answer)

    def _is_scored(self, shop: str) -> bool:
        told = read_told(self.folder / "online" / SCORING_FILE)
        return told is not None and shop in told.shops and not told.shops[shop].waiting

    def _counted(
        self, acknowledged: set[str], patience_seconds: float = _PATIENCE_SECONDS
    ) -> tuple[int, int]:
        """(lost, stored twice) of what was acknowledged, once the lake has all of it."""
        place, deadline = open_workspace(self.folder), time.monotonic() + patience_seconds
        while True:
            found: Counter[str] = Counter()
            for shop in SHOPS:
                rows = place.shop(shop).query("SELECT id, count(*) AS n FROM events GROUP BY id")
                found |= Counter(dict(zip(*rows.to_pydict().values(), strict=True)))
            lost = len(acknowledged - found.keys())
            if not lost or time.monotonic() > deadline:
                return lost, sum(found[one] > 1 for one in acknowledged)
            time.sleep(1.0)


def flat(samples: list[tuple[float, float]], since: float) -> tuple[float, float]:
    """Median MB of a process in the first and in the last third of what was seen since then."""
    later = [one for one in samples if one[0] >= since]
    third = (later[-1][0] - since) / 3
    first = [mb for at, mb in later if at < since + third]
    last = [mb for at, mb in later if at > later[-1][0] - third]
    return statistics.median(first), statistics.median(last)


def _past(chance: random.Random, shop: str, number: int, now: datetime) -> list[dict]:
    """A customer's orders of the last year."""
    at, told = now - timedelta(days=chance.uniform(100, 360)), []
    pace = chance.uniform(15, 90)
    while at < now - timedelta(hours=1):
        items = [f"{shop}-{chance.randrange(ITEMS)}" for _ in range(chance.choice((1, 2, 3)))]
        told.append(
            {
                "name": "order_placed", "id": f"{shop}-past-{number}-{len(told)}",
                "customer": f"c{number}", "time": at.isoformat(), "backfill": True,
                "currency": "EUR",
                "lines": [{"item": item, "quantity": 1, "unit_price": 10} for item in items],
            }
        )  # fmt: skip
        at += timedelta(days=1 + chance.expovariate(1 / pace))
    return told


def _request(
    shop: str, kind: str, customer: str, event: str | None
) -> tuple[str, str, str | None]:
    if event:
        told = {"name": f"{shop}_looked", "id": event, "customer": customer,
                "item": f"{shop}-{hash(event) % ITEMS}"}  # fmt: skip
        return "POST", "/v1/events", json.dumps(told)
    if kind == "similar":
        return "GET", f"/v1/items/{shop}-{int(customer[1:]) % ITEMS}/similar", None
    return "GET", f"/v1/customers/{customer}/{kind}".rstrip("/"), None


def _answer(
    connection: HTTPConnection, method: str, path: str, key: str, body: str | None
) -> tuple[int, bytes, float]:
    """Status, body, and seconds until one may come back."""
    headers = {"X-Habitue-Key": key, "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read(), float(response.headers.get("Retry-After", 0))


def _instants(answer: dict) -> list[tuple[str, str]]:
    """Fields of an answer that must not lie ahead."""
    named = ("at", "anchor", "scored", "behind_since", "since", "first_seen", "last_seen")
    found = [(name, answer[name]) for name in named if answer.get(name)]
    return found + [("since", one["since"]) for one in answer.get("memberships", ())]


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _own_mb(pid: int) -> float:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(one.split()[1]) for one in lines if one.startswith("RssAnon")) / 1024
    return 0.0
