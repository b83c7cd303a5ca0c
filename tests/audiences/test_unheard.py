"""Why a condition may have found nobody: what nothing was told of, with the nearest name."""

import pytest

from habitue.audiences.members import AsOf
from habitue.audiences.saved import Saved
from habitue.lake.tables import Lake
from tests.lake.people import change, consent, rows_of
from tests.lake.small import day, event, filled


@pytest.fixture
def shelf(tmp_path):
    cart = event("b", 1, name="cart_added", customer="c2", properties=b'{"colour": "red"}')
    lake = filled(Lake(tmp_path), event("a", 1), cart)
    lake.append(rows_of([change("c1", 1, '{"city": "Paris", "tier": {"level": 2}}'),
                         consent("c1", 1, "subscribed", channel="email")]))  # fmt: skip
    return Saved(lake, "acme", clock=lambda: day(2))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('profile.city = "Rome"', []),
        ('profile.cty = "Paris"', ["nobody has profile.cty; did you mean city?"]),
        ("profile.tier.lvl > 1", ["nobody has profile.tier.lvl; did you mean tier?"]),
        ('not profile.zzz = "x" and profile.qqq is set',
         ["nobody has profile.zzz", "nobody has profile.qqq"]),
        ('did cart_added where color = "red"',
         ["no cart_added was told with color; did you mean colour?"]),
        ('did cart_added where colour = "blue"', []),
        ('did cart_added then order_placed where categroy = "x"',
         ["no order_placed was told with categroy; did you mean category?"]),
        ("sum of cart_added size > 2", ["no cart_added was told with size"]),
        ('consent.email = "unsubscribed"', []),
        ('consent.sms = "subscribed"', ["nobody has said anything of sms"]),
        ("rfm = \"champions\" and did order_placed in 1 hour", []),
        ('in audience "far"', ["nobody has profile.country"]),
    ],
)  # fmt: skip
def test_what_nothing_was_told_of_is_named(shelf, said, told):
    shelf.save("far", 'profile.country = "FR"')
    assert shelf.unheard(said, AsOf(day(2))) == told


def test_what_was_told_later_was_not_told_by_then(shelf):
    asked = 'profile.city = "Paris"'
    assert shelf.unheard(asked, AsOf(day(0.5))) == ["nobody has profile.city"]


def test_only_a_few_are_named(shelf):
    said = " or ".join(f"profile.p{number} is set" for number in range(9))
    assert len(shelf.unheard(said, AsOf(day(2)))) == 3
