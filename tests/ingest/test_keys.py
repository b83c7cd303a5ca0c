import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.ingest.doors.keys import (
    Names,
    email_key,
    identify,
    normalised_email,
    normalised_phone,
    phone_key,
    profile_id,
)
from habitue.lake.keys import KINDS, STRENGTH, external_key, external_of, kind_of
from tests.ingest.doors import SECRET, door

POINTERS = {"external": "/customer", "email": "/email", "phone": "/phone", "profile": "/id"}


@given(st.text() | st.sampled_from(KINDS).map(lambda kind: f"{kind}:x") | st.just("external"))
def test_an_external_id_is_never_taken_for_a_key_of_another_kind(external):
    key = external_key(external)
    assert kind_of(key) == "external"
    assert external_of(key) == external


@given(st.lists(st.text(max_size=20), unique=True))
def test_different_external_ids_have_different_keys(ids):
    assert len({external_key(one) for one in ids}) == len(ids)


def test_kinds_differ_in_strength():
    assert sorted(STRENGTH, key=STRENGTH.__getitem__) == [
        "external", "email", "phone", "profile", "anonymous",
    ]


@given(st.emails() | st.text() | st.text().map(lambda one: f"{one}@é.com"))
def test_normalising_an_email_again_changes_nothing(email):
    once = normalised_email(email)
    if once is not None:
        assert normalised_email(once) == once
        assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ADA@example.com", "ada@example.com"),
        ("\tada@example.com \n", "ada@example.com"),
        ("ade\u0301@example.com", "ad\u00e9@example.com"),
    ],
)
def test_two_ways_to_write_one_email_are_one(one, other):
    assert normalised_email(one) == normalised_email(other) is not None


@pytest.mark.parametrize("other", ["a.da@example.com", "ada+x@example.com"])
def test_dots_and_plus_signs_are_part_of_an_email(other):
    assert normalised_email("ada@example.com") != normalised_email(other)


@pytest.mark.parametrize(
    "email",
    ["", "ada", "@", "ada@", "@x", "a b@x", "a\0@x", f"{'a' * 260}@x", "\ud800@x", "a\nb@x"],
)
def test_what_is_no_email_is_none(email):
    assert normalised_email(email) is None


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("+442079460958", "+442079460958"),
        ("0044 20 7946 0958", "+442079460958"),
        ("+1 (415) 555-0100", "+14155550100"),
        ("+" + "1" * 15, "+" + "1" * 15),
        ("+" + "1" * 16, None),
        ("+123456", None),
        ("+0123456789", None),
        ("4155550100", None),
        ("+1415555٠100", None),
        ("+", None),
        ("", None),
    ],
)
def test_a_phone_number_is_taken_in_e164_form_only(phone, expected):
    assert normalised_phone(phone) == expected


def test_a_surrogate_says_nothing_without_the_shops_secret():
    mine = email_key(SECRET, "ada@example.com")
    assert mine == email_key(SECRET, "ada@example.com")
    assert mine != email_key(b"another", "ada@example.com")
    assert mine.startswith("email:")
    assert len(mine) == len("email:") + 32
    assert "ada" not in mine
    assert phone_key(SECRET, "+442079460958").removeprefix("phone:") != mine.removeprefix("email:")


@given(st.text(), st.text(), st.text(), st.text())
def test_profile_ids_look_alike_and_differ(shop, key, other_shop, other_key):
    found = profile_id(shop, key)
    assert len(found) == 26
    assert found.startswith("01")
    assert set(found) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    assert (found == profile_id(other_shop, other_key)) == ((shop, key) == (other_shop, other_key))


def test_the_strongest_name_is_the_key_and_the_others_are_links():
    faults = []
    who = identify(
        Names(profile="01J", anonymous="a1", phone="+442079460958", email="Ada@x.org", external=42),
        door(), POINTERS, faults,
    )
    assert faults == []
    assert who.key == "42"
    assert [kind_of(key) for key in who.others] == ["email", "phone", "anonymous", "profile"]
    assert [(kind, value) for _, kind, value in who.raw] == [
        ("email", "ada@x.org"), ("phone", "+442079460958"),
    ]


def test_nothing_told_is_no_customer_and_no_fault():
    faults = []
    assert identify(Names(external="", email=None), door(), POINTERS, faults) is None
    assert faults == []


@pytest.mark.parametrize(
    ("names", "pointer"),
    [
        (Names(external=True), "/customer"),
        (Names(external=1.5), "/customer"),
        (Names(external=["x"]), "/customer"),
        (Names(external="x" * 513), "/customer"),
        (Names(external="a\0b"), "/customer"),
        (Names(external=" "), "/customer"),
        (Names(external=1 << 64), "/customer"),
        (Names(email="ada"), "/email"),
        (Names(email=7), "/email"),
        (Names(phone="123"), "/phone"),
        (Names(profile={}), "/id"),
    ],
)
def test_what_can_be_no_identifier_is_a_fault_where_it_stands(names, pointer):
    faults = []
    identify(names, door(), POINTERS, faults)
    assert [(fault.pointer, fault.reason) for fault in faults] == [(pointer, "bad_identifier")]
