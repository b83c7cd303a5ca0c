"""What a translator is told (`Door`) and what it returns (`Intake`)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from habitue.errors import HabitueError
from habitue.events import (
    EMPTY,
    ORDER_CANCELLED,
    ORDER_REFUNDED,
    Event,
    Instant,
    Noun,
    ProfileChange,
    Rejection,
)
from habitue.ingest.doors.faults import Fault, rejection
from habitue.lake.eventlog.records import Entry

FORBIDDEN = "forbidden_with_public_key"
TAKES_BACK = "an order is taken back with a secret key only"
CLEARS = "properties are cleared with a secret key only"
_TAKE_BACK = frozenset((ORDER_CANCELLED, ORDER_REFUNDED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """For whom, from whom and when a request is translated."""

    shop: str
    source: str                            # as in Event.source: "native", "klaviyo", "segment", …
    received: Instant
    secret: bytes                          # the shop's key for the surrogates of emails and phones
    names: Mapping[str, str] = field(default_factory=dict)  # the shop's own: source's -> canonical
    currency: str | None = None            # of amounts that name none
    public: bool = False                   # sent with a public key, which may do less


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What a request brought. Every input is in `entries` or in `rejections`, never in both."""

    rows: int                              # inputs
    entries: tuple[Entry, ...] = ()
    rejections: tuple[Rejection, ...] = ()


Translator: TypeAlias = Callable[[bytes, Door], Intake]


class Malformed(HabitueError, ValueError):
    """A whole request that cannot be read: no JSON, of the wrong shape, or beyond a limit."""

    def __init__(self, reason: str, detail: str, *, pointer: str = "", status: int = 400) -> None:
        super().__init__(detail)
        self.reason = reason               # from the vocabulary of Rejection.reason
        self.pointer = pointer             # a JSON pointer
        self.status = status               # of the HTTP reply


def takes_back(name: str) -> bool:
    """Whether an event of this canonical name undoes what a shop has sold."""
    return name in _TAKE_BACK


def check_public(nouns: Iterable[Noun], door: Door, faults: list[Fault]) -> None:
    """Find fault with what a public key says beyond what happens in a browser.

    Whoever visits a shop's pages can read that key: it may add to what is known of a customer, and
    take nothing away.
    """
    if not door.public:
        return
    for noun in nouns:
        match noun:
            case Event(name=name) if takes_back(name):
                faults.append(Fault("", FORBIDDEN, TAKES_BACK))
            case ProfileChange() if noun.clear or noun.unappend != EMPTY:
                faults.append(Fault("", FORBIDDEN, CLEARS))


def one_by_one(
    raws: Iterable[bytes], read: Callable[[bytes, list[Fault]], tuple[Noun, ...]], start: int = 0
) -> Intake:
    """What inputs become that are read one by one: each is taken, or refused for its first fault.

    `start`: the position of the first.
    """
    entries: list[Entry] = []
    rejections: list[Rejection] = []
    for position, raw in enumerate(raws, start):
        faults: list[Fault] = []
        became = read(raw, faults)
        if faults:
            rejections.append(rejection(position, faults[0], raw))
        else:
            entries.append(Entry(position, became))
    rows = len(entries) + len(rejections)
    return Intake(rows=rows, entries=tuple(entries), rejections=tuple(rejections))
