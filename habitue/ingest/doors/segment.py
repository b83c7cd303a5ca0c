"""Segment's protocol, which RudderStack speaks, too: `/v1/batch`, and a path per type of call.

A call's identity is its messageId. Client clocks are often wrong, so a time is corrected by how far
`sentAt` was from when the call reached us; the client's `originalTimestamp` is left alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from habitue.events import EMPTY, Event, Instant, Noun, ProfileChange
from habitue.ingest.doors import fields
from habitue.ingest.doors.bodies import UNREADABLE, decoded, readable, unreadable
from habitue.ingest.doors.commerce import from_properties
from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.intake import Door, Intake, Malformed, check_public, one_by_one
from habitue.ingest.doors.keys import (
    Names,
    Said,
    Who,
    identify,
    linked,
    normalised_email,
    normalised_phone,
    stitched,
)
from habitue.ingest.doors.names import canonical
from habitue.ingest.doors.records import Occurrences, derived_id

CALL_BYTES = 32_000
BATCH_BYTES = 500_000
MESSAGE_ID_CHARACTERS = 100
NAME_CHARACTERS = 512
TYPES = ("identify", "track", "page", "screen", "group", "alias")

# what a call is called that has no name of its own
IDENTIFIED = "identified"
PAGE_VIEWED = "page_viewed"
SCREEN_VIEWED = "screen_viewed"
GROUP_JOINED = "group_joined"

_NAMES = {
    "identify": IDENTIFIED, "page": PAGE_VIEWED, "screen": SCREEN_VIEWED, "group": GROUP_JOINED,
}
_POINTERS = {
    "external": "/userId", "anonymous": "/anonymousId", "email": "/traits/email",
    "phone": "/traits/phone",
}
_BEGINS_A_BATCH = re.compile(rb'(\xef\xbb\xbf)?\s*\{[^{\[]*"batch"\s*:')
_LIMITS = fields.Limits(keys=2_000, depth=20)

Id: TypeAlias = str | int | None


class _Context(msgspec.Struct):
    traits: msgspec.Raw = EMPTY


class _Call(msgspec.Struct, rename="camel", kw_only=True):
    """One call; what it has beside this is left in no noun but kept where it is rejected."""

    type: str | None = None
    message_id: str | None = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None                 # alias: who it was before
    group_id: Id = None
    event: str | None = None               # track
    name: str | None = None                # page, screen
    category: str | None = None            # page, screen
    timestamp: str | None = None
    original_timestamp: str | None = None  # what RudderStack's clients send instead
    sent_at: str | None = None             # of a call that comes alone
    context: _Context | None = None
    traits: msgspec.Raw = EMPTY
    properties: msgspec.Raw = EMPTY


class _Batch(msgspec.Struct, rename="camel"):
    batch: list[msgspec.Raw]
    sent_at: str | None = None


_batch = msgspec.json.Decoder(_Batch)
_call = msgspec.json.Decoder(_Call)
_object = msgspec.json.Decoder(dict[str, Any])
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw])


def translate(body: bytes, door: Door) -> Intake:
    """The calls of a `/v1/batch`.

    Raises:
        Malformed: it is no batch, or too large.
    """
    if len(body) > BATCH_BYTES:
        raise Malformed("too_large", f"a batch has at most {BATCH_BYTES} bytes")
    body = readable(body)
    try:
        batch = _batch.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from None
    return _intake([bytes(raw) for raw in batch.batch], door, batch.sent_at, None)


def translate_call(body: bytes, door: Door, *, type: str) -> Intake:
    """The one call of `/v1/track`, `/v1/identify` and so on; the path says its type.

    Raises:
        Malformed: it is no JSON object, or too large.
    """
    if len(body) > CALL_BYTES:
        raise Malformed("too_large", f"a call has at most {CALL_BYTES} bytes")
    body = readable(body)
    try:
        _object.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from None
    return _intake([body], door, None, type)


def translate_any(body: bytes, door: Door) -> Intake:
    """A batch, or one call by itself that says its own type, as in a queue.

    Raises:
        Malformed: it is neither, or too large.
    """
    if _BEGINS_A_BATCH.match(body):
        return translate(body, door)
    return translate(b'{"batch":[' + body + b"]}", door)


def skew_of(sent: object, received: Instant) -> timedelta:
    """How far the client's clock was behind ours when it sent this; none if it does not say."""
    found = fields.instant(sent) if isinstance(sent, str) else None
    return timedelta(0) if found is None else received - found


