"""What came after an audience: figures against a slow twin, matches and intervals against truth."""

import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from habitue.audiences.aftermath.caveats import caveats
from habitue.audiences.aftermath.figures import aftermath, setting
from habitue.audiences.aftermath.happened import window
from habitue.audiences.aftermath.matching import difference, match, matched_means
from habitue.audiences.members import AsOf, find
from habitue.audiences.saved import Saved
from habitue.errors import BadAudience, BadSetting, NotEnoughHistory
from habitue.events import Money
from habitue.lake.tables import Lake
from tests.audiences.conditions import TICK
from tests.audiences.histories import history, stored
from tests.lake.people import WEB, link, told
from tests.lake.small import day, event, filled


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path)


def then(lake, said="did order_placed", at=3.0, days=2, known_at=None):
    asked = window(lake, "acme", None if at is None else day(at), days)
    as_of = AsOf(asked.cutoff, known_at or asked.cutoff)
    audience = find(lake, "acme", said, as_of)
    return aftermath(audience, setting(lake, "acme", asked, as_of))


@pytest.mark.parametrize("seed", range(4))
def test_what_followed_is_what_the_slow_twin_adds_up(lake, seed):
    past = history(seed)
    stored(lake, past)
    found = then(lake, 'did "Odd Thing" or did cart_added >= 2 times', at=2.0, days=2)
    cutoff, end = day(2), day(4)
    members, everyone = (
        set(find(lake, "acme", said, AsOf(cutoff, cutoff)).members["customer"].to_pylist())
        for said in ('did "Odd Thing" or did cart_added >= 2 times', "did order_placed >= 0 times")
    )
    cancelled = {
        one.order for one in past.events if one.name == "order_cancelled" and one.time <= end
    }
    placed = [
        one for one in past.events
        if one.name == "order_placed" and one.customer and cutoff < one.time <= end
        and one.value is not None and one.value.minor > 0 and one.order not in cancelled
    ]  # fmt: skip
    mine = [one for one in placed if one.customer in members]
    assert found.inside.customers == len(members)
    assert found.inside.orders == len(mine)
    assert found.inside.orderers == len({one.customer for one in mine})
    pounds = sum(one.value.minor for one in mine if one.value.currency == "GBP")
    assert found.inside.revenue == Decimal(pounds) / 100
    back = [
        one.value.minor for one in past.events
        if one.name == "order_refunded" and one.customer in members and one.value
        and one.value.currency == "GBP" and cutoff < one.time <= end
    ]  # fmt: skip
    assert found.inside.refunded == Decimal(sum(map(abs, back))) / 100
    others = [one for one in placed if one.customer in everyone - members]
    assert found.outside.customers == len(everyone - members)
    assert found.outside.orders == len(others)
    assert found.other_currency == sum(one.value.currency != "GBP" for one in mine + others)
    shares = {one.name: one for one in found.measures}
    if others:
        assert shares["orders"].outside == pytest.approx(len(others) / len(everyone - members))


def test_the_days_after_begin_after_the_cutoff_and_end_with_their_last_instant(lake):
    filled(
        lake,
        event("a", 1),
        event("at", 3),
        event("first", 0, time=day(3) + TICK),
        event("last", 5),
        event("late", 0, time=day(5) + TICK),
    )
    assert then(lake).inside.orders == 2


def test_what_stands_at_the_end_is_told_and_refunds_beside_it(lake):
    filled(
        lake,
        event("a", 1),
        event("b", 4),
        event("c", 4.5, value=Money(1001, "GBP")),
        event("gone", 4.8, name="order_cancelled", order="b", value=None, lines=()),
        event("back", 4.9, name="order_refunded", order=None, value=Money(101, "GBP"), lines=()),
        event("d", 6),
    )
    found = then(lake).inside
    assert (found.orders, found.revenue, found.refunded) == (1, Decimal("10.01"), Decimal("1.01"))


def test_who_was_in_it_is_told_by_what_was_known_then(lake):
    told_late = event("late", 1, customer="c2", received=day(4))
    filled(lake, event("a", 1), event("b", 6))
    filled(lake, told_late, event("c", 3.5, customer="c2"))
    found = then(lake)
    assert found.inside.customers == 1
    with pytest.raises(BadSetting, match="hindsight"):
        Saved(lake, "acme", clock=lambda: day(9)).then(
            "did order_placed", cutoff=day(3), days=2, known_at=day(9)
        )


