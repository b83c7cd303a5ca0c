"""What a request asks for: of whom, as of when, and its parameters."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from habitue.lake.keys import external_key
from habitue.serving.app import Asked
from habitue.serving.replies import Refused

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book, Known

NO_ORDER = "an order of theirs that stands"
NO_SCORES = "a first scoring of the shop, which takes some seconds from its first orders on"


def known_customer(book: "Book", asked: Asked) -> "Known":
    """Who the path names: by the id of their profile, or as the shop calls them."""
    told = asked.request.path_params["id"]
    known = book.customer(asked.shop.name, external_key(told)) or book.customer(
        asked.shop.name, told
    )
    if known is None:
        raise Refused(404, "not_found", "no customer of that id is known")
    return known


def told_of(known: "Known", at: int) -> dict[str, Any]:
    """What every answer about a customer says of itself."""
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


def asked_at(asked: Asked) -> int:
    """The instant (µs) that is asked about: now, unless the request says another."""
    told = asked.request.query_params.get("at")
    if told is None:
        return _microseconds(asked.service.now())
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Refused(
            400, "bad_parameter", "`at` is an instant with its zone: 2026-11-28T10:00:00Z",
            pointer="at",
        )  # fmt: skip
    return _microseconds(at)


def _microseconds(time: datetime) -> int:
    from habitue.lake.live.told import microseconds

    return microseconds(time.astimezone(UTC))


def many(asked: Asked, name: str) -> list[str]:
    """The values of a parameter that may be given again, or with commas."""
    told = asked.request.query_params.getlist(name)
    return [one for many in told for one in many.split(",") if one]


def yes(asked: Asked, name: str) -> bool:
    """Whether a parameter says so."""
    told = asked.request.query_params.get(name, "false").lower()
    if told not in ("true", "false", "1", "0"):
        raise Refused(400, "bad_parameter", f"`{name}` is true or false", pointer=name)
    return told in ("true", "1")


def whole_number(asked: Asked, name: str, default: int, most: int) -> int:
    """The number from 1 to `most` that a parameter says."""
    told = asked.request.query_params.get(name)
    if told is None:
        return default
    if not (told.isdecimal() and told.isascii() and 1 <= len(told) <= 6 and 1 <= int(told) <= most):
        raise Refused(400, "bad_parameter", f"`{name}` is a number from 1 to {most}", pointer=name)
    return int(told)
