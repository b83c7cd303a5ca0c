"""The examples of the document of our paths are sent as they stand, and answered as it says."""

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from habitue.serving.app import Route
from habitue.serving.contract.examples import EXAMPLES, Example, example_of
from habitue.serving.contract.openapi import document, ours
from habitue.serving.contract.wanted import declarations
from habitue.serving.doors.routes import ROUTES
from tests.scoring.small import CUTOFF
from tests.serving.scored import scored, scoring
from tests.serving.small import ListLog, Server, in_process

OURS = {one.name: one for one in ours(ROUTES)}
# whom and what the examples name, in the shop that is asked
NAMED = {"c_42": "c0000001", "mug": "i000001", "pot": "i000002", "tea": "i000003"}
# an answer of the question takes longer than a test has; metrics are for the operator's key
OTHERWISE = {"get_answers": 409, "get_metrics": 401}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("examples")
    with (
        scored(folder, CUTOFF) as scorer, in_process(folder, ListLog()) as running,
        scoring(scorer, folder), pytest.MonkeyPatch.context() as patch, opened(running) as client,
    ):  # fmt: skip
        patch.setattr("habitue.registry.Registry.aliases", lambda *_: {"champion": "v1"})
        yield client


def opened(server: Server) -> httpx.Client:
    return server.client()


def named(example: Example, told: dict[str, str]) -> Example:
    """An example about what the shop has, with what earlier answers told."""
    text = msgspec.json.encode(example).decode()
    for name, real in NAMED.items():
        text = text.replace(f'"{name}"', f'"{real}"')
    for operation, id in told.items():
        text = text.replace(f"{{{operation}}}", id)
    return msgspec.json.decode(text, type=Example)


def asks_by_id(name: str) -> bool:
    """Whether an example names what an earlier answer told."""
    return any(str(value).startswith("{") for value in example_of(name).parameters.values())


def sent(client: httpx.Client, route: Route, example: Example) -> list[httpx.Response]:
    """What each request of an example is answered; its parameters stand in the path or behind."""
    parameters, path = dict(example.parameters), route.path
    for name in list(parameters):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", str(parameters.pop(name)))
    bodies = [{"json": one} for one in example.bodies.values()] or [{}]
    return [client.request(route.method, path, params=parameters, **one) for one in bodies]


def test_every_example_is_answered_as_the_document_says(client: httpx.Client) -> None:
    told: dict[str, str] = {}
    # what is asked by the id of an answer comes after it
    for name in sorted(OURS, key=asks_by_id):
        route = OURS[name]
        for reply in sent(client, route, named(example_of(name), told)):
            assert reply.status_code == OTHERWISE.get(name, route.status), (name, reply.text)
            assert reply.headers.get("x-habitue-rejected", "0") == "0", (name, reply.text)
            if route.method == "POST":
                told[name] = reply.json()["id"]


def test_whatever_takes_something_has_an_example_of_it() -> None:
    assert set(EXAMPLES) <= set(OURS)
    for name, route in OURS.items():
        example = example_of(name)
        declared = declarations(route.parameters) if route.parameters else ()
        known = {one.name: one for one in declared}
        assert set(example.parameters) <= set(known), name
        assert {one for one in known if known[one].is_required} <= set(example.parameters), name
        assert bool(example.bodies) == bool(route.body), name
        assert all(
            isinstance(value, list) == known[one].is_many
            for one, value in example.parameters.items()
        ), name


def test_the_document_holds_them() -> None:
    paths = document(ROUTES)["paths"]
    told = {one["name"]: one.get("example")
            for one in paths["/v1/customers/{id}/predictions"]["get"]["parameters"]}  # fmt: skip
    assert told == {"id": "c_42", "question": ["churn", "next_order"],
                    "horizon_days": [30.0, 90.0], "at": None}  # fmt: skip
    content = paths["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["an order"]["value"]["name"] == "order_placed"
    (id,) = paths["/v1/receipts/{id}"]["get"]["parameters"]
    assert "example" not in id             # it names no receipt that there is
