"""Profiles as Klaviyo's clients tell of them: created, changed, many at once, or two made one.

A request has no id of its own, so telling the same thing later is a further row of the same
content. An identifier cannot be taken from a profile: null there says nothing.
"""

from collections.abc import Sequence

import msgspec

from habitue.events import ProfileChange
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.keys import Said, Who, linked, stitched
from habitue.ingest.doors.klaviyo.consents import consents_of
from habitue.ingest.doors.klaviyo.lists import lists_beside, member
from habitue.ingest.doors.klaviyo.people import change_of, who_is
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.ingest.doors.klaviyo.reading import (
    MOST_BYTES,
    MOST_PROFILE_BYTES,
    MOST_PROFILES,
    At,
    document,
    whole,
)
from habitue.lake.eventlog.records import Entry


def tell_profile(body: bytes, door: Door) -> Intake:
    """POST /api/profiles, /api/profile-import and /client/profiles; PATCH /api/profiles/{id}.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body, most_bytes=MOST_PROFILE_BYTES)
    entry = profile_entry(0, data, Said(time=door.received, cause="identify"), door)
    return whole([entry], data)


def tell_profiles(body: bytes, door: Door) -> Intake:
    """POST /api/profile-bulk-import-jobs: all of them or none, and onto the lists that it names.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body, most_bytes=MOST_BYTES)
    attributes = data.resource("profile-bulk-import-job")
    said = Said(time=door.received, cause="identify")
    lists = lists_beside(data["relationships"])
    entries = []
    for place, profile in enumerate((attributes / "profiles/data").elements(MOST_PROFILES)):
        # a large profile stands out by far; only then is it worth measuring
        if len(body) > MOST_PROFILE_BYTES:
            _check_size(profile)
        entries.append(profile_entry(place, profile, said, door, lists))
    return whole(entries, data)


def merge_profiles(body: bytes, door: Door) -> Intake:
    """POST /api/profile-merge: one profile becomes a part of another; both by their ids.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = document(body)
    keys = []
    for place in _merged(data):
        named = place["id"].text(needed=True)
        if named is not None and (who := _by_id(named, place, door)) is not None:
            keys.append(who.key)
    if data.faults or len(keys) < 2:
        raise Refused(data.faults)
    link = linked(keys[0], keys[1], Said(time=door.received, cause="person"), door)
    return Intake(rows=1, entries=(Entry(0, (link,)),))


def merged_ids(body: bytes) -> list[At]:
    """Where the ids stand of the profiles that a merge names: what stays, and what joins it.

    Raises:
        Refused: the request cannot be read.
    """
    return [place["id"] for place in _merged(document(body)) if isinstance(place["id"].value, str)]


def told_change(body: bytes, door: Door) -> ProfileChange:
    """What a request that was taken changes of its profile."""
    data = document(body, most_bytes=MOST_PROFILE_BYTES)
    return change_of(data, "", Said(time=door.received, cause="identify"), door)


def claimed_keys(body: bytes, door: Door) -> tuple[str, ...]:
    """The keys by which a profile request names its profile, strongest first.

    Whether a profile is known by one of them already is for the reader of the live state to say.

    Raises:
        Refused: the request cannot be read, or names nobody.
    """
    data = document(body, most_bytes=MOST_PROFILE_BYTES)
    who = who_is(data, door)
    if who is None:
        raise Refused(data.faults)
    return (who.key, *who.others)


def claimed_id(body: bytes) -> str | None:
    """The `id` in a request's body, which at PATCH must be that of its path; None if not told.

    Raises:
        Refused: the request cannot be read.
    """
    named = document(body)["id"].value
    return named if isinstance(named, str) else None


def profile_entry(
    position: int, profile: At, said: Said, door: Door, lists: Sequence[At] = ()
) -> Entry | None:
    """What a profile resource says, and onto which lists it is put; None where it has a fault."""
    before = len(profile.faults)
    profile.resource("profile")
    who = who_is(profile, door)
    change = change_of(profile, who.key if who else "", said, door)
    consents = consents_of(profile / "attributes/subscriptions", change.customer, said, door)
    if who is None or len(profile.faults) > before:
        return None
    listed = member(who.key, lists, "append", door)
    return Entry(position, (change, *stitched(who, said, door), *consents, *listed))


def _merged(data: At) -> list[At]:
    data.resource("profile-merge")
    return [data, *(data / "relationships/profiles/data").elements(1)]


def _by_id(named: str, place: At, door: Door) -> Who | None:
    return who_is(At({"id": named}, place.pointer, place.faults), door)


def _check_size(profile: At) -> None:
    if len(msgspec.json.encode(profile.value)) > MOST_PROFILE_BYTES:
        profile.fault("too_large", f"A profile may have at most {MOST_PROFILE_BYTES:,} bytes.")
