from dataclasses import fields, replace

import numpy as np
import pytest

from habitue.sequences import tokens
from habitue.sequences.build import DAY, Sequences
from habitue.sequences.snapshots import take_snapshots
from habitue.sequences.tokens import (
    BIN_EDGES,
    EVENT_COLUMNS,
    QUERY_COLUMNS,
    Queries,
    event_columns,
    line_columns,
    local_clock,
    make_queries,
)
from habitue.simulation import ShopConfig
from tests.sequences.small import (
    CONFIG,
    another_future,
    past_of,
    questions,
    sequences_at,
    tangled,
)
from tests.shops import end_of, events_of, sequences_of


def ask(sequences: Sequences, names: list[str], time: int) -> Queries:
    """Queries of the named customers at one instant."""
    rows = np.searchsorted(sequences.customers.astype(str), names)
    snapshots = take_snapshots(sequences)
    return make_queries(sequences, snapshots, rows, np.full(len(rows), time))


def names_by(sequences: Sequences, time: int) -> list[str]:
    """Customers with an event by an instant."""
    first = sequences.time[sequences.offsets[:-1]]
    return sequences.customers[first <= time].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_query_knows_nothing_of_what_follows_it(seed: int) -> None:
    events = events_of(CONFIG, seed)
    time = end_of(CONFIG) - int(np.random.default_rng(seed).integers(1, 250 * DAY))
    whole = sequences_at(events, end_of(CONFIG))
    names = names_by(whole, time)
    assert names
    asked = ask(whole, names, time)
    for other in (past_of(events, time), another_future(events, time)):
        again = ask(sequences_at(other, end_of(CONFIG)), names, time)
        for field in fields(Queries):
            if field.name != "customer":
                assert np.array_equal(getattr(asked, field.name), getattr(again, field.name)), (
                    field.name
                )


@pytest.mark.parametrize("seed", range(4))
def test_an_event_s_token_knows_nothing_of_what_follows_it(seed: int) -> None:
    events = events_of(CONFIG, seed)
    time = end_of(CONFIG) - int(np.random.default_rng(seed).integers(1, 250 * DAY))
    whole = tokens_by(sequences_at(events, end_of(CONFIG)), time)
    assert len(whole[0])
    for other in (past_of(events, time), another_future(events, time)):
        there = tokens_by(sequences_at(other, end_of(CONFIG)), time)
        for mine, theirs in zip(whole, there, strict=True):
            assert np.array_equal(mine, theirs)


def tokens_by(sequences: Sequences, time: int) -> tuple[np.ndarray, ...]:
    """Kinds, columns and lines of all events up to an instant."""
    snapshots = take_snapshots(sequences)
    past = sequences.time <= time
    lines = np.repeat(past, np.diff(sequences.line_offsets))
    return (
        np.array(sequences.kinds)[sequences.kind[past]],
        event_columns(sequences, snapshots)[past],
        sequences.items[sequences.line_item[lines]].astype(str),
        line_columns(sequences, snapshots)[lines],
    )


@pytest.mark.parametrize("seed", range(3))
def test_columns_are_finite_and_of_about_unit_scale(seed: int) -> None:
    sequences = tangled(seed)
    asked = questions(sequences, seed)
    snapshots = take_snapshots(sequences)
    queries = make_queries(sequences, snapshots, asked.customer, asked.time)
    assert queries.columns.shape == (len(asked.time), len(QUERY_COLUMNS))
    for columns in (queries.columns, event_columns(sequences, snapshots)):
        assert np.all(np.isfinite(columns))
        assert np.abs(columns).max() <= 8
    assert np.all(np.isfinite(queries.log_prior_rate))
    assert np.all(np.diff(queries.expected, axis=1) >= 0)
    assert np.all(queries.expected[:, 0] == 0)
    assert np.all(queries.mean_value > 0)


def test_the_prior_rate_gathers_to_the_purchase_process_s_probability() -> None:
    sequences = tangled(2)
    time = int(sequences.cutoff)
    queries = ask(sequences, sequences.customers.tolist(), time)
    width = np.diff(BIN_EDGES, prepend=0.0)
    gathered = np.cumsum(np.exp(queries.log_prior_rate.astype(np.float64)) * width, axis=1)
    # of a process, P(order) is at most the expected orders
    assert np.all(-np.expm1(-gathered) <= queries.expected[:, 1:] + 1e-5)
    assert np.all(np.diff(-np.expm1(-gathered), axis=1) > 0)


def test_gaps_and_ages_start_anew_with_every_customer() -> None:
    sequences = tangled(3)
    columns = event_columns(sequences, take_snapshots(sequences))
    gap = np.expm1(3 * columns[:, EVENT_COLUMNS.index("log_gap")].astype(float))
    age = np.expm1(4 * columns[:, EVENT_COLUMNS.index("log_age")].astype(float))
    for begin, end in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        time = sequences.time[begin:end] / DAY
        assert gap[begin:end] == pytest.approx(np.diff(time, prepend=time[0]), abs=1e-3)
        assert age[begin:end] == pytest.approx(time - time[0], rel=1e-4, abs=1e-3)


def test_hours_are_those_of_the_shop_s_clock() -> None:
    noon_in_july = np.array([(19_905 * 24 + 12) * 3_600_000_000])
    utc, london, tokyo = (
        np.arctan2(*local_clock(noon_in_july, zone)[:2])[0] / (2 * np.pi) * 24 % 24
        for zone in ("UTC", "Europe/London", "Asia/Tokyo")
    )
    assert (utc, london, tokyo) == pytest.approx((12, 13, 21))


def test_what_was_taken_back_is_told_apart_from_what_was_paid() -> None:
    sequences = tangled(4)
    columns = event_columns(sequences, take_snapshots(sequences))
    back = columns[:, EVENT_COLUMNS.index("taken_back")]
    assert set(back.tolist()) == {0.0, 1.0}
    assert np.array_equal(back == 1, sequences.value < 0)


def test_values_are_told_in_the_shop_s_own_terms() -> None:
    sequences = tangled(5)
    dear = replace(
        sequences, value=sequences.value * 100, line_amount=sequences.line_amount * 100
    )
    late = sequences.time > sequences.time.min() + DAY
    mine, theirs = (event_columns(s, take_snapshots(s))[late] for s in (sequences, dear))
    assert mine == pytest.approx(theirs, rel=1e-5)


def test_no_questions_have_no_answers() -> None:
    sequences = tangled(6)
    nobody = np.empty(0, np.int64)
    queries = make_queries(sequences, take_snapshots(sequences), nobody, nobody)
    assert queries.columns.shape == (0, len(QUERY_COLUMNS))
    assert queries.log_prior_rate.shape == (0, len(BIN_EDGES))


def test_queries_made_in_blocks_are_those_made_at_once(monkeypatch):
    sequences = sequences_of(ShopConfig(customers=30, items=10), seed=4)
    snapshots = take_snapshots(sequences)
    rng = np.random.default_rng(4)
    customer = rng.integers(0, len(sequences.customers), 50)
    time = rng.integers(sequences.time.min(), sequences.cutoff, 50)
    whole = tokens.make_queries(sequences, snapshots, customer, time)
    monkeypatch.setattr(tokens, "QUERY_BLOCK", 7)
    blocks = tokens.make_queries(sequences, snapshots, customer, time)
    for field in fields(whole):
        assert np.array_equal(getattr(whole, field.name), getattr(blocks, field.name)), field.name
