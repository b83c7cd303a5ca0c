"""Pages of a shop's events: the same whichever way they are read, beside another shop's."""

from pathlib import Path

import pytest

from habitue.lake.live import paging
from habitue.lake.profiles import Profiles
from tests.lake.small import event
from tests.lake.test_profiles import apply

NAMES = ("item_viewed", "order_placed", "rare")


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    opened = Profiles(tmp_path / "profiles.sqlite")
    yield opened
    opened.close()


def told(number: int) -> dict[str, object]:
    """Three names, seven customers, several at one instant; a third of it another shop's."""
    name = "rare" if number == 11 else NAMES[number % 2]
    shop = "acme" if number % 3 else "other"
    return {"shop": shop, "customer": f"c{number % 7}", "name": name, "value": None, "lines": ()}


def pages(profiles: Profiles, size: int, *, descending: bool, **asked: object) -> list:
    found, after = [], None
    while True:
        window = paging.Window(by="time", descending=descending, after=after, most=size)
        page = profiles.look(
            lambda held, window=window: paging.events(held, "acme", window, **asked)
        )
        found += page
        if len(page) < size:
            return found
        after = (page[-1].time, page[-1].key, page[-1].digest.hex())


@pytest.mark.parametrize("few", [0, paging.FEW], ids=["many", "few"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_hold_every_event_of_the_shop_once_in_order(profiles, monkeypatch, few, descending):
    apply(profiles, *[event(f"e{number}", number // 4, **told(number)) for number in range(60)])
    monkeypatch.setattr(paging, "FEW", few)
    mine = [number for number in range(60) if told(number)["shop"] == "acme"]
    for name in (None, *NAMES):
        wanted = [number for number in mine if name in (None, told(number)["name"])]
        found = pages(profiles, 7, descending=descending, name=name)
        times = [one.time for one in found]
        assert len({one.digest for one in found}) == len(found) == len(wanted)
        assert times == sorted(times, reverse=descending)
        assert {one.name for one in found} <= ({name} if name else set(NAMES))
    (somebody,) = profiles.find("acme", "c2")
    shown = pages(profiles, 3, descending=descending, profile=somebody.id)
    assert len(shown) == sum(told(number)["customer"] == "c2" for number in mine)
    assert {one.profile for one in shown} == {somebody.id}
    for one in shown:
        assert profiles.look(lambda held, one=one: paging.event(held, "acme", one.digest)) == one
        assert profiles.look(lambda held, one=one: paging.event(held, "other", one.digest)) is None
