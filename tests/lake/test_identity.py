import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.events import Link
from habitue.lake.identity import PUBLIC, TWO_EXTERNALS, Resolution, resolve
from habitue.lake.keys import STRENGTH, kind_of, profile_id
from habitue.lake.schema import LINKS
from tests.lake.people import ADA, APP, BOB, TEL, WEB, A, B, link, rows_of
from tests.lake.small import day

KEYS = (A, B, "c_3", ADA, BOB, TEL, WEB, APP, f"profile:{profile_id('acme', ADA)}", "profile:X")


def resolved(*links: Link, seen: tuple[str, ...] = ()) -> Resolution:
    rows = rows_of(links).get("links", LINKS.empty_table())
    return resolve(rows, shop="acme", seen=seen)


def customers(*links: Link) -> dict[str, str]:
    found = resolved(*links)
    return {key: found.customer_of(key) for one in links for key in (one.key, one.other)}


def whys(*links: Link) -> list[tuple[str, str, str]]:
    return [
        (row["key"], row["other"], row["why"]) for row in resolved(*links).conflicts().to_pylist()
    ]


def test_a_key_without_links_is_its_own_customer():
    assert resolved().customer_of(ADA) == ADA
    assert resolved().keys_of(ADA) == [ADA]
    assert resolved().identities().num_rows == 0


def test_links_chain_and_the_strongest_key_names_the_customer():
    found = customers(link(WEB, TEL, 1), link(ADA, TEL, 2), link(A, ADA, 3))
    assert set(found.values()) == {A}


def test_of_equally_strong_keys_the_one_named_first_is_the_name_and_text_breaks_ties():
    assert customers(link(BOB, WEB, 1), link(ADA, WEB, 2))[WEB] == BOB
    assert customers(link(BOB, WEB, 1), link(ADA, WEB, 1))[WEB] == ADA


def test_two_different_external_ids_never_become_one():
    links = (link(A, ADA, 1), link(B, BOB, 2), link(ADA, BOB, 3))
    assert customers(*links) == {A: A, ADA: A, B: B, BOB: B}
    (conflict,) = resolved(*links).conflicts().to_pylist()
    assert conflict == {
        "key": ADA, "other": BOB, "time": day(3), "source": "web", "cause": "event",
        "why": TWO_EXTERNALS, "customer": A, "other_customer": B,
    }  # fmt: skip


def test_what_came_first_decides_which_external_id_keeps_a_key():
    assert customers(link(A, WEB, 1), link(B, WEB, 2)) == {A: A, WEB: A, B: B}
    assert customers(link(A, WEB, 2), link(B, WEB, 1)) == {A: A, WEB: B, B: B}


def test_a_public_key_may_attach_an_anonymous_id_once():
    first, second = link(ADA, WEB, 1, public=True), link(BOB, WEB, 2, public=True)
    assert customers(first, second) == {ADA: ADA, WEB: ADA, BOB: BOB}
    assert whys(first, second) == [(BOB, WEB, PUBLIC)]


def test_a_public_key_never_makes_two_known_customers_one():
    assert whys(link(ADA, TEL, 1, public=True)) == [(ADA, TEL, PUBLIC)]
    assert whys(link(A, ADA, 1, public=True)) == [(A, ADA, PUBLIC)]


def test_a_conflict_is_over_once_a_secret_key_links_the_two():
    assert whys(link(ADA, TEL, 1, public=True), link(ADA, TEL, 2)) == []
    assert customers(link(ADA, TEL, 1, public=True), link(ADA, TEL, 2))[TEL] == ADA


def test_an_undo_voids_what_linked_its_two_keys_before_and_nothing_else():
    joined, undone = link(A, WEB, 1), link(WEB, A, 3, undo=True)
    assert customers(joined, undone)[WEB] == WEB
    assert customers(joined, undone, link(A, WEB, 4))[WEB] == WEB
    assert customers(joined, undone, link(A, WEB, 4, cause="person: it was hers"))[WEB] == A
    assert customers(joined, undone, link(A, WEB, 2, cause="person"))[WEB] == WEB
    assert customers(joined, undone, link(A, APP, 1), link(APP, WEB, 1))[WEB] == A
    assert customers(joined, link(WEB, A, 0, undo=True))[WEB] == WEB
    assert customers(link(A, WEB, 1, cause="alias"), link(WEB, A, 0, undo=True))[WEB] == A


def test_after_an_undo_a_key_is_free_for_another_customer():
    links = (link(A, WEB, 1), link(B, WEB, 2), link(A, WEB, 3, undo=True))
    assert customers(*links)[WEB] == B
    assert whys(*links) == []


def test_the_example_of_the_guide_holds():
    app = link(ADA, APP, 6, cause="identify")
    links = (link(A, WEB, 3, cause="identify"), link(A, ADA, 4), app)
    assert customers(*links) == {A: A, WEB: A, ADA: A, APP: A}
    assert APP not in customers(*links[:2])
    claimed = (*links, link(B, WEB, 9))
    assert whys(*claimed) == [(B, WEB, TWO_EXTERNALS)]
    assert customers(*claimed)[WEB] == A
    assert customers(*claimed, link(A, WEB, 10, undo=True)) == {A: A, ADA: A, APP: A, B: B, WEB: B}


