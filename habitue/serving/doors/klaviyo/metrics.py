"""Metrics: what Klaviyo calls the names of events, each by an id that a shop always finds it by."""

import hmac
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.directory import ShopEntry
from habitue.events import CANONICAL_NAMES
from habitue.ingest.doors.names import KLAVIYO
from habitue.lake.keys import spelt
from habitue.serving.app import Asked, Route
from habitue.serving.doors.klaviyo.wire.asking import MEDIUM, fields, page
from habitue.serving.doors.klaviyo.wire.resources import collection, document, resource, text
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.lake.profiles import NameCount
    from habitue.serving.answers.book import Book

FIELDS = ("name", "created", "updated", "integration")
_INTEGRATION = {"object": "integration", "id": "habitue", "name": "habitue", "category": "API"}
_MOST = 200


async def get_metrics(asked: Asked) -> Response:
    """List the names of events that the shop has had, as metrics."""
    wanted = fields(asked, "metric", FIELDS)
    asks = page(asked, default=_MOST, most=_MOST, sorts=("id",), scope="metrics")
    found = await asked.service.reading.ask(lambda book: _known(book, asked.shop))
    after = "" if asks.after is None else str(asks.after[0])
    rest = sorted(id for id in found if id > after)
    shown = rest[: asks.size]
    return collection(
        asked,
        [metric(asked, found[id][0], found[id][1], wanted) for id in shown],
        following=(asks, [shown[-1]], "metrics") if len(rest) > len(shown) else None,
    )


async def get_metric(asked: Asked) -> Response:
    """Show one metric."""
    wanted = fields(asked, "metric", FIELDS)
    found = await asked.service.reading.ask(lambda book: _known(book, asked.shop))
    held = found.get(asked.request.path_params["id"])
    if held is None:
        raise Refused(404, "not_found", "A metric with that id does not exist.")
    return document(metric(asked, held[0], held[1], wanted))


def metric(
    asked: Asked, name: str, held: "NameCount", wanted: frozenset[str] | None
) -> dict[str, Any]:
    """One metric as a resource."""
    attributes = {
        "name": displayed(asked.shop, name), "created": text(held.first),
        "updated": text(held.last), "integration": _INTEGRATION,
    }  # fmt: skip
    return resource(asked, "metric", metric_id(asked.shop.secret, name), attributes, wanted=wanted)


def metric_id(secret: bytes, name: str) -> str:
    """The id of an event's name in the shop that has this secret."""
    return spelt(hmac.digest(secret, f"metric\0{name}".encode(), "sha256")[:8], 10)


def displayed(shop: ShopEntry, name: str) -> str:
    """What the shop, or else Klaviyo, calls an event; one that neither knows is called as it is."""
    own = {ours: theirs for theirs, ours in sorted(shop.names.get("klaviyo", {}).items())}
    return own.get(name) or _USUAL.get(name) or name


def names_by_id(book: "Book", shop: ShopEntry) -> dict[str, str]:
    """The event that each metric's id stands for: what happened, and what may come to."""
    names = {*book.profiles.names(shop.name), *CANONICAL_NAMES}
    return {metric_id(shop.secret, name): name for name in names}


def _known(book: "Book", shop: ShopEntry) -> "dict[str, tuple[str, NameCount]]":
    counts = book.profiles.names(shop.name)
    return {metric_id(shop.secret, name): (name, held) for name, held in counts.items()}


# of several that Klaviyo has for one event, the first
_USUAL = {ours: theirs for theirs, ours in reversed(KLAVIYO.items())}

ROUTES = (
    Route(
        method="GET", path="/api/metrics", endpoint=get_metrics, source="klaviyo", limit=MEDIUM
    ),
    Route(
        method="GET", path="/api/metrics/{id}", endpoint=get_metric, source="klaviyo",
        limit=MEDIUM,
    ),
)  # fmt: skip
