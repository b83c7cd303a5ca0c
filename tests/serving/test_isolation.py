"""One shop's key cannot read, write or infer anything of another's; a public key reads nothing."""

import base64
import time

import pytest

from habitue.config import utc_now
from habitue.directory import Grant, Limit
from habitue.serving import auth
from habitue.serving.bodies import Room
from habitue.workspace import open_workspace
from tests.serving.small import ListLog, in_process, keys_of, running, settled


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


def test_events_are_of_the_shop_of_the_key_whatever_they_say(server, log):
    other, _ = keys_of(server.workspace, "rival")
    with server.client(other) as client:
        client.post("/v1/events", json={"name": "x", "customer": "c", "id": "1"})
        told = client.post("/v1/events", json={"name": "x", "customer": "c", "shop": "acme"}).json()
    assert told["rejected"][0]["reason"] == "unknown_field"
    assert {one.shop for one in log.events()} == {"rival"}


def test_the_same_ids_in_two_shops_are_two_events_and_two_surrogates(server, log):
    other, _ = keys_of(server.workspace, "rival")
    for key in (server.secret, other):
        with server.client(key) as client:
            client.post("/v1/events", json={"name": "x", "email": "ada@example.com", "id": "1"})
    events = [one for one in log.events() if hasattr(one, "properties")]
    assert len(events) == 2
    assert len({one.digest for one in events}) == 2
    assert len({one.customer for one in events}) == 2


WITHOUT = [
    ("POST", "/v1/events"), ("GET", "/v1/receipts/x"), ("GET", "/v1/rejected"),
    ("GET", "/v1/status"), ("POST", "/api/events"), ("GET", "/api/profiles/x"),
    ("POST", "/client/events"), ("POST", "/v1/batch"), ("POST", "/batch/"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), WITHOUT)
def test_whoever_has_no_key_learns_nothing(server, log, method, path):
    bodies = set()
    for key in (None, "hs_" + "a" * 52, "hs_short", server.secret[:-1] + "0", "é" * 55):
        with server.client(None) as client:
            headers = {} if key is None else {"X-Habitue-Key": key.encode()}
            told = client.request(method, path, headers=headers, content=b"{")
        assert told.status_code == 401
        body = told.json()
        bodies.add(body.get("detail") or body.get("message") or body["errors"][0]["detail"])
    assert len(bodies) == 1
    assert not log.parts()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/receipts/x"), ("GET", "/v1/rejected"), ("GET", "/v1/status"),
     ("POST", "/api/events"), ("GET", "/api/profiles/x"), ("POST", "/api/profiles")],
)  # fmt: skip
def test_a_public_key_reads_nothing_and_writes_no_profiles_of_the_server_api(server, method, path):
    with server.client(server.public) as client:
        told = client.request(method, path, content=b"{}" if method == "POST" else None)
    assert told.status_code == 403
    assert "public key" in told.text


def test_a_key_is_taken_in_every_clients_place(server, log):
    basic = base64.b64encode(f"{server.secret}:".encode()).decode()
    event = {"name": "x", "customer": "c"}
    with server.client(None) as client:
        for headers in (
            {"X-Habitue-Key": server.secret}, {"Authorization": f"Bearer {server.secret}"},
            {"Authorization": f"Klaviyo-API-Key {server.secret}"},
            {"Authorization": f"Basic {basic}"},
        ):  # fmt: skip
            assert client.post("/v1/events", json=event, headers=headers).status_code == 202
        call = {"type": "track", "event": "x", "userId": "u", "messageId": "m"}
        sent = {"batch": [call], "writeKey": server.public}
        assert client.post("/v1/batch", json=sent).status_code == 200
        batch = [{"event": "x", "distinct_id": "u", "uuid": "1"}]
        assert client.post("/batch/", json={"batch": batch, "api_key": server.public}).is_success
        profile = {"data": {"type": "profile", "attributes": {"anonymous_id": "a"}}}
        told = client.post(
            "/client/profiles", params={"company_id": server.public}, json={"data": profile["data"]}
        )
        assert told.status_code == 202
        assert told.headers["access-control-allow-origin"] == "*"
        asked = client.options("/client/profiles/")
        assert (asked.status_code, asked.text) == (204, "")


def test_a_revoked_key_is_refused_a_moment_later(server):
    directory = open_workspace(server.workspace).directory
    key, plain = directory.issue_key("acme", "secret", now=utc_now())
    with server.client(plain) as client:
        assert client.get("/v1/status").status_code == 200
        directory.revoke(key.id, shop="acme", now=utc_now())
        time.sleep(1.5 * auth.LOOK_SECONDS)
        assert client.get("/v1/status").status_code == 401


