"""The official Klaviyo client, unmodified: what it writes it reads again, events and segments."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from klaviyo_api import KlaviyoAPI

from habitue.config import utc_now
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


def soon(holds: Callable[[], object], within_seconds: float = 20) -> object:
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


