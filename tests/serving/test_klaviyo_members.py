"""The official Klaviyo client, unmodified, makes lists and says who is on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now
from habitue.ingest.doors.klaviyo.lists import property_of
from habitue.workspace import open_workspace
from tests.serving.small import Server, keys_of, running
from tests.serving.test_klaviyo_live import client_of, order, profile_of, segment, soon

EMAILS = ("ada@example.com", "bob@example.com", "eve@example.com")


def told(api: KlaviyoAPI) -> None:
    """Three customers, one order each."""
    for number, email in enumerate(EMAILS):
        api.Events.create_event(order(number, email, utc_now(), 10.0))
    soon(lambda: len(api.Profiles.get_profiles().data) == len(EMAILS))
    soon(lambda: api.Metrics.get_metrics().data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("lists") / "work") as server:
        told(client_of(server))
        soon(lambda: "acme" in open_workspace(server.workspace).lake.shops())
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    return client_of(server)


def named(name: str, **more: object) -> dict:
    return {"data": {"type": "list", "attributes": {"name": name, **more}}}


def of(*ids: str) -> dict:
    return {"data": [{"type": "profile", "id": id} for id in ids]}


def on(api: KlaviyoAPI, id: str, count: int) -> set[str]:
    """Who is on a list as soon as they are so many."""

    def read() -> bool:
        shown = api.Lists.get_list(id, additional_fields_list=["profile_count"])
        return shown.data.attributes.profile_count == count

    soon(read)
    return {one.id for one in api.Lists.get_profile_ids_for_list(id).data}


def test_a_list_holds_whom_a_shop_puts_on_it(api):
    ada, bob, eve = (profile_of(api, email) for email in EMAILS)
    made = api.Lists.create_list(named("Friends", opt_in_process="single_opt_in")).data
    assert (made.attributes.name, made.attributes.opt_in_process) == ("Friends", "single_opt_in")
    assert on(api, made.id, 0) == set()
    assert api.Lists.add_profiles_to_list(made.id, of(ada, bob)) is None
    assert on(api, made.id, 2) == {ada, bob}
    api.Lists.add_profiles_to_list(made.id, of(ada, ada))          # says nothing new
    api.Lists.add_profiles_to_list(made.id, of(eve))
    assert on(api, made.id, 3) == {ada, bob, eve}
    page = api.Lists.get_profiles_for_list(made.id, page_size=2)
    found = list(page.data)
    page = api.Lists.get_profiles_for_list(made.id, page_size=2, page_cursor=page.links.next)
    found += page.data
    assert (found[0].id, page.links.next) == (eve, None)           # who came last
    assert {one.id for one in found} == {ada, bob, eve}
    joined = [one.attributes.joined_group_at for one in found]
    assert joined == sorted(joined, reverse=True)
    (one,) = api.Lists.get_profiles_for_list(made.id, filter='equals(email,"bob@example.com")').data
    assert one.id == bob
    assert [one.id for one in api.Profiles.get_lists_for_profile(ada).data] == [made.id]
    api.Lists.remove_profiles_from_list(made.id, of(bob))
    api.Lists.remove_profiles_from_list(made.id, of(bob))          # nor does this
    assert on(api, made.id, 2) == {ada, eve}
    soon(lambda: not api.Profiles.get_lists_for_profile(bob).data)
    api.Lists.delete_list(made.id)
    with pytest.raises(Exception, match="A list with that id does not exist"):
        api.Lists.get_list(made.id)
    again = api.Lists.create_list(named("Friends")).data
    assert again.id != made.id
    assert on(api, again.id, 0) == set()                           # who was on the other is not
    api.Lists.delete_list(again.id)


def test_who_was_just_made_is_put_on_a_list_and_not_shown_how(server, api):
    made = api.Lists.create_list(named("New")).data
    body = {"data": {"type": "profile", "attributes": {
        "email": "new@example.com", "properties": {"plan": "gold"}}}}  # fmt: skip
    new = api.Profiles.create_profile(body).data.id
    api.Lists.add_profiles_to_list(made.id, of(new))
    assert on(api, made.id, 1) == {new}
    assert api.Profiles.get_profile(new).data.attributes.properties == {"plan": "gold"}
    (one,) = api.Lists.get_profiles_for_list(made.id).data
    assert one.attributes.properties == {"plan": "gold"}
    with server.client() as client:
        shown = client.get(f"/v1/customers/{new}").raise_for_status().json()
    assert shown["properties"] == {"plan": "gold"}
    assert [one["audience"] for one in shown["memberships"]] == ["New"]
    api.Lists.delete_list(made.id)


def test_lists_and_segments_are_apart_and_a_segment_may_ask_for_a_list(api):
    ada, bob, _ = (profile_of(api, email) for email in EMAILS)
    made = api.Lists.create_list(named("VIP")).data
    api.Lists.add_profiles_to_list(made.id, of(ada, bob))
    on(api, made.id, 2)
    inside = {"type": "profile-group-membership", "is_member": True, "group_ids": [made.id]}
    is_bob = {"type": "profile-property", "property": "email",
              "filter": {"type": "string", "operator": "equals", "value": "x"}}  # fmt: skip
    definition = {"condition_groups": [{"conditions": [inside, is_bob]}]}
    asks = api.Segments.create_segment(segment("Asks", definition)).data
    soon(lambda: len(api.Segments.get_profiles_for_segment(asks.id).data) == 2)
    shown = api.Segments.get_segment(asks.id).data.attributes.definition
    assert shown.condition_groups[0].conditions[0]["group_ids"] == [made.id]
    assert [one.id for one in api.Lists.get_lists().data] == [made.id]
    assert [one.id for one in api.Segments.get_segments().data] == [asks.id]
    with pytest.raises(Exception, match="A segment with that id does not exist"):
        api.Segments.get_segment(made.id)
    with pytest.raises(Exception, match="A list with that id does not exist"):
        api.Lists.add_profiles_to_list(asks.id, of(ada))
    for name in ("VIP", "Asks"):
        with pytest.raises(Exception, match="of that name already"):
            api.Lists.create_list(named(name))
    api.Lists.remove_profiles_from_list(made.id, of(ada))
    soon(lambda: [one.id for one in api.Segments.get_profiles_for_segment(asks.id).data] == [bob])
    api.Segments.delete_segment(asks.id)
    api.Lists.delete_list(made.id)


def test_lists_are_paged_filtered_and_renamed(api):
    made = {name: api.Lists.create_list(named(name)).data.id for name in ("b", "a", "c")}
    page = api.Lists.get_lists(sort="name", page_size=2)
    rest = api.Lists.get_lists(sort="name", page_size=2, page_cursor=page.links.next)
    assert [one.attributes.name for one in [*page.data, *rest.data]] == ["a", "b", "c"]
    change = {"data": {"type": "list", "id": made["a"], "attributes": {"name": "z"}}}
    assert api.Lists.update_list(made["a"], change).data.attributes.name == "z"
    (one,) = api.Lists.get_lists(filter='any(name,["z","a"])').data
    assert (one.id, one.attributes.name) == (made["a"], "z")
    ada = profile_of(api, EMAILS[0])
    api.Lists.add_profiles_to_list(made["a"], of(ada))
    assert on(api, made["a"], 1) == {ada}
    for id in made.values():
        api.Lists.delete_list(id)
    assert api.Lists.get_lists().data == []


def test_what_is_told_badly_of_a_list_changes_nothing(server, api):
    ada, made = profile_of(api, EMAILS[0]), api.Lists.create_list(named("Bad")).data.id
    path = f"/api/lists/{made}/relationships/profiles"
    with server.client() as client:
        def tell(body: object, method: str = "POST") -> list[dict]:
            answer = client.request(method, path, json=body)
            assert answer.status_code in (400, 404), answer.text
            return answer.json()["errors"]

        for method in ("POST", "DELETE"):
            unknown = tell(of(ada, "01NOBODY", "01NOONE"), method)
            assert [one["source"]["pointer"] for one in unknown] == ["/data/1/id", "/data/2/id"]
            assert {one["code"] for one in unknown} == {"not_found"}
            (many,) = tell(of(*[ada] * 1_001), method)
            assert "1,000" in many["detail"]
            wrong = tell({"data": [{"type": "list", "id": ada}, {"type": "profile", "id": 5}]})
            assert [one["source"]["pointer"] for one in wrong] == ["/data/0/type", "/data/1/id"]
        for body in ([], {}, {"data": {}}, {"data": []}, {"data": [5]}, {"data": [{}]}, 5,
                     {"data": [{"type": "profile", "id": ""}]},
                     {"data": [{"type": "profile", "id": "a\0"}]}):  # fmt: skip
            assert tell(body), body
        assert client.post(path, content=b"{").status_code == 400
        for body in ([], {}, named(""), named('"'), named("x", opt_in_process="double_opt_in")):
            assert client.post("/api/lists", json=body).status_code == 400, body
        for method in ("GET", "PATCH", "DELETE"):
            told = client.request(method, "/api/lists/nothing", json=named("x"))
            assert told.status_code == 404
        assert client.get("/api/lists/nothing/profiles").status_code == 404
        assert client.get("/api/lists?filter=equals(is_starred,true)").status_code == 400
        assert client.get("/api/profiles/nobody/lists").status_code == 404
    assert on(api, made, 0) == set()
    api.Lists.delete_list(made)


def test_no_browser_and_no_other_shop_touches_a_list(server, api):
    ada, made = profile_of(api, EMAILS[0]), api.Lists.create_list(named("Mine")).data.id
    api.Lists.add_profiles_to_list(made, of(ada))
    on(api, made, 1)
    secret, _ = keys_of(server.workspace, "other")
    other = KlaviyoAPI(secret, max_retries=0, test_host=server.url)
    assert other.Lists.get_lists().data == []
    for ask in (other.Lists.get_list, other.Lists.get_profiles_for_list, other.Lists.delete_list,
                lambda id: other.Lists.add_profiles_to_list(id, of(ada)),
                lambda id: other.Lists.remove_profiles_from_list(id, of(ada))):  # fmt: skip
        with pytest.raises(Exception, match="A list with that id does not exist"):
            ask(made)
    with server.client(server.public) as browser:
        path = f"/api/lists/{made}/relationships/profiles"
        assert browser.post(path, json=of(ada)).status_code == 403
        assert browser.get("/api/lists").status_code == 403
    directory = open_workspace(server.workspace).directory
    names = {property_of(directory.shop(shop).secret) for shop in ("acme", "other")}
    assert len(names) == 2                 # nor is the name of the property the same
    assert on(api, made, 1) == {ada}
    api.Lists.delete_list(made)


def test_who_is_on_a_list_stays_and_is_erased_with_the_customer(tmp_path: Path):
    with running(tmp_path / "work") as server:
        api = client_of(server)
        told(api)
        soon(lambda: "acme" in open_workspace(server.workspace).lake.shops())
        ada, bob, _ = (profile_of(api, email) for email in EMAILS)
        made = api.Lists.create_list(named("Kept")).data.id
        api.Lists.add_profiles_to_list(made, of(ada, bob))
        assert on(api, made, 2) == {ada, bob}
        joined = api.Lists.get_profiles_for_list(made).data
        shop = open_workspace(server.workspace).shop("acme")       # and so it is in the lake
        soon(lambda: shop.audience('in audience "Kept"', cutoff=utc_now()).size == 2)
    with running(tmp_path / "work") as server:
        api = client_of(server)
        assert on(api, made, 2) == {ada, bob}
        again = api.Lists.get_profiles_for_list(made).data
        assert [one.attributes.joined_group_at for one in again] == [
            one.attributes.joined_group_at for one in joined
        ]
        gone = {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {
            "data": {"type": "profile", "id": ada, "attributes": {}}}}}}  # fmt: skip
        api.Data_Privacy.request_profile_deletion(gone)
        assert on(api, made, 1) == {bob}
