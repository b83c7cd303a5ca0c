"""Every customer gets a list with reasons, and the mixture finds what the simulation hid."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from habitue.recommendations.baselines import BASELINES
from habitue.recommendations.metrics import answers, judged, recall
from habitue.recommendations.recommend import RECOMMENDATIONS, fit_recommender, recommend
from habitue.recommendations.rules import Rules, top_k
from habitue.sequences.build import DAY, microseconds, sequences_from_events
from habitue.simulation import ShopConfig, catalogue, truth
from tests.shops import end_of, events_of, orders_of, sequences_of

START = datetime(2024, 3, 4, tzinfo=UTC)
SHOP = ShopConfig(customers=1000, items=150, lines=2.0, repeat=0.5, views=0.0, carts=0.0)


def corner(rows, *, days=40):
    cutoff = microseconds(START) + days * DAY
    return sequences_from_events(orders_of(rows, start=START), shop="corner", cutoff=cutoff)


def test_the_table_gives_every_known_customer_ranks_from_one_and_titles():
    config = ShopConfig(customers=50, items=30)
    sequences = sequences_of(config, 1)

    table = recommend(fit_recommender(sequences, cutoff=sequences.cutoff), sequences, k=4)

    assert table.schema.equals(RECOMMENDATIONS)
    assert table["customer"].to_pylist() == np.repeat(sequences.customers, 4).tolist()
    assert table["rank"].to_pylist() == [1, 2, 3, 4] * len(sequences.customers)
    titles = dict(zip(sequences.items, sequences.titles, strict=True))
    assert table["title"].to_pylist() == [titles[item] for item in table["item"].to_pylist()]
    assert all(table["evidence"].to_pylist())


def test_reasons_say_what_was_bought_how_often_and_beside_what():
    rows = [
        *((f"c{n}", 20, ["tea", "biscuits"]) for n in range(6)),
        *(("ann", day, ["coffee"]) for day in (0, 10, 20, 30)),
        ("ann", 31, ["tea"]),
        *((None, 35, ["flowers"]) for _ in range(40)),
    ]
    sequences = corner(rows)

    table = recommend(fit_recommender(sequences, cutoff=sequences.cutoff), sequences)
    of_ann = table.filter(np.array(table["customer"].to_pylist()) == "ann").to_pylist()

    assert {row["item"]: (row["reason"], row["evidence"]) for row in of_ann} == {
        "coffee": ("bought_often", "bought 4 times, usually every 10 days, last 10 days ago"),
        "tea": ("bought_once", "bought 9 days ago"),
        "biscuits": ("bought_together", "often bought with tea"),
        "flowers": ("popular", "in 40 orders in 28 days"),
    }
    assert of_ann[0]["item"] == "coffee"


def test_what_the_model_wants_most_is_likely_next():
    sequences = corner([("ann", 1, ["tea"]), (None, 2, ["jam"]), (None, 3, ["bread"])])
    certain = np.array([[-0.01, -9.0, -9.0]], dtype=np.float32)      # bread, jam, tea

    fitted = fit_recommender(
        sequences, cutoff=sequences.cutoff, model_scores=lambda customers: certain
    )
    rows = recommend(fitted, sequences).to_pylist()

    assert {row["item"]: row["reason"] for row in rows}["bread"] == "likely_next"


def test_a_favourite_category_is_a_reason():
    rows = [
        *(("ann", day, ["soap", "towel"]) for day in range(10, 30, 5)),
        *((None, 35, [item]) for item in ("sponge", "lamp", "sponge", "lamp", "lamp", "lamp")),
        *((f"c{n}", 20, ["lamp", "chair"]) for n in range(20)),
        ("zoe", 3, ["sponge"]),
    ]
    sequences = corner(rows)
    bath = {"soap", "towel", "sponge"}
    sorted_into = replace(
        sequences,
        categories=np.array(["bath" if i in bath else "home" for i in sequences.items], object),
    )

    table = recommend(fit_recommender(sorted_into, cutoff=sequences.cutoff), sorted_into)
    of_ann = table.filter(np.array(table["customer"].to_pylist()) == "ann").to_pylist()
    sponge = next(row for row in of_ann if row["item"] == "sponge")

    assert (sponge["reason"], sponge["evidence"]) == ("favourite_category", "buys much of bath")


def test_a_customer_with_no_events_is_shown_what_is_popular():
    rows = [("ann", 1, ["tea"]), *((None, 2, ["jam"]) for _ in range(9)), ("new", 30, ["tea"])]
    sequences = corner(rows)
    fitted = fit_recommender(sequences, cutoff=sequences.cutoff - 20 * DAY)
    new = np.searchsorted(sequences.customers, ["new"])

    items, _ = fitted.recommend(new, 2)
    told = recommend(fitted, sequences, customers=new, k=2)

    assert sequences.items[items[0]].tolist() == ["jam", "tea"]
    assert told["reason"].to_pylist() == ["popular", "popular"]


def test_a_shop_with_one_item_recommends_it_to_everybody():
    sequences = corner([("ann", 1, ["tea"]), ("bob", 2, ["tea"])])

    table = recommend(fit_recommender(sequences, cutoff=sequences.cutoff), sequences)

    assert table["item"].to_pylist() == ["tea", "tea"]


def test_a_shop_without_items_has_customers_and_no_rows():
    sequences = corner([("ann", 1, []), ("bob", 2, [])])

    table = recommend(fit_recommender(sequences, cutoff=sequences.cutoff), sequences)

    assert table.num_rows == 0
    assert len(sequences.customers) == 2


def test_the_list_is_short_where_the_rules_leave_little():
    sequences = corner([("ann", 1, ["tea", "jam"]), ("bob", 2, ["bread"])])
    rules = Rules(skip_bought=True)

    table = recommend(fit_recommender(sequences, cutoff=sequences.cutoff, rules=rules), sequences)

    assert table["item"].to_pylist() == ["bread", "jam", "tea"]
    assert table["customer"].to_pylist() == ["ann", "bob", "bob"]


@pytest.fixture(scope="module", params=[0.1, 0.6], ids=["seldom", "often"])
def judgement(request):
    """A shop whose customers repeat seldom or often: the fit, what followed, and the truth."""
    config = replace(SHOP, repeat=request.param)
    events, items = events_of(config, 31), catalogue(config, 31)
    cutoff = end_of(SHOP) - 60 * DAY
    known, future = (
        sequences_from_events(events, items, shop="simulated", cutoff=at)
        for at in (cutoff, end_of(SHOP))
    )
    answer = answers(known, future, 56)
    fitted = fit_recommender(known, cutoff=cutoff, horizon_days=56)
    return fitted, known, answer, truth(config, 31)


def recall_of(items, answer):
    customers = judged(answer)
    return recall(items, answer.relevant[customers], answer.total[customers])


def test_the_mixture_is_never_clearly_behind_a_baseline(judgement):
    """Paired over about 400 customers; two standard errors, so a tie fails one time in 40."""
    fitted, _, answer, _ = judgement
    ours = recall_of(fitted.recommend(judged(answer), 10)[0], answer)

    for build in BASELINES.values():
        theirs = recall_of(build(fitted.shown).recommend(judged(answer), 10)[0], answer)
        ahead = ours - theirs
        assert ahead.mean() > -2 * ahead.std() / np.sqrt(len(ahead))


def test_the_mixture_comes_near_what_the_truth_itself_would_recall(judgement):
    fitted, known, answer, hidden = judgement
    customers = judged(answer)
    place = np.searchsorted(hidden.keys, known.customers[customers])
    column = np.searchsorted(hidden.shelf.items, known.items)
    fresh = hidden.item_preference(place, known.cutoff + 28 * DAY)[:, column]
    counts = fitted.past.counts[customers].toarray()
    habit = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    repeat = hidden.customers.repeat[place][:, None]
    oracle = top_k(((1 - repeat) * fresh + repeat * habit).astype(np.float32), 10)[0]

    best = recall_of(oracle, answer).mean()
    ours = recall_of(fitted.recommend(customers, 10)[0], answer).mean()

    assert 0.9 * best < ours < 1.05 * best


def test_cancelled_and_refunded_orders_do_not_stop_a_fit():
    config = ShopConfig(customers=60, items=20, refunds=0.5)
    sequences = sequences_of(config, 3)
    cancelled = replace(
        sequences, cancelled_at=np.where(sequences.is_order, sequences.time + 1, 2**62)
    )

    table = recommend(fit_recommender(cancelled, cutoff=cancelled.cutoff), cancelled)

    assert set(table["reason"].to_pylist()) == {"popular"}
