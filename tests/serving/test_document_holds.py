"""Requests made up from the document of our paths: no failure of ours, and replies as it says."""

from collections.abc import Iterator

import pytest
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, settings
from schemathesis import openapi

from habitue.serving.contract.openapi import document
from habitue.serving.contract.wanted import declarations
from habitue.serving.doors.routes import ROUTES
from tests.scoring.small import CUTOFF
from tests.serving.scored import scored, scoring
from tests.serving.small import ListLog, Server, in_process

SCHEMA = openapi.from_dict(document(ROUTES))
# each input of a request is judged by itself, and told of in a receipt
BY_INPUT = {"/v1/events"}
# what no schema says: from the anchor on, which horizons are read, whose cursor it is; of a body,
# which of its members go together
BEYOND_SCHEMAS = {"/v1/customers/{id}/predictions", "/v1/customers/{id}/why"} | {
    route.path
    for route in ROUTES
    if route.parameters and "cursor" in {one.name for one in declarations(route.parameters)}
}
EXAMPLES = min(settings().max_examples // 2, 200)          # of each path
KNOWN = {"id": "c0000001", "item": "i000001"}


CHECKS = {one.__name__: one for one in schemathesis.checks.CHECKS.get_all()}


@schemathesis.serializer("application/x-ndjson")
def lines(context: object, value: object) -> bytes:
    """The text as it is."""
    del context
    return str(value).encode(errors="replace")


@SCHEMA.hook("map_path_parameters")
def name_what_is_there(context: object, path_parameters: dict[str, str]) -> dict[str, str]:
    """Every other request is about somebody, or something, that the shop has."""
    del context
    return {
        name: KNOWN[name] if name in KNOWN and len(value) % 2 else value
        for name, value in (path_parameters or {}).items()
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("document")
    with (
        scored(folder, CUTOFF) as scorer, in_process(folder, ListLog()) as running,
        scoring(scorer, folder), pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setattr("habitue.registry.Registry.aliases", lambda *_: {"champion": "v1"})
        yield running


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_a_path_answers_as_the_document_says(server: Server, case: schemathesis.Case) -> None:
    path, method = case.operation.path, case.operation.method.upper()
    left_out = [CHECKS["negative_data_rejection"]] if path in BY_INPUT else []
    if method != "GET" or path in BEYOND_SCHEMAS:
        left_out.append(CHECKS["positive_data_acceptance"])
    if path.endswith("/why") and "budget_ms" not in (case.query or {}):
        case.query = {**(case.query or {}), "budget_ms": "0"}  # or each would take half a second
    key = {"X-Habitue-Key": server.secret}
    case.call_and_validate(base_url=server.url, headers=key, excluded_checks=left_out)
