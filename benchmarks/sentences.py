"""What people ask for in their own words, and the condition that says it.

`judge` puts every sentence to a language model and compares what comes back with what was meant:
as conditions, and by who meets them in a shop. Run with a model in the settings (`lm_url`,
`lm_model`) on the demo's workspace:

    python -m benchmarks.sentences habitue-demo/work gift-wholesaler
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from habitue import lm
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.writing import written
from habitue.audiences.members import AsOf, Audience, find
from habitue.audiences.suggest import Vocabulary, suggest, vocabulary
from habitue.config import load_settings
from habitue.errors import BadSetting, HabitueError, NoSuggestion
from habitue.lake.tables import Lake
from habitue.lm import Chat
from habitue.workspace import open_workspace

Who = Callable[[str], Audience]            # who meets a condition


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence, and what was meant by it."""

    sentence: str
    condition: str


EXAMPLES = tuple(
    Example(sentence, condition)
    for sentence, condition in (
        ("everyone who bought in the last 30 days", "did order_placed in 30 days"),
        ("customers who have not ordered for half a year", "did not order_placed in 180 days"),
        ("ordered at least five times in the last year", "did order_placed >= 5 times in 365 days"),
        ("exactly one order ever", "did order_placed = 1 time"),
        (
            "spent more than 500 in the last 90 days",
            "sum of order_placed value > 500 in 90 days",
        ),
        (
            "spent at least a thousand in total but bought nothing in two months",
            "sum of order_placed value >= 1000 and did not order_placed in 60 days",
        ),
        (
            "good customers who have gone quiet this quarter",
            'rfm in ("champions", "loyal") and did not order_placed this quarter',
        ),
        (
            "first order within the last two weeks",
            "first order_placed in the last 2 weeks",
        ),
        (
            "put something in the cart today and did not order within an hour",
            "did cart_added in 1 day then not order_placed within 1 hour",
        ),
        (
            "bought mugs in the last year",
            'did item_ordered in 365 days where category = "mugs"',
        ),
        (
            "placed an order over 100 from the web",
            'did order_placed where (value > 100 and source = "web")',
        ),
        ("lives in Paris", 'profile.city = "Paris"'),
        (
            "lives in Paris or Lyon and takes our e-mails",
            'profile.city in ("Paris", "Lyon") and consent.email = "subscribed"',
        ),
        ("we do not know their city", "profile.city is not set"),
        ("more likely than not to churn in three months", "churn_90d > 0.5"),
        ("at least 30% likely to order within a month", "order_30d >= 0.3"),
        ("expected to spend 200 or more in the next 90 days", "expected_spend_90d >= 200"),
        ("next order expected within a week", "next_order_date in the next 7 days"),
        ("at risk by RFM", 'rfm = "at risk"'),
        (
            "champions that are not in the audience staff",
            'rfm = "champions" and not in audience "staff"',
        ),
        (
            "ordered between one and two months ago, and not since",
            "did order_placed between 60 and 30 days ago and did not order_placed in 30 days",
        ),
        (
            "bought last December",
            "did order_placed between 2024-12-01 and 2025-01-01",
        ),
        (
            "got five mails in a month and opened none",
            "did message_sent >= 5 times in 30 days and did not message_opened in 30 days",
        ),
        ("sent something back twice or more", "did order_refunded >= 2 times"),
        (
            "everybody but those who ordered this week",
            "not did order_placed in 7 days",
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a model made of one sentence."""

    example: Example
    condition: str | None                  # none: no condition that can be read
    tries: int
    is_same: bool                          # the very condition that was meant
    overlap: float | None                  # of members, shared / either; none: not answerable


def judge(
    chat: Chat, lake: Lake, shop: str, at: datetime, examples: Sequence[Example] = EXAMPLES
) -> list[Judged]:
    """Put every sentence to a model."""
    told = vocabulary(lake, shop, ["staff"], at)
    named = {"staff": 'profile.role = "staff"'}

    def who(said: str) -> Audience:
        return find(lake, shop, said, AsOf(at), named)

    return [_judged(one, chat, told, who) for one in examples]


def _judged(one: Example, chat: Chat, told: Vocabulary, who: Who) -> Judged:
    try:
        found = suggest(one.sentence, chat, told, who)
    except NoSuggestion as error:
        return Judged(
            example=one, condition=None, tries=error.tries, is_same=False, overlap=None
        )
    return Judged(
        example=one,
        condition=found.condition,
        tries=len(found.tries),
        is_same=written(parse(one.condition)) == found.condition,
        overlap=_overlap(found.audience, one.condition, who),
    )


def _overlap(found: Audience, meant: str, who: Who) -> float | None:
    try:
        wanted = set(who(meant).members["customer"].to_pylist())
    except HabitueError:
        return None
    held = set(found.members["customer"].to_pylist())
    return len(held & wanted) / len(held | wanted) if held | wanted else 1.0


def main(arguments: Sequence[str]) -> None:
    """Judge the model of the settings on a shop, and print what it made of each sentence."""
    settings = load_settings()
    at = lm.endpoint(settings)
    if at is None:
        raise BadSetting("no language model is configured: lm_url and lm_model name one")
    shop = open_workspace(Path(arguments[0]), create=False).shop(arguments[1])
    told = judge(
        partial(lm.chat, at, pause=time.sleep),
        shop.workspace.lake,
        shop.name,
        shop.last_event().astimezone(UTC),
    )
    for one in told:
        overlap = "–" if one.overlap is None else f"{one.overlap:.2f}"
        print(f"{'same' if one.is_same else '':5} {overlap:5} {one.tries} tries")
        print(f"      {one.example.sentence}\n      {one.condition}")
    print(f"{sum(one.condition is not None for one in told)} of {len(told)} gave a condition;"
          f" {sum(one.is_same for one in told)} the very one that was meant")


if __name__ == "__main__":
    main(sys.argv[1:])