def test_keys_that_turn_out_to_be_one_customer_are_counted_once(lake):
    filled(
        lake, event("a", 1), event("b", 1, customer=WEB, name="cart_added"),
        event("c", 4, customer=WEB), event("d", 6),
    )  # fmt: skip
    told(lake, link("c1", WEB, 3.5))
    found = then(lake)
    assert (found.inside.customers, found.outside.customers, found.joined) == (1, 0, 1)
    assert found.inside.orders == 1
    assert any("1 keys" in one for one in caveats(found))


def test_days_that_are_not_over_are_refused_with_the_last_cutoff_that_works(lake):
    filled(lake, event("a", 1), event("b", 6))
    with pytest.raises(NotEnoughHistory, match="--cutoff 2025-03-07T00:00:00"):
        then(lake, at=5)
    assert then(lake, at=None).cutoff == day(4)
    with pytest.raises(NotEnoughHistory, match="nothing was known"):
        then(lake, at=0)
    with pytest.raises(BadSetting, match="wanted 1 to 730"):
        then(lake, days=0)


def test_a_prediction_that_was_not_recorded_by_then_is_refused(lake):
    filled(lake, event("a", 1), event("b", 6))
    with pytest.raises(BadAudience, match="--recompute"):
        then(lake, "order_30d > 0.5")


def test_messages_are_counted_where_the_shop_has_any_and_said_to_matter(lake):
    filled(lake, event("a", 1), event("b", 6))
    assert then(lake).inside.messages == {}
    sent = {"name": "message_sent", "value": None, "order": None, "lines": ()}
    filled(lake, event("m", 4, **sent), event("n", 4.5, **sent))
    found = then(lake)
    assert found.inside.messages == {"message_sent": 2}
    assert any("Messages were sent" in one for one in caveats(found))


def test_where_the_condition_decides_what_is_compared_nobody_is_matched(lake):
    filled(
        lake,
        *(event(f"a{n}", 1, customer=f"old{n}") for n in range(20)),
        *(event(f"b{n}", 2.99, customer=f"now{n}") for n in range(20)),
        event("end", 9),
    )
    found = then(lake, "did not order_placed in 1 day")
    assert (found.comparison.members, found.comparison.with_match) == (20, 0)
    assert found.measures[0].matched_difference is None
    assert any("None of the 20 members has a match" in one for one in caveats(found))


def test_a_match_is_near_in_everything_and_alike_in_what_is_known():
    compared = np.array([[0.0, 0], [0, 0.05], [0, 2], [0, 0], [2, 0], [2, 2], [0.1, 0]])
    alike = np.array([0, 0, 0, 1, 0, 0, 0])
    is_in = np.array([True, False, False, False, False, False, False])
    found = match(compared, alike, is_in)
    assert found.weights.toarray().tolist() == [[0.5, 0, 0, 0, 0, 0.5]]


def test_nine_in_ten_intervals_hold_the_truth():
    """300 draws, seed 7: of a true 90% fewer than 255 or more than 285 come once in 400."""
    rng = np.random.default_rng(7)
    held, welch = 0, 0
    for _ in range(300):
        # who is in it depends on what is compared, and so does what follows; nothing else does
        level = rng.normal(size=(600, 2))
        is_in = rng.random(600) < 1 / (1 + np.exp(1.5 - level[:, 0]))
        values = 2 * level[:, 0] + level[:, 1] + rng.normal(size=600) * (1 + is_in)
        matched = match(level, np.zeros(600, int), is_in)
        _, _, found = matched_means(values, is_in, matched)
        plain = difference(values, is_in)
        held += found.low <= 0 <= found.high
        welch += plain.low <= 0 <= plain.high
    assert 255 <= held <= 290
    assert welch < 10


def test_few_members_have_no_interval():
    values, is_in = np.arange(40.0), np.arange(40) < 10
    assert difference(values, is_in).low is None


def test_nothing_that_happens_after_the_cutoff_changes_who_is_in_it_or_matched(lake):
    many = [event(f"a{n}", 0.1 * n % 3, customer=f"c{n % 40}") for n in range(90)]
    filled(lake, *many, event("end", 9))
    before = then(lake, "did order_placed >= 3 times")
    filled(lake, *(event(f"z{n}", 3.1, customer=f"c{n}") for n in range(40)))
    after = then(lake, "did order_placed >= 3 times")
    assert before.comparison == after.comparison
    assert after.inside.orders + after.outside.orders == 40
    assert after.until - after.cutoff == timedelta(days=2)


def test_who_asks_for_no_comparison_waits_for_no_trees():
    told = "import sys, habitue.audiences.saved; print('scipy' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
