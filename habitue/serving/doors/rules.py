"""Our own paths for what a shop says of its lists: pin, boost, bury, only these, hide."""

import asyncio

import msgspec
from starlette.responses import Response

from habitue.errors import BadSetting
from habitue.events import Instant
from habitue.recommendations.shelf.rulebook import Kept, Rulebook
from habitue.recommendations.shelf.rules import Rule
from habitue.serving.app import Asked, Route
from habitue.serving.contract.wanted import answer, body, faulty, parameters
from habitue.serving.replies import Fault, Refused

MOST_BYTES = 100_000

class OfRule(msgspec.Struct, kw_only=True, frozen=True):
    """A path about one rule."""

    id: str                                # as it was told when the rule was made


class ToldRule(msgspec.Struct, kw_only=True, frozen=True):
    """A rule, and the id by which it is removed."""

    id: str
    created: Instant
    rule: Rule


class ToldRules(msgspec.Struct, kw_only=True, frozen=True):
    """A shop's rules, the oldest first."""

    rules: list[ToldRule]


async def get_rules(asked: Asked) -> Response:
    """List what the shop says of its lists."""
    held = await asyncio.to_thread(_rulebook(asked).all)
    return answer(asked, ToldRules(rules=[_told(one) for one in held]))


async def post_rule(asked: Asked) -> Response:
    """Let a rule be in force, in every list within a second."""
    rule = await body(asked, Rule, most_bytes=MOST_BYTES)
    try:
        kept = await asyncio.to_thread(_rulebook(asked).add, rule)
    except BadSetting as error:
        detail = str(error).partition("\n")[0]
        refused = faulty("bad_rule", [Fault(detail=detail, pointer="")])
        refused.is_kept = True             # it is nothing that could be replayed
        raise refused from None
    return answer(asked, _told(kept))


async def delete_rule(asked: Asked) -> Response:
    """Let a rule be in force no more."""
    try:
        kept = await asyncio.to_thread(_rulebook(asked).remove, parameters(asked, OfRule).id)
    except BadSetting:
        raise Refused(404, "not_found", "the shop has no rule of that id") from None
    return answer(asked, _told(kept))


ROUTES = (
    Route(method="GET", path="/v1/rules", endpoint=get_rules, reply=ToldRules),
    Route(
        method="POST", path="/v1/rules", endpoint=post_rule, body=(Rule,), reply=ToldRule,
        status=201,
    ),
    Route(
        method="DELETE", path="/v1/rules/{id}", endpoint=delete_rule, parameters=OfRule,
        reply=ToldRule,
    ),
)  # fmt: skip


def _rulebook(asked: Asked) -> Rulebook:
    return Rulebook(asked.service.place.directory, asked.shop.name, asked.service.now)


def _told(kept: Kept) -> ToldRule:
    return ToldRule(id=kept.id, created=kept.created, rule=kept.rule)
