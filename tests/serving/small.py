"""Small servers for the tests: in this process with a log that can fail, or in one of their own."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from habitue.config import utc_now
from habitue.errors import LogUnavailable
from habitue.lake.eventlog.records import Record, decode
from habitue.serving.app import Place
from habitue.serving.server import ServeConfig, serve
from habitue.workspace import open_workspace


class ListLog:
    """An event log in memory that can be slow, or refuse."""

    def __init__(self, shards: int = 1) -> None:
        self.shards = shards
        self.rows: list[list[bytes]] = [[] for _ in range(shards)]
        self.batches: list[list[bytes]] = []
        self.broken = False
        self.open = threading.Event()              # appends wait while it is not set
        self.open.set()

    def forget(self) -> None:
        self.rows = [[] for _ in range(self.shards)]
        self.batches.clear()

    def append(self, shard: int, bodies: Sequence[bytes]) -> range:
        self.open.wait()
        if self.broken:
            raise LogUnavailable("the disk is full")
        begin = len(self.rows[shard])
        self.rows[shard].extend(bodies)
        self.batches.append(list(bodies))
        return range(begin, begin + len(bodies))

    def read(self, shard: int, offset: int, *, most_bytes: int = 16_000_000) -> list[Record]:
        return [Record(at, body) for at, body in enumerate(self.rows[shard][offset:], offset)]

    def end(self, shard: int) -> int:
        return len(self.rows[shard])

    def trim(self, shard: int, below: int) -> int:
        return 0

    def close(self) -> None:
        pass

    def parts(self) -> list:
        return [decode(body) for rows in self.rows for body in rows]

    def events(self) -> list:
        return [noun for part in self.parts() for entry in part.entries for noun in entry.nouns]

    def rejections(self) -> list:
        return [one for part in self.parts() for one in part.rejections]


@dataclass
class Server:
    """A server that runs, and the keys of its shop."""

    port: int
    workspace: Path
    secret: str
    public: str
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None = "", **named: object) -> httpx.Client:
        """A client with the shop's secret key; None: with none."""
        headers = {} if key is None else {"X-Habitue-Key": key or self.secret}
        named = {"headers": headers, "timeout": 20, "trust_env": False} | named
        return httpx.Client(base_url=self.url, **named)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def head(self, length: int | None = None, *, path: str = "/v1/events", more: str = "") -> bytes:
        """The head of a POST with the secret key."""
        sized = f"Content-Length: {length}\r\n" if length is not None else ""
        return (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Habitue-Key: {self.secret}\r\n{sized}{more}\r\n"
        ).encode()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


def keys_of(workspace: Path, shop: str) -> tuple[str, str]:
    """A secret and a public key of a shop, made here."""
    directory = open_workspace(workspace).directory
    directory.shop(shop, create=True)
    return tuple(directory.issue_key(shop, kind, now=utc_now())[1] for kind in ("secret", "public"))


@contextlib.contextmanager
def in_process(folder: Path, log: ListLog, **config: object) -> Iterator[Server]:
    """A server in a thread, its log in memory, nothing following it."""
    open_workspace(folder)
    secret, public = keys_of(folder, "acme")
    heard: queue.Queue = queue.Queue()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            workspace = open_workspace(folder)
            place = Place(
                path=folder, log=log, directory=workspace.directory, lake=lambda: workspace.lake
            )
            listening = lambda port, stop: heard.put((port, stop))  # noqa: E731
            serve(place, ServeConfig(port=0, **config), listening=listening)
        except BaseException as error:     # noqa: BLE001 (looked at in the end)
            failed.append(error)
            heard.put((0, lambda: None))

    thread = threading.Thread(target=run)
    thread.start()
    port, stop = heard.get(timeout=20)
    try:
        assert not failed, failed
        yield Server(port, folder, secret, public)
    finally:
        stop()
        thread.join(20)
    assert not thread.is_alive()
    assert not failed, failed


def start(folder: Path, *arguments: str, shop: str = "acme", fault: str = "") -> Server:
    """`habitue serve` in a process of its own."""
    open_workspace(folder)
    keys = folder / "keys-of-tests.json"
    if not keys.exists():
        keys.write_text(json.dumps(keys_of(folder, shop)))
    secret, public = json.loads(keys.read_text())
    environment = dict(os.environ, OMP_NUM_THREADS="1", HABITUE_FAULT=fault)
    unscored = () if "--scores" in arguments else ("--no-scores",)
    command = [sys.executable, "-m", "habitue.cli.app", "serve", "--workspace", str(folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", "--pace", "0.05", *arguments, *unscored],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return Server(listening(process), folder, secret, public, process)


def listening(process: subprocess.Popen) -> int:
    """The port of a server that was told to print one, as soon as it answers."""
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()}"
    return json.loads(line)["port"]


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **named: str) -> Iterator[Server]:
    """`habitue serve`, ended in order."""
    server = start(folder, *arguments, **named)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0
        server.process.stdout.close()


def settled(client: httpx.Client, receipt: str, *, within_seconds: float = 60) -> dict:
    """What became of a request, as soon as that is known."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        told = client.get(f"/v1/receipts/{receipt}").raise_for_status().json()
        if told["settled"]:
            return told
        time.sleep(0.05)
    raise AssertionError("it was not settled in time")
