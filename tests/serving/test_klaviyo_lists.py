"""What all of Klaviyo's lists share: the grammar of filters, and cursors that only we can write."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.serving.doors.klaviyo.wire.cursors import BadCursor, cursor, place_of
from habitue.serving.doors.klaviyo.wire.filters import (
    MOST_FILTERS,
    OPERATORS,
    BadFilter,
    Filter,
    checked,
    moment,
    parsed,
    written,
)

SECRET = b"s" * 32

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1))  # noqa: DTZ001
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,12}", fullmatch=True)
single = st.builds(
    Filter, st.sampled_from([one for one in OPERATORS if one not in ("any", "has")]), names, scalars
)
several = st.builds(
    Filter, st.just("any"), names, st.lists(scalars, min_size=1, max_size=5).map(tuple)
)
filters = st.lists(
    single | several | st.builds(Filter, st.just("has"), names), min_size=1, max_size=MOST_FILTERS
).map(tuple)


@given(told=filters)
def test_a_filter_is_read_as_it_was_written(told):
    assert parsed(written(told)) == told


@given(text=st.text(max_size=80) | st.text(alphabet='equalsny(),"[]\\:-T0123456789. ', max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        found = parsed(text)
    except BadFilter as error:
        assert str(error)
    else:
        assert parsed(written(found)) == found


def test_klaviyos_own_examples_are_read():
    two = "less-than(updated,2026-04-26T00:00:00Z),greater-than(updated,2026-04-19T00:00:00+02:00)"
    less, greater = parsed(two)
    assert (less.operator, less.field) == ("less-than", "updated")
    assert moment(greater) == datetime(2026, 4, 18, 22, tzinfo=UTC)
    assert parsed('any(email,["a@b.c", "d@e.f"])') == (Filter("any", "email", ("a@b.c", "d@e.f")),)
    assert parsed("equals(is_starred,true)") == (Filter("equals", "is_starred", True),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at character 1"),
        ("equals", "'('"),
        ("resembles(email,1)", "no operator"),
        ("equals(email,ada)", "double quotes"),
        ('equals(email,"ada)', "a text that ends"),
        ('any(email,"ada")', "list in brackets"),
        ('equals(email,["ada"])', "list in brackets"),
        ("any(email,[])", "empty"),
        ("equals(created,2026-13-45)", "double quotes"),
        ("equals(value,1),", "an operator"),
        ("equals(value,1)x", "','"),
        (",".join(["equals(a,1)"] * 21), "at most 20"),
    ],
)
def test_a_bad_filter_is_told_what_is_bad(text, told):
    with pytest.raises(BadFilter, match=told.replace("(", r"\(")):
        parsed(text)


def test_a_list_knows_its_fields_and_their_operators():
    known = {"email": ("equals", "any")}
    assert checked(parsed('equals(email,"a")'), known)
    with pytest.raises(BadFilter, match="no field"):
        checked(parsed('equals(mail,"a")'), known)
    with pytest.raises(BadFilter, match="'email' takes equals, any"):
        checked(parsed('contains(email,"a")'), known)


places = st.lists(st.text(max_size=20) | st.integers(-(2**63), 2**63 - 1), max_size=4)


@given(place=places)
def test_a_cursor_is_taken_in_each_form_that_a_client_sends(place):
    token = cursor(place, SECRET, "profiles id")
    address = f"http://127.0.0.1:8787/api/profiles?page[size]=2&page[cursor]={token}&sort=id"
    encoded = address.replace("[", "%5B").replace("]", "%5D")
    for told in (token, f"={token}", address, encoded, f"={token}&sort=id"):
        assert place_of(told, SECRET, "profiles id") == place


@given(place=places, at=st.integers(0, 200), other=st.sampled_from("ABCxyz019_-"))
def test_a_cursor_that_was_changed_is_refused(place, at, other):
    token = cursor(place, SECRET, "profiles id")
    at %= len(token)
    forged = token[:at] + other + token[at + 1 :]
    try:
        found = place_of(forged, SECRET, "profiles id")
    except BadCursor:
        return
    assert found == place                  # the last bits of a letter may say nothing


@given(told=st.text(max_size=100))
def test_any_text_that_is_no_cursor_is_refused(told):
    with pytest.raises(BadCursor):
        place_of(told, SECRET, "profiles id")


def test_a_cursor_is_of_one_shop_and_one_list():
    token = cursor(["a", 1], SECRET, "profiles id")
    for secret, scope in ((b"t" * 32, "profiles id"), (SECRET, "profiles -id"), (SECRET, "events")):
        with pytest.raises(BadCursor):
            place_of(token, secret, scope)
