"""Segments and lists: the shop's saved audiences, and what only Klaviyo's clients say of one.

What an audience means stands in the lake. Its label, whether it is starred, when it was made, and
what it meant before it was switched off stand among the shop's jobs, by the id of the segment. An
audience that was saved in another way is a segment, too.

A list is an audience of whoever has its id in one property, which only the paths of lists tell of.
One whose audience was given another meaning is a list no more, but a segment.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from habitue.audiences.changes.reading import State, states
from habitue.audiences.language.klaviyo import Names, from_klaviyo
from habitue.audiences.language.klaviyo_writing import to_klaviyo
from habitue.audiences.language.nodes import Compared, Profile
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.saved import Saved
from habitue.config import utc_now
from habitue.directory import Directory, Job, ShopEntry
from habitue.errors import BadAudience, HabitueError
from habitue.ingest.doors.klaviyo.lists import property_of
from habitue.ingest.doors.names import canonical
from habitue.lake.keys import spelt
from habitue.lake.live.told import microseconds
from habitue.lake.tables import Lake
from habitue.serving.answers.book import Book

SEGMENT, LIST = "segment", "list"
ON, OFF, GONE = "active", "inactive", "complete"
_ID_LETTERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment, or list."""

    id: str
    kind: str = SEGMENT
    audience: str                          # the name of the saved audience
    label: str                             # what it is called to Klaviyo's clients
    condition: str                         # a sentence
    created: datetime
    updated: datetime
    active: bool = True
    starred: bool = False
    applied: bool = False                  # to everybody
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where segments are kept, of one shop."""

    book: Book
    lake: Lake
    directory: Directory
    shop: ShopEntry


class MetricIds(dict[str, str]):
    """Names of events by metric id; a name may stand for itself, anything else is refused.

    `own`: what the shop calls events where it tells Klaviyo of them; Klaviyo's own names are known.
    """

    def __init__(self, names: Mapping[str, str], own: Mapping[str, str]) -> None:
        super().__init__(names)
        self._own = own

    def get(self, key: str, default: Any = None) -> Any:
        """The name of an id."""
        name = self[key] if key in self else canonical("klaviyo", key, self._own)
        if name not in self.values():
            raise BadAudience(f"the shop has no metric of the id, or the name, {key!r}")
        return name


class GroupIds(dict[str, str]):
    """Audiences by the id of a segment or list; a name may stand for itself, nothing else."""

    def get(self, key: str, default: Any = None) -> Any:
        """The audience of an id."""
        found = super().get(key, key if key in self.values() else None)
        if found is None:
            raise BadAudience(f"the shop has no segment or list of the id {key!r}")
        return found


def segments_of(places: Places, kind: str = SEGMENT) -> dict[str, Segment]:
    """The segments of a shop, or its lists, by id."""
    return {id: one for id, one in groups_of(places).items() if one.kind == kind}


def groups_of(places: Places) -> dict[str, Segment]:
    """The segments and the lists of a shop, by id."""
    shop = places.shop
    followed = places.book.profiles.look(lambda held: states(held, shop.name))
    saved = places.book.saved(places.lake, shop.name)
    jobs = {
        str(one.detail["audience"]): one
        for one in places.directory.jobs(shop.name)
        if one.status != GONE and (one.kind == SEGMENT or _is_list(one, saved))
    }
    found = [_of_saved(places, name, saved[name], jobs.get(name), followed) for name in saved]
    found += [
        _of_job(job) for name, job in jobs.items() if job.status == OFF and name not in saved
    ]
    return {one.id: one for one in found}


def segment_id(secret: bytes, audience: str) -> str:
    """The id of an audience as a segment, in the shop that has this secret."""
    return spelt(hmac.digest(secret, f"segment\0{audience}".encode(), "sha256")[:8], _ID_LETTERS)


def list_id() -> str:
    """The id of a new list: not made of its name, since who was on one before is not on it."""
    return spelt(secrets.token_bytes(8), _ID_LETTERS)


def on_list(id: str, secret: bytes) -> str:
    """The condition of being on a list, in words."""
    return written(Compared(Profile((property_of(secret),)), "has", id))


def put(places: Places, segment: Segment, *, is_saved: bool) -> None:
    """Keep a segment; where `is_saved` what it means is saved, too, or taken back if it is off.

    Raises:
        HabitueError: its condition is none.
    """
    job = _job(places, segment, ON if segment.active else OFF)
    if segment.kind == LIST:               # whose audience without it would be a segment
        places.directory.put_job(job)
    audiences = Saved(places.lake, places.shop.name, utc_now, live=places.book.path)
    if is_saved and segment.active:
        places.lake.begin(places.shop.name, utc_now())
        audiences.save(segment.audience, segment.condition)
    elif is_saved and segment.audience in audiences.sentences():
        audiences.remove(segment.audience)
    places.directory.put_job(job)


def drop(places: Places, segment: Segment) -> None:
    """Take a segment away."""
    audiences = Saved(places.lake, places.shop.name, utc_now, live=places.book.path)
    if segment.audience in audiences.sentences():
        audiences.remove(segment.audience)
    places.directory.put_job(_job(places, segment, GONE))


def sentence_of(definition: Mapping[str, Any], names: Names) -> str:
    """What a definition means, in words.

    Raises:
        BadAudience: it is none, or holds what is not supported; the message begins with a pointer.
    """
    return written(from_klaviyo(definition, names))


def definition_of(segment: Segment, names: Names) -> dict[str, Any] | None:
    """A segment's definition; none where its condition can no longer be read."""
    try:
        return to_klaviyo(parse(segment.condition), names)
    except HabitueError:
        return None


def _of_saved(
    places: Places,
    name: str,
    saved: tuple[str, datetime],
    job: Job | None,
    followed: Mapping[str, State],
) -> Segment:
    condition, since = saved
    state = followed.get(name)
    detail = {} if job is None else job.detail
    is_list = job is not None and job.kind == LIST
    return Segment(
        id=job.id if job is not None and is_list else segment_id(places.shop.secret, name),
        kind=LIST if is_list else SEGMENT,
        audience=name,
        label=str(detail.get("label", name)),
        condition=condition,
        created=since if job is None else job.created,
        updated=since if job is None else max(since, job.updated),
        starred=bool(detail.get("starred")),
        # what is followed may still be what the name meant before
        applied=state is not None and state.applied and state.since >= microseconds(since),
        problem="" if state is None else state.problem,
    )


def _is_list(job: Job, saved: Mapping[str, tuple[str, datetime]]) -> bool:
    """Whether a job is a list that its audience still means."""
    means, _ = saved.get(str(job.detail.get("audience")), ("", None))
    return job.kind == LIST and job.detail["condition"] == means


def _of_job(job: Job) -> Segment:
    return Segment(
        id=job.id, audience=str(job.detail["audience"]), label=str(job.detail["label"]),
        condition=str(job.detail["condition"]), created=job.created, updated=job.updated,
        active=False, starred=bool(job.detail.get("starred")), applied=True,
    )  # fmt: skip


def _job(places: Places, one: Segment, status: str) -> Job:
    detail = {
        "audience": one.audience, "label": one.label, "condition": one.condition,
        "starred": one.starred,
    }  # fmt: skip
    return Job(
        id=one.id, shop=places.shop.name, kind=one.kind, status=status, created=one.created,
        updated=one.updated, detail=detail,
    )  # fmt: skip
