"""Conditions that are ready to be used: what each is for, and what a shop needs for it.

A template is a sentence like any other. What it needs is read off its condition: the events that
it names, the predictions that it compares, the channels whose consent it asks for.
"""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from habitue.audiences import rows
from habitue.audiences.compile import asked
from habitue.audiences.language.nodes import (
    Bought,
    Compared,
    Condition,
    Consent,
    Prediction,
    Rfm,
    every,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.reading import near
from habitue.audiences.members import events_of
from habitue.errors import BadAudience
from habitue.events import ITEM_ORDERED, ORDER_PLACED
from habitue.lake.query import opened
from habitue.lake.tables import Lake

# one row per channel of which anybody's consent was ever told
_CHANNELS = "SELECT DISTINCT channel FROM consent_history"


@dataclass(frozen=True, slots=True)
class Template:
    """One ready condition."""

    name: str
    purpose: str                           # one line
    condition: str                         # a sentence of the language
    words: str = ""                        # others by which people ask for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a shop has of what templates need."""

    events: Collection[str]
    predictions: Collection[tuple[str, int]]     # (question, horizon)
    channels: Collection[str]


TEMPLATES = (
    Template(
        "abandoned-cart",
        "put something into the cart an hour to three days ago and has not ordered since",
        "did cart_added between 72 and 1 hour ago then not order_placed",
        "basket left forgotten cart abandoned abandoners",
    ),
    Template(
        "abandoned-checkout",
        "began a checkout an hour to three days ago and has not ordered since",
        "did checkout_started between 72 and 1 hour ago then not order_placed",
        "checkout left unfinished payment abandoned",
    ),
    Template(
        "browse-abandonment",
        "looked at items more than once in three days, without a cart or an order",
        "did item_viewed >= 2 times in 3 days and did not cart_added in 3 days"
        " and did not order_placed in 3 days",
        "browsed browsers visited viewed window shoppers without buying",
    ),
    Template(
        "new-customers",
        "ordered for the first time in the last 30 days",
        "first order_placed in the last 30 days",
        "new newcomers welcome just joined first purchase recently",
    ),
    Template(
        "one-time-buyers",
        "ordered once, more than 30 days ago, and never again",
        "did order_placed = 1 time and did order_placed at least 30 days ago",
        "single only one purchase bought once second order",
    ),
    Template(
        "repeat-buyers",
        "ordered four times or more in a year",
        "did order_placed >= 4 times in 365 days",
        "loyal frequent regular regulars often returning",
    ),
    Template(
        "vip",
        "among the best third by recency and frequency, and not the last third by value",
        'rfm = "champions"',
        "best top champions good vips valuable most",
    ),
    Template(
        "lapsing",
        "used to order, and has been quiet for two months to half a year",
        "did order_placed >= 2 times in 365 days and did order_placed in 180 days"
        " and did not order_placed in 60 days",
        "slipping fading cooling off gone quiet inactive recently silent this quarter good",
    ),
    Template(
        "win-back",
        "ordered twice or more within two years, and not for half a year",
        "did order_placed >= 2 times in 730 days and did not order_placed in 180 days",
        "lost gone churned dormant reactivate lapsed long ago come back",
    ),
    Template(
        "same-season",
        "ordered around this time last year, and not in the last 60 days",
        "did order_placed between 395 and 335 days ago and did not order_placed in 60 days",
        "seasonal season last year christmas anniversary yearly again",
    ),
    Template(
        "often-refunded",
        "had something taken back twice or more in a year",
        "did order_refunded >= 2 times in 365 days",
        "returns returners refunds sent back complaints",
    ),
    Template(
        "replenishment-due",
        "ordered three times or more, and is expected to order again within a week",
        "did order_placed >= 3 times and next_order_date in the next 7 days",
        "refill reorder restock run out due soon next order",
    ),
    Template(
        "likely-to-buy",
        "as likely as not to order in the next 30 days",
        "order_30d >= 0.5",
        "about to purchase likely propensity ready soon month hot",
    ),
    Template(
        "high-spend-at-risk",
        "worth keeping by past orders, and will probably not order in the next 90 days",
        'churn_90d >= 0.7 and rfm in ("champions", "loyal", "at risk")',
        "big spenders valuable churn churning leave leaving risk losing good",
    ),
    Template(
        "unengaged",
        "was sent five messages or more in 90 days, and opened, clicked and ordered nothing",
        "did message_sent >= 5 times in 90 days and did not message_opened in 90 days"
        " and did not message_clicked in 90 days and did not order_placed in 90 days",
        "never open ignore emails newsletters inactive messages sunset unengaged",
    ),
    Template(
        "subscribed-never-bought",
        "takes e-mail and has never ordered",
        'consent.email = "subscribed" and did not order_placed',
        "subscribers leads prospects signed up newsletter not customers yet",
    ),
)


def template(name: str) -> Template:
    """The template of a name.

    Raises:
        BadAudience: there is none.
    """
    held = {one.name: one for one in TEMPLATES}
    if name not in held:
        told = near(name, held) or f"there are {', '.join(held)}"
        raise BadAudience(f"no template named {name!r}\nhint: {told}")
    return held[name]


def needs(condition: Condition) -> Held:
    """What a condition asks for: events, predictions and channels."""
    events: dict[str, None] = {}
    channels: dict[str, None] = {}
    for one in every(condition):
        events |= dict.fromkeys(events_of(one))
        match one:
            case Compared(operand=Rfm() | Bought()):
                events[ORDER_PLACED] = None
            case Compared(operand=Consent(channel)):
                channels[channel] = None
    return Held(events=tuple(events), predictions=asked(condition), channels=tuple(channels))


def missing(condition: Condition, held: Held) -> list[str]:
    """What a shop lacks of what a condition needs, in words."""
    wanted = needs(condition)
    known = {*held.events, ITEM_ORDERED}
    told = [f"no {one} events yet" for one in wanted.events if one not in known]
    told += [
        f"nothing recorded by `habitue predict --question {question}"
        + ("`" if question == "next_order" else f" --horizon-days {days}`")
        for question, days in sorted(wanted.predictions)
        if (question, days) not in held.predictions
    ]
    silent = [one for one in wanted.channels if one not in held.channels]
    return told + [f"no consent to {one} yet" for one in silent]


def held_by(lake: Lake, shop: str) -> Held:
    """What a shop has of what templates need."""
    views = {"events", "predictions", "consent_history"}
    with opened(lake, views, shop=shop) as (connection, _):
        events = connection.execute(rows.NAMES).fetchall()
        predicted = connection.sql(rows.PREDICTED).to_arrow_table().to_pylist()
        channels = connection.execute(_CHANNELS).fetchall()
    return Held(
        events=[name for (name,) in events],
        predictions={(one["question"], int(one["horizon_days"])) for one in predicted},
        channels=[channel for (channel,) in channels],
    )


def listed(held: Held) -> pa.Table:
    """One row per template: name, purpose, condition, needs, applies, missing."""
    found = []
    for one in TEMPLATES:
        condition = parse(one.condition)
        lacks = missing(condition, held)
        found.append(
            {
                "name": one.name,
                "applies": not lacks,
                "purpose": one.purpose,
                "condition": one.condition,
                "needs": _spelt(needs(condition)),
                "missing": "; ".join(lacks),
            }
        )
    return pa.Table.from_pylist(found)


def _spelt(wanted: Held) -> list[str]:
    """Events and predictions by the names that sentences have for them."""
    predicted = [
        "next_order_date" if question == "next_order" else Prediction(question, days).name
        for question, days in sorted(wanted.predictions)
    ]
    return [*wanted.events, *predicted, *(f"consent.{one}" for one in wanted.channels)]
