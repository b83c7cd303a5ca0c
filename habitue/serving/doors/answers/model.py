"""What answers for a shop, how good it was found to be, and what a better one would need."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from habitue.events import Instant
from habitue.registry import CARD, Registry, Version
from habitue.scoring.desk import Figure
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer
from habitue.serving.doors.answers.asking import NO_SCORES

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book

# as habitue.transfer.opening calls them, which loads models
ORIGIN_FILE, MIXTURE_FILE = "origin.json", "mixture.json"
NATS = "nats a customer, of orders, how many and which items; fewer are better"
_SIGMAS = 1.645                            # within which nine of ten fall
RECALL = "recall@10 of lists; more is better"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What answers for a shop now, and what it lacks."""

    status: str                            # full, transfer or insufficient
    missing: list[str]                     # each thing that `full` predictions need
    version: str | None                    # of the model; none: nothing answers yet
    scored: Instant | None                 # when the shop was scored as a whole
    waiting: int                           # keys of which no score knows all
    behind_since: Instant | None           # when the first of that was received
    problem: str | None                    # why the shop could not be scored


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """What a model learnt from."""

    own: bool                              # trained on this shop; else weights that ship
    until: Instant | None                  # of its own: everything up to then was seen
    published: Instant | None
    way: str | None                        # how it came from weights that ship, or from nothing
    window_days: float                     # that had closed and corrects its level; 0: none had
    window_customers: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """How one way did on the shop's latest closed window, which it had not seen."""

    metric: str
    method: str
    value: float
    chosen: bool                           # whether it is the one that answers; the rest compare


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What answers for a shop, from what it learnt, and how good it was found to be."""

    version: str | None
    status: str
    missing: list[str]
    scored: Instant | None
    horizons_days: list[float]             # of counts and spend; chances are told of any up to 730
    learnt: Learnt | None
    measured: list[Measured]
    judged: list[Figure]                   # of the last question that was answered
    trusted_within: float | None           # the level is off by less, nine times in ten
    card: str | None                       # as `habitue train` wrote it (Markdown)


async def get_model(asked: Asked) -> Response:
    """Show the model card: version, status, what it learnt from, and figures beside others'."""
    card = await asked.service.reading.ask(lambda book: _card(book, asked))
    return answer(asked, card)


ROUTES = (
    Route(method="GET", path="/v1/model", endpoint=get_model, reply=ModelCard, tagged=True),
)


async def standing_of(asked: Asked) -> Standing:
    """What answers for the shop of a request."""
    return await asked.service.reading.ask(lambda book: _standing(book, asked))


def _standing(book: "Book", asked: Asked) -> Standing:
    from habitue.lake.live.told import instant
    from habitue.scoring.told import SCORING_FILE, read_told

    name, shop = asked.shop.name, book.shop(asked.shop.name)
    told = read_told(asked.service.place.online / SCORING_FILE)
    now = told.shops.get(name) if told else None
    since = now.since if now else None
    return Standing(
        status="insufficient" if shop is None else shop.whole.status,
        missing=[NO_SCORES] if shop is None else _each(shop.whole.missing),
        version=None if shop is None else shop.whole.version,
        scored=None if shop is None else instant(shop.whole.cutoff),
        waiting=now.waiting if now else 0,
        behind_since=None if since is None else instant(since),
        problem=told.not_yet.get(name) if told else None,
    )


def _card(book: "Book", asked: Asked) -> ModelCard:
    standing, shop = _standing(book, asked), book.shop(asked.shop.name)
    if shop is None:
        return ModelCard(
            version=None, status=standing.status, missing=standing.missing, scored=None,
            horizons_days=[], learnt=None, measured=[], judged=[], trusted_within=None, card=None,
        )  # fmt: skip
    own = _published(asked, shop.whole.version)
    origin = {} if own is None else _json(own.folder / ORIGIN_FILE)
    mixture = {} if own is None else _json(own.folder / MIXTURE_FILE)
    calibration = shop.whole.calibration
    answered = [one for one in book.desk.questions(asked.shop.name) if one.found.judged]
    return ModelCard(
        version=shop.whole.version, status=standing.status, missing=standing.missing,
        scored=standing.scored, horizons_days=list(shop.whole.horizons_days),
        learnt=Learnt(
            own=own is not None, until=None if own is None else own.cutoff,
            published=None if own is None else own.created, way=origin.get("way"),
            window_days=calibration.window_days, window_customers=calibration.customers,
        ),
        measured=[*_costs(origin), *_recalls(mixture)],
        judged=answered[0].found.judged if answered else [],
        trusted_within=math.expm1(_SIGMAS * max(calibration.drift, origin.get("least_drift", 0.0))),
        card=None if own is None else _text(own.folder / CARD),
    )  # fmt: skip


def _published(asked: Asked, version: str) -> Version | None:
    """The version of that name that was trained on the shop; another shop's is not told of."""
    for one in Registry(asked.service.place.path).versions():
        if (one.version, one.shop) == (version, asked.shop.name):
            return one
    return None


def _costs(origin: dict[str, Any]) -> Iterator[Measured]:
    for way, cost in origin.get("costs", {}).items():
        yield Measured(metric=NATS, method=way, value=cost, chosen=way == origin.get("way"))


def _recalls(mixture: dict[str, Any]) -> Iterator[Measured]:
    for method, name in (("mixture", "recall"), ("defaults", "default_recall")):
        if mixture.get(name) is not None:
            yield Measured(
                metric=RECALL, method=method, value=mixture[name], chosen=method == "mixture"
            )


def _each(missing: str | None) -> list[str]:
    return missing.split("; ") if missing else []


def _json(path: Path) -> dict[str, Any]:
    told = _text(path)
    return {} if told is None else msgspec.json.decode(told)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None                        # a version from before there were such files
