"""Who is put on a list or taken off: a value in one property of the customer's.

The property is called by the shop's secret, so that nothing that a client tells of a customer can
be meant for it: no browser can put itself on a list, and no property of the shop's own is taken.
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from habitue.events import EMPTY, ProfileChange
from habitue.ingest.doors.bodies import readable
from habitue.ingest.doors.intake import Door, Intake, Malformed
from habitue.ingest.doors.klaviyo.people import who_is
from habitue.ingest.doors.klaviyo.problems import Refused
from habitue.ingest.doors.klaviyo.reading import At, root, whole
from habitue.lake.eventlog.records import Entry

Act: TypeAlias = Literal["append", "unappend"]

MOST_MEMBERS = 1_000                       # of one request
MOST_LISTS = 100                           # that one request names beside its profiles
_RESERVED = re.compile(r"\$lists\.[0-9a-f]{20}")


def property_of(secret: bytes) -> str:
    """The property that holds the ids of the lists that a customer of this shop is on."""
    return f"$lists.{hmac.digest(secret, b'lists', 'sha256').hex()[:20]}"


def is_reserved(name: str) -> bool:
    """Whether a property is no customer's own, but tells of lists."""
    return _RESERVED.fullmatch(name) is not None


def named_profiles(body: bytes) -> list[At]:
    """Where the ids stand of the profiles that a request names, in their order.

    Raises:
        Refused: it is not a list of 1 to 1,000 profiles, each by its id.
    """
    data = root(body)["data"]
    ids = [_id_of(one, "profile") for one in data.elements(MOST_MEMBERS)]
    if data.faults:
        raise Refused(data.faults)
    return ids


def lists_beside(relationships: At) -> list[At]:
    """Where the ids stand of the lists that a request names beside its profiles.

    An import names several (`lists`), a subscription one (`list`).
    """
    for place in (relationships, relationships["list"], relationships["lists"]):
        place.object()
    one = relationships / "list/data"
    several = (relationships / "lists/data").elements(MOST_LISTS, needed=False)
    return [_id_of(named, "list") for named in (*([one] if one.is_told else []), *several)]


def lists_named(body: bytes) -> list[At]:
    """The same of a request's body; of one that cannot be read, which is refused anyway, none."""
    try:
        told = msgspec.json.decode(readable(body), type=_Document).data.relationships
    except (Malformed, msgspec.MsgspecError, RecursionError):
        return []
    relationships = At(told, "/data/relationships", [])
    named = lists_beside(relationships)
    return [] if relationships.faults else named


def member(customer: str, named: Sequence[At], act: Act, door: Door) -> Iterator[ProfileChange]:
    """A customer put on lists or taken off, where any are named."""
    if named:
        ids = [one.value for one in named]
        yield _change(customer, msgspec.Raw(msgspec.json.encode({property_of(door.secret): ids})),
                      act, door)  # fmt: skip


def tell_members(ids: Sequence[str], of: str, act: Act, door: Door) -> Intake:
    """Put profiles on a list (its id is `of`), or take them off: all of them or none.

    Raises:
        Refused: nothing was taken; it holds every problem.
    """
    data = At([{"id": id} for id in ids], "/data", [])
    told = msgspec.Raw(msgspec.json.encode({property_of(door.secret): of}))
    entries = [_entry(at, one, told, act, door) for at, one in enumerate(data.elements(len(ids)))]
    return whole(entries, data)


class _Data(msgspec.Struct):
    relationships: Any = None


class _Document(msgspec.Struct):
    data: _Data


def _id_of(named: At, kind: str) -> At:
    """Where the id of a resource stands that is named as one is."""
    named.resource(kind)
    id = named["id"]
    if id.text(needed=True) == "":
        id.fault("bad_identifier", "An id must not be empty.")
    return id


def _entry(position: int, profile: At, told: msgspec.Raw, act: Act, door: Door) -> Entry | None:
    who = who_is(profile, door)
    return None if who is None else Entry(position, (_change(who.key, told, act, door),))


def _change(customer: str, told: msgspec.Raw, act: Act, door: Door) -> ProfileChange:
    return ProfileChange(
        shop=door.shop, source=door.source, customer=customer, time=door.received,
        received=door.received, append=told if act == "append" else EMPTY,
        unappend=told if act == "unappend" else EMPTY,
    )  # fmt: skip
