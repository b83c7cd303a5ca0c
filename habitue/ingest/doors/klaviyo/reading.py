"""A place in a request's document, how it is read, and the limits that Klaviyo publishes.

`At` is a value, where it stands, and the list that collects what is wrong: reading never stops at
the first fault, so that a client is told of all. What cannot be read is None, as is what is absent.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from habitue.events import EMPTY, Instant
from habitue.ingest.doors.bodies import readable, unreadable
from habitue.ingest.doors.faults import Fault, escaped
from habitue.ingest.doors.intake import Intake, Malformed
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.lake.eventlog.records import Entry

KB = 1_024                                 # bytes; the published limits are read generously
MOST_BYTES = 5 * KB * KB                   # of a request with events, or of a bulk request
MOST_PROFILE_BYTES = 100 * KB              # of a profile
MOST_METADATA_BYTES = 100 * KB             # of a catalogue item's custom metadata
MOST_EVENTS = 1_000                        # of a bulk request
MOST_PROFILES = 10_000
MOST_SUBSCRIPTIONS = 1_000                 # profiles in a bulk request that (un)subscribes them
MOST_ITEMS = 100
MOST_PROPERTIES = 400                      # of an event
MOST_STRING_BYTES = 100 * KB               # of any text in the properties
MOST_ELEMENTS = 4_000                      # of any list in them
MOST_DEPTH = 10                            # of objects and lists, the properties being the first
METRIC_CHARACTERS = 127                    # "fewer than 128"
FIRST_YEAR = 1991                          # times must be after the year 1990
MOST_FAULTS = 1_000                        # collected of one request
# properties without these, and small, can break no limit: an escaped NUL, or very many digits
_ODD = re.compile(rb"\\u0000|[0-9]{300}")
_SMALL_BYTES = 4_000
_MOST_WHOLE = 1 << 1023                    # beyond, no reader's floating point can hold it


class At(msgspec.Struct, frozen=True):
    """A value in a document, and where it stands: the steps from a place with a pointer."""

    value: Any
    start: str = ""                        # the pointer of where the document begins
    faults: list[Fault] = []
    steps: tuple[str | int, ...] = ()

    @property
    def pointer(self) -> str:
        """Where it stands, as a JSON pointer; made when it is asked for, which is seldom."""
        return self.start + "".join(f"/{escaped(str(step))}" for step in self.steps)

    def __getitem__(self, name: str) -> "At":
        """The member of that name, also where there is none."""
        inside = self.value.get(name) if isinstance(self.value, dict) else None
        return self.inside(name, inside)

    def inside(self, step: str | int, value: object) -> "At":
        """The place of a member or an element, one step from here."""
        return At(value, self.start, self.faults, (*self.steps, step))

    def __truediv__(self, path: str) -> "At":
        """The place at the end of a path of members: `at / "profile/data"`."""
        names = path.split("/")
        value = self.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return At(value, self.start, self.faults, (*self.steps, *names))

    @property
    def is_told(self) -> bool:
        """Whether there is anything but null here."""
        return self.value is not None

    def fault(self, reason: str, detail: str) -> None:
        """Note that something is wrong here."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(self.pointer, reason, detail))

    def object(self, *, needed: bool = False) -> dict[str, Any] | None:
        """The JSON object here."""
        if isinstance(self.value, dict):
            return self.value
        if needed or self.is_told:
            self.fault("bad_json", f"{self._name} must be an object.")
        return None

    def text(self, *, needed: bool = False) -> str | None:
        """The text here."""
        if isinstance(self.value, str) and "\0" not in self.value:
            return self.value
        if needed or self.is_told:
            self.fault("bad_text", f"{self._name} must be a string without NUL.")
        return None

    def flag(self) -> bool | None:
        """The boolean here."""
        if self.value is None or isinstance(self.value, bool):
            return self.value
        self.fault("bad_json", f"{self._name} must be a boolean.")
        return None

    def elements(self, most: int, *, needed: bool = True) -> Iterator["At"]:
        """Every element of the list here, at most so many."""
        if not isinstance(self.value, list):
            if needed or self.is_told:
                self.fault("bad_json", f"{self._name} must be a list.")
        elif len(self.value) > most:
            self.fault("too_many", f"{self._name} may hold at most {most:,}.")
        elif needed and not self.value:
            self.fault("bad_json", f"{self._name} must not be empty.")
        else:
            for place, value in enumerate(self.value):
                yield self.inside(place, value)

    def resource(self, kind: str) -> "At":
        """The attributes of the resource here, which must be of that type."""
        if self.object(needed=True) is not None and self.value.get("type") != kind:
            self["type"].fault("unknown_kind", f"'type' must be '{kind}'.")
        self["attributes"].object()
        return self["attributes"]

    def instant(self, now: Instant) -> Instant | None:
        """The time here, cut to the second; without a zone it is in UTC."""
        if not self.is_told:
            return None
        time = _instant(self.value)
        if time is None:
            self.fault("bad_time", f"{self._name} must be a time like 2026-11-22T10:15:00+00:00.")
        elif time.year < FIRST_YEAR or time > a_year_after(now):
            self.fault("bad_time", f"{self._name} must be after 1990 and within a year from now.")
        else:
            return time.replace(microsecond=0)
        return None

    @property
    def _name(self) -> str:
        return f"'{self.steps[-1] if self.steps else 'data'}'"


