"""Who is put on a list or taken off: a value in one property of the customer's.

The property is called by the shop's secret, so that nothing that a client tells of a customer can
be meant for it: no browser can put itself on a list, and no property of the shop's own is taken.
"""

import hmac
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from habitue.events import EMPTY, ProfileChange
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.klaviyo.people import who_is
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.ingest.doors.klaviyo.reading import At, root, whole
from habitue.lake.eventlog.records import Entry

MOST_MEMBERS = 1_000                       # of one request
_RESERVED = re.compile(r"\$lists\.[0-9a-f]{20}")


def property_of(secret: bytes) -> str:
    """The property that holds the ids of the lists that a customer of this shop is on."""
    return f"$lists.{hmac.digest(secret, b'lists', 'sha256').hex()[:20]}"


def is_reserved(name: str) -> bool:
    """Whether a property is no customer's own, but tells of lists."""
    return _RESERVED.fullmatch(name) is not None


def named_profiles(body: bytes) -> list[str]:
    """The ids of the profiles that a request names, in their order.

    Raises:
        Refused: it is not a list of 1 to 1,000 profiles, each by its id.
    """
    data = root(body)["data"]
    ids = [_id_of(one) for one in data.elements(MOST_MEMBERS)]
    if data.faults:
        raise Refused(data.faults)
    return [id for id in ids if id is not None]


def tell_members(
    ids: Sequence[str], of: str, act: Literal["append", "unappend"], door: Door
) -> Intake:
    """Put profiles on a list (its id is `of`), or take them off: all of them or none.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = At([{"id": id} for id in ids], "/data", [])
    told = msgspec.Raw(msgspec.json.encode({property_of(door.secret): of}))
    entries = [_entry(at, one, told, act, door) for at, one in enumerate(data.elements(len(ids)))]
    return whole(entries, data)


def _id_of(profile: At) -> str | None:
    """The id of a profile that is named as a resource is."""
    profile.resource("profile")
    id = profile["id"].text(needed=True)
    if id == "":
        profile["id"].fault("bad_identifier", "An id must not be empty.")
    return id


def _entry(
    position: int, profile: At, told: msgspec.Raw, act: str, door: Door
) -> Entry | None:
    who = who_is(profile, door)
    if who is None:
        return None
    change = ProfileChange(
        shop=door.shop, source=door.source, customer=who.key, time=door.received,
        received=door.received, append=told if act == "append" else EMPTY,
        unappend=told if act == "unappend" else EMPTY,
    )  # fmt: skip
    return Entry(position, (change,))
