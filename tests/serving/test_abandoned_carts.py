"""Abandoned carts across kills: nobody is lost, nobody is told of twice, the instants are exact."""

import pytest

from tests.serving.crashing.carts import Carts


@pytest.mark.slow
def test_every_abandoned_cart_is_told_once_at_its_instant_also_across_kills(tmp_path):
    judged = Carts(tmp_path, seed=1).run(4)
    assert (judged.kills["server"], judged.kills["worker"]) == (2, 2)
    assert judged.expected == judged.found > 20
    assert (judged.lost, judged.doubled) == (0, 0)
    assert (judged.delivered_lost, judged.delivered_doubled) == (0, 0)
    assert judged.in_order
