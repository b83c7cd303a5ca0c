"""Train, predict, recommend, items: answers that are kept, repeatable, and know no future."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from habitue import publishing
from habitue.config import Launch, TrainConfig
from habitue.errors import BadSetting, NotEnoughHistory, SawTheFuture
from habitue.evaluation import learn_recommender
from habitue.ingest.gate import Gate
from habitue.lake import query
from habitue.lake.tables import Lake
from habitue.model.checkpoint import CONFIG
from habitue.predictions import score
from habitue.predictions.learn import learn, train_model
from habitue.publishing import ANSWER, AsOf, Source
from habitue.recommendations.recommend import recommend
from habitue.registry import CHAMPION, Registry
from habitue.sequences.build import DAY, build_sequences, instant, microseconds
from habitue.simulation import ShopConfig, catalogue
from tests import travelling
from tests.lake.small import day as small_day
from tests.lake.small import event, filled
from tests.model.texts.small import encoder_folder
from tests.shops import altered, end_of, events_of, orders_of, sequences_of

SHOP = ShopConfig(shop="acme", customers=60, items=20, days=240, arrival_days=200)
TINY = TrainConfig(width=32, layers=1, epochs=1)
NOW = datetime(2026, 1, 5, tzinfo=UTC)
CUTOFF = instant(end_of(SHOP) - 40 * DAY)
HORIZONS = (30.0, 90.0)


def source_of(folder, events: pa.Table, *, shop: str = "acme", items: bool = True) -> Source:
    lake = Lake(folder / "lake")
    if items:
        lake.append({"items": catalogue(SHOP, 1)})
    source = Source(lake, Registry(folder), shop)
    receive(source, events)
    return source


def receive(source: Source, events: pa.Table) -> None:
    (door,) = events["source"].unique().to_pylist()
    Gate(source.lake).append(events, shop=source.shop, source=door, received=NOW)


def upto_cutoff(events: pa.Table) -> pa.Table:
    return events.filter(pc.field("time") <= pa.scalar(CUTOFF))


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return events_of(SHOP, 1)


@pytest.fixture(scope="module")
def source(events, tmp_path_factory) -> Source:
    """A shop with a champion that has seen all up to CUTOFF, and nothing after it yet."""
    source = source_of(tmp_path_factory.mktemp("acme"), upto_cutoff(events))
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
    return source


@pytest.fixture(scope="module")
def answers(source) -> pa.Table:
    return publishing.predict(source, AsOf(CUTOFF), horizons=HORIZONS)


def orderers(source: Source, cutoff: datetime) -> set[str]:
    sql = "SELECT DISTINCT customer FROM orders WHERE customer IS NOT NULL"
    told = query.read(source.lake, sql, shop=source.shop, cutoff=cutoff)
    return set(told["customer"].to_pylist())


def asked(table: pa.Table, question: str, days: float | None = None) -> dict[str, np.ndarray]:
    rows = table.filter(pc.field("question") == question)
    if days is not None:
        rows = rows.filter(pc.field("horizon_days") == days)
    return {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names}


def test_every_known_customer_has_one_row_per_question_and_horizon(source, answers):
    assert answers.schema.names == ANSWER.names
    counted = answers.group_by(["question", "horizon_days"]).aggregate([("customer", "count")])
    customers = orderers(source, CUTOFF)
    keys = {(row["question"], row["horizon_days"]) for row in counted.to_pylist()}
    assert keys == {
        *((one, days) for one in ("order", "churn", "orders", "revenue") for days in HORIZONS),
        ("next_order", publishing.MAX_HORIZON_DAYS),
    }
    assert set(counted["customer_count"].to_pylist()) == {len(customers)}
    assert set(answers["customer"].to_pylist()) == customers


def test_intervals_hold_their_probabilities_and_dates(answers):
    for question in ("order", "churn"):
        for days in HORIZONS:
            told = asked(answers, question, days)
            assert np.all((told["low"] >= 0) & (told["high"] <= 1))
            assert np.all((told["low"] <= told["value"]) & (told["value"] <= told["high"]))
            assert np.all(told["low"] < told["high"])
    told = asked(answers, "next_order")
    known = ~np.isnan(told["value"])
    assert known.sum() > 10
    assert np.all(told["low"][known] <= told["value"][known])
    assert np.all((told["value"] <= told["high"])[known & ~np.isnan(told["high"])])
    dates = told["date"][known].astype("datetime64[us]").astype(np.int64)
    np.testing.assert_allclose(
        (dates - microseconds(CUTOFF)) / DAY, told["value"][known], atol=1e-9
    )


def test_intervals_of_counts_and_spend_are_those_of_single_customers(answers):
    """The value is a mean, and may lie above the interval of who most likely orders nothing."""
    for question in ("orders", "revenue"):
        told = asked(answers, question, 90.0)
        assert np.all(told["low"] >= 0)
        assert np.all(told["low"] <= told["high"])
        assert np.all(told["low"] <= told["value"])
        assert np.all((told["value"] <= told["high"]) | (told["high"] == 0))
        assert np.any(told["high"] > 0)


def test_churn_is_what_is_left_of_order_and_grows_no_longer_with_the_horizon(answers):
    order, churn = asked(answers, "order", 90.0), asked(answers, "churn", 90.0)
    np.testing.assert_allclose(order["value"] + churn["value"], 1, atol=1e-12)
    np.testing.assert_allclose(order["low"] + churn["high"], 1, atol=1e-12)
    assert np.all(asked(answers, "order", 30.0)["value"] < order["value"])


def test_an_anchor_is_at_most_a_week_before_the_cutoff(answers):
    anchor = answers["anchor"].cast(pa.int64()).to_numpy()
    assert np.all(anchor <= microseconds(CUTOFF))
    assert np.all(anchor > microseconds(CUTOFF) - 7 * DAY)


def test_a_version_that_was_saved_and_opened_answers_as_the_one_in_memory(source, events):
    sequences = build_sequences(source.lake, "acme", cutoff=microseconds(CUTOFF))
    learnt = learn(sequences, TINY)
    fitted = learn_recommender(learnt, sequences)
    version = publishing.publish(source.registry, learnt, fitted, now=NOW)

    opened = publishing.predict(source, AsOf(CUTOFF, version), horizons=HORIZONS)
    lists = publishing.recommend(source, AsOf(CUTOFF, version), k=5)

    assert opened.equals(publishing.answers(learnt.scores(HORIZONS), sequences, version))
    assert lists.equals(recommend(fitted, sequences, k=5))


def test_what_happens_after_the_cutoff_changes_no_model_answer_or_list(events, tmp_path):
    """The first leak test, through the lake: before and after the future was imported."""
    source = source_of(tmp_path, upto_cutoff(events))
    before = publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
    told = publishing.predict(source, AsOf(CUTOFF, before), horizons=HORIZONS)
    lists = publishing.recommend(source, AsOf(CUTOFF, before))
    catalogue_then = publishing.items(source, AsOf(CUTOFF, before))

    future = altered(events, microseconds(CUTOFF))
    receive(source, future.filter(pc.field("time") > pa.scalar(CUTOFF)))
    after = publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)

    assert len(orderers(source, instant(end_of(SHOP)))) > len(orderers(source, CUTOFF))
    for version in (before, after):
        again = publishing.predict(source, AsOf(CUTOFF, version), horizons=HORIZONS)
        assert again.drop_columns("version").equals(told.drop_columns("version"))
        assert publishing.recommend(source, AsOf(CUTOFF, version)).equals(lists)
        assert publishing.items(source, AsOf(CUTOFF, version)).equals(catalogue_then)
    later = publishing.predict(source, AsOf(instant(end_of(SHOP)), before), horizons=HORIZONS)
    assert later.num_rows > told.num_rows


def test_predictions_are_kept_once(source):
    def kept() -> list[dict]:
        sql = "SELECT question, horizon_days, received FROM predictions"
        return query.read(source.lake, sql, shop="acme").to_pylist()

    count = len(orderers(source, CUTOFF))
    churn = publishing.predict(
        source, AsOf(CUTOFF), horizons=(30.0, 30.0), question="churn", now=NOW
    )
    assert churn.num_rows == len(kept()) == count
    publishing.predict(source, AsOf(CUTOFF), horizons=(30.0,), question="churn", now=NOW)
    assert len(kept()) == count
    publishing.predict(
        source, AsOf(CUTOFF), horizons=(30.0, 60.0), question="churn",
        now=NOW + timedelta(days=1),
    )  # fmt: skip
    assert len(kept()) == 2 * count
    assert {(row["horizon_days"], row["received"]) for row in kept()} == {
        (30.0, NOW), (60.0, NOW + timedelta(days=1)),
    }  # fmt: skip
    known = AsOf(CUTOFF, known_at=CUTOFF)
    publishing.predict(source, known, horizons=(90.0,), question="churn", now=NOW)
    assert len(kept()) == 2 * count


def test_a_version_refuses_an_instant_before_the_last_event_it_saw(source):
    as_of = AsOf(CUTOFF - timedelta(days=20))
    for ask in (
        lambda: publishing.predict(source, as_of, horizons=(30.0,)),
        lambda: publishing.recommend(source, as_of),
        lambda: publishing.items(source, as_of),
    ):
        with pytest.raises(SawTheFuture, match="remembered, not predicted"):
            ask()


def test_every_known_customer_gets_a_full_list_and_nobody_else_does(source):
    lists = publishing.recommend(source, AsOf(CUTOFF), k=7)
    ranks = lists.group_by("customer").aggregate([("rank", "max"), ("rank", "count")]).to_pylist()
    assert {row["customer"] for row in ranks} >= orderers(source, CUTOFF)
    assert {(row["rank_max"], row["rank_count"]) for row in ranks} == {(7, 7)}
    sql = "SELECT DISTINCT customer FROM events WHERE customer IS NOT NULL"
    seen = query.read(source.lake, sql, shop="acme", cutoff=CUTOFF)["customer"].to_pylist()
    assert {row["customer"] for row in ranks} == set(seen)


def test_what_a_customer_has_bought_is_left_out_where_asked(source):
    sql = "SELECT DISTINCT customer, item FROM lines WHERE customer IS NOT NULL"
    bought = query.read(source.lake, sql, shop="acme", cutoff=CUTOFF).to_pylist()
    pairs = {(row["customer"], row["item"]) for row in bought}

    def listed(**rules: object) -> set[tuple[str, str]]:
        lists = publishing.recommend(source, AsOf(CUTOFF), k=10, **rules).to_pylist()
        return {(row["customer"], row["item"]) for row in lists}

    assert listed() & pairs
    assert not listed(exclude_bought=True) & pairs


def test_the_catalogue_tells_what_sold_and_what_is_expected(source):
    table = publishing.items(source, AsOf(CUTOFF))
    rows = {row["item"]: row for row in table.to_pylist()}
    sql = 'SELECT item, count(DISTINCT "order") AS orders FROM lines WHERE time > ? GROUP BY item'
    sold = query.read(
        source.lake, sql, [CUTOFF - timedelta(days=89)], shop="acme", cutoff=CUTOFF
    ).to_pylist()
    launched = catalogue(SHOP, 1).filter(pc.field("time") <= pa.scalar(CUTOFF))["item"]
    assert set(rows) == set(launched.to_pylist())
    assert max(row["orders_90d"] for row in rows.values()) > 5
    for row in sold:
        # the shop counts by calendar days, the first of which is only partly within
        assert abs(rows[row["item"]]["orders_90d"] - row["orders"]) <= 2
    expected = table["expected_orders_28d"].to_numpy()
    assert np.all(expected > 0)
    assert table["orders_90d"].to_pylist() == sorted(
        table["orders_90d"].to_pylist(), reverse=True
    )


def test_what_was_not_known_yet_informs_no_answer(events, tmp_path):
    late = upto_cutoff(events)
    placed = late.filter((pc.field("name") == "order_placed") & pc.field("customer").is_valid())
    whom = placed.sort_by("time")["customer"][-1].as_py()
    hers = pc.equal(late["customer"], whom).fill_null(False)
    received = pc.if_else(hers, pa.scalar(NOW, late["received"].type), late["received"])
    place = late.column_names.index("received")
    source = source_of(tmp_path, late.set_column(place, "received", received))
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)

    known = AsOf(CUTOFF, known_at=NOW - timedelta(days=1))
    for ask in (
        lambda as_of: publishing.predict(source, as_of, horizons=(30.0,)),
        lambda as_of: publishing.recommend(source, as_of),
    ):
        assert whom in ask(AsOf(CUTOFF))["customer"].to_pylist()
        assert whom not in ask(known)["customer"].to_pylist()
    now, then = publishing.items(source, AsOf(CUTOFF)), publishing.items(source, known)
    assert sum(now["orders_90d"].to_pylist()) > sum(then["orders_90d"].to_pylist())


def test_a_shop_of_few_customers_is_answered_and_says_what_the_answer_rests_on(tmp_path):
    few = replace(SHOP, customers=6, arrival_days=30, rate_days=10.0, rate_shape=2.0)
    source = source_of(tmp_path, events_of(few, 4))
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
    table = publishing.predict(source, AsOf(CUTOFF), horizons=(30.0,))
    assert set(table["status"].to_pylist()) == {"transfer"}
    assert len(set(table["customer"].to_pylist())) == 6
    assert not any(asked(table, one)["value"].size == 0 for one in ("order", "revenue"))
    for one in ("order", "churn", "orders", "revenue"):
        assert np.all(np.isfinite(asked(table, one)["value"]))


def test_a_shop_without_items_is_predicted_and_recommended_nothing(tmp_path):
    start = datetime(2025, 1, 6, tzinfo=UTC)
    rows = [(f"c{n % 9}", float(3 * n % 97 + n / 50), []) for n in range(60)]
    source = source_of(tmp_path, orders_of(rows, start=start), shop="corner", items=False)
    cutoff = start + timedelta(days=120)
    publishing.train(source, config=TINY, cutoff=cutoff, now=NOW)
    table = publishing.predict(source, AsOf(cutoff), horizons=(30.0,))
    assert np.all(np.isfinite(asked(table, "order")["value"]))
    assert publishing.recommend(source, AsOf(cutoff)).num_rows == 0
    assert publishing.items(source, AsOf(cutoff)).num_rows == 0


def test_a_shop_with_too_few_orders_is_not_learnt_from(tmp_path):
    start = datetime(2025, 1, 6, tzinfo=UTC)
    rows = [(f"c{n}", float(n), ["mug"]) for n in range(5)]
    source = source_of(tmp_path, orders_of(rows, start=start), shop="corner", items=False)
    with pytest.raises(NotEnoughHistory, match="5 orders before the cutoff, and 20 are needed"):
        publishing.train(source, config=TINY, cutoff=start + timedelta(days=9), now=NOW)
    table = publishing.predict(source, AsOf(start + timedelta(days=9)), horizons=(30.0,))
    assert table["status"].unique().to_pylist() == ["insufficient"]
    assert table["missing"].unique().to_pylist() == ["20 orders in all, and there are 5"]
    assert np.all(np.isfinite(asked(table, "order")["value"]))


@pytest.mark.parametrize(
    ("horizons", "question", "message"),
    [
        ((30.0,), "happiness", "is no question"),
        ((30.0, 731.0), None, "beyond the 730 days"),
        ((0.0,), None, "is none"),
        ((float("nan"),), None, "is none"),
        ((), None, "no horizon"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(source, horizons, question, message):
    with pytest.raises(BadSetting, match=message):
        publishing.predict(source, AsOf(CUTOFF), horizons=horizons, question=question)


def test_the_first_version_is_the_champion_and_later_ones_are_not(source):
    versions = [one.version for one in source.registry.versions()]
    assert source.registry.aliases("acme")[CHAMPION] == versions[0]
    card = (source.registry.version("acme").folder / "card.md").read_text()
    assert "saw everything up to" in card


def test_a_fingerprint_depends_on_the_events_and_not_on_the_name(source, events, tmp_path):
    mine = build_sequences(source.lake, "acme", cutoff=microseconds(CUTOFF))
    earlier = build_sequences(source.lake, "acme", cutoff=microseconds(CUTOFF) - 30 * DAY)
    assert publishing.fingerprint(mine) == publishing.fingerprint(replace(mine, shop="other"))
    assert publishing.fingerprint(mine) != publishing.fingerprint(earlier)


def test_a_training_that_was_cut_short_goes_on_and_ends_as_if_it_never_was(tmp_path):
    sequences = sequences_of(SHOP, seed=3)
    config = TrainConfig(width=32, layers=1, epochs=2, batch_tokens=256, checkpoint_every=2)
    whole = train_model(sequences, config, "training")
    seen = []

    def cut_short(label, step):
        seen.append(step.step)
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(sequences, config, "training", cut_short, tmp_path)
    resumed = train_model(
        sequences, config, "training", lambda _, step: seen.append(step.step), tmp_path
    )
    assert seen[:5] == [1, 2, 3, 4, 5] and seen[5] == 5, "it goes on after the step it kept"
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_answers_that_were_made_elsewhere_are_those_made_here(source, monkeypatch):
    for room in (publishing, score):
        monkeypatch.setattr(room, "over", travelling.over)
    here = publishing.predict(source, AsOf(CUTOFF), horizons=HORIZONS)
    away = publishing.predict(source, AsOf(CUTOFF), horizons=HORIZONS, launch=travelling.AWAY)
    inexact = ("value", "low", "high", "date")
    assert away.drop_columns(inexact).equals(here.drop_columns(inexact))
    for name in inexact[:3]:
        mine, theirs = (one[name].fill_null(np.nan).to_numpy() for one in (away, here))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_training_without_shares_has_as_many_as_there_are_workers(events, tmp_path):
    source = source_of(tmp_path, upto_cutoff(events))
    version = publishing.train(
        source,
        config=replace(TINY, from_nothing=True),
        cutoff=CUTOFF,
        now=NOW,
        launch=Launch(workers=2),
    )
    described = json.loads((source.registry.version("acme", version).folder / CONFIG).read_text())
    assert described["train"]["shares"] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("place", ["processes", "ray"])
def test_two_workers_answer_as_one_process_does(source, place):
    """Built, read and answered elsewhere for real."""
    here = publishing.predict(source, AsOf(CUTOFF), horizons=HORIZONS)
    launch = Launch(place=place, workers=2)
    away = publishing.predict(source, AsOf(CUTOFF), horizons=HORIZONS, launch=launch)
    assert away["customer"].equals(here["customer"])
    mine, theirs = (one["value"].fill_null(np.nan).to_numpy() for one in (away, here))
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_version_reads_item_texts_with_the_encoder_it_was_trained_with(events, tmp_path):
    folder = encoder_folder(tmp_path / "encoder")
    source = source_of(tmp_path / "acme", upto_cutoff(events))
    told = []
    publishing.train(
        source,
        config=replace(TINY, text_encoder=str(folder)),
        cutoff=CUTOFF,
        now=NOW,
        progress=lambda label, *_: told.append(label),
    )
    assert any(label.startswith("texts:") for label in told)
    assert list(source.registry.texts.glob("*.lmdb"))
    assert len(publishing.recommend(source, AsOf(CUTOFF), k=3))
    encoder_folder(tmp_path / "encoder", seed=1)
    with pytest.raises(BadSetting, match="not the one that the model was trained with"):
        publishing.recommend(source, AsOf(CUTOFF), k=3)


def test_what_a_customer_was_shown_and_did_nothing_about_counts_less_for_two_weeks(tmp_path):
    lake = Lake(tmp_path / "lake")
    shown = {"name": "recommendations_shown", "order": None, "value": None, "lines": ()}
    told = {"items": ["tea", "jam"]}
    filled(
        lake,
        *(event(f"s{day}", day, properties=msgspec.Raw(msgspec.json.encode(told)), **shown)
          for day in (1, 10, 11)),
        event("looked", 10.5, name="item_viewed", order=None, value=None, lines=(),
              properties=msgspec.Raw(b'{"item": "jam"}')),
        event("other", 10, customer="c2"),
    )  # fmt: skip
    read = partial(query.read, lake, shop="acme", cutoff=small_day(20))
    found = publishing.discounts_of(read, small_day(20))
    assert {who: set(items) for who, items in found.items()} == {"c1": {"tea", "jam"}}
    assert found["c1"]["tea"] == pytest.approx(2 * found["c1"]["jam"])      # the view wiped one out
    assert publishing.discounts_of(read, small_day(40)) == {}
