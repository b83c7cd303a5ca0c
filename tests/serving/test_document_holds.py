"""Requests made up from the document of our paths: no failure of ours, and replies as it says."""

from collections.abc import Iterator

import pytest
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, settings
from schemathesis import openapi

from habitue.scoring.scorer import Scorer
from habitue.serving.contract.openapi import document
from habitue.serving.doors.routes import ROUTES
from habitue.workspace import open_workspace
from tests.scoring.small import CUTOFF, source_of
from tests.scoring.test_scorer import Clock, scorer_of, steps
from tests.serving.small import ListLog, Server, in_process

SCHEMA = openapi.from_dict(document(ROUTES))
# each input of a request is judged by itself, and told of in a receipt
BY_INPUT = {"negative_data_rejection", "positive_data_acceptance"}
# … and what no schema says: one name of a customer, of an email; from the anchor on
BEYOND_SCHEMAS = {"positive_data_acceptance"}
NOT_HELD = {
    "/v1/events": BY_INPUT, "/v1/erasures": BEYOND_SCHEMAS,
    "/v1/customers/{id}/predictions": BEYOND_SCHEMAS,
}  # fmt: skip
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
    open_workspace(folder)
    source = source_of(folder)
    scorer: Scorer = scorer_of(source, Clock(CUTOFF), folder / "online")
    scorer.catch_up(source.lake)
    steps(scorer)
    scorer.close()
    with in_process(folder, ListLog()) as running:
        yield running


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_a_path_answers_as_the_document_says(server: Server, case: schemathesis.Case) -> None:
    left_out = [CHECKS[name] for name in NOT_HELD.get(case.operation.path, ())]
    key = {"X-Habitue-Key": server.secret}
    case.call_and_validate(base_url=server.url, headers=key, excluded_checks=left_out)
