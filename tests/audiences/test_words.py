import pytest

from habitue.audiences.language.parsing import parse
from habitue.audiences.words import (
    ago,
    anniversary,
    churn,
    consent,
    did,
    did_not,
    earlier,
    expected_spend,
    first,
    followed,
    in_month,
    in_next,
    last,
    member,
    next_order_date,
    order,
    previous,
    profile,
    rfm,
    similar,
    span,
    spent,
    then,
    then_not,
    this,
    where,
)
from habitue.errors import BadAudience

SAID = {
    "did order_placed >= 2 times in 90 days and churn_90d > 0.7": did(
        "order_placed", at_least=2, window=last(90, "days")
    )
    & (churn() > 0.7),
    "did not order_placed this month or did order_placed last week": did_not(
        "order_placed", window=this("month")
    )
    | did("order_placed", window=previous("week")),
    'did item_ordered in 28 days where category in ("mugs", "bowls")': did(
        "item_ordered", window=last(28, "days"), where=where.category.is_in("mugs", "bowls")
    ),
    'did a where (value >= 20 and Color = "red" and weekday = "monday")': did(
        "a", where=(where.value >= 20) & (where["Color"] == "red") & (where.weekday == "monday")
    ),
    "sum of order_placed value >= 100.5 between 60 and 30 days ago": spent(
        100.5, window=earlier(60, 30, "days")
    ),
    "did cart_added in 3 days then a then not order_placed within 1 hour": followed(
        "cart_added", then("a"), then_not("order_placed", span(1, "hour")), window=last(3, "days")
    ),
    'profile.city = "Paris" and profile."Loyalty Tier".level is not set': (profile.city == "Paris")
    & ~profile["Loyalty Tier", "level"].is_set(),
    'consent.email = "subscribed" and consent.email.since in the last 30 days': (
        consent.email == "subscribed"
    )
    & consent.since("email").during(last(30, "days")),
    'profile.tags has any containing "mug" and profile.tags has at least 2 values': (
        profile.tags.has_any_containing("mug")
    )
    & profile.tags.has_at_least(2),
    "profile.tags has exactly 1 value or profile.tags has at most 3 values": (
        profile.tags.has_exactly(1)
    )
    | profile.tags.has_at_most(3),
    "first order_placed in december": first("order_placed").during(in_month("december")),
    "first order_placed at least 365 days ago": first("order_placed").during(ago(365, "days")),
    "anniversary of profile.birthday in the next 7 days": anniversary(
        profile.birthday, in_next(7, "days")
    ),
    "next_order_date in the next 7 days": next_order_date.during(in_next(7, "days")),
    'rfm != "loyal" and order_30d <= 0.5 and expected_spend_30d < 5': (rfm != "loyal")
    & (order(30) <= 0.5)
    & (expected_spend(30) < 5),
    'profile.a contains "b" or profile.a starts with "c" or profile.a ends with "d"': (
        profile.a.contains("b") | profile.a.starts_with("c") | profile.a.ends_with("d")
    ),
    'profile.a matches "^b" or profile.a has "c" or profile.a has any of ("d", "e")': (
        profile.a.matches("^b") | profile.a.has("c") | profile.a.has_any_of("d", "e")
    ),
    'not (in audience "staff" or similar to audience "vip" top 5 percent)': ~(
        member("staff") | similar("vip", percent=5)
    ),
    'similar to audience "vip" top 500 customers': similar("vip", top=500),
}


@pytest.mark.parametrize("sentence", SAID)
def test_python_says_what_a_sentence_says(sentence):
    assert SAID[sentence] == parse(sentence)


@pytest.mark.parametrize(
    "make",
    [
        lambda: did("a") & "did b",
        lambda: "did b" and did("a") | 5,
        lambda: consent.fax == "subscribed",
        lambda: last(3, "fortnights"),
        lambda: this("decade"),
        lambda: similar("vip"),
        lambda: churn() > "high",
        lambda: profile.a == object(),
        lambda: anniversary(rfm, this("month")),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(BadAudience):
        make()
