"""What is asked of the models waits its turn, within bounds, and is never lost in the middle."""

from pathlib import Path

import pytest

from habitue.scoring.desk import (
    MOST_KEPT,
    MOST_TRIES,
    MOST_WAITING,
    MOST_WHYS,
    STALE_US,
    Desk,
    Found,
    TooMany,
    Why,
)

WHY = Why(customer="c1", question="churn", horizon_days=90.0, budget_seconds=0.5)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    opened = Desk(tmp_path / "asked.sqlite")
    yield opened
    opened.close()


def test_a_question_is_asked_once_and_answered_in_turn(desk: Desk) -> None:
    first = desk.ask("acme", "did x in 3 days", id="a", now=1)
    assert desk.ask("acme", "did x in 3 days", id="b", now=2) == first
    desk.ask("other", "did x in 3 days", id="c", now=3)
    assert desk.waits()
    taken = desk.take(4)
    assert (taken.shop, taken.id) == ("acme", "a")
    assert desk.question("acme", "a").status == "working"
    desk.settle(taken, Found(version="v1", customers=3), 5)
    told = desk.question("acme", "a")
    assert (told.status, told.found.customers) == ("complete", 3)
    failed = desk.take(6)
    desk.settle(failed, Found(detail="there is no past"), 7)
    assert desk.question("other", "c").status == "failed"
    assert not desk.waits()
    assert desk.take(8) is None


def test_no_shop_sees_a_question_of_another(desk: Desk) -> None:
    desk.ask("acme", "did x in 3 days", id="a", now=1)
    assert desk.question("other", "a") is None
    assert desk.questions("other") == []


def test_what_was_left_in_the_middle_is_taken_again_and_given_up_at_last(desk: Desk) -> None:
    desk.ask("acme", "did x in 3 days", id="a", now=1)
    for _ in range(MOST_TRIES):
        assert desk.take(2).id == "a"
    assert desk.take(3) is None
    assert "in the middle" in desk.question("acme", "a").found.detail


def test_no_more_waits_than_can_be_answered(desk: Desk) -> None:
    for number in range(MOST_WAITING):
        desk.ask("acme", f"did x in {number + 1} days", id=str(number), now=number)
    with pytest.raises(TooMany):
        desk.ask("acme", "did y in 1 day", id="z", now=99)
    desk.ask("other", "did y in 1 day", id="z", now=99)


def test_the_oldest_answers_are_forgotten(desk: Desk) -> None:
    for number in range(MOST_KEPT + 5):
        desk.ask("acme", f"did x in {number + 1} days", id=f"{number:04d}", now=number)
        desk.settle(desk.take(number), Found(), number)
    desk.ask("acme", "did y in 1 day", id="last", now=9_999)
    kept = [one.id for one in desk.questions("acme")]
    assert (len(kept), kept[0], kept[-1]) == (MOST_KEPT + 1, "last", "0005")


def test_a_why_is_told_once_and_nothing_is_left_of_it(desk: Desk) -> None:
    desk.wonder("acme", WHY, id="a", now=1)
    assert desk.told("a") is None
    waits = desk.wondering(2)
    assert (waits.shop, waits.why) == ("acme", WHY)
    desk.tell("a", b"{}")
    assert desk.wondering(3) is None
    assert desk.told("a") == b"{}"
    desk.drop("a")
    desk.tell("a", b"{}")
    assert desk.told("a") is None


def test_a_why_that_nobody_waits_for_any_more_takes_no_time(desk: Desk) -> None:
    for number in range(MOST_WHYS):
        desk.wonder("acme", WHY, id=str(number), now=number)
    with pytest.raises(TooMany):
        desk.wonder("acme", WHY, id="more", now=99)
    assert desk.wondering(STALE_US + 100) is None
    desk.tidy(STALE_US + 100)
    desk.tell("0", b"{}")
    assert desk.told("0") is None          # nothing of a customer is left where nobody waits
    desk.wonder("acme", WHY, id="more", now=STALE_US + 100)
    assert desk.wondering(STALE_US + 101).id == "more"
