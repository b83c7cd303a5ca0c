"""What may be asked at Klaviyo's paths: revisions, links, what is told beside, and by which key."""

from collections.abc import Iterator

import httpx
import pytest
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now
from habitue.directory import Grant
from habitue.serving.app import Route
from habitue.serving.doors.klaviyo.routes import OLDEST, REVISION, ROUTES
from habitue.workspace import open_workspace
from tests.serving.small import Server, running
from tests.serving.test_klaviyo_live import client_of, order, profile_of, soon
from tests.serving.test_klaviyo_members import named, of, on

EMAIL = "ada@example.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("asking") / "work") as server:
        api = client_of(server)
        api.Events.create_event(order(1, EMAIL, utc_now(), 10.0))
        soon(lambda: api.Profiles.get_profiles().data)
        soon(lambda: api.Metrics.get_metrics().data)
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    return client_of(server)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.mark.parametrize(
    ("revision", "status"),
    [(None, 200), (REVISION, 200), (OLDEST, 200), ("2027-01-15", 200), ("2026-10-15.pre", 200),
     ("2024-10-14", 410), ("2020-01-01", 410), ("banana", 400), ("", 400), ("15.10.2026", 400)],
)  # fmt: skip
def test_a_revision_is_spoken_retired_or_none(
    client: httpx.Client, revision: str | None, status: int
) -> None:
    told = client.get("/api/metrics", headers={} if revision is None else {"revision": revision})
    assert told.status_code == status
    if status != 200:
        (problem,) = told.json()["errors"]
        assert problem["source"] == {"parameter": "revision"}
        assert REVISION in problem["detail"]


def links(told: object) -> Iterator[str]:
    """Every address in a document."""
    if isinstance(told, dict):
        for name, value in told.items():
            if name in ("self", "related", "next") and isinstance(value, str):
                yield value
            yield from links(value)
    elif isinstance(told, list):
        for one in told:
            yield from links(one)


def test_every_link_leads_to_what_it_names(api: KlaviyoAPI, client: httpx.Client) -> None:
    api.Catalogs.create_catalog_item({"data": {"type": "catalog-item", "attributes": {
        "external_id": "mug", "title": "Mug", "url": "https://x.example", "description": "told",
    }}})  # fmt: skip
    api.Lists.create_list(named("Linked"))
    soon(lambda: api.Catalogs.get_catalog_items().data)
    paths = ("profiles", "events?include=profile,metric", "metrics", "lists", "segments",
             "catalog-items", "catalog-categories")  # fmt: skip
    found = {link for path in paths for link in links(client.get(f"/api/{path}").json())}
    assert len(found) >= 20
    for link in found:
        assert client.get(link).status_code == 200, link


def test_what_an_event_is_about_is_shown(api: KlaviyoAPI, client: httpx.Client) -> None:
    (event,) = api.Events.get_events().data
    ada, metric = profile_of(api, EMAIL), api.Metrics.get_metrics().data[0].id
    assert api.Events.get_profile_for_event(event.id).data.attributes.email == EMAIL
    assert api.Events.get_profile_id_for_event(event.id).data.id == ada
    assert api.Events.get_metric_for_event(event.id).data.attributes.name == "Placed Order"
    assert api.Events.get_metric_id_for_event(event.id).data.id == metric
    for path in ("profile", "metric", "relationships/profile", "relationships/metric"):
        assert client.get(f"/api/events/{'00' * 16}/{path}").status_code == 404


def test_a_profile_is_told_with_its_lists_and_segments(api: KlaviyoAPI) -> None:
    ada, made = profile_of(api, EMAIL), api.Lists.create_list(named("Beside")).data.id
    api.Lists.add_profiles_to_list(made, of(ada))
    assert on(api, made, 1) == {ada}
    told = api.Profiles.get_profile(ada, include=["lists", "segments"])
    assert [(one["type"], one["id"]) for one in told.included] == [("list", made)]
    assert [one.id for one in told.data.relationships.lists.data] == [made]
    assert told.data.relationships.segments.data == []
    assert [one.id for one in api.Profiles.get_list_ids_for_profile(ada).data] == [made]
    assert api.Profiles.get_segment_ids_for_profile(ada).data == []


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.method == "GET"], ids=lambda one: one.path
)
def test_nothing_that_is_asked_for_is_passed_over(client: httpx.Client, route: Route) -> None:
    path = route.path.replace("{id}", "none")
    for name, value in (("filter", 'equals(zzz,"x")'), ("include", "zzz")):
        told = client.get(path, params={name: value})
        assert told.status_code == 400, name
        assert told.json()["errors"][0]["source"]["parameter"] == name


