import json
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.events import Identifier, Link, Money, ProfileChange
from habitue.ingest.doors import posthog
from habitue.ingest.doors.intake import Intake, Malformed
from tests.ingest.doors import NOW, assert_counted, door, first, nouns, reasons

DOOR = door("posthog")
DEVICE = "0190b1c2-1111-7222-8333-444455556666"
SENT = {"event": "played", "distinct_id": "u1", "uuid": "e1",
        "timestamp": "2026-11-22T10:00:00+00:00", "properties": {"a": 1}}  # fmt: skip


def translated(*sent: object, through=DOOR, **envelope: object) -> Intake:
    body = json.dumps({"batch": sent, "api_key": "hs_x", **envelope}).encode()
    intake = posthog.translate(body, through)
    assert_counted(intake)
    return intake


@pytest.mark.parametrize(
    "body", [{"batch": [SENT], "api_key": "k"}, SENT | {"api_key": "k"}, [SENT]]
)
def test_a_batch_a_capture_and_a_bare_list_are_read(body):
    found = first(posthog.translate(json.dumps(body).encode(), DOOR))
    assert (found.name, found.customer, found.id) == ("played", "u1", "e1")
    assert bytes(found.properties) == b'{"a":1}'


def test_a_capture_may_name_its_customer_within_its_properties():
    sent = {"event": "played", "properties": {"distinct_id": "u2", "token": "k"}}
    assert first(posthog.translate(json.dumps(sent).encode(), DOOR)).customer == "u2"


def test_an_order_is_read_in_segments_words():
    sent = SENT | {"event": "Order Completed", "properties": {"order_id": "o", "revenue": 5,
                                                              "currency": "GBP"}}  # fmt: skip
    found = first(translated(sent))
    assert (found.name, found.order, found.value) == ("order_placed", "o", Money(500, "GBP"))


@pytest.mark.parametrize(
    ("distinct_id", "properties", "customer"),
    [
        ("u1", {}, "u1"),
        (7, {}, "7"),
        (DEVICE, {}, DEVICE),
        (DEVICE, {"$device_id": DEVICE}, f"anonymous:{DEVICE}"),
        ("u1", {"$device_id": DEVICE, "$is_identified": True}, "u1"),
        ("x", {"$is_identified": False}, "anonymous:x"),
        ("x", {"$process_person_profile": False}, "anonymous:x"),
    ],
)
def test_a_distinct_id_is_anonymous_where_its_event_says_so(distinct_id, properties, customer):
    found = first(translated(SENT | {"distinct_id": distinct_id, "properties": properties}))
    assert found.customer == customer


def test_identify_links_the_device_to_the_customer():
    sent = SENT | {"event": "$identify", "$set": {"email": "Ada@x.org", "plan": "gold"},
                   "properties": {"$anon_distinct_id": DEVICE, "$device_id": DEVICE}}  # fmt: skip
    found = nouns(translated(sent))
    assert found[0].customer == "u1"
    links = [one for one in found if isinstance(one, Link)]
    assert (links[0].key, links[0].other, links[0].cause) == (
        "u1", f"anonymous:{DEVICE}", "identify",
    )
    assert links[1].other.startswith("email:")
    (change,) = (one for one in found if isinstance(one, ProfileChange))
    assert json.loads(bytes(change.put)) == {"plan": "gold"}
    others = [one for one in found if not isinstance(one, Identifier)]
    assert b"ada" not in msgspec.json.encode(others).lower()


def test_properties_of_the_person_may_stand_within_those_of_the_event():
    sent = SENT | {"properties": {"$set": {"plan": "gold"}, "$set_once": {"plan": "x", "b": 2}}}
    event, change = nouns(translated(sent))
    assert json.loads(bytes(change.put)) == {"plan": "gold", "b": 2}
    assert bytes(event.properties) == b"{}"


@pytest.mark.parametrize(
    ("one", "other"), [(DEVICE, "u1"), ("u1", DEVICE)]
)  # clients differ in which of the two they send first
def test_alias_links_whichever_is_the_device_to_the_customer(one, other):
    sent = SENT | {"event": "$create_alias", "distinct_id": one, "properties": {"alias": other}}
    (link,) = (noun for noun in nouns(translated(sent)) if isinstance(noun, Link))
    assert {link.key, link.other} == {"u1", f"anonymous:{DEVICE}"}
    assert link.cause == "alias"


