"""The verbs that use a trained model: train, predict, why, recommend, items.

A version is the weights, the calibration and the recommender's mixture of one shop up to a cutoff.
Asked as of an earlier instant it refuses: it would remember, not predict.
"""

# C customers · V items
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from habitue.config import HERE, Launch, TrainConfig
from habitue.errors import BadSetting, NoSuchCustomer
from habitue.evaluation import ITEM_DAYS, Progress, learn_recommender, step_progress
from habitue.events import RECOMMENDATIONS_SHOWN
from habitue.lake import query
from habitue.lake.live.doings import ABOUT_ITEMS, items_told
from habitue.lake.schema import PREDICTIONS, TIME
from habitue.model import checkpoint
from habitue.model.launch import over
from habitue.model.texts.folder import pinned
from habitue.model.texts.vectors import item_vectors
from habitue.predictions.explain.again import Scorer
from habitue.predictions.explain.why import Ask as Ask
from habitue.predictions.explain.why import Explanation, explain
from habitue.predictions.learn import Learnt
from habitue.predictions.scores.answers import BLOCK, Interval, Scores
from habitue.predictions.scores.questions import QUESTIONS
from habitue.recommendations.recommend import FittedRecommender
from habitue.recommendations.rules import Rules
from habitue.recommendations.shelf.everybody import STRANGER, Said, Stand, shelved
from habitue.recommendations.shelf.listed import Wanted, facts_of
from habitue.recommendations.shelf.rules import Rule
from habitue.recommendations.shelf.seen import DAYS, discounts, ignored
from habitue.registry import CHAMPION, Registry, Saw
from habitue.sequences.build import DAY, Sequences, build_sequences, instant, microseconds
from habitue.transfer.adapt import FROM_NOTHING, Adapted, adapt
from habitue.transfer.levels import Training
from habitue.transfer.opening import (
    CALIBRATION,
    MIXTURE,
    ORIGIN,
    Held,
    name_of,
    open_as_of,
    origin_of,
    seen_before,
    write_mixture,
)
from habitue.transfer.opening import AsOf as AsOf
from habitue.transfer.opening import Source as Source
from habitue.transfer.standing import Standing, standing_of

Told = dict[str, str | None]               # columns of one text
MAX_HORIZON_DAYS = 730.0
# at most one row: the customer that a key belongs to
_NAMED = "SELECT customer FROM events WHERE key = ? AND customer IS NOT NULL LIMIT 1"
# one row per item that cannot be sold
_UNAVAILABLE = "SELECT item FROM items WHERE stock <= 0 OR NOT published"
# one row per item of the catalogue that a rule may be about
_FACTS = "SELECT item, brand, price_minor AS price, currency FROM items"
_DONE = """
-- one row per event about items, after an instant, of the customers who were shown any since
SELECT customer, name, "time", list_transform(lines, lambda one: one.item) AS items, properties
FROM events
WHERE "time" > ? AND name IN (SELECT unnest(?)) AND customer IN (
        SELECT customer FROM events WHERE name = 'recommendations_shown' AND "time" > ?)
    AND ("order" IS NULL OR "order" NOT IN (
        SELECT "order" FROM events WHERE name = 'order_cancelled' AND "order" IS NOT NULL))
"""
ANSWER = pa.schema(
    [
        pa.field("customer", pa.string()),
        pa.field("question", pa.string()),
        pa.field("horizon_days", pa.float64()),
        pa.field("value", pa.float64()),                  # next_order: days to the median date
        pa.field("low", pa.float64()),                    # 5th percentile; next_order: 10th
        pa.field("high", pa.float64()),                   # 95th percentile; next_order: 90th
        pa.field("date", TIME),                           # of next_order, its median
        pa.field("status", pa.string()),                  # full, transfer, insufficient
        pa.field("missing", pa.string()),                 # for a better status; none: nothing
        pa.field("anchor", TIME),
        pa.field("cutoff", TIME),
        pa.field("version", pa.string()),
    ]
)


