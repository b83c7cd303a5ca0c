"""A shop comes over from Klaviyo: lists and segments before any event, and jobs that fill them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now
from habitue.directory import Grant
from habitue.workspace import open_workspace
from tests.serving.small import Server, running
from tests.serving.test_klaviyo_live import client_of, order, segment, soon
from tests.serving.test_klaviyo_members import named, on

EMAILS = ("ada@example.com", "bob@example.com")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("joining") / "work") as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    return client_of(server)


def people(*emails: str) -> dict:
    return {"data": [{"type": "profile", "attributes": {"email": email}} for email in emails]}


def job(kind: str, lists: dict, *emails: str) -> dict:
    """A job about some profiles, as each of Klaviyo's kinds names a list."""
    profiles, says = people(*emails), SAYS.get(kind)
    for profile in profiles["data"] if says else []:
        marketing = {"email": {"marketing": {"consent": says}}}
        profile["attributes"]["subscriptions"] = marketing
    return {"data": {"type": kind, "attributes": {"profiles": profiles}, "relationships": lists}}


def several(*ids: str) -> dict:
    return {"lists": {"data": [{"type": "list", "id": id} for id in ids]}}


def one(id: str) -> dict:
    return {"list": {"data": {"type": "list", "id": id}}}


IMPORT, SUBSCRIBE, UNSUBSCRIBE = (
    "profile-bulk-import-job", "profile-subscription-bulk-create-job",
    "profile-subscription-bulk-delete-job",
)  # fmt: skip
SAYS = {SUBSCRIBE: "SUBSCRIBED", UNSUBSCRIBE: "UNSUBSCRIBED"}


def test_lists_and_segments_are_made_before_anything_was_told(tmp_path: Path):
    bought = {"type": "profile-metric", "metric_id": "Placed Order", "measurement": "count",
              "measurement_filter": {"type": "numeric", "operator": "greater-than-or-equal",
                                     "value": 1}}  # fmt: skip
    with running(tmp_path / "work") as server:
        api = client_of(server)
        friends = api.Lists.create_list(named("Friends")).data.id
        buyers = api.Segments.create_segment(
            segment("Buyers", {"condition_groups": [{"conditions": [bought]}]})
        ).data
        (told,) = buyers.attributes.definition.condition_groups[0].conditions
        assert told["metric_id"] != "Placed Order"             # it has an id before it happens
        bad = {"condition_groups": [{"conditions": [bought | {"metric_id": "Plaid Order"}]}]}
        with pytest.raises(Exception, match="no metric of the id, or the name, 'Plaid Order'"):
            api.Segments.create_segment(segment("None", bad))
        assert on(api, friends, 0) == set()
        shop = open_workspace(server.workspace).shop("acme")
        assert set(shop.audiences.sentences()) == {"Friends", "Buyers"}
        api.Events.create_event(order(1, EMAILS[0], utc_now(), 10.0))
        soon(lambda: len(api.Segments.get_profiles_for_segment(buyers.id).data) == 1)
        assert [one.id for one in api.Metrics.get_metrics().data] == [told["metric_id"]]


def test_jobs_put_their_profiles_on_the_lists_that_they_name(api):
    first, second = (api.Lists.create_list(named(name)).data.id for name in ("One", "Two"))
    api.Profiles.bulk_import_profiles(job(IMPORT, several(first, second), *EMAILS))
    ada, bob = (_id(api, email) for email in EMAILS)
    assert on(api, first, 2) == on(api, second, 2) == {ada, bob}
    api.Profiles.bulk_import_profiles(job(IMPORT, {}, "eve@example.com"))
    api.Profiles.bulk_unsubscribe_profiles(job(UNSUBSCRIBE, one(first), EMAILS[1]))
    assert on(api, first, 1) == {ada}
    api.Profiles.bulk_subscribe_profiles(job(SUBSCRIBE, one(first), EMAILS[1], "new@example.com"))
    assert on(api, first, 3) == {ada, bob, _id(api, "new@example.com")}
    assert on(api, second, 2) == {ada, bob}
    for id in (first, second):
        api.Lists.delete_list(id)


def test_a_page_puts_who_subscribes_on_the_list_that_it_names(server, api):
    made = api.Lists.create_list(named("Newsletter")).data.id
    body = {"data": {"type": "subscription", "relationships": one(made), "attributes": {
        "profile": {"data": people("fay@example.com")["data"][0]}}}}  # fmt: skip
    with server.client(None) as browser:
        path = f"/client/subscriptions?company_id={server.public}"
        assert browser.post(path, json=body).status_code == 202
        assert on(api, made, 1) == {_id(api, "fay@example.com")}
        body["data"]["relationships"] = one("0000000000")
        assert browser.post(path, json=body).status_code == 404
    api.Lists.delete_list(made)


def test_a_list_that_is_not_there_is_told_of_and_nothing_is_taken(server, api):
    made = api.Lists.create_list(named("There")).data.id
    with server.client() as client:
        for path, told in (
            ("/api/profile-bulk-import-jobs", job(IMPORT, several(made, "no"), "x@example.com")),
            ("/api/profile-subscription-bulk-create-jobs",
             job(SUBSCRIBE, one("no"), "x@example.com")),
            ("/api/profile-subscription-bulk-delete-jobs",
             job(UNSUBSCRIBE, one("no"), "x@example.com")),
        ):  # fmt: skip
            refused = client.post(path, json=told)
            assert refused.status_code == 404, path
            (problem,) = refused.json()["errors"]
            assert problem["detail"] == "A list with the id 'no' does not exist."
            assert problem["source"]["pointer"] in ("/data/relationships/lists/data/1/id",
                                                    "/data/relationships/list/data/id")  # fmt: skip
        for odd in ([], {"lists": []}, {"lists": {"data": {}}}, {"list": {"data": {"id": made}}},
                    {"lists": {"data": [{"type": "list", "id": 7}]}}, one("")):  # fmt: skip
            told = client.post("/api/profile-bulk-import-jobs",
                               json=job(IMPORT, odd, "x@example.com"))  # fmt: skip
            assert told.status_code == 400, odd
            pointer = told.json()["errors"][0]["source"]["pointer"]
            assert pointer.startswith("/data/relationships"), odd
    assert api.Profiles.get_profiles(filter='equals(email,"x@example.com")').data == []
    assert on(api, made, 0) == set()
    api.Lists.delete_list(made)


def test_a_key_that_may_only_send_names_no_lists(server, api):
    made = api.Lists.create_list(named("Closed")).data.id
    directory = open_workspace(server.workspace).directory
    may = Grant(scopes=frozenset({"events:write"}))
    _, plain = directory.issue_key("acme", "secret", now=utc_now(), grant=may)
    with server.client(plain) as client:
        path = "/api/profile-bulk-import-jobs"
        assert client.post(path, json=job(IMPORT, {}, "y@example.com")).status_code == 202
        told = client.post(path, json=job(IMPORT, several(made), "y@example.com"))
        assert (told.status_code, "audiences:write" in told.text) == (403, True)
    assert on(api, made, 0) == set()
    api.Lists.delete_list(made)


def _id(api: KlaviyoAPI, email: str) -> str:
    """The id of a profile, as soon as it is known."""
    soon(lambda: api.Profiles.get_profiles(filter=f'equals(email,"{email}")').data)
    (found,) = api.Profiles.get_profiles(filter=f'equals(email,"{email}")').data
    return str(found.id)
