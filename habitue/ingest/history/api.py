"""One page after another of a JSON:API that limits how often it is asked, such as Klaviyo's.

The clock and the pause are arguments. A 429 is obeyed to the second it names; a failure of the
other side is tried again, each time after twice the pause; the API key goes to one server only.
"""

import http.client
import logging
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

import msgspec

from habitue.errors import NoAnswer

log = logging.getLogger(__name__)

REVISION = "2026-10-15"                    # of Klaviyo's API that is spoken here
MOST_TRIES = 8                             # of one page; with their pauses about a minute
FEW_TRIES = 3                              # where nobody has answered yet, and nobody is there
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0
_TIMEOUT_SECONDS = 60.0
_MOST_BYTES = 512 * 1024 * 1024            # of one answer; 1,000 events of 5 MB are never seen
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})

Pause = Callable[[float], None]            # waits so many seconds
Clock = Callable[[], float]                # seconds since some instant


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: its resources, those they refer to, and where the next one is."""

    resources: list[dict[str, Any]]
    included: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)   # (type, id)
    following: str | None = None           # the query of the next page; None: this is the last


class Api:
    """One server, asked page by page at the pace that it allows."""

    def __init__(self, url: str, api_key: str, *, pause: Pause, clock: Clock) -> None:
        """`url` is the server's address without a path, such as https://a.klaviyo.com."""
        self.url = url.rstrip("/")
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise NoAnswer(f"{url} is no address of a server\nhint: https://a.klaviyo.com")
        self._headers = {
            "Authorization": f"Klaviyo-API-Key {api_key}",
            "revision": REVISION,
            "Accept": "application/vnd.api+json",
            "User-Agent": "habitue",
        }
        self._pause, self._clock = pause, clock
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._not_before = 0.0             # by the clock, when the next question may be asked
        self._is_there = False             # whether the server ever answered

    def page(self, path: str, query: str) -> Page:
        """One page of a collection; `query` is encoded already.

        Raises:
            NoAnswer: the server refuses the question, or does not answer it after many tries.
        """
        tries, most, told = 0, MOST_TRIES, ""
        headers: Mapping[str, str] = {}
        while tries < most:
            if told:
                pause = _pause_of(tries - 1, headers)
                log.warning(
                    "no answer path=%s told=%r try=%d of=%d wait_seconds=%.1f",
                    path, told, tries, most, pause,
                )  # fmt: skip
                self._wait(pause)
            self._keep_pace()
            tries, headers = tries + 1, {}
            try:
                status, headers, body = self._ask(f"{self.url}{path}?{query}")
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                reason = getattr(error, "reason", error)
                is_gone = isinstance(reason, (socket.gaierror, ConnectionRefusedError))
                most = FEW_TRIES if is_gone and not self._is_there else MOST_TRIES
                told = f"{reason}" or type(reason).__name__
                continue
            self._is_there = True
            self._note_pace(headers)
            if status not in _PASSING:
                return self._read(status, body, path)
            most, told = MOST_TRIES, f"status {status}"
        raise NoAnswer(
            f"{self.url}{path} did not answer after {tries} tries: {told}\n"
            "hint: run the same command later; it goes on where it stopped"
        )

    def _ask(self, address: str) -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(address, headers=self._headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return answer.status, _lower(answer.headers), answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            with error:                    # an answer, too: of another status
                return error.code, _lower(error.headers), error.read(_MOST_BYTES)

    def _read(self, status: int, body: bytes, path: str) -> Page:
        if status in (401, 403):
            raise NoAnswer(
                f"{self.url}{path} refuses this API key: {_detail(body)}\n"
                "hint: a private key that may read events, metrics, profiles and catalogs is needed"
            )
        if status != 200:
            raise NoAnswer(f"{self.url}{path} answered {status}: {_detail(body)}", status=status)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise NoAnswer(f"{self.url}{path} answered no page of JSON:API: {error}") from None
        included = {
            (str(one.get("type")), str(one.get("id"))): one for one in answer.included or ()
        }
        return Page(answer.data, included, _query_of(answer.links.next))

    def _keep_pace(self) -> None:
        self._wait(self._not_before - self._clock())

    def _note_pace(self, headers: Mapping[str, str]) -> None:
        """Ask as often as the longest window allows on average, and no more than is left of it."""
        now = self._clock()
        self._not_before = now + pace_seconds(headers.get("ratelimit-limit", ""))
        if headers.get("ratelimit-remaining", "").strip() == "0":
            reset = _seconds(headers.get("ratelimit-reset")) or 0.0
            self._not_before = max(self._not_before, now + min(reset, _LONGEST_PAUSE_SECONDS))

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._pause(seconds)


def pace_seconds(limit: str) -> float:
    """Seconds between two questions, from a RateLimit-Limit header; 0 where it tells none.

    >>> pace_seconds("75, 75;w=1, 750;w=60")
    0.08
    """
    windows = re.findall(r"(\d+)\s*;\s*w=(\d+)", limit)
    longest = max(windows, key=lambda one: int(one[1]), default=None)
    if longest is None or int(longest[0]) == 0:
        return 0.0
    return min(int(longest[1]) / int(longest[0]), _LONGEST_PAUSE_SECONDS)


class _Links(msgspec.Struct, frozen=True):
    next: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[dict[str, Any]]
    included: list[dict[str, Any]] | None = None
    links: _Links = _Links()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The API key must not follow to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Message,
        newurl: str,
    ) -> None:  # fmt: skip
        """No redirect is followed; it becomes an answer of its own status."""


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _query_of(link: str | None) -> str | None:
    """The query of a link, whatever server it names: the next page is asked of ours."""
    return urllib.parse.urlsplit(link).query or None if link else None


def _pause_of(attempt: int, headers: Mapping[str, str]) -> float:
    wanted = _seconds(headers.get("retry-after"))
    if wanted is None:
        wanted = _FIRST_PAUSE_SECONDS * 2**attempt
    return min(wanted, _LONGEST_PAUSE_SECONDS)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip().isdecimal() else None


def _detail(body: bytes) -> str:
    """What an error object says, cut; the key is in none of it."""
    try:
        return "; ".join(
            str(one.get("detail")) for one in msgspec.json.decode(body)["errors"]
        )[:500]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError,
            AttributeError):
        return body[:200].decode(errors="replace")