def document(body: bytes, *, most_bytes: int = MOST_BYTES) -> At:
    """The place `/data` of a request.

    Raises:
        Refused: it is too large, no JSON, or holds no object at `/data`.
    """
    found = root(body, most_bytes=most_bytes)
    if not isinstance(found["data"].value, dict):
        raise Refused([Fault("/data", "bad_json", "The body must hold an object 'data'.")])
    return found["data"]


def root(body: bytes, *, most_bytes: int = MOST_BYTES) -> At:
    """All of a request.

    Raises:
        Refused: it is too large, or no JSON.
    """
    if len(body) > most_bytes:
        told = f"A request may have at most {most_bytes:,} bytes; this one has {len(body):,}."
        raise Refused([Fault("", "too_large", told)], status=413)
    try:
        return At(msgspec.json.decode(readable(body)))
    except Malformed as error:
        raise Refused([Fault("", error.reason, str(error))]) from None
    except (msgspec.MsgspecError, RecursionError) as error:
        found = unreadable(error)
        raise Refused([Fault(found.pointer, found.reason, str(found))]) from None


def whole(entries: Sequence[Entry | None], data: At) -> Intake:
    """All that a request holds; an entry is None where it has a fault.

    Raises:
        Refused: there is any fault; then nothing is taken.
    """
    if data.faults:
        raise Refused(data.faults)
    taken = tuple(entry for entry in entries if entry is not None)
    assert len(taken) == len(entries), "what was not taken has a fault"
    return Intake(rows=len(taken), entries=taken)


def a_year_after(time: Instant) -> Instant:
    """The same day and hour of the next year; the first of March for the 29th of February."""
    try:
        return time.replace(year=time.year + 1)
    except ValueError:
        return time.replace(year=time.year + 1, month=3, day=1)


def properties_of(at: At) -> msgspec.Raw:
    """The properties here as JSON, with a fault for each limit that they break."""
    if at.object(needed=True) is None or not at.value:
        return EMPTY
    encoded = msgspec.json.encode(at.value)
    is_within = (
        len(encoded) <= _SMALL_BYTES
        and encoded.count(b"{") + encoded.count(b"[") <= MOST_DEPTH
        and encoded.count(b":") <= MOST_PROPERTIES
        and _ODD.search(encoded) is None
    )
    if not is_within:
        check_properties(at)
    return msgspec.Raw(encoded)


def check_properties(at: At, *, most: int = MOST_PROPERTIES) -> None:
    """Note where properties are beyond a limit: how many, how long, how deep."""
    if isinstance(at.value, dict) and len(at.value) > most:
        at.fault("too_many", f"There may be at most {most} properties.")
    # breadth first, by a list of our own: no depth of theirs is a depth of ours
    waiting = [(at, 1)]
    while waiting and len(at.faults) < MOST_FAULTS:
        place, depth = waiting.pop()
        if isinstance(place.value, dict | list):
            if depth > MOST_DEPTH:
                place.fault("too_deep", f"Values may be nested at most {MOST_DEPTH} deep.")
            else:
                waiting.extend((one, depth + 1) for one in _inside(place))
        else:
            _check_plain(place)


def _inside(place: At) -> Iterator[At]:
    """What an object or list holds, where it could break a limit."""
    if isinstance(place.value, list) and len(place.value) > MOST_ELEMENTS:
        place.fault("too_many", f"A list may hold at most {MOST_ELEMENTS:,} elements.")
        return
    is_list = isinstance(place.value, list)
    for name, value in enumerate(place.value) if is_list else place.value.items():
        if "\0" in str(name):
            place.fault("bad_text", "A name may not hold NUL.")
        if isinstance(value, str | int | dict | list):
            yield place.inside(name, value)


def _check_plain(place: At) -> None:
    match place.value:
        case str() as text:
            # no character has more bytes than four
            if len(text) * 4 > MOST_STRING_BYTES and len(text.encode()) > MOST_STRING_BYTES:
                place.fault("too_large", f"A string may have at most {MOST_STRING_BYTES:,} bytes.")
            if "\0" in text:
                place.fault("bad_text", "A string may not hold NUL.")
        case int() as whole if abs(whole) >= _MOST_WHOLE:
            place.fault("bad_number", "A number is too large.")


def _instant(value: object) -> Instant | None:
    if not isinstance(value, str) or len(value) < len("2026-11-22"):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
