"""How many connections may be open, and who leaves where there are too many."""

import json
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.serving import crowd
from habitue.serving.crowd import Crowd, places
from habitue.serving.several import answering
from tests.serving.small import ListLog, in_process
from tests.serving.test_bad_input import GOOD, answer


class Guest:
    def __init__(self) -> None:
        self.is_gone = False

    def leave(self) -> None:
        self.is_gone = True


def guests(crowd: Crowd, *addresses: str) -> list[Guest]:
    came = [Guest() for _ in addresses]
    assert all(crowd.let_in(guest, address) for guest, address in zip(came, addresses, strict=True))
    return came


def test_who_waits_the_longest_leaves_first():
    full = Crowd(3, of_one=3)
    first, second, third = guests(full, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    full.work(first)
    full.work(second)
    full.wait(second)
    assert full.let_in(Guest(), "10.0.0.4")
    assert (first.is_gone, second.is_gone, third.is_gone) == (False, False, True)


def test_where_all_are_at_work_nobody_more_is_let_in():
    full = Crowd(2, of_one=2)
    for guest in guests(full, "10.0.0.1", "10.0.0.2"):
        full.work(guest)
    assert not full.let_in(Guest(), "10.0.0.3")
    assert len(full) == 2


@pytest.mark.parametrize(
    ("address", "other"),
    [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1"),
     ("::ffff:10.0.0.1", "::ffff:10.0.0.2")],
)  # fmt: skip
def test_one_machine_cannot_take_all_places(address, other):
    places_of_one = Crowd(8)
    guests(places_of_one, address, address)
    assert not places_of_one.let_in(Guest(), address)
    assert places_of_one.let_in(Guest(), other)


def test_the_addresses_of_one_network_count_as_one():
    shared = Crowd(8)
    guests(shared, "2001:db8::1", "2001:db8::2")
    assert not shared.let_in(Guest(), "2001:db8::3%eth0")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_proxy_on_this_machine_may_take_all_places(address):
    guests(Crowd(8), *[address] * 8)


@given(st.lists(st.tuples(st.sampled_from(["in", "work", "wait", "out"]), st.integers(0, 5))))
def test_nobody_is_counted_who_is_gone(steps):
    held = Crowd(4, of_one=2)
    known: dict[int, Guest] = {}
    for step, who in steps:
        guest = known.setdefault(who, Guest())
        if step == "in" and guest not in held._address:
            known[who] = guest = Guest()
            held.let_in(guest, f"10.0.0.{who % 3}")
        elif step != "in":
            {"work": held.work, "wait": held.wait, "out": held.let_out}[step](guest)
        assert len(held) <= 4
        assert sum(held._of.values()) == len(held)
        assert set(held._waiting) <= set(held._address)
        assert not any(guest.is_gone for guest in held._address)


def test_half_of_the_files_are_for_connections(monkeypatch):
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 4_000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: told.append(limits))
    assert places() == 2_000
    assert told == [(4_000, 4_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**6, 10**6))
    assert places() == crowd.MOST_CONNECTIONS


def test_connections_that_say_nothing_lock_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "places", lambda: 20)
    with in_process(tmp_path / "work", ListLog()) as served:
        silent = [served.connect() for _ in range(60)]
        with served.client() as client:
            assert client.post("/v1/events", json=GOOD).status_code == 202
        assert silent[0].recv(1) == b""
        for one in silent:
            one.close()


def test_where_all_places_are_at_work_another_is_told_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "places", lambda: 3)
    with in_process(tmp_path / "work", ListLog()) as served:
        busy = [served.connect() for _ in range(3)]
        for one in busy:
            one.sendall(served.head(1_000, more="Expect: 100-continue\r\n"))
            assert one.recv(100).startswith(b"HTTP/1.1 100")
        with served.connect() as late:
            status, headers, body = answer(late)
        assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert headers["retry-after"] == "1"
        for one in busy:
            one.close()
