"""Our own paths for answers: who a customer is, what they will do, what to show them.

Every answer is as of now, or as of the instant `at` that is asked for: what silence has done since
the last event is in it.
"""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response

from habitue.lake.keys import external_key
from habitue.serving.app import Asked, Route
from habitue.serving.replies import Refused, encoded

if TYPE_CHECKING:
    from habitue.scoring.told import Similar, WholeShop
    from habitue.serving.answers.book import Book, Known

MOST_ITEMS = 100
NO_ORDER = "an order of theirs that stands"
NO_SCORES = "a first scoring of the shop, which takes some seconds from its first orders on"

Found = TypeVar("Found")


class Reading:
    """The book of answers, opened when first asked for, since it loads much."""

    def __init__(self, online: Path) -> None:
        self._online = online
        self._book: Book | None = None
        self._opening = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether nobody who asks has to wait for it."""
        return self._book is not None

    async def open(self) -> "Book":
        """The book; the first call takes a moment."""
        async with self._opening:
            if self._book is None:
                self._book = await asyncio.to_thread(_open, self._online)
        return self._book

    async def ask(self, question: "Callable[[Book], Found]") -> Found:
        """Ask in a thread, so that no other request waits for the disk."""
        book = self._book or await self.open()
        return await asyncio.to_thread(question, book)

    def close(self) -> None:
        """Give the files back."""
        if self._book is not None:
            self._book.close()


def _open(online: Path) -> "Book":
    from habitue.serving.answers.book import Book

    return Book(online)


async def get_customer(asked: Asked) -> Response:
    """Show a customer: keys, properties, consent, totals, and the audiences they are in."""

    def read(book: "Book") -> tuple["Known", list[tuple[str, int]]]:
        known = _known(book, asked)
        return known, book.memberships(asked.shop.name, known.profile.customer)

    known, memberships = await asked.service.reading.ask(read)
    profile = known.profile
    return encoded(
        {
            "customer": profile.customer,
            "id": profile.id,
            "keys": profile.keys,
            "email": profile.email,
            "phone": profile.phone,
            "properties": profile.properties,
            "consents": profile.consents,
            "created": profile.created,
            "updated": profile.updated,
            "last_event": profile.last_event,
            "events": profile.counts,
            "memberships": [_membership(*one) for one in memberships],
        }
    )


async def get_predictions(asked: Asked) -> Response:
    """Predict one customer, as of now or of `at`: `question`, `horizon_days`, both repeatable."""
    from habitue.serving.answers.predictions import predictions_of

    def read(book: "Book") -> dict[str, Any]:
        known = _known(book, asked)
        at = _at(asked)
        told = _told(known, at)
        if known.shop is not None and known.scored is not None:
            if at < known.scored.anchor:
                raise Refused(
                    400, "bad_parameter",
                    "that is before the customer's last event or the week's first day; ask"
                    " `habitue predict --cutoff` for answers of the past",
                    pointer="at",
                )  # fmt: skip
            questions, horizons = _questions(asked, known.shop)
            told["predictions"] = predictions_of(
                known.shop, known.scored, at=at, questions=questions, horizons_days=horizons
            )
        return told

    return encoded(await asked.service.reading.ask(read))


async def get_recommendations(asked: Asked) -> Response:
    """List items for one customer: `k`, `exclude`, `exclude_bought`, `per_category`."""
    from habitue.serving.answers.lists import Wanted, chosen

    wanted = Wanted(
        k=_whole_number(asked, "k", 10, MOST_ITEMS),
        exclude=frozenset(_many(asked, "exclude")),
        exclude_bought=_yes(asked, "exclude_bought"),
        per_category=_whole_number(asked, "per_category", 0, MOST_ITEMS) or None,
    )

    def read(book: "Book") -> dict[str, Any]:
        shop = book.shop(asked.shop.name)
        popular = [] if shop is None else shop.popular
        if "id" not in asked.request.path_params:
            return {"customer": None, "items": _ranked(chosen([], popular, wanted))}
        known = _known(book, asked)
        mine = [] if known.scored is None else book.listed(known.scored)
        told = _told(known, _at(asked))
        told["items"] = _ranked(chosen(mine, popular, wanted))
        return told

    return encoded(await asked.service.reading.ask(read))


async def get_popular(asked: Asked) -> Response:
    """List what sells, for somebody nothing is known of: `k`, `exclude`, `per_category`."""
    return await get_recommendations(asked)


async def get_memberships(asked: Asked) -> Response:
    """List the audiences one customer is in, and since when."""

    def read(book: "Book") -> dict[str, Any]:
        customer = _known(book, asked).profile.customer
        found = book.memberships(asked.shop.name, customer)
        return {"customer": customer, "memberships": [_membership(*one) for one in found]}

    return encoded(await asked.service.reading.ask(read))


async def get_similar(asked: Asked) -> Response:
    """List items that are bought by who buys an item: `k`."""
    item, most = asked.request.path_params["item"], _whole_number(asked, "k", 10, MOST_ITEMS)

    def read(book: "Book") -> "Similar":
        found = book.item(asked.shop.name, item)
        if found is None:
            raise Refused(404, "not_found", "no item of that code is known, or not yet")
        return found

    found = await asked.service.reading.ask(read)
    return encoded(
        {
            "item": item, "title": found.title, "category": found.category,
            "orders_28d": found.orders_28d,
            "similar": [{"item": one, "similarity": how} for one, how in found.similar[:most]],
        }
    )  # fmt: skip


ROUTES = (
    Route(method="GET", path="/v1/customers/{id}", endpoint=get_customer),
    Route(method="GET", path="/v1/customers/{id}/predictions", endpoint=get_predictions),
    Route(method="GET", path="/v1/customers/{id}/recommendations", endpoint=get_recommendations),
    Route(method="GET", path="/v1/customers/{id}/memberships", endpoint=get_memberships),
    Route(method="GET", path="/v1/recommendations", endpoint=get_popular),
    Route(method="GET", path="/v1/items/{item}/similar", endpoint=get_similar),
)


def _known(book: "Book", asked: Asked) -> "Known":
    """Who the path names: by the id of their profile, or as the shop calls them."""
    told = asked.request.path_params["id"]
    known = book.customer(asked.shop.name, external_key(told)) or book.customer(
        asked.shop.name, told
    )
    if known is None:
        raise Refused(404, "not_found", "no customer of that id is known")
    return known


def _told(known: "Known", at: int) -> dict[str, Any]:
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


def _at(asked: Asked) -> int:
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


def _questions(asked: Asked, shop: "WholeShop") -> tuple[list[str], list[float]]:
    """What is asked, and how far ahead."""
    from habitue.serving.answers.predictions import (
        DEFAULT_HORIZONS_DAYS,
        QUESTIONS,
        is_answered,
    )

    questions = _many(asked, "question") or list(QUESTIONS)
    for one in questions:
        if one not in QUESTIONS:
            raise Refused(
                400, "bad_parameter", f"`question` is one of {', '.join(QUESTIONS)}",
                pointer="question",
            )  # fmt: skip
    horizons = [_days(one) for one in _many(asked, "horizon_days")] or list(DEFAULT_HORIZONS_DAYS)
    for days in horizons:
        for one in questions:
            if one != "next_order" and not is_answered(shop, one, days):
                read = ", ".join(f"{day:g}" for day in shop.whole.horizons_days)
                raise Refused(
                    400, "bad_parameter",
                    f"`orders` and `revenue` are read {read} days ahead, `order` and `churn` as far"
                    " as 730",
                    pointer="horizon_days",
                )  # fmt: skip
    return questions, horizons


def _days(told: str) -> float:
    try:
        days = float(told)
    except ValueError:
        days = math.nan
    if not 0 < days < math.inf:
        raise Refused(400, "bad_parameter", "`horizon_days` is a number of days",
                      pointer="horizon_days")  # fmt: skip
    return days


def _many(asked: Asked, name: str) -> list[str]:
    """The values of a parameter that may be given again, or with commas."""
    told = asked.request.query_params.getlist(name)
    return [one for many in told for one in many.split(",") if one]


def _yes(asked: Asked, name: str) -> bool:
    told = asked.request.query_params.get(name, "false").lower()
    if told not in ("true", "false", "1", "0"):
        raise Refused(400, "bad_parameter", f"`{name}` is true or false", pointer=name)
    return told in ("true", "1")


def _whole_number(asked: Asked, name: str, default: int, most: int) -> int:
    told = asked.request.query_params.get(name)
    if told is None:
        return default
    if not (told.isdecimal() and told.isascii() and 1 <= len(told) <= 6 and 1 <= int(told) <= most):
        raise Refused(400, "bad_parameter", f"`{name}` is a number from 1 to {most}", pointer=name)
    return int(told)


def _ranked(items: "list[Any]") -> list[dict[str, Any]]:
    return [{"rank": rank, **msgspec.structs.asdict(one)} for rank, one in enumerate(items, 1)]


def _membership(audience: str, since: int) -> dict[str, Any]:
    from habitue.lake.live.told import instant

    return {"audience": audience, "since": instant(since)}
