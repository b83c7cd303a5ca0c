"""What a key may do and until when; what is written down of it; which paths pages may ask."""

from datetime import timedelta

import httpx
import pytest

from habitue.audit import AUDIT_FILE, Audit
from habitue.config import utc_now
from habitue.directory import Grant
from habitue.scopes import SCOPES
from habitue.serving.doors.routes import ROUTES
from habitue.workspace import open_workspace
from tests.serving.small import ListLog, in_process

KEYED = [one for one in ROUTES if not one.open]
ORIGIN = {"Origin": "https://shop.example"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    log = ListLog()
    with in_process(tmp_path_factory.mktemp("served") / "work", log) as server:
        yield server, log


@pytest.fixture
def server(shared):
    return shared[0]


def key(server, *scopes: str, **grant: object) -> str:
    directory = open_workspace(server.workspace).directory
    held = Grant(scopes=frozenset(scopes) or None, **grant)
    return directory.issue_key("acme", "secret", now=utc_now(), grant=held)[1]


def shown(route) -> str:
    return route.path.replace("{id}", "x").replace("{item}", "x")


@pytest.mark.parametrize("route", KEYED, ids=lambda one: f"{one.method} {one.path}")
def test_every_path_has_a_scope_and_refuses_a_key_with_all_others(server, route):
    assert route.scope in SCOPES
    with server.client(key(server, *(SCOPES.keys() - {route.scope}))) as client:
        told = client.request(route.method, shown(route))
    assert told.status_code == 403
    assert f"`{route.scope}`" in told.text


def test_a_key_with_the_scope_is_let_in_and_nothing_refused_is_kept(shared):
    server, log = shared
    log.forget()
    with server.client(key(server, "events:write")) as client:
        assert client.post("/v1/events", json={"name": "x", "customer": "c"}).status_code == 202
        assert client.get("/v1/status").status_code == 403
    with server.client(key(server, "events:read")) as client:
        assert client.get("/v1/status").status_code == 200
        assert client.post("/v1/events", json={"name": "x", "customer": "c"}).status_code == 403
    assert len(log.parts()) == 1


def test_klaviyos_predictions_need_their_own_scope(server):
    asked = {"additional-fields[profile]": "predictive_analytics"}
    with server.client(key(server, "profiles:read")) as client:
        assert client.get("/api/profiles").status_code == 200
        told = client.get("/api/profiles", params=asked)
    assert told.status_code == 403
    assert told.json()["errors"][0]["meta"]["reason"] == "missing_scope"
    assert "`predictions:read`" in told.json()["errors"][0]["detail"]


def test_a_key_ends_at_its_instant_and_looks_unknown_then(server):
    ending = key(server, expires=utc_now() + timedelta(seconds=0.7))
    with server.client(ending) as client:
        assert client.get("/v1/status").status_code == 200
        refused = client.get("/v1/status")
        while refused.status_code == 200:
            refused = client.get("/v1/status")
    with server.client("hs_" + "a" * 52) as client:
        unknown = client.get("/v1/status")
    assert (refused.status_code, refused.content) == (401, unknown.content)


def test_uses_are_counted_by_route_and_tell_of_no_customer(tmp_path):
    with in_process(tmp_path / "work", ListLog()) as server, server.client() as client:
        for name in ("ada@example.com", "bob"):
            assert client.get(f"/v1/customers/{name}").status_code == 404
        client.get("/v1/status")
    path = tmp_path / "work" / AUDIT_FILE
    used = Audit(path).used("acme", utc_now() - timedelta(minutes=2), utc_now())
    told = sorted((one.route, one.status, one.count) for one in used)
    assert told == [("GET /v1/customers/{id}", 404, 2), ("GET /v1/status", 200, 1)]
    assert b"ada@" not in path.read_bytes()
    assert server.secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_only_pages_for_public_keys_are_for_pages_of_others(server, route):
    with server.client(None) as client:
        asked = client.options(shown(route), headers=ORIGIN)
        told = client.request(route.method, shown(route), headers=ORIGIN)
    public = {one.path for one in ROUTES if one.public}
    for answer in (asked, told):
        assert ("access-control-allow-origin" in answer.headers) == (route.path in public)


def test_an_erasure_is_an_act_of_the_key_that_asked(tmp_path):
    with in_process(tmp_path / "work", ListLog()) as server, server.client() as client:
        told: httpx.Response = client.post("/v1/erasures", json={"customer": "ada"})
        assert told.status_code == 202
    directory = open_workspace(tmp_path / "work").directory
    (act,) = [one for one in directory.acts("acme") if one.act == "erasure.request"]
    secret = directory.key_for(server.secret)
    assert (act.who, act.about) == (secret.id, told.json()["id"])
    assert "ada" not in str(act)
