"""Events of Klaviyo's clients: what they mean, what makes two of them one, and every limit."""

import json
from datetime import UTC, datetime

from habitue.events import Event, Identifier, Link, Money
from habitue.ingest.doors.keys import email_key
from habitue.ingest.doors.klaviyo.events import create_event
from tests.ingest.klaviyo_small import DOOR, event_body, nouns, only_event


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
