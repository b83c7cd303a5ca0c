"""Profiles, consent and catalogue as Klaviyo's clients write them."""

import json
from typing import Any

import pytest

from habitue.events import Consent, Identifier, Item, Link, Money, ProfileChange
from habitue.ingest.doors.keys import email_key, phone_key
from habitue.ingest.doors.klaviyo import catalog
from habitue.ingest.doors.klaviyo.consents import subscribe, subscribe_client, unsubscribe
from habitue.ingest.doors.klaviyo.people import attributes_of
from habitue.ingest.doors.klaviyo.problems import Refused, duplicate_profile, errors_body
from habitue.ingest.doors.klaviyo.profiles import (
    claimed_id,
    claimed_keys,
    merge_profiles,
    tell_profile,
    tell_profiles,
)
from tests.ingest.klaviyo_small import DOOR, PUBLIC, RECEIVED, encoded, nouns, put_of

ADA = {"email": "ada@example.com", "external_id": "cust-42"}


def profile_body(meta: Any = ..., shown: str | None = None, **attributes: Any) -> bytes:
    resource: dict[str, Any] = {"type": "profile", "attributes": attributes}
    if meta is not ...:
        resource["meta"] = {"patch_properties": meta}
    if shown is not None:
        resource["id"] = shown
    return encoded(resource)


def change_of(body: bytes) -> ProfileChange:
    (change,) = nouns(tell_profile(body, DOOR), ProfileChange)
    return change


def faults(translate: Any, body: bytes) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        translate(body, DOOR)
    return [(fault.reason, fault.pointer) for fault in refused.value.faults]


def test_a_profile_is_a_change_of_its_strongest_key_and_links_to_the_others():
    intake = tell_profile(profile_body(**ADA, phone_number="+44 20 7946 0958"), DOOR)

    (entry,) = intake.entries
    assert isinstance(entry.nouns[0], ProfileChange)
    assert entry.nouns[0].customer == "cust-42"
    email = email_key(DOOR.secret, "ada@example.com")
    phone = phone_key(DOOR.secret, "+442079460958")
    assert [one.other for one in nouns(intake, Link)] == [email, phone]
    assert [one.key for one in nouns(intake, Identifier)] == [email, phone]
    assert {one.time for one in entry.nouns} == {RECEIVED}


def test_null_clears_and_what_is_absent_stays():
    change = change_of(
        profile_body(**ADA, first_name="Ada", last_name=None, properties={"plan": None, "n": 1})
    )

    assert put_of(change) == {"first_name": "Ada", "n": 1}
    assert change.clear == ("last_name", "plan")


def test_a_field_of_the_location_changes_alone_and_null_clears_them_all():
    change = change_of(profile_body(**ADA, location={"city": "London", "zip": None}))
    assert put_of(change) == {"location.city": "London"}
    assert change.clear == ("location.zip",)

    assert len(change_of(profile_body(**ADA, location=None)).clear) == 10


def test_properties_are_appended_unappended_and_unset():
    change = change_of(
        profile_body(
            {"append": {"skus": "92538"}, "unappend": {"skus": ["1"]}, "unset": ["a", "title"]},
            **ADA,
        )
    )

    assert json.loads(bytes(change.append)) == {"skus": "92538"}
    assert json.loads(bytes(change.unappend)) == {"skus": ["1"]}
    assert change.clear == ("a", "properties.title")


def test_no_email_stands_in_a_change():
    change = change_of(profile_body(**ADA, first_name="Ada", properties={"plan": "gold"}))

    assert b"example.com" not in bytes(change.put)


def test_what_a_profile_says_can_be_shown_again():
    told = {
        "first_name": "Ada",
        "location": {"city": "London", "latitude": 51.5},
        "properties": {"plan": "gold", "title": "x", "properties.title": 1, "location.city": 2},
    }

    assert attributes_of(put_of(change_of(profile_body(**ADA, **told)))) == told


@pytest.mark.parametrize(
    ("body", "reason", "pointer"),
    [
        (profile_body(first_name="Ada"), "no_customer", "/data"),
        (profile_body(email=""), "bad_identifier", "/data/attributes/email"),
        (profile_body(**ADA, first_name=7), "bad_text", "/data/attributes/first_name"),
        (profile_body(**ADA, location="London"), "bad_json", "/data/attributes/location"),
        (profile_body(**ADA, properties=[]), "bad_json", "/data/attributes/properties"),
        (profile_body([], **ADA), "bad_json", "/data/meta/patch_properties"),
        (profile_body({"unset": 7}, **ADA), "bad_json", "/data/meta/patch_properties/unset"),
        (profile_body({"append": []}, **ADA), "bad_json", "/data/meta/patch_properties/append"),
        (encoded({"type": "event", "attributes": ADA}), "unknown_kind", "/data/type"),
    ],
)
def test_each_fault_of_a_profile_is_told_with_its_place(body, reason, pointer):
    assert faults(tell_profile, body) == [(reason, pointer)]


