"""Whatever comes in: a clear error as JSON, bounded memory, nothing lost, nothing of ours shown."""

import gzip
import json
import socket
import sqlite3
import threading
import time

import httpx
import pytest
import zstandard

from habitue.directory import Directory
from habitue.serving import bodies, connection
from tests.serving.small import ListLog, in_process

GOOD = {"name": "x", "customer": "c", "id": "1"}
MUST_NOT = ("Traceback", "File \"", "habitue/", ".py", "0x")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    log = ListLog()
    with in_process(tmp_path_factory.mktemp("served") / "work", log) as server:
        yield server, log


@pytest.fixture
def server(shared):
    return shared[0]


@pytest.fixture
def log(shared):
    shared[1].forget()
    return shared[1]


def answer(connected: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    connected.settimeout(20)
    held = b""
    while b"\r\n\r\n" not in held:
        more = connected.recv(65_536)
        if not more:
            return 0, {}, held
        held += more
    head, _, body = held.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += connected.recv(65_536)
    return int(lines[0].split()[1]), headers, body


def is_clear(response: httpx.Response) -> bool:
    """Whether an error is JSON that says what was wrong and shows nothing of ours."""
    told = response.json()
    shown = response.text
    return bool(told.get("message") or told.get("detail") or told.get("errors")) and not any(
        word in shown for word in MUST_NOT
    )


NOT_JSON = [
    b"", b" ", b"{", b"[", b"[[", b'{"name"', b'{"name":', b"nul", b"NaN", b"Infinity", b"-",
    b'{"name": "x",}', b"[1,]", b"'x'", b'{"a": 0x1}', b"\xff\xfe\x00", b"\x00", b'"\xed\xa0\x80"',
    b"[" * 100_000, b'{"a":' * 100_000, b'{"name": "x"} trailing', b"\xef\xbb\xbf", b"1e400",
    b'[{"name": "x"}, {]', b'{"name": "\x01"}',
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:20]))
def test_what_is_no_json_is_refused_clearly_and_kept(server, log, body):
    with server.client() as client:
        refused = client.post("/v1/events", content=body)
        assert refused.status_code in {202, 400}
        told = refused.json()
        assert refused.status_code == 400 or told["accepted"] == 0
        assert refused.status_code == 202 or is_clear(refused)
        assert client.post("/v1/events", json=GOOD).status_code == 202
    assert len(log.rejections()) >= (0 if refused.status_code == 202 else 1)


