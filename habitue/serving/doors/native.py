"""Our own paths for events: in, with a receipt that is settled later, and what was not taken."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.errors import NoSuchShop
from habitue.events import Instant, Rejection
from habitue.ingest.doors import native as translator
from habitue.ingest.doors.faults import REASONS
from habitue.ingest.doors.intake import Intake
from habitue.ingest.doors.records import (
    SentConsent,
    SentEvent,
    SentItem,
    SentLink,
    SentProfile,
)
from habitue.serving import bodies
from habitue.serving.app import Asked, Route
from habitue.serving.collect import Kept, is_of_shop, is_receipt_id
from habitue.serving.contract.wanted import answer, parameters
from habitue.serving.doors.answers import pages
from habitue.serving.replies import PROBLEM, Fault, Problem, Refused, encoded, is_strict, problem

MOST_JSON_BYTES = 20_000_000
MOST_STREAM_BYTES = 4_000_000_000
MOST_TOLD = 1_000                          # rejections that a receipt lists
MOST_PAGE = 1_000

_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
# … and what curl and browsers say when they are told nothing
_DOCUMENTS = ("", "application/json", "text/plain", "application/x-www-form-urlencoded")

# one row per reason
_REASONS = """
SELECT reason, count(*) AS rejected FROM rejected GROUP BY reason ORDER BY rejected DESC, reason
"""

# one row per input that was not taken, the latest first, after a place
_PAGE = """
SELECT receipt, position, pointer, reason, payload, received FROM rejected
WHERE (?::VARCHAR IS NULL OR reason = ?) AND (?::BIGINT IS NULL OR epoch_us(received) < ?
    OR epoch_us(received) = ? AND (receipt, position) > (?, ?))
ORDER BY received DESC, receipt, position LIMIT ?
"""


class Told(msgspec.Struct, frozen=True):
    """One input that was not taken, as the receipt tells it."""

    position: int
    pointer: str
    reason: str
    detail: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender is told at once. rows = accepted + rejected_in_all."""

    id: str
    rows: int
    accepted: int
    rejected: tuple[Told, ...]             # the first thousand
    rejected_in_all: int


class Refusal(Problem, frozen=True, kw_only=True):
    """The same where a client wants a refusal if anything was rejected; the rest was taken."""

    id: str
    rows: int
    accepted: int
    rejected: tuple[Told, ...]
    rejected_in_all: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request. Once it is settled, rows = appended + duplicate + rejected."""

    id: str
    settled: bool                          # whether the lake has it; until then there are no counts
    rows: int | msgspec.UnsetType = msgspec.UNSET
    appended: int | msgspec.UnsetType = msgspec.UNSET
    duplicate: int | msgspec.UnsetType = msgspec.UNSET
    rejected: int | msgspec.UnsetType = msgspec.UNSET


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An input that was not taken."""

    receipt: str                           # of the request that it came with
    position: int                          # in there, from 0
    pointer: str                           # what is wrong in it
    reason: str
    payload: str                           # as it came
    received: Instant


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """What was not taken."""

    reasons: dict[str, int]                # of all, how many for each
    rejected: list[Input]                  # a page of them, the latest first
    next: str | None                       # where the next page is; none: this is the last


