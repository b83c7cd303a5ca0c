"""Customers scored as they go on are scored as they would be from the lake, and see no future."""


from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from habitue.lake import query
from habitue.lake.live import fresh
from habitue.lake.profiles import Profiles
from habitue.predictions.scores.answers import Scores
from habitue.predictions.scores.kept import rows_of
from habitue.publishing import Source
from habitue.scoring.basis import HORIZONS_DAYS, Basis, open_basis
from habitue.sequences.build import DAY, instant, sequences_among
from habitue.sequences.flatten import COLUMNS
from tests.scoring.small import CUTOFF, SHOP, between, receive, source_of
from tests.shops import altered, end_of

END = end_of(SHOP)
LATER = (CUTOFF + 1, CUTOFF + 3 * DAY, CUTOFF + 17 * DAY, END)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def basis(source: Source) -> Iterator[Basis]:
    opened = open_basis(source, instant(CUTOFF))
    receive(source, between(CUTOFF, END))          # which the basis never sees
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def live(source: Source, basis: Basis, tmp_path_factory: pytest.TempPathFactory) -> Profiles:
    profiles = Profiles(tmp_path_factory.mktemp("live") / "profiles.sqlite")
    profiles.catch_up(source.lake)
    yield profiles
    profiles.close()


def told_live(live: Profiles) -> pa.Table:
    with live.writing() as connection:
        customers = [one for (one,) in connection.execute("SELECT id FROM customers")]
        return fresh.events_of(connection, SHOP.shop, customers)


def scored(basis: Basis, events: pa.Table, at: int) -> Scores:
    return basis.score(sequences_among(events, basis.held.sequences, basis.rules, cutoff=at))


@pytest.mark.parametrize("at", LATER)
def test_the_live_state_scores_as_the_lake_does(
    source: Source, basis: Basis, live: Profiles, at: int
) -> None:
    told = query.read(
        source.lake, f"SELECT {COLUMNS} FROM events", shop=SHOP.shop, cutoff=instant(at)
    )
    from_lake, from_live = scored(basis, told, at), scored(basis, told_live(live), at)
    assert from_live.names.tolist() == from_lake.names.tolist()
    assert len(from_live.names) > 20
    assert np.array_equal(from_live.anchor, from_lake.anchor)
    assert rows_of(from_live) == rows_of(from_lake)


def test_at_its_own_cutoff_a_basis_says_what_it_was_scored_with(
    basis: Basis, live: Profiles
) -> None:
    again = scored(basis, told_live(live), CUTOFF)
    assert again.names.tolist() == basis.scores.names.tolist()
    for days in HORIZONS_DAYS:
        for question in ("order", "orders", "revenue"):
            one, other = getattr(again, question)(days), getattr(basis.scores, question)(days)
            assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-5)


def test_what_comes_after_an_instant_changes_no_answer_of_it(source: Source, basis: Basis) -> None:
    at = CUTOFF + 17 * DAY
    told = between(0, END)
    other = altered(told, at)
    assert not told.equals(other)
    one, again = scored(basis, told, at), scored(basis, other, at)
    assert rows_of(one) == rows_of(again)
    assert one.names.tolist() == again.names.tolist()


def test_a_customer_is_scored_alike_alone_and_among_others(basis: Basis, live: Profiles) -> None:
    everyone = {one.customer: one for one in basis.again(told_live(live), END)}
    with live.writing() as connection:
        ids = connection.execute("SELECT id, key FROM keys ORDER BY id LIMIT 5").fetchall()
        for id, key in ids:
            events = fresh.events_of(connection, SHOP.shop, [id])
            for one in basis.again(events, END):
                assert one.customer == key
                assert one.anchor == everyone[key].anchor
                curve, among = (np.frombuffer(x.curve, "<f4") for x in (one, everyone[key]))
                assert curve == pytest.approx(among, rel=1e-4, abs=1e-4)
                assert len(one.listed) > 100


def test_an_item_the_basis_never_had_is_left_out_and_its_value_counts(basis: Basis) -> None:
    told = between(0, END)
    lines = told["lines"].to_pylist()
    place = next(row for row in range(len(lines) - 1, 0, -1) if lines[row])
    lines[place] = [{**line, "item": "never seen"} for line in lines[place]]
    column = told.column_names.index("lines")
    other = told.set_column(column, "lines", pa.array(lines, told.schema.field("lines").type))
    shop = basis.held.sequences
    one, again = (sequences_among(x, shop, basis.rules, cutoff=END) for x in (told, other))
    assert again.items is shop.items
    assert np.array_equal(one.value, again.value)
    assert len(again.line_item) == len(one.line_item) - len(lines[place])
    assert again.line_offsets[-1] == len(again.line_item)
