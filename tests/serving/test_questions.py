"""Questions over HTTP that only the models can answer: why of one customer, any of everyone."""

import re
import shlex
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from habitue.lake import schema
from habitue.publishing import keep
from habitue.scoring.desk import DESK_FILE, MOST_WAITING, Desk, Figure, Found
from habitue.scoring.scorer import Scorer
from habitue.scoring.told import SCORING_FILE
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF
from tests.serving.scored import scored, scoring
from tests.serving.small import ListLog, Server, in_process, keys_of

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "answers.md"
QUESTION = "count of order_placed in 60 days"
AT = datetime(2025, 1, 1, tzinfo=UTC)
JUDGED = Figure(
    question=QUESTION, cutoff="2024-11-02", horizon_days=60.0, method="answer", metric="ngini",
    value=0.4, low=0.3, high=0.5, verdict=None, customers=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    with scored(tmp_path_factory.mktemp("asked"), CUTOFF) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(scorer: Scorer) -> Iterator[Server]:
    folder = scorer.profiles.path.parent.parent
    with in_process(folder, ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def customer(client: httpx.Client) -> str:
    """Somebody with orders."""
    names = (f"c{number:07d}" for number in range(60))
    return next(
        one for one in names if client.get(f"/v1/customers/{one}/predictions").json().get("scored")
    )


def champion(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the shop had a model of its own."""
    monkeypatch.setattr("habitue.registry.Registry.aliases", lambda *_: {"champion": "v1"})


def test_a_prediction_is_explained_by_effects_that_add_up(
    server: Server, scorer: Scorer, client: httpx.Client, customer: str
) -> None:
    with scoring(scorer, server.workspace):
        told = client.get(
            f"/v1/customers/{customer}/why?question=churn&horizon_days=90&budget_ms=300"
        )
    told = told.raise_for_status().json()
    assert (told["customer"], told["question"]) == (customer, "churn")
    total = told["reference"] + sum(one["points"] for one in told["factors"]) + told["unshared"]
    assert total == pytest.approx(told["value"], abs=1e-6)
    assert all(one["words"] for one in told["factors"])
    with sqlite3.connect(server.workspace / "online" / DESK_FILE) as connection:
        assert connection.execute("SELECT count(*) FROM whys").fetchone() == (0,)
    connection.close()


def test_without_a_scorer_it_is_told_what_to_do(
    server: Server, client: httpx.Client, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(monkeypatch)
    (server.workspace / "online" / SCORING_FILE).unlink(missing_ok=True)
    for told in (
        client.get(f"/v1/customers/{customer}/why"),
        client.post("/v1/questions", json={"question": QUESTION}),
    ):
        assert (told.status_code, told.headers["retry-after"]) == (503, "2")
        assert "--no-scores" in told.json()["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("question=next_order", "question"), ("horizon_days=0", "horizon_days"),
        ("question=orders&horizon_days=45", "horizon_days"), ("budget_ms=1e9", "budget_ms"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_refused(
    client: httpx.Client, customer: str, query: str, parameter: str
) -> None:
    told = client.get(f"/v1/customers/{customer}/why?{query}")
    assert told.status_code == 400
    assert told.json()["errors"][0]["parameter"] == parameter


def test_a_question_of_a_shop_without_a_model_says_how_to_make_one(client: httpx.Client) -> None:
    told = client.post("/v1/questions", json={"question": QUESTION})
    assert told.status_code == 409
    assert "habitue train --shop acme" in told.json()["detail"]
    assert "no_model" not in client.get("/v1/status").json()["rejected"]       # it was no input


def test_a_question_that_cannot_be_read_is_pointed_at(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(monkeypatch)
    for question in ("who will buy?", "did order_plced in 3 days", "", "did x in 9999 days"):
        told = client.post("/v1/questions", json={"question": question})
        assert told.status_code == 400
        assert told.json()["errors"][0]["pointer"] == "/question"
    assert client.post("/v1/questions", json={"question": "x" * 3_000}).status_code == 400


def test_a_question_is_asked_followed_and_read(
    server: Server, scorer: Scorer, client: httpx.Client, customer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    champion(monkeypatch)
    scorer._tell()
    told = client.post("/v1/questions", json={"question": "count of order_placed in 2 months"})
    assert told.status_code == 400         # no such unit: nothing waits
    told = client.post("/v1/questions", json={"question": QUESTION})
    assert told.status_code == 202
    asked = told.json()
    path = told.headers["location"]
    assert (asked["status"], asked["answers"]) == ("waiting", None)
    assert client.get(f"{path}/answers").status_code == 409
    desk = Desk(server.workspace / "online" / DESK_FILE)
    try:
        taken = desk.take(1)
        names = [f"c{number:07d}" for number in range(5)]
        predict(server, {name: float(place) for place, name in enumerate(names)})
        desk.settle(
            taken, Found(version="v1", cutoff=AT, method="linear", customers=5, judged=[JUDGED]), 2
        )
    finally:
        desk.close()
    told = client.get(path).json()
    assert told["status"] == "complete"
    assert told["judged"][0]["metric"] == "ngini"
    assert [one["id"] for one in client.get("/v1/questions").json()["questions"]] == [asked["id"]]
    page = client.get(told["answers"], params={"limit": 2}).json()
    assert [one["customer"] for one in page["answers"]] == names[:-3:-1]
    found = page["answers"]
    while page["next"]:
        page = client.get(page["next"]).raise_for_status().json()
        found += page["answers"]
    assert [one["customer"] for one in found] == names[::-1]
    one = client.get(told["answers"], params={"customer": customer}).json()["answers"]
    assert [each["customer"] for each in one] == [name for name in names if name == customer]
    assert client.get(told["answers"] + "?cursor=none").status_code == 400
    other, _ = keys_of(Path(server.workspace), "other")
    with server.client(other) as stranger:
        assert stranger.get(path).status_code == 404
        assert stranger.get("/v1/questions").json() == {"questions": []}


def predict(server: Server, values: dict[str, float]) -> None:
    """Keep an answer of everyone, as `habitue ask` does."""
    rows = [
        {"customer": name, "version": "v1", "cutoff": AT, "anchor": AT, "question": QUESTION,
         "horizon_days": 60.0, "value": value, "low": value, "high": value + 1, "status": "full"}
        for name, value in values.items()
    ]  # fmt: skip
    fields = [one for one in schema.PREDICTIONS if one.name in rows[0]]
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    keep(open_workspace(server.workspace).shop("acme").source, table, AT + timedelta(days=1))


def test_no_more_questions_wait_than_can_be_answered(
    server: Server, scorer: Scorer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(monkeypatch)
    scorer._tell()
    statuses = [
        client.post("/v1/questions", json={"question": f"did order_placed in {day} days"})
        for day in range(1, MOST_WAITING + 2)
    ]
    assert [one.status_code for one in statuses] == [202] * MOST_WAITING + [429]
    assert int(statuses[-1].headers["retry-after"]) > 0
    again = client.post("/v1/questions", json={"question": "did order_placed in 1 day"})
    assert again.json()["id"] == statuses[0].json()["id"]


def test_a_why_that_nobody_tells_is_given_up(
    server: Server, scorer: Scorer, client: httpx.Client, customer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("habitue.serving.doors.answers.why.PATIENCE_SECONDS", 0.1)
    scorer._tell()
    began = time.monotonic()
    told = client.get(f"/v1/customers/{customer}/why?budget_ms=0")
    assert (told.status_code, time.monotonic() - began < 5) == (503, True)


def test_what_the_guide_shows_is_answered(
    server: Server, scorer: Scorer, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(monkeypatch)
    shown = shown_requests(server, customer)
    assert len(shown) >= 3
    with scoring(scorer, server.workspace), server.client(None) as opened:
        scorer._tell()
        for method, url, headers, body in shown:
            told = opened.request(method, url, headers=headers, content=body)
            assert told.status_code in (200, 202, 429), (url, told.text)


def shown_requests(server: Server, customer: str) -> list[tuple]:
    """The curl lines of the guide, asked of this server with its key, about somebody it knows."""
    text = GUIDE.read_text().replace("\\\n", " ")
    text = text.replace("http://127.0.0.1:8787", server.url).replace("hs_…", server.secret)
    found = []
    for line in re.findall(r"^curl .*$", text.replace("/c1/", f"/{customer}/"), re.MULTILINE):
        words = shlex.split(line)[1:]
        options = dict(zip(words[1::2], words[2::2], strict=True))
        assert set(options) <= {"-H", "-d"}, f"this test does not know {line}"
        name, _, value = options["-H"].partition(": ")
        body = options.get("-d")
        found.append(("GET" if body is None else "POST", words[0], {name: value}, body))
    return found