def test_every_condition_at_fault_is_told_by_its_pointer(client: httpx.Client) -> None:
    good = {"type": "profile-property", "property": "email", "filter": {"type": "existence",
            "operator": "is-set"}}  # fmt: skip
    unknown = {"type": "profile-group-membership", "is_member": True, "group_ids": ["no"]}
    definition = {"condition_groups": [
        {"conditions": [good, {"type": "profile-region"}]}, {"conditions": [unknown]},
    ]}  # fmt: skip
    body = {"data": {"type": "segment", "attributes": {"name": "x", "definition": definition}}}
    refused = client.post("/api/segments", json=body)
    assert refused.status_code == 400
    told = {one["source"]["pointer"]: one["detail"] for one in refused.json()["errors"]}
    groups = "/data/attributes/definition/condition_groups"
    assert list(told) == [f"{groups}/0/conditions/1/type", f"{groups}/1/conditions/0"]
    assert told[f"{groups}/1/conditions/0"] == "the shop has no segment or list of the id 'no'"
    definition["condition_groups"] = []
    (one,) = client.post("/api/segments", json=body).json()["errors"]
    assert one["source"]["pointer"] == groups


def bounded(server: Server, *scopes: str) -> httpx.Client:
    """A client whose key has some scopes."""
    directory = open_workspace(server.workspace).directory
    grant = Grant(scopes=frozenset(scopes))
    return server.client(directory.issue_key("acme", "secret", now=utc_now(), grant=grant)[1])


def test_a_key_that_reads_events_reads_no_profiles_beside_them(
    server: Server, api: KlaviyoAPI
) -> None:
    (event,) = api.Events.get_events().data
    with bounded(server, "events:read") as client:
        assert client.get("/api/events?include=metric").status_code == 200
        for path in (f"{event.id}?include=profile", "?include=profile", f"{event.id}/profile"):
            told = client.get(f"/api/events/{path}")
            assert (told.status_code, EMAIL in told.text) == (403, False), path


def test_a_key_that_only_writes_is_told_nothing_that_is_known(server: Server) -> None:
    with server.client() as client:
        client.post("/api/profile-import", json=person(last_name="Lovelace")).raise_for_status()
        soon(lambda: "Lovelace" in client.get("/api/profiles").text)
    with bounded(server, "events:write") as client:
        told = client.post("/api/profile-import", json=person(first_name="Ada"))
        assert told.status_code == 200
        assert told.json()["data"]["attributes"]["first_name"] == "Ada"
        assert told.json()["data"]["attributes"]["last_name"] is None
    with bounded(server, "profiles:read") as client:
        ada = client.get("/api/profiles").json()["data"][0]["id"]
        assert client.get(f"/api/profiles/{ada}").status_code == 200
        assert client.get(f"/api/profiles/{ada}?include=lists").status_code == 403
        assert client.get(f"/api/profiles/{ada}/relationships/lists").status_code == 403


def test_a_change_is_answered_with_what_it_leaves(client: httpx.Client) -> None:
    told = {"first_name": "Eve", "title": "Dr", "location": {"city": "Paris", "zip": "75001"},
            "properties": {"plan": "gold", "skus": ["a"]}}  # fmt: skip
    made = client.post("/api/profile-import", json=person(email="eve@example.com", **told)).json()
    soon(lambda: client.get(f"/api/profiles/{made['data']['id']}").status_code == 200)
    change = {"first_name": None, "location": {"city": None}, "properties": {"size": 5}}
    body = person(email="eve@example.com", **change)
    body["data"]["id"] = made["data"]["id"]
    body["data"]["meta"] = {"patch_properties": {"append": {"skus": "b"}, "unset": "plan"}}
    changed = client.patch(f"/api/profiles/{made['data']['id']}", json=body).json()["data"]
    assert (changed["attributes"]["first_name"], changed["attributes"]["title"]) == (None, "Dr")
    assert changed["attributes"]["properties"] == {"size": 5, "skus": ["a", "b"]}
    place = changed["attributes"]["location"]
    assert (place["city"], place["zip"]) == (None, "75001")

    def shown() -> dict:
        return client.get(f"/api/profiles/{made['data']['id']}").json()["data"]["attributes"]

    soon(lambda: "size" in shown()["properties"])
    assert shown() | {"updated": 0} == changed["attributes"] | {"updated": 0}


def person(**told: object) -> dict:
    return {"data": {"type": "profile", "attributes": {"email": EMAIL, **told}}}