def corrected(told: Instant, skew: timedelta) -> Instant | None:
    """A client's time by our clock; None where no calendar has it."""
    try:
        return told + skew
    except OverflowError:
        return None


def steady(skew: timedelta) -> timedelta:
    """A skew in whole minutes: the same when a call is sent again, however long the way took.

    What has no id of its own (links, profiles) is known by its content, the time included.
    """
    return timedelta(minutes=round(skew / timedelta(minutes=1)))


def _intake(raws: list[bytes], door: Door, sent_at: str | None, type: str | None) -> Intake:
    seen = Occurrences()

    def read(raw: bytes, faults: list[Fault]) -> tuple[Noun, ...]:
        call = decoded(raw, _call, ("a call", CALL_BYTES), faults)
        if call is None:
            return ()
        skew = skew_of(sent_at or call.sent_at, door.received)
        became = _Reading(door, skew, seen, faults).nouns(call, type or call.type or "")
        check_public(became, door, faults)
        return became

    return one_by_one(raws, read)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One call being read."""

    door: Door
    skew: timedelta
    seen: Occurrences
    faults: list[Fault]

    def nouns(self, call: _Call, kind: str) -> tuple[Noun, ...]:
        """What a call becomes; its event comes first, since its messageId tells it apart."""
        if kind not in TYPES:
            detail = f"a type is one of: {', '.join(TYPES)}"
            self.faults.append(Fault("/type", "unknown_kind", detail))
            return ()
        traits = self._traits(call) if kind == "identify" else {}
        who = self._who(call, traits)
        times = self._times(call.timestamp or call.original_timestamp)
        if who is None or times is None or self.faults:
            return ()
        said = Said(time=times[1], cause=kind if kind in ("identify", "alias") else "event")
        if kind == "alias":
            return self._alias(call, who, said)
        event = self._event(call, kind, who, times[0])
        if event is None:
            return ()
        changes = () if kind != "identify" else self._changes(who, traits, said)
        return (event, *changes, *stitched(who, said, self.door))

    def _times(self, told: str | None) -> tuple[Instant, Instant] | None:
        """By our clock: when it happened, and the same for what has no id of its own."""
        received = self.door.received
        if told is None:
            return received, received
        window = fields.usual_window(received)
        found = fields.instant(told)
        exact = None if found is None else corrected(found, self.skew)
        about = None if found is None else corrected(found, steady(self.skew))
        if exact is None or about is None or not window.earliest <= exact <= window.latest:
            detail = "a time from 1970 to a day ahead was wanted, as 2026-11-22T10:15:00.000Z"
            self.faults.append(Fault("/timestamp", "bad_time", detail))
            return None
        return exact, about

    def _traits(self, call: _Call) -> dict[str, Any]:
        """Traits of an identify call, wherever its client puts them."""
        found: dict[str, Any] = {}
        for raw, pointer in (
            (call.context.traits if call.context else EMPTY, "/context/traits"),
            (call.traits, "/traits"),
        ):
            held = fields.properties(raw, pointer, self.faults, _LIMITS)
            if not self.faults:
                found |= _object.decode(held)
        return found

    def _who(self, call: _Call, traits: dict[str, Any]) -> Who | None:
        """Whom a call is about. An email or phone that is none stays an ordinary trait."""
        email, phone = traits.get("email"), traits.get("phone")
        if email is None and isinstance(call.user_id, str) and "@" in call.user_id:
            email = call.user_id              # so that it is found by its email, too
        names = Names(
            external=call.user_id,
            anonymous=call.anonymous_id,
            email=email if is_email(email) else None,
            phone=phone if isinstance(phone, str) and normalised_phone(phone) else None,
        )
        who = identify(names, self.door, _POINTERS, self.faults)
        if call.user_id in (None, "") and call.anonymous_id in (None, "") and not self.faults:
            detail = "a call has a userId or an anonymousId"
            self.faults.append(Fault("/userId", "no_customer", detail))
        return who

    def _alias(self, call: _Call, who: Who, said: Said) -> tuple[Noun, ...]:
        """That who it was before, by cookie or email, is who it is now."""
        before = Names(anonymous=call.previous_id)
        if is_email(call.previous_id):
            before = Names(email=call.previous_id)
        pointers = {"anonymous": "/previousId", "email": "/previousId"}
        other = identify(before, self.door, pointers, self.faults)
        if other is None:
            if not self.faults:
                self.faults.append(Fault("/previousId", "no_customer", "an alias has a previousId"))
            return ()
        link = linked(who.key, other.key, said, self.door)
        return (link, *stitched(other, said, self.door), *stitched(who, said, self.door))

    def _changes(self, who: Who, traits: dict[str, Any], said: Said) -> Iterator[Noun]:
        """The traits, less the email and phone that are kept as identifiers."""
        kept = {kind for _, kind, _ in who.raw}
        put = {name: value for name, value in traits.items() if name not in kept}
        if put:
            yield ProfileChange(
                shop=self.door.shop, source=self.door.source, customer=who.key, time=said.time,
                received=self.door.received, put=msgspec.Raw(msgspec.json.encode(put)),
            )  # fmt: skip

    def _event(self, call: _Call, kind: str, who: Who, time: Instant) -> Event | None:
        sent = call.event if kind == "track" else _NAMES[kind]
        name = fields.text(sent, NAME_CHARACTERS, "/event", self.faults)
        if name is None:
            if not self.faults:
                self.faults.append(Fault("/event", "no_name", "a track call has an event"))
            return None
        called = canonical(self.door.source, name, self.door.names)
        held = fields.properties(_properties(call, kind), "/properties", self.faults, _LIMITS)
        if self.faults:
            return None
        told = _object.decode(held) if kind == "track" else {}
        bought = from_properties(called, told, self.door.currency, self.faults)
        own = self._id(call, kind, who, time)
        if own is None or self.faults:
            return None
        return Event(
            shop=self.door.shop, source=self.door.source, id=own, customer=who.key,
            name=bought.name, time=time, received=self.door.received, value=bought.value,
            order=bought.order, lines=bought.lines, properties=held,
        )  # fmt: skip

    def _id(self, call: _Call, kind: str, who: Who, time: Instant) -> str | None:
        if call.message_id:
            return fields.text(
                call.message_id, MESSAGE_ID_CHARACTERS, "/messageId", self.faults
            )
        told = (kind, call.event, call.name, who.key, call.timestamp or time)
        return derived_id((*told, bytes(_properties(call, kind))), self.seen, self.faults)


def is_email(value: object) -> bool:
    """Whether it can be told by its email."""
    return isinstance(value, str) and normalised_email(value) is not None


def _properties(call: _Call, kind: str) -> msgspec.Raw:
    """What is kept of a call in its event: nothing of an identify call, which is profile."""
    match kind:
        case "identify":
            return EMPTY
        case "group":
            told = {"groupId": call.group_id, "traits": call.traits}
            return msgspec.Raw(msgspec.json.encode(told))
        case "page" | "screen" if call.name is not None or call.category is not None:
            own = {"name": call.name, "category": call.category}
            named = {word: value for word, value in own.items() if value is not None}
            try:
                held = _raws.decode(call.properties)
            except msgspec.ValidationError:   # no object: properties say so
                return call.properties
            return msgspec.Raw(msgspec.json.encode(named | held))
    return call.properties
