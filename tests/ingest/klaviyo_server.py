"""A server that shows a shop's past as Klaviyo's read API does, with its quirks and failures."""

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

API_KEY = "pk_test"


@dataclass
class Klaviyo:
    """What the account holds, and how the server behaves."""

    metrics: dict[str, str] = field(default_factory=dict)          # id -> name
    profiles: list[dict[str, Any]] = field(default_factory=list)   # resources
    events: list[dict[str, Any]] = field(default_factory=list)     # resources, by datetime
    items: list[dict[str, Any]] = field(default_factory=list)
    most: int = 3                          # resources on a page, however many are asked for
    failures: list[int] = field(default_factory=list)              # statuses of the next answers
    dies_at: str | None = None             # the end of an events' cursor; it breaks there once
    stale: set[str] = field(default_factory=set)                   # cursors that are no more
    asked: list[str] = field(default_factory=list)                 # path?query of every question
    limit: str = "350, 350;w=1, 3500;w=60"

    def metric(self, name: str) -> str:
        """The id of a metric, made where it is new."""
        for known, held in self.metrics.items():
            if held == name:
                return known
        self.metrics[f"M{len(self.metrics)}"] = name
        return f"M{len(self.metrics) - 1}"

    def profile(self, profile_id: str, **attributes: Any) -> None:
        empty = dict.fromkeys(
            ("email", "phone_number", "external_id", "first_name", "last_name", "image")
        )
        told = {"created": "2026-01-01T00:00:00+00:00", "updated": "2026-10-01T00:00:00+00:00"}
        self.profiles.append(
            {
                "type": "profile",
                "id": profile_id,
                "attributes": {**empty, **told, "location": {"city": None}, **attributes},
            }
        )

    def event(self, name: str, profile_id: str, when: str, **properties: Any) -> None:
        number = len(self.events)
        relations = {
            "metric": {"data": {"type": "metric", "id": self.metric(name)}},
            "profile": {"data": {"type": "profile", "id": profile_id}},
        }
        self.events.append(
            {
                "type": "event",
                "id": f"E{number}",
                "attributes": {
                    "timestamp": int(datetime.fromisoformat(when).timestamp()),
                    "event_properties": properties,
                    "datetime": when,
                    "uuid": f"00000000-0000-11f0-8001-{number:012}",
                },
                "relationships": relations,
            }
        )

    def item(self, external: str, **attributes: Any) -> None:
        shown = f"$custom:::$default:::{external}"
        told = {"external_id": external, "updated": "2026-09-01T00:00:00+00:00", **attributes}
        self.items.append({"type": "catalog-item", "id": shown, "attributes": told})


def application(klaviyo: Klaviyo) -> Starlette:
    """The account as a server."""

    def route(path: str, kind: str) -> Route:
        async def shown(request: Request) -> Response:
            return _answer(request, klaviyo, kind)

        return Route(path, shown)

    return Starlette(
        routes=[
            route("/api/metrics", "metrics"), route("/api/profiles", "profiles"),
            route("/api/events", "events"), route("/api/catalog-items", "items"),
        ]
    )  # fmt: skip


def _answer(request: Request, klaviyo: Klaviyo, kind: str) -> Response:
    klaviyo.asked.append(f"{request.url.path}?{request.url.query}")
    if request.headers.get("authorization") != f"Klaviyo-API-Key {API_KEY}":
        return _refused(401, "The API key is missing or wrong.")
    if not request.headers.get("revision"):
        return _refused(400, "A revision is needed.")
    if klaviyo.failures:
        status = klaviyo.failures.pop(0)
        return _refused(status, "Later.", {"Retry-After": "2"} if status == 429 else {})
    cursor = request.query_params.get("page[cursor]", "")
    if cursor in klaviyo.stale:
        return _refused(400, "Invalid cursor.")
    if kind == "events" and klaviyo.dies_at is not None and cursor.endswith(klaviyo.dies_at):
        klaviyo.dies_at = None
        return StreamingResponse(_cut_short(), media_type="application/vnd.api+json")
    return _page(request, klaviyo, kind, cursor)


async def _cut_short() -> AsyncIterator[bytes]:
    yield b'{"data": [{"type":'
    raise ConnectionAbortedError("the server dies in the middle of a page")


def _refused(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    error = {"id": "1", "status": status, "code": "error", "title": "Error.", "detail": detail}
    return JSONResponse({"errors": [error]}, status, headers=headers)


def _page(request: Request, klaviyo: Klaviyo, kind: str, cursor: str) -> Response:
    if kind == "metrics":
        held = [
            {"type": "metric", "id": known, "attributes": {"name": name}}
            for known, name in klaviyo.metrics.items()
        ]
    else:
        held = _filtered(getattr(klaviyo, kind), request.query_params.get("filter", ""))
    # an opaque token that holds characters which have to be encoded
    start = int(cursor.removeprefix("bmV4dDo6/+=").rstrip("=")) if cursor else 0
    end = start + klaviyo.most
    shown = held[start:end]
    body: dict[str, Any] = {"data": shown, "links": {"self": str(request.url), "next": None}}
    if end < len(held):
        kept = [
            f"{quote(name)}={quote(value)}"
            for name, value in request.query_params.items() if name != "page[cursor]"
        ]
        query = "&".join([*kept, f"page%5Bcursor%5D={quote(f'bmV4dDo6/+={end}', safe='')}"])
        # links name the server by the name that it has elsewhere
        body["links"]["next"] = f"https://a.klaviyo.example{request.url.path}?{query}"
    if "include" in request.query_params:
        body["included"] = _included(klaviyo, shown)
    return JSONResponse(body, headers={"RateLimit-Limit": klaviyo.limit})


def _filtered(held: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    shown = held
    for wish in [one for one in text.split("),") if one]:
        operator, _, rest = wish.partition("(")
        name, _, bound = rest.rstrip(")").partition(",")
        limit = datetime.fromisoformat(bound)
        verbs = {
            "less-than": lambda at, to: at < to, "greater-than": lambda at, to: at > to,
            "greater-or-equal": lambda at, to: at >= to,
        }  # fmt: skip
        shown = [
            one for one in shown
            if verbs[operator](datetime.fromisoformat(one["attributes"][name]), limit)
        ]  # fmt: skip
    return shown


def _included(klaviyo: Klaviyo, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = {one["relationships"]["profile"]["data"]["id"] for one in shown}
    metrics = {one["relationships"]["metric"]["data"]["id"] for one in shown}
    return [
        *(one for one in klaviyo.profiles if one["id"] in wanted),
        *(
            {"type": "metric", "id": one, "attributes": {"name": klaviyo.metrics[one]}}
            for one in sorted(metrics)
        ),
    ]


@contextlib.contextmanager
def served(application: Starlette) -> Iterator[str]:
    """The address of an application that runs in a thread until the end of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, log_level="critical", lifespan="off", ws="none", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
