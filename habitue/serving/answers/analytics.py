"""What a customer has bought and will: the ten numbers of Klaviyo's `predictive_analytics`.

What was, from the orders that stand at this moment: refunds are taken off, cancelled orders are
out, and an order that two sources told of counts once. What will be, over a year, from the scores
that are kept; null where no order stands, or the shop has told too little. Beside each prediction
stand the 5th and 95th percentile; beside the date the 10th and 90th.
"""

from collections.abc import Iterator, Sequence

import msgspec

from habitue.audiences.live.bought import NOTHING, Bought, bought
from habitue.audiences.live.facts import Shop
from habitue.audiences.live.loading import load, wanted
from habitue.events import (
    NO_CURRENCY,
    ORDER_CANCELLED,
    ORDER_PLACED,
    ORDER_REFUNDED,
    Instant,
    currency_exponent,
)
from habitue.lake.live.scored import ScoredCustomer
from habitue.lake.live.told import instant
from habitue.lake.profiles import LiveProfile
from habitue.scoring.told import WholeShop
from habitue.sequences.build import DAY
from habitue.serving.answers.book import Book
from habitue.serving.answers.predictions import MAX_HORIZON_DAYS, scores_at

YEAR = 365.0                               # days that the predictions look ahead
_READS = wanted({ORDER_PLACED}) | {ORDER_REFUNDED, ORDER_CANCELLED}


class Analytics(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's numbers; the first ten are Klaviyo's."""

    historic_clv: float = 0.0
    predicted_clv: float | None = None
    total_clv: float | None = None
    historic_number_of_orders: int = 0
    predicted_number_of_orders: float | None = None
    average_days_between_orders: float | None = None
    average_order_value: float | None = None
    churn_probability: float | None = None
    expected_date_of_next_order: Instant | None = None
    ranked_channel_affinity: list[str] = []
    # ours
    predicted_clv_low: float | None = None
    predicted_clv_high: float | None = None
    predicted_number_of_orders_low: float | None = None
    predicted_number_of_orders_high: float | None = None
    churn_probability_low: float | None = None
    churn_probability_high: float | None = None
    expected_date_of_next_order_low: Instant | None = None
    expected_date_of_next_order_high: Instant | None = None
    horizon_days: float = YEAR
    as_of: Instant | None = None           # of the predictions
    status: str = "insufficient"           # full, transfer, insufficient
    model_version: str | None = None
    currency: str | None = None


def analytics_of(
    book: Book, settings: Shop, profiles: Sequence[LiveProfile], now: int
) -> list[Analytics]:
    """Each customer's numbers as of now (µs), in the order of the profiles."""
    if not profiles:
        return []
    shop, names = profiles[0].shop, [one.customer for one in profiles]
    bought = bought_by(book, settings, shop, names, now)
    _, rows = book.scored.customers(shop, names)
    whole, scored = book.shop(shop), {one.customer: one for one in rows}
    asked = [name for name in names if name in scored and bought[name].orders]
    predicted = dict(_predicted(whole, [scored[name] for name in asked], now)) if whole else {}
    return [
        _joined(bought[name], predicted.get(name, {}), settings, whole) for name in names
    ]


def bought_by(
    book: Book, settings: Shop, shop: str, names: Sequence[str], now: int
) -> dict[str, Bought]:
    """What some customers' standing orders come to, as known now (µs)."""
    ids = book.ids(shop, names)
    facts = book.profiles.look(lambda connection: load(connection, shop, ids.values(), _READS))
    return {
        name: bought(facts[ids[name]].at(settings, now))
        if name in ids and ids[name] in facts
        else NOTHING
        for name in names
    }


def _predicted(
    shop: WholeShop, scored: Sequence[ScoredCustomer], now: int
) -> Iterator[tuple[str, dict[str, object]]]:
    """The predictions over a year of customers who were scored."""
    if not scored or shop.whole.status == "insufficient":
        return
    at = max(now, *(one.anchor for one in scored))
    scores = scores_at(shop, scored, at)
    spans = {
        "predicted_clv": scores.revenue(YEAR),
        "predicted_number_of_orders": scores.orders(YEAR),
        "churn_probability": scores.churn(YEAR),
    }
    for row, (one, days) in enumerate(zip(scored, scores.next_order(), strict=True)):
        told: dict[str, object] = {"as_of": instant(at)}
        for name, span in spans.items():
            told[name] = float(span.value[row])
            told[f"{name}_low"], told[f"{name}_high"] = float(span.low[row]), float(span.high[row])
        for ending, day in zip(("_low", "", "_high"), days, strict=True):
            name = f"expected_date_of_next_order{ending}"
            told[name] = None if day > MAX_HORIZON_DAYS else instant(at + round(float(day) * DAY))
        yield one.customer, told


def _joined(
    bought: Bought, predicted: dict[str, object], settings: Shop, whole: WholeShop | None
) -> Analytics:
    places = currency_exponent(settings.currency or NO_CURRENCY)
    found = Analytics(
        historic_clv=round(float(bought.total), places),
        historic_number_of_orders=bought.orders,
        average_order_value=(
            round(float(bought.total) / bought.valued, places) if bought.valued else None
        ),
        average_days_between_orders=(
            (bought.last - bought.first) / (bought.orders - 1) / DAY if bought.orders > 1 else None
        ),
        currency=settings.currency,
        status="insufficient" if whole is None else whole.whole.status,
        model_version=None if whole is None else whole.whole.version,
    )
    if not predicted:
        return found
    spend = predicted["predicted_clv"]
    assert isinstance(spend, float), "as it was put there"
    told = msgspec.structs.asdict(found) | predicted
    return Analytics(**told | {"total_clv": found.historic_clv + spend})
