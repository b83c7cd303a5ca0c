"""How a service ends, and what it says meanwhile: in order, and of nobody."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.serving.small import keys_of, listening, start

EVENT = b'{"name": "x", "customer": "c", "id": "1"}'


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes, or the answer is whole."""
    told = b""
    while part := connection.recv(65_536):
        told += part
        head, _, body = told.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        if length and len(body) >= int(length[0].split(b":")[1]):
            return told
    return told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_that_runs_when_the_server_is_told_to_end_is_answered(tmp_path, workers):
    server = start(tmp_path / "work", "--workers", workers)
    with server.connect() as connection:
        connection.sendall(server.head(len(EVENT)) + EVENT[:10])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        connection.sendall(EVENT[10:])
        told = answer(connection)
    assert server.process.wait(30) == 0
    server.process.stdout.close()
    assert told.startswith(b"HTTP/1.1 202")
    with pytest.raises(OSError):
        server.connect()
    receipt = json.loads(told.partition(b"\r\n\r\n")[2])["id"]
    again = start(tmp_path / "work")
    try:
        with again.client() as client:
            found = client.get(f"/v1/receipts/{receipt}").json()
        assert (found["settled"], found["appended"]) == (True, 1)
    finally:
        again.stop()


def test_the_log_names_no_customer_and_no_key(tmp_path):
    secret, public = keys_of(tmp_path / "work", "acme")
    process = subprocess.Popen(
        [sys.executable, "-m", "habitue.cli.app", "-v", "serve", "--workspace",
         str(tmp_path / "work"), "--port", "0", "--json", "--no-scores", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    url = f"http://127.0.0.1:{listening(process)}"
    with httpx.Client(base_url=url, headers={"X-Habitue-Key": secret}, trust_env=False) as client:
        for body in (b'{"name": "x", "email": "ada@example.com"}', b'{"name": "ada@example.com'):
            client.post("/v1/events", content=body)
        client.get("/v1/customers/ada@example.com")
        client.get("/api/profiles", params={"filter": 'equals(email,"ada@example.com")'})
        client.get("/ada@example.com", params={"company_id": public})
        client.post("/v1/erasures", json={"email": "ada@example.com"})
        client.get("/v1/status", headers={"X-Habitue-Key": "hs_" + "a" * 52})
    time.sleep(3)                          # until the erasure is under way
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said
    for told in ("ada", "example.com", secret, public, "hs_"):
        assert told not in out + said
