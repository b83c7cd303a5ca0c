"""Ten questions a marketer asks: a sentence, Klaviyo's JSON and Python, in batch and live.

SQL that one would write by hand stands beside them, and all answers are the same.
"""

import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import habitue
from habitue.audiences.language.nodes import Condition
from habitue.audiences.members import understood
from habitue.audiences.words import (
    anniversary,
    did,
    did_not,
    first,
    followed,
    in_next,
    last,
    previous,
    rfm,
    span,
    spent,
    then,
    where,
)
from habitue.lake.eventlog.segments import SqliteLog
from habitue.lake.profiles import PROFILES_FILE
from habitue.serving.beside.following import Following, clock_of

DEMO = Path(habitue.__file__).parent / "demo/data"
CUTOFF = datetime(2011, 12, 1, tzinfo=UTC)
STANDS = "customer IS NOT NULL AND value_minor > 0 AND cancelled_at IS NULL"
AGO = "TIMESTAMPTZ '2011-12-01' - INTERVAL"


def metric(event: str, sign: str, number: float, **more: Any) -> dict[str, Any]:
    """Klaviyo's condition on a metric."""
    return {
        "type": "profile-metric",
        "metric_id": event,
        "measurement": "count",
        "measurement_filter": {"type": "numeric", "operator": sign, "value": number},
        **more,
    }


def in_days(days: int) -> dict[str, Any]:
    """Klaviyo's window of days."""
    return {"type": "date", "operator": "in-the-last", "unit": "day", "quantity": days}


def carried(sentence: str) -> dict[str, Any]:
    """What Klaviyo cannot say."""
    return {"type": "habitue-condition", "condition": sentence}


@dataclass(frozen=True, slots=True)
class Question:
    """One question in every spelling, and the SQL that one would write by hand."""

    asked: str
    sentence: str
    klaviyo: list[dict[str, Any]]          # conditions, each a group of its own
    python: Condition
    sql: str


