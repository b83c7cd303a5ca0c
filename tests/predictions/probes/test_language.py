"""Targets and their sentences: they agree, and what cannot be read is pointed at."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.errors import BadTarget
from habitue.predictions.probes.language import (
    MOST_DAYS,
    Condition,
    Target,
    refuse_unknown_event,
)

NAMES = st.one_of(
    st.sampled_from(["order_placed", "in", "where", "Placed Order", "a.b", 'say "hi"', "ünïcode"]),
    st.text(min_size=1, max_size=12),
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def conditions(draw) -> Condition:
    operator = draw(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "contains"]))
    if operator == "contains":
        value = draw(st.text(max_size=12))
    elif operator in ("=", "!="):
        value = draw(st.one_of(st.text(max_size=12), st.booleans(), NUMBERS))
    else:
        value = draw(NUMBERS)
    return Condition(draw(NAMES), operator, value)


@st.composite
def targets(draw) -> Target:
    aggregation = draw(st.sampled_from(["exists", "count", "sum"]))
    days = draw(st.one_of(st.integers(1, 730), st.floats(0.01, MOST_DAYS)))
    of = draw(NAMES) if aggregation == "sum" else ""
    where = tuple(draw(st.lists(conditions(), max_size=4)))
    return Target(draw(NAMES), aggregation, days, of, where)


@given(target=targets())
def test_a_printed_target_is_read_as_the_same_target(target):
    assert Target.parse(str(target)) == target


@given(target=targets())
def test_conditions_as_text_are_the_conditions(target):
    where = str(target).partition(" where ")
    if target.conditions and " where " not in f"{where[0]}{where[2]}":
        told = Target(target.event, target.aggregation, target.horizon_days, target.of, where[2])
        assert told == target


@given(text=st.text(max_size=60))
def test_whatever_is_typed_is_read_or_refused(text):
    try:
        target = Target.parse(text)
    except BadTarget as error:
        assert "^" in str(error)
    else:
        assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    ("sentence", "printed"),
    [
        ("did message_clicked in 14 days", "did message_clicked in 14 days"),
        ("Count Of order_placed IN 2 weeks", "count of order_placed in 14 days"),
        ("count of order_placed in 6 hours", "count of order_placed in 0.25 days"),
        ("count of order_placed in 1day", "count of order_placed in 1 day"),
        ("sum of order_placed in 90 days", "sum of order_placed value in 90 days"),
        (
            'did "Placed Order" in 9 days where  value>=20 AND category="mugs"',
            'did "Placed Order" in 9 days where value >= 20 and category = "mugs"',
        ),
        ("did x in 3 days where flag = TRUE", "did x in 3 days where flag = true"),
    ],
)
def test_a_sentence_is_printed_in_one_way(sentence, printed):
    assert str(Target.parse(sentence)) == printed


@pytest.mark.parametrize(
    ("sentence", "message", "pointed_at"),
    [
        ("", "wanted did or count or sum", ""),
        ("dit x in 3 days", "did you mean did?", "dit"),
        ("count order_placed in 3 days", 'wanted "of"', "order_placed"),
        ("did x in soon", "wanted how many days", "soon"),
        ("did x in 3 fortnights", "wanted hours or days or weeks", "fortnights"),
        ("did x in 0 days", "more than 0", "0 days"),
        ("did x in 900 days", "at most 730", "900"),
        ("did x in 3 days whre v = 1", "did you mean where?", "whre"),
        ("did x in 3 days where v contians 1", "did you mean contains?", "contians"),
        ("did x in 3 days where category = mugs", 'a text stands in quotes: "mugs"', "mugs"),
        ('did x in 3 days where v > "many"', "wanted a number after >", 'v > "many"'),
        ('did x in 3 days where v = "open', "is closed by one", '"open'),
        ("did x in 3 days where v = 1 or w = 2", 'wanted "and"', "or w"),
        ("did x in 3 days; DROP TABLE events", "cannot read ';'", ";"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(sentence, message, pointed_at):
    with pytest.raises(BadTarget) as refused:
        Target.parse(sentence)
    lines = str(refused.value).splitlines()
    (place,) = [line.index("^") for line in lines if line.strip() == "^"]
    shown = lines[[line.strip() for line in lines].index("^") - 1]
    assert message in str(refused.value)
    assert shown[place:].startswith(pointed_at)


def test_a_long_sentence_is_pointed_into_where_it_is_wrong():
    many = " and ".join(f"field_{n} = {n}" for n in range(15))
    with pytest.raises(BadTarget) as refused:
        Target.parse(f"did x in 3 days where {many} and oops ~ 3")
    shown, mark = str(refused.value).splitlines()[1:3]
    assert shown[mark.index("^")] == "~"
    assert len(shown) < 130


def test_more_conditions_than_anyone_needs_are_refused():
    many = " and ".join("v = 1" for _ in range(200))
    with pytest.raises(BadTarget, match="more than 20 conditions"):
        Target.parse(f"did x in 3 days where {many}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target("", "exists", 3), "needs an event"),
        (lambda: Target("x", "mean", 3), "exists, count, sum"),
        (lambda: Target("x", "exists", float("nan")), "horizon"),
        (lambda: Target("x", "exists", -1), "horizon"),
        (lambda: Target("x", "count", 3, of="value"), "only a sum"),
        (lambda: Target("x", "count", 3, where="value >"), r"\^"),
        (lambda: Condition("v", "~", 3), "no comparison"),
        (lambda: Condition("", "=", 3), "needs a field"),
        (lambda: Condition("v", "contains", 3), "in quotes"),
        (lambda: Condition("v", "<", True), "wanted a number"),
        (lambda: Condition("v", "=", float("inf")), "no number"),
    ],
)
def test_a_target_that_makes_no_sense_cannot_be_made(make, message):
    with pytest.raises(BadTarget, match=message):
        make()


def test_an_unknown_event_is_pointed_at_and_the_near_one_named():
    target = Target.parse("count of order_plced in 60 days")
    with pytest.raises(BadTarget) as refused:
        refuse_unknown_event(target, ["order_placed", "item_viewed"])
    _, shown, mark, hint = str(refused.value).splitlines()
    assert shown[mark.index("^") :].startswith("order_plced")
    assert hint == "hint: did you mean order_placed?"
    with pytest.raises(BadTarget, match="its events are: a, b"):
        refuse_unknown_event(Target("zzzzzzzz", "exists", 3), ["b", "a"])


def test_texts_are_quoted_as_json_quotes_them():
    (condition,) = Target("x", "exists", 3, where='title = "6\\" tall \\\\ wide"').conditions
    assert condition.value == '6" tall \\ wide'
    assert json.dumps(condition.value) in str(Target("x", "exists", 3, where=(condition,)))
