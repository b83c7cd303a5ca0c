"""Changes told to a file and to an address: once at least, in order, signed, tried again."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from habitue.audiences.changes.delivering import FIRST_SECONDS, LOOK_SECONDS, is_ours
from habitue.audiences.saved import Saved
from habitue.errors import BadAudience, BadSetting, NoSuchAudience
from habitue.lake.tables import Lake
from tests.audiences.living import Living
from tests.lake.small import day, event

SECRET = b"a secret"


@pytest.fixture
def shop(tmp_path):
    live = Living(tmp_path / "profiles.sqlite")
    live.define(buyers="did order_placed", often="did order_placed >= 2 times")
    live.tell([event("a", 1), event("b", 1.5, customer="c2"), event("c", 2)])
    yield Saved(Lake(tmp_path / "lake"), "acme", lambda: day(9), live=live.path), live
    live.profiles.close()


@contextmanager
def listening(answers):
    """An address that answers as it is told, and keeps what it heard."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((body, self.headers["Habitue-Signature"]))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_holds_each_change_once_also_after_half_a_line(shop, tmp_path):
    saved, live = shop
    path = tmp_path / "changes.ndjson"
    delivery = saved.delivery(str(path))
    assert (delivery.step(), delivery.step()) == (0.0, LOOK_SECONDS)
    whole = path.read_bytes()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert lines[0] | {"detected_at": ""} == {
        "sequence": 1, "audience": "buyers", "customer": "c1", "change": "entered",
        "at": "2025-03-04T00:00:00Z", "detected_at": "", "cause": "event",
    }  # fmt: skip
    path.write_bytes(whole[:-20])                  # cut by a crash, before the place was written
    (tmp_path / "deliveries.sqlite").unlink()
    saved.delivery(str(path)).step()
    assert path.read_bytes() == whole
    live.tell([event("d", 3, customer="c3")])
    delivery.step()
    assert len(path.read_bytes().splitlines()) == 4


def test_a_call_is_signed_and_made_again_until_it_is_taken(shop):
    saved, _ = shop
    with listening([500, 302, 200]) as (url, heard):
        delivery = saved.delivery(url, secret=SECRET, audience="buyers")
        assert delivery.step() == FIRST_SECONDS
        assert delivery.step() == 2 * FIRST_SECONDS
        assert delivery.step() == 0.0
        assert delivery.step() == LOOK_SECONDS
        again = saved.delivery(url, secret=SECRET, audience="buyers")
        assert again.step() == LOOK_SECONDS
    assert len(heard) == 3
    assert {body for body, _ in heard} == {heard[0][0]}
    assert [one["customer"] for one in json.loads(heard[0][0])] == ["c1", "c2"]
    for body, header in heard:
        assert is_ours(SECRET, body, header)
        assert not is_ours(b"another", body, header)
        assert not is_ours(SECRET, body + b" ", header)
    assert delivery.step() == LOOK_SECONDS


def test_nobody_is_called_without_a_secret_or_in_the_open(shop):
    saved, _ = shop
    for url, secret in (("http://example.com/hook", SECRET), ("https://example.com/", b"")):
        with pytest.raises(BadSetting):
            saved.delivery(url, secret=secret)


def test_a_name_that_is_none_is_not_waited_for(shop, tmp_path):
    saved, live = shop
    for asked in (
        lambda: saved.delivery(str(tmp_path / "a"), audience="byers"),
        lambda: saved.changes("byers"),
        lambda: saved.members("byers"),
    ):
        with pytest.raises(NoSuchAudience):
            asked()
    for asked in (saved.members, saved.changes):
        with pytest.raises(BadAudience, match="a character that no text has"):
            asked("\udcff")
    live.define(buyers=None)               # no name any more, and yet its changes stand
    assert len(saved.changes("buyers"))
    saved.delivery(str(tmp_path / "a"), audience="buyers")
