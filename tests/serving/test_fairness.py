"""Fair turns: no shop waits for another's line."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.serving.fairness import FairQueue, FairThread, Full


def queue(most_bytes: int = 1_000_000, shop_bytes: int = 500_000) -> FairQueue:
    return FairQueue(most_bytes=most_bytes, shop_bytes=shop_bytes)


def test_a_tiny_shop_is_in_the_next_batch_however_long_the_line_of_a_huge_one_is():
    waiting = queue()
    for number in range(100):
        waiting.put("huge", 1_000, ("huge", number))
    waiting.put("tiny", 10, ("tiny", 0))
    batch = waiting.take(3_000)
    assert ("tiny", 0) in batch
    assert len(batch) == 3


def test_shops_of_equal_need_get_equal_shares_of_every_batch():
    waiting = queue()
    for shop in "abc":
        for _ in range(40):
            waiting.put(shop, 100, shop)
    for _ in range(4):
        batch = waiting.take(3_000)
        assert [batch.count(shop) for shop in "abc"] == [10, 10, 10]


def test_something_larger_than_a_batch_gets_a_batch_of_its_own():
    waiting = queue()
    waiting.put("a", 5_000, 1)
    waiting.put("a", 10, 2)
    assert waiting.take(1_000) == [1]
    assert waiting.take(1_000) == [2]


def test_a_shop_that_has_its_share_waiting_is_refused_and_the_others_are_not():
    waiting = queue(most_bytes=1_000, shop_bytes=400)
    waiting.put("huge", 300, 1)
    with pytest.raises(Full) as refused:
        waiting.put("huge", 200, 2)
    assert refused.value.shop
    waiting.put("tiny", 200, 3)
    for shop in "abcde":
        waiting.put(shop, 100, 4)
    with pytest.raises(Full) as refused:
        waiting.put("f", 100, 5)
    assert not refused.value.shop


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), max_size=60),
    st.integers(1, 200),
)
def test_whatever_waited_is_taken_once_and_in_its_shops_order(sent, most_bytes):
    waiting = queue()
    for number, (shop, size) in enumerate(sent):
        waiting.put(shop, size, (shop, number))
    taken = []
    while batch := waiting.take(most_bytes):
        taken += batch
    assert sorted(number for _, number in taken) == list(range(len(sent)))
    for shop in "abc":
        numbers = [number for of, number in taken if of == shop]
        assert numbers == sorted(numbers)
    assert waiting.bytes == 0


def test_a_thread_serves_all_that_waits_before_it_ends():
    served, ready = [], threading.Event()

    def serve(batch):
        ready.wait()
        served.extend(batch)

    thread = FairThread("test", serve, queue(), batch_bytes=10)
    for number in range(50):
        thread.put("a", 5, number)
    ready.set()
    thread.close()
    assert served == list(range(50))
