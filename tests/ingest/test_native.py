import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.events import (
    Consent,
    Event,
    Identifier,
    Item,
    Line,
    Link,
    Money,
    ProfileChange,
)
from habitue.ingest.doors import fields, native
from habitue.ingest.doors.faults import REASONS
from habitue.ingest.doors.intake import Intake, Malformed
from tests.ingest.doors import NOW, assert_counted, door, first, nouns, reasons

GBP = door(currency="GBP")


def translated(*records: object, through=GBP) -> Intake:
    intake = native.translate(json.dumps(records).encode(), through)
    assert_counted(intake)
    return intake


def digests(intake: Intake) -> list[bytes]:
    return [noun.digest for noun in nouns(intake)]


def test_an_order_is_read_with_all_that_it_says():
    order = {
        "id": "e1", "name": "order_placed", "customer": "c_42", "time": "2026-11-22T11:15:00+01:00",
        "value": 25, "currency": "eur", "order": 1001, "properties": {"channel": "web"},
        "lines": [{"item": "mug", "quantity": 2, "unit_price": 12.345678}],
    }
    assert first(translated(order)) == Event(
        shop="acme", source="native", id="e1", customer="c_42", name="order_placed",
        time=datetime(2026, 11, 22, 10, 15, tzinfo=UTC), received=NOW, value=Money(2500, "EUR"),
        order="1001", properties=msgspec.Raw(b'{"channel": "web"}'),
        lines=(Line(item="mug", quantity=Decimal(2), unit_price=Decimal("12.345678"),
                    amount=Money(2469, "EUR")),),
    )  # fmt: skip


