"""Events as Klaviyo's clients send them: one, or many of many profiles.

An event's id is its metric and `unique_id`; without one, its metric and second, so that at most
one such event per profile, metric and second is kept: the first. A repeated `unique_id` is taken
and changes nothing, within one request as well as between two.
"""

from collections.abc import Iterator

from habitue.events import Consent, Event, Instant
from habitue.ingest.doors.intake import FORBIDDEN, TAKES_BACK, Door, Intake, takes_back
from habitue.ingest.doors.keys import Said
from habitue.ingest.doors.klaviyo.consents import Channel, Status
from habitue.ingest.doors.klaviyo.orders import bought
from habitue.ingest.doors.klaviyo.people import told_of, who_is
from habitue.ingest.doors.klaviyo.reading import (
    METRIC_CHARACTERS,
    MOST_EVENTS,
    At,
    document,
    properties_of,
    whole,
)
from habitue.ingest.doors.names import canonical
from habitue.lake.eventlog.records import Entry

# metrics that say that a customer may be written to, or no longer
_CONSENTS: dict[str, tuple[Channel, Status]] = {
    "Subscribed to Email Marketing": ("email", "subscribed"),
    "Subscribed to SMS Marketing": ("sms", "subscribed"),
    "Unsubscribed": ("email", "unsubscribed"),
    "Unsubscribed from Email Marketing": ("email", "unsubscribed"),
    "Unsubscribed from SMS Marketing": ("sms", "unsubscribed"),
}


def create_event(body: bytes, door: Door) -> Intake:
    """POST /api/events and /client/events: one event, and what it says of its profile.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body)
    attributes = data.resource("event")
    profile = attributes / "profile/data"
    return whole(_entries(0, [attributes], profile, False, door), data)


def create_events(body: bytes, door: Door) -> Intake:
    """POST /api/event-bulk-create-jobs: events of many profiles; all of them or none.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body)
    attributes = data.resource("event-bulk-create-job")
    groups = (attributes / "events-bulk-create/data").elements(MOST_EVENTS)
    entries: list[Entry] = []
    for group in groups:
        entries.extend(_group(group, len(entries), door))
    if len(entries) > MOST_EVENTS:
        (attributes / "events-bulk-create/data").fault(
            "too_many", f"A request may hold at most {MOST_EVENTS:,} events."
        )
    return whole(entries, data)


def create_client_events(body: bytes, door: Door) -> Intake:
    """POST /client/event-bulk-create: events of one profile; all of them or none.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body)
    return whole(_group(data, 0, door), data)


def event_of(attributes: At, customer: str, backfilled: bool, door: Door) -> Event | None:
    """The event that its attributes tell; None where they have a fault."""
    before = len(attributes.faults)
    metric = metric_of(attributes)
    time = _time(attributes, door)
    unique_id = _unique_id(attributes, time)
    properties = properties_of(attributes["properties"])
    # read even where there are faults already, so that all of them are told
    name = canonical(door.source, metric or "", door.names)
    what = bought(name, attributes, unique_id, door.currency)
    if door.public and takes_back(what.name):
        attributes["metric"].fault(FORBIDDEN, TAKES_BACK)
    if len(attributes.faults) > before or metric is None:
        return None
    return Event(
        shop=door.shop,
        source=door.source,
        id=event_id(metric, unique_id, time),
        customer=customer,
        name=what.name,
        time=time,
        received=door.received,
        backfilled=backfilled,
        value=what.value,
        order=what.order,
        lines=what.lines,
        properties=properties,
    )


def event_id(metric: str, unique_id: str | None, time: Instant) -> str:
    """What makes an event of a profile different from others: its metric, and an id or its second.

    Klaviyo gives the second as the `unique_id` of an event that has none, and so do we.
    """
    return f"{metric}\0{_second(time) if unique_id is None else unique_id}"


def metric_of(attributes: At) -> str | None:
    """The name of an event's metric, as sent."""
    name = attributes / "metric/data/attributes/name"
    found = name.text(needed=True)
    if found is not None and not 0 < len(found.strip()) <= len(found) <= METRIC_CHARACTERS:
        name.fault("no_name", f"A metric's name has 1 to {METRIC_CHARACTERS} characters.")
        return None
    return found


def _group(group: At, first: int, door: Door) -> list[Entry]:
    attributes = group.resource("event-bulk-create")
    backfilled = attributes["backfill"].flag() or False
    events = [
        event.resource("event") for event in (attributes / "events/data").elements(MOST_EVENTS)
    ]
    return _entries(first, events, attributes / "profile/data", backfilled, door)


def _entries(
    first: int, places: list[At], profile: At, backfilled: bool, door: Door
) -> list[Entry]:
    """The events of one profile, numbered from `first`; none where anything has a fault.

    What the profile says stands beside the earliest of them.
    """
    profile.resource("profile")
    who = who_is(profile, door)
    # events of nobody are read as well, so that all of their problems are told
    customer = who.key if who else ""
    told = [
        event_of(at, customer, at["backfill"].flag() or backfilled, door) for at in places
    ]
    events = [event for event in told if event is not None]
    earliest = min(events, key=_time_of, default=None)
    time = door.received if earliest is None else earliest.time
    said = Said(time=time, cause="event", backfilled=backfilled)
    beside = list(told_of(profile, who, said, door)) if who else []
    if who is None or len(events) < len(places):
        return []
    return [
        Entry(place, (event, *_consents(event, at, door), *(beside if event is earliest else ())))
        for place, (event, at) in enumerate(zip(events, places, strict=True), start=first)
    ]


def _consents(event: Event, at: At, door: Door) -> Iterator[Consent]:
    """What an event says of consent; with a public key, nothing."""
    metric = (at / "metric/data/attributes/name").value
    if metric in _CONSENTS and event.customer is not None and not door.public:
        channel, status = _CONSENTS[metric]
        yield Consent(
            shop=event.shop, source=event.source, customer=event.customer, channel=channel,
            status=status, time=event.time, received=event.received,
            backfilled=event.backfilled, method="event",
        )


def _time_of(event: Event) -> Instant:
    return event.time


def _second(time: Instant) -> str:
    return str(int(time.timestamp()))


def _time(attributes: At, door: Door) -> Instant:
    told = attributes["time"].instant(door.received)
    return told or door.received.replace(microsecond=0)


def _unique_id(attributes: At, time: Instant) -> str | None:
    """The event's own id; older clients put it among the properties, and so does the read API."""
    told = attributes["unique_id"].text()
    if not told:
        among = (attributes / "properties/$event_id").value
        told = among if isinstance(among, str) and "\0" not in among else None
    return told if told and told != _second(time) else None
