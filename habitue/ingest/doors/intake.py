"""What a translator is told (`Door`) and what it returns (`Intake`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from habitue.errors import HabitueError
from habitue.events import Instant, Rejection
from habitue.lake.eventlog.records import Entry


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