def test_a_profile_may_have_a_hundred_kilobytes_and_no_more():
    body = profile_body(**ADA, first_name="Ada")
    body = body.replace(b'"Ada"', b" " * (102_400 - len(body)) + b'"Ada"')

    assert tell_profile(body, DOOR).rows == 1
    assert faults(tell_profile, body + b" ") == [("too_large", "")]


def job(count: int, **attributes: Any) -> bytes:
    profiles = [
        {"type": "profile", "attributes": {"external_id": str(n), **attributes}}
        for n in range(count)
    ]
    data = {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": profiles}}}
    return encoded(data)


def test_a_job_may_hold_ten_thousand_profiles_and_no_more():
    assert tell_profiles(job(10_000), DOOR).rows == 10_000
    assert faults(tell_profiles, job(10_001)) == [("too_many", "/data/attributes/profiles/data")]


def test_a_large_profile_of_a_job_is_refused_with_its_place():
    body = job(2, properties={str(n): "x" * 1_000 for n in range(102)})

    place = "/data/attributes/profiles/data"
    assert faults(tell_profiles, body) == [("too_large", f"{place}/{n}") for n in (0, 1)]


def test_the_keys_that_a_request_claims_are_told_strongest_first():
    body = profile_body(**ADA, anonymous_id="a-1", phone_number="+442079460958", shown="01AB")

    assert claimed_keys(body, DOOR) == (
        "cust-42", email_key(DOOR.secret, "ada@example.com"),
        phone_key(DOOR.secret, "+442079460958"), "anonymous:a-1", "profile:01AB",
    )  # fmt: skip
    assert claimed_id(body) == "01AB"


def test_a_conflict_is_told_with_the_other_id():
    (error,) = json.loads(errors_body([duplicate_profile("01XY")]))["errors"]

    assert (error["status"], error["code"]) == (409, "duplicate_profile")
    assert error["meta"] == {"duplicate_profile_id": "01XY"}


def test_a_merge_links_two_profiles_by_their_ids():
    body = encoded({
        "type": "profile-merge",
        "id": "DEST",
        "relationships": {"profiles": {"data": [{"type": "profile", "id": "SRC"}]}},
    })  # fmt: skip

    (link,) = nouns(merge_profiles(body, DOOR), Link)

    assert (link.key, link.other) == ("profile:DEST", "profile:SRC")


def subscriptions(kind: str, **attributes: Any) -> bytes:
    profiles = {"data": [{"type": "profile", "attributes": attributes}]}
    return encoded({"type": kind, "attributes": {"profiles": profiles}})


SUBSCRIBE = "profile-subscription-bulk-create-job"
UNSUBSCRIBE = "profile-subscription-bulk-delete-job"


def marketing(consent: str, **more: str) -> dict[str, Any]:
    return {"marketing": {"consent": consent, **more}}


def test_each_channel_that_is_subscribed_is_a_consent_from_when_it_was_given():
    body = subscriptions(
        SUBSCRIBE,
        **ADA,
        subscriptions={
            "email": marketing("SUBSCRIBED", consented_at="2026-01-02T03:04:05Z"),
            "sms": marketing("SUBSCRIBED"),
        },
    )

    email, sms = nouns(subscribe(body, DOOR), Consent)

    assert (email.channel, email.status, email.time.year, email.time.month, email.backfilled) == (
        "email", "subscribed", 2026, 1, True
    )  # fmt: skip
    assert (sms.channel, sms.time, sms.backfilled) == ("sms", RECEIVED, False)


def test_without_channels_it_is_those_by_which_the_profile_is_reached():
    body = subscriptions(UNSUBSCRIBE, email="ada@example.com", phone_number="+442079460958")

    found = nouns(unsubscribe(body, DOOR), Consent)

    assert [(one.channel, one.status) for one in found] == [
        ("email", "unsubscribed"), ("sms", "unsubscribed"),
    ]  # fmt: skip


def test_a_browser_subscribes_with_its_source():
    profile = {"data": {"type": "profile", "attributes": {"email": "ada@example.com"}}}
    attributes = {"profile": profile, "custom_source": "footer"}

    intake = subscribe_client(encoded({"type": "subscription", "attributes": attributes}), PUBLIC)

    assert [one.method for one in nouns(intake, Consent)] == ["footer"]


@pytest.mark.parametrize(
    ("told", "pointer"),
    [
        ({"email": marketing("MAYBE")}, "/email/marketing/consent"),
        ({"email": marketing("UNSUBSCRIBED")}, ""),
        ({"fax": marketing("SUBSCRIBED")}, "/fax"),
        ({}, ""),
    ],
)
def test_a_consent_that_cannot_be_is_refused(told, pointer):
    body = subscriptions(SUBSCRIBE, **ADA, subscriptions=told)

    place = "/data/attributes/profiles/data/0/attributes/subscriptions"
    assert faults(subscribe, body)[0] == ("bad_consent", place + pointer)


MUG = {
    "external_id": "SKU1", "title": "Enamel mug", "description": "350 ml",
    "url": "https://shop.example/p/sku1", "image_full_url": "https://shop.example/i/sku1.jpg",
    "price": 12.5, "custom_metadata": {"brand": "Acme"},
}  # fmt: skip
MUGS = {"categories": {"data": [{"type": "catalog-category", "id": "$custom:::$default:::MUGS"}]}}


def item_body(kind: str = "catalog-item", **attributes: Any) -> bytes:
    told = {name: value for name, value in {**MUG, **attributes}.items() if value is not ...}
    return encoded({"type": kind, "attributes": told, "relationships": MUGS})


def test_an_item_is_kept_with_what_is_known_of_it_and_published_unless_told_otherwise():
    (item,) = nouns(catalog.create_item(item_body(), DOOR), Item)

    assert (item.item, item.title, item.category, item.brand) == (
        "SKU1", "Enamel mug", "MUGS", "Acme"
    )  # fmt: skip
    assert (item.price, item.published) == (Money(1250, "EUR"), True)
    assert item.image == "https://shop.example/i/sku1.jpg"
    assert item.time == RECEIVED


def test_a_variant_is_an_item_with_its_stock():
    body = item_body("catalog-variant", external_id="SKU1-RED", inventory_quantity=40)

    (item,) = nouns(catalog.create_item(body, DOOR), Item)

    assert (item.item, item.stock) == ("SKU1-RED", 40)


def test_an_update_leaves_what_it_does_not_tell():
    shown = catalog.item_id("SKU1")
    body = encoded({"type": "catalog-item", "id": shown, "attributes": {"price": 9}})

    (item,) = nouns(catalog.update_item(body, DOOR), Item)

    assert (item.item, item.price) == ("SKU1", Money(900, "EUR"))
    assert (item.title, item.published) == (None, None)


def test_a_deleted_item_is_published_no_more():
    (item,) = nouns(catalog.delete_item(catalog.item_id("SKU1"), DOOR), Item)

    assert (item.item, item.published) == ("SKU1", False)
    with pytest.raises(Refused) as refused:
        catalog.delete_item("SKU1", DOOR)
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("changes", "reason", "pointer"),
    [
        ({"title": ...}, "bad_text", "/title"),
        ({"price": "12.50"}, "bad_amount", "/price"),
        ({"published": "yes"}, "bad_json", "/published"),
        ({"custom_metadata": {"a": "x" * 102_400}}, "too_large", "/custom_metadata"),
        ({"inventory_quantity": "many"}, "bad_amount", "/inventory_quantity"),
    ],
)
def test_each_fault_of_an_item_is_told_with_its_place(changes, reason, pointer):
    found = faults(catalog.create_item, item_body(**changes))

    assert found == [(reason, f"/data/attributes{pointer}")]


@pytest.mark.parametrize("kind", ["item", "variant"])
def test_a_job_may_hold_a_hundred_items_and_no_more(kind):
    def body(count: int) -> bytes:
        items = [
            {"type": f"catalog-{kind}", "attributes": {**MUG, "external_id": str(n)}}
            for n in range(count)
        ]
        attributes = {f"{kind}s": {"data": items}}
        return encoded({"type": f"catalog-{kind}-bulk-create-job", "attributes": attributes})

    assert catalog.create_items(body(100), DOOR).rows == 100
    assert faults(catalog.create_items, body(101)) == [
        ("too_many", f"/data/attributes/{kind}s/data")
    ]
