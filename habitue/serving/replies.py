"""What clients are told: answers as JSON, and refusals in the form that each client can read."""

import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from habitue.ingest.doors.intake import Malformed
from habitue.ingest.doors.klaviyo import problems as klaviyo
from habitue.ingest.doors.segment import TYPES as SEGMENT_TYPES

JSON = "application/json"
JSON_API = "application/vnd.api+json"
PROBLEM = "application/problem+json"       # RFC 9457
RETRY_SECONDS = 2                          # after a failure of ours that should pass

# Segment's clients fail on a refusal without `code` and `message`
_OTHERS = {f"/v1/{call}" for call in ("batch", *SEGMENT_TYPES)} | {"/batch", "/capture", "/i/v0/e"}

# status -> the code and title of Klaviyo's error objects
_TITLES = {
    400: ("invalid", "Invalid input."),
    401: ("not_authenticated", "Authentication credentials were not provided or are not valid."),
    403: ("permission_denied", "This key may not do that."),
    404: ("not_found", "Not found."),
    405: ("method_not_allowed", "Method not allowed."),
    408: ("timeout", "The request took too long to arrive."),
    409: ("duplicate_profile", "Conflict."),
    413: ("payload_too_large", "The request is too large."),
    415: ("unsupported_media_type", "Unsupported media type."),
    429: ("throttled", "Request was throttled."),
    503: ("service_unavailable", "The service cannot take this now."),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a request: what, and where."""

    detail: str
    pointer: str | None = None             # a JSON pointer into the body
    parameter: str | None = None           # … or the name of a parameter


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457)."""

    title: str                             # of the status
    status: int
    code: str                              # a word for programs: `bad_parameter`, `not_found`, …
    detail: str                            # what was wanted, what was found, what to do
    errors: list[Fault] = []               # each thing that is wrong
    type: str = "about:blank"


class Refused(Exception):
    """A request that gets no success; raised by whoever notices, told by the application."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        pointer: str = "",
        retry_seconds: int | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason               # from the vocabulary of Rejection.reason, or like it
        self.detail = detail               # what was wanted, what was found, what to do
        self.pointer = pointer             # a JSON pointer
        self.faults = list(faults)         # where there are several, or one of a parameter
        self.retry_seconds = retry_seconds
        self.headers: dict[str, str] = {}  # to be told beside
        self.is_kept = False               # whether what was refused is kept already
        self.body: bytes | None = None     # what Klaviyo's clients are told, if it is known already


def unavailable(detail: str) -> Refused:
    """A failure of ours that should pass: the client ought to send the same again."""
    return Refused(503, "unavailable", detail, retry_seconds=RETRY_SECONDS)


def refused_as(malformed: Malformed) -> Refused:
    """A request that its translator could not read, as its client is told."""
    refused = Refused(
        malformed.status, malformed.reason, str(malformed), pointer=malformed.pointer
    )
    if isinstance(malformed, klaviyo.Refused):
        refused.body = klaviyo.errors_body(malformed.problems)
    return refused


def is_strict(request: Request) -> bool:
    """Whether the client wants a refusal where any of its inputs was not taken."""
    return request.headers.get("x-strict-mode", "").strip() == "1"


def encoded(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None, kind: str = JSON
) -> Response:
    """A value as JSON."""
    return Response(
        msgspec.json.encode(value), status_code=status, headers=headers, media_type=kind
    )


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(status_code=status, headers=headers)


def refusal(refused: Refused, path: str) -> Response:
    """What the client of a path is told; no stack trace, nothing of ours."""
    headers = dict(refused.headers)
    if refused.retry_seconds is not None:
        headers["Retry-After"] = str(refused.retry_seconds)
    if refused.body is not None:
        return Response(refused.body, refused.status, headers, media_type=JSON_API)
    if is_klaviyo(path):
        return encoded(_json_api(refused), status=refused.status, headers=headers, kind=JSON_API)
    if is_of_other_clients(path):
        told = {"code": refused.reason, "message": refused.detail}
        told |= {"pointer": refused.pointer} if refused.pointer else {}
        return encoded(told, status=refused.status, headers=headers)
    return encoded(problem(refused), status=refused.status, headers=headers, kind=PROBLEM)


def problem(refused: Refused) -> Problem:
    """A refusal as our own paths tell it, every fault with its place."""
    at = [Fault(detail=refused.detail, pointer=refused.pointer)] if refused.pointer else []
    return Problem(
        title=HTTPStatus(refused.status).phrase, status=refused.status, code=refused.reason,
        detail=refused.detail, errors=refused.faults or at,
    )  # fmt: skip


def is_klaviyo(path: str) -> bool:
    """Whether whoever asks for a path reads error objects of JSON:API."""
    return path.startswith(("/api/", "/client/"))


def is_of_other_clients(path: str) -> bool:
    """Whether clients of Segment's, RudderStack's or PostHog's read what a path answers."""
    return path in _OTHERS


def _json_api(refused: Refused) -> object:
    code, title = _TITLES.get(refused.status, ("error", "The service failed."))
    source = {"pointer": refused.pointer} if refused.pointer else {}
    return {
        "errors": [
            {
                "id": secrets.token_hex(8), "status": refused.status, "code": code,
                "title": title, "detail": refused.detail, "source": source, "links": {},
                "meta": {"reason": refused.reason},
            }
        ]
    }  # fmt: skip
