"""What a request asks for: of whom, and as of when."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

from habitue.lake.keys import external_key
from habitue.serving.app import Asked
from habitue.serving.contract.wanted import bad_parameter
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.lake.profiles import LiveProfile
    from habitue.scoring.told import WholeShop
    from habitue.serving.answers.book import Book, Known

NO_ORDER = "an order of theirs that stands"
NOTHING_TOLD = "anything that was told of them"
NO_SCORES = "a first scoring of the shop, which takes some seconds from its first orders on"
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)

At: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class OfCustomer(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one customer."""

    id: str                                # what the shop calls them, or the id of their profile


def known_customer(book: "Book", asked: Asked, told: str | None = None) -> "Known":
    """Who is named, in the path if not told: by the id of their profile, or by the shop's id.

    Raises:
        Refused: nobody of that name is known.
    """
    told = asked.request.path_params["id"] if told is None else told
    known = customer_named(book, asked.shop.name, told)
    if known is None:
        raise _nobody()
    return known


def known_profile(book: "Book", asked: Asked) -> "LiveProfile":
    """All that is known of who is named in the path, and nothing that was worked out of it.

    Raises:
        Refused: nobody of that name is known.
    """
    shop, told = asked.shop.name, asked.request.path_params["id"]
    named = book.profiles.named(shop, external_key(told)) or book.profiles.named(shop, told)
    profile = None if named is None else book.profiles.get(shop, named.id)
    if profile is None:
        raise _nobody()
    return profile


def customer_named(book: "Book", shop: str, told: str) -> "Known | None":
    """Who is named by the id of their profile, or by the shop's id; none: nobody known."""
    return book.customer(shop, external_key(told)) or book.customer(shop, told)


def _nobody() -> Refused:
    return Refused(404, "not_found", "no customer of that id is known")


def told_of_nobody(named: str, shop: "WholeShop | None", at: int) -> dict[str, Any]:
    """The same fields as `told_of` where nothing was told of somebody."""
    from habitue.lake.live.told import instant

    return {
        "customer": named, "id": None, "at": instant(at),
        "version": None if shop is None else shop.whole.version, "status": "insufficient",
        "missing": NO_SCORES if shop is None else NOTHING_TOLD,
        "anchor": None, "scored": None, "behind_since": None,
    }  # fmt: skip


def told_of(known: "Known", at: int) -> dict[str, Any]:
    """The fields of `About`, and their id: what every answer about a customer says of itself."""
    from habitue.lake.live.told import instant

    shop, scored = known.shop, known.scored
    told: dict[str, Any] = {
        "customer": known.profile.customer,
        "id": known.profile.id,
        "at": instant(at),
        "version": None if shop is None else shop.whole.version,
        "status": "insufficient" if shop is None or scored is None else shop.whole.status,
        "missing": NO_SCORES if shop is None else NO_ORDER,
        "anchor": None if scored is None else instant(scored.anchor),
        "scored": None if scored is None else instant(scored.scored),
        # since when something is known of them that these answers do not know
        "behind_since": None if known.waiting_since is None else instant(known.waiting_since),
    }
    if shop is not None and scored is not None:
        told["missing"] = shop.whole.missing
    return told


def instant_of(asked: Asked, at: datetime | None) -> int:
    """The instant (µs) that is asked about: now, unless the request says another."""
    from habitue.lake.live.told import microseconds

    if at is None:
        return microseconds(asked.service.now().astimezone(UTC))
    if not _FIRST <= at < _LAST:
        raise bad_parameter("at", "`at` is an instant between 1970 and 3000")
    return microseconds(at.astimezone(UTC))
