"""Fixed windows of a second and a minute."""

import pytest

from habitue.directory import Limit
from habitue.serving.auth import Windows
from habitue.serving.replies import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 120.0

    def __call__(self) -> float:
        return self.now


def test_a_window_lets_in_what_it_may_and_tells_what_is_left():
    clock = Clock()
    windows = Windows(clock)
    limit = Limit(per_second=2, per_minute=5)
    told = windows.take("key", limit)
    assert told == {
        "RateLimit-Limit": "2, 2;w=1, 5;w=60", "RateLimit-Remaining": "1", "RateLimit-Reset": "1",
    }  # fmt: skip
    windows.take("key", limit)
    with pytest.raises(Refused) as refused:
        windows.take("key", limit)
    assert (refused.value.status, refused.value.retry_seconds) == (429, 1)
    clock.now += 1
    windows.take("key", limit)


def test_a_minute_that_is_used_up_says_when_it_is_over():
    clock = Clock()
    windows = Windows(clock)
    for _ in range(3):
        windows.take("key", Limit(per_minute=3))
        clock.now += 10
    with pytest.raises(Refused) as refused:
        windows.take("key", Limit(per_minute=3))
    assert clock.now + refused.value.retry_seconds >= 180
    clock.now += refused.value.retry_seconds
    windows.take("key", Limit(per_minute=3))


def test_a_refused_request_is_not_counted():
    clock = Clock()
    windows = Windows(clock)
    limit = Limit(per_second=1, per_minute=2)
    windows.take("key", limit)
    for _ in range(10):
        with pytest.raises(Refused):
            windows.take("key", limit)
    clock.now += 1
    assert windows.take("key", limit)["RateLimit-Remaining"] == "0"


def test_one_key_takes_nothing_from_another():
    windows = Windows(Clock())
    windows.take("a", Limit(per_second=1))
    windows.take("b", Limit(per_second=1))


def test_without_a_limit_nothing_is_told():
    assert Windows(Clock()).take("key", Limit()) == {}