def train(
    source: Source,
    *,
    config: TrainConfig,
    cutoff: datetime,
    now: datetime,
    progress: Progress | None = None,
    launch: Launch = HERE,
) -> str:
    """Train, calibrate and publish; the shop's first version becomes its champion.

    What is published may be the weights that ship, trained on or as they are, where the shop's own
    closed window speaks for them.

    A training that was cut short goes on where it stood when it is asked for again. Without shares
    of its own it is cut into as many as there are workers.
    """
    if config.shares == 1:
        config = replace(config, shares=launch.workers)
    config = replace(config, text_encoder=pinned(config.text_encoder))
    sequences = build_sequences(
        source.lake,
        source.shop,
        cutoff=microseconds(cutoff),
        over=partial(over, launch=launch),
    )
    # read once, for all trainings and trials that follow
    item_vectors(config.text_encoder, sequences, kept=source.registry.texts, told=progress)
    standing = _standing(source.registry, sequences, config)
    training = Training(
        config=config, progress=step_progress(progress), checkpoints=standing, launch=launch
    )
    adapted = adapt(sequences, training, source.shelf)
    recommender = learn_recommender(adapted.learnt, sequences)
    version = publish(source.registry, adapted, recommender, now=now)
    shutil.rmtree(standing)
    return version


def _standing(registry: Registry, sequences: Sequences, config: TrainConfig) -> Path:
    """The folder of a training's checkpoints: the same for the same events and configuration."""
    told = f"{fingerprint(sequences)} {sequences.cutoff} {config}"
    name = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    folder = registry.workspace / "training" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(
    registry: Registry, adapted: Adapted | Learnt, recommender: FittedRecommender, *, now: datetime
) -> str:
    """A new version of a learnt model; promoted where its shop has no champion yet."""
    if isinstance(adapted, Learnt):
        adapted = Adapted(learnt=adapted, way=FROM_NOTHING, starter=None, costs={})
    learnt, starter = adapted.learnt, adapted.starter
    trained, sequences = learnt.trained, learnt.trained.corpus.sequences
    cutoff = instant(trained.cutoff)
    assert cutoff is not None, "a training has a cutoff"

    def write(folder: Path) -> None:
        checkpoint.save(trained.model, sequences, folder)
        (folder / CALIBRATION).write_bytes(msgspec.json.encode(learnt.calibration))
        write_mixture(recommender.mixture, folder / MIXTURE)
        (folder / ORIGIN).write_bytes(msgspec.json.encode(origin_of(adapted)))

    run = registry.start_run(trained.model.config, shop=sequences.shop, cutoff=cutoff, now=now)
    last = instant(int(sequences.time.max()))
    assert last is not None, "a training saw events"
    saw = [Saw(shop=sequences.shop, fingerprint=fingerprint(sequences), last_event=last)]
    saw += [] if starter is None else [seen_before(starter, shop) for shop in starter.seen]
    version = registry.publish(run, write, saw=saw, now=now)
    registry.write_card(version, _card(version, adapted, recommender))
    if CHAMPION not in registry.aliases(sequences.shop):
        reason = "the shop's first version"
        registry.promote(version, shop=sequences.shop, alias=CHAMPION, now=now, reason=reason)
    return version


def predict(
    source: Source,
    as_of: AsOf,
    *,
    horizons: tuple[float, ...],
    question: str | None = None,
    now: datetime | None = None,
    launch: Launch = HERE,
) -> pa.Table:
    """The ANSWER rows of every known customer; kept in the lake's `predictions` when `now` is told.

    What is asked as of what was known at some instant is not kept: it would pass for the answer.

    Raises:
        NoSuchModel, SawTheFuture: no version can answer as of the cutoff.
        BadSetting: no such question, or a horizon that is not in (0, MAX_HORIZON_DAYS].
    """
    _refuse_nonsense(horizons, question)
    held = open_as_of(source, as_of, launch)
    asked = tuple(dict.fromkeys(horizons))
    scores = held.learnt.scores(asked, launch)
    table = answers(scores, held.sequences, held.version, question, launch, held.standing)
    if now is not None and as_of.known_at is None:
        keep(source, table, now)
    return table


def _refuse_nonsense(horizons: tuple[float, ...], question: str | None) -> None:
    if question is not None and question not in QUESTIONS:
        raise BadSetting(f"{question!r} is no question\nhint: ask {', '.join(QUESTIONS)}")
    if not horizons:
        raise BadSetting("no horizon to predict for\nhint: horizons=[90.0]")
    for days in horizons:
        if not days > 0:
            raise BadSetting(f"a horizon of {days:g} days is none\nhint: ask for a longer one")
        if days > MAX_HORIZON_DAYS:
            raise BadSetting(
                f"a horizon of {days:g} days is beyond the {MAX_HORIZON_DAYS:g} days that a"
                " model looks ahead\nhint: ask for a shorter one"
            )