class OfReceipt(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one request."""

    id: str                                # as the receipt told it


class RejectedOf(msgspec.Struct, kw_only=True, frozen=True):
    """Which inputs that were not taken."""

    reason: str | None = None              # any, unless told
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_PAGE)] = 100          # of a page
    cursor: str | None = None              # where the page begins, as `next` tells it


class Sending(msgspec.Struct, kw_only=True, frozen=True):
    """How events are sent."""

    strict: str = msgspec.field(default="", name="X-Strict-Mode")  # 1: 400 if any was rejected


class Tally:
    """What the parts of one request have brought so far."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0
        self.told: list[Told] = []

    def add(self, kept: Kept) -> None:
        """Count one more part of it."""
        self.accepted += kept.accepted
        self.rejected += len(kept.rejections)
        room = MOST_TOLD - len(self.told)
        self.told.extend(_told(one) for one in kept.rejections[:room])

    def answer(self, receipt: str) -> Answer:
        """The receipt."""
        return Answer(
            id=receipt, rows=self.accepted + self.rejected, accepted=self.accepted,
            rejected=tuple(self.told), rejected_in_all=self.rejected,
        )  # fmt: skip


async def post_events(asked: Asked) -> Response:
    """Take events: one, a JSON list, or NDJSON of any length; answers with a receipt."""
    tally = Tally()
    if _is_lines(asked):
        await _take_lines(asked, tally)
    else:
        body = await asked.body(most_bytes=MOST_JSON_BYTES)
        tally.add(await asked.take(body, translator.translate))
    asked.headers |= {
        "Location": f"/v1/receipts/{asked.receipt}",
        "X-Habitue-Rejected": str(tally.rejected),
    }
    told = tally.answer(asked.receipt)
    if tally.rejected and is_strict(asked.request):
        return encoded(_refusal(told), status=400, kind=PROBLEM)
    return answer(asked, told)


async def get_receipt(asked: Asked) -> Response:
    """Say what became of a request: not settled yet, or its rows appended, duplicate, rejected."""
    receipt, shop = parameters(asked, OfReceipt).id, asked.shop
    if is_receipt_id(receipt):
        if not is_of_shop(receipt, shop.secret):
            raise _no_receipt()
        if not asked.service.settlement.is_settled(receipt):
            return answer(asked, Receipt(id=receipt, settled=False))
    counts = await asyncio.to_thread(_counts, asked, receipt)
    if counts is None:
        raise _no_receipt()
    return answer(asked, Receipt(id=receipt, settled=True, **counts))


async def get_rejected(asked: Asked) -> Response:
    """Show what was not taken: counts per reason, and a page of inputs, the latest first."""
    wanted = parameters(asked, RejectedOf)
    time, receipt, position = pages.place(asked, wanted.cursor) or (None, None, None)
    values = (wanted.reason, wanted.reason, time, time, time, receipt, position, wanted.limit + 1)
    try:
        reasons = await asyncio.to_thread(_query, asked, _REASONS)
        found = await asyncio.to_thread(_query, asked, _PAGE, *values)
    except NoSuchShop:
        reasons, found = [], []
    page, following = found[: wanted.limit], None
    if len(found) > len(page):
        after = [_microseconds(page[-1]["received"]), page[-1]["receipt"], page[-1]["position"]]
        same = {"reason": wanted.reason, "limit": wanted.limit}
        following = pages.following(asked, after, same)
    return answer(
        asked,
        Rejected(
            reasons={row["reason"]: row["rejected"] for row in reasons},
            rejected=[Input(**row) for row in page],
            next=following,
        ),
    )


ROUTES = (
    Route(
        method="POST", path="/v1/events", endpoint=post_events, public=True, parameters=Sending,
        body=(SentEvent, SentItem, SentProfile, SentConsent, SentLink), is_many=True,
        reply=Answer, status=202, refusal=Refusal,
    ),
    Route(
        method="GET", path="/v1/receipts/{id}", endpoint=get_receipt, parameters=OfReceipt,
        reply=Receipt,
    ),
    Route(
        method="GET", path="/v1/rejected", endpoint=get_rejected, parameters=RejectedOf,
        reply=Rejected,
    ),
)  # fmt: skip


def _is_lines(asked: Asked) -> bool:
    kind = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (*_LINES, *_DOCUMENTS):
        raise Refused(
            415, "bad_content_type",
            "this takes application/json (one event, or a list) or application/x-ndjson",
        )  # fmt: skip
    return kind in _LINES


async def _take_lines(asked: Asked, tally: Tally) -> None:
    """Translate and flush an upload in portions, so that memory stays flat.

    Raises:
        Refused: a line is too long; what came before it is taken.
    """
    stream = translator.Stream(asked.door())
    held = bytearray()
    async for part in bodies.pieces(asked.request, most_bytes=MOST_STREAM_BYTES):
        held += part
        if len(held) >= translator.PORTION_BYTES:
            tally.add(await asked.take(bytes(held), lambda portion, _: stream.feed(portion)))
            held.clear()
            if stream.too_long is not None:
                tally.add(await asked.take(b"", lambda *_: stream.cut()))
                raise _too_long(asked, stream.too_long)
    tally.add(await asked.take(bytes(held), lambda portion, _: _last(stream, portion)))
    if stream.too_long is not None:
        raise _too_long(asked, stream.too_long)


def _too_long(asked: Asked, position: int) -> Refused:
    """The end of an upload at a record that is kept as rejected already."""
    asked.headers["Location"] = f"/v1/receipts/{asked.receipt}"
    refused = Refused(
        413, "too_large",
        f"record {position} (from 0) has more than {translator.RECORD_BYTES:,} bytes, and the"
        " upload ended there; what came before it was taken, send what comes after it again",
        pointer=f"/{position}",
    )  # fmt: skip
    refused.is_kept = True
    return refused


def _last(stream: translator.Stream, portion: bytes) -> Intake:
    """What the last portion of an upload brings."""
    fed, rest = stream.feed(portion), stream.finish()
    return Intake(
        rows=fed.rows + rest.rows,
        entries=fed.entries + rest.entries,
        rejections=fed.rejections + rest.rejections,
    )


def _refusal(told: Answer) -> Refusal:
    """A receipt as a refusal, for a client that wants one."""
    count = told.rejected_in_all
    refused = Refused(
        400, told.rejected[0].reason, f"{count} of {told.rows} were not taken, the rest was",
        faults=[
            Fault(detail=one.detail, pointer=f"/{one.position}{one.pointer}")
            for one in told.rejected
        ],
    )  # fmt: skip
    fields = msgspec.structs.asdict(problem(refused)) | msgspec.structs.asdict(told)
    return Refusal(**fields)


def _told(rejection: Rejection) -> Told:
    detail = rejection.detail or REASONS.get(rejection.reason, "")
    return Told(rejection.position, rejection.pointer, rejection.reason, detail)


def _query(asked: Asked, sql: str, *values: object) -> list[dict[str, Any]]:
    """The rows of a query over the shop's views."""
    from habitue.lake.query import read

    return read(asked.service.place.lake(), sql, values, shop=asked.shop.name).to_pylist()


def _counts(asked: Asked, receipt: str) -> dict[str, int] | None:
    """Rows of a settled request; None where the shop has none of that id."""
    from habitue.ingest.commit import settlement

    found = settlement(asked.service.place.lake(), asked.shop.name, receipt)
    return None if found is None else msgspec.to_builtins(found)


def _microseconds(time: datetime) -> int:
    from habitue.lake.live.told import microseconds

    return microseconds(time)


def _no_receipt() -> Refused:
    return Refused(404, "not_found", "this shop has no receipt of that id")
