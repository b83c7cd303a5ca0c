"""PostHog's protocol: `/batch/`, `/capture/` and `/i/v0/e/`.

An event's identity is its uuid. A distinct_id is an anonymous id where the event says so (it is the
device's own, or makes no person profile), else the shop's own id of a customer.
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
from habitue.ingest.doors.keys import Names, Said, Who, identify, linked, stitched
from habitue.ingest.doors.names import canonical
from habitue.ingest.doors.records import Occurrences, derived_id
from habitue.ingest.doors.segment import corrected, is_email, skew_of, steady

EVENT_BYTES = 1_000_000
BATCH_BYTES = 20_000_000
NAME_CHARACTERS = 200
IDENTIFY, ALIAS = "$identify", "$create_alias"

_DEVICE = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# what clients send as the id of somebody they do not know; PostHog refuses these, too
_NOBODY = frozenset((
    "anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email",
    "undefined", "true", "false", "null", "none", "nil", "nan", "0", "[object object]",
))  # fmt: skip
_POINTERS = {"external": "/distinct_id", "anonymous": "/distinct_id"}
_LIMITS = fields.Limits(keys=4_000, depth=30, text_bytes=EVENT_BYTES, entries=100_000)

Id: TypeAlias = str | int | None
Properties: TypeAlias = dict[str, Any]


class _Sent(msgspec.Struct, kw_only=True):
    """One event."""

    event: str | None = None
    distinct_id: Id = None
    uuid: str | None = None
    timestamp: str | None = None
    offset: int | None = None              # milliseconds before it was sent
    properties: msgspec.Raw = EMPTY
    set: msgspec.Raw = msgspec.field(default=EMPTY, name="$set")
    set_once: msgspec.Raw = msgspec.field(default=EMPTY, name="$set_once")


class _Batch(msgspec.Struct, kw_only=True):
    batch: list[msgspec.Raw] | None = None
    sent_at: str | None = None
    historical_migration: bool | None = False


_batch = msgspec.json.Decoder(_Batch)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(_Sent)
_object = msgspec.json.Decoder(dict[str, Any])


def translate(body: bytes, door: Door) -> Intake:
    """The events of a batch, or the one event, or a bare list of them.

    Raises:
        Malformed: it is none of these, or too large.
    """
    if len(body) > BATCH_BYTES:
        raise Malformed("too_large", f"a batch has at most {BATCH_BYTES} bytes")
    body = readable(body)
    try:
        if body.lstrip()[:1] == b"[":
            raws, batch = _list.decode(body), _Batch()
        else:
            batch = _batch.decode(body)
            raws = [msgspec.Raw(body)] if batch.batch is None else batch.batch
    except UNREADABLE as error:
        raise unreadable(error) from None
    backfilled = bool(batch.historical_migration)
    if backfilled and door.public:
        raise Malformed(
            "forbidden_with_public_key", "a migration needs a secret key",
            pointer="/historical_migration", status=403,
        )  # fmt: skip
    skew = timedelta(0) if backfilled else skew_of(batch.sent_at, door.received)
    return _intake([bytes(raw) for raw in raws], door, skew, backfilled=backfilled)


def _intake(raws: list[bytes], door: Door, skew: timedelta, *, backfilled: bool) -> Intake:
    seen = Occurrences()

    def read(raw: bytes, faults: list[Fault]) -> tuple[Noun, ...]:
        sent = decoded(raw, _event, ("an event", EVENT_BYTES), faults)
        if sent is None:
            return ()
        became = _Reading(door, skew, backfilled, seen, faults).nouns(sent)
        check_public(became, door, faults)
        return became

    return one_by_one(raws, read)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One event being read."""

    door: Door
    skew: timedelta
    backfilled: bool
    seen: Occurrences
    faults: list[Fault]

    def nouns(self, sent: _Sent) -> tuple[Noun, ...]:
        """What an event becomes: itself first, since its uuid tells it apart, then the rest."""
        told = self._object(sent.properties, "/properties")
        put, once = self._object(sent.set, "/$set"), self._object(sent.set_once, "/$set_once")
        times = self._times(sent, told)
        if self.faults or times is None:
            return ()
        put, once = told.pop("$set", None) or put, told.pop("$set_once", None) or once
        who = self._who(sent, told, put)
        event = None if who is None else self._event(sent, told, who, times[0])
        if who is None or event is None or self.faults:
            return ()
        cause = "identify" if sent.event == IDENTIFY else "event"
        said = Said(time=times[1], cause=cause, backfilled=self.backfilled)
        changes = self._changes(who, put, once, said)
        return (event, *self._links(sent, told, who, said), *changes,
                *stitched(who, said, self.door))  # fmt: skip

    def _object(self, raw: msgspec.Raw, pointer: str) -> Properties:
        held = fields.properties(raw, pointer, self.faults, _LIMITS)
        return {} if self.faults else _object.decode(held)

    def _times(self, sent: _Sent, told: Properties) -> tuple[Instant, Instant] | None:
        """By our clock: when it happened, and the same for what has no id of its own."""
        received = self.door.received
        written = sent.timestamp if sent.timestamp is not None else told.get("timestamp")
        if written is None:
            ago = timedelta(milliseconds=min(max(sent.offset or 0, 0), 10**13))
            return received - min(ago, received - fields.EPOCH), received
        skew = timedelta(0) if told.get("$ignore_sent_at") else self.skew
        found = fields.instant(written) if isinstance(written, str) else None
        exact = None if found is None else corrected(found, skew)
        about = None if found is None else corrected(found, steady(skew))
        window = fields.usual_window(received)
        if exact is None or about is None or not window.earliest <= exact <= window.latest:
            detail = "a time from 1970 to a day ahead was wanted, as 2026-11-22T10:15:00.000Z"
            self.faults.append(Fault("/timestamp", "bad_time", detail))
            return None
        return exact, about

    def _who(self, sent: _Sent, told: Properties, put: object) -> Who | None:
        own = sent.distinct_id if sent.distinct_id is not None else told.get("distinct_id")
        email = put.get("email") if isinstance(put, dict) else None
        if isinstance(own, str) and own.strip().lower() in _NOBODY:
            detail = "this distinct_id stands for nobody; many customers would become one"
            self.faults.append(Fault("/distinct_id", "bad_identifier", detail))
            return None
        if _is_anonymous(sent, own, told):
            names = Names(anonymous=own, email=email if is_email(email) else None)
        else:
            email = email if is_email(email) else own
            names = Names(external=own, email=email if is_email(email) else None)
        who = identify(names, self.door, _POINTERS, self.faults)
        if who is None and not self.faults:
            self.faults.append(Fault("/distinct_id", "no_customer", "an event has a distinct_id"))
        return who

    def _links(
        self, sent: _Sent, told: Properties, who: Who, said: Said
    ) -> Iterator[Noun]:
        """What $identify and $create_alias tell of who is who."""
        if sent.event == IDENTIFY:
            other = identify(
                Names(anonymous=told.get("$anon_distinct_id")), self.door,
                {"anonymous": "/properties/$anon_distinct_id"}, self.faults,
            )  # fmt: skip
        elif sent.event == ALIAS:
            alias = told.get("alias")
            # of the two the one that looks like a device's is anonymous
            names = Names(anonymous=alias) if _is_device(alias) else Names(external=alias)
            if is_email(alias):
                names = Names(external=alias, email=alias)
            other = identify(names, self.door, {"external": "/properties/alias",
                                                "anonymous": "/properties/alias"}, self.faults)
            said = Said(time=said.time, cause="alias", backfilled=said.backfilled)
        else:
            return
        if other is not None and other.key != who.key:
            yield linked(who.key, other.key, said, self.door)
            yield from stitched(other, said, self.door)

    def _changes(self, who: Who, put: object, once: object, said: Said) -> Iterator[Noun]:
        """Properties of the person, less the email that is kept as an identifier.

        What is to be set once is set as well, where the same event sets nothing else: whether it
        was set before cannot be known here, and clients repeat the same value.
        """
        kept = {kind for _, kind, _ in who.raw}
        told = once if isinstance(once, dict) else {}
        told = told | (put if isinstance(put, dict) else {})
        found = {name: value for name, value in told.items() if name not in kept}
        if found:
            yield ProfileChange(
                shop=self.door.shop, source=self.door.source, customer=who.key, time=said.time,
                received=self.door.received, backfilled=said.backfilled,
                put=msgspec.Raw(msgspec.json.encode(found)),
            )  # fmt: skip

    def _event(self, sent: _Sent, told: Properties, who: Who, time: Instant) -> Event | None:
        name = fields.text(sent.event, NAME_CHARACTERS, "/event", self.faults)
        if name is None:
            if not self.faults:
                self.faults.append(Fault("/event", "no_name", "an event has a name"))
            return None
        called = canonical(self.door.source, name, self.door.names)
        bought = from_properties(called, told, self.door.currency, self.faults)
        held = msgspec.Raw(msgspec.json.encode(told))
        if sent.uuid:
            own = fields.text(sent.uuid, NAME_CHARACTERS, "/uuid", self.faults)
        else:
            own = derived_id((name, who.key, time, bytes(held)), self.seen, self.faults)
        if own is None or self.faults:
            return None
        return Event(
            shop=self.door.shop, source=self.door.source, id=own, customer=who.key,
            name=bought.name, time=time, received=self.door.received, backfilled=self.backfilled,
            value=bought.value, order=bought.order, lines=bought.lines, properties=held,
        )  # fmt: skip


def _is_anonymous(sent: _Sent, own: object, told: Properties) -> bool:
    """Whether a distinct_id is a device's rather than a customer's."""
    if sent.event == IDENTIFY:
        return False
    if sent.event == ALIAS:
        return _is_device(own)
    return (
        own == told.get("$device_id")
        or told.get("$is_identified") is False
        or told.get("$process_person_profile") is False
    )


def _is_device(own: object) -> bool:
    """Whether an id looks like one that PostHog's libraries give to a device."""
    return isinstance(own, str) and _DEVICE.fullmatch(own) is not None
