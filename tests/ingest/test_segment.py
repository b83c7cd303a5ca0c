import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.events import Event, Identifier, Line, Link, Money, ProfileChange
from habitue.ingest.doors import segment
from habitue.ingest.doors.faults import REASONS
from habitue.ingest.doors.intake import Intake, Malformed
from tests.ingest.doors import NOW, assert_counted, door, first, nouns, reasons

DOOR = door("segment")
TRACK = {"type": "track", "messageId": "m1", "userId": "u1", "event": "Played",
         "timestamp": "2026-11-22T10:00:00.000Z", "properties": {"a": 1}}  # fmt: skip


def translated(*calls: object, through=DOOR, **envelope: object) -> Intake:
    intake = segment.translate(json.dumps({"batch": calls, **envelope}).encode(), through)
    assert_counted(intake)
    return intake


def test_an_order_completed_is_an_order_placed():
    call = TRACK | {
        "event": "Order Completed",
        "properties": {
            "order_id": "o1", "total": 30.5, "revenue": 25.0, "tax": 5.5, "currency": "USD",
            "products": [
                {"product_id": "p1", "sku": "s1", "price": 10, "quantity": 2, "name": "Mug"},
                {"sku": "s2", "price": "5.00"},
            ],
        },
    }  # fmt: skip
    found = first(translated(call))
    assert (found.name, found.order, found.value) == ("order_placed", "o1", Money(2500, "USD"))
    assert found.lines == (
        Line(item="p1", quantity=Decimal(2), unit_price=Decimal(10), amount=Money(2000, "USD")),
        Line(item="s2", quantity=Decimal(1), unit_price=Decimal(5), amount=Money(500, "USD")),
    )
    assert json.loads(bytes(found.properties)) == call["properties"]


@pytest.mark.parametrize(
    ("event", "properties", "expected"),
    [
        ("Order Completed", {"products": [{"sku": "a", "price": 2, "quantity": 3}]},
         ("order_placed", None, Money(600, "EUR"))),
        ("Order Completed", {"order_id": 7, "total": ""}, ("order_placed", "7", None)),
        ("Order Refunded", {"order_id": "o", "total": 30}, ("order_refunded", "o",
                                                           Money(-3000, "EUR"))),
        ("Order Cancelled", {"order_id": "o", "total": 30}, ("order_cancelled", "o",
                                                             Money(-3000, "EUR"))),
        ("Order Cancelled", {"total": 30}, ("order_refunded", None, Money(-3000, "EUR"))),
        ("Checkout Started", {"order_id": "o", "value": 9}, ("checkout_started", "o",
                                                             Money(900, "EUR"))),
        ("Order Updated", {"order_id": "o"}, ("Order Updated", "o", None)),
        ("Played", {"value": "loud"}, ("Played", None, None)),
    ],
)  # fmt: skip
def test_what_is_bought_and_taken_back_is_told_from_properties(event, properties, expected):
    call = TRACK | {"event": event, "properties": properties}
    found = first(translated(call, through=door("segment", currency="EUR")))
    assert (found.name, found.order, found.value) == expected


def test_an_item_viewed_or_added_is_a_line_whatever_its_price_says():
    viewed, added = nouns(
        translated(
            TRACK | {"event": "Product Viewed", "properties": {"product_id": 5, "price": "?"}},
            TRACK | {"event": "Product Added", "properties": {"sku": "s", "quantity": 2,
                                                              "price": 3, "currency": "usd"}},
        )
    )  # fmt: skip
    assert [line.item for line in viewed.lines] == ["5"]
    assert [(one.item, one.amount) for one in added.lines] == [("s", Money(600, "USD"))]


def test_a_clock_that_is_wrong_is_corrected_by_when_the_call_was_sent():
    wrong = NOW - timedelta(days=400)
    call = TRACK | {
        "timestamp": (wrong - timedelta(minutes=5)).isoformat(),
        "originalTimestamp": "2001-01-01T00:00:00Z",
    }
    assert first(translated(call, sentAt=wrong.isoformat())).time == NOW - timedelta(minutes=5)
    assert first(translated(call)).time == wrong - timedelta(minutes=5)


