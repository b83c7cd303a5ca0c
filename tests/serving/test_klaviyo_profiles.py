"""The official Klaviyo client, unmodified, reads profiles of a shop whose scores are kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klaviyo_api import KlaviyoAPI

from habitue.lake.keys import profile_id
from habitue.sequences.build import DAY
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF, SHOP, source_of
from tests.scoring.test_scorer import Clock, scorer_of, steps
from tests.serving.small import ListLog, Server, in_process, keys_of

NOW = CUTOFF // DAY * DAY + DAY // 2
TEN = (
    "historic_clv", "predicted_clv", "total_clv", "historic_number_of_orders",
    "predicted_number_of_orders", "average_days_between_orders", "average_order_value",
    "churn_probability", "expected_date_of_next_order", "ranked_channel_affinity",
)  # fmt: skip
BOUGHT = """
-- one row per customer with an order that stands: as the lake believes them
SELECT customer, count(*) AS orders, sum(value_minor) / 100 AS total,
    epoch_us(min("time")) AS first, epoch_us(max("time")) AS last
FROM orders WHERE cancelled_at IS NULL AND value_minor > 0 AND customer IS NOT NULL
GROUP BY customer
"""
BACK = """
-- one row per customer of whose orders something was taken back
SELECT customer, sum(abs(value_minor)) / 100 AS total FROM events
WHERE name = 'order_refunded' AND customer IS NOT NULL GROUP BY customer
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("profiles")
    open_workspace(folder)
    source = source_of(folder)
    scorer = scorer_of(source, Clock(NOW), folder / "online")
    scorer.catch_up(source.lake)
    steps(scorer)
    scorer.close()
    with in_process(folder, ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    return KlaviyoAPI(server.secret, max_delay=5, max_retries=1, test_host=server.url)


def everybody(api: KlaviyoAPI, form: str = "{}", **asked: object) -> list:
    """All pages, with each cursor in some form."""
    found, page = [], api.Profiles.get_profiles(page_size=7, **asked)
    while True:
        found += page.data
        if page.links.next is None:
            return found
        following = page.links.next
        if form == "token":
            following = following.partition("page%5Bcursor%5D=")[2].partition("&")[0]
        page = api.Profiles.get_profiles(page_size=7, page_cursor=following, **asked)


def test_predictive_analytics_are_the_ten_of_klaviyo_with_ours_beside(api, server):
    told = api.Profiles.get_profiles(
        additional_fields_profile=["predictive_analytics"], page_size=100
    )
    assert told.links.next is None
    found = {one.attributes.external_id: one.attributes.predictive_analytics for one in told.data}
    shop = open_workspace(server.workspace).shop(SHOP.shop)
    back = {row["customer"]: row["total"] for row in shop.query(BACK).to_pylist()}
    rows = shop.query(BOUGHT).to_pylist()
    assert len(rows) > 30
    assert back
    whole = [row for row in rows if row["customer"] not in back]
    for row in whole:
        one = found[row["customer"]]
        assert one.historic_number_of_orders == row["orders"]
        assert one.historic_clv == pytest.approx(row["total"])
        assert one.average_order_value == pytest.approx(row["total"] / row["orders"], abs=0.01)
        if row["orders"] > 1:
            days = (row["last"] - row["first"]) / (row["orders"] - 1) / DAY
            assert one.average_days_between_orders == pytest.approx(days)
        else:
            assert one.average_days_between_orders is None
        assert 0 <= one.churn_probability <= 1
        assert one.total_clv == pytest.approx(one.historic_clv + one.predicted_clv)
        assert one.predicted_number_of_orders > 0
        assert one.ranked_channel_affinity == []
    for row in rows:
        if row["customer"] in back:
            left = row["total"] - back[row["customer"]]
            assert found[row["customer"]].historic_clv == pytest.approx(left)


def test_who_bought_nothing_has_nulls(api, server):
    told = everybody(api, additional_fields_profile=["predictive_analytics"])
    numbers = [one.attributes.predictive_analytics for one in told]
    for held in (one for one in numbers if not one.historic_number_of_orders):
        assert held.historic_clv == 0
        assert {getattr(held, name) for name in TEN[1:3] + TEN[4:9]} == {None}
    with server.client() as client:
        address = f"/api/profiles/{told[0].id}?additional-fields[profile]=predictive_analytics"
        raw = client.get(address).json()["data"]["attributes"]["predictive_analytics"]
    assert tuple(raw)[:10] == TEN
    assert raw["model_version"].startswith("starter")
    assert raw["status"] == "transfer"
    assert raw["churn_probability_low"] <= raw["churn_probability"] <= raw["churn_probability_high"]


@pytest.mark.parametrize("sort", ["id", "-id", "created", "-created", "-updated", "email"])
@pytest.mark.parametrize("form", ["address", "token"])
def test_pages_in_any_order_hold_everybody_once(api, sort, form):
    found = everybody(api, form, sort=sort)
    ids = [one.id for one in found]
    assert len(set(ids)) == len(ids) > 30
    by = sort.removeprefix("-")
    values = [(one.id if by == "id" else getattr(one.attributes, by) or "") for one in found]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_a_profile_is_found_by_what_it_is_called(api):
    some = [one.attributes.external_id for one in everybody(api)[:3]]
    shown = [profile_id(SHOP.shop, one) for one in some]

    def found(text: str, **asked: object) -> set[str]:
        return {one.id for one in api.Profiles.get_profiles(filter=text, **asked).data}

    assert found(f'equals(external_id,"{some[0]}")') == {shown[0]}
    assert found(f'any(external_id,["{some[0]}","{some[1]}","nobody"])') == set(shown[:2])
    assert found(f'any(id,["{shown[2]}"])') == {shown[2]}
    assert found(f'equals(id,"{shown[2]}"),equals(external_id,"{some[0]}")') == set()
    assert found('equals(email,"nobody@example.com")') == set()
    assert found('equals(phone_number,"not a number")') == set()


def test_spans_of_instants_are_kept_to(api):
    everyone = everybody(api, sort="created")
    middle = everyone[len(everyone) // 2].attributes.created
    text = middle.isoformat().replace("+00:00", "Z")
    after = everybody(api, filter=f"greater-or-equal(created,{text})")
    before = everybody(api, filter=f"less-than(created,{text})")
    assert {one.id for one in after} | {one.id for one in before} == {one.id for one in everyone}
    assert not {one.id for one in after} & {one.id for one in before}
    shown = everyone[0].id
    none = api.Profiles.get_profiles(filter=f'equals(id,"{shown}"),greater-than(created,{text})')
    assert none.data == []


def test_only_the_fields_that_are_wanted_are_told(api):
    # of sparse fields the client makes no typed object, and gives the document as it is
    told = api.Profiles.get_profiles(fields_profile=["email", "properties"], page_size=2)
    assert [set(one["attributes"]) for one in told["data"]] == [{"email", "properties"}] * 2
    shown = told["data"][0]["id"]
    one = api.Profiles.get_profile(
        shown, fields_profile=["external_id"], additional_fields_profile=["subscriptions"]
    )
    assert set(one["data"]["attributes"]) == {"external_id", "subscriptions"}
    typed = api.Profiles.get_profile(shown, additional_fields_profile=["subscriptions"])
    assert typed.data.attributes.subscriptions.email.marketing.consent == "NEVER_SUBSCRIBED"


@pytest.mark.parametrize(
    ("query", "parameter", "code"),
    [
        ("filter=equals(mail,%22a%22)", "filter", "invalid_filter"),
        ("filter=contains(email,%22a%22)", "filter", "invalid_filter"),
        ("filter=equals(email,a)", "filter", "invalid_filter"),
        ("filter=equals(email,5)", "filter", "invalid_filter"),
        ("filter=greater-than(created,5)", "filter", "invalid_filter"),
        ("page[size]=101", "page[size]", "invalid"),
        ("page[size]=0", "page[size]", "invalid"),
        ("sort=name", "sort", "invalid"),
        ("page[cursor]=abc", "page[cursor]", "invalid"),
        ("fields[profile]=age", "fields[profile]", "invalid"),
        ("additional-fields[profile]=gender", "additional-fields[profile]", "invalid"),
    ],
)
def test_what_is_not_known_is_refused_by_its_parameter(server, query, parameter, code):
    with server.client() as client:
        told = client.get(f"/api/profiles?{query}")
    assert told.status_code == 400, told.text
    (error,) = told.json()["errors"]
    assert (error["source"], error["code"]) == ({"parameter": parameter}, code)


def test_only_a_secret_key_reads_and_only_its_own_shop(server):
    with server.client() as client:
        page = client.get("/api/profiles?page[size]=1").json()
    shown, following = page["data"][0]["id"], page["links"]["next"]
    with server.client(server.public) as public:
        assert public.get("/api/profiles").status_code == 403
    other, _ = keys_of(Path(server.workspace), "other")
    with server.client(other) as stranger:
        assert stranger.get("/api/profiles").json()["data"] == []
        assert stranger.get(f"/api/profiles/{shown}").status_code == 404
        assert stranger.get(following).status_code == 400
        named = stranger.get(f'/api/profiles?filter=equals(id,"{shown}")')
        assert named.json()["data"] == []


def test_klaviyos_own_rates_hold_and_are_told(tmp_path):
    held = in_process(tmp_path / "work", ListLog(), klaviyo_limits=True)
    with held as server, server.client() as client:
        told = client.get("/api/profiles")
        assert told.headers["RateLimit-Limit"] == "75, 75;w=1, 750;w=60"
        dear = client.get("/api/profiles?additional-fields[profile]=predictive_analytics")
        assert dear.headers["RateLimit-Limit"] == "10, 10;w=1, 150;w=60"


ASKED = st.dictionaries(
    st.sampled_from(
        ("filter", "sort", "page[size]", "page[cursor]", "fields[profile]", "include",
         "additional-fields[profile]", "fields[event]", "additional-fields[segment]")
    ),
    st.text(max_size=30)
    | st.sampled_from(
        ("equals(id,null)", "any(email,[1,true])", 'equals(email,"\\u0000")', "id", "-created",
         "datetime", "1", "20", "greater-than(created,0001-01-01T00:00:00+14:00)",
         "less-than(updated,9999-12-31T23:59:59Z)", "less-than(timestamp,0)",
         "greater-than(datetime,9999-12-31)", "equals(is_active,5)", "equals(metric_id,5)",
         "greater-than(joined_group_at,5)", "properties", "predictive_analytics", "profile")
    ),
    max_size=4,
)  # fmt: skip
PATHS = (
    "profiles", "profiles/x", "events", "events/x", "events/00", "metrics", "metrics/x", "segments",
    "segments/x", "segments/x/profiles", "segments/x/relationships/profiles", "profiles/x/segments",
    "lists", "lists/x", "lists/x/profiles", "lists/x/relationships/profiles", "profiles/x/lists",
)  # fmt: skip


@given(path=st.sampled_from(PATHS), asked=ASKED)
def test_whatever_is_asked_is_answered_or_refused(server, path, asked):
    with server.client() as client:
        told = client.get(f"/api/{path}", params=asked)
    assert told.status_code in (200, 400, 404), told.text
    if told.status_code == 200:
        assert told.json()["links"]["self"]
    else:
        assert told.json()["errors"]
