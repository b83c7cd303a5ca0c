"""Of several who make one profile at once, one makes it, in whichever process they ask."""

import threading
import time
from contextlib import closing

import pytest

from habitue.serving.doors.people import People
from habitue.serving.several.claiming import Claim, OwnClaims, SharedClaims
from habitue.workspace import open_workspace

KEYS = ("c_42", "email:6f1e", "anonymous:a1")


@pytest.fixture(params=["own", "shared"])
def claims(request, tmp_path):
    with closing(OwnClaims() if request.param == "own" else SharedClaims(tmp_path / "c")) as one:
        yield one


@pytest.fixture
def shop(tmp_path):
    return open_workspace(tmp_path / "work").directory.shop("acme", create=True)


def test_who_comes_second_is_told_whose_it_is(claims, shop, tmp_path):
    people = People(tmp_path / "p", claims)
    assert people.claim(shop, KEYS) is None
    shown = people.claim(shop, ("email:6f1e",))
    assert shown == people.recent(shop, ["c_42"]) == people.made(shop, KEYS)
    assert people.claim(shop, ("c_43", "anonymous:a1")) is None      # anonymous ids are attached


def test_what_was_given_up_can_be_made(claims, shop, tmp_path):
    people = People(tmp_path / "p", claims)
    people.claim(shop, KEYS)
    people.give_up(shop, KEYS)
    assert people.recent(shop, [*KEYS]) is None
    assert people.claim(shop, KEYS) is None


def test_a_claim_of_long_ago_or_of_another_shop_holds_nobody_up(claims, shop, tmp_path):
    people = People(tmp_path / "p", claims)
    for at in (time.time() - 3_600, time.time() + 3_600):            # of a clock that was wrong
        claims.put("acme\0c_42", Claim("X" * 26, at))
        assert people.recent(shop, ["c_42"]) is None
    claims.put("rival\0c_42", Claim("X" * 26, time.time()))
    assert people.recent(shop, ["c_42"]) is None


def test_processes_that_share_a_table_know_of_each_other(shop, tmp_path):
    """As two processes: each has a table of its own over the same file."""
    table = tmp_path / "c"
    with closing(SharedClaims(table)) as mine, closing(SharedClaims(table)) as other:
        first, second = People(tmp_path / "p", mine), People(tmp_path / "p", other)
        made: list[str] = []

        def make(people: People) -> None:
            for number in range(500):
                if people.claim(shop, (f"c_{number}", f"email:{number}")) is None:
                    made.append(f"c_{number}")

        threads = [threading.Thread(target=make, args=(one,)) for one in (first, second)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sorted(made) == sorted({f"c_{number}" for number in range(500)})


def test_a_table_that_is_full_forgets_the_oldest(tmp_path):
    with closing(SharedClaims(tmp_path / "c")) as claims:
        for number in range(200_000):
            claims.put(f"k{number}", Claim("X" * 26, float(number)))
        assert claims.get("k199999") == Claim("X" * 26, 199_999.0)
        assert claims.get("k0") is None
