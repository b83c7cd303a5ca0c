"""The parameters of a request for a list or a resource, each read or refused by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from habitue.directory import Limit
from habitue.ingest.doors.klaviyo.problems import Problem, errors_body
from habitue.serving.app import Asked
from habitue.serving.doors.klaviyo.wire.cursors import BadCursor, Place, place_of
from habitue.serving.doors.klaviyo.wire.filters import BadFilter, Filter, checked, parsed
from habitue.serving.replies import Refused

EXTRA_LARGE, LARGE, MEDIUM, SMALL = Limit(350, 3_500), Limit(75, 750), Limit(10, 150), Limit(3, 60)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for, in which order."""

    size: int
    by: str
    descending: bool
    after: Place | None                    # none: from the start

    @property
    def sort(self) -> str:
        """The order as it is asked for."""
        return f"{'-' if self.descending else ''}{self.by}"


def page(asked: Asked, *, default: int, most: int, sorts: Sequence[str], scope: str) -> Page:
    """The page that is asked for; the first of `sorts` is the order unless another is named."""
    told = asked.request.query_params.get("page[size]")
    if told is not None and not (
        told.isascii() and told.isdecimal() and len(told) <= 6 and 1 <= int(told) <= most
    ):
        raise refused("page[size]", f"'page[size]' is a whole number from 1 to {most}.")
    order = asked.request.query_params.get("sort") or sorts[0]
    by = order.removeprefix("-")
    if by not in {one.removeprefix("-") for one in sorts}:
        names = ", ".join(dict.fromkeys(one.removeprefix("-") for one in sorts))
        raise refused(
            "sort",
            f"'{order}' is no order of this list; there are {names}, each also with - before it.",
        )
    found = Page(int(told or default), by, order.startswith("-"), None)
    cursor = asked.request.query_params.get("page[cursor]")
    if not cursor:
        return found
    try:
        after = place_of(cursor, asked.shop.secret, f"{scope} {found.sort}")
    except BadCursor as error:
        raise refused("page[cursor]", str(error)) from None
    return Page(found.size, found.by, found.descending, after)


def filters(asked: Asked, known: Mapping[str, Sequence[str]]) -> tuple[Filter, ...]:
    """The filters of a request, all of them known."""
    text = asked.request.query_params.get("filter")
    if not text:
        return ()
    return filtered(lambda: checked(parsed(text), known))


def filtered(read: Callable[[], Found]) -> Found:
    """What is read of a filter, or its refusal."""
    try:
        return read()
    except BadFilter as error:
        detail = f"Invalid filter provided. {str(error)[:1].upper()}{str(error)[1:]}."
        raise refused("filter", detail, code="invalid_filter") from None


def fields(asked: Asked, kind: str, known: Sequence[str]) -> frozenset[str] | None:
    """The attributes of a kind of resource that are wanted; none: all."""
    told = _names(asked, f"fields[{kind}]")
    return None if told is None else frozenset(_known(told, f"fields[{kind}]", known))


def additional(asked: Asked, kind: str, known: Sequence[str]) -> frozenset[str]:
    """The attributes that are told only where they are asked for."""
    parameter = f"additional-fields[{kind}]"
    return frozenset(_known(_names(asked, parameter) or [], parameter, known))


def included(asked: Asked, known: Sequence[str]) -> frozenset[str]:
    """The related resources that are wanted beside."""
    return frozenset(_known(_names(asked, "include") or [], "include", known))


def refused(
    parameter: str, detail: str, *, code: str = "invalid", status: int = 400
) -> Refused:
    """A request that asks for what is not there, and the parameter that does."""
    found = Refused(status, code, detail, pointer=parameter)
    found.body = errors_body(
        [
            Problem(status=status, code=code, title=_title(status), detail=detail,
                    parameter=parameter)
        ]
    )  # fmt: skip
    return found


def _title(status: int) -> str:
    return "Invalid input." if status == 400 else f"{HTTPStatus(status).phrase}."


def wrong(pointer: str, detail: str) -> Refused:
    """A body that says what cannot be, and where."""
    return all_wrong([(pointer, detail)])


def all_wrong(
    faults: Sequence[tuple[str, str]], *, status: int = 400, code: str = "invalid"
) -> Refused:
    """A body that says several things that cannot be: the pointer of each, and why not."""
    pointer, detail = faults[0]
    found = Refused(status, code, detail, pointer=pointer)
    found.body = errors_body(
        [
            Problem(status=status, code=code, title=_title(status), detail=why, pointer=at)
            for at, why in faults
        ]
    )
    return found


def narrow(asked: Asked, what: str, limit: Limit) -> None:
    """Hold a request that costs more to a limit of its own.

    Raises:
        Refused: nothing is left of it.
    """
    assert asked.caller is not None, "authenticate first"
    if asked.service.klaviyo_limits and asked.caller.key.limit == Limit():
        who = f"{asked.caller.key.id} {asked.route.path} {what}"
        asked.headers.update(asked.service.windows.take(who, limit))


def _names(asked: Asked, parameter: str) -> list[str] | None:
    told = asked.request.query_params.get(parameter)
    return None if told is None else [one for one in told.split(",") if one]


def _known(told: Sequence[str], parameter: str, known: Sequence[str]) -> Sequence[str]:
    for one in told:
        if one not in known:
            raise refused(parameter, f"'{one}' is not known here; there are {', '.join(known)}.")
    return told