ONE = b'{"name":"x","id":"1"}'


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (ONE, 1),
        (b"[" + ONE + b"]", 1),
        (b'{"events":[' + ONE + b"," + ONE + b"]}", 2),
        (ONE + b"\n" + ONE, 2),
        (b"\xef\xbb\xbf" + ONE + b"\r\n\r\n" + ONE + b"\n  \n", 2),
        (b'{\n  "name": "x"\n}', 1),
        (b"[]", 0),
        (b'{"events":[]}', 0),
    ],
)
def test_a_body_is_an_object_a_list_an_envelope_or_lines(body, rows):
    intake = native.translate(body, GBP)
    assert (intake.rows, len(intake.entries), reasons(intake)) == (rows, rows, [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_json"), (b"  ", "bad_json"), (b"null", "bad_json"), (b'"x"', "bad_json"),
        (b"[1", "bad_json"), (b'{"name":', "bad_json"), (b"[NaN]", "bad_json"),
        (b"[" * 100_000, "too_deep"), (b'[{"name":"\xff"}]', "bad_text"), (b"\x00", "bad_json"),
        (b"\xff\xfe[\x00]\x00", "bad_text"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_as_a_whole_is_malformed(body, reason):
    with pytest.raises(Malformed) as raised:
        native.translate(body, GBP)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("record", "pointer", "reason"),
    [
        (5, "", "bad_json"),
        ({}, "/name", "no_name"),
        ({"name": ""}, "/name", "no_name"),
        ({"name": "x", "type": "y"}, "/name", "no_name"),
        ({"name": "x" * 129}, "/name", "bad_text"),
        ({"name": "a\0"}, "/name", "bad_text"),
        ({"name": "x", "colour": "red"}, "/colour", "unknown_field"),
        ({"name": "x", "a/b": 1}, "/a~1b", "unknown_field"),
        ({"name": "x", "id": ""}, "/id", "bad_identifier"),
        ({"name": "x", "id": "i" * 513}, "/id", "bad_identifier"),
        ({"name": "x", "id": 1.5}, "/id", "bad_identifier"),
        ({"name": "x", "customer": {}}, "/customer", "bad_identifier"),
        ({"name": "x", "email": "nobody"}, "/email", "bad_identifier"),
        ({"name": "x", "phone": "020 7946"}, "/phone", "bad_identifier"),
        ({"name": "x", "time": "yesterday"}, "/time", "bad_time"),
        ({"name": "x", "time": "1969-12-31T23:59:59Z"}, "/time", "bad_time"),
        ({"name": "x", "time": "2026-11-23T12:00:01Z"}, "/time", "bad_time"),
        ({"name": "x", "time": "2100-01-01"}, "/time", "bad_time"),
        ({"name": "x", "time": "0001-01-01T00:00:00+14:00"}, "/time", "bad_time"),
        ({"name": "x", "time": 10**30}, "/time", "bad_time"),
        ({"name": "x", "time": -1}, "/time", "bad_time"),
        ({"name": "x", "time": True}, "/time", "bad_time"),
        ({"name": "x", "value": "NaN"}, "/value", "bad_amount"),
        ({"name": "x", "value": "-Infinity"}, "/value", "bad_amount"),
        ({"name": "x", "value": True}, "/value", "bad_amount"),
        ({"name": "x", "value": 10**13 + 1}, "/value", "bad_amount"),
        ({"name": "x", "value": {"minor": 10**15 + 1}}, "/value/minor", "bad_amount"),
        ({"name": "x", "value": {"minor": 1.5}}, "/value/minor", "bad_amount"),
        ({"name": "x", "value": 1, "currency": "pounds"}, "/currency", "bad_currency"),
        ({"name": "x", "lines": [{}]}, "/lines/0", "bad_lines"),
        ({"name": "x", "lines": [{"item": ""}]}, "/lines/0/item", "no_item"),
        ({"name": "x", "lines": [{"item": "m", "quantity": 10**12}]}, "/lines/0/quantity",
         "bad_amount"),
        ({"name": "x", "lines": [{"item": "m"}] * 4_001}, "/lines", "too_many"),
        ({"name": "x", "properties": []}, "/properties", "bad_json"),
        ({"name": "x", "properties": {"a": "b\0"}}, "/properties/a", "bad_text"),
        ({"name": "x", "properties": {str(k): 1 for k in range(401)}}, "/properties", "too_many"),
        ({"name": "x", "properties": {"a": [0] * 4_001}}, "/properties/a", "too_many"),
        ({"name": "x", "properties": {"a": "é" * 50_001}}, "/properties/a", "too_large"),
        ({"name": "x", "properties": {"a": 10**400}}, "/properties/a", "bad_number"),
        ({"name": "x" * 1_000_001}, "", "too_large"),
        ({"kind": "wish"}, "/kind", "unknown_kind"),
        ({"kind": "item", "item": "m", "stock": 1 << 63}, "/stock", "bad_number"),
        ({"kind": "profile", "set": {"a": 1}}, "", "no_customer"),
        ({"kind": "consent", "customer": "c", "channel": "fax", "status": "subscribed"},
         "/channel", "bad_consent"),
        ({"kind": "link", "customer": "c"}, "", "no_customer"),
    ],
)  # fmt: skip
def test_a_record_at_fault_is_rejected_where_it_stands_and_its_neighbours_are_taken(
    record, pointer, reason
):
    intake = translated({"name": "before"}, record, {"name": "after"})
    assert reasons(intake) == [(1, pointer, reason)]
    assert reason in REASONS
    assert intake.rejections[0].payload == json.dumps(record)[:65_536]


@pytest.mark.parametrize(
    "record",
    [
        {"time": "1970-01-01T00:00:00Z"},
        {"time": 0},
        {"time": "2026-11-23T12:00:00Z"},
        {"value": 10**13},
        {"value": {"minor": 10**15}},
        {"properties": {str(k): 1 for k in range(400)}},
        {"properties": {"a": [0] * 4_000}},
        {"properties": {"a": "x" * 100_000}},
        {"properties": None},
        {"lines": [{"item": "m"}] * 4_000},
        {"id": "i" * 512},
        {"name": "x" * 128},
    ],
)
def test_what_is_just_within_a_limit_is_taken(record):
    assert reasons(translated({"name": "x", **record})) == []


def nested(levels: int) -> bytes:
    return b'{"name":"x","properties":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


def test_properties_are_ten_levels_deep_and_no_deeper():
    assert reasons(native.translate(nested(10), GBP)) == []
    assert [one[2] for one in reasons(native.translate(nested(11), GBP))] == ["too_deep"]


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1e999999999", b"9" * 400])
def test_a_number_beyond_a_double_is_rejected_wherever_it_stands(number):
    for body in (b'{"name":"x","properties":{"a":%s}}', b'{"name":"x","value":%s}'):
        (rejected,) = native.translate(body % number, GBP).rejections
        assert rejected.reason in {"bad_number", "bad_amount"}


def test_half_a_character_is_replaced_and_a_whole_one_kept():
    body = rb'[{"name":"a","customer":"\ud83d"},{"name":"b\ud83d\ude00"}]'
    cut, whole = nouns(native.translate(body, GBP))
    assert cut.customer == "\ufffd"
    assert whole.name == "b\N{GRINNING FACE}"


def test_of_a_field_that_stands_twice_the_last_counts():
    assert first(native.translate(b'{"name":"a","name":"b"}', GBP)).name == "b"


def test_minus_zero_is_zero():
    assert first(translated({"name": "x", "value": -0.0})).value == Money(0, "GBP")


@pytest.mark.parametrize(
    ("told", "minor"),
    [(0.1, 10), (2.675, 268), (2.665, 266), ("2.345", 234), (1e-9, 0), (0.30000000000000004, 30)],
)
def test_money_is_read_by_its_shortest_representation_and_rounded_half_even(told, minor):
    assert first(translated({"name": "x", "value": told})).value == Money(minor, "GBP")


@given(st.decimals(-(10**9), 10**9, places=6), st.sampled_from(["GBP", "JPY", "KWD"]))
def test_money_agrees_with_the_noun(value, currency):
    found = first(translated({"name": "x", "value": str(value), "currency": currency}))
    assert found.value == Money.of(value, currency)


def test_what_takes_an_order_back_is_worth_less_than_nothing():
    lines = [{"item": "mug", "quantity": 2, "unit_price": 3}]
    cancelled, refund, unnamed = nouns(
        translated(
            {"name": "order_cancelled", "order": "o1", "lines": lines},
            {"name": "order_refunded", "value": 5},
            {"name": "order_cancelled", "value": -5},
        )
    )
    assert cancelled.value == Money(-600, "GBP")
    assert cancelled.lines[0].quantity == -2
    assert refund.value == unnamed.value == Money(-500, "GBP")
    assert unnamed.name == "order_refunded"


def test_an_item_viewed_needs_no_currency():
    (line,) = first(translated({"name": "item_viewed", "item": "mug"}, through=door())).lines
    assert (line.item, line.amount.minor) == ("mug", 0)
    assert reasons(translated({"name": "x", "value": 1}, through=door())) == [
        (0, "/value", "bad_currency")
    ]


@pytest.mark.parametrize("currency", [None, "JPY"])
def test_a_line_that_says_nothing_is_one_of_no_price(currency):
    said = fields.line(
        fields.Told(item="mug", quantity=1, unit_price=0, amount=0), currency or "XXX", "", []
    )
    assert fields.line(fields.Told(item="mug"), currency, "", []) == said


def test_every_kind_of_record_becomes_its_noun():
    found = nouns(
        translated(
            {"kind": "item", "item": "mug", "title": "A mug", "price": 2.5, "stock": 3,
             "image": "https://x/y.png", "published": False, "time": "2026-01-01"},
            {"kind": "profile", "customer": "c", "set": {"plan": "gold"}, "clear": ["old"],
             "append": {"tags": ["a"]}},
            {"kind": "consent", "email": "Ada@x.org", "channel": "email", "status": "subscribed"},
            {"kind": "link", "customer": "c", "anonymous_id": "a1"},
            {"kind": "link", "customer": "c", "other": {"customer": "d"}, "undo": True},
        )
    )  # fmt: skip
    item, profile, consent, identifier, link, undone = found
    assert (item.price, item.stock, item.published) == (Money(250, "GBP"), 3, False)
    assert isinstance(item, Item)
    assert isinstance(profile, ProfileChange)
    assert (bytes(profile.put), profile.clear) == (b'{"plan": "gold"}', ("old",))
    assert isinstance(consent, Consent)
    assert isinstance(identifier, Identifier)
    assert (identifier.key, identifier.value) == (consent.customer, "ada@x.org")
    assert (link.key, link.other, link.undo) == ("c", "anonymous:a1", False)
    assert (undone.key, undone.other, undone.undo) == ("c", "d", True)


def test_an_event_that_names_its_customer_in_two_ways_links_them():
    event, identifier, link = nouns(translated({"name": "x", "customer": 7, "email": "a@x.org"}))
    assert event.customer == link.key == "7"
    assert link.other == identifier.key
    assert isinstance(link, Link)
    assert "a@x.org" not in msgspec.json.encode((event, link)).decode()


def test_a_public_key_may_tell_what_happens_and_no_more():
    public = door(public=True)
    intake = translated(
        {"name": "x", "anonymous_id": "a", "customer": "c"},
        {"name": "x", "backfill": True},
        {"kind": "item", "item": "m"},
        {"kind": "consent", "customer": "c", "channel": "sms", "status": "unsubscribed"},
        {"kind": "link", "customer": "c", "anonymous_id": "a", "undo": True},
        {"kind": "profile", "customer": "c", "set": {"a": 1}},
        through=public,
    )
    assert {one[2] for one in reasons(intake)} == {"forbidden_with_public_key"}
    assert [one.position for one in intake.rejections] == [1, 2, 3, 4]
    assert intake.entries[0].nouns[1].public


def test_the_shops_own_names_are_used():
    found = first(translated({"name": "Bought"}, through=door(names={"Bought": "order_placed"})))
    assert found.name == "order_placed"


WITHOUT_IDS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("ab"), "time": st.just("2026-01-01T00:00:00Z")},
        optional={"customer": st.sampled_from("cd"), "value": st.sampled_from([1, 2.5])},
    ),
    max_size=8,
)


