"""Past cutoffs: closed windows, labels that counting by hand finds, and no look ahead."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.predictions.probes.happened import Happened
from habitue.predictions.probes.language import Target
from habitue.predictions.probes.lessons import (
    INSTANTS,
    Past,
    Windows,
    days_needed,
    windows_before,
)
from habitue.sequences.build import DAY, NEVER, Sequences, upto
from habitue.sequences.ragged import offsets_of
from habitue.sequences.snapshots import take_snapshots
from habitue.simulation import ShopConfig
from tests.shops import end_of, sequences_of

SHOP = ShopConfig(shop="acme", customers=80, items=15, days=300, arrival_days=200)
END = end_of(SHOP)
CORNER = sequences_of(replace(SHOP, customers=1, days=30, arrival_days=1), 0)


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return sequences_of(SHOP, 2)


def views_of(sequences: Sequences) -> Happened:
    """Every item viewed, as a target would find them."""
    kept = sequences.kind == sequences.kinds.index("item_viewed")
    sizes = np.bincount(sequences.customer_of_event[kept], minlength=len(sequences.customers))
    return Happened(
        offsets=offsets_of(sizes),
        time=sequences.time[kept],
        gone=np.full(kept.sum(), NEVER),
        units=np.zeros(kept.sum(), np.int64),
    )


def past_of(sequences: Sequences, target: Target) -> Past:
    return Past(target, sequences, take_snapshots(sequences), views_of(sequences))


def nothing(customer: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.zeros((len(customer), 0), np.float32)


@given(days=st.floats(0.5, 200.0), span=st.integers(4, 900))
def test_windows_close_before_the_cutoff_and_one_after_the_other(days, span):
    cutoff, begun = 20_000 * DAY, (20_000 - span) * DAY
    found = windows_before(replace(CORNER, cutoff=cutoff, time=np.array([begun])), days)
    if span < days_needed(days):
        assert found is None
        return
    assert isinstance(found, Windows)
    gaps = np.diff(found.instants)
    assert found.instants[-1] == found.judged == cutoff - found.horizon
    assert found.chosen == found.judged - found.horizon
    assert {found.chosen, found.chosen - found.horizon} <= set(found.instants)
    assert len(found.instants) <= INSTANTS
    assert found.instants[0] > begun
    assert np.all(gaps >= min(7.0, days) * DAY - len(gaps))


def test_labels_are_what_looking_at_every_event_finds(sequences):
    target = Target("item_viewed", "count", 20)
    past = past_of(sequences, target)
    windows = windows_before(sequences, 20)
    assert windows is not None
    customer, at = past.draw(windows, seed=0)
    lessons = past.labelled(past.lessons(customer, at, nothing), END)
    kind = sequences.kinds.index("item_viewed")
    for row in range(0, len(customer), 7):
        mine = slice(*sequences.offsets[[customer[row], customer[row] + 1]])
        views = [
            time
            for time, one in zip(sequences.time[mine], sequences.kind[mine], strict=True)
            if one == kind
        ]
        ahead = [time for time in views if at[row] < time <= at[row] + 20 * DAY]
        before = [time for time in views if at[row] - 20 * DAY < time <= at[row]]
        assert lessons.label[row] == len(ahead)
        assert lessons.recent[row] == len(before)
        assert sequences.time[mine.start] <= at[row]
    assert lessons.label.sum() > 100


def test_a_window_that_has_not_closed_has_no_label(sequences):
    past = past_of(sequences, Target("item_viewed", "count", 20))
    everyone = past.known(END)
    late = past.lessons(everyone, np.full(len(everyone), END - 19 * DAY), nothing)
    assert past.labelled(late, END).label.sum() == 0
    assert past.labelled(late, END + DAY).label.sum() > 0


def test_what_was_known_depends_on_nothing_later(sequences):
    """The second leak test: aggregates at a past instant, before and after its future is cut."""
    target = Target("item_viewed", "count", 20)
    rng = np.random.default_rng(0)
    for instant in rng.integers(END - 200 * DAY, END - 30 * DAY, 3):
        then = upto(sequences, int(instant))
        late, early = past_of(sequences, target), past_of(then, target)
        here, there = late.known(int(instant)), early.known(int(instant))
        assert sequences.customers[here].tolist() == then.customers[there].tolist()
        told = [
            past.lessons(known, np.full(len(known), instant), nothing)
            for past, known in ((late, here), (early, there))
        ]
        np.testing.assert_array_equal(told[0].aggregates, told[1].aggregates)
        np.testing.assert_array_equal(told[0].recent, told[1].recent)


def test_sums_of_what_is_taken_back_are_learnt_as_amounts(sequences):
    views = views_of(sequences)
    told = replace(views, units=np.full(len(views.time), -20_000))
    make = partial(Past, sequences=sequences, snapshots=take_snapshots(sequences), happened=told)
    past = make(Target("item_viewed", "sum", 20))
    counted = make(Target("item_viewed", "count", 20))
    everyone = past.known(END - 60 * DAY)
    at = np.full(len(everyone), END - 60 * DAY)
    sums = past.labelled(past.lessons(everyone, at, nothing), END)
    counts = counted.labelled(counted.lessons(everyone, at, nothing), END)
    assert (past.sign, counted.sign) == (-1, 1)
    assert counts.label.sum() > 0
    np.testing.assert_array_equal(sums.label, 2 * counts.label)
