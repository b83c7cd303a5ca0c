"""Klaviyo's paths that write: its statuses, its empty bodies, its resources, its limits.

What writes is listed by the translators; here it gets its answer. A profile's id is made of its
strongest key, so it is the same for whoever asks, and needs no table.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from habitue.directory import Limit
from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.klaviyo import catalog
from habitue.ingest.doors.klaviyo import profiles as translator
from habitue.ingest.doors.klaviyo.problems import duplicate_profile, errors_body
from habitue.ingest.doors.klaviyo.routes import ROUTES as WRITES
from habitue.ingest.doors.klaviyo.routes import Route as Write
from habitue.lake.keys import kind_of
from habitue.serving.app import Asked, Endpoint, Route
from habitue.serving.collect import is_of_shop, is_receipt_id, received_of
from habitue.serving.doors.klaviyo.lists import check_lists, check_profiles
from habitue.serving.doors.klaviyo.shown import attributes_after, no_profile, one_profile
from habitue.serving.doors.klaviyo.wire.asking import EXTRA_LARGE, LARGE, MEDIUM, Page, page
from habitue.serving.doors.klaviyo.wire.resources import address, collection, document, text
from habitue.serving.replies import Refused, empty

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile

MOST_BYTES = 5_242_880
_LIMITS = {
    "/api/events": EXTRA_LARGE,
    "/client/events": EXTRA_LARGE,
    "/client/profiles": EXTRA_LARGE,
    "/client/subscriptions": Limit(100, 700),
    "/api/profiles": LARGE,
    "/api/profiles/{id}": LARGE,
    "/api/profile-import": LARGE,
    "/api/catalog-items": LARGE,
    "/api/catalog-items/{id}": LARGE,
    "/api/catalog-variants": LARGE,
    "/api/catalog-variants/{id}": LARGE,
}
# what these answer with a job that can be asked for
_JOBS = {
    path: path.removeprefix("/api/").removesuffix("s")
    for path in (one.path for one in WRITES)
    if path.endswith("-jobs") and ("catalog" in path or "import" in path)
}
# where lists may be named beside the profiles
_LISTED = {
    "/client/subscriptions", "/api/profile-bulk-import-jobs",
    "/api/profile-subscription-bulk-create-jobs", "/api/profile-subscription-bulk-delete-jobs",
}  # fmt: skip
# one row per request of a path that was taken: its inputs, and what became of them
_TAKEN = """
SELECT id, min(epoch_us(received)) AS at, CAST(sum(rows) AS BIGINT) AS rows,
    CAST(sum(appended + duplicate) AS BIGINT) AS taken, CAST(sum(rejected) AS BIGINT) AS rejected
FROM receipts WHERE origin = ? GROUP BY id HAVING taken > 0
"""
_ABOUT = {
    "/api/events": "Take one event, and what it says of its profile.",
    "/api/event-bulk-create-jobs": "Take up to 1,000 events of many profiles, all or none.",
    "/client/events": "Take one event, and what it says of its profile.",
    "/client/event-bulk-create": "Take up to 1,000 events of one profile, all or none.",
    "/client/profiles": "Take what a browser says of its profile.",
    "/client/subscriptions": "Subscribe a profile, and put it on the list that is named.",
    "/api/profile-bulk-import-jobs": "Make or change up to 10,000 profiles, all or none, and put"
    " them on the lists that are named.",
    "/api/profile-subscription-bulk-create-jobs": "Subscribe profiles, all or none, and put them"
    " on the list that is named.",
    "/api/profile-subscription-bulk-delete-jobs": "Unsubscribe profiles, all or none, and take them"
    " off the list that is named.",
}


def _taken(write: Write, about: str) -> Endpoint:
    """A path that takes what its translator reads, and shows nothing for it, or a job."""

    async def endpoint(asked: Asked) -> Response:
        body = await asked.body(most_bytes=MOST_BYTES)
        if write.path in _LISTED:
            await check_lists(asked, body)
        kept = await asked.take(body, write.translate)
        if write.path in _JOBS:
            done = (kept.accepted, kept.accepted, 0)
            return document(_job(asked, write.path, asked.receipt, done), write.status)
        return empty(write.status)

    endpoint.__doc__ = about
    return endpoint


def _shown(write: Write, about: str) -> Endpoint:
    """A path of the catalogue, that shows the item as it was told."""
    kind = write.path.split("/")[2].removesuffix("s")

    async def endpoint(asked: Asked) -> Response:
        body = await asked.body(most_bytes=MOST_BYTES)
        await asked.take(body, write.translate)
        data = msgspec.json.decode(body, type=_Document).data
        shown = data.id or catalog.item_id(str(data.attributes.get("external_id", "")))
        links = {"self": f"{address(asked)}/api/{kind}s/{shown}/"}
        told = {"type": kind, "id": shown, "attributes": data.attributes, "links": links}
        return document(told, write.status)

    endpoint.__doc__ = about
    return endpoint


async def create_profile(asked: Asked) -> Response:
    """Make a profile; 409 with the other's id where one of its identifiers is known."""
    body = await asked.body(most_bytes=MOST_BYTES)
    keys = translator.claimed_keys(body, asked.door())
    people = asked.service.people
    taken = await people.conflict(asked.shop, keys) or people.claim(asked.shop, keys)
    if taken is not None:
        raise _duplicate(taken)
    try:
        await asked.take(body, translator.tell_profile)
    except BaseException:
        people.give_up(asked.shop, keys)
        raise
    return await _profile(asked, asked.service.people.made(asked.shop, keys), body, None, 201)


