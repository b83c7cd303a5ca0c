"""What stands in JSON, compared by SQL and by the evaluator of live audiences: the same of each."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.audiences.comparisons import Bound, Clock, compared, dated, of_json, remembered
from habitue.audiences.language.nodes import Anniversary, Compared, Dated, Profile
from habitue.audiences.language.parsing import parse
from habitue.audiences.language.windows import After, Ago, Before, Calendar, Last, Next, Span
from habitue.audiences.live.evaluate import prepared
from habitue.errors import BadAudience
from habitue.lake.live.told import microseconds

A = Profile(("a",))
TEXTS = (
    "2025-03-04", "2025-03-04T10:00:00Z", "2025-03-04 10:00", "2024-02-29", "2025-02-29",
    "2025-03-04T24:00:00Z", "2025-03-04T23:59:60Z", "2025-03-04T10:00:00+14:00",
    "2025-03-04T10:00:00+24:00", "2025-03-04T10:00:00-99:59", "2025-03-04T10:00:00.5+05:30",
    "0000-01-01", "0001-01-01", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999Z",
    "1582-10-10", "1582-10-10T01:00:00Z", "1.5", "-0", "00012.500", "1e3", "Infinity",
    "12345678901234567", "İstanbul", "ISTANBUL", "ΟΔΟΣ", "ΟΔΟΣΑ", "straße", "ſ", "K", "",
)  # fmt: skip
NUMBERS = (
    "0", "-0.0", "1e3", "1e308", "0.1", "2.675", "100000000000000000000", "18446744073709551616",
    "0.0000000005", "-0.00000000049999", "123456789012345678.9", "9999999999999999999.9", "5e-10",
)  # fmt: skip
LISTS = (
    "[]", '["a"]', '["İ", 1, 2.50, true, null]', '[1, 1.0, 1e3]', '[["a"]]', '[{"a": 1}]',
    '{"b": 1}', "true", "null", "[1e-7, 1E5]",
)  # fmt: skip
moments = st.sampled_from(
    [
        datetime(2025, 3, 4, 10, tzinfo=UTC), datetime(2024, 2, 29, 0, 0, 0, 1, tzinfo=UTC),
        datetime(2025, 12, 31, 23, 30, tzinfo=UTC),
    ]
)  # fmt: skip
instants = moments | st.just(datetime(1, 1, 2, tzinfo=UTC))
zones = st.sampled_from(["UTC", "America/New_York", "Pacific/Apia", "Asia/Kolkata"])


@st.composite
def near(draw):
    """A text that is a date, a number or a name, or nearly one."""
    held = list(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(held)))
        held[place : place + draw(st.integers(0, 1))] = draw(st.sampled_from("0129-+:.TZ eİΣς٣"))
    return json.dumps("".join(held))


values = near() | st.sampled_from(NUMBERS) | st.sampled_from(LISTS)
told = st.sampled_from(
    ["0", "1", "1000", "2.5", "0.000000001", "0.1", "12.5", "2.675"]
)  # fmt: skip
days = st.sampled_from([Calendar("day"), Calendar("month", -1), Calendar("year", 1)])
whole = days | st.builds(
    lambda kind, count: kind(Span(count, "day")), st.sampled_from([Last, Next]), st.integers(1, 40)
)
windows = whole | st.builds(Before, instants) | st.builds(After, instants) | st.just(
    Ago(Span(300, "day"))
)
conditions = st.one_of(
    st.builds(lambda sign, number: parse(f"profile.a {sign} {number}"),
              st.sampled_from(["=", "!=", "<", ">="]), told),
    st.builds(Compared, st.just(A), st.sampled_from(["contains", "starts with", "ends with"]),
              st.sampled_from(["i", "İ", "Σ", "ς", "σ", "οδος", "istan", "k", "a", "2025"])),
    st.builds(Compared, st.just(A), st.just("has any of"), st.tuples(st.sampled_from(
        ["a", "İ", "1", "2.5", "true", "1000.0", "1e-07", '["a"]', '{"a": 1}', '{"a":1}']))),
    st.builds(Dated, st.just(A), windows),
    st.builds(Anniversary, st.just(A), whole),
)  # fmt: skip


class Known:
    """A customer of whom nothing is known but properties."""

    exists, until = True, 2**62

    def __init__(self, properties):
        self.properties = properties


def by_sql(condition, held, at, zone):
    bound = Bound()
    forms, clock = of_json("properties", condition.operand.path, bound), Clock(at, zone)
    match condition:
        case Compared():
            sql = compared(forms, condition, bound)
        case Dated():
            sql = dated(forms, condition, clock, bound)
        case Anniversary():
            sql = remembered(forms, condition, clock, bound)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("held", pa.table({"properties": held}))
        found = connection.execute(f"SELECT coalesce({sql}, false) FROM held", bound.values)
        return [answer for (answer,) in found.fetchall()]


@given(
    condition=conditions, held=st.lists(values, min_size=1, max_size=40), at=moments, zone=zones
)
@settings(max_examples=60, deadline=None)
def test_sql_and_live_compare_every_value_alike(condition, held, at, zone):
    documents = [f'{{"a": {one}}}' for one in held]
    ready = prepared(condition, zone)
    live = [ready.holds(Known(json.loads(one)), microseconds(at))[0] for one in documents]
    assert by_sql(condition, documents, at, zone) == live


@pytest.mark.parametrize(
    ("sentence", "held", "holds"),
    [
        ('profile.a contains "istanbul"', '"İstanbul"', True),
        ('profile.a starts with "ΟΔΟΣ"', '"ΟΔΟΣΑ"', True),
        ("profile.a before 2025-01-01", '"0001-01-01T00:00:00"', True),
        ("profile.a this year", '"9999-12-31T23:59:59.999999Z"', False),
        ("anniversary of profile.a this year", '"0001-01-01T00:00:00"', False),
        ("profile.a before 2026-01-01", '"2025-03-04T24:00:00Z"', False),
        ("profile.a before 2026-01-01", '"2025-03-04T10:00:00+24:00"', False),
        ("profile.a before 2026-01-01", '"0000-01-01"', False),
        ('profile.a has "{\\"a\\":1}"', '[{"a": 1}]', True),
    ],
)
def test_what_was_told_differently_is_told_alike(sentence, held, holds):
    condition, at = parse(sentence), datetime(2025, 3, 4, tzinfo=UTC)
    document = f'{{"a": {held}}}'
    for zone in ("America/New_York", "Asia/Kolkata"):
        live = prepared(condition, zone).holds(Known(json.loads(document)), microseconds(at))[0]
        assert by_sql(condition, [document], at, zone) == [live] == [holds]


def test_a_pattern_that_only_a_newer_re2_knows_is_refused():
    with pytest.raises(BadAudience, match=r"hint: \(\?P<name>"):
        parse('profile.a matches "(?<year>[0-9]+)"')
    assert parse('profile.a matches "[(?<]" and profile.a matches "(?P<year>[0-9]+)"')


@st.composite
def near_leap_days(draw):
    """An instant within some days of the end of a February or of a year, told anywhere."""
    year, around = draw(st.integers(1995, 2025)), draw(st.sampled_from([(3, 1), (1, 1), (3, 4)]))
    day = datetime(year, *around, tzinfo=UTC) + timedelta(minutes=draw(st.integers(-6_000, 6_000)))
    minutes = draw(st.sampled_from([0, 0, -1439, 1439, 840, -720, 345]))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    shown = [f"{day:%Y-%m-%d}", f"{day:%Y-%m-%dT%H:%M:%S}{sign}{hours:02}:{rest:02}"]
    return draw(st.sampled_from(shown))


@given(
    held=st.lists(near_leap_days(), min_size=1, max_size=30),
    at=st.builds(lambda year, day: datetime(year, *day, 11, tzinfo=UTC), st.integers(2024, 2027),
                 st.sampled_from([(2, 27), (2, 28), (3, 1), (3, 4), (12, 31), (1, 1)])),
    window=whole,
    zone=st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata"]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_an_anniversary_is_found_wherever_its_date_was_told(held, at, window, zone):
    condition = Anniversary(A, window)
    documents = [json.dumps({"a": one}) for one in held]
    ready = prepared(condition, zone)
    live = [ready.holds(Known(json.loads(one)), microseconds(at))[0] for one in documents]
    assert by_sql(condition, documents, at, zone) == live


@pytest.mark.parametrize(
    ("held", "today"),
    [
        ("2024-02-29", (2025, 2, 28)),
        ("2024-02-29T23:00:00Z", (2025, 3, 1)),                  # the first of March there
        ("2023-03-05T12:00:00-23:59", (2025, 3, 7)),
        ("2023-02-27T12:00:00-23:59", (2024, 3, 1)),             # and 2024 has one day more
        ("2023-12-30T12:00:00-23:59", (2025, 1, 1)),
    ],
)
def test_an_anniversary_is_that_of_the_shops_day(held, today):
    at, zone = datetime(*today, 5, tzinfo=UTC), "Pacific/Kiritimati"
    document = json.dumps({"a": held})
    for window, holds in ((Calendar("day"), True), (Calendar("day", 1), False)):
        condition = Anniversary(A, window)
        live = prepared(condition, zone).holds(Known(json.loads(document)), microseconds(at))[0]
        assert by_sql(condition, [document], at, zone) == [live] == [holds]
