"""Answers over HTTP: predictions, lists, memberships and profiles of the shop of the key."""

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from habitue.lake.keys import profile_id
from habitue.scoring.scorer import Scorer
from habitue.sequences.build import DAY, instant
from habitue.serving.beside.settlement import PROGRESS_FILE, Progress
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF, SHOP, source_of
from tests.scoring.test_scorer import Clock, scorer_of, steps
from tests.serving.small import ListLog, Server, in_process, keys_of

NOW = CUTOFF // DAY * DAY + DAY // 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("answers")
    open_workspace(folder)
    source = source_of(folder)
    scorer: Scorer = scorer_of(source, Clock(NOW), folder / "online")
    scorer.catch_up(source.lake)
    steps(scorer)
    scorer.close()
    with in_process(folder, ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def customer(client: httpx.Client) -> str:
    """Somebody with orders."""
    for number in range(60):
        told = client.get(f"/v1/customers/c{number:07d}/predictions").json()
        if told.get("scored") and len(told["predictions"]) > 1:
            return f"c{number:07d}"
    raise AssertionError("nobody has a score")


def at(days: float = 0) -> str:
    return instant(NOW + round(days * DAY)).isoformat()


def predict(client: httpx.Client, customer: str, **asked: object) -> dict:
    told = client.get(f"/v1/customers/{customer}/predictions", params={"at": at()} | asked)
    return told.raise_for_status().json()


def test_a_customer_is_predicted_with_interval_version_and_status(
    client: httpx.Client, customer: str
) -> None:
    told = predict(client, customer)
    assert told["customer"] == customer
    assert told["id"] == profile_id(SHOP.shop, customer)
    assert told["status"] == "transfer"
    assert "training" in told["missing"]
    assert told["version"].startswith("starter")
    assert told["behind_since"] is None
    asked = {(one["question"], one.get("horizon_days")) for one in told["predictions"]}
    assert asked == {
        (question, days) for question in ("order", "churn", "orders", "revenue")
        for days in (30.0, 90.0)
    } | {("next_order", None)}  # fmt: skip
    for one in told["predictions"]:        # of a date, what lies beyond the forecast is none
        low, value, high = (
            math.inf if one[name] is None else one[name] for name in ("low", "value", "high")
        )
        assert low <= value <= high or one["question"] == "orders"
    order, churn = (
        predict(client, customer, question=name, horizon_days=90)["predictions"][0]["value"]
        for name in ("order", "churn")
    )
    assert order + churn == pytest.approx(1)


def test_a_date_beyond_where_hazards_end_is_none_as_in_predict(
    client: httpx.Client, customer: str
) -> None:
    for days in (0, 300, 2_000):
        (told,) = predict(client, customer, question="next_order", at=at(days))["predictions"]
        bounds = [told["low"], told["value"], told["high"]]
        assert all(one is None or one <= 730 for one in bounds)
        assert ("date" in told) == (told["value"] is not None)


def test_silence_lowers_or_raises_a_prediction_without_any_event(
    client: httpx.Client, customer: str
) -> None:
    now, later = (
        predict(client, customer, question="order", horizon_days=30, at=at(days))["predictions"][0]
        for days in (0, 25)
    )
    assert now["value"] != later["value"]


def test_any_horizon_is_answered_of_chances_and_those_read_of_sums(
    client: httpx.Client, customer: str
) -> None:
    told = predict(client, customer, question="order,churn", horizon_days="1,45.5,730")
    values = [one["value"] for one in told["predictions"][:3]]
    assert values == sorted(values)
    refused = client.get(
        f"/v1/customers/{customer}/predictions?question=orders&horizon_days=45.5"
    )
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == "horizon_days"
    assert "7, 30, 60, 90, 180, 365" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("question=gender", "question"),
        ("horizon_days=soon", "horizon_days"),
        ("horizon_days=nan", "horizon_days"),
        ("horizon_days=-3", "horizon_days"),
        ("horizon_days=100000", "horizon_days"),
        ("at=yesterday", "at"),
        ("at=2023-01-01", "at"),
        ("at=2001-01-01T00:00:00Z", "at"),
    ],
)
def test_a_bad_question_is_told_where_it_is_bad(
    client: httpx.Client, customer: str, query: str, pointer: str
) -> None:
    refused = client.get(f"/v1/customers/{customer}/predictions?{query}")
    assert refused.status_code == 400, refused.text
    assert refused.json()["errors"][0]["parameter"] == pointer


