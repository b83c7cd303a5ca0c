"""Our own paths as an OpenAPI 3.1 document, from the structs that read and tell them.

What a field means is the comment beside it. Paths that other people's clients speak (Klaviyo's,
Segment's, RudderStack's, PostHog's) are in their documents, and left out of this one.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from habitue.serving.app import Route
from habitue.serving.contract.examples import example_of
from habitue.serving.contract.wanted import Parameter, declarations
from habitue.serving.replies import JSON, PROBLEM, Problem

Json: TypeAlias = dict[str, Any]

ABOUT = (
    "Our own paths. Those that Klaviyo's, Segment's, RudderStack's and PostHog's clients speak are"
    " not in here: they are as these clients' own documents say; docs/reference/http.md lists them."
)
LINES = "application/x-ndjson"
TEXT = "text/plain"
_REF = "#/components/schemas/{name}"
_FIELD = re.compile(r'^    (\w+): [^#\n]*(?:name="([\w-]+)"[^#\n]*)?  # (.*)$', re.MULTILINE)


def ours(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes that are in the document."""
    return tuple(one for one in routes if one.source == "native")


def document(routes: Iterable[Route]) -> Json:
    """The document of those of some routes that are ours."""
    told = ours(routes)
    schemas = _Schemas(told)
    paths: dict[str, Json] = {}
    for route in told:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "habitue", "version": "1", "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {"refused": _refused(schemas.of(Problem))},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Habitue-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


class _Schemas:
    """The schemas of all structs that some routes name."""

    def __init__(self, routes: Sequence[Route]) -> None:
        kinds = [route.reply for route in routes if _is_struct(route.reply)]
        kinds += [kind for route in routes for kind in (*route.body, route.refusal)]
        kinds = list(dict.fromkeys([Problem, *kinds]))
        told, self.components = msgspec.json.schema_components(
            [_without_raw(kind) for kind in kinds], ref_template=_REF
        )
        self._of = dict(zip(kinds, told, strict=True))
        for kind in _within(kinds):
            _explain(self.components[kind.__name__], kind)

    def of(self, kind: Any) -> Json:
        """The schema of a struct, or of what is none."""
        if kind in self._of:
            return self._of[kind]
        return {"type": "string"} if kind is str else {"type": "object"}


