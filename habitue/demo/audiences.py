"""Ten ready audiences of the demo's shop: how large they were, and what their members did next.

Who was in one is told by what was known at the cutoff, and forecasts by the version that had seen
no further; what followed is what happened. Sizes go back to where the shop begins; an audience
that compares forecasts has a size only where there were any, at the cutoff and at the end.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pyarrow as pa

from habitue import publishing
from habitue.audiences.aftermath import figures as after
from habitue.audiences.aftermath.happened import Days
from habitue.audiences.language.parsing import parse
from habitue.audiences.members import AsOf, find_all
from habitue.audiences.templates import Template, needs, template
from habitue.demo import figures as shown
from habitue.demo.gather import at
from habitue.evaluation import Backtest
from habitue.workspace import Shop

NAMES = (
    "new-customers", "one-time-buyers", "repeat-buyers", "vip", "lapsing", "win-back",
    "same-season", "replenishment-due", "likely-to-buy", "high-spend-at-risk",
)  # fmt: skip
DAYS = 90                                  # after the cutoff that are looked at
EVERY_DAYS = 30                            # a size
HORIZONS = (30.0, 90.0)                    # of the forecasts that ready audiences compare


def audiences(
    shop: Shop, test: Backtest, version: str, answers: pa.Table
) -> shown.Audiences:
    """The ten, as of the cutoff of a backtest; `answers` are the forecasts as of the end."""
    cutoff = at(test.known.cutoff)
    last: datetime = answers["cutoff"][0].as_py()
    told = publishing.answers(test.learnt.scores(HORIZONS), test.known, version)
    chosen = [template(name) for name in NAMES]
    sizes = _sizes(shop, chosen, last, {cutoff: _recorded(told), last: _recorded(answers)})
    as_of = AsOf(cutoff, cutoff)
    lake = shop.workspace.lake
    held = after.setting(lake, shop.name, Days(cutoff, DAYS), as_of, _recorded(told))
    conditions = [one.condition for one in chosen]
    found = find_all(lake, shop.name, conditions, as_of, instead=_recorded(told))
    return shown.Audiences(
        cutoff=cutoff,
        days=DAYS,
        customers=held.done.table.num_rows,
        start=min(one.at for one in sizes[NAMES[0]]),
        end=last,
        shown=tuple(
            _ready(one, sizes[one.name], after.aftermath(who, held))
            for one, who in zip(chosen, found, strict=True)
        ),
    )


def _sizes(
    shop: Shop,
    chosen: Sequence[Template],
    last: datetime,
    told: Mapping[datetime, pa.Table],     # forecasts, by when they were made
) -> dict[str, tuple[shown.SizeAt, ...]]:
    """How large each was, every so many days back from the end and where there are forecasts."""
    first = shop.query('SELECT min("time") AS first FROM events')["first"][0].as_py()
    count = (last - first) // timedelta(days=EVERY_DAYS)
    times = {last - timedelta(days=EVERY_DAYS * place) for place in range(count + 1)}
    plain = [one for one in chosen if not needs(parse(one.condition)).predictions]
    found: dict[str, list[shown.SizeAt]] = {one.name: [] for one in chosen}
    for time in sorted(times | set(told)):
        asked = chosen if time in told else plain
        conditions = [one.condition for one in asked]
        members = find_all(
            shop.workspace.lake, shop.name, conditions, AsOf(time, time), instead=told.get(time)
        )
        for one, who in zip(asked, members, strict=True):
            found[one.name].append(shown.SizeAt(time, who.size))
    return {name: tuple(held) for name, held in found.items()}


def _ready(
    one: Template, sizes: tuple[shown.SizeAt, ...], told: after.Aftermath
) -> shown.ReadyAudience:
    measures = {measure.name: measure for measure in told.measures}
    return shown.ReadyAudience(
        name=one.name,
        purpose=one.purpose,
        condition=one.condition,
        sizes=sizes,
        members=told.inside.customers,
        with_match=told.comparison.with_match,
        ordered=_beside(measures["ordered"]),
        revenue=_beside(measures["revenue"]),
    )


def _beside(measure: after.Measure) -> shown.Beside:
    told = measure.matched_difference
    return shown.Beside(
        inside=measure.inside,
        outside=measure.outside,
        with_match=measure.with_match,
        matches=measure.matches,
        difference=None if told is None else shown.Estimate(told.value, told.low, told.high),
    )


def _recorded(answers: pa.Table) -> pa.Table:
    """Answers as the table of predictions holds them."""
    return answers.append_column("received", answers["cutoff"])
