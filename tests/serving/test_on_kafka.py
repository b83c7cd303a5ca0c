"""The service with its log on Kafka: the same answers, the same rows, the same end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import habitue
from habitue.lake.query import read
from tests.broker import broker

ROOT = Path(__file__).parents[2]


def test_what_is_acknowledged_is_in_the_lake_when_the_service_ends(tmp_path):
    with broker(3) as cluster:
        cluster.make("log", 2)
        environment = {**os.environ, "HABITUE_LOG": f"kafka://{cluster.addresses}/log"}
        command = [sys.executable, "-m", "habitue.cli.app", "serve", "--workspace",
                   str(tmp_path / "work"), "--shop", "acme", "--port", "0", "--json",
                   "--no-scores"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        ) as server:
            try:
                told = json.loads(server.stdout.readline())
                receipts = [send(told, batch) for batch in range(20)]
                wait_for(told, receipts[-1])
                server.send_signal(signal.SIGTERM)
                assert server.wait(timeout=30) == 0
            finally:
                server.kill()
        lake = habitue.open(tmp_path / "work").lake
        rows = read(lake, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM events",
                    shop="acme").to_pylist()  # fmt: skip
    assert rows == [{"n": 200, "ids": 200}]


def call(told: dict, path: str, body: bytes | None = None) -> dict:
    headers = {"X-Habitue-Key": told["keys"]["secret"], "Content-Type": "application/json"}
    request = Request(told["listening"] + path, data=body, headers=headers)
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def send(told: dict, batch: int) -> str:
    events = [{"name": "seen", "customer": f"c{n}", "id": f"{batch}-{n}"} for n in range(10)]
    return call(told, "/v1/events", json.dumps(events).encode())["id"]


def wait_for(told: dict, receipt: str) -> None:
    deadline = time.monotonic() + 20
    while not call(told, f"/v1/receipts/{receipt}")["settled"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