@given(WITHOUT_IDS, st.randoms(use_true_random=False))
def test_events_without_ids_are_the_same_in_any_order_and_repeats_are_kept(records, random):
    found = digests(translated(*records))
    assert len(set(found)) == len(records)
    assert digests(translated(*records)) == found
    random.shuffle(records)
    assert sorted(digests(translated(*records))) == sorted(found)


def test_an_event_is_the_same_however_its_json_is_written():
    one = b'{"name":"x","time":"2026-01-01T01:00:00+01:00","value":2.50,"properties":{"a":1,"b":2}}'
    two = b'{"value":2.5, "properties":{"b":2, "a":1}, "time":"2026-01-01", "name":"x"}'
    assert digests(native.translate(one, GBP)) == digests(native.translate(two, GBP))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FIELDS = ("name", "type", "kind", "id", "customer", "email", "phone", "anonymous_id", "time",
          "value", "currency", "order", "item", "lines", "properties", "backfill", "set", "clear",
          "channel", "status", "other", "undo", "price", "stock")  # fmt: skip


@given(
    st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON) | st.fixed_dictionaries(
        {"kind": st.sampled_from(["event", "item", "profile", "consent", "link"])},
        optional=dict.fromkeys(FIELDS[3:], JSON),
    ))
)  # fmt: skip
def test_any_json_is_counted_once_or_malformed(records):
    for body in (json.dumps(records), "\n".join(json.dumps(one) for one in records)):
        try:
            intake = native.translate(body.encode(), GBP)
        except Malformed:
            continue
        assert_counted(intake)
        assert {one.reason for one in intake.rejections} <= set(REASONS)
        for entry in intake.entries:
            msgspec.json.encode(entry)


