"""Kill a service again and again, at random and wherever a fault point is, while clients use it.

The server and the worker beside it die each in turn at every place that they may die at.
`counting` says what is left.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from habitue import privacy
from habitue.config import utc_now
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.profiles import PROFILES_FILE, Profiles
from habitue.lake.tables import Lake
from habitue.serving.beside.settlement import PROGRESS_FILE, read_progress
from habitue.workspace import open_workspace
from tests.serving.crashing.hurried import NOWHERE, write_line
from tests.serving.crashing.sending import (
    Address,
    Client,
    Sent,
    acknowledged_by,
    klaviyo,
    native,
    of_customer,
    segment,
)
from tests.serving.small import keys_of, listening

ROOT = Path(__file__).parents[3]
HURRIED = [sys.executable, "-m", "tests.serving.crashing.hurried"]
SERVER_AT_RANDOM = "server at random"
# place -> one dies when it comes there for the first time, or up to so many times later
OF_THE_SERVER = {
    "serve.before_flush": 9, "serve.after_flush": 9, "log.before_commit": 9,
    "log.after_commit": 9, "log.made": 2, "log.rotated": 2, SERVER_AT_RANDOM: 0,
}  # fmt: skip
OF_THE_WORKER = {
    "commit.before_files": 8, "commit.before_journal": 8, "commit.after_journal": 8,
    "commit.between_tables": 20, "commit.before_index": 8, "compact.before_journal": 2,
    "vacuum.before_delete": 9, "log.trim": 2, "erase.before_journal": 2,
    "erase.before_delete": 4, NOWHERE: 0,
}  # fmt: skip
LIFE_SECONDS = 25.0                        # at most, of a server before it is to die
REACH_SECONDS = 8.0                        # at most, until it comes where it shall die
WORKER_SECONDS = 15.0                      # at most, of a worker
ERASE_SECONDS = 2.0                        # between two erasures
BUCKETS = 2
PATIENCE_SECONDS = 600.0                   # on a machine that does other work as well
_PLANNED = 5_000                           # lives of workers


class Crashing:
    """A workspace that is served, killed and served again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.home, self.workspace = folder, folder / "work"
        self.rng = random.Random(seed)
        open_workspace(self.workspace)
        shop = pa.table({"shop": ["acme"], "received": [utc_now()], "timezone": ["UTC"]})
        Lake(self.workspace / "lake", buckets=BUCKETS).append({"shops": shop})
        self.address = Address(keys_of(self.workspace, "acme")[0])
        shapes = {"n": native, "m": native, "s": segment, "k": klaviyo}
        self.clients = [Client(name, one, self.address, seed) for name, one in shapes.items()]
        self.erased: list[str] = []        # customers
        self._failures: list[BaseException] = []
        self._ending = threading.Event()

    def run(self, kills: int) -> None:
        """Kill at least so often; then let all be settled, and end the service in order."""
        places = self._places(OF_THE_WORKER)
        self._plan([self._fault(next(places), OF_THE_WORKER) for _ in range(_PLANNED)])
        beside = [
            threading.Thread(target=self._failing, args=[work], daemon=True)
            for work in (self._erase, self._kill_workers)
        ]
        for thread in (*self.clients, *beside):
            thread.start()
        for place in self._places(OF_THE_SERVER):
            self._live(place)
            if len(self.deaths()) >= kills or self._failures:
                break
        self._plan([NOWHERE] * _PLANNED)
        server = self._started()
        try:
            self._ending.set()
            for client in self.clients:
                client.end()
            for thread in (*self.clients, *beside):
                thread.join(2 * PATIENCE_SECONDS)
                assert not thread.is_alive(), f"{thread.name} does not end"
            assert not self._failures, self._failures
            self._settle(server)
        finally:
            _buried(server)

    def deaths(self) -> list[str]:
        """The places of all kills so far."""
        return self._lines("deaths")

    def sent(self) -> Sent:
        """What all clients know."""
        return Sent.together([client.sent for client in self.clients])

    def _live(self, place: str) -> None:
        """One life of the server: while it goes on some workers die, then it does."""
        server, workers = self._started(), self.rng.randint(2, 5)
        started, armed = len(self._lines("began")), self.home / "arm"
        begun = time.monotonic()
        while len(self._lines("began")) <= started + workers and not self._failures:
            if time.monotonic() > begun + LIFE_SECONDS:
                break
            time.sleep(0.05)
        if place != SERVER_AT_RANDOM:
            armed.write_text(self._fault(place, OF_THE_SERVER))
        try:
            server.wait(self.rng.uniform(0, 1) if place == SERVER_AT_RANDOM else REACH_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            write_line(self.home / "deaths", SERVER_AT_RANDOM)
        armed.unlink(missing_ok=True)
        assert _buried(server) == -signal.SIGKILL

    def _started(self) -> "subprocess.Popen[str]":
        options = ("--port", "0", "--json", "--pace", "0.05", "--no-scores")
        server = subprocess.Popen(
            [*HURRIED, "serve", "--workspace", str(self.workspace), *options],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HURRIED": str(self.home)},
        )  # fmt: skip
        self.address.port = listening(server)
        return server

    def _settle(self, server: "subprocess.Popen[str]") -> None:
        """Wait until both readers have all of the log, end in order, and finish erasures."""
        self._until(self._is_settled)
        server.terminate()
        assert server.wait(PATIENCE_SECONDS) == 0
        places = open_workspace(self.workspace).places
        for job in privacy.pending(places):
            privacy.finish(places, job, now=utc_now())
        assert not privacy.pending(places)

    def _until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.1)

    def _committed(self) -> int:
        """The first offset of the log that the lake lacks, by the worker's last word."""
        progress = read_progress(self.workspace / "online" / PROGRESS_FILE)
        return progress.cursors[0] if progress and progress.cursors else 0

    def _is_settled(self) -> bool:
        """Whether the lake and the live profiles hold all of the log."""
        with closing(SqliteLog(self.workspace / "log")) as log:
            end = log.end(0)
        with closing(Profiles(self.workspace / "online" / PROFILES_FILE)) as live:
            return live.cursor(0) == end == self._committed()

    def _kill_workers(self) -> None:
        """Kill each worker that dies of nothing else."""
        known, until = "", 0.0
        while not self._ending.wait(0.02):
            last = (self._lines("began") or [""])[-1]
            if last != known:
                life = self.rng.uniform(0.2, 2.5) if NOWHERE in last else WORKER_SECONDS
                known, until = last, time.monotonic() + life
            pid = int(last.split()[0]) if last else 0
            if pid and time.monotonic() > until and _is_alive(pid):
                os.kill(pid, signal.SIGKILL)
                write_line(self.home / "deaths", NOWHERE)
                until = float("inf")

    def _erase(self) -> None:
        """Let a customer send, and have the worker erase them; again and again."""
        places = open_workspace(self.workspace).places
        while not self._ending.wait(ERASE_SECONDS):
            customer = f"e{len(self.erased)}"
            request = of_customer(customer, self.address.secret)
            acknowledged_by(self.address, request)
            with closing(SqliteLog(self.workspace / "log")) as log:
                end = log.end(0)
            self._until(lambda end=end: self._committed() >= end)  # type: ignore[misc]
            job = privacy.request(places, "acme", [customer], now=utc_now())
            self.erased.append(customer)
            self._until(
                lambda job=job: all(  # type: ignore[misc]
                    one.status != "queued" for one in privacy.pending(places) if one.id == job.id
                )
            )
            acknowledged_by(self.address, request)     # and is refused when it is settled

    def _plan(self, faults: list[str]) -> None:
        """Say where workers die from now on; it is counted from the first that ever began."""
        draft = self.home / "plan.draft"
        draft.write_text("\n".join(faults))
        draft.rename(self.home / "plan")

    def _places(self, held: dict[str, int]) -> Iterator[str]:
        """All places in turn, each turn in another order."""
        while True:
            yield from self.rng.sample(list(held), len(held))

    def _fault(self, place: str, held: dict[str, int]) -> str:
        return f"{place}:{self.rng.randint(1, held[place])}" if held[place] else place

    def _lines(self, name: str) -> list[str]:
        path = self.home / name
        return path.read_text().splitlines() if path.exists() else []

    def _failing(self, work: Callable[[], None]) -> None:
        """What goes wrong in a thread is told in the end."""
        try:
            work()
        except BaseException as error:     # noqa: BLE001 (looked at in the end)
            self._failures.append(error)


def _buried(server: "subprocess.Popen[str]") -> int:
    """How a server ended that lives no more, by now at the latest."""
    server.kill()
    assert server.stdout is not None
    server.stdout.close()
    return server.wait()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
