"""The long run of `benchmarks/audiences_equality.py`, of small shops; and that it asks all."""

from typing import get_args

import pytest

from habitue.audiences.language.nodes import Condition, Operand
from habitue.audiences.language.windows import Window
from tests.audiences.equality import Running, kinds_of


def test_a_long_history_is_the_same_live_and_in_batch(tmp_path):
    tally = Running(6, tmp_path, customers=12, events=40).run()
    assert tally.differences == []
    assert tally.now == tally.folded > 1_000
    assert tally.inside > 0


@pytest.mark.slow
def test_the_long_run_asks_every_kind_of_condition():
    wanted = {one.__name__ for kind in (Condition, Operand, Window) for one in get_args(kind)}
    assert wanted <= set(kinds_of(range(1, 9)))