async def import_profile(asked: Asked) -> Response:
    """Make or change a profile (201, 200); 409 where its identifiers are of two kept apart."""
    body = await asked.body(most_bytes=MOST_BYTES)
    keys = translator.claimed_keys(body, asked.door())
    found = await asked.service.people.find(asked.shop, keys)
    apart = kept_apart(found, keys)
    if apart is not None:
        raise _duplicate(apart)
    await asked.take(body, translator.tell_profile)
    known = found[0].id if found else asked.service.people.recent(asked.shop, keys)
    shown = known or asked.service.people.made(asked.shop, keys)
    held = found[0] if found else None
    return await _profile(asked, shown, body, held, 201 if known is None else 200)


async def update_profile(asked: Asked) -> Response:
    """Change a profile by its id."""
    body = await asked.body(most_bytes=MOST_BYTES)
    shown = asked.request.path_params["id"]
    if translator.claimed_id(body) != shown:
        raise Refused(
            400, "bad_identifier", "The id in the body is not that of the address.",
            pointer="/data/id",
        )  # fmt: skip
    held = await asked.service.people.get(asked.shop, shown)
    if held is None and not asked.service.people.recent(asked.shop, [f"profile:{shown}"]):
        raise no_profile()
    await asked.take(body, translator.tell_profile)
    return await _profile(asked, shown, body, held, 200)


async def delete_item(asked: Asked) -> Response:
    """Take an item out of the catalogue."""
    await asked.take(asked.request.path_params["id"].encode(), _deleted)
    return empty(204)


async def merge_profiles(asked: Asked) -> Response:
    """Make one profile a part of another, from now on; both by their ids."""
    body = await asked.body(most_bytes=MOST_BYTES)
    await check_profiles(asked, translator.merged_ids(body))
    await asked.take(body, translator.merge_profiles)
    shown = translator.claimed_id(body)
    links = {"self": f"{address(asked)}/api/profiles/{shown}/"}
    return document({"type": "profile", "id": shown, "links": links}, 201)


async def get_job(asked: Asked) -> Response:
    """Say how a job goes: what was acknowledged is complete as soon as the lake holds it."""
    receipt, shop = asked.request.path_params["id"], asked.shop
    path = asked.route.path.removesuffix("/{id}")
    if not (is_receipt_id(receipt) and is_of_shop(receipt, shop.secret)):
        raise _no_job()
    if not asked.service.settlement.is_settled(receipt):
        return document(_job(asked, path, receipt, None))
    done = await asyncio.to_thread(_settled, asked, receipt)
    if done is None:
        raise _no_job()
    return document(_job(asked, path, receipt, done))


async def get_jobs(asked: Asked) -> Response:
    """List the jobs of a kind that were taken, the latest first, as soon as the lake holds them."""
    path = asked.route.path
    asks = page(asked, default=100, most=100, sorts=("-created_at", "created_at"), scope=path)
    rows = await asyncio.to_thread(_taken_of, asked, asks)
    shown = rows[: asks.size]
    more: tuple[Page, tuple[int, str], str] | None = None
    if len(rows) > len(shown):
        more = (asks, _place(shown[-1]), path)
    found = [_job(asked, path, row["id"], (row["rows"], row["taken"], row["rejected"]))
             for row in shown]  # fmt: skip
    return collection(asked, found, following=more)


def kept_apart(found: "Sequence[LiveProfile]", keys: Sequence[str]) -> str | None:
    """The id of a profile that the keys name beside another, where both have external ids.

    Two customers with different external ids never become one by what a client says.
    """
    told = [key for key in keys if kind_of(key) == "external"]
    first = told[0] if told else None
    for profile in found:
        if kind_of(profile.customer) != "external":
            continue
        if first is not None and profile.customer != first:
            return profile.id
        first = profile.customer
    return None


