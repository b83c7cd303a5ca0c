"""Any question about the future: asked here, answered in minutes by a process of its own."""

import asyncio
import secrets
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from starlette.responses import Response

from habitue.errors import BadTarget, NoSuchShop
from habitue.events import Instant
from habitue.scoring.desk import Figure, Question, Status, TooMany
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, body, faulty, parameters
from habitue.serving.doors.answers import pages
from habitue.serving.doors.answers.asking import instant_of, known_customer
from habitue.serving.doors.answers.why import refuse_without_scorer
from habitue.serving.replies import Fault, Refused

if TYPE_CHECKING:
    from habitue.serving.answers.book import Book

MOST_BYTES = 65_536                        # of which every character may be escaped
MOST_CHARACTERS = 2_000
MOST_PAGE = 1_000
RETRY_SECONDS = 60                         # after too many questions

# one row per customer who was answered for, the highest first, after a place
_ANSWERS = """
SELECT customer, value, low, high FROM predictions
WHERE question = ? AND version = ? AND cutoff = ?
    AND (?::VARCHAR[] IS NULL OR customer IN (SELECT unnest(?::VARCHAR[])))
    AND (?::DOUBLE IS NULL OR value < ? OR (value = ? AND customer > ?))
ORDER BY value DESC, customer LIMIT ?
"""

# one row per name of an event
_NAMES = "SELECT DISTINCT name FROM events"


class Asking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question, as `habitue ask` takes it: "count of order_placed in 60 days"."""

    question: Annotated[
        str, msgspec.Meta(max_length=MOST_CHARACTERS, examples=["count of order_placed in 60 days"])
    ]


class ToldQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and how far it is."""

    id: str
    question: str                          # as it was understood
    status: Status
    asked: Instant
    updated: Instant
    detail: str                            # why there is no answer, and what to do; "" else
    version: str | None                    # of the model that answered
    cutoff: Instant | None                 # as of which
    method: str | None                     # that was chosen of those judged
    customers: int                         # who were answered for
    judged: list[Figure]                   # how good such answers were, beside simpler ones
    answers: str | None                    # where they are read, once it is complete


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """The questions of a shop, the latest first."""

    questions: list[ToldQuestion]