def _without_raw(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same struct with an object wherever it keeps JSON as it came; of that the library has no
    schema."""
    fields = msgspec.structs.fields(kind)
    if all(field.type is not msgspec.Raw for field in fields):
        return kind
    told: list[Any] = [
        (field.name, dict[str, Any], msgspec.field(default_factory=dict))
        if field.type is msgspec.Raw
        else (field.name, field.type, field.default)
        for field in fields
    ]
    forbids = kind.__struct_config__.forbid_unknown_fields
    return msgspec.defstruct(
        kind.__name__, told, kw_only=True, forbid_unknown_fields=forbids,
        namespace={"__doc__": kind.__doc__},
    )  # fmt: skip


def _operation(route: Route, schemas: _Schemas) -> Json:
    told: Json = {
        "operationId": route.name,
        "summary": route.about,
        "responses": _responses(route, schemas),
        "security": _security(route),
    }
    if route.parameters is not None:
        told["parameters"] = list(_parameters(route, route.parameters))
    if route.body:
        told["requestBody"] = {"required": True, "content": _content(route, schemas)}
    return told


def _security(route: Route) -> list[Json]:
    """The keys that a route takes, with the scope that a secret one of bounds needs."""
    scopes = [] if route.scope is None else [route.scope]
    return [] if route.open else [{"key": scopes}, {"bearer": scopes}]


def _responses(route: Route, schemas: _Schemas) -> Json:
    told = {str(route.status): _reply(route, schemas)}
    if route.refusal is not Problem:
        either = [schemas.of(route.refusal), schemas.of(Problem)]
        told["400"] = _refused({"anyOf": either})
    if route.tagged:
        told["304"] = {"description": "It is as `If-None-Match` says, an `ETag` that was told."}
    return told | {"default": {"$ref": "#/components/responses/refused"}}


def _reply(route: Route, schemas: _Schemas) -> Json:
    kind = TEXT if route.reply is str else JSON
    about = route.reply.__doc__ if _is_struct(route.reply) else "As it is now."
    return {
        "description": about.partition("\n")[0],
        "content": {kind: {"schema": schemas.of(route.reply)}},
    }


def _refused(schema: Json) -> Json:
    return {
        "description": "Why not, with every fault and its place (RFC 9457).",
        "content": {PROBLEM: {"schema": schema}},
    }


def _content(route: Route, schemas: _Schemas) -> Json:
    each = [schemas.of(kind) for kind in route.body]
    examples = {
        about: {"summary": f"{about[:1].upper()}{about[1:]}", "value": one}
        for about, one in example_of(route.name).bodies.items()
    }
    if not route.is_many:
        return {JSON: {"schema": each[0], "examples": examples}}
    schemas.components["Sent"] = {"anyOf": each}
    one = {"$ref": _REF.format(name="Sent")}
    several = {"type": "array", "items": one}
    within = {"type": "object", "required": ["events"], "properties": {"events": several}}
    lines = {"type": "string", "description": "one of these objects per line"}
    whole = {"anyOf": [one, several, within]}
    return {JSON: {"schema": whole, "examples": examples}, LINES: {"schema": lines}}


def _parameters(route: Route, kind: type[msgspec.Struct]) -> Iterable[Json]:
    meanings, example = meanings_of(kind), example_of(route.name).parameters
    for one in declarations(kind):
        where = "header" if one.is_header else "query"
        where = "path" if f"{{{one.name}}}" in route.path else where
        told: Json = {"name": one.name, "in": where}
        if one.is_required:
            told["required"] = True
        if one.name in example and not str(example[one.name]).startswith("{"):
            told["example"] = example[one.name]
        yield told | {"description": meanings[one.attribute], "schema": _schema(one, kind)}


def _schema(one: Parameter, kind: type[msgspec.Struct]) -> Json:
    schema = msgspec.json.schema(one.kind)
    if one.is_many:
        return {"type": "array", "items": schema}
    (field,) = (told for told in msgspec.structs.fields(kind) if told.name == one.attribute)
    has_default = field.default not in (msgspec.NODEFAULT, None)
    if one.is_required and schema == {"type": "string"}:
        schema = schema | {"minLength": 1}             # an empty part makes another path
    return schema | ({"default": field.default} if has_default else {})


def meanings_of(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """Of each field of a struct that has one: the comment beside it."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if _is_struct(one) and one is not msgspec.Struct:
            found |= {name: told for name, _, told in _FIELD.findall(inspect.getsource(one))}
    return found


def _explain(schema: Json, kind: type[msgspec.Struct]) -> None:
    """Write the meanings of a struct's fields into its schema; amounts may be numbers too."""
    meanings = meanings_of(kind)
    for name, told in schema.get("properties", {}).items():
        if name in meanings:
            told["description"] = meanings[name]
    _loosen(schema)


def _loosen(schema: Any) -> None:
    """Let a decimal be a number, as it is read: the library's schema has it as text alone."""
    for one in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(one, (dict, list)):
            if isinstance(one, dict) and one.get("format") == "decimal":
                one["type"] = ["string", "number"]
            _loosen(one)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _within(kinds: Iterable[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """Some structs, and those that their fields hold."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting = list(kinds)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found[one] = None
            waiting += [
                inner for field in msgspec.structs.fields(one) for inner in _structs_in(field.type)
            ]
    return list(found)


def _structs_in(kind: Any) -> Iterable[type[msgspec.Struct]]:
    if _is_struct(kind):
        yield kind
    for inner in getattr(kind, "__args__", ()):
        yield from _structs_in(inner)
