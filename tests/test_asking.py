"""Any question: answered for everyone, judged on what nothing had seen, the same every time."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from habitue import asking, publishing
from habitue.asking import MOST_TRIALS, Reply, ask, trial_of
from habitue.config import TrainConfig
from habitue.errors import BadSetting, BadTarget, NoSuchModel, SawTheFuture
from habitue.lake import query
from habitue.lake.erasing import Whose, count_rows, erase_rows
from habitue.lake.tables import Lake
from habitue.predictions.probes.language import Target
from habitue.publishing import ANSWER, AsOf, Source
from habitue.registry import Registry
from habitue.sequences.build import DAY, build_sequences, instant, microseconds, upto
from habitue.simulation import ShopConfig
from habitue.transfer.adapt import FROM_NOTHING
from habitue.transfer.levels import Training
from habitue.transfer.opening import Origin
from tests.shops import altered, end_of, events_of, orders_of
from tests.test_publishing import receive

SHOP = ShopConfig(shop="acme", customers=150, items=20, days=230, arrival_days=160)
TINY = TrainConfig(width=32, layers=1, epochs=1, queries=2, from_nothing=True)
NOW = datetime(2026, 1, 5, tzinfo=UTC)
CUTOFF = instant(end_of(SHOP) - 30 * DAY)
TARGETS = {
    "exists": Target("order_placed", "exists", 30),
    "count": Target("item_viewed", "count", 30),
    "sum": Target("order_placed", "sum", 30, where="value >= 20"),
}


@pytest.fixture(scope="module", autouse=True)
def few_replicates():
    """Intervals of the comparison are drawn from fewer samples, which takes less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("habitue.predictions.probes.answer.REPLICATES", 10)
        yield


def source_of(folder, events: pa.Table, shop: str = "acme") -> Source:
    source = Source(Lake(folder / "lake"), Registry(folder), shop)
    receive(source, events)
    return source


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return events_of(SHOP, 5)


@pytest.fixture(scope="module")
def source(events, tmp_path_factory) -> Source:
    """A shop with a champion that has seen all up to CUTOFF, and nothing after it yet."""
    past = events.filter(pc.field("time") <= pa.scalar(CUTOFF))
    source = source_of(tmp_path_factory.mktemp("acme"), past)
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
    return source


@pytest.fixture(scope="module")
def replies(source) -> dict[str, Reply]:
    return {name: ask(source, AsOf(CUTOFF), one, now=NOW) for name, one in TARGETS.items()}


def seen_by(source: Source, cutoff: datetime) -> set[str]:
    sql = "SELECT DISTINCT customer FROM events WHERE customer IS NOT NULL"
    told = query.read(source.lake, sql, shop=source.shop, cutoff=cutoff)
    return set(told["customer"].to_pylist())


def values(table: pa.Table, column: str = "value") -> np.ndarray:
    return table[column].to_numpy(zero_copy_only=False)


@pytest.mark.parametrize("name", TARGETS)
def test_everyone_known_is_answered_once_with_an_interval(source, replies, name):
    table = replies[name].table
    assert table.schema == ANSWER
    customers = table["customer"].to_pylist()
    assert len(customers) == len(set(customers))
    assert set(customers) == seen_by(source, CUTOFF)
    assert set(table["question"].to_pylist()) == {str(TARGETS[name])}
    low, value, high = (values(table, one) for one in ("low", "value", "high"))
    assert np.all(np.isfinite(value))
    assert np.all((low >= 0) & (low <= high))
    if name == "exists":
        assert np.all((low < value) & (value < high) & (high < 1))
    else:
        assert np.all(low <= value)
        assert high.max() > value.max()


@pytest.mark.parametrize("name", TARGETS)
def test_the_answer_is_judged_beside_simpler_ones(replies, name):
    judged = replies[name].judged
    methods = {row["method"] for row in judged}
    assert {"answer", "base_rate", "last_window", "linear_aggregates", "linear_embedding",
            "linear_both", "trees_aggregates", "trees_both"} == methods  # fmt: skip
    assert replies[name].method in methods
    told = {(row["method"], row["metric"]): row for row in judged}
    metric = "auc" if name == "exists" else "ngini"
    assert told["answer", metric]["value"] > told["base_rate", metric]["value"]
    assert told["base_rate", metric]["verdict"] in ("win", "tie")
    start = datetime.fromisoformat(judged[0]["cutoff"])
    assert start + timedelta(days=30) == CUTOFF
    if name != "exists":
        # of 150 customers, three standard errors of a share of 0.9 are 0.06
        assert told["answer", "coverage_90"]["value"] > 0.82


def test_more_is_expected_of_those_who_then_did_more(source, replies, events):
    """On a simulated shop of known seed, by what happened in the days after the cutoff."""
    end = CUTOFF + timedelta(days=30)
    ahead = (pc.field("time") > pa.scalar(CUTOFF)) & (pc.field("time") <= pa.scalar(end))
    for name, event in (("exists", "order_placed"), ("count", "item_viewed")):
        who = events.filter(ahead & (pc.field("name") == event))["customer"].to_pylist()
        did = np.array([one in who for one in replies[name].table["customer"].to_pylist()])
        value = values(replies[name].table)
        assert did.sum() > 20
        assert value[did].mean() > 1.5 * value[~did].mean()


