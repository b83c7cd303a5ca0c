"""Paths for whoever runs the service: whether it lives, its metrics, and how far the lake is."""

import asyncio
import contextlib
import hmac
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from habitue.config import clock
from habitue.errors import Busy
from habitue.serving.app import Asked, Route
from habitue.serving.auth import is_from_here, key_in_request, unknown_key
from habitue.serving.beside.settlement import Progress, depth_bytes
from habitue.serving.contract.wanted import answer
from habitue.serving.doors.answers.model import Standing, standing_of
from habitue.serving.replies import unavailable

if TYPE_CHECKING:
    from habitue.serving.beside.overview import ScoringStatus

SILENT_SECONDS = 30.0                      # after which a worker that says nothing is missed
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Health(msgspec.Struct, frozen=True):
    """How the service is."""

    status: str


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How a shop's sending goes, since the server started."""

    shop: str
    accepted: int
    rejected: dict[str, int]               # inputs that were not taken, by reason
    commit_lag_seconds: float              # how long the oldest request waits that the lake lacks
    predictions: Standing                  # what answers for it, and what it lacks


async def get_health(asked: Asked) -> Response:
    """Say that the server answers."""
    return answer(asked, Health("ok"))


async def get_alive(asked: Asked) -> Response:
    """Say that the server answers, as `/healthz` does."""
    return await get_health(asked)


async def get_metrics(asked: Asked) -> Response:
    """Counters and histograms for Prometheus; to this machine, or with the operator's key."""
    _authorise(asked)
    service = asked.service
    progress = service.settlement.progress
    gauges = {
        "log_depth_rows": service.settlement.depth_rows,
        "log_depth_bytes": depth_bytes(service.place.path / "log"),
        "waiting_bytes": service.collector.waiting_bytes
        + sum(one.waiting_bytes for one in service.others()),
        "commit_lag_seconds": lag_seconds(progress, clock()),
    }
    settled = progress.settled if progress else {}
    scoring = await asyncio.to_thread(_scoring, service.place.online)
    gauges["scoring_waiting_keys"] = sum(one.waiting for one in scoring)
    gauges["scoring_lag_seconds"] = max((one.lag_seconds for one in scoring), default=0.0)
    gauges |= await _untold(asked)
    versions = {one.shop: one.version for one in scoring if one.version is not None}
    return Response(service.counted().text(gauges, settled, versions), media_type=_TEXT)


async def get_ready(asked: Asked) -> Response:
    """Say whether events can be taken and answers read; 503 until then, with what is missing."""
    service = asked.service
    missing = [] if service.reading.is_open else ["what answers are read from is being opened"]
    progress = service.settlement.progress
    if progress is not None and clock() - progress.time > SILENT_SECONDS:
        missing.append("the worker beside the server has said nothing for a while")
    if progress is not None and progress.failure:
        missing.append("the worker cannot commit; `habitue status` says why")
    if missing:
        raise unavailable("; ".join(missing))
    return answer(asked, Health("ready"))


async def get_status(asked: Asked) -> Response:
    """Say how a shop's sending goes, and what it still lacks for `full` predictions."""
    assert asked.caller is not None, "the route asks for a key"
    service, shop = asked.service, asked.caller.shop.name
    progress, counted = service.settlement.progress, service.counted()
    return answer(
        asked,
        Sending(
            shop=shop, accepted=counted.accepted[shop],
            rejected=counted.reasons().get(shop, {}),
            commit_lag_seconds=lag_seconds(progress, clock()),
            predictions=await standing_of(asked),
        ),
    )  # fmt: skip


ROUTES = (
    Route(method="GET", path="/health", endpoint=get_alive, open=True, reply=Health),
    Route(method="GET", path="/healthz", endpoint=get_health, open=True, reply=Health),
    Route(method="GET", path="/readyz", endpoint=get_ready, open=True, reply=Health),
    Route(method="GET", path="/metrics", endpoint=get_metrics, open=True, reply=str),
    Route(method="GET", path="/v1/status", endpoint=get_status, reply=Sending),
)


async def _untold(asked: Asked) -> dict[str, float]:
    """Of how many customers live audiences do not know the score that answers tell."""
    reading = asked.service.reading
    if not reading.is_open:
        return {}
    with contextlib.suppress(Busy):        # a store that is out of reach tells no number
        return {"untold_scores": await reading.ask(lambda book: book.scored.untold())}
    return {}


def _scoring(online: Path) -> "tuple[ScoringStatus, ...]":
    from habitue.serving.beside.overview import scoring

    return scoring(online, clock())


def lag_seconds(progress: Progress | None, now: float) -> float:
    """How long the oldest request waits that the lake lacks, as of the worker's last word."""
    if progress is None:
        return 0.0
    # a worker that says nothing any more may be behind by all that came since
    silent = now - progress.time if now - progress.time > 5 else 0.0
    since = progress.behind_since
    return max(0.0 if since is None else now - since, silent)


def _authorise(asked: Asked) -> None:
    """Let in whoever asks from this machine, or has the operator's key."""
    told = key_in_request(asked.request)
    if told is None and is_from_here(asked.request):
        return
    if told is None or not hmac.compare_digest(
        told.encode(errors="replace"), asked.service.operator_key.encode()
    ):
        raise unknown_key()
