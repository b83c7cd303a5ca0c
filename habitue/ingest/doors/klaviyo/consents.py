"""Who may be written to through which channel: subscriptions, as clients and reads tell them."""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from habitue.events import Consent
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.keys import Said, stitched
from habitue.ingest.doors.klaviyo.lists import Act, lists_beside, member
from habitue.ingest.doors.klaviyo.people import who_is
from habitue.ingest.doors.klaviyo.reading import MOST_SUBSCRIPTIONS, At, document, whole
from habitue.lake.eventlog.records import Entry

Channel: TypeAlias = Literal["email", "sms", "push", "whatsapp"]
Status: TypeAlias = Literal["subscribed", "unsubscribed", "never_subscribed"]

CHANNELS: dict[str, Channel] = {
    "email": "email", "sms": "sms", "push": "push", "mobile_push": "push", "whatsapp": "whatsapp",
}
STATUSES: dict[str, Status] = {
    "SUBSCRIBED": "subscribed",
    "UNSUBSCRIBED": "unsubscribed",
    "NEVER_SUBSCRIBED": "never_subscribed",
}
# when consent was given: as sent, and as the read API shows it
_TIMES = ("consented_at", "consent_timestamp", "last_updated")


def subscribe_client(body: bytes, door: Door) -> Intake:
    """POST /client/subscriptions: one profile subscribes, and is put on the list that it names.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body)
    attributes = data.resource("subscription")
    lists, profile = lists_beside(data["relationships"]), attributes / "profile/data"
    entry = _entry(0, profile, ("SUBSCRIBED", _method(attributes)), lists, door)
    return whole([entry], data)


def subscribe(body: bytes, door: Door) -> Intake:
    """POST /api/profile-subscription-bulk-create-jobs: all or none, and onto the list named.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _job(body, "profile-subscription-bulk-create-job", "SUBSCRIBED", door)


def unsubscribe(body: bytes, door: Door) -> Intake:
    """POST /api/profile-subscription-bulk-delete-jobs: all or none, and off the list named.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    return _job(body, "profile-subscription-bulk-delete-job", "UNSUBSCRIBED", door)


def consents_of(
    subscriptions: At, customer: str, said: Said, door: Door, method: str | None = None
) -> Iterator[Consent]:
    """What an object of subscriptions says: to marketing, channel by channel."""
    held = subscriptions.object() or {}
    for name in held:
        channel = CHANNELS.get(name)
        if channel is None:
            subscriptions[name].fault("bad_consent", f"There is no channel '{name}'.")
            continue
        marketing = subscriptions[name]["marketing"]
        if marketing.object() is None:
            continue
        status = STATUSES.get(str(marketing["consent"].value).upper())
        if status is None:
            marketing["consent"].fault(
                "bad_consent", "'consent' must be SUBSCRIBED or UNSUBSCRIBED."
            )
            continue
        times = (marketing[name].instant(door.received) for name in _TIMES)
        time = next((one for one in times if one is not None), said.time)
        yield Consent(
            shop=door.shop, source=door.source, customer=customer, channel=channel, status=status,
            time=time, received=door.received, backfilled=said.backfilled or time < said.time,
            method=method or marketing["method"].text(),
        )


def _job(body: bytes, kind: str, wanted: str, door: Door) -> Intake:
    data = document(body)
    attributes = data.resource(kind)
    profiles = (attributes / "profiles/data").elements(MOST_SUBSCRIPTIONS)
    told, lists = (wanted, _method(attributes)), lists_beside(data["relationships"])
    return whole(
        [_entry(place, one, told, lists, door) for place, one in enumerate(profiles)], data
    )


def _entry(
    position: int, profile: At, told: tuple[str, str | None], lists: Sequence[At], door: Door
) -> Entry | None:
    """The consents of one profile; where none are told, to the channels that it is reached by.

    `told`: what all say, subscribed or not, and by which method.
    """
    (wanted, method), before = told, len(profile.faults)
    attributes = profile.resource("profile")
    who = who_is(profile, door)
    if who is None:
        return None
    subscriptions = attributes["subscriptions"]
    if not subscriptions.is_told:
        implied = {"marketing": {"consent": wanted}}
        reached = {"email": attributes["email"], "sms": attributes["phone_number"]}
        named = {channel: implied for channel, at in reached.items() if at.is_told}
        subscriptions = At(named, subscriptions.pointer, subscriptions.faults)
    said = Said(time=door.received, cause="identify")
    consents = list(consents_of(subscriptions, who.key, said, door, method))
    if len(profile.faults) == before and not consents:
        subscriptions.fault("bad_consent", "No channel is named, nor an email or phone number.")
    if any(STATUSES[wanted] != consent.status for consent in consents):
        subscriptions.fault("bad_consent", f"'consent' must be {wanted} here.")
    if len(profile.faults) > before:
        return None
    act: Act = "append" if wanted == "SUBSCRIBED" else "unappend"
    return Entry(
        position, (*consents, *stitched(who, said, door), *member(who.key, lists, act, door))
    )


def _method(attributes: At) -> str | None:
    return attributes["custom_source"].text() or None