def test_a_clock_that_is_wrong_is_corrected_unless_the_event_says_not_to():
    wrong = NOW - timedelta(days=30)
    sent = SENT | {"timestamp": (wrong - timedelta(hours=1)).isoformat()}
    as_is = sent | {"properties": {"$ignore_sent_at": True}}
    corrected, left = nouns(translated(sent, as_is, sent_at=wrong.isoformat()))
    assert corrected.time == NOW - timedelta(hours=1)
    assert left.time == wrong - timedelta(hours=1)


def test_a_migration_is_backfilled_at_its_own_times():
    intake = translated(SENT, historical_migration=True, sent_at="2026-11-20T00:00:00Z")
    assert (first(intake).backfilled, first(intake).time.hour) == (True, 10)
    with pytest.raises(Malformed) as raised:
        translated(SENT, through=door("posthog", public=True), historical_migration=True)
    assert (raised.value.reason, raised.value.status) == ("forbidden_with_public_key", 403)


def test_an_offset_says_how_long_ago_it_happened():
    sent = {"event": "x", "distinct_id": "u", "offset": 90_000}
    assert first(translated(sent)).time == NOW - timedelta(seconds=90)


@pytest.mark.parametrize(
    ("sent", "pointer", "reason"),
    [
        (5, "", "bad_json"),
        ({**SENT, "event": None}, "/event", "no_name"),
        ({**SENT, "distinct_id": ""}, "/distinct_id", "no_customer"),
        ({**SENT, "distinct_id": "NULL"}, "/distinct_id", "bad_identifier"),
        ({**SENT, "distinct_id": "[object Object]"}, "/distinct_id", "bad_identifier"),
        ({**SENT, "distinct_id": "x" * 513}, "/distinct_id", "bad_identifier"),
        ({**SENT, "timestamp": "noon"}, "/timestamp", "bad_time"),
        ({**SENT, "timestamp": "2100-01-01T00:00:00Z"}, "/timestamp", "bad_time"),
        ({**SENT, "properties": 5}, "/properties", "bad_json"),
        ({**SENT, "$set": 5}, "/$set", "bad_json"),
    ],
)
def test_an_event_at_fault_is_rejected_and_its_neighbours_are_taken(sent, pointer, reason):
    assert reasons(translated(SENT, sent, SENT)) == [(1, pointer, reason)]


@pytest.mark.parametrize("body", [b"", b"{", b"5", b'{"batch":5}', b"\xff", b"[" * 99_999])
def test_what_is_no_batch_is_malformed(body):
    with pytest.raises(Malformed):
        posthog.translate(body, DOOR)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
WORDS = ("distinct_id", "uuid", "timestamp", "offset", "properties", "$set", "$set_once")
INNER = ("$device_id", "$anon_distinct_id", "alias", "$set", "$set_once", "distinct_id",
         "timestamp", "$is_identified", "revenue", "currency", "products")  # fmt: skip


@given(
    st.lists(
        JSON
        | st.fixed_dictionaries(
            {"event": st.sampled_from(["$identify", "$create_alias", "Order Completed", "x"])},
            optional=dict.fromkeys(WORDS, JSON),
        )
        | st.fixed_dictionaries(
            {"event": st.sampled_from(["$identify", "$create_alias", "Order Completed", "x"]),
             "distinct_id": st.sampled_from(["u", DEVICE, "a@x.org", 1]),
             "properties": st.dictionaries(st.sampled_from(INNER), JSON)}
        ),
        max_size=5,
    ),
    JSON,
)  # fmt: skip
def test_any_batch_is_counted_once_or_malformed(sent, sent_at):
    body = json.dumps({"batch": sent, "sent_at": sent_at}).encode()
    try:
        intake = posthog.translate(body, DOOR)
    except Malformed:
        return
    assert_counted(intake)
    assert [noun.digest for noun in nouns(posthog.translate(body, DOOR))] == [
        noun.digest for noun in nouns(intake)
    ]
    msgspec.json.encode(intake.entries)
