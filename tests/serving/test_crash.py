"""A service that is killed again and again, wherever it may be, loses, doubles and invents nothing.

Clients send numbered inputs until they are acknowledged, and again; customers are erased; server
and worker are killed at random and at every fault point. The counts are logged:
`pytest --log-cli-level=INFO -m slow tests/serving/test_crash.py`.
"""

import logging

import pytest

from tests.serving.crashing.counting import Tally, tally
from tests.serving.crashing.killing import OF_THE_SERVER, OF_THE_WORKER, Crashing

log = logging.getLogger(__name__)
SHORT, LONG = 6, 250                       # kills


def counted(folder, kills: int, seed: int) -> Tally:
    crashing = Crashing(folder, seed)
    crashing.run(kills)
    found = tally(crashing)
    log.info("%s", found)
    return found


def assert_nothing_is_amiss(found: Tally) -> None:
    assert (found.lost, found.doubled, found.invented) == (0, 0, 0)
    assert (found.unsettled, found.appended_beyond, found.rejected) == (0, 0, 0)
    assert (found.resurrected, found.profiles_apart) == (0, 0)
    assert found.acknowledged <= found.in_lake <= found.sent


def test_what_a_killed_service_acknowledged_is_in_the_lake_once(tmp_path):
    found = counted(tmp_path, SHORT, seed=0)
    assert_nothing_is_amiss(found)
    assert sum(found.kills.values()) >= SHORT
    assert found.acknowledged > 100
    assert found.erased


@pytest.mark.slow
def test_hundreds_of_kills_at_every_place_lose_double_and_invent_nothing(tmp_path):
    found = counted(tmp_path, LONG, seed=1)
    assert_nothing_is_amiss(found)
    assert sum(found.kills.values()) >= LONG
    assert set(found.kills) == {*OF_THE_SERVER, *OF_THE_WORKER}
    assert found.unacknowledged_in_lake        # some died between the disk and the answer
    assert found.retries
    assert found.repeats
    assert found.files_merged
    assert found.rows_trimmed
