import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.audiences.language.nodes import (
    And,
    Compared,
    Count,
    Dated,
    Field,
    Followed,
    Member,
    Not,
    Or,
    Prediction,
    Profile,
    Property,
    Step,
    Sum,
    check,
)
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import Between, Earlier, Last, Next, Span
from habitue.audiences.language.writing import written
from habitue.errors import BadAudience
from tests.audiences.conditions import anything, asked

DAYS = Span(90, "day")
SENTENCES = {
    "did order_placed": Count("order_placed"),
    "did order_placed >= 2 times in 90 days and churn_90d > 0.7": And(
        (
            Count("order_placed", ">=", 2, Last(DAYS)),
            Compared(Prediction("churn", 90), ">", Decimal("0.7")),
        )
    ),
    "did not order_placed in 26 weeks": Count("order_placed", "=", 0, Last(Span(26, "week"))),
    'did item_ordered in 28 days where category in ("mugs", "bowls")': Count(
        "item_ordered",
        window=Last(Span(28, "day")),
        where=Compared(Field("category"), "in", ("mugs", "bowls")),
    ),
    'did order_placed where (value >= 20 and not properties.value = "a")': Count(
        "order_placed",
        where=And(
            (
                Compared(Field("value"), ">=", Decimal(20)),
                Not(Compared(Property(("value",)), "=", "a")),
            )
        ),
    ),
    "sum of order_placed value >= 100.5 between 60 and 30 days ago": Sum(
        "order_placed",
        Field("value"),
        ">=",
        Decimal("100.5"),
        Earlier(Span(60, "day"), Span(30, "day")),
    ),
    "did cart_added in 3 days then not order_placed within 1 hour": Followed(
        "cart_added",
        (Step("order_placed", Span(1, "hour"), is_absent=True),),
        Last(Span(3, "day")),
    ),
    'profile.city = "Paris" or profile."Loyalty Tier".level is not set': Or(
        (
            Compared(Profile(("city",)), "=", "Paris"),
            Not(Compared(Profile(("Loyalty Tier", "level")), "is set")),
        )
    ),
    "profile.renewal in the next 7 days": Dated(Profile(("renewal",)), Next(Span(7, "day"))),
    "profile.renewal between 2025-01-01 and 2025-02-01T12:30:00Z": Dated(
        Profile(("renewal",)),
        Between(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, 12, 30, tzinfo=UTC)),
    ),
    'not (in audience "staff" or did not "Odd Thing")': Not(
        Or((Member("staff"), Count("Odd Thing", "=", 0)))
    ),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_says_what_it_says_and_is_written_as_it_was(sentence):
    assert parse(sentence) == SENTENCES[sentence]
    assert written(SENTENCES[sentence]) == sentence


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("churn > 0.7", "churn_90d > 0.7"),
        ("revenue_30d > 5", "expected_spend_30d > 5"),
        ("count of order_placed = 0", "did not order_placed"),
        ("did order_placed in the last 3 days", "did order_placed in 3 days"),
        ("DID order_placed EVER AND NOT did b", "did order_placed and not did b"),
        ("sum of order_placed > 1.50", "sum of order_placed value > 1.5"),
        ("((did a))", "did a"),
        ("profile.tags has exactly 1 values", "profile.tags has exactly 1 value"),
        ("profile.a in March or first b in MAY", "profile.a in march or first b in may"),
        ("not profile.a is set", "profile.a is not set"),
        ("did a where Value > 1", "did a where value > 1"),
        ("did a after 2025-01-01T01:00:00+01:00", "did a after 2025-01-01"),
        ("did a and did b or did c", "(did a and did b) or did c"),
    ],
)
def test_other_spellings_mean_the_same(said, meant):
    assert parse(said) == parse(meant)
    assert parse(written(parse(said))) == parse(said)


