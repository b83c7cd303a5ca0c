"""Everything the demo's report shows, as frozen nouns; `habitue demo --json` prints `Figures`.

Nothing is computed here. Money is in major units of the shop's currency, shares and probabilities
lie between 0 and 1, times are aware and in UTC. A number that could not be computed is None (or
NaN, which JSON turns into null) and is shown as a dash.
"""

from typing import Literal

import msgspec

from habitue.events import Instant

Outcome = Literal["win", "tie", "loss"]


class Estimate(msgspec.Struct, frozen=True):
    """A number between its 5th and 95th percentile, where those are known."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One published model, and the instant after which it saw nothing."""

    id: str
    cutoff: Instant


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The model that was judged on the holdout, and the one refitted on everything."""

    evaluated: Version
    final: Version


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """What came in; rows = appended + duplicate + rejected."""

    rows: int
    appended: int
    duplicate: int
    rejected: int
    reasons: dict[str, int] = {}         # of the rejected rows, by reason
    events: int
    orders: int
    refunds: int                         # events that take value back, cancellations included
    customers: int
    items: int
    anonymous_share: float | None        # of the orders, those without a customer
    first: Instant | None                # time of the first event
    last: Instant | None


class Holdout(msgspec.Struct, frozen=True, kw_only=True):
    """The part the evaluated version never saw, (cutoff, cutoff + horizon_days], in totals.

    Predicted and actual both count customers known at the cutoff only.
    """

    cutoff: Instant
    horizon_days: float
    customers: int
    orderers: Estimate                   # customers predicted to order at least once
    orderers_actual: float
    orders: Estimate
    orders_actual: float
    revenue: Estimate
    revenue_actual: float


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """One week of one quantity; weeks are counted from the cutoff in both directions."""

    start: Instant
    actual: float | None                 # after the cutoff: of customers known at the cutoff
    predicted: Estimate | None = None    # None before the cutoff
    with_newcomers: float | None = None  # actual of all customers, after the cutoff
    days: float = 7.0                    # fewer where data or horizon cut the week short


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of one method; a row of `habitue evaluate --json` converts to it as it is."""

    question: str
    metric: str
    method: str
    value: float | None
    low: float | None = None
    high: float | None = None
    customers: int | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`habitue` against the best baseline of one measure, by paired bootstrap over customers."""

    question: str
    metric: str
    verdict: Outcome
    best_baseline: str
    difference: float | None             # habitue - best baseline, in the measure's own unit
    low: float | None = None
    high: float | None = None


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Customers who were given about the same probability, and how many of them ordered."""

    predicted: float                     # mean of the group
    observed: float                      # share that ordered
    customers: int
    low: float | None = None             # where a perfectly calibrated forecast would land, 5%
    high: float | None = None            # 95%


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """The reliability curve of one method for P(order), and its expected calibration error."""

    method: str
    bins: tuple[Bin, ...]
    ece: float | None = None
    perfect_mean: float | None = None    # the error a perfectly calibrated forecast would show
    perfect_p95: float | None = None


class LiftPoint(msgspec.Struct, frozen=True):
    """Contact this share of customers, best scores first, and reach that share of the outcome."""

    contacted: float
    captured: float


class Lift(msgspec.Struct, frozen=True, kw_only=True):
    """The lift curve of one method; points ascend from (0, 0) to (1, 1)."""

    method: str
    outcome: Literal["orderers", "revenue"]
    points: tuple[LiftPoint, ...]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One event on a customer's timeline."""

    time: Instant
    name: str                            # canonical: order_placed, order_refunded, …
    value: float | None = None


class NextOrder(msgspec.Struct, frozen=True, kw_only=True):
    """When the next order is expected; None lies beyond what the model looks at."""

    p10: Instant | None
    p50: Instant | None
    p90: Instant | None


class Recommended(msgspec.Struct, frozen=True, kw_only=True):
    """One item recommended to one customer."""

    item: str
    title: str | None
    reason: str                          # in words: "often bought with …"
    score: float | None = None


class Slipping(msgspec.Struct, frozen=True, kw_only=True):
    """A customer who used to order and grows quiet."""

    customer: str
    past_value: float
    orders: int
    last_order: Instant
    usual_gap_days: float | None         # None where the customer ordered once
    expected_value: Estimate             # over the horizon of the outlook
    probability: Estimate                # of ordering within that horizon
    churn: float | None                  # 1 - probability
    next_order: NextOrder
    value_at_risk: float
    why: str                             # see words.silence
    timeline: tuple[Mark, ...] = ()
    recommendations: tuple[Recommended, ...] = ()


class Decile(msgspec.Struct, frozen=True, kw_only=True):
    """A tenth of all customers, the first being the likeliest to order."""

    customers: int
    low: float                           # least probability of ordering among them
    high: float
    probability: float                   # mean
    orders: float                        # expected, in sum
    revenue: float


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What the final version expects of everyone, (as_of, as_of + horizon_days]."""

    as_of: Instant
    horizon_days: float
    customers: int
    orderers: Estimate
    orders: Estimate
    revenue: Estimate
    deciles: tuple[Decile, ...] = ()
    slipping: tuple[Slipping, ...] = ()  # most at risk first; those shown
    slipping_customers: int = 0          # all of them
    value_at_risk: float = 0.0           # all of them
    slipping_rule: str = ""              # who counts as slipping, and what is at risk, in words


class SizeAt(msgspec.Struct, frozen=True):
    """How many customers an audience had at an instant."""

    at: Instant
    customers: int


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """One figure per customer: of members, of all others, and of those most like members."""

    inside: float | None
    outside: float | None
    with_match: float | None = None      # of members with a match
    matches: float | None = None         # of those matched with them
    difference: Estimate | None = None   # with_match - matches


class ReadyAudience(msgspec.Struct, frozen=True, kw_only=True):
    """A ready condition: its size over time, and what its members did after the cutoff."""

    name: str
    purpose: str
    condition: str
    sizes: tuple[SizeAt, ...]            # where it compares forecasts: when there were any
    members: int                         # at the cutoff
    with_match: int
    ordered: Beside                      # share of customers
    revenue: Beside


class Audiences(msgspec.Struct, frozen=True, kw_only=True):
    """Ready audiences as of the holdout's cutoff, and the days that followed."""

    cutoff: Instant
    days: int
    customers: int                       # known at the cutoff
    start: Instant                       # of the sizes
    end: Instant
    shown: tuple[ReadyAudience, ...]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long one step took."""

    step: str
    seconds: float
    note: str = ""                       # "170,000 rows/s"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All that the report shows of one shop."""

    shop: str
    currency: str                        # ISO 4217
    created: Instant
    versions: Versions
    ingest: Ingest
    holdout: Holdout
    outlook: Outlook
    weekly_orders: tuple[Week, ...] = ()
    weekly_revenue: tuple[Week, ...] = ()
    reliability: tuple[Reliability, ...] = ()   # of at most five methods, ours among them
    lift: tuple[Lift, ...] = ()                 # likewise, for each outcome
    comparison: tuple[Comparison, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    audiences: Audiences | None = None
    timings: tuple[Timing, ...] = ()
    protocol: tuple[str, ...] = ()       # how it was done: one sentence each, seeds included
    attribution: str = ""                # of the data, as its licence asks