MONTH = "timezone('Europe/London', \"time\")"
QUESTIONS = (
    Question(
        "Who came back lately?",
        "did order_placed >= 2 times in 90 days",
        [metric("order_placed", "greater-than-or-equal", 2, timeframe_filter=in_days(90))],
        did("order_placed", at_least=2, window=last(90, "days")),
        f"""SELECT customer FROM orders WHERE {STANDS} AND "time" > {AGO} 2160 HOUR
        GROUP BY customer HAVING count(*) >= 2""",
    ),
    Question(
        "Who bought, and not for half a year?",
        "did order_placed and did not order_placed in 180 days",
        [
            metric("order_placed", "greater-than-or-equal", 1),
            metric("order_placed", "equals", 0, timeframe_filter=in_days(180)),
        ],
        did("order_placed") & did_not("order_placed", window=last(180, "days")),
        f"""SELECT customer FROM orders WHERE {STANDS} GROUP BY customer
        HAVING max("time") <= {AGO} 4320 HOUR""",
    ),
    Question(
        "Who spent a thousand pounds within a year?",
        "sum of order_placed value >= 1000 in 365 days",
        [
            metric("order_placed", "greater-than-or-equal", 1000, timeframe_filter=in_days(365))
            | {"measurement": "sum"}
        ],
        spent(1000, window=last(365, "days")),
        f"""SELECT customer FROM orders WHERE {STANDS} AND "time" > {AGO} 8760 HOUR
        GROUP BY customer HAVING sum(value_minor) >= 100000""",
    ),
    Question(
        "Who is new?",
        "first order_placed in the last 30 days",
        [carried("first order_placed in the last 30 days")],
        first("order_placed").during(last(30, "days")),
        f"""SELECT customer FROM orders WHERE {STANDS} GROUP BY customer
        HAVING min("time") > {AGO} 720 HOUR""",
    ),
    Question(
        "Who bought a mug this season?",
        'did order_placed in 90 days where title contains "mug"',
        [carried('did order_placed in 90 days where title contains "mug"')],
        did("order_placed", window=last(90, "days"), where=where.title.contains("mug")),
        f"""SELECT DISTINCT o.customer FROM orders o
        JOIN lines l ON l."order" = o."order" AND l.customer = o.customer
        JOIN items i ON i.item = l.item
        WHERE o.value_minor > 0 AND o.cancelled_at IS NULL AND o."time" > {AGO} 2160 HOUR
            AND i.title ILIKE '%mug%'""",
    ),
    Question(
        "Who sent something back, and buys all the same?",
        "did order_refunded in 180 days and did order_placed in 30 days",
        [
            metric("order_refunded", "greater-than-or-equal", 1, timeframe_filter=in_days(180)),
            metric("order_placed", "greater-than-or-equal", 1, timeframe_filter=in_days(30)),
        ],
        did("order_refunded", window=last(180, "days"))
        & did("order_placed", window=last(30, "days")),
        f"""SELECT customer FROM events WHERE name = 'order_refunded' AND "time" > {AGO} 4320 HOUR
        INTERSECT
        SELECT customer FROM orders WHERE {STANDS} AND "time" > {AGO} 720 HOUR""",
    ),
    Question(
        "Who came back within a week of an order of this quarter?",
        "did order_placed in 60 days then order_placed within 1 week",
        [
            {
                "type": "profile-metric-funnel",
                "timeframe_filter": in_days(60),
                "completion_window_seconds": "WEEKS_1",
                "steps": [
                    {"metric_exists": True, "metric_id": "order_placed"},
                    {"metric_exists": True, "metric_id": "order_placed"},
                ],
            }
        ],
        followed("order_placed", then("order_placed", span(1, "week")), window=last(60, "days")),
        f"""SELECT DISTINCT a.customer FROM orders a JOIN orders b
            ON a.customer = b.customer AND b."time" > a."time"
            AND b."time" <= a."time" + INTERVAL 168 HOUR
        WHERE a.value_minor > 0 AND a.cancelled_at IS NULL AND b.value_minor > 0
            AND b.cancelled_at IS NULL AND a."time" > {AGO} 1440 HOUR""",
    ),
    Question(
        "Who bought last month, on a Sunday?",
        'did order_placed last month where weekday = "sunday"',
        [carried('did order_placed last month where weekday = "sunday"')],
        did("order_placed", window=previous("month"), where=where.weekday == "sunday"),
        f"""SELECT DISTINCT customer FROM orders WHERE {STANDS}
            AND date_trunc('month', {MONTH}) = TIMESTAMP '2011-11-01' AND isodow({MONTH}) = 7""",
    ),
    Question(
        "Whose first order has its anniversary within a week?",
        "anniversary of first order_placed in the next 7 days",
        [carried("anniversary of first order_placed in the next 7 days")],
        anniversary(first("order_placed"), in_next(7, "days")),
        f"""SELECT customer FROM (
            SELECT customer, min({MONTH}) AS first FROM orders WHERE {STANDS} GROUP BY customer)
        WHERE month(first) = 12 AND day(first) BETWEEN 2 AND 8 AND year(first) < 2011""",
    ),
    Question(
        "Which good customers slip away?",
        'rfm = "at risk" and not did order_placed in 30 days',
        [carried('rfm = "at risk"'), carried("not did order_placed in 30 days")],
        (rfm == "at risk") & ~did("order_placed", window=last(30, "days")),
        f"""WITH back AS (SELECT customer, sum(abs(value_minor)) AS worth FROM events
            WHERE name = 'order_refunded' GROUP BY customer),
        totals AS (SELECT customer, max("time") AS last, count(*) AS number,
            sum(value_minor) - coalesce(any_value(back.worth), 0) AS worth
            FROM orders LEFT JOIN back USING (customer) WHERE {STANDS} GROUP BY customer),
        ranked AS (SELECT customer, last,
            1 + 3 * (rank() OVER (ORDER BY last) - 1) // count(*) OVER () AS r,
            1 + 3 * (rank() OVER (ORDER BY number) - 1) // count(*) OVER () AS f,
            1 + 3 * (rank() OVER (ORDER BY worth) - 1) // count(*) OVER () AS m FROM totals)
        SELECT customer FROM ranked
        WHERE r = 1 AND (f >= 2 OR m >= 2) AND last <= {AGO} 720 HOUR""",
    ),
)


def kept_live(shop: habitue.Shop, at: datetime) -> dict[str, list[str]]:
    """Who is in each audience that has a name, as `habitue serve` would have kept it at an instant.

    The live state takes what was imported, follows the audiences, and lets time be `at`.
    """
    work = shop.workspace.path
    with closing(SqliteLog(work / "log")) as log:
        following = Following(
            work / "online" / PROFILES_FILE, log, shop.workspace.lake,
            refuses=lambda noun: False, clock=clock_of(lambda: at),
        )  # fmt: skip
        following.catch_up()
        while following.define() or following.step():
            pass
        following.close()
    return {
        name: shop.audiences.members(name)["customer"].to_pylist()
        for name in shop.audiences.sentences()
    }


def main(folder: Path) -> None:
    """Import the demo's shop into a workspace in `folder`, and ask it everything."""
    shop = habitue.open(folder / "work").shop("acme")
    shop.ingest(DEMO / "online_retail_ii.parquet", DEMO / "online_retail_ii.toml")
    for one in QUESTIONS:
        shop.audiences.save(one.asked, one.python)
    live = kept_live(shop, CUTOFF)
    for one in QUESTIONS:
        groups = [{"conditions": [condition]} for condition in one.klaviyo]
        assert understood(one.sentence) == one.python == understood({"condition_groups": groups})
        found = shop.audience(one.sentence, cutoff=CUTOFF).members["customer"].to_pylist()
        by_hand = shop.query(one.sql, cutoff=CUTOFF)["customer"].to_pylist()
        assert found == sorted(by_hand), f"{len(found)}, by hand {len(by_hand)}: {one.sentence}"
        assert found == sorted(live[one.asked]), f"{len(found)}, live {len(live[one.asked])}"
        print(f"{len(found):6,}  {one.asked:56} {one.sentence}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