@given(condition=asked | anything)
@settings(max_examples=100)
def test_what_is_written_is_read_as_what_it_was(condition):
    assert parse(written(condition)) == condition


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(
    ["did", "not", "order_placed", "(", ")", "and", "or", ">=", "2", "times", "in", "90", "days",
     "where", "value", '"a"', "then", "within", "profile.a", "is", "set", "has", "any", "of", ",",
     "between", "2025-01-01", "ago", "churn_90d", "audience", "sum", "count"]
), max_size=12).map(" ".join))  # fmt: skip
@settings(max_examples=100)
def test_any_text_is_read_or_refused_with_a_place(text):
    try:
        condition = parse(text)
    except BadAudience as error:
        assert re.search(r"(?m)^  *\^$", str(error))
    else:
        assert parse(written(condition)) == condition


REFUSED = [
    ("", "nothing was told", 0),
    ("did", "wanted the name of an event", 3),
    ("did order_placed in 90 dys", "did you mean days?", 23),
    ("churnn > 3", "did you mean churn_90d?", 0),
    ("value >= 20", "did order_placed where (value", 0),
    ('did a where category = "b" and value >= 20', "where (value", 31),
    ('city = "x"', "profile.city", 0),
    ("did a and", "wanted a condition", 9),
    ('rfm = "champion"', "no group", 4),
    ('churn_90d > "x"', "compares with a number", 10),
    ('churn_90d = "x"', "this is a number", 10),
    ("churn_900d > 0.1", "a horizon of 900 days", 0),
    ("next_order_date > 3", "is a date", 16),
    ("profile.x = 'a'", "double quotes", 12),
    ('profile.x = "a', "closed by one", 12),
    ('profile.x = "\\q"', "escapes nothing", 12),
    ("profile.x = Paris", 'in quotes: "Paris"', 12),
    ("profile.x = 2025-01-01", "compared by before", 12),
    ('profile.x matches "("', "no regular expression", 10),
    (f'profile.x matches "{"a" * 201}"', "a pattern of 201 characters", 10),
    (f'profile.x = "{"a" * 1001}"', "1,001 characters", 10),
    ("profile.x in 7 days", '"last" or "next"', 13),
    ("profile.x in ()", "wanted a number, a text", 14),
    ('profile.x in ("a", true)', "a list holds", 19),
    ('profile.x has any of "a"', "stands in parentheses", 21),
    ("profile.x < true", "compares with a number", 10),
    ("profile.x = 1234567890123456", "at most 15 digits", 10),
    ('consent.fax = "x"', "no channel", 0),
    ("did a in the next 3 days", "the future is not known", 0),
    ("did a next month", "the future is not known", 0),
    ("did a this moth", "did you mean month?", 11),
    ("did a last 7 days", "in the last 7 days", 11),
    ('did a where weekday = "Saturday"', "no day of the week", 20),
    ("did a where hour contains 3", "compares with a text", 17),
    ("anniversary of profile.a before 2025-01-01", "wanted days", 25),
    ("anniversary of rfm today", "only dates of customers", 0),
    ("anniversary of profile.a in the next 3 hours", "days and weeks", 0),
    ("anniversary of profile.a in the next 400 days", "within 365 days", 0),
    ("first order_placed > 3", "this is a date", 19),
    ("consent.fax.since in the last 3 days", "no channel", 0),
    ('similar to audience "vip"', 'wanted "top"', 25),
    ('similar to audience "vip" top 0', "wanted 1 to", 0),
    ('similar to audience "vip" top 101 percent', "wanted 1 to 100", 0),
    ("did a = 1.5 times", "whole number of times", 8),
    ("did a in 0.5 days", "12 hours", 9),
    ("did a in 99999 weeks", "more than 36,525 days", 9),
    ("did a between 30 and 60 days ago", "the longer one stands first", 6),
    ("did a between 2025-02-01 and 2025-01-01", "the earlier one", 6),
    ("did a after 2025-02-30", "is no date", 12),
    ("did a in march", 'where month = "march"', 0),
    ("next_order_date in march", "in the next 30 days", 16),
    ('profile.a has at least "2"', "a number", 10),
    ("profile.a has at least 1.5 values", "a whole number from 0 on", 10),
    ("profile.a has at least -1 values", "a whole number from 0 on", 10),
    ("profile.a has any containing 5", "a text", 10),
    ("did a where did b", "a field of the event", 12),
    ('did a where in audience "b"', "a field of the event", 12),
    ("did not a then b", '"and", "or" or the end', 10),
    ("did a >= 2 times then b", "does not count", 17),
    ("did a then not b then c", "only the last step", 0),
    (f"did a{' then b' * 5}", "2 to 5 steps", 0),
    ("sum of a item > 3", "cannot be added up", 0),
    ('sum of a value > "3"', "wanted a number", 17),
    ("did a)", "closes no parenthesis", 5),
    ("(did a", 'wanted ")"', 6),
    (f"{'(' * 60}did a{')' * 60}", "more than 20 levels", 19),
    (f"{'not ' * 60}did a", "more than 20 levels", 76),
    (" and ".join(["did a"] * 101), "more than 100 conditions", 1000),
    ("x" * 20_001, "20,001 characters", None),
    ("did order_placed; DROP TABLE events", "cannot read ';'", 16),
]


