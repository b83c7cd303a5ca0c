"""The official Klaviyo client, unmodified, adds up: events over time, members of segments."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from klaviyo_api import KlaviyoAPI

from habitue.lake.tables import Lake
from habitue.serving.answers.reports import counted
from habitue.serving.doors.klaviyo.wire.spans import KEYS, following, named, parts, zone
from tests.serving.small import Server, running
from tests.serving.test_klaviyo_live import NOW, client_of, metrics, order, soon

TODAY = NOW.replace(hour=0, minute=0, second=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("reports") / "work") as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> KlaviyoAPI:
    api = client_of(server)
    for number in range(4):                # two on each of two days, three of one customer
        at = TODAY - timedelta(days=1 + number // 2, hours=-number)
        email = "bob@example.com" if number == 3 else "ada@example.com"
        api.Events.create_event(order(number, email, at, 10.0 + number))
    soon(lambda: len(api.Events.get_events().data) == 4)
    return api


def asked(metric: str, **told: object) -> dict:
    span = [
        f"greater-or-equal(datetime,{(TODAY - timedelta(days=3)).isoformat()})",
        f"less-than(datetime,{TODAY.isoformat()})",
    ]
    attributes = {
        "metric_id": metric, "measurements": ["count", "sum_value", "unique"],
        "filter": span, "interval": "day", **told,
    }  # fmt: skip
    return {"data": {"type": "metric-aggregate", "attributes": attributes}}


def test_events_are_counted_by_day(api: KlaviyoAPI) -> None:
    metric = metrics(api)["Placed Order"]

    def read() -> object:
        found = api.Metrics.query_metric_aggregates(asked(metric)).data.attributes
        return found if sum(found.data[0].measurements["count"]) == 4 else None

    told = soon(read)
    assert [one.date() for one in told.dates] == [
        (TODAY - timedelta(days=back)).date() for back in (3, 2, 1)
    ]
    assert told.data[0].measurements == {
        "count": [0.0, 2.0, 2.0], "sum_value": [0.0, 25.0, 21.0], "unique": [0.0, 2.0, 1.0],
    }  # fmt: skip
    weeks = api.Metrics.query_metric_aggregates(asked(metric, interval="month")).data.attributes
    assert sum(weeks.data[0].measurements["count"]) == 4


def test_before_anything_is_in_the_lake_nothing_is_counted(tmp_path: Path) -> None:
    days = [TODAY - timedelta(days=back) for back in (2, 1, 0)]
    told = counted(Lake(tmp_path / "lake"), "acme", "order_placed", days, days[0], None)
    assert told == {"count": [0.0, 0.0], "sum_value": [0.0, 0.0], "unique": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"metric_id": "none"}, "does not exist"),
        ({"filter": ["greater-or-equal(datetime,2026-01-01)"]}, "Both ends"),
        ({"filter": ["equals(value,1)"]}, "Invalid filter"),
        ({"timezone": "Mars/Olympus"}, "time zone"),
        ({"by": ["$flow"]}, "grouped"),
    ],
)
def test_what_cannot_be_counted_is_told_by_its_place(
    api: KlaviyoAPI, change: dict, word: str
) -> None:
    told = asked(metrics(api)["Placed Order"], **change)
    with pytest.raises(Exception, match=word):
        api.Metrics.query_metric_aggregates(told)


def test_segments_are_reported_over_time(api: KlaviyoAPI, server: Server) -> None:
    condition = {
        "type": "profile-metric", "metric_id": metrics(api)["Placed Order"],
        "measurement": "count",
        "measurement_filter": {
            "type": "numeric", "operator": "greater-than-or-equal", "value": 1,
        },
    }  # fmt: skip
    definition = {"condition_groups": [{"conditions": [condition]}]}
    made = api.Segments.create_segment(
        {"data": {"type": "segment", "attributes": {"name": "Buyers", "definition": definition}}}
    ).data
    soon(lambda: not api.Segments.get_segment(made.id).data.attributes.is_processing)
    statistics = ["total_members", "members_added", "members_removed", "net_members_changed"]

    def report(kind: str, **told: object) -> dict:
        attributes = {
            "statistics": statistics, "timeframe": {"key": "last_7_days"},
            "filter": f'equals(segment_id,"{made.id}")', **told,
        }  # fmt: skip
        return {"data": {"type": kind, "attributes": attributes}}

    (one,) = api.Reporting.query_segment_values(
        report("segment-values-report")
    ).data.attributes.results
    assert one.groupings == {"segment_id": made.id}
    assert one.statistics == {
        "total_members": 2, "members_added": 2, "members_removed": 0, "net_members_changed": 2,
    }  # fmt: skip
    told = api.Reporting.query_segment_series(
        report("segment-series-report", interval="daily")
    ).data.attributes
    (one,) = told.results
    assert len(told.date_times) == 8
    assert one.statistics["total_members"][-1] == 2
    assert sum(one.statistics["members_added"]) == 2
    with pytest.raises(Exception, match="was wanted"):
        api.Reporting.query_segment_values(
            report("segment-values-report", timeframe={"key": "some_day"})
        )


def test_a_span_is_divided_as_its_zone_divides_it() -> None:
    berlin = zone("Europe/Berlin")
    assert zone("Mars/Olympus") is None
    begin = datetime(2026, 3, 28, 12, tzinfo=UTC)
    days = parts(begin, begin + timedelta(days=3), "day", berlin)
    assert [one.utcoffset() for one in days] == [timedelta(hours=h) for h in (1, 1, 2, 2)]
    hours = parts(days[1], days[2], "hour", berlin)
    assert len(hours) == 23                # the night on which clocks are put forward
    now = datetime(2026, 3, 29, 14, tzinfo=UTC)
    for key in KEYS:
        first, last = named(key, now, berlin)
        assert first < last <= now, key
    assert named("last_month", now, UTC) == (
        datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    assert named("next_week", now, UTC) is None
    assert following(datetime(2024, 2, 1, tzinfo=UTC), "year").year == 2025
    with pytest.raises(ValueError, match="parts"):
        parts(datetime(2000, 1, 1, tzinfo=UTC), now, "hour", UTC)


def test_other_kinds_of_documents_are_refused(server: Server) -> None:
    for path in ("metric-aggregates", "segment-values-reports", "segment-series-reports"):
        for body in (b"{", b"[]", b'{"data": {"type": "event"}}', b'{"data": 3}'):
            with server.client() as client:
                told = client.post(f"/api/{path}", content=body)
            assert told.status_code == 400
            assert told.json()["errors"]


def test_an_event_without_a_customer_counts_and_is_nobody(api: KlaviyoAPI, server: Server) -> None:
    with server.client() as client:
        for number in range(3):
            client.post("/v1/events", json={
                "name": "rang", "id": f"r-{number}", "time": (TODAY - timedelta(1)).isoformat(),
            }).raise_for_status()  # fmt: skip
    metric = soon(lambda: metrics(api).get("rang"))

    def rows() -> dict | None:
        told = api.Metrics.query_metric_aggregates(asked(metric)).data.attributes.data[0]
        return told.measurements if sum(told.measurements["count"]) == 3 else None

    assert soon(rows)["unique"] == [0.0, 0.0, 0.0]
