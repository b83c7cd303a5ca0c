"""A profile as Klaviyo shows it: its attributes, and those told only where they are asked for.

Klaviyo's client reads strictly: an attribute that is text there is text or null here, whatever the
shop told; and of what is kept as a property of ours the names are those that Klaviyo gives it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from habitue.events import EMPTY
from habitue.ingest.doors.klaviyo.lists import is_reserved
from habitue.lake.keys import external_of, kind_of
from habitue.serving.app import Asked
from habitue.serving.doors.klaviyo.wire.asking import MEDIUM, additional, fields, narrow
from habitue.serving.doors.klaviyo.wire.resources import resource, text
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.events import ProfileChange
    from habitue.lake.profiles import LiveProfile
    from habitue.serving.answers.book import Book

ADDITIONAL = ("subscriptions", "predictive_analytics")
_IDENTIFIERS = ("email", "phone_number", "external_id")
_TEXTS = (
    *_IDENTIFIERS, "first_name", "last_name", "organization", "locale",
    "title", "image",
)  # fmt: skip
FIELDS = (*_TEXTS, "created", "updated", "last_event_date", "location", "properties", *ADDITIONAL)
_PLACES = (
    "address1", "address2", "city", "country", "latitude", "longitude", "region", "zip",
    "timezone", "ip",
)  # fmt: skip
_NUMBERS = ("latitude", "longitude")
_CHANNELS = ("email", "sms")


def attributes_of(profile: "LiveProfile", now: datetime) -> dict[str, Any]:
    """A live profile in Klaviyo's attributes."""
    return _attributes(profile, profile.properties, now)


def attributes_after(
    profile: "LiveProfile | None", change: "ProfileChange", told: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The same as a request leaves them (none: nothing was known); `told` names the profile."""
    from habitue.lake.views.people import fold

    held = {"put": EMPTY if profile is None else profile.properties, "clear": [],
            "append": EMPTY, "unappend": EMPTY}  # fmt: skip
    changed = {"put": change.put, "clear": change.clear, "append": change.append,
               "unappend": change.unappend}  # fmt: skip
    found = _attributes(profile, fold([held, changed]), now)
    named = {name: _text(told[name]) for name in _IDENTIFIERS if told.get(name)}
    return found | named | {"updated": text(now)}


def _attributes(
    profile: "LiveProfile | None", properties: bytes, now: datetime
) -> dict[str, Any]:
    attributes: dict[str, Any] = dict.fromkeys(_TEXTS)
    attributes |= {
        "created": text(now), "updated": text(now), "last_event_date": None,
        "location": dict.fromkeys(_PLACES), "properties": {},
    }  # fmt: skip
    for name, value in _own(properties).items():
        if name in _TEXTS:
            attributes[name] = _text(value)
        elif name.removeprefix("location.") in _PLACES and name.startswith("location."):
            place = name.removeprefix("location.")
            attributes["location"][place] = value if place in _NUMBERS else _text(value)
        else:
            attributes["properties"][name.removeprefix("properties.")] = value
    if profile is None:
        return attributes
    external = [key for key in profile.keys if kind_of(key) == "external"]
    return attributes | {
        "email": profile.email, "phone_number": profile.phone,
        "external_id": external_of(external[0]) if external else None,
        "created": text(profile.created), "updated": text(profile.updated),
        "last_event_date": text(profile.last_event) if profile.last_event else None,
    }  # fmt: skip


def own_properties(profile: "LiveProfile") -> dict[str, Any]:
    """What a shop told of a customer, without the lists that they are on."""
    return _own(profile.properties)


def _own(properties: bytes) -> dict[str, Any]:
    told = msgspec.json.decode(properties, type=dict[str, Any])
    return {name: value for name, value in told.items() if not is_reserved(name)}


async def one_profile(
    asked: Asked, shown: str, attributes: Mapping[str, Any], held: "LiveProfile | None"
) -> dict[str, Any]:
    """The resource of one profile, with what the request wants of it."""
    wanted, more = wanted_of(asked)
    found = dict(attributes)
    if more:
        told: list[dict[str, Any]] = [_nothing(more)]
        if held is not None:
            told = await asked.service.reading.ask(lambda book: beside(asked, book, [held], more))
        found |= told[0]
    return profile_resource(asked, shown, found, wanted)


def wanted_of(
    asked: Asked, *, also: Sequence[str] = ()
) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The attributes of profiles that are wanted (none: all), and those beside them."""
    wanted = fields(asked, "profile", (*FIELDS, *also))
    more = additional(asked, "profile", ADDITIONAL)
    if "predictive_analytics" in more:
        asked.need("predictions:read")
        narrow(asked, "predictive", MEDIUM)
    return None if wanted is None else wanted | more, more


def beside(
    asked: Asked, book: "Book", profiles: "Sequence[LiveProfile]", more: frozenset[str]
) -> list[dict[str, Any]]:
    """Of each profile, what is told only where it is asked for."""
    found: list[dict[str, Any]] = [{} for _ in profiles]
    if "subscriptions" in more:
        for one, profile in zip(found, profiles, strict=True):
            one["subscriptions"] = _subscriptions(profile)
    if "predictive_analytics" in more:
        from habitue.lake.live.told import microseconds
        from habitue.serving.answers.analytics import analytics_of

        settings = book.settings(asked.service.place.lake(), asked.shop.name)
        now = microseconds(asked.service.now())
        for one, told in zip(found, analytics_of(book, settings, profiles, now), strict=True):
            one["predictive_analytics"] = told
    return found


def profile_resource(
    asked: Asked, shown: str, attributes: Mapping[str, Any], wanted: frozenset[str] | None
) -> dict[str, Any]:
    """A profile as a resource."""
    told = resource(asked, "profile", shown, attributes, wanted=wanted)
    base = told["links"]["self"]
    told["relationships"] = {
        name: {"links": {"self": f"{base}relationships/{name}/", "related": f"{base}{name}/"}}
        for name in ("lists", "segments")
    }
    return told


def no_profile() -> Refused:
    """That nobody of the shop has the id."""
    return Refused(404, "not_found", "A profile with that id does not exist.")


def _nothing(more: frozenset[str]) -> dict[str, Any]:
    """What is told beside of whom nothing is known yet."""
    return dict.fromkeys(more)


def _subscriptions(profile: "LiveProfile") -> dict[str, Any]:
    """Consent by channel: of whom none was told, they never subscribed."""
    found: dict[str, Any] = {}
    for channel in _CHANNELS:
        held = profile.consents.get(channel)
        status = None if held is None else held.status
        found[channel] = {
            "marketing": {
                f"can_receive_{channel}_marketing": status == "subscribed",
                "consent": _CONSENT.get(status or "", "NEVER_SUBSCRIBED"),
                "consent_timestamp": None if held is None else text(held.since),
                "last_updated": None if held is None else text(held.since),
                "method": None if held is None else held.method,
                "method_detail": "",
            }
        }
    return found


_CONSENT = {"subscribed": "SUBSCRIBED", "unsubscribed": "UNSUBSCRIBED"}


def _text(value: object) -> str | None:
    """A value where Klaviyo's client wants text."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