def test_a_list_leaves_out_what_is_asked_to_be_left_out(
    client: httpx.Client, customer: str
) -> None:
    def items(**asked: object) -> list[dict]:
        told = client.get(f"/v1/customers/{customer}/recommendations", params=asked)
        return told.raise_for_status().json()["items"]

    first = items(k=5)
    assert [one["rank"] for one in first] == [1, 2, 3, 4, 5]
    assert all(one["evidence"] for one in first)
    without = items(k=5, exclude=first[0]["item"])
    assert [one["item"] for one in without[:4]] == [one["item"] for one in first[1:]]
    new = items(k=100, exclude_bought=True)
    assert new
    assert not {one["reason"] for one in new} & {"bought_often", "bought_once"}
    spread = items(k=100, per_category=1)
    categories = [one["category"] for one in spread if one["category"]]
    assert len(set(categories)) == len(categories)
    assert len({one["item"] for one in items(k=100)}) == len(items(k=100))


def test_somebody_unknown_is_shown_what_sells(client: httpx.Client) -> None:
    told = client.get("/v1/recommendations?k=3").json()
    assert [one["reason"] for one in told["items"]] == ["popular"] * 3
    item = told["items"][0]["item"]
    similar = client.get(f"/v1/items/{item}/similar?k=2").json()
    assert similar["item"] == item
    assert len(similar["similar"]) == 2
    assert client.get("/v1/items/no-such-item/similar").status_code == 404


def test_who_was_never_told_of_is_shown_a_list_all_the_same(client: httpx.Client) -> None:
    on_page = client.get("/v1/recommendations?k=1").json()["items"][0]["item"]
    for query in ("k=3", f"k=3&item={on_page}"):
        told = client.get(f"/v1/customers/anonymous:first-visit/recommendations?{query}").json()
        assert (told["customer"], told["id"]) == ("anonymous:first-visit", None)
        assert (told["status"], told["missing"]) == (
            "insufficient", "anything that was told of them",
        )  # fmt: skip
        assert told["items"] == client.get(f"/v1/recommendations?{query}").json()["items"]


def test_a_profile_is_found_by_id_and_by_key(client: httpx.Client, customer: str) -> None:
    one = client.get(f"/v1/customers/{customer}").json()
    assert client.get(f"/v1/customers/{one['id']}").json() == one
    assert one["events"]["order_placed"] >= 1
    assert one["memberships"] == []
    told = client.get(f"/v1/customers/{customer}/memberships").json()
    assert told == {"customer": customer, "memberships": []}
    for path in ("", "/predictions", "/timeline", "/memberships"):
        assert client.get(f"/v1/customers/nobody{path}").status_code == 404


@pytest.mark.parametrize("query", ["k=0", "k=101", "k=ten", "k=", "exclude_bought=maybe", "k=١"])
def test_a_bad_list_is_refused(client: httpx.Client, customer: str, query: str) -> None:
    refused = client.get(f"/v1/customers/{customer}/recommendations?{query}")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] in ("k", "exclude_bought")


PATHS = (
    "/v1/customers/{customer}", "/v1/customers/{customer}/predictions",
    "/v1/customers/{customer}/recommendations", "/v1/customers/{customer}/memberships",
    "/v1/recommendations", "/v1/items/i000001/similar",
    "/v1/customers/{customer}/why", "/v1/customers/{customer}/timeline",
    "/v1/questions/x", "/v1/questions/x/answers",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_only_a_secret_key_reads_and_only_its_own_shop(
    server: Server, customer: str, path: str
) -> None:
    path = path.format(customer=customer)
    with server.client(None) as nobody:
        assert nobody.get(path).status_code == 401
    with server.client(server.public) as public:
        assert public.get(path).status_code == 403
    other, _ = keys_of(Path(server.workspace), "other")
    with server.client(other) as stranger:
        told = stranger.get(path)
        if path.endswith("/recommendations"):          # as of whoever was never told of
            assert (told.json()["items"], told.json().get("id")) == ([], None)
        else:
            assert told.status_code == 404
            assert customer not in told.text


def test_who_runs_it_sees_whether_it_is_ready_and_how_reads_go(
    server: Server, client: httpx.Client
) -> None:
    client.get("/v1/recommendations").raise_for_status()
    with server.client(None) as anyone:
        assert anyone.get("/healthz").json() == {"status": "ok"}
        assert anyone.get("/readyz").json() == {"status": "ready"}
        told = anyone.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert int(lines["habitue_read_seconds_count"]) > 0
    assert float(lines["habitue_scoring_lag_seconds"]) == 0
    assert float(lines["habitue_untold_scores"]) >= 0
    (info,) = [name for name in lines if name.startswith("habitue_model_info")]
    assert 'shop="acme"' in info


def test_a_server_whose_worker_is_silent_is_not_ready(tmp_path: Path) -> None:
    with in_process(tmp_path / "work", ListLog()) as server:
        progress = server.workspace / "online" / PROGRESS_FILE
        progress.write_bytes(msgspec.json.encode(Progress(pid=1, time=0.0)))
        with server.client(None) as anyone:
            told = anyone.get("/readyz")
    assert told.status_code == 503
    assert "Retry-After" in told.headers
    assert "worker" in told.json()["detail"]
