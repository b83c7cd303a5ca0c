"""Answers about one customer: who they are, what they will do, which audiences they are in."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from starlette.responses import Response

from habitue.predictions.scores.questions import QUESTIONS, Question
from habitue.serving.answers.told import (
    Customer,
    Membership,
    Memberships,
    Prediction,
    Predictions,
)
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, bad_parameter, parameters
from habitue.serving.doors.answers.asking import (
    At,
    OfCustomer,
    instant_of,
    known_customer,
    known_profile,
    told_of,
)
from habitue.serving.doors.klaviyo.shown import own_properties

if TYPE_CHECKING:
    from habitue.scoring.told import WholeShop
    from habitue.serving.answers.book import Book, Known


Horizon = Annotated[float, msgspec.Meta(gt=0, le=730)]


class PredictionsOf(OfCustomer, kw_only=True, frozen=True):
    """What is asked about one customer."""

    question: tuple[Question, ...] = ()    # all, unless some are named
    horizon_days: tuple[Horizon, ...] = ()  # how far ahead: 30 and 90, unless told
    at: At | None = None                   # the instant that is asked about: now, unless told


async def get_customer(asked: Asked) -> Response:
    """Show a customer: keys, properties, consent, totals, and the audiences they are in."""
    parameters(asked, OfCustomer)

    def read(book: "Book") -> Customer:
        profile = known_profile(book, asked)
        told = msgspec.structs.asdict(profile) | {
            "properties": own_properties(profile), "events": profile.counts,
            "memberships": _memberships(book, asked, profile.customer),
        }  # fmt: skip
        return msgspec.convert(told, Customer, from_attributes=True)

    return answer(asked, await asked.service.reading.ask(read))


async def get_predictions(asked: Asked) -> Response:
    """Predict one customer, as of now or of `at`: `question`, `horizon_days`, both repeatable."""
    wanted = parameters(asked, PredictionsOf)
    at = instant_of(asked, wanted.at)

    def read(book: "Book") -> Predictions:
        known = known_customer(book, asked)
        told = told_of(known, at)
        if known.shop is not None and known.scored is not None:
            told["predictions"] = _predicted(known, at, wanted)
        return Predictions(**told)

    return answer(asked, await asked.service.reading.ask(read))


async def get_memberships(asked: Asked) -> Response:
    """List the audiences one customer is in, and since when."""
    parameters(asked, OfCustomer)

    def read(book: "Book") -> Memberships:
        customer = known_customer(book, asked).profile.customer
        return Memberships(customer=customer, memberships=_memberships(book, asked, customer))

    return answer(asked, await asked.service.reading.ask(read))


ROUTES = (
    Route(
        method="GET", path="/v1/customers/{id}", endpoint=get_customer,
        parameters=OfCustomer, reply=Customer, tagged=True,
    ),
    Route(
        method="GET", path="/v1/customers/{id}/predictions", endpoint=get_predictions,
        parameters=PredictionsOf, reply=Predictions,
    ),
    Route(
        method="GET", path="/v1/customers/{id}/memberships", endpoint=get_memberships,
        parameters=OfCustomer, reply=Memberships, tagged=True,
    ),
)  # fmt: skip


def _predicted(known: "Known", at: int, wanted: PredictionsOf) -> list[Prediction]:
    from habitue.serving.answers.predictions import predictions_of

    assert known.shop is not None and known.scored is not None, "asked only then"
    if at < known.scored.anchor:
        raise bad_parameter(
            "at",
            "that is before the customer's last event or the week's first day; ask"
            " `habitue predict --cutoff` for answers of the past",
        )
    questions, horizons = _questions(wanted, known.shop)
    return predictions_of(
        known.shop, known.scored, at=at, questions=questions, horizons_days=horizons
    )


def _questions(wanted: PredictionsOf, shop: "WholeShop") -> tuple[list[Question], list[float]]:
    """What is asked, and how far ahead."""
    from habitue.serving.answers.predictions import DEFAULT_HORIZONS_DAYS, is_answered

    questions = list(wanted.question or QUESTIONS)
    horizons = list(wanted.horizon_days or DEFAULT_HORIZONS_DAYS)
    for days in horizons:
        for one in questions:
            if one != "next_order" and not is_answered(shop, one, days):
                read = ", ".join(f"{day:g}" for day in shop.whole.horizons_days)
                raise bad_parameter(
                    "horizon_days",
                    f"`orders` and `revenue` are read {read} days ahead, `order` and `churn` as far"
                    " as 730",
                )
    return questions, horizons


def _memberships(book: "Book", asked: Asked, customer: str) -> list[Membership]:
    from habitue.lake.live.told import instant

    found = book.memberships(asked.shop.name, customer)
    return [Membership(audience, instant(since)) for audience, since in found]