VALID = json.dumps(
    [
        {"id": "1", "name": "order_placed", "customer": "c", "email": "a@x.org", "value": 12.5,
         "time": "2026-11-22T10:15:00Z", "lines": [{"item": "m", "quantity": 1, "unit_price": 2}]},
        {"kind": "item", "item": "m", "title": "é😀", "properties": {}},
        {"kind": "link", "customer": "c", "anonymous_id": "a"},
    ]
).encode()  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=3)), max_size=4))
def test_a_damaged_body_is_counted_or_malformed(changes):
    body = bytearray(VALID)
    for place, put in changes:
        body[place : place + len(put)] = put
    for damaged in (bytes(body), bytes(body[1:-1]).replace(b"}, {", b"}\n{")):
        try:
            assert_counted(native.translate(damaged, GBP))
        except Malformed:
            continue


@given(st.lists(st.sampled_from([ONE, b'{"name":"x"}', b"{", b"\xff", b"", b'"a"', b"[1]"])),
       st.lists(st.integers(0, 60)))  # fmt: skip
def test_a_stream_is_read_the_same_however_it_is_cut(lines, cuts):
    body = b"\n".join(lines)
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    stream = native.Stream(GBP)
    parts = [stream.feed(body[one:two]) for one, two in pairwise(places)]
    parts.append(stream.finish())
    found = Intake(
        rows=sum(part.rows for part in parts),
        entries=tuple(entry for part in parts for entry in part.entries),
        rejections=tuple(one for part in parts for one in part.rejections),
    )
    assert_counted(found)
    assert found.rows == sum(bool(line.strip()) for line in lines)
    assert len(found.entries) == sum(b"name" in line for line in lines)
    assert len(set(digests(found))) == len(set(lines) & {ONE}) + lines.count(b'{"name":"x"}')


