"""What answers look like on the wire; light, since the document of our paths is written from it."""

from typing import Any

import msgspec

from habitue.events import Instant


class Membership(msgspec.Struct, frozen=True):
    """An audience that a customer is in."""

    audience: str
    since: Instant


class Memberships(msgspec.Struct, frozen=True, kw_only=True):
    """The audiences that a customer is in now."""

    customer: str
    memberships: list[Membership]


class ToldConsent(msgspec.Struct, frozen=True):
    """A customer's consent to a channel."""

    status: str
    since: Instant
    method: str | None = None


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """A customer as they are known at this moment."""

    customer: str                          # the strongest key: what the shop calls them, if it told
    id: str                                # of their profile
    keys: list[str]                        # all of them, the strongest first
    email: str | None
    phone: str | None
    properties: dict[str, Any]
    consents: dict[str, ToldConsent]       # by channel
    created: Instant                       # the time of the first thing told of them
    updated: Instant                       # when properties, consent or keys last reached us
    last_event: Instant | None
    events: dict[str, int]                 # how many, by name
    memberships: list[Membership]


class Prediction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer; low and high are the 5th and 95th percentile, of `next_order` the 10th and 90th.

    The value of `next_order` is in days from `at`, and its date is that of the median.
    """

    question: str
    value: float | None                    # none: beyond where hazards end, 730 days
    low: float | None
    high: float | None
    horizon_days: float | None = None
    date: Instant | None = None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer about a customer says of itself."""

    customer: str
    at: Instant                            # the instant that the answer is of
    version: str | None                    # of the model
    status: str                            # full, transfer or insufficient
    missing: str                           # what a better answer needs
    anchor: Instant | None                 # the instant at which the model looked at the customer
    scored: Instant | None                 # when it did
    behind_since: Instant | None           # since when something is known that this answer lacks


class Predictions(About, frozen=True, kw_only=True, omit_defaults=True):
    """What a customer will do; without `predictions` where nothing can answer yet."""

    id: str                                # of their profile
    predictions: list[Prediction] | msgspec.UnsetType = msgspec.UNSET


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One item to show."""

    rank: int
    item: str
    title: str
    category: str
    score: float                           # comparable within the list only
    reason: str
    evidence: str                          # the reason in words


class Recommendations(About, frozen=True, kw_only=True):
    """What to show to a customer, or to somebody of whom nothing is known yet."""

    id: str | None                         # of their profile; none: nothing was told of them
    list_id: str                           # names this answer where it is told that it was shown
    items: list[Shown]


class Popular(msgspec.Struct, frozen=True, kw_only=True):
    """What to show to somebody nothing is known of."""

    customer: None = None
    list_id: str                           # names this answer where it is told that it was shown
    items: list[Shown]


class Beside(msgspec.Struct, frozen=True):
    """An item that is bought by who buys another."""

    item: str
    similarity: float


class SimilarItems(msgspec.Struct, frozen=True, kw_only=True):
    """An item, and those that are bought by who buys it, the likest first."""

    item: str
    title: str
    category: str
    orders_28d: int                        # in the last 28 days
    similar: list[Beside]


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """One reason: what there was, and what it did to the prediction."""

    kind: str
    words: str
    effect: float                          # on the scale of logs, on which causes multiply
    error: float | None                    # its standard error; 0 where exact, none where unknown
    points: float                          # in the unit of the question


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a customer is predicted what they are: reference + all points + unshared = value."""

    customer: str
    id: str                                # of their profile
    at: Instant                            # the instant that is explained
    version: str                           # of the model
    question: str
    horizon_days: float
    value: float                           # as predicted
    reference: float                       # of a typical new customer, who ordered just now
    factors: list[Factor]                  # the largest effect first
    unshared: float                        # points that no factor is known to have made
    unshared_effect: float
    exact: bool                            # every coalition was scored; else the budget cut it
    coalitions: int                        # that were scored
    seconds: float                         # that it took
