"""What is shown of what could be: rules, caps, exclusions and rotation, for any candidates."""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as some

from habitue.errors import BadSetting
from habitue.recommendations.shelf import arranging
from habitue.recommendations.shelf.arranging import Shelf, arranged, arranged_asking
from habitue.recommendations.shelf.listed import Facts, Listed, Wanted
from habitue.recommendations.shelf.mixing import beside, mixed, named
from habitue.recommendations.shelf.rules import KINDS, Match, Rule, checked, in_force, pinned
from habitue.recommendations.shelf.seen import DAYS, HALVED_AFTER, discounts, ignored

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
CODES = [f"i{number}" for number in range(12)]


def listed(item: str, score: float = 0.0, category: str = "", reason: str = "popular") -> Listed:
    return Listed(item, item.upper(), category, score, reason, "")


def items(found: list[Listed]) -> list[str]:
    return [one.item for one in found]


codes = some.lists(some.sampled_from(CODES), min_size=1, max_size=4, unique=True).map(tuple)
matches = some.builds(
    Match, items=some.one_of(some.just(()), codes),
    categories=some.lists(some.sampled_from(["a", "b"]), min_size=1, max_size=2).map(tuple),
) | some.builds(Match, items=codes)  # fmt: skip
rules = some.lists(
    some.builds(
        Rule, kind=some.sampled_from([kind for kind in KINDS if kind != "pin"]), match=matches,
        factor=some.floats(0.1, 10),
    )
    | some.builds(
        Rule, kind=some.just("pin"), match=some.builds(Match, items=codes),
        position=some.integers(1, 8),
    ),
    max_size=5,
)  # fmt: skip
candidates = some.permutations(CODES).flatmap(
    lambda order: some.tuples(
        *(
            some.builds(
                listed, some.just(item), some.floats(-5, 5), some.sampled_from(["", "a", "b"]),
                some.sampled_from(["popular", "bought_once"]),
            )
            for item in order
        )
    )
)  # fmt: skip
wishes = some.builds(
    Wanted, k=some.integers(1, 14), context=some.one_of(some.just(()), codes),
    exclude=some.frozensets(some.sampled_from(CODES), max_size=3),
    exclude_bought=some.booleans(), per_category=some.one_of(some.none(), some.integers(1, 3)),
)  # fmt: skip


@given(candidates, rules, wishes, some.frozensets(some.sampled_from(CODES), max_size=3))
def test_what_is_left_out_never_appears_and_limits_hold(
    candidates: list[Listed], rules: list[Rule], wanted: Wanted, left_out: frozenset[str]
) -> None:
    found = arranged(candidates, Shelf(rules=rules, left_out=left_out), wanted)
    assert len(found) <= wanted.k
    assert len(set(items(found))) == len(found)
    assert not set(items(found)) & {*wanted.context, *wanted.exclude, *left_out}
    only = [rule.match for rule in rules if rule.kind == "only"]
    for one in found:
        assert not only or any(match.holds(one, Facts()) for match in only)
        assert not any(
            rule.kind == "hide" and rule.match.holds(one, Facts()) for rule in rules
        )
    counts = Counter(one.category for one in found if one.category)
    assert wanted.per_category is None or max(counts.values(), default=0) <= wanted.per_category


@given(candidates, rules, wishes, some.frozensets(some.sampled_from(CODES), max_size=9))
def test_asking_only_of_what_would_be_shown_gives_the_same_list(
    candidates: list[Listed], rules: list[Rule], wanted: Wanted, missing: frozenset[str]
) -> None:
    with mock.patch.object(arranging, "_AHEAD", 0):
        found = arranged_asking(
            candidates, Shelf(rules=rules), wanted, lambda asked: asked & missing
        )
    assert found == arranged(candidates, Shelf(rules=rules, left_out=missing), wanted)


@given(candidates, rules, wishes)
def test_a_pinned_item_is_where_it_was_pinned_and_a_buried_one_last(
    candidates: list[Listed], rules: list[Rule], wanted: Wanted
) -> None:
    shelf = Shelf(rules=rules)
    every = arranged(candidates, shelf, Wanted(k=100))
    places = {item: place for item, place in pinned(rules).items() if item in items(every)}
    unique = Counter(places.values())
    for item, place in places.items():
        # further back only where others are pinned before it, or nothing is left to stand there
        if unique[place] == 1 and len(every) - len(places) >= max(places.values()):
            assert items(every)[place - 1] == item
    free = [one for one in every if one.item not in places]
    is_buried = [
        any(rule.kind == "bury" and rule.match.holds(one, Facts()) for rule in rules)
        for one in free
    ]
    assert is_buried == sorted(is_buried)
    # a limit takes from the end, and from nowhere else
    whole = arranged(candidates, shelf, Wanted(k=100, exclude=wanted.exclude))
    short = arranged(candidates, shelf, Wanted(k=wanted.k, exclude=wanted.exclude))
    assert short == whole[: wanted.k]