def test_the_same_question_has_the_same_answer_and_is_kept_once(source, replies):
    again = ask(source, AsOf(CUTOFF), TARGETS["exists"], now=NOW + timedelta(days=1))
    assert again.table.equals(replies["exists"].table)
    assert again.judged == replies["exists"].judged
    sql = "SELECT question, count(*) AS rows FROM predictions GROUP BY question"
    kept = query.read(source.lake, sql, shop="acme").to_pylist()
    told = {row["question"]: row["rows"] for row in kept}
    assert told[str(TARGETS["exists"])] == len(again.table)


def test_what_happens_after_the_cutoff_changes_no_answer_and_no_figure(events, replies, tmp_path):
    """The first leak test, through the lake: the same shop with another future imported."""
    source = source_of(tmp_path, altered(events, microseconds(CUTOFF)))
    publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
    again = ask(source, AsOf(CUTOFF), TARGETS["sum"])
    assert again.table.equals(replies["sum"].table)
    assert again.judged == replies["sum"].judged


def test_what_judges_is_seen_by_nothing_that_it_judges(source, events, tmp_path, monkeypatch):
    """With another last window the choice, and what is said of that window, are the same."""
    begun = microseconds(CUTOFF) - 30 * DAY
    told = {}
    other = source_of(tmp_path, altered(events, begun))
    publishing.train(other, config=TINY, cutoff=CUTOFF, now=NOW)
    honest = asking.answer

    for name, one in (("as it was", source), ("altered", other)):
        forecasts = []

        def watched(past, *, trial, embed, seed, forecasts=forecasts):
            from habitue.predictions.probes import answer as room

            compared = room._compared

            def noted(about, actual, predicted, seed):
                forecasts.append((past.sequences.customers, predicted))
                return compared(about, actual, predicted, seed)

            monkeypatch.setattr(room, "_compared", noted)
            try:
                return honest(past, trial=trial, embed=embed, seed=seed)
            finally:
                monkeypatch.setattr(room, "_compared", compared)

        monkeypatch.setattr(asking, "answer", watched)
        reply = ask(one, AsOf(CUTOFF), TARGETS["count"])
        told[name] = (reply.method, forecasts[0][1], reply.judged)
    assert told["as it was"][0] == told["altered"][0]
    for method, forecast in told["as it was"][1].items():
        np.testing.assert_array_equal(forecast, told["altered"][1][method])
    assert told["as it was"][2] != told["altered"][2]


def test_an_older_version_judges_by_itself_and_a_newer_one_by_a_trial(source, monkeypatch):
    trials = []
    honest = asking.trial_of
    monkeypatch.setattr(
        asking, "trial_of", lambda *told: trials.append(told[1].cutoff) or honest(*told)
    )
    target = Target("order_placed", "exists", 10)
    ask(source, AsOf(CUTOFF), target)
    assert trials == [microseconds(CUTOFF) - 20 * DAY]
    early = CUTOFF - timedelta(days=25)
    version = publishing.train(source, config=TINY, cutoff=early, now=NOW)
    ask(source, AsOf(CUTOFF, version), target)
    assert len(trials) == 1


def test_a_trial_is_trained_once_and_the_oldest_make_room(source, tmp_path):
    sequences = build_sequences(source.lake, "acme", cutoff=microseconds(CUTOFF))
    past = upto(sequences, sequences.cutoff - 60 * DAY)
    config = replace(TINY, epochs=1, width=32)

    def folder_of(config: TrainConfig) -> Path:
        origin = Origin(way=FROM_NOTHING)
        return trial_of(tmp_path, past, Training(config=config), origin, source.shelf)

    folder = folder_of(config)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert folder_of(config) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    for number in range(MOST_TRIALS + 2):
        (tmp_path / "trials" / f"made-{number}").mkdir()
    folder_of(replace(config, seed=1))
    assert len(list((tmp_path / "trials").iterdir())) == MOST_TRIALS


def test_a_past_too_short_for_the_horizon_says_what_is_missing(source):
    reply = ask(source, AsOf(CUTOFF), Target("order_placed", "exists", 120), now=NOW)
    told = "120 days ahead are learnt from 420 days of past, and there are 1..;"
    assert re.match(told, reply.missing)
    assert set(reply.table["status"].to_pylist()) == {"insufficient"}
    assert reply.table["value"].null_count == len(reply.table) > 0
    assert reply.judged == ()
    kept = query.read(source.lake, "SELECT * FROM predictions WHERE value IS NULL", shop="acme")
    assert kept.num_rows == 0