def answers(
    scores: Scores,
    sequences: Sequences,
    version: str,
    question: str | None = None,
    launch: Launch = HERE,
    standing: Standing | None = None,      # none: that of weights trained on this shop
) -> pa.Table:
    """The ANSWER rows of scores, question by question, at every horizon that was asked for."""
    if launch.place == "here":
        return pa.concat_tables(answer_blocks(scores, sequences, version, question, standing))
    told = _told(sequences, version, standing)
    blocks = scores.blocks(min(BLOCK, -(-len(scores.names) // launch.workers) or 1))
    answer = partial(_answered, sequences.cutoff, question, told)
    # from every question of a block to every block of a question
    return pa.concat_tables(
        table
        for tables in zip(*over(answer, blocks, launch), strict=True)
        for table in tables
    )


def answer_blocks(
    scores: Scores,
    sequences: Sequences,
    version: str,
    question: str | None = None,
    standing: Standing | None = None,
) -> Iterator[pa.Table]:
    """The same rows, some customers at a time, for whoever passes them on."""
    told = _told(sequences, version, standing)
    for one, days in _asked(scores, question):
        for block in scores.blocks():
            yield _answer_rows(block, sequences.cutoff, one, days, told)


def _answered(
    cutoff: int, question: str | None, told: Told, block: Scores
) -> list[pa.Table]:
    """The ANSWER rows of some customers, a table for each question and horizon."""
    asked = _asked(block, question)
    return [_answer_rows(block, cutoff, one, days, told) for one, days in asked]


def _asked(scores: Scores, question: str | None) -> list[tuple[str, float]]:
    """Every question with each of its horizons."""
    return [
        (one, days)
        for one in (QUESTIONS if question is None else (question,))
        for days in ((MAX_HORIZON_DAYS,) if one == "next_order" else scores.horizons_days)
    ]


def _told(sequences: Sequences, version: str, standing: Standing | None) -> Told:
    """What every row says of the version that answers, and of what it stands on."""
    standing = standing or standing_of(sequences, own=True)
    return {"status": standing.status, "missing": standing.missing, "version": version}


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list is shown: to whom, beside what, and what the shop says of lists."""

    customer: str | None = None            # by any of their keys; none: everyone
    items: tuple[str, ...] = ()            # on the page or in the cart
    per_category: int | None = None
    rules: Sequence[Rule] = ()             # those in force
    now: datetime | None = None            # when it can be sold or not; none: at the cutoff


def recommend(
    source: Source,
    as_of: AsOf,
    *,
    k: int = 10,
    exclude_bought: bool = False,
    not_sold_days: float | None = None,
    page: Page = Page(),
) -> pa.Table:
    """The k best items of one or every known customer, with the reason in words.

    What could not be sold at the cutoff is left out, and what was bought for good. Somebody of
    whom nothing is known gets what goes with the page, and what sells.
    """
    held = open_as_of(source, as_of)
    days = None if not_sold_days is None else int(np.ceil(not_sold_days))
    wanted = Wanted(
        k=k, context=page.items, exclude_bought=exclude_bought, per_category=page.per_category
    )
    stand = Stand(
        fitted=held.recommender(Rules(sold_within_days=days)), sequences=held.sequences,
        said=_said(source, as_of, page),
    )  # fmt: skip
    if page.customer is None:
        return shelved(stand, wanted)
    name = _name_of(source, as_of, page.customer)
    row = np.flatnonzero(held.sequences.customers == name)
    return shelved(stand, wanted, {name: int(row[0]) if len(row) else STRANGER})


def _said(source: Source, as_of: AsOf, page: Page) -> Said:
    """What the shop says of its items and lists."""
    read = partial(
        query.read, source.lake, shop=source.shop, cutoff=page.now or as_of.cutoff,
        known_at=as_of.known_at,
    )  # fmt: skip
    needs_facts = any(rule.match.needs_facts for rule in page.rules)
    facts = read(_FACTS).to_pylist() if needs_facts else []
    return Said(
        rules=page.rules,
        facts={row["item"]: facts_of(row["brand"], row["price"], row["currency"]) for row in facts},
        unavailable=frozenset(read(_UNAVAILABLE)["item"].to_pylist()),
        discounts=discounts_of(read, page.now or as_of.cutoff),
    )


def discounts_of(read: Callable[..., pa.Table], now: datetime) -> dict[str, dict[str, float]]:
    """By customer: what items lose that they were shown of late and did not mind."""
    since = now - timedelta(days=DAYS)
    shown: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    done: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in read(_DONE, [since, list(ABOUT_ITEMS), since]).to_pylist():
        told = shown if row["name"] == RECOMMENDATIONS_SHOWN else done
        items = items_told(row["name"], row["items"] or [], row["properties"])
        told[row["customer"]] += [(item, microseconds(row["time"])) for item in items]
    return {
        customer: discounts(ignored(told, done[customer])) for customer, told in shown.items()
    }


def _name_of(source: Source, as_of: AsOf, key: str) -> str:
    """What tables call a customer, by one of their keys; of nobody who is known, the key."""
    told = query.read(
        source.lake, _NAMED, [key], shop=source.shop, cutoff=as_of.cutoff, known_at=as_of.known_at
    )
    named = told["customer"].to_pylist()
    return str(named[0]) if named else key


def items(source: Source, as_of: AsOf) -> pa.Table:
    """One row per item: what sold, where it stands, where it goes, what known customers will want.

    `expected_orders_28d` counts orders of known customers that hold the item.
    """
    held = open_as_of(source, as_of)
    sequences = held.sequences
    sold = {days: _sold(sequences, days) for days in (28, 56, 90)}
    rank = np.argsort(np.argsort(sold[90], kind="stable"), kind="stable")
    before = sold[56] - sold[28]
    return pa.table(
        {
            "item": pa.array(sequences.items, pa.string()),
            "title": pa.array(sequences.titles, pa.string()),
            "category": pa.array(sequences.categories, pa.string()),
            "orders_28d": sold[28],
            "orders_90d": sold[90],
            "popularity": rank / max(len(rank) - 1, 1),
            "trend": np.log((sold[28] + 1) / (before + 1)),
            "expected_orders_28d": _demand(held),
        }
    ).sort_by([("orders_90d", "descending"), ("item", "ascending")])


@dataclass(frozen=True, slots=True)
class Why:
    """Explains one customer after another, of a shop that was scored once."""

    scorer: Scorer

    def __call__(self, customer: str, ask: Ask) -> Explanation:
        """Why a customer, as the predictions name them, is predicted what they are.

        Raises:
            NoSuchCustomer: no prediction is of them.
        """
        row = np.flatnonzero(self.scorer.scores.names == customer)
        if not len(row):
            raise NoSuchCustomer(
                f"nothing is predicted of {customer!r}: no order of theirs stands at the cutoff\n"
                "hint: `habitue predict` lists who has one, `habitue customer` what is known"
            )
        return explain(self.scorer, int(row[0]), ask)


def open_why(source: Source, as_of: AsOf, *, horizon_days: float) -> Why:
    """Score everyone, as `predict` does, to explain any of them."""
    _refuse_nonsense((horizon_days,), None)
    learnt = open_as_of(source, as_of).learnt
    trained = learnt.trained
    return Why(Scorer(trained.model, trained.corpus, learnt.scores((horizon_days,))))


def why(source: Source, as_of: AsOf, customer: str, ask: Ask) -> Explanation:
    """Why one customer, by any of their keys, is predicted what they are.

    Raises:
        NoSuchModel, SawTheFuture: no version can answer as of the cutoff.
        BadSetting: no such question, horizon or budget.
        NoSuchCustomer: no order of theirs stands at the cutoff.
    """
    opened = open_why(source, as_of, horizon_days=ask.horizon_days)
    return opened(_name_of(source, as_of, customer), ask)


def fingerprint(sequences: Sequences) -> str:
    """A digest of what was learnt from, whatever the shop is called."""
    digest = hashlib.blake2b(digest_size=16)
    for column in (sequences.time, sequences.value, sequences.line_item, sequences.offsets):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _answer_rows(
    scores: Scores, cutoff: int, question: str, days: float, told: Told
) -> pa.Table:
    """The ANSWER rows of one question at one horizon; `told` are columns of one text."""
    if question == "next_order":
        interval = _dates(scores.next_order())
    else:
        ask: Callable[[float], Interval] = getattr(scores, question)
        interval = ask(days)
    count = len(scores.names)
    missing = np.isnan(interval.value)
    dates = np.full(count, cutoff)
    if question == "next_order":
        dates = dates + np.where(missing, 0, interval.value * DAY).astype(np.int64)
    columns = {
        "customer": pa.array(scores.names, pa.string()),
        "horizon_days": np.full(count, days),
        "value": pa.array(interval.value, pa.float64(), from_pandas=True),
        "low": pa.array(interval.low, pa.float64(), from_pandas=True),
        "high": pa.array(interval.high, pa.float64(), from_pandas=True),
        "date": pa.array(dates, TIME, mask=missing | (question != "next_order")),
        "anchor": pa.array(scores.anchor, TIME),
        "cutoff": pa.array(np.full(count, cutoff), TIME),
    }
    for name, text in (("question", question), *told.items()):
        columns[name] = pa.repeat(pa.scalar(text, pa.string()), count)
    return pa.table(columns).select(ANSWER.names)


def _dates(days: np.ndarray) -> Interval:
    """Median, 10th and 90th percentile; NaN beyond MAX_HORIZON_DAYS, where hazards end."""
    known = np.where(days > MAX_HORIZON_DAYS, np.nan, days)
    return Interval(value=known[:, 1], low=known[:, 0], high=known[:, 2])


def keep(source: Source, table: pa.Table, now: datetime) -> None:
    """Append the answers that the lake does not hold yet, by version, cutoff and question."""
    lake, shop = source.lake, source.shop
    held = query.read(
        lake,
        "SELECT DISTINCT version, cutoff, question, horizon_days FROM predictions",
        shop=shop,
    ).to_pylist()
    kept = {tuple(row.values()) for row in held}
    keys = ("version", "cutoff", "question", "horizon_days")
    fresh = [
        group
        for group in table.select(keys).group_by(keys).aggregate([]).to_pylist()
        if tuple(group[name] for name in keys) not in kept
    ]
    for group in fresh:
        rows = table.filter(
            (pc.field("question") == group["question"])
            & (pc.field("horizon_days") == group["horizon_days"])
        )
        told = {"shop": shop, "received": now}
        columns = {
            name: pa.repeat(pa.scalar(told[name], PREDICTIONS.field(name).type), len(rows))
            if name in told
            else rows[name]
            for name in PREDICTIONS.names
            if name != "bucket"
        }
        lake.append({"predictions": pa.table(columns)})


def _sold(sequences: Sequences, days: int) -> np.ndarray:
    """(V,) orders that held each item in the last so many days, today included."""
    recent = sequences.sales_day > sequences.cutoff // DAY - days
    return np.bincount(
        sequences.sales_item[recent],
        weights=sequences.sales_orders[recent],
        minlength=len(sequences.items),
    ).astype(np.int64)


def _demand(held: Held) -> np.ndarray:
    """(V,) expected orders of known customers that hold each item, within ITEM_DAYS."""
    scores, sequences = held.learnt.scores((ITEM_DAYS,)), held.sequences
    orders = scores.orders(ITEM_DAYS).value
    placed = sequences.is_order
    lines = np.diff(sequences.line_offsets)[placed].mean() if placed.any() else 0.0
    chances = held.learnt.trained.item_scores(sequences, sequences.cutoff)
    demand = np.zeros(len(sequences.items))
    for rows in np.array_split(np.arange(len(orders)), max(len(orders) // 512, 1)):
        demand += orders[rows] @ np.exp(chances(scores.customer[rows]))
    return demand * lines


def _card(version: str, adapted: Adapted, recommender: FittedRecommender) -> str:
    """The version's card: what it saw, how it was held to account."""
    learnt = adapted.learnt
    trained, calibration = learnt.trained, learnt.calibration
    sequences, mixture = trained.corpus.sequences, recommender.mixture
    told = "none had closed" if not calibration.window_days else (
        f"{calibration.window_days:g} days, {calibration.customers:,} customers"
    )
    drift = max(calibration.drift, learnt.least_drift)
    costs = ", ".join(f"{way} {cost:.4f}" for way, cost in adapted.costs.items())
    begun = "" if adapted.starter is None else f", of {name_of(adapted.starter)}"
    recall = "not measured" if mixture.recall is None else f"{mixture.recall:.4f}"
    return "\n".join(
        [
            f"# {version}",
            "",
            f"- shop: {sequences.shop}",
            f"- saw everything up to: {instant(trained.cutoff)}",
            f"- customers: {len(sequences.customers):,}; events: {len(sequences.time):,};"
            f" items: {len(sequences.items):,}",
            f"- weights: {sum(p.numel() for p in trained.model.parameters()):,}",
            f"- calibrated on a closed window of: {told}",
            f"- recall@10 of the recommender on its latest closed window: {recall}",
            f"- the level of its forecasts is trusted within"
            f" {100 * np.expm1(1.645 * drift):.0f}%, nine times in ten",
            f"- way: {adapted.way}{begun}",
            f"- nats a customer on the closed window, by way: {costs or 'not measured'}",
            "",
        ]
    )