class _Data(msgspec.Struct):
    """The resource of a request that its translator found good."""

    id: str | None = None
    attributes: dict[str, Any] = {}


class _Document(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


def _deleted(body: bytes, door: Door) -> Intake:
    return catalog.delete_item(body.decode(), door)


def _duplicate(taken: str) -> Refused:
    problem = duplicate_profile(taken)
    refused = Refused(409, "duplicate_profile", problem.detail, pointer=problem.pointer)
    refused.body = errors_body([problem])
    return refused


async def _profile(
    asked: Asked, shown: str, body: bytes, held: "LiveProfile | None", status: int
) -> Response:
    """The profile as it is known, changed as the request says.

    A key that may write and not read is told what it says, and nothing of what is known.
    """
    if not asked.may("profiles:read"):
        held = None
    told = msgspec.json.decode(body, type=_Document).data.attributes
    change = translator.told_change(body, asked.door())
    attributes = attributes_after(held, change, told, asked.received)
    resource = await one_profile(asked, shown, attributes, held)
    return document(resource, status)


def _settled(asked: Asked, receipt: str) -> tuple[int, int, int] | None:
    """Inputs of a job in the lake: how many, those taken or known, those refused; none: no job."""
    from habitue.ingest.commit import settlement

    found = settlement(asked.service.place.lake(), asked.shop.name, receipt)
    if found is None:
        return None
    return found.rows, found.appended + found.duplicate, found.rejected


def _job(
    asked: Asked, path: str, receipt: str, done: tuple[int, int, int] | None
) -> dict[str, Any]:
    """A job: how many inputs it has, how many were taken and refused; none: that is not known."""
    at, (total, taken, refused) = text(received_of(receipt)), done or (0, 0, 0)
    return {
        "type": _JOBS[path],
        "id": receipt,
        "attributes": {
            "status": "processing" if done is None else "complete", "created_at": at,
            "total_count": total, "completed_count": taken, "failed_count": refused,
            "completed_at": None if done is None else at, "expires_at": at,
        },
        "links": {"self": f"{address(asked)}{path}/{receipt}/"},
    }  # fmt: skip


def _taken_of(asked: Asked, asks: Page) -> list[dict[str, Any]]:
    """The jobs of a page, and one more where there are more."""
    from habitue.lake.query import read

    place, shop = asked.service.place, asked.shop.name
    if shop not in place.lake().shops():
        return []
    rows = read(place.lake(), _TAKEN, [asked.route.path], shop=shop).to_pylist()
    rows.sort(key=_place, reverse=asks.descending)
    after = None if asks.after is None else tuple(asks.after)
    return [
        row for row in rows
        if after is None or (_place(row) < after if asks.descending else _place(row) > after)
    ][: asks.size + 1]  # fmt: skip


def _place(row: Mapping[str, Any]) -> tuple[int, str]:
    return row["at"], row["id"]


def _no_job() -> Refused:
    return Refused(404, "not_found", "A job with that id does not exist.")


def _route(write: Write) -> Route:
    """The path of one translator, with the answer that belongs to it."""
    about = _ABOUT.get(write.path, "Change the catalogue: an item or variant, or up to 100.")
    endpoint = _ENDPOINTS.get((write.method, write.path))
    if endpoint is None:
        shows = write.status in {200, 201} and write.path.startswith("/api/catalog-")
        endpoint = _shown(write, about) if shows else _taken(write, about)
    return Route(
        method=write.method, path=write.path, endpoint=endpoint, public=write.is_public,
        source="klaviyo", limit=_LIMITS.get(write.path, MEDIUM),
    )  # fmt: skip


_ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/api/profiles"): create_profile,
    ("POST", "/api/profile-import"): import_profile,
    ("PATCH", "/api/profiles/{id}"): update_profile,
    ("POST", "/api/profile-merge"): merge_profiles,
}

ROUTES = (
    *(_route(write) for write in WRITES),
    *(
        Route(
            method="DELETE", path=f"/api/catalog-{kind}/{{id}}", endpoint=delete_item,
            source="klaviyo", limit=LARGE,
        )
        for kind in ("items", "variants")
    ),
    *(
        Route(
            method="GET", path=f"{path}{more}", endpoint=endpoint, source="klaviyo", limit=MEDIUM
        )
        for path in _JOBS
        for more, endpoint in (("", get_jobs), ("/{id}", get_job))
    ),
)  # fmt: skip
