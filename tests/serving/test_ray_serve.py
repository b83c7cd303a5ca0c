"""Replicas of Ray Serve answer as our own processes do, and the death of one costs a retry."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from habitue.serving.several.sharing import counted
from tests.serving.loading import Load
from tests.serving.small import running, settled

ROOT = Path(__file__).parents[2]
MISSING = "Ray Serve is not installed here: pip install 'habitue[rayserve]'"
WITHIN_SECONDS = 120.0
has_serve = all(importlib.util.find_spec(one) for one in ("ray", "fastapi", "aiohttp", "grpc"))


@contextlib.contextmanager
def replicas(workspace: Path, port: int):
    """The deployment on a cluster of this machine."""
    command = [sys.executable, str(ROOT / "deploy" / "ray_serve.py"), "--workspace", str(workspace)]
    process = subprocess.Popen(
        [*command, "--replicas", "2", "--processors", "0.1", "--port", str(port)],
        stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait()}"
        yield json.loads(line)["listening"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def answering(online: Path) -> set[int]:
    return {one.pid for one in counted(online) if Path(f"/proc/{one.pid}").exists()}


@pytest.mark.slow
@pytest.mark.skipif(not has_serve, reason=MISSING)
def test_a_replica_that_is_killed_under_load_costs_a_retry_and_no_acknowledged_event(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        running(tmp_path / "work", "--workers", "0") as writer,
        replicas(writer.workspace, port),
    ):
        server, online = replace(writer, port=port), writer.workspace / "online"
        load = Load(server)
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(load.read), pool.submit(load.read), pool.submit(load.send, 1)]
            time.sleep(3.0)
            before = answering(online)
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            deadline = time.monotonic() + WITHIN_SECONDS
            while len(answering(online) - {killed}) < 2:
                assert time.monotonic() < deadline, "it did not come back"
                time.sleep(0.2)
            time.sleep(2.0)
            load.over.set()
            for one in done:
                one.result(60)
        assert len(before) == 2
        assert load.failed == []
        assert load.reads > 100
        assert len(load.receipts) > 10
        print(f"reads={load.reads} sent={len(load.receipts)} asked_again={load.retried}")  # noqa: T201
        with server.client() as client:
            for receipt in load.receipts:
                told = settled(client, receipt)
                assert told["appended"] + told["duplicate"] == 1