def test_a_line_without_end_is_one_rejection_and_holds_no_memory():
    stream = native.Stream(GBP)
    chunk = b"x" * 600_000
    parts = [stream.feed(chunk) for _ in range(50)]
    assert len(stream._waiting) <= 2 * native.RECORD_BYTES
    parts += [stream.feed(b"\n" + ONE + b"\n"), stream.finish()]
    rejected = [one for part in parts for one in part.rejections]
    assert [(one.position, one.reason) for one in rejected] == [(0, "too_large")]
    assert [entry.position for part in parts for entry in part.entries] == [1]


def test_portions_of_an_upload_hold_a_megabyte_at_a_time():
    line = b'{"name":"x","customer":"c","time":"2026-01-01"}\n'
    parts = list(native.portions((line * 1_000 for _ in range(100)), GBP))
    assert max(part.rows for part in parts) * len(line) < 2 * native.PORTION_BYTES
    assert sum(part.rows for part in parts) == 100_000
    last = [noun.id for part in parts for noun in nouns(part)][-1]
    assert last.endswith("-100000")


def test_the_clock_may_be_a_day_ahead_and_a_naive_time_is_utc():
    ahead = (NOW + timedelta(hours=24)).replace(tzinfo=None).isoformat()
    assert first(translated({"name": "x", "time": ahead})).time == NOW + timedelta(hours=24)


GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "events.md").read_text()


def test_the_guides_records_are_taken():
    (block,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    intake = native.translate(block.encode(), door())
    assert (len(intake.entries), reasons(intake)) == (6, [])


def test_the_guide_names_every_reason():
    assert {
        row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \| (.*) \|$", GUIDE, re.MULTILINE)
        if row[1] in REASONS
    } == REASONS  # fmt: skip
