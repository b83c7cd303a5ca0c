"""Documents of JSON:API: resources with their links, alone or a page of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

from starlette.responses import Response

from habitue.serving.app import Asked
from habitue.serving.doors.klaviyo.wire.asking import Page
from habitue.serving.doors.klaviyo.wire.cursors import cursor
from habitue.serving.replies import JSON_API, encoded

Resource: TypeAlias = Mapping[str, Any]


def resource(
    asked: Asked,
    kind: str,
    id: str,
    attributes: Mapping[str, Any],
    *,
    related: Mapping[str, tuple[str, str | None]] | None = None,
    wanted: frozenset[str] | None = None,
) -> dict[str, Any]:
    """One resource, of its attributes those that are wanted.

    `related` says of each relationship that is of one other resource its kind and id.
    """
    base = f"{address(asked)}/api/{plural(kind)}/{id}"
    kept = attributes
    if wanted is not None:
        kept = {name: value for name, value in attributes.items() if name in wanted}
    found: dict[str, Any] = {
        "type": kind, "id": id, "attributes": kept, "links": {"self": f"{base}/"},
    }  # fmt: skip
    if related:
        found["relationships"] = {
            name: {
                "data": None if other is None else {"type": of, "id": other},
                "links": {
                    "self": f"{base}/relationships/{name}/", "related": f"{base}/{name}/",
                },
            }
            for name, (of, other) in related.items()
        }  # fmt: skip
    return found


def plural(kind: str) -> str:
    """How a kind of resource stands in an address."""
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def document(
    one: Resource, status: int = 200, *, included: Sequence[Resource] | None = None
) -> Response:
    """An answer of one resource."""
    told: dict[str, Any] = {"data": one, "links": one.get("links", {})}
    if included is not None:
        told["included"] = included
    return encoded(told, status=status, kind=JSON_API)


def collection(
    asked: Asked,
    found: Sequence[Resource],
    *,
    following: tuple[Page, Sequence[str | int], str] | None = None,
    included: Sequence[Resource] | None = None,
) -> Response:
    """An answer of a page of resources; `following` says after which place more of them are."""
    here = f"{address(asked)}{asked.request.url.path}"
    links: dict[str, str | None] = {"self": here, "next": None, "prev": None}
    if following is not None:
        page, place, scope = following
        token = cursor(place, asked.shop.secret, f"{scope} {page.sort}")
        told = [
            one for one in asked.request.query_params.multi_items() if one[0] != "page[cursor]"
        ]
        links["next"] = f"{here}?{urlencode([*told, ('page[cursor]', token)])}"
    answer: dict[str, Any] = {"data": found, "links": links}
    if included is not None:
        answer["included"] = included
    return encoded(answer, kind=JSON_API)


def address(asked: Asked) -> str:
    """Where the client reached us, as it says itself."""
    url = asked.request.url
    return f"{url.scheme}://{url.netloc}"


def text(time: datetime) -> str:
    """An instant as Klaviyo writes it."""
    return time.isoformat(timespec="seconds")
