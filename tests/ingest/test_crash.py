"""Imports and compactions that are killed: whatever the instant, no row is lost, doubled or torn.

The short forms run in `make test`; the long ones, in `make verify`, have the instants to be nearly
everywhere. `python -m benchmarks.crashes` counts the same and keeps the figures.
"""

import pytest

from tests.ingest.killing import Kill, killed_compactions, killed_imports, tally

SHORT = 4                                  # kills
LONG = 200
LONG_COMPACTIONS = 60


def test_an_import_killed_at_any_instant_is_all_there_or_not_at_all(tmp_path):
    kills = list(killed_imports(tmp_path, SHORT, seed=0))
    assert_each_is_whole(kills)


@pytest.mark.slow
def test_hundreds_of_killed_imports_lose_and_double_nothing(tmp_path):
    kills = list(killed_imports(tmp_path, LONG, seed=1))
    assert_each_is_whole(kills)
    counted = tally(kills)
    assert counted.kills == LONG
    assert counted.phases["writing"] + counted.phases["committing"] > LONG / 2
    assert counted.journalled > LONG / 10
    assert {"reading", "settled"} <= set(counted.phases)


def test_a_compaction_killed_at_any_instant_leaves_every_row_once(tmp_path):
    assert_each_keeps_its_rows(list(killed_compactions(tmp_path, SHORT // 2, seed=0)))


@pytest.mark.slow
def test_many_killed_compactions_lose_and_double_nothing(tmp_path):
    kills = list(killed_compactions(tmp_path, LONG_COMPACTIONS, seed=1))
    assert_each_keeps_its_rows(kills)
    counted = tally(kills)
    assert counted.kills == LONG_COMPACTIONS
    assert {"reading", "writing", "committing", "settled"} <= set(counted.phases)
    assert counted.journalled > 0


def assert_each_is_whole(kills: list[Kill]) -> None:
    """All there where it was promised, nothing where it was not begun; repeating mends the rest."""
    for kill in kills:
        nothing, everything = kill.before.rows, kill.before.rows + kill.sent
        assert kill.after.rows in (nothing, everything)
        if kill.death.journalled or kill.death.phase == "settled":
            assert kill.after.rows == everything
        if kill.death.phase in ("reading", "writing"):
            assert kill.after.rows == nothing
        assert kill.after.settled == kill.after.rows
        assert kill.again.settled == kill.again.rows == everything
    assert_none_is_lost(kills)


def assert_each_keeps_its_rows(kills: list[Kill]) -> None:
    for kill in kills:
        assert kill.before == kill.after == kill.again
    assert_none_is_lost(kills)


def assert_none_is_lost(kills: list[Kill]) -> None:
    counted = tally(kills)
    assert counted.found == counted.expected
    assert (counted.lost, counted.doubled, counted.torn) == (0, 0, 0)
