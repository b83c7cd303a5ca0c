"""A request as the structs of its route read it, or every fault of it.

A field of `Route.parameters` is a part of the path where the path names it, a header where it is
written with a capital letter, and else a parameter of the address. A tuple's values may be told
one by one, or with commas. What no field takes is refused: it would be skipped in silence.
"""

import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from starlette.responses import Response

from habitue.ingest.doors.bodies import misfit, readable, unreadable
from habitue.ingest.doors.faults import escaped
from habitue.serving.app import Asked
from habitue.serving.replies import Fault, Refused, encoded

Wanted = TypeVar("Wanted", bound=msgspec.Struct)

KEY = "company_id"                         # where some clients put their key, at any path


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as it is declared."""

    name: str                              # as it is told
    attribute: str
    kind: Any                              # of one value, without None
    is_many: bool
    is_required: bool

    @property
    def is_header(self) -> bool:
        """Whether it is told in the head of a request."""
        return self.name[0].isupper()


def parameters(asked: Asked, kind: type[Wanted]) -> Wanted:
    """The parameters of a request.

    Raises:
        Refused: with every fault of theirs.
    """
    assert kind is asked.route.parameters, "the document tells what the route declares"
    query, path, head = asked.request.query_params, asked.request.path_params, asked.request.headers
    declared, found, faults = declarations(kind), {}, list[Fault]()
    for one in declared:
        if one.name in path:
            texts = [path[one.name]]
        else:
            texts = (head if one.is_header else query).getlist(one.name)
        if not texts:
            continue
        try:
            found[one.attribute] = _read(one, texts)
        except _Bad as error:
            faults.append(Fault(detail=f"`{one.name}` is {error}", parameter=one.name))
    names = [one.name for one in declared if not (one.name in path or one.is_header)]
    faults += _unknown((name for name in query if name != KEY), names)
    if faults:
        raise faulty("bad_parameter", faults)
    return kind(**found)


def declarations(kind: type[msgspec.Struct]) -> tuple[Parameter, ...]:
    """The parameters that a struct declares."""
    return _declarations(kind)


async def body(asked: Asked, kind: type[Wanted], *, most_bytes: int) -> Wanted:
    """The JSON object that a request carries.

    Raises:
        Malformed: it is no JSON.
        Refused: it is another object than is wanted, with every fault of its members.
    """
    assert asked.route.body == (kind,), "the document tells what the route declares"
    text = readable(await asked.body(most_bytes=most_bytes))
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error) from None
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        faults = _faults(told, kind) if isinstance(told, dict) else []
        raise faulty("bad_json", faults or [Fault(detail=str(error), pointer="")]) from None


def answer(asked: Asked, reply: object) -> Response:
    """What the route declares to answer, with the status that it declares."""
    declared = typing.get_origin(asked.route.reply) or asked.route.reply
    assert isinstance(reply, declared), "the document tells what the route declares"
    return encoded(reply, status=asked.route.status)


def faulty(reason: str, faults: Sequence[Fault]) -> Refused:
    """A refusal of all that is wrong with a request."""
    detail = "; ".join(one.detail for one in faults)
    return Refused(400, reason, detail, faults=faults)


def bad_parameter(name: str, detail: str) -> Refused:
    """A refusal of one parameter, whose value the declaration alone cannot judge."""
    return faulty("bad_parameter", [Fault(detail=detail, parameter=name)])


class _Bad(Exception):
    """A text that is not what a parameter takes; says what it takes."""


def _read(one: Parameter, texts: Sequence[str]) -> Any:
    if one.is_many:
        return tuple(_converted(text, one.kind) for many in texts for text in many.split(","))
    if len(texts) > 1:
        raise _Bad("told more than once")
    return _converted(texts[0], one.kind)


def _converted(text: str, kind: Any) -> Any:
    holder, is_strict = _holder(kind)
    try:
        return msgspec.convert({"value": text}, holder, strict=is_strict).value
    except msgspec.ValidationError:
        raise _Bad(words(kind)) from None


def words(kind: Any) -> str:
    """What a value has to be, in words.

    >>> words(typing.Literal["order", "churn"])
    'one of order, churn'
    >>> words(typing.Annotated[int, msgspec.Meta(ge=1, le=100)])
    'a whole number from 1 to 100'
    """
    match _info(kind):
        case inspect.LiteralType():        # as they are written; the library sorts them
            return f"one of {', '.join(map(str, typing.get_args(kind)))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() as told:
            return f"a whole number{_bounds(told)}"
        case inspect.FloatType() as told:
            return f"a number{_bounds(told)}"
        case inspect.DateTimeType():
            return "an instant with its zone: 2026-11-28T10:00:00Z"
        case inspect.StrType(min_length=least, max_length=most):
            return f"a text of {least or 0} to {most} characters" if most else "a text"
    raise AssertionError(f"no parameter is of the kind {kind}")


def _bounds(told: inspect.IntType | inspect.FloatType) -> str:
    low = f" above {told.gt:g}" if told.gt is not None else ""
    low = f" from {told.ge:g}" if told.ge is not None else low
    if told.le is None:
        return low
    return f"{low}, up to {told.le:g}" if told.gt is not None else f"{low} to {told.le:g}"


def _info(kind: Any) -> inspect.Type:
    return _infos(kind)


@cache
def _holder(kind: Any) -> tuple[Any, bool]:
    """A struct with one value, which is looked at once for all requests, and how to read it."""
    # a number is no instant, though a lax reader takes it for seconds since 1970
    is_strict = isinstance(_info(kind), inspect.DateTimeType)
    return msgspec.defstruct("Holder", [("value", kind)]), is_strict


@cache
def _infos(kind: Any) -> inspect.Type:
    found = inspect.type_info(kind)
    return found.type if isinstance(found, inspect.Metadata) else found


@cache
def _declarations(kind: type[msgspec.Struct]) -> tuple[Parameter, ...]:
    found = []
    for field in msgspec.structs.fields(kind):
        one = _without_none(field.type)
        is_many = typing.get_origin(one) is tuple
        found.append(
            Parameter(
                name=field.encode_name, attribute=field.name, is_many=is_many,
                kind=typing.get_args(one)[0] if is_many else one, is_required=field.required,
            )
        )  # fmt: skip
    return tuple(found)


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (one,) = (one for one in typing.get_args(kind) if one is not types.NoneType)
        return one
    return kind


def _unknown(told: Iterable[str], names: Sequence[str]) -> list[Fault]:
    known = f"there are {', '.join(names)}" if names else "there are none here"
    return [
        Fault(detail=f"no parameter `{name}` is known; {known}", parameter=name)
        for name in dict.fromkeys(told)
        if name not in names
    ]


def _faults(told: dict[str, Any], kind: type[msgspec.Struct]) -> list[Fault]:
    """What is wrong with the members of an object, one fault for each at most."""
    faults, fields = [], {one.encode_name: one for one in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name not in told:
            if field.required:
                faults.append(Fault(detail=f"`{name}` is missing", pointer=f"/{escaped(name)}"))
            continue
        try:
            msgspec.convert(told[name], field.type)
        except msgspec.ValidationError as error:
            detail, pointer = misfit(str(error))
            pointer = f"/{escaped(name)}{pointer}"
            faults.append(Fault(detail=f"`{name}`: {detail}", pointer=pointer))
    if kind.__struct_config__.forbid_unknown_fields:
        known = ", ".join(fields)
        faults += [
            Fault(detail=f"no member `{name}` is known; there are {known}",
                  pointer=f"/{escaped(name)}")
            for name in told if name not in fields
        ]  # fmt: skip
    return faults