def test_a_keys_own_limit_holds_and_is_told(server):
    directory = open_workspace(server.workspace).directory
    limit = Limit(per_minute=2)
    _, plain = directory.issue_key("acme", "secret", now=utc_now(), grant=Grant(limit=limit))
    with server.client(plain) as client:
        told = [client.get("/v1/status") for _ in range(6)]
    assert [one.status_code for one in told].count(429) >= 2
    assert told[0].headers["ratelimit-remaining"] == "1"
    assert int(told[-1].headers["retry-after"]) >= 1


def test_klaviyos_own_rates_hold_where_others_can_ask(tmp_path):
    held = in_process(tmp_path / "work", ListLog(), klaviyo_limits=True)
    with held as server, server.client() as client:
        told = [client.post("/api/event-bulk-create-jobs", content=b"{") for _ in range(40)]
        other = client.post("/v1/events", json={"name": "x", "customer": "c"})
    assert told[0].headers["ratelimit-limit"] == "10, 10;w=1, 150;w=60"
    refused = [one for one in told if one.status_code == 429]
    assert refused
    assert refused[0].json()["errors"][0]["code"] == "throttled"
    assert other.status_code == 202


def test_metrics_are_for_this_machine_or_the_operators_key(server):
    operator = (server.workspace / "online" / "operator.key").read_text().strip()
    proxied = {"X-Forwarded-For": "1.2.3.4"}
    with server.client() as shop, server.client(None) as anyone:
        shop.post("/v1/events", json={"name": "x", "customer": "secret-customer"})
        text = anyone.get("/metrics").text
        assert 'habitue_accepted_total{shop="acme"} ' in text
        assert "secret-customer" not in text
        assert anyone.get("/metrics", headers=proxied).status_code == 401
        assert shop.get("/metrics", headers=proxied).status_code == 401
        bearer = proxied | {"Authorization": f"Bearer {operator}"}
        assert anyone.get("/metrics", headers=bearer).status_code == 200


def test_a_web_page_whose_name_leads_to_this_machine_sees_no_metrics(server):
    with server.client(None) as anyone:
        assert anyone.get("/metrics", headers={"Host": "evil.example"}).status_code == 401
        for host in ("localhost:80", "127.0.0.1", "[::1]:8787"):
            assert anyone.get("/metrics", headers={"Host": host}).status_code == 200


def test_bodies_that_name_no_key_yet_take_no_room_of_those_that_do(server, monkeypatch):
    taken = []
    take = Room.take
    monkeypatch.setattr(
        Room, "take", lambda room, size, who: (taken.append((id(room), who)), take(room, size, who))
    )
    event = {"name": "x", "customer": "c"}
    with server.client() as shop, server.client(None) as anyone:
        assert shop.post("/v1/events", json=event).status_code == 202
        assert anyone.post("/batch", json={"batch": [event]}).status_code == 401
    (known, first), (unknown, second) = taken
    assert (first, second) == ("acme", "127.0.0.1")
    assert known != unknown


def test_what_another_shop_has_looks_like_what_does_not_exist(tmp_path):
    with running(tmp_path / "work") as server:
        other, _ = keys_of(server.workspace, "rival")
        with server.client() as mine, server.client(other) as theirs:
            sent = [{"name": "x", "customer": "c", "id": "1"}, {"name": ""}]
            receipt = mine.post("/v1/events", json=sent).json()["id"]
            assert settled(mine, receipt)["appended"] == 1
            again = theirs.post("/v1/events", json=sent[0]).json()["id"]
            assert settled(theirs, again) == {
                "id": again, "settled": True, "rows": 1, "appended": 1, "duplicate": 0,
                "rejected": 0,
            }  # fmt: skip
            foreign = theirs.get(f"/v1/receipts/{receipt}")
            nothing = theirs.get(f"/v1/receipts/{'a' * 32}")
            assert (foreign.status_code, foreign.content) == (404, nothing.content)
            assert foreign.headers.keys() == nothing.headers.keys()
            assert mine.get("/v1/rejected").json()["reasons"] == {"no_name": 1}
            assert theirs.get("/v1/rejected").json() == {
                "reasons": {}, "rejected": [], "next": None,
            }  # fmt: skip
            body = {"data": {"type": "profile", "attributes": {"email": "ada@example.com"}}}
            made = mine.post("/api/profiles", json=body)
            assert made.status_code == 201
            assert mine.post("/api/profiles", json=body).status_code == 409
            assert theirs.get(f"/api/profiles/{made.json()['data']['id']}").status_code == 404
            assert theirs.post("/api/profiles", json=body).status_code == 201


def test_what_is_known_of_customers_now_is_for_the_owner_alone(server):
    assert (server.workspace / "online").stat().st_mode & 0o077 == 0


def test_a_path_ends_where_its_address_says_and_not_at_a_question_mark_within(server):
    with server.client() as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health%3Fx").status_code == 404
        assert client.get("/health%23x").status_code == 404
