"""A mapping: what the columns of a file mean, read from TOML."""

import codecs
import difflib
import re
import zoneinfo
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from habitue.errors import BadMapping

Kind = Literal["order_lines", "orders", "events", "items"]


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For each field the column that holds it, or a constant written "=GBP"."""

    customer: str | None = None
    order: str | None = None
    time: str | None = None
    item: str | None = None
    quantity: str | None = None
    unit_price: str | None = None
    currency: str | None = None
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    value: str | None = None
    event: str | None = None
    id: str | None = None
    properties: str | None = None


class Cancellation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which rows take an order back, and where they name it."""

    order_prefix: str                        # of the order number of such a row
    order: str | None = None                 # column that names the order taken back


class NotItems(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts in value but is nothing one can recommend."""

    codes: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()           # RE2, matched anywhere in the code


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rows of a file become events, orders or items."""

    kind: Kind
    fields: Fields
    source: str = "import"                   # events of two sources never count as repeats
    shop_timezone: str | None = None         # of times that name none
    time_format: str | None = None           # strptime, "epoch_seconds" or "epoch_milliseconds"
    encoding: str = "utf-8"                  # of CSV
    delimiter: str = ","                     # of CSV
    cancellation: Cancellation | None = None
    not_items: NotItems | None = None


FIELDS = Fields.__struct_fields__

_NEEDED: dict[Kind, tuple[str, ...]] = {
    "order_lines": ("order", "time", "item", "quantity", "unit_price", "currency"),
    "orders": ("customer", "time", "value", "currency"),
    "events": ("event", "time"),
    "items": ("item",),
}
_ALLOWED: dict[Kind, frozenset[str]] = {
    "order_lines": frozenset(
        {"customer", "order", "time", "item", "quantity", "unit_price", "currency"}
        | {"title", "category", "brand"}
    ),
    "orders": frozenset(
        {"customer", "order", "time", "value", "currency", "id", "properties"}
    ),
    "events": frozenset(FIELDS) - {"title", "category", "brand"},
    "items": frozenset(
        {"item", "time", "title", "category", "brand", "unit_price", "currency"}
    ),
}


def constant(column: str) -> str | None:
    """The constant that a field is set to, or None where it names a column.

    >>> constant("=GBP"), constant("currency")
    ('GBP', None)
    """
    return column.removeprefix("=") if column.startswith("=") else None


def columns_of(mapping: Mapping) -> dict[str, str]:
    """The column of every field that is read from the file, by field.

    >>> columns_of(Mapping(kind="items", fields=Fields(item="sku", currency="=GBP")))
    {'item': 'sku'}
    """
    named = {name: getattr(mapping.fields, name) for name in FIELDS}
    if mapping.cancellation is not None:
        named["cancelled_order"] = mapping.cancellation.order
    return {
        name: column
        for name, column in named.items()
        if column is not None and constant(column) is None
    }


def read_mapping(path: Path | str) -> Mapping:
    """The mapping in a TOML file; raises `BadMapping` naming the file, the key and what to do."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadMapping(f"cannot read the mapping {path}: {error.strerror}") from error
    return parse_mapping(content, name=str(path))


def parse_mapping(content: bytes | str, *, name: str = "the mapping") -> Mapping:
    """The mapping in TOML text; `name` is how messages call it."""
    try:
        tree = msgspec.toml.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMapping(f"{name} is not valid TOML: {error}") from error
    _check_keys(tree, name)
    try:
        mapping = msgspec.convert(tree, Mapping)
    except msgspec.ValidationError as error:
        raise BadMapping(f"{name}: {error}") from error
    _check(mapping, name)
    return mapping


def did_you_mean(wanted: str, known: Collection[str]) -> str:
    """A hint naming what was probably meant, and what there is.

    >>> did_you_mean("custmer", ["customer", "order"])
    'did you mean "customer"? (there are: customer, order)'
    """
    near = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    held = f"there are: {', '.join(known)}"
    return f'did you mean "{near[0]}"? ({held})' if near else held


def _check_keys(tree: dict, name: str) -> None:
    """Refuse unknown keys and kinds with what was probably meant, before anything is converted."""
    _known(tree, Mapping.__struct_fields__, "", name)
    for section, struct in (
        ("fields", Fields), ("cancellation", Cancellation), ("not_items", NotItems),
    ):
        held = tree.get(section, {})
        if not isinstance(held, dict):
            raise BadMapping(f"{name}: {section!r} must be a section, written [{section}]")
        _known(held, struct.__struct_fields__, f"{section}.", name)
    kinds = get_args(Kind)
    if "kind" not in tree:
        raise BadMapping(f'{name}: "kind" is missing; it is one of: {", ".join(kinds)}')
    if tree["kind"] not in kinds:
        hint = did_you_mean(str(tree["kind"]), kinds)
        raise BadMapping(f"{name}: there is no kind {tree['kind']!r}\nhint: {hint}")
    if "fields" not in tree:
        raise BadMapping(f'{name}: the section [fields] is missing; it says, e.g., time = "date"')


def _known(held: Iterable[str], known: Collection[str], prefix: str, name: str) -> None:
    for key in held:
        if key not in known:
            raise BadMapping(
                f"{name}: unknown key {prefix + key!r}\nhint: {did_you_mean(key, known)}"
            )


def _check(mapping: Mapping, name: str) -> None:
    """What the types cannot say."""
    given = {field for field in FIELDS if getattr(mapping.fields, field) is not None}
    needed = set(_NEEDED[mapping.kind])
    if given & {"value", "unit_price"}:
        needed.add("currency")
    if missing := [field for field in FIELDS if field in needed - given]:
        raise BadMapping(
            f"{name}: kind {mapping.kind!r} needs {_listed(missing)} under [fields]\n"
            'hint: name the column, or write a constant as "=GBP"'
        )
    if extra := [field for field in FIELDS if field in given - _ALLOWED[mapping.kind]]:
        raise BadMapping(f"{name}: kind {mapping.kind!r} has no use for {_listed(extra)}")
    for field in given:
        if not getattr(mapping.fields, field).strip().removeprefix("="):
            raise BadMapping(f'{name}: fields.{field} is empty; name a column or "=constant"')
    _check_cancellation(mapping, name)
    _check_formats(mapping, name)


def _check_cancellation(mapping: Mapping, name: str) -> None:
    if mapping.cancellation is None:
        return
    if mapping.kind not in ("order_lines", "orders") or mapping.fields.order is None:
        raise BadMapping(
            f"{name}: [cancellation] needs kind order_lines or orders, and fields.order"
        )
    if not mapping.cancellation.order_prefix:
        raise BadMapping(f"{name}: cancellation.order_prefix is empty; every order would match")


def _check_formats(mapping: Mapping, name: str) -> None:
    zone = mapping.shop_timezone
    if zone is not None and zone not in zoneinfo.available_timezones():
        near = difflib.get_close_matches(zone, zoneinfo.available_timezones(), n=3)
        raise BadMapping(
            f"{name}: shop_timezone {zone!r} is no time zone\n"
            f"hint: {', '.join(near) or 'names look like Europe/London'}"
        )
    try:
        codecs.lookup(mapping.encoding)
    except LookupError as error:
        raise BadMapping(f"{name}: {error}; encodings are named as utf-8 or latin-1") from error
    if len(mapping.delimiter) != 1:
        raise BadMapping(f"{name}: delimiter must be one character, not {mapping.delimiter!r}")
    currency = constant(mapping.fields.currency or "")
    if currency is not None and not re.fullmatch("[A-Z]{3}", currency):
        raise BadMapping(
            f"{name}: fields.currency is {currency!r}; three capital letters were wanted, as GBP"
        )
    for pattern in mapping.not_items.patterns if mapping.not_items else ():
        try:
            pc.match_substring_regex(pa.array([""]), pattern)      # RE2, as the lake matches
        except pa.ArrowInvalid as error:
            raise BadMapping(f"{name}: not_items.patterns {pattern!r}: {error}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
