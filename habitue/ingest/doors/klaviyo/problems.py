"""What a refused request is told: `Problem`s, and the body that carries them, in Klaviyo's words.

Faults have our reasons; problems have Klaviyo's status, code and title, so that its clients read
them as they always did.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.intake import Malformed

MOST_PROBLEMS = 1_000                      # that one answer names


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error object of an answer."""

    status: int
    code: str                              # "invalid", "not_found", "duplicate_profile", …
    title: str
    detail: str
    pointer: str = ""                      # a JSON pointer into the request
    parameter: str = ""                    # or the name of a query parameter
    duplicate: str = ""                    # of a 409: the id of the profile that is there already


class Refused(Malformed):
    """A request of which nothing was taken, and every problem that it has."""

    def __init__(self, faults: Sequence[Fault], *, status: int = 400) -> None:
        first = faults[0]
        super().__init__(first.reason, first.detail, pointer=first.pointer, status=status)
        self.faults = tuple(faults)
        self.problems = tuple(problem_of(one, status) for one in faults[:MOST_PROBLEMS])


# reason -> (code, title), where these are not those of any other invalid input
_TOLD = {
    "bad_json": ("parse_error", "Invalid JSON."),
    "too_large": ("payload_too_large", "The request is too large."),
    "forbidden_with_public_key": ("permission_denied", "You do not have permission to do this."),
}
_INVALID = ("invalid", "Invalid input.")


def problem_of(fault: Fault, status: int = 400) -> Problem:
    """A fault as the client is told of it."""
    code, title = _TOLD.get(fault.reason, _INVALID) if status != 400 else _INVALID
    return Problem(
        status=status, code=code, title=title, detail=fault.detail, pointer=fault.pointer
    )


def duplicate_profile(profile_id: str) -> Problem:
    """That a profile with one of the identifiers is there already, under this id: status 409."""
    return Problem(
        status=409,
        code="duplicate_profile",
        title="Conflict.",
        detail="A profile already exists with one of these identifiers.",
        pointer="/data/attributes",
        duplicate=profile_id,
    )


def errors_body(problems: Sequence[Problem]) -> bytes:
    """The body of a refusal: `{"errors": […]}`, one object per problem.

    An error's id is made of what it says and of its place, so that it can be found in a log.
    """
    return msgspec.json.encode({"errors": [_told(*one) for one in enumerate(problems)]})


def _told(place: int, problem: Problem) -> dict[str, object]:
    content = f"{place}\0{problem}".encode(errors="replace")
    source = {"pointer": problem.pointer}
    if problem.parameter:
        source = {"parameter": problem.parameter}
    return {
        "id": str(UUID(bytes=hashlib.blake2b(content, digest_size=16).digest())),
        "status": problem.status,
        "code": problem.code,
        "title": problem.title,
        "detail": problem.detail,
        "source": source,
        "links": {},
        "meta": {"duplicate_profile_id": problem.duplicate} if problem.duplicate else {},
    }
