"""A bell wakes who waits for it, in whichever process, and keeps nobody waiting who rings it."""

import select
import threading
from contextlib import closing

from habitue.lake.live.bell import Bell, ring

LONG = 60.0                                # seconds that nobody waits, if it works


def is_rung(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0.0)[0])


def test_who_waits_goes_on_when_it_is_rung_elsewhere(tmp_path):
    with closing(Bell(tmp_path / "bell")) as mine, closing(Bell(tmp_path / "bell")) as other:
        waits = threading.Thread(target=mine.wait, args=(10 * LONG,))
        waits.start()
        other.ring()
        waits.join(LONG)
        assert not waits.is_alive()


def test_a_ring_that_came_before_the_wait_counts_and_counts_once(tmp_path):
    with closing(Bell(tmp_path / "bell")) as bell:
        for _ in range(200_000):           # more than a pipe holds
            bell.ring()
        assert is_rung(bell)
        bell.wait(LONG)
        assert not is_rung(bell)
        bell.silence()                     # waits for nothing


def test_a_bell_that_nobody_rang_ends_in_time(tmp_path):
    with closing(Bell(tmp_path / "bell")) as bell:
        bell.wait(0.01)


def test_a_bell_is_rung_by_its_name_and_where_there_is_none_nothing_happens(tmp_path):
    ring(tmp_path / "bell")
    assert not (tmp_path / "bell").exists()
    with closing(Bell(tmp_path / "bell")) as bell:
        ring(tmp_path / "bell")
        assert is_rung(bell)
    ring(tmp_path / "bell")                # nobody has it open