def test_what_hardly_ever_happened_says_how_often_it_did(source):
    rare = Target("order_placed", "exists", 30, where="value > 100000")
    reply = ask(source, AsOf(CUTOFF), rare)
    assert reply.missing == (
        "it happened to 0 customers before the two latest, and 30 are needed"
    )
    always = Target("item_viewed", "exists", 30, where='item = "i000000"')
    assert "are needed" in ask(source, AsOf(CUTOFF), always).missing


def test_a_thin_shop_is_told_what_is_missing(tmp_path):
    start = datetime(2025, 1, 6, tzinfo=UTC)
    rows = [(f"c{n % 9}", float(3 * n % 97 + n / 50), []) for n in range(60)]
    source = source_of(tmp_path, orders_of(rows, start=start), shop="corner")
    cutoff = start + timedelta(days=120)
    publishing.train(source, config=TINY, cutoff=cutoff, now=NOW)
    reply = ask(source, AsOf(cutoff), Target("order_placed", "count", 10))
    assert set(reply.table["status"].to_pylist()) <= {"insufficient", "transfer"}
    assert bool(reply.missing) == (reply.table["value"].null_count > 0)


def test_an_unknown_event_an_unpublished_shop_and_a_past_cutoff_are_refused(source, tmp_path):
    with pytest.raises(BadTarget, match="did you mean order_placed"):
        ask(source, AsOf(CUTOFF), Target("order_place", "exists", 30))
    with pytest.raises(SawTheFuture):
        ask(source, AsOf(CUTOFF - timedelta(days=40), "v1"), TARGETS["exists"])
    empty = Source(source.lake, Registry(tmp_path), "acme")
    with pytest.raises(NoSuchModel):
        ask(empty, AsOf(CUTOFF), TARGETS["exists"])


def numbers(table: pa.Table) -> np.ndarray:
    """(rows, width) float16."""
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(table), -1)


@pytest.mark.parametrize("of", ["customer", "item"])
def test_embeddings_are_a_table_kept_once_by_version_and_anchor(source, of):
    for width in (64, 64, 256):
        table = asking.embeddings(source, AsOf(CUTOFF), width=width, of=of, now=NOW)
    assert table.column_names == [of, "anchor", "cutoff", "version", "embedding"]
    assert numbers(table).shape[1] == 256
    assert numbers(table).dtype == np.float16
    names = table[of].to_pylist()
    assert len(names) == len(set(names)) > 10
    sql = f"SELECT {of}, anchor, embedding FROM {of}_embeddings WHERE width = 256 ORDER BY {of}"
    kept = query.read(source.lake, sql, shop="acme").to_pylist()
    assert [row[of] for row in kept] == sorted(names)
    held = np.stack([np.frombuffer(row["embedding"], "<f2") for row in kept])
    np.testing.assert_array_equal(held[np.argsort(np.argsort(names))], numbers(table))
    counted = f"SELECT count(*) AS n FROM {of}_embeddings WHERE width = 64"
    assert query.read(source.lake, counted, shop="acme")["n"][0].as_py() == len(names)


def test_what_happens_after_the_cutoff_moves_no_embedding(source, events, tmp_path):
    """A later cutoff finds the earlier one's rows, for whoever has the same anchor."""
    told = {
        of: asking.embeddings(source, AsOf(CUTOFF), width=64, of=of) for of in ("customer", "item")
    }
    other = source_of(tmp_path, altered(events, microseconds(CUTOFF)))
    publishing.train(other, config=TINY, cutoff=CUTOFF, now=NOW)
    for of, table in told.items():
        assert asking.embeddings(other, AsOf(CUTOFF), width=64, of=of).equals(table)


def test_the_basis_of_a_version_is_made_once_from_its_own_past(events, tmp_path):
    """Asked first as of a later cutoff, a version brings its blocks to a width all the same."""
    told = []
    for name, first in (("early", CUTOFF), ("late", CUTOFF + timedelta(days=20))):
        source = source_of(tmp_path / name, events)
        publishing.train(source, config=TINY, cutoff=CUTOFF, now=NOW)
        asking.embeddings(source, AsOf(first), width=64)
        told.append(asking.embeddings(source, AsOf(CUTOFF), width=64))
    assert told[0].equals(told[1])


def test_an_erased_customer_leaves_no_embedding(source):
    asking.embeddings(source, AsOf(CUTOFF), width=64, now=NOW)
    whom = asking.embeddings(source, AsOf(CUTOFF), width=64)["customer"][0].as_py()
    whose = Whose(shop="acme", keys=frozenset([whom]), until=NOW)
    assert count_rows(source.lake, whose)["customer_embeddings"] > 0
    erase_rows(source.lake, whose)
    assert count_rows(source.lake, whose)["customer_embeddings"] == 0
    sql = "SELECT count(*) AS n FROM customer_embeddings"
    assert query.read(source.lake, sql, shop="acme")["n"][0].as_py() > 0


def test_embeddings_of_another_width_are_refused(source):
    for told in ({"width": 100}, {"of": "order"}):
        with pytest.raises(BadSetting, match="64, 256, 2048 wide"):
            asking.embeddings(source, AsOf(CUTOFF), **told)
