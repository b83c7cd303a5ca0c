"""Paths that erase a customer, ours and Klaviyo's; the process beside the server does the work."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.directory import ERASURE, Job, Limit
from habitue.errors import BadQuery
from habitue.ingest.doors.keys import surrogate
from habitue.lake.keys import external_key
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, body, faulty, parameters
from habitue.serving.doors.answers import pages
from habitue.serving.replies import Fault, Refused, empty

MOST_BYTES = 65_536
MOST_PAGE = 1_000


class Named(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whom a request is about: exactly one of these is told."""

    customer: str | None = None            # an external id
    email: str | None = None
    phone: str | None = None
    anonymous_id: str | None = None


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """An erasure that was asked for; never whom it is about."""

    id: str
    status: str                            # queued, processing, complete or failed
    requested: datetime
    updated: datetime
    proof: dict[str, Any] | None           # once it is complete: what was found and taken away


class Erasures(msgspec.Struct, frozen=True, kw_only=True):
    """The erasures of a shop, oldest first."""

    erasures: list[Erasure]
    next: str | None                       # where the next page is; none: this is the last


class ErasuresOf(msgspec.Struct, kw_only=True, frozen=True):
    """Which erasures."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_PAGE)] = 100          # of a page
    cursor: str | None = None              # where the page begins, as `next` tells it


class OfErasure(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one erasure."""

    id: str                                # as it was told when it was asked for


class _Profile(msgspec.Struct):
    attributes: dict[str, Any] = {}
    id: str | None = None


class _Related(msgspec.Struct):
    data: _Profile


class _Attributes(msgspec.Struct):
    profile: _Related


class _Data(msgspec.Struct):
    attributes: _Attributes


class _Deletion(msgspec.Struct):
    data: _Data


async def create_erasure(asked: Asked) -> Response:
    """Erase a customer: refused from now on, gone from everywhere within the hour."""
    named = await body(asked, Named, most_bytes=MOST_BYTES)
    return answer(asked, _told(await _request(asked, _key(asked, named))))


async def get_erasures(asked: Asked) -> Response:
    """List the shop's erasures, oldest first, a page of them: how far each is, and its proof."""
    wanted = parameters(asked, ErasuresOf)
    after = tuple(map(str, pages.place(asked, wanted.cursor) or ()))
    jobs = await asyncio.to_thread(asked.service.place.directory.jobs, asked.shop.name)
    found = sorted((job.created.isoformat(), job.id, job) for job in jobs if job.kind == ERASURE)
    left = [one for one in found if one[:2] > after]
    shown, following = left[: wanted.limit], None
    if len(left) > len(shown):
        following = pages.following(asked, shown[-1][:2], {"limit": wanted.limit})
    return answer(asked, Erasures(erasures=[_told(job) for *_, job in shown], next=following))


async def get_erasure(asked: Asked) -> Response:
    """Say how far an erasure is."""
    jobs = await asyncio.to_thread(asked.service.place.directory.jobs, asked.shop.name)
    wanted = parameters(asked, OfErasure).id
    for job in jobs:
        if job.kind == ERASURE and job.id == wanted:
            return answer(asked, _told(job))
    raise Refused(404, "not_found", "This shop has no erasure of that id.")


async def delete_profile(asked: Asked) -> Response:
    """Erase the profile with an email, a phone number or an id, as Klaviyo's clients ask for it."""
    told_of = await asked.body(most_bytes=MOST_BYTES)
    try:
        profile = msgspec.json.decode(told_of, type=_Deletion).data.attributes.profile.data
    except msgspec.DecodeError as error:
        raise Refused(400, "bad_json", str(error), pointer="/data/attributes/profile") from None
    named = {name: profile.attributes.get(name) for name in ("email", "phone_number")}
    told = {name: value for name, value in named.items() if isinstance(value, str)}
    shown = profile.id or profile.attributes.get("id")
    if len(told) + (shown is not None) != 1:
        raise Refused(
            400, "invalid", "Exactly one of email, phone_number and id names the profile.",
            pointer="/data/attributes/profile/data",
        )  # fmt: skip
    key = f"profile:{shown}" if shown is not None else _surrogate(asked, told)
    await _request(asked, key)
    return empty(202)


ROUTES = (
    Route(
        method="POST", path="/v1/erasures", endpoint=create_erasure, body=(Named,),
        reply=Erasure, status=202,
    ),
    Route(
        method="GET", path="/v1/erasures", endpoint=get_erasures, parameters=ErasuresOf,
        reply=Erasures,
    ),
    Route(
        method="GET", path="/v1/erasures/{id}", endpoint=get_erasure, parameters=OfErasure,
        reply=Erasure,
    ),
    Route(
        method="POST", path="/api/data-privacy-deletion-jobs", endpoint=delete_profile,
        source="klaviyo", limit=Limit(3, 60),
    ),
)  # fmt: skip


def _key(asked: Asked, named: Named) -> str:
    told = {
        name: value for name, value in msgspec.structs.asdict(named).items() if value is not None
    }
    if len(told) != 1:
        wanted = "name one of customer, email, phone and anonymous_id, and only one"
        pointers = [f"/{name}" for name in told] or [""]
        raise faulty("invalid", [Fault(detail=wanted, pointer=one) for one in pointers])
    if named.customer:
        return external_key(named.customer)
    if named.anonymous_id:
        return f"anonymous:{named.anonymous_id}"
    return _surrogate(asked, told)


def _surrogate(asked: Asked, told: Mapping[str, str]) -> str:
    phone = told.get("phone") or told.get("phone_number")
    try:
        return surrogate(asked.shop.secret, email=told.get("email"), phone=phone)
    except BadQuery as error:
        raise Refused(400, "bad_identifier", str(error).partition("\n")[0]) from None


async def _request(asked: Asked, key: str) -> Job:
    """Write the request down; nothing more of the customer is taken from then on."""
    assert asked.caller is not None, "the route asks for a key"
    place, shop, who = asked.service.place, asked.shop.name, asked.caller.key.id

    def work() -> Job:
        from habitue import privacy  # it loads the lake, which few requests need

        places = privacy.Places(
            lake=place.lake(), directory=place.directory, folder=place.path, held_log=place.log,
            who=who,
        )  # fmt: skip
        return privacy.request(places, shop, [key], now=asked.received)

    return await asyncio.to_thread(work)


def _told(job: Job) -> Erasure:
    """What may be told of an erasure: never whom it is about."""
    kept = {name: value for name, value in job.detail.items() if name not in ("keys", "erasure")}
    return Erasure(
        id=job.id, status=job.status, requested=job.created, updated=job.updated,
        proof=kept if job.status == "complete" else None,
    )  # fmt: skip
