"""Why a customer is predicted what they are: asked of the scorer, which holds the models."""

import asyncio
import math
import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.predictions.scores.questions import Explained
from habitue.scoring.desk import Told, TooMany, Why
from habitue.serving.answers import told
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, bad_parameter, parameters
from habitue.serving.doors.answers.asking import OfCustomer, instant_of, known_customer, told_of
from habitue.serving.replies import Refused, unavailable

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book

LOOK_SECONDS = 0.02                        # between looks whether it is told
PATIENCE_SECONDS = 10.0                    # beyond the budget, for what is scored before
SILENT_SECONDS = 60.0                      # after which a scorer that says nothing is missed
NO_SCORER = (
    "no scorer runs beside this server, or it has said nothing for a minute; start `habitue serve`"
    " without --no-scores"
)


class WhyOf(OfCustomer, kw_only=True, frozen=True):
    """What is to be explained."""

    question: Explained = "churn"          # the prediction
    horizon_days: Annotated[float, msgspec.Meta(gt=0, le=730)] = 90.0      # how far ahead
    budget_ms: Annotated[float, msgspec.Meta(ge=0, le=2000)] = 500.0       # for dividing it


async def get_why(asked: Asked) -> Response:
    """Say what moved a customer's prediction, and how far: effects that add up to it."""
    wanted = parameters(asked, WhyOf)
    reading, id = asked.service.reading, secrets.token_hex(12)

    def begin(book: "Book") -> dict[str, Any]:
        return _begun(book, asked, wanted, id)

    whom = await reading.ask(begin)
    try:
        found = await _told(asked, id, wanted.budget_ms / 1_000 + PATIENCE_SECONDS)
    finally:
        await reading.ask(lambda book: book.desk.drop(id))
    if found is None:
        raise unavailable("it was not worked out in time; ask again, or for a smaller `budget_ms`")
    if found.passes:
        raise unavailable(found.detail)
    if found.detail:
        raise Refused(409, "not_explained", found.detail)
    explained = msgspec.json.decode(found.explanation)
    about = {"id": whom["id"], "at": found.at, "version": found.version}
    return answer(asked, msgspec.convert(explained | about, told.Why))


ROUTES = (
    Route(
        method="GET", path="/v1/customers/{id}/why", endpoint=get_why, parameters=WhyOf,
        reply=told.Why,
    ),
)  # fmt: skip


def refuse_without_scorer(asked: Asked) -> None:
    """Raise `Refused` where nobody would answer what only the models can."""
    from habitue.scoring.told import SCORING_FILE

    try:
        silent = time.time() - (asked.service.place.online / SCORING_FILE).stat().st_mtime
    except FileNotFoundError:
        silent = math.inf
    if silent > SILENT_SECONDS:
        raise unavailable(NO_SCORER)


def _begun(book: "Book", asked: Asked, wanted: WhyOf, id: str) -> dict[str, Any]:
    """Let the scorer be asked; who it is about, as answers tell it."""
    from habitue.serving.answers.predictions import is_answered

    known, now = known_customer(book, asked), instant_of(asked, None)
    whom = told_of(known, now)
    if known.shop is None or known.scored is None:
        raise Refused(409, "not_predicted", f"nothing is predicted of them yet: {whom['missing']}")
    if not is_answered(known.shop, wanted.question, wanted.horizon_days):
        read = ", ".join(f"{day:g}" for day in known.shop.whole.horizons_days)
        raise bad_parameter("horizon_days", f"`{wanted.question}` is read {read} days ahead")
    refuse_without_scorer(asked)
    why = Why(
        customer=known.profile.customer, question=wanted.question,
        horizon_days=wanted.horizon_days, budget_seconds=wanted.budget_ms / 1_000,
    )  # fmt: skip
    try:
        book.desk.wonder(asked.shop.name, why, id=id, now=now)
    except TooMany:
        raise unavailable("others wait to be explained; ask again") from None
    return whom


async def _told(asked: Asked, id: str, seconds: float) -> Told | None:
    """What the scorer tells; none: nothing in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await asked.service.reading.ask(lambda book: book.desk.told(id))
        if found is not None:
            return msgspec.json.decode(found, type=Told)
        await asyncio.sleep(LOOK_SECONDS)
    return None
