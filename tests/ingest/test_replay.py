"""Rejected inputs that are tried again: taken once, whatever happens in between."""

import json
from contextlib import closing
from datetime import UTC, datetime

import pytest

import habitue
from habitue.events import PAYLOAD_BYTES, Rejection
from habitue.ingest.commit import Committer
from habitue.ingest.doors.faults import Fault, rejection
from habitue.lake.eventlog.records import Part, encode

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)

PAYLOADS = {
    "native": ("/v1/events", {"name": "order_placed", "customer": "c_1", "id": "o1"}),
    "segment": (
        "/v1/batch", {"type": "track", "event": "Product Viewed", "userId": "c_1", "messageId": "m"}
    ),
    "posthog": ("/batch", {"event": "looked", "distinct_id": "c_1", "uuid": "u1"}),
    "klaviyo": (
        "/api/events",
        {"data": {"type": "event", "attributes": {
            "metric": {"data": {"type": "metric", "attributes": {"name": "Viewed Product"}}},
            "profile": {"data": {"type": "profile", "attributes": {"external_id": "c_1"}}},
            "properties": {"ProductID": "SKU1"}, "unique_id": "v1"}}},
    ),
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    workspace = habitue.open(tmp_path)
    workspace.directory.shop("acme", create=True)
    return workspace


def reject(workspace, source: str, origin: str, *payloads: object, reason="bad_time") -> None:
    """As if these inputs had been refused when they came."""
    refused = tuple(
        Rejection(position=place, pointer="", reason=reason,
                  payload=one if isinstance(one, str) else json.dumps(one))
        for place, one in enumerate(payloads)
    )  # fmt: skip
    receipt = f"{source}-{reason}"
    with closing(workspace.log) as log:
        log.append(0, [encode(Part(receipt, "acme", source, origin, NOW, (), refused))])
        with closing(Committer(workspace.lake, log, 0)) as committer:
            assert committer.step() is not None


@pytest.mark.parametrize("source", PAYLOADS)
def test_what_can_be_read_now_is_taken_once(workspace, source):
    origin, payload = PAYLOADS[source]
    reject(workspace, source, origin, payload)
    shop = workspace.shop("acme")
    first, second = shop.replay(now=NOW), shop.replay(now=NOW)
    assert (first.tried, first.appended, first.refused) == (1, 1, 0)
    assert second.tried == 0
    events = shop.query("SELECT customer, source, received FROM events").to_pylist()
    assert events == [{"customer": "c_1", "source": source, "received": NOW}]
    assert shop.query("SELECT count(replayed) AS n FROM rejected")["n"][0].as_py() == 1


def test_what_is_still_wrong_stays_rejected(workspace):
    origin, payload = PAYLOADS["native"]
    reject(workspace, "native", origin, payload, {"customer": "c_2"}, "{not json")
    done = workspace.shop("acme").replay(now=NOW)
    assert (done.tried, done.appended, done.refused) == (3, 1, 2)
    assert workspace.shop("acme").replay(now=NOW).tried == 2


def test_only_the_reasons_that_are_named_are_tried(workspace):
    origin, payload = PAYLOADS["native"]
    reject(workspace, "native", origin, payload, reason="no_name")
    assert workspace.shop("acme").replay(["bad_time"], now=NOW).tried == 0
    assert workspace.shop("acme").replay(["no_name"], now=NOW).appended == 1


def test_a_name_table_that_was_mended_counts(workspace):
    origin, payload = PAYLOADS["segment"]
    reject(workspace, "segment", origin, payload | {"event": "Thing Seen"})
    workspace.directory.set_name("acme", "segment", "Thing Seen", "item_viewed")
    workspace.shop("acme").replay(now=NOW)
    assert workspace.shop("acme").query("SELECT name FROM events")["name"][0].as_py() == (
        "item_viewed"
    )


def test_an_erased_customer_does_not_come_back(workspace):
    origin, payload = PAYLOADS["native"]
    reject(workspace, "native", origin, payload)
    workspace.directory.erase("acme", ["c_1"], erased_at=NOW, requested=NOW)
    done = workspace.shop("acme").replay(now=NOW)
    assert (done.appended, done.reasons) == (0, {"erased": 1})


def test_what_was_cut_or_emptied_or_came_in_a_file_is_counted_and_not_tried(workspace):
    origin, payload = PAYLOADS["native"]
    long = json.dumps(payload | {"properties": {"text": "é" * PAYLOAD_BYTES}}, ensure_ascii=False)
    cut = rejection(0, Fault("", "bad_time"), long.encode()).payload
    reject(workspace, "native", origin, payload, "", cut)
    reject(workspace, "till", "orders.csv", "a,b", "c,d", reason="bad_amount")
    shop = workspace.shop("acme")
    done = shop.replay(["bad_time"], now=NOW)
    assert (done.tried, done.appended, done.unreadable, done.of_files) == (1, 1, 2, 0)
    done = shop.replay(now=NOW)
    assert (done.tried, done.unreadable, done.of_files) == (0, 2, 2)


def test_two_inputs_that_are_equal_are_one_appended_and_one_duplicate(workspace):
    origin, payload = PAYLOADS["native"]
    reject(workspace, "native", origin, payload, payload)
    done = workspace.shop("acme").replay(now=NOW)
    assert (done.tried, done.appended, done.duplicate) == (2, 1, 1)
