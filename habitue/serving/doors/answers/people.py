"""Answers about one customer: who they are, what they will do, which audiences they are in."""

import math
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from habitue.serving.app import Asked, Route
from habitue.serving.doors.answers.asking import asked_at, known_customer, many, told_of
from habitue.serving.replies import Refused, encoded

if TYPE_CHECKING:
    from habitue.scoring.told import WholeShop
    from habitue.serving.answers.book import Book, Known


async def get_customer(asked: Asked) -> Response:
    """Show a customer: keys, properties, consent, totals, and the audiences they are in."""

    def read(book: "Book") -> tuple["Known", list[tuple[str, int]]]:
        known = known_customer(book, asked)
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
        known = known_customer(book, asked)
        at = asked_at(asked)
        told = told_of(known, at)
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


async def get_memberships(asked: Asked) -> Response:
    """List the audiences one customer is in, and since when."""

    def read(book: "Book") -> dict[str, Any]:
        customer = known_customer(book, asked).profile.customer
        found = book.memberships(asked.shop.name, customer)
        return {"customer": customer, "memberships": [_membership(*one) for one in found]}

    return encoded(await asked.service.reading.ask(read))


ROUTES = (
    Route(method="GET", path="/v1/customers/{id}", endpoint=get_customer),
    Route(method="GET", path="/v1/customers/{id}/predictions", endpoint=get_predictions),
    Route(method="GET", path="/v1/customers/{id}/memberships", endpoint=get_memberships),
)


def _questions(asked: Asked, shop: "WholeShop") -> tuple[list[str], list[float]]:
    """What is asked, and how far ahead."""
    from habitue.serving.answers.predictions import (
        DEFAULT_HORIZONS_DAYS,
        QUESTIONS,
        is_answered,
    )

    questions = many(asked, "question") or list(QUESTIONS)
    for one in questions:
        if one not in QUESTIONS:
            raise Refused(
                400, "bad_parameter", f"`question` is one of {', '.join(QUESTIONS)}",
                pointer="question",
            )  # fmt: skip
    horizons = [_days(one) for one in many(asked, "horizon_days")] or list(DEFAULT_HORIZONS_DAYS)
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


def _membership(audience: str, since: int) -> dict[str, Any]:
    from habitue.lake.live.told import instant

    return {"audience": audience, "since": instant(since)}