class OfQuestion(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one question."""

    id: str                                # as it was told when it was asked


class AnswersOf(OfQuestion, kw_only=True, frozen=True):
    """Which answers to a question."""

    customer: str | None = None            # only theirs: the shop's id of them, or a profile's
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_PAGE)] = 100          # of a page
    cursor: str | None = None              # where the page begins, as `next` tells it


class CustomersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of one customer."""

    customer: str
    value: float
    low: float                             # 5th percentile
    high: float                            # 95th


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the answers to a question, the highest first."""

    question: str
    version: str
    cutoff: Instant
    answers: list[CustomersAnswer]
    next: str | None                       # where the next page is; none: this is the last


async def create_question(asked: Asked) -> Response:
    """Ask anything of the future of everyone; it is answered in minutes, and judged beside."""
    told = await body(asked, Asking, most_bytes=MOST_BYTES)
    await asyncio.to_thread(_refuse_without_model, asked)

    def work(book: "Book") -> Question:
        sentence = _understood(book, asked, told.question)
        refuse_without_scorer(asked)
        now, id = instant_of(asked, None), secrets.token_hex(8)
        try:
            return book.desk.ask(asked.shop.name, sentence, id=id, now=now)
        except TooMany:
            raise Refused(
                429, "too_many", "so many questions wait already; ask when some are answered",
                retry_seconds=RETRY_SECONDS,
            ) from None  # fmt: skip

    found = await asked.service.reading.ask(work)
    asked.headers["Location"] = f"/v1/questions/{found.id}"
    return answer(asked, _shown(found))


async def get_questions(asked: Asked) -> Response:
    """List the questions that the shop asked, the latest first."""
    found = await asked.service.reading.ask(lambda book: book.desk.questions(asked.shop.name))
    return answer(asked, Questions(questions=[_shown(one) for one in found]))


async def get_question(asked: Asked) -> Response:
    """Say how far a question is, and how good its answer is, beside simpler ones."""
    wanted = parameters(asked, OfQuestion)
    return answer(asked, _shown(await _question(asked, wanted.id)))


async def get_answers(asked: Asked) -> Response:
    """List what a question's answer says of each customer, the highest first."""
    wanted = parameters(asked, AnswersOf)
    after = pages.place(asked, wanted.cursor)
    question = await _question(asked, wanted.id)
    found = question.found
    if question.status != "complete" or found.version is None or found.cutoff is None:
        raise Refused(409, "not_answered", f"this question is {question.status}; ask for it first")
    keys: list[str] | None = None
    if wanted.customer is not None:
        name = wanted.customer
        keys = list(
            await asked.service.reading.ask(
                lambda book: known_customer(book, asked, name).profile.keys
            )
        )
    beyond = (None, None) if after is None else (float(after[0]), after[1])
    values = [
        question.question, found.version, found.cutoff, keys, keys,
        beyond[0], beyond[0], beyond[0], beyond[1], wanted.limit + 1,
    ]  # fmt: skip
    rows = await asyncio.to_thread(_rows, asked, _ANSWERS, values)
    shown, same = rows[: wanted.limit], {"customer": wanted.customer, "limit": wanted.limit}
    last = [repr(shown[-1]["value"]), shown[-1]["customer"]] if len(rows) > len(shown) else None
    return answer(
        asked,
        Answers(
            question=question.question, version=found.version, cutoff=found.cutoff,
            answers=[CustomersAnswer(**row) for row in shown],
            next=None if last is None else pages.following(asked, last, same),
        ),
    )  # fmt: skip


ROUTES = (
    Route(
        method="POST", path="/v1/questions", endpoint=create_question, body=(Asking,),
        reply=ToldQuestion, status=202,
    ),
    Route(method="GET", path="/v1/questions", endpoint=get_questions, reply=Questions),
    Route(
        method="GET", path="/v1/questions/{id}", endpoint=get_question, parameters=OfQuestion,
        reply=ToldQuestion, tagged=True,
    ),
    Route(
        method="GET", path="/v1/questions/{id}/answers", endpoint=get_answers,
        parameters=AnswersOf, reply=Answers, tagged=True,
    ),
)  # fmt: skip


async def _question(asked: Asked, id: str) -> Question:
    found = await asked.service.reading.ask(lambda book: book.desk.question(asked.shop.name, id))
    if found is None:
        raise Refused(404, "not_found", "this shop has no question of that id")
    return found


def _shown(one: Question) -> ToldQuestion:
    told = msgspec.structs.asdict(one.found) | {
        "id": one.id, "question": one.question, "status": one.status, "asked": one.asked,
        "updated": one.updated,
        "answers": f"/v1/questions/{one.id}/answers" if one.status == "complete" else None,
    }  # fmt: skip
    return msgspec.convert(told, ToldQuestion, from_attributes=True)


def _understood(book: "Book", asked: Asked, question: str) -> str:
    """A question as everyone would write it."""
    from habitue.predictions.probes.language import Target, refuse_unknown_event

    try:
        target = Target.parse(question)
        names = {*book.profiles.names(asked.shop.name), "item_ordered"}
        if target.event not in names:      # of an imported past the live state may not know yet
            names |= {row["name"] for row in _rows(asked, _NAMES, [])}
        refuse_unknown_event(target, names)
    except BadTarget as error:
        raise faulty("bad_question", [Fault(detail=str(error), pointer="/question")]) from None
    return str(target)


def _refuse_without_model(asked: Asked) -> None:
    from habitue.registry import CHAMPION, Registry

    if CHAMPION not in Registry(asked.service.place.path).aliases(asked.shop.name):
        raise Refused(
            409, "no_model", "a question is answered by a model that was trained on the shop, and"
            f" there is none; `habitue train --shop {asked.shop.name}` makes one",
        )  # fmt: skip


def _rows(asked: Asked, sql: str, values: list[Any]) -> list[dict[str, Any]]:
    from habitue.lake.query import read

    try:
        return read(asked.service.place.lake(), sql, values, shop=asked.shop.name).to_pylist()
    except NoSuchShop:
        return []
