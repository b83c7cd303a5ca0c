"""Paths of Segment's, RudderStack's and PostHog's clients, which put their key anywhere.

These clients give up a batch for any refusal, so what cannot be taken is answered with success and
counted; a client that wants to know says `X-Strict-Mode: 1`.
"""

from functools import partial

from starlette.responses import Response

from habitue.events import Rejection
from habitue.ingest.doors import posthog, segment
from habitue.ingest.doors.faults import REASONS
from habitue.ingest.doors.intake import Translator
from habitue.serving.app import Asked, Endpoint, Route
from habitue.serving.replies import Refused, encoded, is_strict

MOST_CALL_BYTES = 2_000_000                # beyond what the translators take, so that they say so


def _door(translate: Translator, about: str, *, most_bytes: int, answer: object) -> Endpoint:
    async def endpoint(asked: Asked) -> Response:
        kept = await asked.take(await asked.body(most_bytes=most_bytes), translate)
        rejected = len(kept.rejections)
        if rejected and is_strict(asked.request):
            first = kept.rejections[0]
            raise _Counted(rejected, first)
        return encoded(answer, headers={"X-Habitue-Rejected": str(rejected)})

    endpoint.__doc__ = about
    return endpoint


class _Counted(Refused):
    """A refusal of inputs that are kept one by one already."""

    def __init__(self, rejected: int, first: Rejection) -> None:
        why = first.detail or REASONS.get(first.reason, first.reason)
        detail = (
            f"{rejected} of the calls were not taken, the rest was; /v1/rejected shows them;"
            f" the first: {why}"
        )
        super().__init__(400, first.reason, detail, pointer=f"/{first.position}{first.pointer}")
        self.is_kept = True


def _segment(path: str, translate: Translator, about: str) -> Route:
    endpoint = _door(
        translate, about, most_bytes=MOST_CALL_BYTES, answer={"success": True}
    )
    return Route(
        method="POST", path=path, endpoint=endpoint, public=True, keyed_body=True, source="segment"
    )


def _posthog(path: str) -> Route:
    endpoint = _door(
        posthog.translate,
        "Take PostHog's events, one or many.",
        most_bytes=posthog.BATCH_BYTES + 1,
        answer={"status": 1},
    )
    return Route(
        method="POST", path=path, endpoint=endpoint, public=True, keyed_body=True, source="posthog"
    )


ROUTES = (
    _segment("/v1/batch", segment.translate, "Take calls of Segment's or RudderStack's clients."),
    *(
        _segment(
            f"/v1/{type}",
            partial(segment.translate_call, type=type),
            f"Take one {type} call of Segment's or RudderStack's clients.",
        )
        for type in segment.TYPES
    ),
    *(_posthog(path) for path in ("/batch", "/capture", "/i/v0/e")),
)