def test_a_directory_that_cannot_be_opened_now_is_told_to_come_again(server, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(Directory, "key_for", fail)
    with server.client("hs_" + "a" * 52) as client:
        told = client.post("/v1/events", json=GOOD)
    assert (told.status_code, told.headers["retry-after"]) == (503, "2")
    assert is_clear(told)


WRONG = [
    {"name": "x", "customer": "c", "value": 1e308, "currency": "USD"},
    {"name": "x", "customer": "c", "value": "ten", "currency": "USD"},
    {"name": "x", "customer": "c", "time": "1969-12-31T23:59:59Z"},
    {"name": "x", "customer": "c", "time": "2100-01-01T00:00:00Z"},
    {"name": "x", "customer": "c", "time": 1e300},
    {"name": "x", "customer": "c", "time": "yesterday"},
    {"name": "", "customer": "c"},
    {"name": "x", "customer": {"a": 1}},
    {"name": "x", "email": "no email"},
    {"name": "x", "customer": "c", "propertys": {}},
    {"name": "x", "customer": "c", "properties": []},
    [1], 1, "x", None, True,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_one_wrong_event_is_rejected_by_itself_and_the_others_are_taken(server, log, wrong):
    with server.client() as client:
        told = client.post("/v1/events", json=[GOOD, wrong, GOOD | {"id": "2"}])
    assert told.status_code == 202
    receipt = told.json()
    assert (receipt["rows"], receipt["accepted"], receipt["rejected_in_all"]) == (3, 2, 1)
    assert receipt["rejected"][0]["position"] == 1
    assert receipt["rejected"][0]["reason"]
    assert told.headers["x-habitue-rejected"] == "1"
    assert [one.id for one in log.events()] == ["1", "2"]
    assert [one.position for one in log.rejections()] == [1]


def test_what_is_wrong_with_an_input_is_told_as_its_door_found_it(server, log):
    wrong = {"kind": "evnt", "name": "x", "customer": "c"}
    detail = "a kind is one of: event, item, profile, consent, link"
    with server.client() as client:
        for headers in ({}, {"X-Strict-Mode": "1"}):
            told = client.post("/v1/events", json=[GOOD, wrong], headers=headers).json()
            assert told["rejected"][0]["detail"] == detail
        call = {"batch": [{"type": "trak", "userId": "u"}]}
        refused = client.post("/v1/batch", json=call, headers={"X-Strict-Mode": "1"})
    kept = log.rejections()
    assert kept[0].detail == detail        # it went through the log
    assert kept[-1].detail and kept[-1].detail in refused.json()["message"]


def test_strict_mode_tells_of_a_rejection_by_the_status(server, log):
    with server.client() as client:
        strict = {"X-Strict-Mode": "1"}
        refused = client.post("/v1/events", json=[GOOD, {"name": ""}], headers=strict)
        assert (refused.status_code, refused.json()["accepted"]) == (400, 1)
        assert refused.headers["content-type"] == "application/problem+json"
        assert [one["pointer"] for one in refused.json()["errors"]] == ["/1/name"]
        assert client.post("/v1/events", json=GOOD, headers=strict).status_code == 202
        call = {"batch": [{"type": "track", "userId": "u"}]}
        assert client.post("/v1/batch", json=call).status_code == 200
        refused = client.post("/v1/batch", json=call, headers=strict)
        assert (refused.status_code, set(refused.json())) == (400, {"code", "message", "pointer"})
    assert len(log.rejections()) == 3


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_packed_bodies_are_taken_and_bombs_are_not(server, log, encoding):
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[encoding]
    headers = {"Content-Encoding": encoding}
    with server.client() as client:
        told = client.post("/v1/events", content=pack(json.dumps(GOOD).encode()), headers=headers)
        assert told.status_code == 202
        bomb = pack(b" " * 60_000_000)
        refused = client.post("/v1/events", content=bomb, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        lines = headers | {"Content-Type": "application/x-ndjson"}
        for letter in (b"x", b"\n"):
            refused = client.post("/v1/events", content=pack(letter * 60_000_000), headers=lines)
            assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        garbage = client.post("/v1/events", content=b"not packed", headers=headers)
        assert (garbage.status_code, garbage.json()["code"]) == (400, "bad_encoding")
        assert is_clear(garbage)


def test_a_body_that_says_it_is_too_large_is_refused_unread(server):
    with server.connect() as connected:
        connected.sendall(server.head(10**12))
        status, _, body = answer(connected)
    assert (status, json.loads(body)["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404), ("POST", "/v1/nowhere", 404), ("GET", "/v1/events", 405),
        ("DELETE", "/v1/events/", 405), ("PUT", "/api/events", 405), ("GET", "/api/nothing", 404),
        ("POST", "/v1/../etc", 404), ("GET", "/v1/receipts/", 404), ("GET", "//", 404),
        ("POST", "/health", 405), ("GET", "/%00", 404), ("GET", "/v1/receipts/%2e%2e", 404),
    ],
)  # fmt: skip
def test_paths_and_methods_that_are_none_are_told_so(server, method, path, status):
    with server.client() as client:
        told = client.request(method, path)
    assert told.status_code == status
    assert is_clear(told)


def test_a_balancer_may_ask_for_the_head_of_an_answer_alone(server):
    with server.client() as client:
        told = client.head("/health")
    assert (told.status_code, told.content) == (200, b"")


@pytest.mark.parametrize("kind", ["text/xml", "multipart/form-data; boundary=x", "image/png"])
def test_another_kind_of_content_is_refused(server, log, kind):
    with server.client() as client:
        told = client.post("/v1/events", content=b"x", headers={"Content-Type": kind})
    assert (told.status_code, told.json()["code"]) == (415, "bad_content_type")
    assert [(one.reason, one.payload) for one in log.rejections()] == [("bad_content_type", "")]


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("br", 415)])
def test_that_a_body_came_that_cannot_be_unpacked_is_kept_without_it(server, log, encoding, status):
    with server.client() as client:
        headers = {"Content-Encoding": encoding}
        told = client.post("/v1/events", content=b"not packed", headers=headers)
    assert (told.status_code, told.json()["code"]) == (status, "bad_encoding")
    assert [(one.reason, one.payload) for one in log.rejections()] == [("bad_encoding", "")]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
        b"HELLO\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n", b"POST /v1/events HTTP/9.9\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_told_so_and_the_server_lives(server, raw):
    with server.connect() as connected:
        connected.sendall(raw)
        status, _, body = answer(connected)
    assert status in {400, 401}
    assert json.loads(body)["detail"]
    with server.client() as client:
        assert client.get("/health").status_code == 200


def test_headers_without_end_are_refused(server):
    with server.connect() as connected:
        connected.sendall(b"GET /health HTTP/1.1\r\n")
        status = 0
        for _ in range(400):
            try:
                connected.sendall(b"X-A: " + b"a" * 1_000 + b"\r\n")
            except OSError:
                break
            time.sleep(0.0005)
        status, _, _ = answer(connected)
    assert status == 431


def test_requests_that_follow_each_other_unasked_are_answered_in_order(server, log):
    bodies_sent = [json.dumps(GOOD | {"id": str(number)}).encode() for number in range(20)]
    with server.connect() as connected:
        connected.sendall(b"".join(server.head(len(one)) + one for one in bodies_sent))
        held = b""
        while held.count(b"HTTP/1.1 202") < 20:
            held += connected.recv(65_536)
    assert [one.id for one in log.events()] == [str(number) for number in range(20)]


def test_a_client_that_closes_its_half_still_gets_its_answer(server, log):
    body = json.dumps(GOOD).encode()
    log.open.clear()
    with server.connect() as connected:
        connected.sendall(server.head(len(body)) + body)
        connected.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        log.open.set()
        assert answer(connected)[0] == 202
        assert connected.recv(100) == b""
    assert len(log.events()) == 1


def test_a_client_that_leaves_in_the_middle_leaves_nothing(server, log):
    with server.connect() as connected:
        connected.sendall(server.head(1_000) + b'{"name": "x"')
    with server.client() as client:
        assert client.post("/v1/events", json=GOOD).status_code == 202
    assert [one.id for one in log.events()] == ["1"]


def test_a_client_that_is_slow_with_its_body_is_told(server, monkeypatch):
    monkeypatch.setattr(bodies, "SILENCE_SECONDS", 0.1)
    with server.connect() as connected:
        connected.sendall(server.head(1_000) + b"{")
        status, headers, body = answer(connected)
    assert (status, json.loads(body)["code"]) == (408, "too_slow")
    assert headers["retry-after"] == "1"


def test_a_client_that_is_slow_with_its_headers_is_sent_away(server, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    with server.connect() as silent, server.connect() as slow:
        slow.sendall(b"GET /health HT")
        assert answer(slow)[0] == 408
        assert silent.recv(100) == b""


def test_many_slow_clients_do_not_keep_others_waiting(server):
    slow = [server.connect() for _ in range(100)]
    try:
        for one in slow:
            one.sendall(server.head(1_000) + b"{")
        with server.client() as client:
            began = time.monotonic()
            for number in range(20):
                sent = client.post("/v1/events", json=GOOD | {"id": str(number)})
                assert sent.status_code == 202
            assert time.monotonic() - began < 10
    finally:
        for one in slow:
            one.close()


def test_a_large_upload_is_taken_in_portions_and_counted_whole(server, log):
    line = json.dumps(GOOD | {"properties": {"text": "a" * 400}})

    def upload():
        for number in range(20_000):
            yield line.replace('"id": "1"', f'"id": "{number}"').encode() + b"\n"
        yield b'{"name": ""}\n'

    with server.client() as client:
        told = client.post(
            "/v1/events", content=upload(), headers={"Content-Type": "application/x-ndjson"}
        ).json()
    assert (told["rows"], told["accepted"], told["rejected_in_all"]) == (20_001, 20_000, 1)
    assert told["rejected"][0]["position"] == 20_000
    assert len(log.parts()) >= 8
    assert max(len(body) for body in log.rows[0]) < 4_000_000
    assert [one.id for one in log.events()] == [str(number) for number in range(20_000)]


def test_an_upload_ends_at_a_line_that_is_too_long(server, log):
    def upload():
        yield json.dumps(GOOD).encode() + b"\n"
        for _ in range(10_000):            # 10 GB, if it were let
            yield b"x" * 1_000_000

    with server.client() as client:
        kind = {"Content-Type": "application/x-ndjson"}
        told = client.post("/v1/events", content=upload(), headers=kind)
    assert (told.status_code, told.json()["code"], told.json()["errors"][0]["pointer"]) == (
        413, "too_large", "/1",
    )  # fmt: skip
    assert is_clear(told)
    assert told.headers["location"].startswith("/v1/receipts/")
    assert [one.id for one in log.events()] == ["1"]
    assert [(one.position, one.reason) for one in log.rejections()] == [(1, "too_large")]


@pytest.mark.parametrize("after", [b"", b"\n", b'\n{"name": "x", "customer": "c", "id": "2"}\n'])
def test_a_line_that_is_too_long_is_told_wherever_it_ends(server, log, after):
    long = json.dumps(GOOD | {"properties": {"text": "a" * 1_100_000}}).encode()
    content = json.dumps(GOOD).encode() + b"\n" + long + after
    with server.client() as client:
        kind = {"Content-Type": "application/x-ndjson"}
        told = client.post("/v1/events", content=content, headers=kind)
    assert (told.status_code, told.json()["errors"][0]["pointer"]) == (413, "/1")
    assert log.events()[0].id == "1"
    assert [(one.position, one.reason) for one in log.rejections()] == [(1, "too_large")]


def test_nothing_that_fails_inside_reaches_the_client(server, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret of Ada")

    monkeypatch.setattr("habitue.ingest.doors.native.translate", fail)
    with server.client() as client:
        told = client.post("/v1/events", json=GOOD)
    assert (told.status_code, told.json()["code"]) == (500, "error")
    assert is_clear(told)
    assert "Ada" not in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_threads_end_with_the_server(tmp_path):
    before = threading.active_count()
    with in_process(tmp_path / "other", ListLog()), in_process(tmp_path / "third", ListLog()):
        pass
    assert threading.active_count() <= before
