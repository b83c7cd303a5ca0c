"""Who asks: the key in every client's place, what it may do, and how often.

A public key is in a browser for all to see: it may send, and never read. Whoever has no key
learns nothing, not even which shops there are.
"""

import base64
import binascii
import ipaddress
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from starlette.requests import Request

from habitue.directory import PREFIXES, Directory, Key, Limit, ShopEntry
from habitue.serving.replies import Refused

_KEY_LENGTHS = {len(prefix) + 52 for prefix in PREFIXES.values()}
_MOST_WINDOWS = 100_000
LOOK_SECONDS = 0.1                         # between looks whether a key was revoked
_MOST_UNKNOWN = 10_000                     # wrong keys that are remembered as such
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request carries."""

    key: Key
    shop: ShopEntry

    @property
    def public(self) -> bool:
        """Whether the key may send and never read."""
        return self.key.kind == "public"


class Keys:
    """The directory as the service asks it: remembered until anyone changes it."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._watch = directory.watch()
        self._looked = time.monotonic()
        self._callers: dict[str, Caller | None] = {}

    def caller(self, plain: str | None, now: datetime) -> Caller:
        """Whose key this is.

        Raises:
            Refused: it is nobody's, was revoked, or its time is over.
        """
        self._look()
        if plain is None or len(plain) not in _KEY_LENGTHS:
            raise unknown_key()
        if plain not in self._callers:
            key = self._directory.key_for(plain)
            self._callers[plain] = (
                None if key is None else Caller(key, self._directory.shop(key.shop))
            )
        caller = self._callers[plain]
        if caller is None or caller.key.is_over(now):
            raise unknown_key()
        return caller

    def close(self) -> None:
        """Give the file back."""
        self._watch.close()

    def _look(self) -> None:
        """Forget what is remembered if the directory was changed, or if it is too much."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._watch.changed() or len(self._callers) > _MOST_UNKNOWN:
                self._callers.clear()


class Counts(Protocol):
    """How many requests were counted, by who asks, how long a window is, and which it is."""

    def alone(self) -> AbstractContextManager[None]:
        """Let nobody else count meanwhile."""
        ...

    def get(self, who: str, seconds: int, window: int) -> int:
        """How many were counted in a window."""
        ...

    def put(self, who: str, seconds: int, window: int, used: int) -> None:
        """Write down how many were counted in a window."""
        ...

    def close(self) -> None:
        """Give files back."""
        ...


class OwnCounts:
    """Counts of one process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}     # -> (which window, used)

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else counts."""
        return nullcontext()

    def get(self, who: str, seconds: int, window: int) -> int:
        """See `Counts`."""
        of, used = self._counts.get((who, seconds), (window, 0))
        return used if of == window else 0

    def put(self, who: str, seconds: int, window: int, used: int) -> None:
        """See `Counts`; those that are over are dropped when there are many."""
        self._counts[who, seconds] = window, used
        if len(self._counts) > _MOST_WINDOWS:
            self._counts = {
                key: told for key, told in self._counts.items()
                if key[1] != seconds or told[0] == window
            }  # fmt: skip

    def close(self) -> None:
        """Nothing is to be given back."""


class Windows:
    """Requests of each key in the second and the minute that run now: fixed windows."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, counts: Counts | None = None
    ) -> None:
        """The clock has to be the same in all processes that share `counts`."""
        self._now, self._counts = now, counts or OwnCounts()

    def take(self, who: str, limit: Limit) -> dict[str, str]:
        """Count one request; the headers that tell what is left, none where there is no limit.

        Raises:
            Refused: nothing is left in one of the windows; a refused request is not counted.
        """
        now = self._now()
        windows = [
            (seconds, most)
            for seconds, most in ((1, limit.per_second), (60, limit.per_minute))
            if most is not None
        ]
        if not windows:
            return {}
        with self._counts.alone():
            left = self._taken(who, windows, now)
        return _headers(left, now)

    def close(self) -> None:
        """Give files back."""
        self._counts.close()

    def _taken(
        self, who: str, windows: list[tuple[int, int]], now: float
    ) -> list[tuple[int, int, int]]:
        """What is left of each window after one more."""
        used = [self._counts.get(who, seconds, int(now // seconds)) for seconds, _ in windows]
        for held, (seconds, most) in zip(used, windows, strict=True):
            if held >= most:
                raise _throttled(seconds, now)
        for held, (seconds, _) in zip(used, windows, strict=True):
            self._counts.put(who, seconds, int(now // seconds), held + 1)
        return [
            (most - held - 1, seconds, most)
            for held, (seconds, most) in zip(used, windows, strict=True)
        ]


def unknown_key() -> Refused:
    """What everyone without a key is told, whatever they asked."""
    refused = Refused(
        401, "not_authenticated",
        "no key of a shop that is in force was found; it stands in `X-Habitue-Key`, `Authorization`"
        " or this client's own place",
    )  # fmt: skip
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused


def key_in_request(request: Request) -> str | None:
    """The key in the headers or the address, wherever one of the clients puts it."""
    told = request.headers.get("x-habitue-key")
    if told:
        return told.strip()
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "klaviyo-api-key" | "bearer":
            return value.strip()
        case "basic":
            return _user(value)
    return request.query_params.get("company_id")


class _WithKey(msgspec.Struct):
    """The members of a body in which Segment's and PostHog's clients put their key."""

    writeKey: str | None = None
    api_key: str | None = None
    token: str | None = None


_with_key = msgspec.json.Decoder(_WithKey)


def key_in_body(body: bytes) -> str | None:
    """The key that a body carries; None if it carries none or cannot be read."""
    try:
        told = _with_key.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return told.writeKey or told.api_key or told.token


def is_from_here(request: Request) -> bool:
    """Whether someone on this machine asks, with nobody in between, and means this machine.

    A web page can make its own name lead here, and its visitor's browser ask; that name is then
    what the browser calls this machine.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request.client.host) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _user(value: str) -> str | None:
    """The user of HTTP's basic authentication; the password is empty there."""
    try:
        user, _, _ = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user


def _headers(left: list[tuple[int, int, int]], now: float) -> dict[str, str]:
    remaining, seconds, _ = min(left)
    policy = ", ".join(f"{most};w={window}" for _, window, most in left)
    return {
        "RateLimit-Limit": f"{left[0][2]}, {policy}",
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(_until_next(seconds, now)),
    }


def _throttled(seconds: int, now: float) -> Refused:
    return Refused(
        429, "throttled", f"this key has no requests left in this window of {seconds} s",
        retry_seconds=_until_next(seconds, now),
    )  # fmt: skip


def _until_next(seconds: int, now: float) -> int:
    """Whole seconds until a new window begins, at least one."""
    return max(1, int(seconds - now % seconds) + 1 if seconds > 1 else 1)
