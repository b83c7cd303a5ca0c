"""A question asked of `habitue serve` is answered by a process beside it, that ends afterwards."""

import time
from datetime import UTC, datetime

import httpx
import pyarrow.compute as pc
import pytest

from habitue import publishing
from habitue.config import TrainConfig, utc_now
from habitue.sequences.build import DAY, instant
from habitue.simulation import ShopConfig
from habitue.workspace import open_workspace
from tests.serving.small import Server, running
from tests.shops import end_of, events_of
from tests.test_publishing import receive

SHOP = ShopConfig(shop="acme", customers=150, items=20, days=230, arrival_days=160)
TINY = TrainConfig(width=32, layers=1, epochs=1, queries=2, from_nothing=True)
CUTOFF = instant(end_of(SHOP) - 30 * DAY)
QUESTION = "did order_placed in 30 days"


def asked(client: httpx.Client) -> str:
    """Ask, as soon as the scorer has said a word."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        told = client.post("/v1/questions", json={"question": QUESTION})
        if told.status_code != 503:
            assert told.status_code == 202, told.text
            return str(told.headers["location"])
        time.sleep(0.2)
    raise AssertionError("no scorer came")


def answered(client: httpx.Client, path: str) -> dict:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        told = client.get(path).raise_for_status().json()
        if told["status"] in ("complete", "failed"):
            return told
        time.sleep(0.2)
    raise AssertionError(told["status"])


@pytest.mark.slow
def test_a_question_of_the_service_is_answered_and_judged(tmp_path) -> None:
    workspace = open_workspace(tmp_path)
    source = workspace.shop("acme").source
    events = events_of(SHOP, 5)
    receive(source, events.filter(pc.field("time") <= CUTOFF))
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=datetime(2026, 1, 5, tzinfo=UTC))
    with running(tmp_path, "--scores") as server, server.client(timeout=30) as client:
        path = asked(client)
        told = answered(client, path)
        assert told["status"] == "complete", told["detail"]
        assert {one["method"] for one in told["judged"]} >= {"answer", "base_rate"}
        answers = client.get(told["answers"]).raise_for_status().json()["answers"]
        assert len(answers) == min(told["customers"], 100)
        assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in answers)
        assert utc_now() > datetime.fromisoformat(told["updated"])
        explained(server, client, answers[0]["customer"])


def explained(server: Server, client: httpx.Client, customer: str) -> None:
    """Why, by the scorer, in its time."""
    told = client.get(f"/v1/customers/{customer}/why?budget_ms=200").raise_for_status().json()
    assert told["factors"]
    predicted = client.get(f"/v1/customers/{customer}/predictions?question=churn&horizon_days=90")
    (churn,) = predicted.json()["predictions"]
    assert told["value"] == pytest.approx(churn["value"], rel=1e-3)
