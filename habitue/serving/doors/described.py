"""The document of our own paths, for programs: OpenAPI 3.1."""

from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from habitue.serving.app import Asked, Route


async def get_document(asked: Asked) -> Response:
    """Describe our own paths: OpenAPI 3.1, written from what reads and answers them."""
    return Response(written(), media_type="application/json")


@cache
def written() -> bytes:
    """The document as it is told, and kept in docs/reference."""
    from habitue.serving.contract.openapi import document
    from habitue.serving.doors.routes import ROUTES  # it names this route

    return msgspec.json.format(msgspec.json.encode(document(ROUTES)), indent=1)


ROUTES = (
    Route(
        method="GET", path="/openapi.json", endpoint=get_document, open=True,
        reply=dict[str, Any], tagged=True,
    ),
)  # fmt: skip
