"""The official Klaviyo client, unmodified: what it writes it reads again, events and segments."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now
from habitue.workspace import open_workspace
from tests.serving.small import Server, keys_of, running

NOW = utc_now().replace(microsecond=0)


def event(metric: str, email: str, at: datetime, **told: object) -> dict:
    return {"data": {"type": "event", "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": metric}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
        "time": at.isoformat(), "properties": {}, **told,
    }}}  # fmt: skip


def order(number: int, email: str, at: datetime, value: float) -> dict:
    return event(
        "Placed Order", email, at, value=value, value_currency="USD", unique_id=f"o-{number}",
        properties={"OrderId": f"o-{number}", "Categories": ["Mugs"],
                    "Items": [{"ProductID": "SKU1", "Quantity": 1, "ItemPrice": value}]},
    )  # fmt: skip


def soon(holds: Callable[[], object], within_seconds: float = 60) -> object:
    """What holds at last."""
    deadline = time.monotonic() + within_seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("klaviyo") / "work") as server:
        api = client_of(server)
        for number in range(5):
            at = NOW - timedelta(days=number + 1)
            api.Events.create_event(order(number, "ada@example.com", at, 30.0))
        api.Events.create_event(order(9, "bob@example.com", NOW - timedelta(hours=1), 12.5))
        api.Events.create_event(event("Played Chess", "bob@example.com", NOW, unique_id="c"))
        soon(lambda: len(api.Events.get_events().data) == 7)
        yield server


def client_of(server: Server) -> KlaviyoAPI:
    return KlaviyoAPI(server.secret, max_delay=5, max_retries=1, test_host=server.url)


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    return client_of(server)


def profile_of(api: KlaviyoAPI, email: str) -> str:
    (one,) = api.Profiles.get_profiles(filter=f'equals(email,"{email}")').data
    return one.id


def metrics(api: KlaviyoAPI) -> dict[str, str]:
    return {one.attributes.name: one.id for one in api.Metrics.get_metrics().data}


def test_metrics_have_klaviyos_names_and_ids_that_stay(api):
    found = metrics(api)
    assert set(found) == {"Placed Order", "Played Chess"}
    assert metrics(api) == found
    one = api.Metrics.get_metric(found["Placed Order"]).data
    assert one.attributes.name == "Placed Order"
    with pytest.raises(Exception, match="does not exist"):
        api.Metrics.get_metric("nothing")


def test_events_are_read_as_they_were_told(api):
    told = api.Events.get_events(
        filter=f'equals(metric_id,"{metrics(api)["Placed Order"]}")', include=["profile", "metric"]
    )
    assert len(told.data) == 6
    last = told.data[0]
    assert last.attributes.event_properties["$value"] == 12.5
    assert last.attributes.event_properties["Items"][0]["ProductID"] == "SKU1"
    assert last.attributes.timestamp == int((NOW - timedelta(hours=1)).timestamp())
    assert last.relationships.profile.data.id == profile_of(api, "bob@example.com")
    assert last.relationships.metric.data.id == metrics(api)["Placed Order"]
    assert {(one["type"]) for one in told.included} == {"profile", "metric"}
    assert len(told.included) == 3
    again = api.Events.get_event(last.id, include=["metric"])
    assert again.data.attributes.uuid == last.attributes.uuid
    with pytest.raises(Exception, match="does not exist"):
        api.Events.get_event("00" * 16)


def test_events_are_paged_in_both_directions(api):
    for sort in ("datetime", "-datetime", "timestamp", "-timestamp"):
        page = api.Events.get_events(sort=sort, page_size=2)
        found = list(page.data)
        while page.links.next is not None:
            page = api.Events.get_events(sort=sort, page_size=2, page_cursor=page.links.next)
            found += page.data
        times = [one.attributes.timestamp for one in found]
        assert len({one.id for one in found}) == 7
        assert times == sorted(times, reverse=sort.startswith("-"))


def test_events_of_one_profile_and_span_are_found(api):
    ada, since = profile_of(api, "ada@example.com"), NOW - timedelta(days=3)
    text, second = since.isoformat().replace("+00:00", "Z"), int(since.timestamp())

    def count(more: str) -> int:
        return len(api.Events.get_events(filter=f'equals(profile_id,"{ada}"),{more}').data)

    assert count(f"greater-or-equal(datetime,{text})") == 3
    assert count(f"greater-than(timestamp,{second})") == 2
    assert count(f"less-than(datetime,{text})") == 2
    assert count(f"less-or-equal(timestamp,{second})") == 3
    assert count('equals(metric_id,"nothing")') == 0
    assert api.Events.get_events(filter='equals(profile_id,"nobody")').data == []


def test_a_bad_question_about_events_is_refused(server):
    with server.client() as client:
        for query in ("filter=equals(name,%22a%22)", "filter=greater-than(timestamp,%22a%22)",
                      "filter=less-than(timestamp,-1)", "page[size]=1001", "include=flow",
                      "sort=value"):  # fmt: skip
            assert client.get(f"/api/events?{query}").status_code == 400, query
        assert client.get("/api/events/xyz").status_code == 404


def test_another_shop_sees_none_of_it(server, api):
    secret, _ = keys_of(server.workspace, "other")
    other = KlaviyoAPI(secret, max_retries=0, test_host=server.url)
    assert other.Events.get_events().data == []
    assert other.Metrics.get_metrics().data == []
    one = api.Events.get_events(page_size=1).data[0]
    with pytest.raises(Exception, match="does not exist"):
        other.Events.get_event(one.id)
    with pytest.raises(Exception, match="does not exist"):
        other.Metrics.get_metric(metrics(api)["Placed Order"])
    named = f'equals(profile_id,"{profile_of(api, "ada@example.com")}")'
    assert other.Events.get_events(filter=named).data == []




BUYERS = {"condition_groups": [{"conditions": [{
    "type": "profile-metric", "metric_id": "", "measurement": "count",
    "measurement_filter": {"type": "numeric", "operator": "greater-than-or-equal", "value": 1},
}]}]}  # fmt: skip


def segment(name: str, definition: dict, **told: object) -> dict:
    attributes = {"name": name, "definition": definition, **told}
    return {"data": {"type": "segment", "attributes": attributes}}


def change(id: str, **told: object) -> dict:
    return {"data": {"type": "segment", "id": id, "attributes": told}}


def buyers(api: KlaviyoAPI, at_least: int = 1) -> dict:
    (condition,) = BUYERS["condition_groups"][0]["conditions"]
    told = condition | {
        "metric_id": metrics(api)["Placed Order"],
        "measurement_filter": condition["measurement_filter"] | {"value": at_least},
    }
    return {"condition_groups": [{"conditions": [told]}]}


def members(api: KlaviyoAPI, id: str, count: int) -> list:
    def read() -> list | None:
        shown = api.Segments.get_segment(id, additional_fields_segment=["profile_count"])
        is_done = not shown.data.attributes.is_processing
        if not is_done or shown.data.attributes.profile_count != count:
            return None
        return [api.Segments.get_profiles_for_segment(id).data]

    return soon(read)[0]


def test_a_segment_is_an_audience_that_is_followed(server, api):
    made = api.Segments.create_segment(segment("Buyers", buyers(api), is_starred=True)).data
    assert (made.attributes.is_processing, made.attributes.is_starred) == (True, True)
    assert api.Segments.get_segment(made.id).data.attributes.name == "Buyers"
    found = members(api, made.id, 2)
    ada, bob = profile_of(api, "ada@example.com"), profile_of(api, "bob@example.com")
    assert {one.id for one in found} == {ada, bob}
    joined = {one.id: one.attributes.joined_group_at for one in found}
    shown = api.Segments.get_segment(made.id).data.attributes
    (condition,) = shown.definition.condition_groups[0].conditions
    assert condition["metric_id"] == metrics(api)["Placed Order"]
    api.Events.create_event(order(20, "eve@example.com", utc_now(), 5.0))
    found = members(api, made.id, 3)
    assert found[0].attributes.email == "eve@example.com"          # who came last
    assert {one.id: one.attributes.joined_group_at for one in found[1:]} == joined
    text = found[0].attributes.joined_group_at.isoformat().replace("+00:00", "Z")

    def ids(told: str, **asked: object) -> list[str]:
        page = api.Segments.get_profiles_for_segment(made.id, filter=told, **asked)
        return [one.id for one in page.data]

    assert ids(f"greater-or-equal(joined_group_at,{text})") == [found[0].id]
    assert set(ids(f"less-than(joined_group_at,{text})")) == {ada, bob}
    assert ids('equals(email,"bob@example.com")') == [bob]
    assert ids(f'any(profile_id,["{ada}"])') == [ada]
    assert ids('equals(email,"nobody@example.com")') == []
    page, seen = api.Segments.get_profile_ids_for_segment(made.id, page_size=1), []
    while page.links.next is not None:
        seen += page.data
        page = api.Segments.get_profile_ids_for_segment(
            made.id, page_size=1, page_cursor=page.links.next
        )
    assert [one.id for one in [*seen, *page.data]] == [one.id for one in found]
    of = api.Profiles.get_segments_for_profile(bob)
    assert [one.attributes.name for one in of.data] == ["Buyers"]
    api.Segments.delete_segment(made.id)
    with pytest.raises(Exception, match="does not exist"):
        api.Segments.get_segment(made.id)
    soon(lambda: not api.Profiles.get_segments_for_profile(bob).data)


def test_a_segment_is_changed_and_switched_off(api):
    made = api.Segments.create_segment(segment("Many orders", buyers(api, 3))).data
    members(api, made.id, 1)
    renamed = api.Segments.update_segment(made.id, change(made.id, name="Regulars"))
    assert renamed.data.attributes.name == "Regulars"
    assert [one.id for one in members(api, made.id, 1)] == [profile_of(api, "ada@example.com")]
    wider = api.Segments.update_segment(made.id, change(made.id, definition=buyers(api, 4)))
    assert wider.data.attributes.is_processing
    members(api, made.id, 1)
    with pytest.raises(Exception, match="only attribute"):
        api.Segments.update_segment(made.id, change(made.id, is_active=False, is_starred=True))
    off = api.Segments.update_segment(made.id, change(made.id, is_active=False)).data
    assert not off.attributes.is_active
    members(api, made.id, 0)
    names = {one.attributes.name: one for one in api.Segments.get_segments().data}
    assert not names["Regulars"].attributes.is_active
    assert api.Segments.get_segments(filter="equals(is_active,true)").data == []
    api.Segments.update_segment(made.id, change(made.id, is_active=True))
    members(api, made.id, 1)
    api.Segments.delete_segment(made.id)


def test_a_segment_that_cannot_be_followed_is_refused_at_its_condition(server, api):
    bad = buyers(api)
    bad["condition_groups"][0]["conditions"].append(
        {"type": "profile-predictive-analytics", "dimension": "predicted_gender",
         "filter": {"type": "string", "operator": "equals", "value": "female"}}
    )  # fmt: skip
    here = "/data/attributes/definition/condition_groups/0/conditions"
    with server.client() as client:
        told = client.post("/api/segments", json=segment("Bad", bad))
        assert told.status_code == 400
        (error,) = told.json()["errors"]
        assert error["source"]["pointer"] == f"{here}/1/dimension"
        strange = buyers(api)
        strange["condition_groups"][0]["conditions"][0]["metric_id"] = "NoSuch"
        (error,) = client.post("/api/segments", json=segment("Bad", strange)).json()["errors"]
        assert error["source"]["pointer"] == f"{here}/0"
        assert "NoSuch" in error["detail"]
        for body in ("[]", "{}", '{"data":{"attributes":{"name":""}}}',
                     '{"data":{"attributes":{"name":"x","definition":{}}}}'):  # fmt: skip
            assert client.post("/api/segments", content=body).status_code == 400, body
        assert client.get("/api/segments/nothing/profiles").status_code == 404
        assert client.delete("/api/segments/nothing").status_code == 404


def test_a_saved_audience_is_a_segment_of_its_own_shop_alone(server, api):
    shop = open_workspace(server.workspace).shop("acme")
    shop.audiences.save("loyal", "did order_placed >= 2 times")
    (one,) = api.Segments.get_segments(filter='equals(name,"loyal")').data
    assert len(members(api, one.id, 1)) == 1
    secret, _ = keys_of(server.workspace, "other")
    other = KlaviyoAPI(secret, max_retries=0, test_host=server.url)
    assert other.Segments.get_segments().data == []
    with pytest.raises(Exception, match="does not exist"):
        other.Segments.get_segment(one.id)
    with pytest.raises(Exception, match="does not exist"):
        other.Segments.get_profiles_for_segment(one.id)
    everybody = {"condition_groups": [{"conditions": [
        {"type": "habitue-condition", "condition": "did order_placed >= 0 times"}]}]}  # fmt: skip
    mine = other.Segments.create_segment(segment("loyal", everybody)).data
    assert (mine.id != one.id, members(other, mine.id, 0)) == (True, [])   # it has no customers
    api.Segments.delete_segment(one.id)


def test_what_a_shop_told_oddly_is_read_by_the_strict_client(server, api):
    told = {"first_name": 5, "title": ["Dr"], "location.city": 7, "location.moon": 1, "plan": 3.5,
            "properties.title": "own"}  # fmt: skip
    with server.client() as client:
        sent = client.post("/v1/events", json={"kind": "profile", "customer": "odd", "set": told})
        assert sent.raise_for_status().json()["accepted"] == 1
    soon(lambda: api.Profiles.get_profiles(filter='equals(external_id,"odd")').data)
    (one,) = api.Profiles.get_profiles(
        filter='equals(external_id,"odd")',
        additional_fields_profile=["subscriptions", "predictive_analytics"],
    ).data
    held = one.attributes
    assert (held.first_name, held.title, held.location.city) == ("5", '["Dr"]', "7")
    assert held.properties == {"location.moon": 1, "plan": 3.5, "title": "own"}
    assert held.predictive_analytics.historic_number_of_orders == 0
    assert held.predictive_analytics.churn_probability is None


def test_a_change_of_a_profile_shows_what_is_asked_for_beside(api):
    ada = profile_of(api, "ada@example.com")
    told = {"data": {"type": "profile", "id": ada, "attributes": {"first_name": "Ada"}}}
    shown = api.Profiles.update_profile(
        ada, told, additional_fields_profile=["predictive_analytics"]
    ).data
    assert shown.attributes.first_name == "Ada"
    analytics = shown.attributes.predictive_analytics
    assert (analytics.historic_number_of_orders, analytics.historic_clv) == (5, 150.0)
    assert analytics.average_days_between_orders == pytest.approx(1)


def test_klaviyos_limits_are_told_where_they_hold(tmp_path):
    with running(tmp_path / "work", "--klaviyo-limits") as server, server.client() as client:
        told = client.get("/api/segments")
        assert told.headers["RateLimit-Limit"] == "75, 75;w=1, 750;w=60"
        assert client.get("/api/metrics").headers["RateLimit-Limit"] == "10, 10;w=1, 150;w=60"
