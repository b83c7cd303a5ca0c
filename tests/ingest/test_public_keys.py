"""What a key that anyone can read may say, and what it may not, in every protocol."""

import json
from datetime import UTC, datetime
from functools import partial

import pytest

from habitue.events import Event
from habitue.ingest.doors import native, posthog, segment
from habitue.ingest.doors.intake import FORBIDDEN, Door, Malformed
from habitue.ingest.doors.klaviyo import events, profiles

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


def door(source: str, *, public: bool) -> Door:
    return Door(shop="acme", source=source, received=NOW, secret=b"s" * 32, public=public,
                currency="USD")  # fmt: skip


def klaviyo(metric: str) -> dict:
    return {"data": {"type": "event", "attributes": {
        "metric": {"data": {"type": "metric", "attributes": {"name": metric}}},
        "profile": {"data": {"type": "profile", "attributes": {"external_id": "c"}}},
        "properties": {"OrderId": "777"}, "value": 5}}}  # fmt: skip


def changed(**attributes: object) -> dict:
    told = {"external_id": "c", **attributes}
    return {"data": {"type": "profile", "attributes": told}}


SEGMENT = {"userId": "c", "messageId": "m"}
TAKING_AWAY = [
    ("native", native.translate, {"name": "order_cancelled", "customer": "c", "order": "777"}),
    ("native", native.translate, {"name": "order_refunded", "customer": "c", "value": 5}),
    ("native", native.translate, {"kind": "profile", "customer": "c", "clear": ["plan"]}),
    ("segment", partial(segment.translate_call, type="track"),
     SEGMENT | {"event": "Order Cancelled", "properties": {"order_id": "777"}}),
    ("posthog", posthog.translate,
     {"event": "Order Refunded", "distinct_id": "c", "uuid": "u", "properties": {"total": 5}}),
    ("klaviyo", events.create_event, klaviyo("Cancelled Order")),
    ("klaviyo", profiles.tell_profile, changed(first_name=None)),
]  # fmt: skip
TELLING = [
    ("native", native.translate, {"name": "item_viewed", "customer": "c"}),
    ("native", native.translate, {"kind": "profile", "customer": "c", "set": {"plan": "gold"}}),
    ("segment", partial(segment.translate_call, type="track"), SEGMENT | {"event": "Looked"}),
    ("posthog", posthog.translate, {"event": "looked", "distinct_id": "c", "uuid": "u"}),
    ("klaviyo", events.create_event, klaviyo("Viewed Product")),
    ("klaviyo", profiles.tell_profile, changed(first_name="Ada")),
]  # fmt: skip


@pytest.mark.parametrize(("source", "translate", "told"), TAKING_AWAY)
def test_nothing_is_taken_away_with_a_public_key(source, translate, told):
    body = json.dumps(told).encode()
    taken = translate(body, door(source, public=False))
    assert (len(taken.entries), taken.rejections) == (1, ())
    try:
        refused = translate(body, door(source, public=True))
    except Malformed as error:
        assert FORBIDDEN in str([error.reason, *getattr(error, "problems", ())])
    else:
        assert [one.reason for one in refused.rejections] == [FORBIDDEN]
        assert refused.entries == ()


@pytest.mark.parametrize(("source", "translate", "told"), TELLING)
def test_what_happens_is_told_with_a_public_key_as_with_a_secret_one(source, translate, told):
    body = json.dumps(told).encode()
    secret, public = (translate(body, door(source, public=one)) for one in (False, True))
    assert public.rejections == ()
    first = [one.entries[0].nouns[0] for one in (secret, public)]
    assert first[0].digest == first[1].digest
    assert isinstance(first[0], Event) or source in ("native", "klaviyo")