def test_a_call_without_a_time_happened_when_it_came():
    told = {name: value for name, value in TRACK.items() if name != "timestamp"}
    assert first(translated(told)).time == NOW
    original = told | {"originalTimestamp": "2026-11-22T11:00:00Z"}
    assert first(translated(original)).time == datetime(2026, 11, 22, 11, tzinfo=UTC)


@given(st.integers(0, 25_000), st.integers(0, 25_000))
def test_a_call_that_is_sent_again_changes_nothing(once, again):
    def sent(latency: int) -> list[bytes]:
        at = NOW - timedelta(milliseconds=latency)
        identify = {"type": "identify", "messageId": "m", "userId": "u", "anonymousId": "a",
                    "traits": {"plan": "gold"}, "timestamp": "2026-11-22T10:00:00Z"}  # fmt: skip
        found = nouns(translated(TRACK, identify, sentAt=at.isoformat()))
        return [noun.digest for noun in found]

    assert sent(once) == sent(again)


def test_identify_tells_who_and_what_and_keeps_raw_emails_in_identifiers_only():
    call = {"type": "identify", "messageId": "m", "userId": "u1", "anonymousId": "a1",
            "traits": {"email": "Ada@x.org", "phone": "+442079460958", "plan": "gold"}}  # fmt: skip
    event, change, *rest = nouns(translated(call))
    assert isinstance(event, Event)
    assert (event.name, event.id, event.customer) == (segment.IDENTIFIED, "m", "u1")
    assert isinstance(change, ProfileChange)
    assert json.loads(bytes(change.put)) == {"plan": "gold"}
    assert [one.value for one in rest if isinstance(one, Identifier)] == [
        "ada@x.org", "+442079460958",
    ]
    links = [one for one in rest if isinstance(one, Link)]
    assert [(one.key, one.cause) for one in links] == [("u1", "identify")] * 3
    assert links[-1].other == "anonymous:a1"
    others = [one for one in (event, change, *rest) if not isinstance(one, Identifier)]
    assert b"ada" not in msgspec.json.encode(others).lower()


def test_an_email_or_phone_that_is_none_stays_a_trait():
    call = {"type": "identify", "messageId": "m", "userId": "u1",
            "context": {"traits": {"email": "none", "phone": "020 7946"}}}  # fmt: skip
    _, change = nouns(translated(call, through=door("rudderstack")))
    assert json.loads(bytes(change.put)) == {"email": "none", "phone": "020 7946"}


def test_alias_links_the_cookie_to_the_customer():
    call = {"type": "alias", "messageId": "m", "userId": "u1", "previousId": "a1",
            "timestamp": "2026-11-22T10:00:00Z"}  # fmt: skip
    (link,) = nouns(translated(call))
    assert (link.key, link.other, link.cause) == ("u1", "anonymous:a1", "alias")
    public = nouns(translated(call, through=door("segment", public=True)))
    assert [one.public for one in public] == [True]


def test_pages_screens_and_groups_are_events():
    who = {"messageId": "m", "anonymousId": "a"}
    page, screen, group = nouns(
        translated(
            {"type": "page", "name": "Home", "category": "Shop", "properties": {"url": "/"}} | who,
            {"type": "screen", "name": "Main"} | who,
            {"type": "group", "groupId": "g1", "traits": {"size": 3}} | who,
        )
    )
    assert [page.name, screen.name, group.name] == ["page_viewed", "screen_viewed", "group_joined"]
    assert json.loads(bytes(page.properties)) == {"name": "Home", "category": "Shop", "url": "/"}
    assert json.loads(bytes(group.properties)) == {"groupId": "g1", "traits": {"size": 3}}
    assert page.customer == "anonymous:a"


@pytest.mark.parametrize("type", segment.TYPES)
def test_a_path_says_the_type_of_its_one_call(type):
    call = {"messageId": "m", "userId": "u", "event": "x", "previousId": "a", "groupId": "g"}
    intake = segment.translate_call(json.dumps(call).encode(), DOOR, type=type)
    assert (intake.rows, len(intake.entries), reasons(intake)) == (1, 1, [])


