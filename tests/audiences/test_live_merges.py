"""Membership while keys are joined and parted: live now is what SQL finds now."""

import random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from habitue.audiences.members import AsOf, find
from habitue.lake.live.told import instant
from habitue.lake.tables import Lake
from tests.audiences.living import Living
from tests.lake.people import ADA, APP, BOB, WEB, A, B, change, consent, link, told
from tests.lake.small import day, event, filled

KEYS = (A, B, ADA, BOB, WEB, APP)
SAID = {
    "buyers": "did order_placed",
    "twice": "did order_placed >= 2 times in 2 days",
    "never": "did not order_placed in 1 day",
    "worth": "sum of order_placed value >= 7.5",
    "reds": 'profile.color = "red"',
    "mail": 'consent.email = "subscribed" and not did cart_added in 1 day',
    "left": "did cart_added in 2 days then not order_placed within 6 hours",
}
CART = {"name": "cart_added", "order": None, "value": None, "lines": ()}


def news(draw: random.Random, number: int, at: float):
    """One thing that was told of some key."""
    key = draw.choice(KEYS)
    match draw.choice(["order"] * 3 + ["cart"] * 3 + ["link"] * 3 + ["undo", "change", "consent"]):
        case "order":
            late = draw.choice([0, 0, 0.3])
            return event(f"e{number}", at - late, customer=key, received=day(at))
        case "cart":
            return event(f"e{number}", at, customer=key, **CART)
        case "change":
            return change(key, at, f'{{"color": "{draw.choice(["red", "blue"])}"}}')
        case "consent":
            return consent(key, at, draw.choice(["subscribed", "unsubscribed"]))
        case kind:
            other = draw.choice([one for one in KEYS if one != key])
            how = {"undo": True, "cause": "person"} if kind == "undo" else {}
            return link(key, other, at, **how)


@given(seed=st.integers(1, 10**6))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
def test_members_are_those_that_sql_finds_while_keys_are_joined_and_parted(tmp_path_factory, seed):
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("merges")
    live = Living(folder / "profiles.sqlite")
    live.define(**SAID)
    nouns, seen = [], []
    for number in range(40):
        at = number / 8 + draw.choice([0, 0.01])
        nouns.append(news(draw, number, at))
        live.tell(nouns[-1:])
        live.wait(day(at))
        seen.append((live.now, {name: live.members(name) for name in SAID}))
        assert {name: live.folded(name) for name in SAID} == seen[-1][1]
    events = [one for one in nouns if hasattr(one, "lines")]
    lake = filled(Lake(folder / "lake"), *events)
    told(lake, *[one for one in nouns if not hasattr(one, "lines")])
    for now, found in draw.sample(seen, 4):
        at = instant(now)
        for name, said in SAID.items():
            wanted = find(lake, "acme", said, AsOf(at, at)).members["customer"].to_pylist()
            assert found[name] == wanted, (name, at)
            assert live.folded(name, at) == wanted, (name, at)
    live.profiles.close()
