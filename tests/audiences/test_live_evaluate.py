"""What holds of one customer at an instant, and until when: against the slow twin."""


import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from habitue.audiences.compile import asked as predictions_asked
from habitue.audiences.language.nodes import Compared, Dated, Rfm, Similar, every
from habitue.audiences.language.writing import written
from habitue.audiences.live.evaluate import prepared
from habitue.audiences.live.facts import Shop
from habitue.audiences.live.loading import items, load, wanted
from habitue.audiences.members import expanded
from habitue.lake.live import store
from habitue.lake.live.told import instant, microseconds, told_by
from habitue.lake.profiles import Profiles
from tests.audiences.conditions import TICK, asked
from tests.audiences.histories import history
from tests.audiences.slow import Slow
from tests.lake.small import day

NAMED = {"reds": 'profile.color = "red" or did cart_added where color = "red"',
         "buyers": "did order_placed and not in audience \"reds\""}  # fmt: skip
SEEDS = (1, 2, 3, 4)
moments = st.builds(
    lambda hours, ticks: day(hours / 12) + ticks * TICK, st.integers(0, 80), st.integers(-1, 1)
)


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    told = {seed: history(seed) for seed in SEEDS}
    states = {}
    for seed, one in told.items():
        states[seed] = Profiles(tmp_path_factory.mktemp(f"live{seed}") / "profiles.sqlite")
        with states[seed].writing() as connection:
            nouns = [*one.events, *one.items, *one.changes, *one.consents]
            store.take(connection, told_by(nouns))
    yield told, states
    for one in states.values():
        one.close()


def is_now(condition):
    return any(
        isinstance(one, Similar)
        or (isinstance(one, (Compared, Dated)) and isinstance(one.operand, Rfm))
        for one in every(condition)
    )


@given(
    seed=st.sampled_from(SEEDS),
    condition=asked,
    moment=moments,
    share=st.floats(0, 1),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture],
          deadline=None)  # fmt: skip
def test_a_condition_holds_of_whom_the_slow_twin_says_and_until_it_says(
    shops, seed, condition, moment, share
):
    told, states = shops
    whole = expanded(condition, NAMED)
    assume(not predictions_asked(whole) and not is_now(whole))
    ready = prepared(whole, told[seed].zone)
    slow = Slow(told[seed], moment, moment)
    with states[seed].writing() as connection:
        customers = [id for (id,) in connection.execute("SELECT id FROM customers")]
        facts = load(connection, "acme", customers, wanted(ready.reads))
        shop = Shop(currency="GBP", items=items(connection, "acme"))
    now = microseconds(moment)
    members, untils = [], {}
    for one in facts.values():
        holds, until = ready.holds(one.at(shop, now), now)
        assert until > now
        untils[one.name] = (holds, until)
        members += [one.name] if holds else []
    assert sorted(members) == slow.members(whole), written(whole)
    for name, (holds, until) in untils.items():
        last = min(until - 1, microseconds(day(20)))
        for at in (last, now + int(share * (last - now))):
            then = Slow(told[seed], instant(at), instant(at))
            assert (name in then.customers and then.holds(whole, name)) is holds, (
                written(whole),
                name,
                instant(at),
                instant(until) if until < 2**60 else None,
            )
        break
