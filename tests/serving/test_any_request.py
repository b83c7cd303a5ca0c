"""Whatever is asked, by whichever path, with whatever beside: an answer or a refusal."""

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue.serving.contract.packing import has_already, takes_gzip
from habitue.serving.contract.wanted import declarations
from habitue.serving.doors.klaviyo.wire.cursors import BadCursor, place_of
from habitue.serving.doors.routes import ROUTES
from tests.serving.small import ListLog, Server, in_process

SLOW = settings(suppress_health_check=list(HealthCheck))
# what clients let one send
HEADER = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E)
    | st.characters(min_codepoint=0xA1, max_codepoint=0xFF),
    max_size=20,
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
BODIES = (
    st.binary(max_size=60)
    | st.sampled_from([b"{}", b"[]", b"null", b'{"data":{}}', b'{"question":"did x in 3 days"}'])
    | st.dictionaries(TEXT, TEXT, max_size=3).map(msgspec.json.encode)
)
NAMES = sorted(
    {one.name for route in ROUTES if route.parameters for one in declarations(route.parameters)}
    | {"filter", "sort", "page[size]", "page[cursor]", "fields[profile]", "include", "company_id"}
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with in_process(tmp_path_factory.mktemp("any"), ListLog()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def anyone(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as opened:
        yield opened


def answered(told: httpx.Response) -> None:
    """No failure of ours; 503 is that the service cannot do it now, and is told so."""
    assert told.status_code < 500 or told.status_code == 503, told.text
    if told.status_code >= 400:
        body = told.json()
        assert body.get("detail") or body.get("message") or body["errors"][0]["detail"]


@SLOW
@given(
    route=st.sampled_from(ROUTES), part=TEXT.filter(bool), query=st.dictionaries(
        st.sampled_from(NAMES) | TEXT, TEXT | st.sampled_from(["1", "true", "-1", "nan", "a,b"]),
        max_size=3,
    ),
    body=BODIES,
)  # fmt: skip
def test_any_query_and_body_are_answered_or_refused(client, route, part, query, body):
    path = "/".join(
        quote(part, safe="") if one.startswith("{") else one for one in route.path.split("/")
    )
    sent = None if route.method == "GET" else body
    answered(client.request(route.method, f"{path}?{urlencode(query)}", content=sent))


@SLOW
@given(
    route=st.sampled_from(ROUTES),
    headers=st.dictionaries(
        st.sampled_from(
            ["Authorization", "X-Habitue-Key", "Content-Type", "Content-Encoding", "Origin",
             "Accept-Encoding", "If-None-Match", "X-Strict-Mode", "Revision", "X-Forwarded-For"]),
        HEADER | st.sampled_from(["Basic !!!", "Bearer", "Klaviyo-API-Key x", "gzip", "*", "zstd"]),
        max_size=4,
    ),
    body=BODIES,
)  # fmt: skip
def test_any_headers_are_answered_or_refused(anyone, route, headers, body):
    told = anyone.request(
        route.method, route.path.replace("{id}", "x").replace("{item}", "x"),
        headers={name: value.encode("latin-1") for name, value in headers.items()},
        content=None if route.method == "GET" else body,
    )  # fmt: skip
    answered(told)


@given(told=TEXT | HEADER, tag=HEADER)
def test_any_tags_and_encodings_are_read(told, tag):
    assert has_already(told, tag) in (True, False)
    assert takes_gzip(told) in (True, False)


@given(told=TEXT)
def test_any_cursor_that_was_not_given_is_refused(told):
    with pytest.raises(BadCursor):
        place_of(told, b"secret", "ours /v1/customers/c/timeline")
