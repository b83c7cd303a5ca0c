"""Paths for whoever runs the service: whether it lives, its metrics, and how far the lake is."""

import hmac
import time

from starlette.responses import Response

from habitue.serving.app import Asked, Route
from habitue.serving.auth import is_from_here, key_in_request, unknown_key
from habitue.serving.beside.settlement import Progress, depth_bytes
from habitue.serving.replies import encoded

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def get_health(asked: Asked) -> Response:
    """Say that the server answers."""
    return encoded({"status": "ok"})


async def get_metrics(asked: Asked) -> Response:
    """Counters and histograms for Prometheus; to this machine, or with the operator's key."""
    _authorise(asked)
    service = asked.service
    progress = service.settlement.progress
    gauges = {
        "log_depth_rows": service.settlement.depth_rows,
        "log_depth_bytes": depth_bytes(service.place.path / "log"),
        "waiting_bytes": service.collector.waiting_bytes,
        "commit_lag_seconds": lag_seconds(progress, time.time()),
    }
    settled = progress.settled if progress else {}
    return Response(service.metrics.text(gauges, settled), media_type=_TEXT)


async def get_status(asked: Asked) -> Response:
    """Say how a shop's sending goes: what was accepted and rejected, and how late the lake is."""
    assert asked.caller is not None, "the route asks for a key"
    service, shop = asked.service, asked.caller.shop.name
    progress = service.settlement.progress
    return encoded(
        {
            "shop": shop,
            "accepted": service.metrics.accepted[shop],
            "rejected": service.metrics.reasons().get(shop, {}),
            "commit_lag_seconds": lag_seconds(progress, time.time()),
        }
    )


ROUTES = (
    Route(method="GET", path="/health", endpoint=get_health, open=True),
    Route(method="GET", path="/metrics", endpoint=get_metrics, open=True),
    Route(method="GET", path="/v1/status", endpoint=get_status),
)


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
