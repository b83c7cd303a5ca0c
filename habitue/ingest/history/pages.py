"""What a page of Klaviyo's read API says, by the same translators as the live door's.

Two things the read API tells otherwise. It shows a profile as it is now, so that an event may have
been sent under a key that is not the strongest any more: `Told.keys` holds all of them. And it
shows an event's `unique_id` as `$event_id` among the properties, or not at all: then `is_sure` is
false, and the id was made of the second.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from habitue.events import Event, Instant, Rejection
from habitue.ingest.doors.faults import Fault, rejection
from habitue.ingest.doors.intake import Door
from habitue.ingest.doors.keys import Said, Who
from habitue.ingest.doors.klaviyo.catalog import item_of
from habitue.ingest.doors.klaviyo.events import event_of
from habitue.ingest.doors.klaviyo.people import IDENTIFIERS, who_is
from habitue.ingest.doors.klaviyo.profiles import profile_entry
from habitue.ingest.doors.klaviyo.reading import At
from habitue.ingest.history.api import Page
from habitue.lake.eventlog.records import Entry

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a page, under its customer's strongest key, and what else it may be known by."""

    event: Event
    keys: tuple[str, ...]                  # every key of the customer now, strongest first
    is_sure: bool                          # whether the event's id is the one that it was sent with


@dataclass(slots=True)
class Sheet:
    """What became of a page's resources: each is told, an entry, or a rejection."""

    events: list[tuple[int, Told]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def reject(self, position: int, faults: list[Fault], resource: Resource) -> None:
        """Keep a resource that cannot be read, with the first reason why."""
        fault = faults[0] if faults else Fault("", "bad_json", "no resource of JSON:API")
        self.rejections.append(rejection(position, fault, msgspec.json.encode(resource)))


def read_events(page: Page, first: int, metrics: Mapping[str, str], door: Door) -> Sheet:
    """The events of a page, numbered from `first`; `metrics` tells the names of metrics' ids."""
    sheet = Sheet()
    for position, resource in enumerate(page.resources, start=first):
        faults: list[Fault] = []
        told = _event(resource, page, metrics, door, faults)
        if told is None:
            sheet.reject(position, faults, resource)
        else:
            sheet.events.append((position, told))
    return sheet


def read_profiles(page: Page, first: int, door: Door) -> Sheet:
    """The profiles of a page as changes at the time of their last update, numbered from `first`."""
    sheet = Sheet()
    for position, resource in enumerate(page.resources, start=first):
        faults: list[Fault] = []
        attributes = _known(resource, door)
        at = At({**resource, "attributes": attributes}, "", faults)
        updated = (at / "attributes/updated").instant(door.received)
        said = Said(time=updated or door.received, cause="import", backfilled=True)
        entry = profile_entry(position, at, said, door)
        if entry is None:
            sheet.reject(position, faults, resource)
        else:
            sheet.entries.append(entry)
    return sheet


def read_items(page: Page, first: int, door: Door) -> Sheet:
    """The catalogue's items on a page, numbered from `first`."""
    sheet = Sheet()
    for position, resource in enumerate(page.resources, start=first):
        faults: list[Fault] = []
        item = item_of(At(resource, "", faults), door, backfilled=True)
        if item is None:
            sheet.reject(position, faults, resource)
        else:
            sheet.entries.append(Entry(position, (item,)))
    return sheet


def metric_names(page: Page) -> Iterator[tuple[str, str]]:
    """Each metric's id and name."""
    for resource in page.resources:
        named = At(resource) / "attributes/name"
        if isinstance(named.value, str) and isinstance(resource.get("id"), str):
            yield resource["id"], named.value


def last_time(page: Page, door: Door) -> Instant | None:
    """When the last event of a page happened; None where that cannot be read."""
    last = page.resources[-1] if page.resources else {}
    return (At(last) / "attributes/datetime").instant(door.received)


def _event(
    resource: Resource, page: Page, metrics: Mapping[str, str], door: Door, faults: list[Fault]
) -> Told | None:
    at = At(resource, "", faults)
    metric_id = str((at / "relationships/metric/data/id").value)
    included = At(page.included.get(("metric", metric_id)))
    name = (included / "attributes/name").value or metrics.get(metric_id)
    properties = (at / "attributes/event_properties").value
    attributes = {
        "metric": {"data": {"attributes": {"name": name}}},
        "properties": {} if properties is None else properties,
        "time": (at / "attributes/datetime").value,
    }
    who = _customer(at, page, door, faults)
    if attributes["time"] is None:         # without it, the event would seem to be of now
        at["attributes"]["datetime"].fault("bad_time", "An event must have a time.")
    event = event_of(At(attributes, "/attributes", faults), who.key if who else "", True, door)
    if event is None or who is None or faults:
        return None
    shown = isinstance(properties, dict) and isinstance(properties.get("$event_id"), str)
    return Told(event, (who.key, *who.others), shown)


def _customer(at: At, page: Page, door: Door, faults: list[Fault]) -> Who | None:
    """Whose event it is: by the profile beside it, or by nothing but its id."""
    profile_id = (at / "relationships/profile/data/id").value
    included = page.included.get(("profile", str(profile_id)), {})
    known = {"id": profile_id, "attributes": _known(included, door)}
    return who_is(At(known, "/relationships/profile/data", faults), door)


def _known(profile: Resource, door: Door) -> dict[str, Any]:
    """The attributes that a profile has: nothing where it shows null, nor what cannot identify.

    What Klaviyo took as an email long ago may be none; then the profile is known by the rest.
    """
    attributes = profile.get("attributes")
    held = attributes if isinstance(attributes, dict) else {}
    known = {name: value for name, value in held.items() if value is not None}
    if isinstance(location := known.get("location"), dict):
        known["location"] = {name: value for name, value in location.items() if value is not None}
    for name in IDENTIFIERS:
        if name in known and who_is(At({"attributes": {name: known[name]}}), door) is None:
            del known[name]
    return known
