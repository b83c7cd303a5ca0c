"""Scores in Redis: as from a file, 503 while it is away, all again when it comes back empty."""

import time
from pathlib import Path

import pytest

from habitue.workspace import open_workspace
from tests.redisserver import redis_server
from tests.scoring.small import SHOP, source_of
from tests.serving.small import start
from tests.serving.test_live_scores import WITHIN_SECONDS, read, scored, send


@pytest.mark.slow
def test_scores_come_from_redis_and_come_back_after_it_lost_them(tmp_path: Path, monkeypatch):
    folder = tmp_path / "work"
    with redis_server(tmp_path) as first:
        monkeypatch.setenv("HABITUE_SCORES", first.address())
        open_workspace(folder)
        source_of(folder)
        server = start(folder, "--scores", "--workers", "2", shop=SHOP.shop)
        try:
            send(server, "newcomer")
            told = scored(server, "newcomer")
            assert not (folder / "online" / "scores.sqlite").exists()

            first.stop()
            refused = read(server, "newcomer")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            send(server, "newcomer")       # what is sent is taken all the same
            with redis_server(tmp_path, first.port):
                again = scored_again(server, told["scored"])
            assert again["behind_since"] is None
        finally:
            assert server.stop() == 0


def scored_again(server, than: str) -> dict:
    """The answers, as soon as there are some again that know the last order."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        told = read(server, "newcomer")
        found = told.json() if told.status_code == 200 else {}
        if found.get("scored") not in (None, than) and found["behind_since"] is None:
            return found
        time.sleep(0.1)
    raise AssertionError(told.text)