def test_a_profile_id_means_the_key_that_has_it():
    shown = f"profile:{profile_id('acme', WEB)}"
    found = resolved(link(shown, ADA, 2), link(A, APP, 1), seen=(WEB,))
    assert [found.customer_of(key) for key in (shown, WEB, ADA)] == [ADA] * 3
    assert resolved(seen=(shown, WEB)).customer_of(shown) == WEB
    assert resolve(LINKS.empty_table(), shop="rival", seen=(shown, WEB)).customer_of(shown) == shown


def test_a_profile_id_that_nothing_has_is_a_key_like_others():
    assert customers(link("profile:X", WEB, 1))[WEB] == "profile:X"


def test_the_chain_of_links_from_a_key_to_its_name_is_told():
    shown = f"profile:{profile_id('acme', WEB)}"
    found = resolved(
        link(WEB, TEL, 1, cause="alias"), link(A, ADA, 3, cause="import"), link(ADA, TEL, 2),
        link(A, APP, 1), seen=(shown,),
    )  # fmt: skip
    chain = [(step.key, step.other, step.cause) for step in found.explain(shown)]
    assert chain == [
        (shown, WEB, "profile_id"), (WEB, TEL, "alias"), (TEL, ADA, "event"), (ADA, A, "import"),
    ]  # fmt: skip
    assert found.explain(A) == found.explain("stranger") == []
    assert found.keys_of(TEL) == [A, ADA, TEL, shown, APP, WEB]


def obvious(links: list[Link], seen: tuple[str, ...]) -> tuple[dict[str, str], set[frozenset[str]]]:
    """The rules as they are stated, one link after the other: customers, and pairs in conflict."""
    keys = {key for one in links for key in (one.key, one.other)} | set(seen)
    ids = {f"profile:{profile_id('acme', key)}": key for key in keys if "profile:" not in key}
    mean = {key: ids.get(key, key) for key in keys}
    groups = {key: {key} for key in set(mean.values())}
    refused = set()
    links = sorted(links, key=lambda one: (one.time, one.received, one.digest))
    for place, one in enumerate(links):
        pair = {mean[one.key], mean[one.other]}
        undone = [number for number, other in enumerate(links)
                  if other.undo and {mean[other.key], mean[other.other]} == pair]  # fmt: skip
        void = undone and (undone[-1] > place or not one.deliberate)
        left, right = groups[mean[one.key]], groups[mean[one.other]]
        if one.undo or void or left is right:
            continue
        holds = [any(kind_of(key) == "external" for key in side) for side in (left, right)]
        known = [any(kind_of(key) != "anonymous" for key in side) for side in (left, right)]
        if all(holds) or (one.public and all(known)):
            refused.add((mean[one.key], mean[one.other]))
            continue
        for key in right:
            left.add(key)
            groups[key] = left
    first = {}
    for one in reversed(links):
        first |= {mean[one.key]: one.time, mean[one.other]: one.time}
    last = day(10_000)
    names = {
        key: min(group, key=lambda one: (STRENGTH[kind_of(one)], first.get(one, last), one))
        for key, group in groups.items()
    }
    customer = {key: names[mean[key]] for key in keys}
    return customer, {frozenset(pair) for pair in refused if len({customer[k] for k in pair}) > 1}


told_links = st.builds(
    link, st.sampled_from(KEYS), st.sampled_from(KEYS), st.integers(0, 6),
    received=st.integers(6, 7).map(day), undo=st.integers(0, 4).map(lambda one: one == 0),
    public=st.booleans(), cause=st.sampled_from(["event", "identify", "alias", "person: me"]),
)  # fmt: skip


@given(links=st.lists(told_links, max_size=14), seen=st.lists(st.sampled_from(KEYS)))
def test_the_fast_way_agrees_with_the_obvious_one(links, seen):
    found = resolved(*links, seen=tuple(seen))
    customer, refused = obvious(links, tuple(seen))
    assert {key: found.customer_of(key) for key in customer} == customer
    ids = {f"profile:{profile_id('acme', key)}": key for key in customer if "profile:" not in key}
    rows = found.conflicts().to_pylist()
    told = {frozenset(ids.get(row[side], row[side]) for side in ("key", "other")) for row in rows}
    assert told == refused


@given(links=st.lists(told_links, max_size=14), seed=st.integers(0, 1_000))
def test_the_order_of_arrival_and_repeats_change_nothing(links, seed):
    shuffled = random.Random(seed).sample(links, len(links)) + links[:3]
    first, second = resolved(*links), resolved(*shuffled)
    assert customers(*links) == customers(*shuffled)
    assert first.conflicts().to_pylist() == second.conflicts().to_pylist()


@given(links=st.lists(told_links, max_size=14))
def test_a_chain_leads_from_every_key_to_its_name(links):
    found = resolved(*links)
    for key, name in customers(*links).items():
        chain = found.explain(key)
        assert [step.key for step in chain[1:]] == [step.other for step in chain[:-1]]
        assert (chain[0].key, chain[-1].other) == (key, name) if chain else key == name


@pytest.mark.parametrize("key", KEYS)
def test_a_link_of_a_key_with_itself_says_nothing(key):
    assert customers(link(key, key, 1)) == {key: key}
