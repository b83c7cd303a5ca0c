"""The document of our own paths, and requests held to what it says."""

from collections.abc import Iterator
from typing import Annotated, Literal

import httpx
import msgspec
import pytest
from openapi_spec_validator import validate

from habitue.serving.app import Route
from habitue.serving.contract.openapi import document, meanings_of, ours
from habitue.serving.contract.wanted import declarations
from habitue.serving.doors.routes import ROUTES
from tests.serving.small import ListLog, Server, in_process

OURS = ours(ROUTES)


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with in_process(tmp_path_factory.mktemp("contract"), ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def test_the_document_is_served_to_anyone_and_valid(server: Server) -> None:
    with server.client(None) as anyone:
        told = anyone.get("/openapi.json").raise_for_status().json()
    validate(told)
    # as it is written: a tuple is a list there
    assert told == msgspec.json.decode(msgspec.json.encode(document(ROUTES)))


@pytest.mark.parametrize("route", OURS, ids=named)
def test_every_path_of_ours_is_in_it_with_what_it_answers(route: Route) -> None:
    told = document(ROUTES)["paths"][route.path][route.method.lower()]
    assert told["responses"][str(route.status)]["content"]
    assert route.reply is not None, "a route of ours declares its reply"
    in_path = {part[1:-1] for part in route.path.split("/") if part.startswith("{")}
    assert {one["name"] for one in told.get("parameters", []) if one["in"] == "path"} == in_path


@pytest.mark.parametrize(
    "kind",
    dict.fromkeys(
        kind for route in OURS for kind in (route.parameters, *route.body, route.reply)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ),
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_what_is_declared_says_what_it_means(kind: type[msgspec.Struct]) -> None:
    assert kind.__doc__
    assert set(meanings_of(kind)) <= {field.name for field in msgspec.structs.fields(kind)}
    for route in OURS:
        if route.parameters is kind:
            assert set(meanings_of(kind)) == {one.attribute for one in declarations(kind)}


def test_other_peoples_paths_are_in_other_peoples_documents() -> None:
    told = document(ROUTES)["paths"]
    assert not [path for path in told if path.startswith(("/api/", "/client/"))]
    assert "/v1/track" not in told


def test_every_fault_of_a_request_is_told_with_its_parameter(client: httpx.Client) -> None:
    query = {"question": "gender", "horizon_days": ["3", "soon"], "at": "2026-11-28", "far": "4"}
    refused = client.get("/v1/customers/x/predictions", params=query)
    told = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.status_code, told["status"], told["title"]) == (400, 400, "Bad Request")
    assert {one["parameter"]: one["detail"] for one in told["errors"]} == {
        "question": "`question` is one of order, churn, orders, revenue, next_order",
        "horizon_days": "`horizon_days` is a number above 0, up to 730",
        "at": "`at` is an instant with its zone: 2026-11-28T10:00:00Z",
        "far": "no parameter `far` is known; there are question, horizon_days, at",
    }


def test_every_fault_of_a_body_is_told_with_its_pointer(client: httpx.Client) -> None:
    refused = client.post("/v1/erasures", json={"customer": 3, "email": [], "a/b": 1})
    assert refused.status_code == 400
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/customer", "/email", "/a~1b"]
    for body in (b"", b"{", b"\xff", b"[" * 10_000):
        assert client.post("/v1/erasures", content=body).json()["status"] == 400
    assert client.post("/v1/erasures", content=b"[]").json()["errors"][0]["pointer"] == ""


def test_a_refusal_says_what_would_have_been_let_in(server: Server, client: httpx.Client) -> None:
    refused = client.put("/v1/erasures")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    with server.client(None) as nobody:
        assert nobody.get("/v1/erasures").headers["www-authenticate"] == "Bearer"
    assert client.post("/v1/erasures", json={}).json()["errors"][0]["pointer"] == ""


def test_a_client_of_segment_reads_a_code_and_a_message(client: httpx.Client) -> None:
    refused = client.post("/v1/track", content=b"{")
    assert set(refused.json()) >= {"code", "message"}


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Every kind of parameter there is."""

    few: Annotated[int, msgspec.Meta(ge=1)] = 1            # of them
    which: Literal["a", "b"] | None = None                 # one
    many: tuple[str, ...] = ()                             # some
    head: str = msgspec.field(default="", name="X-Head")   # of the request


def test_a_parameter_is_described_as_it_is_read() -> None:
    async def get(_: object) -> None:
        """Get it."""

    route = Route(method="GET", path="/x", endpoint=get, parameters=Taken, reply=Taken)
    (told,) = (one["get"] for one in document([route])["paths"].values())
    assert [(one["name"], one["in"], one["schema"]) for one in told["parameters"]] == [
        ("few", "query", {"type": "integer", "minimum": 1, "default": 1}),
        ("which", "query", {"enum": ["a", "b"]}),
        ("many", "query", {"type": "array", "items": {"type": "string"}}),
        ("X-Head", "header", {"type": "string", "default": ""}),
    ]
    assert [one["description"] for one in told["parameters"]] == [
        "of them", "one", "some", "of the request",
    ]  # fmt: skip
