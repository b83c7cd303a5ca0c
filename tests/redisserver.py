"""A Redis of its own on loopback, in memory alone: Debian's `redis-server`, if it is installed."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MISSING = "redis-server is not installed here: apt-get install redis-server"


@dataclass
class RedisServer:
    """A server that runs."""

    port: int
    process: subprocess.Popen

    def address(self, database: int = 0) -> str:
        """Where one of its sixteen databases is."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """End it; what it held is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[RedisServer]:
    """A server, stopped in the end; the test is skipped where there is none to start."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    with socket.create_server(("127.0.0.1", port)) as free:
        chosen = free.getsockname()[1]
    command = ["redis-server", "--port", str(chosen), "--bind", "127.0.0.1", "--save", "",
               "--appendonly", "no", "--dir", str(folder), "--daemonize", "no"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    server = RedisServer(chosen, process)
    try:
        _wait(chosen)
        yield server
    finally:
        server.stop()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.02)