def test_a_boost_counts_as_many_times_as_likely() -> None:
    two = [listed("tea", 0.0), listed("mug", -0.5)]
    boost = Rule(kind="boost", match=Match(items=("mug",)), factor=2.0)
    assert items(arranged(two, Shelf(rules=[boost]), Wanted())) == ["mug", "tea"]
    less = Rule(kind="boost", match=Match(items=("mug",)), factor=1.5)
    assert items(arranged(two, Shelf(rules=[less]), Wanted())) == ["tea", "mug"]


def test_a_rule_by_brand_or_price_reads_the_catalogue() -> None:
    two = [listed("tea"), listed("mug")]
    facts = {"mug": Facts(brand="Ton", price=12.5)}
    by_brand = Rule(kind="only", match=Match(brands=("Ton",)))
    by_price = Rule(kind="hide", match=Match(price_from=10, price_to=12.5))
    assert items(arranged(two, Shelf(rules=[by_brand], facts=facts), Wanted())) == ["mug"]
    assert items(arranged(two, Shelf(rules=[by_price], facts=facts), Wanted())) == ["tea"]


def test_a_rule_holds_from_its_first_instant_up_to_its_last() -> None:
    rule = Rule(
        kind="bury", match=Match(items=("tea",)), since=NOON, until=NOON + timedelta(days=1)
    )
    instants = [timedelta(seconds=-1), timedelta(), timedelta(hours=23), timedelta(days=1)]
    assert [bool(in_force([rule], NOON + one)) for one in instants] == [False, True, True, False]


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        (Rule(kind="bury", match=Match()), "names nothing"),
        (Rule(kind="pin", match=Match(categories=("a",))), "names the items"),
        (Rule(kind="pin", match=Match(items=("a",)), position=0), "position"),
        (Rule(kind="boost", match=Match(items=("a",)), factor=0), "factor"),
        (Rule(kind="hide", match=Match(items=("a",)), since=NOON, until=NOON), "ends after"),
        (Rule(kind="hide", match=Match(items=("a",)), since=datetime(2026, 1, 1)), "zone"),  # noqa: DTZ001
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: Rule, word: str) -> None:
    with pytest.raises(BadSetting, match=word):
        checked(rule)


def test_what_was_shown_and_not_minded_makes_room() -> None:
    two = [listed("tea", 0.0), listed("mug", -0.5)]
    for times, first in ((HALVED_AFTER - 1, "tea"), (HALVED_AFTER, "mug")):
        counts = ignored([("tea", at) for at in range(times)], [])
        shelf = Shelf(discounts=discounts(counts))
        assert items(arranged(two, shelf, Wanted(k=1))) == [first]
    # … until something is done with it
    counts = ignored([("tea", at) for at in range(9)], [("tea", 9)])
    assert counts == {}
    assert DAYS * HALVED_AFTER > 0
    assert discounts({"tea": HALVED_AFTER})["tea"] == pytest.approx(math.log(2))


def test_what_goes_with_the_page_rises_in_the_own_list_and_comes_in_from_outside() -> None:
    own = [listed(item, -float(place)) for place, item in enumerate(["tea", "mug", "pot", "jar"])]
    near = beside({"cake": [("fork", 0.4), ("jar", 0.3)], "plate": [("fork", 0.2), ("cake", 0.1)]})
    assert list(near) == ["fork", "jar"]
    found = mixed(
        own,
        [named(listed(item), how, how.companion.title()) for item, how in near.items()],
        [listed("rug"), listed("tea")],
    )
    assert items(found) == ["jar", "tea", "fork", "mug", "pot", "rug"]
    assert {one.item: one.evidence for one in found}["jar"] == "often bought with Cake"
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


@given(candidates)
def test_without_a_page_the_own_list_stays_as_it_is(candidates: list[Listed]) -> None:
    own = sorted(candidates, key=lambda one: -one.score)
    assert mixed(own, [], [listed("rug")])[: len(own)] == own
    ranked = arranged(mixed(own, [], []), Shelf(), Wanted(k=len(own)))
    assert items(ranked) == items(own)