@pytest.mark.parametrize(
    ("sentence", "told", "place"), REFUSED, ids=[one[0][:40] for one in REFUSED]
)
def test_what_cannot_be_meant_is_pointed_at(sentence, told, place):
    with pytest.raises(BadAudience) as caught:
        parse(sentence)
    assert told in str(caught.value)
    if place is not None:
        lines = str(caught.value).splitlines()
        (pointer,) = [at for at, line in enumerate(lines) if line.strip() == "^"]
        shown = sentence[max(place - 60, 0) : place + 60]
        assert lines[pointer - 1] == f"  {shown}"
        assert lines[pointer].index("^") == 2 + min(place, 60)


def test_a_hundred_conditions_are_read():
    sentence = " and ".join(["did a"] * 100)
    assert written(parse(sentence)) == sentence


@pytest.mark.parametrize(
    "make",
    [
        lambda: Count(""),
        lambda: Count("a\0b"),
        lambda: Count("a", number=-1),
        lambda: Count("a", number=True),
        lambda: Count("a", operator="contains"),
        lambda: Sum("a", Field("item"), ">", 1),
        lambda: Sum("a", Field("value"), ">", "1"),
        lambda: Compared(Profile(()), "=", "a"),
        lambda: Compared(Profile(("a",)), "like", "a"),
        lambda: Compared(Profile(("a",)), "=", float("nan")),
        lambda: Compared(Profile(("a",)), "=", object()),
        lambda: Compared(Profile(("a",)), "in", ()),
        lambda: Compared(Profile(("a",)), "has", "\ud800"),
        lambda: And((Count("a"),)),
        lambda: Between(datetime(2025, 1, 1), datetime(2025, 1, 2)),    # noqa: DTZ001
        lambda: Span(1, "month"),
        lambda: Span(0, "day"),
        lambda: check(Compared(Field("value"), ">", 1)),
        lambda: check(Count("a", where=Compared(Prediction("churn", 90), ">", 1))),
        lambda: check(Count("a", where=Member("b"))),
    ],
)
def test_nodes_that_make_no_sense_cannot_be_made(make):
    with pytest.raises(BadAudience):
        make()


def test_numbers_of_python_are_taken_to_the_digit():
    assert Compared(Profile(("a",)), ">", 0.1) == Compared(Profile(("a",)), ">", Decimal("0.1"))
    assert Compared(Profile(("a",)), "in", [1, "b"]).value == (Decimal(1), "b")


def test_an_instant_of_another_zone_is_the_same_instant():
    at = datetime(2025, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert written(Dated(Profile(("a",)), Between(at, at + timedelta(1)))) == (
        "profile.a between 2025-01-01 and 2025-01-02"
    )
