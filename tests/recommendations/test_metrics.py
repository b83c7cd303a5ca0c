"""Metrics agree with slow arithmetic, and count what the catalogue did not know."""

from datetime import UTC, datetime

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from habitue.recommendations.metrics import (
    answers,
    coverage,
    judged,
    ndcg,
    protocol,
    recall,
    recall_capped,
    rows_for_items,
)
from habitue.recommendations.rules import NOTHING
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from tests.shops import orders_of

START = datetime(2024, 3, 4, tzinfo=UTC)


def sequences_at(days, rows):
    cutoff = microseconds(START) + days * DAY
    return sequences_from_events(orders_of(rows, start=START), shop="corner", cutoff=cutoff)


@pytest.fixture(scope="module")
def story():
    rows = [
        ("ann", 1, ["tea", "jam"]),
        ("bob", 2, ["bread"]),
        ("cat", 3, ["tea"]),
        ("ann", 12, ["tea", "bread"]),
        ("ann", 13, ["tea"]),
        ("bob", 14, ["novelty"]),          # not in the catalogue at the cutoff
        ("dan", 15, ["tea"]),              # not a customer at the cutoff
        ("cat", 50, ["tea"]),              # after the horizon
    ]
    known, future = sequences_at(10, rows), sequences_at(60, rows)
    return known, answers(known, future, 28)


def test_relevant_is_what_known_customers_order_in_the_horizon(story):
    known, answer = story

    assert known.items.tolist() == ["bread", "jam", "tea"]
    assert answer.relevant.toarray().tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert answer.total.tolist() == [2, 1, 0]
    assert answer.bought.toarray().tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]
    assert judged(answer).tolist() == [0, 1]


def test_an_order_at_the_cutoff_is_past_and_one_at_the_horizons_end_is_future():
    rows = [("ann", 10, ["tea"]), ("ann", 38, ["jam"]), ("ann", 38.001, ["bread"])]
    known, future = sequences_at(10, rows), sequences_at(60, rows)

    answer = answers(known, future, 28)

    assert answer.total.tolist() == [1]
    assert answer.relevant.nnz == 0         # jam was no known item


def test_a_horizon_that_is_not_over_is_refused():
    rows = [("ann", 1, ["tea"])]

    with pytest.raises(AssertionError, match="not over"):
        answers(sequences_at(10, rows), sequences_at(37, rows), 28)


@given(st.data())
def test_recall_and_ndcg_agree_with_slow_arithmetic(data):
    count, places = 8, data.draw(st.integers(1, 5))
    relevant = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    unknown = data.draw(st.integers(0, 3))
    shown = data.draw(st.lists(st.integers(0, count - 1), max_size=places, unique=True))
    items = np.array([shown + [NOTHING] * (places - len(shown))])
    truth = sp.csr_matrix(np.isin(np.arange(count), list(relevant))[None].astype(np.float32))
    total = np.array([len(relevant) + unknown])
    found = [item in relevant for item in shown]
    gain = sum(1 / np.log2(place + 2) for place, hit in enumerate(found) if hit)
    best = sum(1 / np.log2(place + 2) for place in range(min(places, total[0])))

    assert recall(items, truth, total)[0] == pytest.approx(sum(found) / total[0])
    capped = sum(found) / min(total[0], places)
    assert recall_capped(items, truth, total)[0] == pytest.approx(capped)
    assert ndcg(items, truth, total)[0] == pytest.approx(gain / best)


def test_customers_without_relevant_items_have_no_recall():
    empty = sp.csr_matrix((1, 3), dtype=np.float32)

    assert np.isnan(recall(np.array([[0, 1]]), empty, np.array([0]))).all()


def test_coverage_is_the_share_of_the_catalogue_that_is_shown():
    assert coverage(np.array([[0, 1], [1, NOTHING]]), 4) == 0.5


def test_rows_split_repeats_from_new_and_hold_the_mean_inside_the_interval(story):
    known, answer = story
    customers = judged(answer)
    items = np.array([[2, 1], [0, 1]])      # ann: tea (again, a hit), jam; bob: bread, jam

    rows = rows_for_items(known, "habitue", (customers, items), answer, seed=1)
    values = {row["metric"]: row["value"] for row in rows}

    assert values == {
        "recall@2": pytest.approx((1 / 2 + 0) / 2),
        "recall_capped@2": pytest.approx((1 / 2 + 0) / 2),
        "ndcg@2": pytest.approx(1 / (1 + 1 / np.log2(3)) / 2),
        "repeat_recall@2": 1.0,             # only ann repeats, and tea is hit
        "new_recall@2": 0.0,                # ann's bread and bob's novelty are missed
        "coverage@2": 1.0,
    }
    for row in rows:
        if row["low"] is not None:
            assert row["low"] <= row["value"] <= row["high"]
    assert {row["metric"]: row["customers"] for row in rows}["repeat_recall@2"] == 1
    assert rows[0]["cutoff"] == "2024-03-14T00:00:00+00:00"
    assert list(rows[0]) == [
        "shop", "cutoff", "horizon_days", "question", "method", "metric", "value", "low", "high",
        "customers",
    ]  # fmt: skip


def test_the_interval_covers_the_truth_about_nine_times_in_ten():
    """Coverage of 200 intervals; at .9 the chance to leave [.83, .97] is below .002."""
    rng = np.random.default_rng(3)
    known, answer = _many(rng, 60)
    inside = 0
    for seed in range(200):
        items = np.where(rng.uniform(size=(60, 1)) < 0.4, 0, 1)
        row = rows_for_items(known, "m", (np.arange(60), items), answer, seed=seed)[0]
        inside += row["low"] <= 0.4 <= row["high"]

    assert 0.83 < inside / 200 < 0.97


def test_nobody_to_judge_gives_rows_without_values(story):
    known, answer = story

    rows = rows_for_items(known, "m", (np.zeros(0, int), np.zeros((0, 10), int)), answer)

    assert {row["value"] for row in rows if not row["metric"].startswith("coverage")} == {None}
    assert {row["customers"] for row in rows} == {0}


def test_the_protocol_states_filter_catalogue_and_ties(story):
    text = protocol(story[1], seen_filter=False)

    assert "seen-filter off" in text
    assert "3 items" in text
    assert "ties" in text


def _many(rng, count):
    rows = [(f"c{n:03d}", 1, ["a", "b"]) for n in range(count)]
    rows += [(f"c{n:03d}", 20, ["a"]) for n in range(count)]
    known, future = sequences_at(10, rows), sequences_at(60, rows)
    return known, answers(known, future, 28)
