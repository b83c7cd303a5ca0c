"""Events of Klaviyo's clients: what they mean, what makes two of them one, and every limit."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from habitue.events import Consent, Event, Identifier, Link, Money, ProfileChange
from habitue.ingest.doors.keys import email_key
from habitue.ingest.doors.klaviyo.events import create_client_events, create_event, create_events
from habitue.ingest.doors.klaviyo.problems import Refused, errors_body
from habitue.ingest.doors.klaviyo.reading import MOST_BYTES
from tests.ingest.klaviyo_small import (
    DOOR,
    ORDER,
    PUBLIC,
    RECEIVED,
    bulk_body,
    encoded,
    event_body,
    metric,
    nouns,
    only_event,
    profile,
)


def test_an_order_is_read_with_its_lines_its_customer_and_their_email():
    intake = create_event(event_body(), DOOR)

    event = only_event(intake)
    assert event.id == "Placed Order\0order-1001"
    assert (event.name, event.order) == ("order_placed", "1001")
    assert event.customer == "cust-42"
    assert event.time == datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    assert event.value == Money(2500, "USD")
    assert [(line.item, line.amount.minor) for line in event.lines] == [("SKU1", 2500)]
    assert json.loads(bytes(event.properties))["OrderId"] == "1001"
    assert isinstance(intake.entries[0].nouns[0], Event)
    key = email_key(DOOR.secret, "ada@example.com")
    assert [(one.key, one.value) for one in nouns(intake, Identifier)] == [(key, "ada@example.com")]
    assert [(one.key, one.other) for one in nouns(intake, Link)] == [("cust-42", key)]


def problems(body: bytes, door=DOOR, translate=create_event) -> list[tuple[str, str]]:
    """What is wrong with a refused request: reasons and pointers; its answer is well formed."""
    with pytest.raises(Refused) as refused:
        translate(body, door)
    answer = json.loads(errors_body(refused.value.problems))
    for one, fault in zip(answer["errors"], refused.value.faults, strict=True):
        assert {"id", "status", "code", "title", "detail", "source", "links", "meta"} == set(one)
        assert one["source"]["pointer"] == fault.pointer
        assert one["detail"]
    return [(fault.reason, fault.pointer) for fault in refused.value.faults]


def test_an_event_without_a_time_is_of_the_second_in_which_it_came():
    event = only_event(create_event(event_body(time=...), DOOR))

    assert event.time == RECEIVED.replace(microsecond=0)


def test_a_time_is_cut_to_the_second_and_read_in_utc():
    event = only_event(create_event(event_body(time="2026-11-22T11:15:07.999+01:00"), DOOR))

    assert event.time == datetime(2026, 11, 22, 10, 15, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ({}, {"value": 30.0, "properties": {}}, True),                      # the first stands
        ({}, {"unique_id": "order-1002"}, False),
        ({}, {"metric": metric("Refunded Order")}, False),
        ({}, {"profile": profile(external_id="cust-43")}, False),
        ({"unique_id": ...}, {"unique_id": ..., "value": 1}, True),         # of one second
        ({"unique_id": ...}, {"unique_id": ..., "time": "2026-11-22T10:15:00.7Z"}, True),
        ({"unique_id": ...}, {"unique_id": ..., "time": "2026-11-22T10:15:01Z"}, False),
        ({"unique_id": ...}, {"unique_id": "1795342500"}, True),            # as Klaviyo shows it
        ({"unique_id": ...}, {"unique_id": None}, True),
        ({}, {"unique_id": ..., "properties": {"$event_id": "order-1001"}}, True),
    ],
)
def test_two_events_are_one_if_profile_metric_and_id_or_second_are_the_same(one, other, are_one):
    first = only_event(create_event(event_body(**one), DOOR))
    second = only_event(create_event(event_body(**other), DOOR))

    assert (first.digest == second.digest) is are_one


def test_events_of_a_batch_that_are_the_same_are_all_taken_for_the_committer_to_tell():
    body = bulk_body((ORDER["profile"], [_without_profile(), _without_profile()]))

    first, second = nouns(create_events(body, DOOR), Event)

    assert first.digest == second.digest


def _without_profile(**changes) -> dict:
    return {name: value for name, value in {**ORDER, **changes}.items() if name != "profile"}


@pytest.mark.parametrize(
    ("changes", "reason", "pointer"),
    [
        ({"metric": ...}, "bad_text", "/metric/data/attributes/name"),
        ({"metric": metric("")}, "no_name", "/metric/data/attributes/name"),
        ({"metric": metric("m" * 128)}, "no_name", "/metric/data/attributes/name"),
        ({"properties": ...}, "bad_json", "/properties"),
        ({"properties": []}, "bad_json", "/properties"),
        ({"profile": profile()}, "no_customer", "/profile/data"),
        ({"profile": profile(email="ada")}, "bad_identifier", "/profile/data/attributes/email"),
        ({"profile": profile(email=7)}, "bad_identifier", "/profile/data/attributes/email"),
        (
            {"profile": profile(phone_number="020 7946 0958")},
            "bad_identifier",
            "/profile/data/attributes/phone_number",
        ),
        ({"time": "soon"}, "bad_time", "/time"),
        ({"time": 1795342500}, "bad_time", "/time"),
        ({"time": "1990-12-31T23:59:59Z"}, "bad_time", "/time"),
        ({"time": "2027-11-23T12:00:01Z"}, "bad_time", "/time"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "bad_time", "/time"),
        ({"value": "25.0"}, "bad_amount", "/value"),
        ({"value": True}, "bad_amount", "/value"),
        ({"value": 1e300}, "bad_amount", "/value"),
        ({"value_currency": "EURO"}, "bad_currency", "/value_currency"),
        ({"unique_id": 7}, "bad_text", "/unique_id"),
        ({"unique_id": "a\0b"}, "bad_text", "/unique_id"),
        ({"backfill": "yes"}, "bad_json", "/backfill"),
        ({"properties": {"a": "x\0"}}, "bad_text", "/properties/a"),
        ({"properties": {"a/b~": ["x" * 102_401]}}, "too_large", "/properties/a~1b~0/0"),
        ({"properties": {"list": [0] * 4_001}}, "too_many", "/properties/list"),
        ({"properties": {str(n): n for n in range(401)}}, "too_many", "/properties"),
    ],
)
def test_each_fault_is_told_with_its_place(changes, reason, pointer):
    assert problems(event_body(**changes)) == [(reason, f"/data/attributes{pointer}")]


def nested(levels: int) -> dict:
    inside: dict = {}
    for _ in range(levels - 1):
        inside = {"in": inside}
    return inside


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": metric("m" * 127)},
        {"properties": {}},
        {"properties": {str(n): n for n in range(400)}},
        {"properties": {"text": "x" * 102_400}},
        {"properties": {"list": [0] * 4_000}},
        {"properties": nested(10)},
        {"time": "1991-01-01T00:00:00Z"},
        {"time": "2027-11-23T12:00:00Z"},
        {"time": "2026-11-22"},
        {"value": 10**13 - 1},
        {"value": -3.5},
        {"value": None, "value_currency": None, "unique_id": None, "time": None, "backfill": None},
        {"profile": profile(_kx="abc.XyZ")},
        {"profile": profile(anonymous_id="a-1")},
        {"profile": {"data": {"type": "profile", "id": "01GDD", "attributes": {}}}},
        {"profile": profile(phone_number="+442079460958", email=None)},
    ],
)
def test_what_is_just_within_the_limits_is_taken(changes):
    assert create_event(event_body(**changes), DOOR).rows == 1


def test_one_level_too_deep_is_refused():
    (found,) = problems(event_body(properties=nested(11)))

    assert found == ("too_deep", "/data/attributes/properties" + "/in" * 10)


def test_every_problem_of_a_request_is_told():
    body = event_body(time="soon", value="x", metric=..., profile=profile(), unique_id=[])

    assert sorted(pointer.removeprefix("/data/attributes") for _, pointer in problems(body)) == [
        "/metric/data/attributes/name", "/profile/data", "/time", "/unique_id", "/value",
    ]  # fmt: skip


def test_every_problem_of_a_batch_is_told_and_nothing_of_it_taken():
    body = bulk_body(
        (profile(email="ada@example.com"), [_without_profile(), _without_profile(value="x")]),
        (profile(), [_without_profile(time="soon")]),
    )
    start = "/data/attributes/events-bulk-create/data"

    assert sorted(problems(body, translate=create_events)) == [
        ("bad_amount", f"{start}/0/attributes/events/data/1/attributes/value"),
        ("bad_time", f"{start}/1/attributes/events/data/0/attributes/time"),
        ("no_customer", f"{start}/1/attributes/profile/data"),
    ]


def test_a_batch_may_hold_a_thousand_events_and_no_more():
    def body(count: int) -> bytes:
        events = [_without_profile(unique_id=str(n)) for n in range(count)]
        return bulk_body((ORDER["profile"], events[:500]), (ORDER["profile"], events[500:]))

    assert create_events(body(1_000), DOOR).rows == 1_000
    assert problems(body(1_001), translate=create_events) == [
        ("too_many", "/data/attributes/events-bulk-create/data")
    ]


def test_a_body_may_have_five_megabytes_and_no_more():
    short = event_body(properties={"a": ["x" * 102_400] * 51})
    room = MOST_BYTES - len(short)
    body = short.replace(b'"a":', b'"a":' + b" " * room)

    assert create_event(body, DOOR).rows == 1
    assert problems(body + b" ") == [("too_large", "")]
    with pytest.raises(Refused) as refused:
        create_event(body + b" ", DOOR)
    assert (refused.value.status, refused.value.problems[0].code) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"data": []}', b"[" * 100_000,
        b'{"data": ' * 5_000, b'{"data": 1e999}', b"NaN",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_one_problem(body):
    assert len(problems(body)) == 1


def test_half_a_character_is_replaced_and_a_byte_order_mark_skipped():
    body = event_body(properties={"a": "smile"}).replace(b"smile", b"\\ud83d")

    event = only_event(create_event(b"\xef\xbb\xbf" + body, DOOR))

    assert json.loads(bytes(event.properties)) == {"a": "\ufffd"}


def test_a_backfilled_group_marks_all_of_its_events():
    group = json.loads(bulk_body((ORDER["profile"], [_without_profile(), _without_profile()])))
    data = group["data"]["attributes"]["events-bulk-create"]["data"][0]
    data["attributes"]["backfill"] = True

    events = nouns(create_events(json.dumps(group).encode(), DOOR), Event)
    assert [one.backfilled for one in events] == [True, True]


def test_what_is_said_of_the_profile_stands_once_beside_the_earliest_event():
    who = profile(email="ada@example.com", external_id="cust-42", first_name="Ada")
    events = [
        _without_profile(unique_id="b", time="2026-11-22T10:00:00Z"),
        _without_profile(unique_id="a", time="2026-11-21T10:00:00Z"),
    ]

    later, earlier = create_events(bulk_body((who, events)), DOOR).entries

    assert [type(noun) for noun in later.nouns] == [Event]
    assert {type(noun) for noun in earlier.nouns} == {Event, ProfileChange, Identifier, Link}
    assert {noun.time for noun in earlier.nouns} == {datetime(2026, 11, 21, 10, tzinfo=UTC)}


def test_client_events_are_of_one_profile_and_their_links_say_that_the_key_was_public():
    body = encoded({
        "type": "event-bulk-create",
        "attributes": {
            "profile": profile(anonymous_id="a-1", email="ada@example.com"),
            "events": {"data": [{"type": "event", "attributes": _without_profile()}]},
        },
    })  # fmt: skip

    intake = create_client_events(body, PUBLIC)

    (link,) = nouns(intake, Link)
    assert link.public
    assert link.other == "anonymous:a-1"
    assert only_event(intake).customer == email_key(PUBLIC.secret, "ada@example.com")


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("Placed Order", {}, ("order_placed", "1001", 2500, ["SKU1"])),
        ("Placed Order", {"value": ...}, ("order_placed", "1001", 2500, ["SKU1"])),
        ("Placed Order", {"properties": {}}, ("order_placed", "order-1001", 2500, [])),
        (
            "Placed Order",
            {"properties": {"ItemNames": ["Mug", "Plate"]}},
            ("order_placed", "order-1001", 2500, ["Mug", "Plate"]),
        ),
        (
            "Placed Order",
            {"properties": {"Items": ["?", {"SKU": 7, "RowTotal": "9.99"}, {"Quantity": 1}]}},
            ("order_placed", "order-1001", 2500, ["7"]),
        ),
        (
            "Ordered Product",
            {"properties": {"OrderId": "1001", "ProductID": "SKU1", "Quantity": 2}},
            ("item_ordered", "1001", 2500, ["SKU1"]),
        ),
        (
            "Ordered Product",
            {"properties": {"ProductID": "SKU1"}},
            ("item_ordered", None, 2500, ["SKU1"]),
        ),
        ("Refunded Order", {}, ("order_refunded", "1001", -2500, [])),
        ("Refunded Order", {"properties": {}}, ("order_refunded", None, -2500, [])),
        ("Cancelled Order", {"value": -25}, ("order_cancelled", "1001", -2500, [])),
        ("Cancelled Order", {"properties": {}}, ("order_cancelled", "order-1001", -2500, [])),
        (
            "Cancelled Order",
            {"properties": {}, "unique_id": ...},
            ("order_refunded", None, -2500, []),
        ),
        (
            "Viewed Product",
            {"properties": {"ProductID": "SKU1", "Price": 12.5}, "value": ...},
            ("item_viewed", None, None, ["SKU1"]),
        ),
        (
            "Added to Cart",
            {"properties": {"AddedItemProductID": "SKU2", "ProductID": "SKU1"}, "value": ...},
            ("cart_added", None, None, ["SKU2"]),
        ),
        ("Started Checkout", {}, ("checkout_started", None, 2500, ["SKU1"])),
        ("Received Email", {"properties": {}, "value": ...}, ("message_delivered", None, None, [])),
        ("Opened Email", {"properties": {}, "value": ...}, ("message_opened", None, None, [])),
        ("Clicked Email", {"properties": {}, "value": ...}, ("message_clicked", None, None, [])),
        ("Played Chess", {}, ("Played Chess", None, 2500, [])),
    ],
)
def test_metrics_become_canonical_events_with_their_order_and_money(name, changes, expected):
    event = only_event(create_event(event_body(metric=metric(name), **changes), DOOR))

    minor = None if event.value is None else event.value.minor
    items = [line.item for line in event.lines]
    assert (event.name, event.order, minor, items) == expected


def test_a_shop_can_call_a_metric_what_it_likes():
    own = replace(DOOR, names={"Purchase": "order_placed"})

    event = only_event(create_event(event_body(metric=metric("Purchase")), own))

    assert (event.name, event.id) == ("order_placed", "Purchase\0order-1001")


@pytest.mark.parametrize(
    ("changes", "currency", "expected"),
    [
        ({}, "EUR", "USD"),
        ({"value_currency": ...}, "EUR", "EUR"),
        ({"value_currency": ...}, None, "XXX"),
        ({"value_currency": "usd"}, None, "USD"),
        ({"value_currency": ..., "properties": {"$currency_code": "GBP"}}, "EUR", "GBP"),
    ],
)
def test_an_amount_is_in_the_currency_named_or_the_shops_or_none(changes, currency, expected):
    event = only_event(create_event(event_body(**changes), replace(DOOR, currency=currency)))

    assert event.value.currency == expected


def test_amounts_are_exact_and_of_a_yen_there_is_no_hundredth():
    assert only_event(create_event(event_body(value=0.285), DOOR)).value.minor == 28
    yen = only_event(create_event(event_body(value=1500, value_currency="JPY"), DOOR))
    assert yen.value == Money(1500, "JPY")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Unsubscribed from Email Marketing", ("email", "unsubscribed")),
        ("Unsubscribed from SMS Marketing", ("sms", "unsubscribed")),
        ("Subscribed to Email Marketing", ("email", "subscribed")),
    ],
)
def test_metrics_about_subscriptions_are_consent_but_not_with_a_public_key(name, expected):
    body = event_body(metric=metric(name))

    (consent,) = nouns(create_event(body, DOOR), Consent)

    assert (consent.channel, consent.status) == expected
    assert nouns(create_event(body, PUBLIC), Consent) == []
