"""The application: which path leads where, and what becomes of errors.

`ROUTES` is all there is; docs/reference/http.md is written from it. A path is the same with and
without a slash at its end.
"""

import asyncio
import logging
import sqlite3
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from habitue.audit import Use, Uses, minute_of
from habitue.directory import Directory, Limit, ShopEntry
from habitue.errors import Busy, LogUnavailable
from habitue.ingest.doors.intake import Door, Malformed, Translator
from habitue.lake.eventlog.records import EventLog
from habitue.serving import bodies
from habitue.serving.auth import Caller, Keys, Windows, key_in_body, key_in_request
from habitue.serving.beside.settlement import Settlement
from habitue.serving.beside.underway import Underway
from habitue.serving.bodies import Gone, Room
from habitue.serving.collect import Collector, Kept, Origin, receipt_id
from habitue.serving.contract.packing import packed
from habitue.serving.doors.people import People
from habitue.serving.doors.scopes import scope_of
from habitue.serving.metrics import Counted, Metrics
from habitue.serving.replies import Problem, Refused, empty, refusal, refused_as, unavailable

if TYPE_CHECKING:
    from habitue.lake.tables import Lake
    from habitue.serving.doors.answers.reading import Reading

log = logging.getLogger(__name__)

_ANYONE = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Retry-After, RateLimit-Limit, RateLimit-Remaining,"
    " RateLimit-Reset, X-Habitue-Rejected",
}
_PREFLIGHT = _ANYONE | {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Content-Encoding, Authorization, Revision,"
    " X-Habitue-Key, X-Strict-Mode",
    "Access-Control-Max-Age": "86400",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The parts of a workspace that the service works with."""

    path: Path                             # the workspace's folder
    log: EventLog
    directory: Directory
    lake: "Callable[[], Lake]"             # opened when first needed, since that loads much

    @property
    def online(self) -> Path:
        """The folder of what lives only while the service does, or can be made anew."""
        return self.path / "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every request needs; made when the server starts."""

    place: Place
    keys: Keys
    collector: Collector
    settlement: Settlement
    people: People
    reading: "Reading"
    metrics: Metrics
    underway: Underway
    now: Callable[[], datetime]
    operator_key: str
    windows: Windows = field(default_factory=Windows)
    uses: Uses = field(default_factory=Uses)
    others: Callable[[], list[Counted]] = list       # what processes beside this one counted
    room: Room = field(default_factory=Room)
    strangers: Room = field(default_factory=partial(Room, most_bytes=128_000_000))   # no key yet
    klaviyo_limits: bool = False           # whether Klaviyo's own limits hold at its paths

    def counted(self) -> Metrics:
        """What this process counted, and those that answer at the same port."""
        total = Metrics()
        for one in (self.metrics.told(0, 0), *self.others()):
            total.add(one)
        return total


@dataclass(slots=True)
class Asked:
    """One request on its way: who asks, when it came, and what is to be said beside the answer."""

    request: Request
    service: Service
    route: "Route"
    received: datetime
    caller: Caller | None = None
    receipt: str = ""
    payload: bytes = b""                   # what was read of the body, to keep if it is refused
    headers: dict[str, str] = field(default_factory=dict)

    def authenticate(self, plain: str | None) -> Caller:
        """Whose key it is, and that this route and the key's limit let it in.

        Raises:
            Refused: they do not.
        """
        caller = self.service.keys.caller(plain, self.received)
        self.caller = caller
        self.receipt = receipt_id(caller.shop.secret, self.received)
        if caller.public and not self.route.public:
            raise Refused(
                403, "forbidden_with_public_key",
                "a public key may send and nothing else; use a secret key",
            )  # fmt: skip
        self.need(self.route.scope)
        limit = self.route.limit if self.service.klaviyo_limits else None
        own = caller.key.limit
        if own != Limit() or limit is None:
            self.headers.update(self.service.windows.take(caller.key.id, own))
        else:
            who = f"{caller.key.id} {self.route.path}"
            self.headers.update(self.service.windows.take(who, limit))
        return caller

    def need(self, scope: str | None) -> None:
        """Go on only if the key has a scope, or has no bounds.

        Raises:
            Refused: it lacks the scope.
        """
        assert self.caller is not None, "authenticate first"
        if not self.caller.public and not self.may(scope):
            told = f"the scope `{scope}`" if scope else "what only a key without scopes may do"
            refused = Refused(
                403, "missing_scope",
                f"this key lacks {told}; use one that has it, as `habitue keys create` makes them",
            )  # fmt: skip
            refused.is_kept = True         # nothing was read of what it must not send
            raise refused

    def may(self, scope: str | None) -> bool:
        """Whether a secret key has a scope, or has no bounds."""
        assert self.caller is not None, "authenticate first"
        return self.caller.key.may(scope)

    async def body(self, *, most_bytes: int) -> bytes:
        """The whole body, decompressed; where there is no key yet, it is looked for in there.

        Raises:
            Refused: it is too large, came too slowly, or no key is in it where one is needed.
        """
        told = key_in_request(self.request)
        if self.caller is None and told is not None:
            self.authenticate(told)
        room, who = self.service.strangers, str(self.request.client and self.request.client.host)
        if self.caller is not None:
            room, who = self.service.room, self.caller.shop.name
        self.payload = await bodies.whole(self.request, room, most_bytes=most_bytes, who=who)
        if self.caller is None:
            self.authenticate(key_in_body(self.payload))
        return self.payload

    async def take(self, body: bytes, translate: Translator) -> Kept:
        """Translate a body, or a part of one; return when all of it is on disk.

        Raises:
            Malformed: it cannot be read as a whole.
            Refused: the storage failed, or too much waits already.
        """
        self.payload = body
        work = partial(translate, body, self.door())
        kept = await self.service.collector.take(self.origin(), len(body), work)
        self.service.settlement.remember(self.receipt, kept.offsets)
        return kept

    @property
    def shop(self) -> ShopEntry:
        """The shop whose key the request carries."""
        assert self.caller is not None, "authenticate first"
        return self.caller.shop

    def door(self) -> Door:
        """What a translator is told."""
        assert self.caller is not None, "authenticate first"
        shop = self.caller.shop
        return Door(
            shop=shop.name, source=self.route.source, received=self.received, secret=shop.secret,
            names=shop.names.get(self.route.source, {}), currency=shop.currency,
            public=self.caller.public,
        )  # fmt: skip

    def origin(self) -> Origin:
        """What every part of the request says of it."""
        assert self.caller is not None, "authenticate first"
        return Origin(
            receipt=self.receipt, shop=self.caller.shop.name, source=self.route.source,
            origin=self.route.path, received=self.received,
        )  # fmt: skip


Endpoint = Callable[[Asked], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One thing that may be asked."""

    method: str
    path: str                              # without a slash at the end; {id} stands for a part
    endpoint: Endpoint
    public: bool = False                   # whether a public key is enough
    open: bool = False                     # whether no key is needed
    keyed_body: bool = False               # whether the key may be in the body
    source: str = "native"                 # as in Event.source
    limit: Limit | None = None             # Klaviyo's, per key and path
    # of our own: what is read of a request, and what is told (see contract/)
    parameters: type[msgspec.Struct] | None = None
    body: tuple[type[msgspec.Struct], ...] = ()            # any one of these
    is_many: bool = False                  # … or a list of them, or one per line
    reply: Any = None
    status: int = 200                      # of what is told where all is well
    refusal: type[msgspec.Struct] = Problem
    tagged: bool = False                   # whether an answer has a tag, to be asked for again by

    @property
    def name(self) -> str:
        """What it is called in the document of our paths."""
        return self.endpoint.__name__

    @property
    def scope(self) -> str | None:
        """What a secret key with bounds needs here; none: it does not suffice."""
        return scope_of(self.method, self.path, public=self.public)

    @property
    def about(self) -> str:
        """One sentence on what it does."""
        return (self.endpoint.__doc__ or "").strip().partition("\n")[0]


class Application:
    """The ASGI application."""

    def __init__(self, service: Service, routes: tuple[Route, ...]) -> None:
        self.service = service
        self._exact = {(one.method, one.path): one for one in routes if "{" not in one.path}
        self._patterns = [(one, one.path.split("/")) for one in routes if "{" in one.path]
        self._public = {one.path for one in routes if one.public}
        self._paths: dict[str, set[str]] = {}
        for one in routes:
            self._paths.setdefault(one.path, set()).add(one.method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing that goes wrong in it reaches the client as it is."""
        assert scope["type"] == "http", "the server is told to speak nothing else"
        began = time.monotonic()
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Gone:
            return                         # the server sees that nobody waits for an answer
        self.service.metrics.answered(
            response.status_code, time.monotonic() - began,
            is_read=request.method in ("GET", "HEAD"),
        )  # fmt: skip
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = str(request.scope["path"]).rstrip("/") or "/"
        asked: Asked | None = None
        try:
            route = self._route(request, path)
            if route is None:
                return empty(204, _PREFLIGHT if path in self._public else None)
            asked = Asked(request, self.service, route, self.service.now())
            if not route.open and not route.keyed_body:
                asked.authenticate(key_in_request(request))
            with self._told(asked):
                response = await route.endpoint(asked)
        except Gone:
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (told in other words)
            response = await self._refuse(_refused(error, path), asked, path)
        is_tagged = asked is not None and asked.route.tagged
        return await packed(request, self._dressed(response, asked), tagged=is_tagged)

    def _told(self, asked: Asked) -> AbstractContextManager[None]:
        """While it is answered, others know of a request that may be written."""
        if asked.route.method == "GET":
            return nullcontext()
        return self.service.underway.one(asked.received)

    def _route(self, request: Request, path: str) -> Route | None:
        """Where a request leads; None for a browser's question whether it may ask."""
        method = "GET" if request.method == "HEAD" else request.method
        found = self._exact.get((method, path))
        if found is not None:
            return found
        told = _parts(request, path)
        for route, parts in self._patterns:
            values = _matched(parts, told)
            if route.method == method and values is not None:
                request.scope["path_params"] = values
                return route
        methods = self._methods(path, told)
        if not methods:
            raise Refused(404, "not_found", "nothing is here; docs/reference/http.md lists all")
        if request.method == "OPTIONS":
            return None
        takes = ", ".join(sorted(methods))
        refused = Refused(405, "method_not_allowed", f"this takes {takes}")
        refused.headers["Allow"] = takes
        raise refused

    def _methods(self, path: str, told: list[str]) -> set[str]:
        methods = set(self._paths.get(path, ()))
        for route, parts in self._patterns:
            if _matched(parts, told) is not None:
                methods.add(route.method)
        return methods

    async def _refuse(self, refused: Refused, asked: Asked | None, path: str) -> Response:
        """Tell the client, after keeping what was refused where the shop is known."""
        if asked is not None and asked.caller is not None and _is_kept(refused, asked):
            try:
                await self.service.collector.keep_refusal(asked.origin(), refused, asked.payload)
            except Refused as unkept:
                refused = unkept
        return refusal(refused, path)

    def _dressed(self, response: Response, asked: Asked | None) -> Response:
        if asked is not None:
            if asked.caller is not None:
                self.service.uses.add(_use(asked, asked.caller, response.status_code))
            response.headers.update(asked.headers)
            if asked.route.public:
                response.headers.update(_ANYONE)
        return response


def _use(asked: Asked, caller: Caller, status: int) -> Use:
    """What is counted of a request: whose key, and which route, and nothing that stood in it."""
    route = f"{asked.route.method} {asked.route.path}"
    return Use(caller.shop.name, caller.key.id, route, status, minute_of(asked.received))


def _is_kept(refused: Refused, asked: Asked) -> bool:
    """Whether a refusal is of what was sent, and not of when or by what method."""
    # a question, a rule or an erasure that is refused is no input that was lost
    if asked.route.reply is not None and not asked.route.public:
        return False
    is_of_content = refused.status in {400, 403, 409, 413, 415, 422}
    return asked.route.method in {"POST", "PATCH"} and is_of_content and not refused.is_kept


def _parts(request: Request, path: str) -> list[str]:
    """The parts of a path; a slash within one of them is told as %2F."""
    raw = request.scope.get("raw_path") or quote(path).encode()
    return [unquote(one) for one in raw.decode("latin-1").rstrip("/").split("/")]


def _matched(parts: list[str], path: list[str]) -> Mapping[str, str] | None:
    """The values that stand in a path where the route has names; None if it is another path."""
    if len(parts) != len(path):
        return None
    values = {}
    for part, value in zip(parts, path, strict=True):
        if part.startswith("{") and value:
            values[part[1:-1]] = value
        elif part != value:
            return None
    return values


def _refused(error: BaseException, path: str) -> Refused:
    """What the client is told of whatever went wrong."""
    match error:
        case Refused():
            return error
        case Malformed():
            return refused_as(error)
        case LogUnavailable() | Busy():
            return unavailable("the storage cannot be used now; try again")
        case asyncio.CancelledError():     # the server was stopped and has waited long enough
            return unavailable("the service is stopping; send the same again")
        case sqlite3.OperationalError():   # no disk, no file handle, a lock: all of it passes
            _log_failure(error, path)
            return unavailable("the storage cannot be used now; try again")
        case Exception():
            _log_failure(error, path)
    return Refused(500, "error", "the service failed; try again later")


def _log_failure(error: Exception, path: str) -> None:
    """Where it failed and of what kind; the message may hold what a customer sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    log.error("failed path=%s kind=%s where=%s", path[:80], type(error).__name__, where)
