"""Strategies of conditions: every node, over a few names and values, so that many of them hold."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import strategies as st

from habitue.audiences.language.calendar import CALENDAR_UNITS, MONTHS, WEEKDAYS
from habitue.audiences.language.limits import LENGTHS
from habitue.audiences.language.nodes import (
    BOUGHT,
    CHANNELS,
    GROUPS,
    LINE_FIELDS,
    ORDERS,
    And,
    Anniversary,
    Bought,
    Compared,
    Consent,
    ConsentSince,
    Count,
    Dated,
    Field,
    First,
    Followed,
    Member,
    NextOrder,
    Not,
    Or,
    Prediction,
    Profile,
    Property,
    Rfm,
    Similar,
    Step,
    Sum,
    Theirs,
)
from habitue.audiences.language.windows import (
    UNITS,
    After,
    Ago,
    Before,
    Between,
    Calendar,
    Earlier,
    InMonth,
    Last,
    Next,
    Span,
)
from tests.lake.small import day

EVENTS = ("order_placed", "item_ordered", "cart_added", "Odd Thing")
WORDS = ("red", "Red", "blue", "x", "y", "5", "2.50", "", "mug", "cups", "till", "web", "r.d")
NAMES = ("color", "size", "tags", "born", "more")
TICK = timedelta(microseconds=1)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = texts.filter(bool)
words = st.sampled_from(WORDS)
bought = st.sampled_from(
    ["0", "2.5", "7.25", "5", "4.875", "9.75", "0.5", "1.5", "-2.5", "3.333333333"]
).map(Decimal)
numbers = st.sampled_from(
    ["0", "1", "2", "2.5", "0.1", "5", "7.25", "-1", "10.000000001"]
).map(Decimal)
events = st.sampled_from(EVENTS)
few_names = st.sampled_from(NAMES)
spans = st.builds(Span, st.integers(1, 4), st.sampled_from(list(UNITS)))
# windows end where things happen, and a microsecond beside
instants = st.builds(
    lambda hours, ticks: day(hours / 12) + ticks * TICK, st.integers(0, 20), st.integers(-1, 1)
)
past = st.one_of(
    st.builds(Last, spans),
    st.builds(Ago, spans),
    st.builds(Before, instants),
    st.builds(After, instants),
    st.builds(
        lambda far, more, unit: Earlier(Span(far + more, unit), Span(far, unit)),
        st.integers(1, 3), st.integers(1, 3), st.sampled_from(list(UNITS)),
    ),
    st.builds(lambda start, more: Between(start, start + more * TICK), instants,
              st.integers(1, 10**12)),
    st.builds(Calendar, st.sampled_from(CALENDAR_UNITS), st.integers(-1, 0)),
)  # fmt: skip
windows = st.one_of(
    past, st.builds(Next, spans), st.builds(Calendar, st.sampled_from(CALENDAR_UNITS), st.just(1))
)
months = st.builds(InMonth, st.sampled_from(MONTHS[:4]))
whole_days = st.one_of(
    st.builds(Calendar, st.sampled_from(CALENDAR_UNITS), st.integers(-1, 1)),
    *(
        st.builds(kind, st.builds(Span, st.integers(1, 52), st.sampled_from(["day", "week"])))
        for kind in (Last, Next)
    ),
)
orders = st.sampled_from(ORDERS)


def compared(operands, *, text=words, number=numbers):
    """Comparisons of operands of any kind."""
    lists = st.lists(text | number, min_size=1, max_size=3).map(tuple)
    listed = st.lists(text, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compared, operands, st.sampled_from(["=", "!="]), text | number | st.booleans()),
        st.builds(Compared, operands, orders, number),
        compared_texts(operands, text=text),
        st.builds(Compared, operands, st.just("in"), lists),
        st.builds(Compared, operands, st.just("has"), text),
        st.builds(Compared, operands, st.sampled_from(["has any of", "has all of"]), listed),
        st.builds(Compared, operands, st.just("has any containing"), text),
        st.builds(Compared, operands, st.sampled_from(list(LENGTHS)),
                  st.integers(0, 3).map(Decimal)),
        st.builds(Compared, operands, st.just("is set")),
        st.builds(Dated, operands, windows | months),
    )


def compared_texts(operands, *, text=words):
    """Comparisons of operands that are texts."""
    return st.one_of(
        st.builds(Compared, operands, st.sampled_from(["=", "!="]), text),
        st.builds(
            Compared, operands, st.sampled_from(["contains", "starts with", "ends with"]), text
        ),
        st.builds(Compared, operands, st.just("matches"), st.sampled_from(["^r.d$", "u", "[0-9]"])),
        st.builds(Compared, operands, st.just("in"),
                  st.lists(text, min_size=1, max_size=3).map(tuple)),
        st.builds(Compared, operands, st.just("is set")),
    )  # fmt: skip


def compared_numbers(operands, *, number=numbers):
    """Comparisons of operands that are numbers."""
    return st.one_of(
        st.builds(Compared, operands, orders, number),
        st.builds(Compared, operands, st.just("in"),
                  st.lists(number, min_size=1, max_size=3).map(tuple)),
        st.builds(Compared, operands, st.just("is set")),
    )  # fmt: skip


def among(operand, values):
    """Comparisons of an operand that is one of a few."""
    listed = st.lists(st.sampled_from(values), min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Compared, st.just(operand), st.sampled_from(["=", "!="]),
                  st.sampled_from(values)),
        st.builds(Compared, st.just(operand), st.just("in"), listed),
    )  # fmt: skip


def paths(name):
    return st.lists(name, min_size=1, max_size=2).map(tuple)


def groups(leaves, *, most=4):
    """Leaves, and what and, or and not make of them."""

    def larger(inner):
        parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(And, parts) | st.builds(Or, parts) | st.builds(Not, inner)

    return st.recursive(leaves, larger, max_leaves=most)


def wheres(event, *, name=few_names, text=words):
    """What may stand behind where, or nothing."""
    lines = st.sampled_from([one for one in LINE_FIELDS if one != "quantity"]).map(Field)
    parts = [
        compared_numbers(st.sampled_from(["value", "quantity"]).map(Field)),
        compared_texts(lines | st.just(Field("source")), text=text),
        compared_numbers(st.just(Field("hour")), number=st.integers(0, 23).map(Decimal)),
        among(Field("weekday"), WEEKDAYS),
        among(Field("month"), MONTHS[:4]),
    ]
    if event != "item_ordered":
        parts.append(compared(paths(name).map(Property), text=text))
    return st.none() | groups(st.one_of(parts), most=3)


@st.composite
def happened(draw, *, event=events, name=few_names, text=words):
    """Counts, sums and sequences."""
    told, window = draw(event), draw(st.none() | past)
    where = draw(wheres(told, name=name, text=text))
    match draw(st.sampled_from(["count", "sum", "followed"])):
        case "count":
            return Count(told, draw(orders), draw(st.integers(0, 3)), window, where)
        case "sum":
            of = [Field("value")]
            of += [Field("quantity")] if told == "item_ordered" else [Property((draw(name),))]
            return Sum(told, draw(st.sampled_from(of)), draw(orders), draw(numbers), window, where)
    steps = []
    for place in range(number := draw(st.integers(1, 3))):
        then = draw(event)
        steps.append(
            Step(
                then,
                draw(st.none() | spans),
                draw(wheres(then, name=name, text=text)),
                is_absent=place == number - 1 and draw(st.booleans()),
            )
        )
    return Followed(told, tuple(steps), window, where)


def dates(event, name):
    """Dates of a customer."""
    channels = st.sampled_from(CHANNELS)
    return st.one_of(
        paths(name).map(Profile), st.builds(First, event), st.builds(ConsentSince, channels)
    )


def known(*, event=events, name=few_names, text=words):
    """What is known or predicted of a customer."""
    chance, spend = (st.just(Prediction(one, 90)) for one in ("churn", "revenue"))
    share = st.sampled_from(["0.25", "0.5", "0.75", "1"]).map(Decimal)
    return st.one_of(
        compared(paths(name).map(Profile), text=text),
        compared_texts(st.sampled_from(CHANNELS).map(Consent),
                       text=st.sampled_from(["subscribed", "unsubscribed"])),
        compared_numbers(chance, number=share),
        compared_numbers(spend, number=share | st.just(Decimal(5))),
        st.builds(Compared, st.just(NextOrder()), st.just("is set")),
        st.builds(Dated, st.just(NextOrder()), windows),
        among(Rfm(), GROUPS),
        compared_numbers(st.sampled_from(BOUGHT).map(Bought), number=bought),
        st.builds(Dated, dates(event, name), windows | months),
        st.builds(Compared, dates(event, name), st.just("is set")),
        st.builds(Anniversary, dates(event, name) | st.just(Profile(("born",))), whole_days),
    )  # fmt: skip


def similar(audience):
    """Who is like an audience."""
    return st.builds(Similar, audience, st.integers(1, 12)) | st.builds(
        Similar, audience, st.sampled_from([1, 25, 60, 100]), st.just("percent")
    )


def zoned(leaves):
    """The same by the clock of each customer."""
    return st.builds(Theirs, groups(leaves, most=2))


audiences = st.sampled_from(["reds", "buyers"])
# over the few names and values of a history
asked = groups(
    happened() | known() | audiences.map(Member) | similar(audiences)
    | zoned(happened() | known() | audiences.map(Member))
)  # fmt: skip
# over any names and texts that there are
anything = groups(
    happened(event=names, name=names, text=texts)
    | known(event=names, name=names, text=texts)
    | st.builds(Member, names)
    | similar(names)
    | zoned(happened(event=names, name=names, text=texts) | similar(names))
)
