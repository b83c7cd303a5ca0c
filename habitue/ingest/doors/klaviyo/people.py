"""Whom a profile object names, and what it says of them.

A profile's own attributes stand in `ProfileChange.put` under their names, `location` flattened as
`location.city`, so that one of its fields can change alone. Custom properties stand there under
theirs; one that is called like an attribute gets `properties.` in front.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from habitue.events import EMPTY, Noun, ProfileChange
from habitue.ingest.doors.faults import Fault
from habitue.ingest.doors.intake import CLEARS, FORBIDDEN, Door
from habitue.ingest.doors.keys import Names, Said, Who, identify, stitched
from habitue.ingest.doors.klaviyo.reading import At, check_properties

# in order of strength
IDENTIFIERS = {
    "external_id": "external",
    "email": "email",
    "phone_number": "phone",
    "anonymous_id": "anonymous",
    "id": "profile",
}
ATTRIBUTES = ("first_name", "last_name", "organization", "locale", "title", "image")
LOCATION = (
    "address1", "address2", "city", "country", "latitude", "longitude", "region", "zip",
    "timezone", "ip",
)
MOST_CUSTOM = 400                          # custom properties in one request


def who_is(profile: At, door: Door) -> Who | None:
    """Whom a profile resource names; None and a fault if nobody or somebody impossible."""
    attributes = profile["attributes"]
    # `_kx` is what Klaviyo's pages call a profile in a link
    named = profile["id"] if profile["id"].is_told else attributes["id"]
    named = named if named.is_told else attributes["_kx"]
    places = {
        "external": attributes["external_id"],
        "email": attributes["email"],
        "phone": attributes["phone_number"],
        "anonymous": attributes["anonymous_id"],
        "profile": named,
    }
    for place in places.values():
        if place.value == "" or (place.is_told and not isinstance(place.value, str)):
            place.fault("bad_identifier", "An identifier must be a string, and not empty.")
            return None
    found: list[Fault] = []
    names = Names(**{kind: place.value for kind, place in places.items()})
    who = identify(names, door, {kind: kind for kind in places}, found)
    if who is None and not found:
        profile.fault(
            "no_customer",
            "One of id, email, phone_number, external_id, anonymous_id or _kx is needed.",
        )
    for fault in found:
        places[fault.pointer].fault(fault.reason, fault.detail)
    return None if found else who


def told_of(profile: At, who: Who, said: Said, door: Door) -> Iterator[Noun]:
    """What a profile object says beside whom it names, if anything, and what identifies them."""
    change = change_of(profile, who.key, said, door)
    if change.clear or any(raw != EMPTY for raw in (change.put, change.append, change.unappend)):
        yield change
    yield from stitched(who, said, door)


def change_of(profile: At, customer: str, said: Said, door: Door) -> ProfileChange:
    """What a profile object sets, clears and extends: null clears, what is absent stays."""
    attributes = profile["attributes"]
    told = {**_attributes(attributes), **_custom(attributes["properties"])}
    patch = _patch(profile["meta"] if profile["meta"].is_told else attributes["meta"])
    cleared = [*(name for name, value in told.items() if value is None), *_unset(patch["unset"])]
    taken = _custom(patch["unappend"])
    if door.public and (cleared or taken):
        attributes.fault(FORBIDDEN, CLEARS)
    return ProfileChange(
        shop=door.shop,
        source=door.source,
        customer=customer,
        time=said.time,
        received=door.received,
        backfilled=said.backfilled,
        put=_raw({name: value for name, value in told.items() if value is not None}),
        clear=tuple(dict.fromkeys(cleared)),
        append=_raw(_custom(patch["append"])),
        unappend=_raw(taken),
    )


def attributes_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A customer's properties as a profile resource shows them; the inverse of `change_of`.

    >>> attributes_of({"first_name": "Ada", "location.city": "London", "properties.title": "x"})
    {'first_name': 'Ada', 'location': {'city': 'London'}, 'properties': {'title': 'x'}}
    """
    own: dict[str, Any] = {}
    location: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, value in properties.items():
        if name in ATTRIBUTES:
            own[name] = value
        elif name in _LOCATION_NAMES:
            location[name.removeprefix("location.")] = value
        else:
            custom[name.removeprefix("properties.")] = value
    return {**own, "location": location, "properties": custom}


_LOCATION_NAMES = frozenset(f"location.{name}" for name in LOCATION)
_TAKEN = _LOCATION_NAMES | frozenset(ATTRIBUTES)


def custom_name(name: str) -> str:
    """Under which name a custom property is kept."""
    return f"properties.{name}" if name in _TAKEN or name.startswith("properties.") else name


def _attributes(attributes: At) -> dict[str, Any]:
    """The profile's own attributes that are told: name -> value, None where it is null."""
    held = attributes.value if isinstance(attributes.value, dict) else {}
    told: dict[str, Any] = {name: attributes[name].text() for name in ATTRIBUTES if name in held}
    if "location" in held:
        location = attributes["location"]
        inside = location.object()
        fields = LOCATION if inside is None else [name for name in LOCATION if name in inside]
        told |= {f"location.{name}": _place(location[name]) for name in fields}
    return told


def _place(at: At) -> object:
    is_coordinate = at.pointer.endswith(("latitude", "longitude"))
    if is_coordinate and isinstance(at.value, int | float) and not isinstance(at.value, bool):
        return at.value
    return at.text()


def _custom(at: At) -> dict[str, Any]:
    held = at.object()
    if held is None:
        return {}
    check_properties(at, most=MOST_CUSTOM)
    return {custom_name(name): value for name, value in held.items()}


def _patch(meta: At) -> At:
    """What extends and takes from properties; it stands beside the attributes, or among them."""
    meta.object()
    meta["patch_properties"].object()
    if meta["patch_identifiers"].is_told:
        told = "Identifiers cannot be taken from a profile."
        meta["patch_identifiers"].fault("unknown_field", told)
    return meta["patch_properties"]


def _unset(at: At) -> list[str]:
    names = at.value if isinstance(at.value, list) else [at.value] if at.is_told else []
    if not all(isinstance(name, str) for name in names):
        at.fault("bad_json", "'unset' must be a property's name or a list of them.")
        return []
    return [custom_name(name) for name in names]


def _raw(told: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(told)) if told else EMPTY
