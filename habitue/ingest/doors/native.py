"""Our own protocol, `POST /v1/events`: one record, a list of them, or one per line (NDJSON).

What a record may hold stands in `records`. Almost every body is all right, so it is decoded whole;
only if that fails is each record decoded by itself, to find out which of them are at fault.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from habitue.events import Noun, Rejection
from habitue.ingest.doors.bodies import (
    BOM,
    UNREADABLE,
    misfit,
    readable,
    unreadable,
    whole_characters,
)
from habitue.ingest.doors.faults import Fault, escaped, rejection
from habitue.ingest.doors.fields import usual_window
from habitue.ingest.doors.intake import Door, Intake, Malformed, one_by_one
from habitue.ingest.doors.records import (
    Occurrences,
    Request,
    Sent,
    SentConsent,
    SentEvent,
    SentItem,
    SentLink,
    SentProfile,
    nouns,
)
from habitue.lake.eventlog.records import Entry

RECORD_BYTES = 1_000_000                   # of one record
PORTION_BYTES = 1_000_000                  # of a stream, translated at a time

Raws: TypeAlias = Sequence[msgspec.Raw | bytes]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class _Kind(msgspec.Struct):
    kind: str = "event"


_raw = msgspec.json.Decoder(msgspec.Raw)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_events = msgspec.json.Decoder(list[SentEvent])
_event = msgspec.json.Decoder(SentEvent)
_envelope = msgspec.json.Decoder(_Envelope)
_kind = msgspec.json.Decoder(_Kind)
_decoders: dict[str, msgspec.json.Decoder[Sent]] = {
    "event": msgspec.json.Decoder(SentEvent),
    "item": msgspec.json.Decoder(SentItem),
    "profile": msgspec.json.Decoder(SentProfile),
    "consent": msgspec.json.Decoder(SentConsent),
    "link": msgspec.json.Decoder(SentLink),
}  # fmt: skip

# what a field of the wrong type is called
_REASONS = {
    "time": "bad_time", "value": "bad_amount", "price": "bad_amount", "currency": "bad_currency",
    "lines": "bad_lines", "customer": "bad_identifier", "email": "bad_identifier",
    "phone": "bad_identifier", "anonymous_id": "bad_identifier", "id": "bad_identifier",
    "order": "bad_identifier", "item": "bad_identifier", "channel": "bad_consent",
    "status": "bad_consent",
}  # fmt: skip


def translate(body: bytes, door: Door) -> Intake:
    """The records of a body: an object, a list, `{"events": […]}`, or one object per line.

    Raises:
        Malformed: it is none of these.
    """
    body = readable(body)
    request = Request(door, usual_window(door.received), Occurrences())
    first = body.lstrip()[:1]
    if first == b"[":
        return _from_list(body, request)
    if first != b"{":
        raise Malformed("bad_json", "a record, a list of records, or a record per line was wanted")
    if b'"events"' in body[:64]:
        try:
            return _from_raws(_envelope.decode(body).events, request, 0)
        except UNREADABLE:
            pass                              # the records' own events, or one of many lines
    return _from_lines(body, request)


class Stream:
    """An upload of records, one per line, as it comes: each portion is translated by itself.

    Holds one portion at a time, and 16 bytes for each event that has no id.
    """

    def __init__(self, door: Door) -> None:
        """Nothing came yet."""
        self._request = Request(door, usual_window(door.received), Occurrences())
        self._waiting = bytearray()
        self._rows = 0
        self._skipping: bytes | None = None   # the beginning of a line that is too long
        self.too_long: int | None = None      # position of the first such line

    def feed(self, chunk: bytes) -> Intake:
        """The records of all lines that this chunk completes, positions counted from the first."""
        if self._skipping is None and not self._rows and not self._waiting:
            chunk = chunk.removeprefix(BOM)
        self._waiting += chunk
        end = self._waiting.rfind(b"\n") + 1
        if not end:
            if len(self._waiting) > RECORD_BYTES:
                self._skipping = self._skipping or bytes(self._waiting)
                self.too_long = self._rows if self.too_long is None else self.too_long
                self._waiting.clear()
            return Intake(rows=0)
        lines = bytes(self._waiting[:end])
        del self._waiting[:end]
        return self._translated(lines)

    def finish(self) -> Intake:
        """The last record, if no line end followed it."""
        lines = bytes(self._waiting)
        self._waiting.clear()
        return self._translated(lines)

    def cut(self) -> Intake:
        """The line that is too long, if its end did not come; nothing after what was fed."""
        self._waiting.clear()
        return self._translated(b"")

    def _translated(self, lines: bytes) -> Intake:
        start = self._rows
        rejected: tuple[Rejection, ...] = ()
        if self._skipping is not None:        # what follows ends the line that was too long
            rejected = (_too_large(start, self._skipping),)
            _, _, lines = lines.partition(b"\n")
            self._skipping = None
        found = _from_portion(lines, self._request, start + len(rejected))
        self._rows += found.rows + len(rejected)
        if self.too_long is None:
            long = (one.position for one in found.rejections if _is_too_long(one))
            self.too_long = next(long, None)
        return Intake(
            rows=found.rows + len(rejected),
            entries=found.entries,
            rejections=(*rejected, *found.rejections),
        )


def portions(chunks: Iterable[bytes], door: Door) -> Iterator[Intake]:
    """The records of an upload, one per line, in portions of about a megabyte."""
    stream = Stream(door)
    held = bytearray()
    for chunk in chunks:
        held += chunk
        if len(held) >= PORTION_BYTES:
            yield stream.feed(bytes(held))
            held.clear()
    yield stream.feed(bytes(held))
    yield stream.finish()


def _from_list(body: bytes, request: Request) -> Intake:
    if len(body) <= RECORD_BYTES:
        try:
            sent = _events.decode(body)
        except UNREADABLE:
            pass                              # each by itself
        else:
            return _intake(sent, lambda: _raws.decode(body), request, 0)
    try:
        raws = _raws.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from None
    return _from_raws(raws, request, 0)


def _from_lines(body: bytes, request: Request) -> Intake:
    """One object, however many lines it takes, or one per line."""
    found = _from_portion(body, request, 0)
    if found.rows and len(found.rejections) == found.rows:
        try:
            _raw.decode_lines(body)
        except UNREADABLE as error:
            if not any(_is_json(line) for line in body.splitlines()):
                raise unreadable(error) from None
    return found


def _from_portion(body: bytes, request: Request, start: int) -> Intake:
    """Records one per line; what is no JSON is refused line by line."""
    if len(body) <= RECORD_BYTES:
        try:
            body.decode()
            whole = whole_characters(body)
            sent = _event.decode_lines(whole)
        except UNREADABLE:
            pass                              # each by itself
        else:
            return _intake(sent, lambda: _raw.decode_lines(whole), request, start)
    raws: list[msgspec.Raw | bytes] = []
    try:
        body.decode()
        raws += _raw.decode_lines(whole_characters(body))
    except UNREADABLE:
        raws.clear()
        raws += (line for line in body.split(b"\n") if line.strip())
    return _from_raws(raws, request, start)


def _intake(
    sent: Sequence[Sent], raws: Callable[[], Raws], request: Request, start: int
) -> Intake:
    """What typed records become; their text is only asked for where one is at fault."""
    entries: list[Entry] = []
    rejections: list[Rejection] = []
    held: Raws = ()
    for place, record in enumerate(sent):
        faults: list[Fault] = []
        became = nouns(record, request, faults)
        if faults:
            held = held or raws()
            rejections.append(rejection(start + place, faults[0], bytes(held[place])))
        else:
            entries.append(Entry(start + place, became))
    return Intake(rows=len(sent), entries=tuple(entries), rejections=tuple(rejections))


def _from_raws(raws: Raws, request: Request, start: int) -> Intake:
    """What records become that are decoded one by one."""

    def read(raw: bytes, faults: list[Fault]) -> tuple[Noun, ...]:
        record = _decoded(raw, faults)
        return () if record is None else nouns(record, request, faults)

    return one_by_one(map(bytes, raws), read, start)


def _decoded(text: bytes, faults: list[Fault]) -> Sent | None:
    """One record by its kind; None and a fault if it is none."""
    if len(text) > RECORD_BYTES:
        faults.append(Fault("", "too_large", f"a record has at most {RECORD_BYTES} bytes"))
        return None
    try:
        text.decode()
        text = whole_characters(text)
        kind = _kind.decode(text).kind
        decoder = _decoders.get(kind)
        if decoder is not None:
            return decoder.decode(text)
        known = ", ".join(_decoders)
        faults.append(Fault("/kind", "unknown_kind", f"a kind is one of: {known}"))
    except UnicodeDecodeError:
        faults.append(Fault("", "bad_text", "the record is no UTF-8"))
    except RecursionError:
        faults.append(Fault("", "too_deep", "the record is nested too deeply"))
    except msgspec.ValidationError as error:
        faults.append(_fault_of(str(error)))
    except msgspec.DecodeError as error:
        faults.append(Fault("", "bad_json", str(error)))
    return None


def _fault_of(message: str) -> Fault:
    """What a decoder says of a value of the wrong type, as a fault."""
    detail, pointer = misfit(message)
    if detail.startswith("Object contains unknown field"):
        name = detail.split("`")[1]
        return Fault(f"{pointer}/{escaped(name)}", "unknown_field", detail)
    first = pointer.split("/")[1] if pointer else ""
    return Fault(pointer, _REASONS.get(first, "bad_json"), detail)


def _is_json(line: bytes) -> bool:
    try:
        _raw.decode(line)
    except UNREADABLE:
        return False
    return True


def _is_too_long(one: Rejection) -> bool:
    return one.reason == "too_large" and not one.pointer


def _too_large(position: int, beginning: bytes) -> Rejection:
    fault = Fault("", "too_large", f"a record has at most {RECORD_BYTES} bytes")
    return rejection(position, fault, beginning)