@pytest.mark.parametrize(
    ("call", "pointer", "reason"),
    [
        (5, "", "bad_json"),
        ({**TRACK, "type": "wish"}, "/type", "unknown_kind"),
        ({**TRACK, "userId": None}, "/userId", "no_customer"),
        ({**TRACK, "userId": True}, "/userId", "bad_json"),
        ({**TRACK, "event": None}, "/event", "no_name"),
        ({**TRACK, "event": ""}, "/event", "bad_text"),
        ({**TRACK, "messageId": "m" * 101}, "/messageId", "bad_text"),
        ({**TRACK, "timestamp": "noon"}, "/timestamp", "bad_time"),
        ({**TRACK, "timestamp": "9999-12-31T23:59:59Z"}, "/timestamp", "bad_time"),
        ({**TRACK, "timestamp": "1969-12-31T23:59:59Z"}, "/timestamp", "bad_time"),
        ({**TRACK, "properties": [1]}, "/properties", "bad_json"),
        ({**TRACK, "properties": {"a": "x" * 32_000}}, "", "too_large"),
        ({**TRACK, "event": "Order Completed", "properties": {"revenue": "much"}},
         "/properties/revenue", "bad_amount"),
        ({**TRACK, "event": "Order Completed", "properties": {"revenue": 5}},
         "/properties/revenue", "bad_currency"),
        ({**TRACK, "event": "Order Completed", "properties": {"products": {}}},
         "/properties/products", "bad_lines"),
        ({**TRACK, "event": "Order Completed", "properties": {"products": [{"price": 1}]}},
         "/properties/products/0/item", "no_item"),
        ({"type": "alias", "userId": "u"}, "/previousId", "no_customer"),
    ],
)  # fmt: skip
def test_a_call_at_fault_is_rejected_and_its_neighbours_are_taken(call, pointer, reason):
    assert reasons(translated(TRACK, call, TRACK)) == [(1, pointer, reason)]
    assert reason in REASONS


def test_limits_hold_at_their_edge():
    empty = len(json.dumps({**TRACK, "properties": {"a": ""}}))
    call = {**TRACK, "properties": {"a": "x" * (segment.CALL_BYTES - empty)}}
    assert reasons(translated(call)) == []
    body = b'{"batch":[]' + b" " * (segment.BATCH_BYTES - 12) + b"}"
    assert segment.translate(body, DOOR).rows == 0
    with pytest.raises(Malformed) as raised:
        segment.translate(body + b" ", DOOR)
    assert raised.value.reason == "too_large"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"batch":1}', b"{", b"\xff", b"[" * 99_999])
def test_what_is_no_batch_is_malformed(body):
    with pytest.raises(Malformed):
        segment.translate(body, DOOR)
    if body not in (b"{}", b'{"batch":1}'):
        with pytest.raises(Malformed):
            segment.translate_call(body, DOOR, type="track")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
WORDS = ("messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name",
         "timestamp", "sentAt", "context", "traits", "properties")  # fmt: skip
COMMERCE = st.dictionaries(
    st.sampled_from(["revenue", "total", "currency", "products", "order_id", "sku", "price"]), JSON
)


@given(
    st.lists(
        JSON
        | st.fixed_dictionaries(
            {"type": st.sampled_from(segment.TYPES)}, optional=dict.fromkeys(WORDS, JSON)
        )
        | st.fixed_dictionaries(
            {"type": st.just("track"), "userId": st.just("u"), "properties": COMMERCE,
             "event": st.sampled_from(["Order Completed", "Product Added", "Order Refunded"])}
        ),
        max_size=5,
    ),
    JSON,
)  # fmt: skip
def test_any_batch_is_counted_once_or_malformed(calls, sent_at):
    body = json.dumps({"batch": calls, "sentAt": sent_at}).encode()
    try:
        intake = segment.translate(body, DOOR)
    except Malformed:
        return
    assert_counted(intake)
    assert [noun.digest for noun in nouns(segment.translate(body, DOOR))] == [
        noun.digest for noun in nouns(intake)
    ]
    msgspec.json.encode(intake.entries)
