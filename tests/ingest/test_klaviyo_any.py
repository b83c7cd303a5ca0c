"""Whatever is sent to Klaviyo's doors: an `Intake` or problems, never anything else."""

import json
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.ingest.doors.intake import Door, Intake
from habitue.ingest.doors.klaviyo.problems import Refused, errors_body
from habitue.ingest.doors.klaviyo.profiles import claimed_id, claimed_keys
from habitue.ingest.doors.klaviyo.routes import ROUTES
from habitue.lake.eventlog.records import Part, decode, encode
from habitue.lake.eventlog.rows import TABLE_OF, digests_of, rows_of
from tests.ingest.klaviyo_examples import EXAMPLES, paths
from tests.ingest.klaviyo_small import DOOR, PUBLIC

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3)
    | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=12,
)  # fmt: skip
PLACES = [
    (place, path)
    for place, (_, example) in enumerate(EXAMPLES)
    for path in paths(example)
]


def answered(translate: Any, body: bytes, door: Door = DOOR) -> Intake | Refused:
    """What came of a request: all of it can be stored, or the refusal can be told."""
    try:
        intake = translate(body, door)
    except Refused as refused:
        assert 400 <= refused.status < 500
        told = msgspec.json.decode(errors_body(refused.problems))["errors"]
        assert len(told) == len(refused.problems) > 0
        return refused
    assert intake.rows == len(intake.entries) + len(intake.rejections)
    part = Part("r", door.shop, door.source, "/", door.received, intake.entries)
    found = [noun for entry in decode(encode(part)).entries for noun in entry.nouns]
    for kind, name in TABLE_OF.items():
        rows = [noun for noun in found if isinstance(noun, kind)]
        rows_of(name, rows, digests_of(rows), ["r"] * len(rows))
    return intake


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_every_example_of_the_schema_is_taken(path, example):
    translators = {route.path: route.translate for route in ROUTES}

    assert isinstance(answered(translators[path], json.dumps(example).encode()), Intake)


@given(route=st.sampled_from(ROUTES), value=JSON)
def test_any_json_is_taken_or_refused(route, value):
    for body in (value, {"data": value}, {"data": {"type": "event", "attributes": value}}):
        answered(route.translate, json.dumps(body).encode())


@given(route=st.sampled_from(ROUTES), body=st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused(route, body):
    assert isinstance(answered(route.translate, body), Refused)


@settings(max_examples=300)
@given(place=st.sampled_from(PLACES), value=JSON, public=st.booleans())
def test_an_example_with_anything_in_any_place_is_taken_or_refused(place, value, public):
    number, way = place
    path, example = EXAMPLES[number]
    changed = deepcopy(example)
    inside = changed
    for step in way[:-1]:
        inside = inside[step]
    inside[way[-1]] = value
    body = json.dumps(changed).encode()

    for route in ROUTES:
        if route.path == path:
            answered(route.translate, body, PUBLIC if public else DOOR)
    for claimed in (lambda told, _: claimed_id(told), claimed_keys):
        try:
            claimed(body, DOOR)
        except Refused as refused:
            assert refused.problems


@given(place=st.sampled_from(PLACES))
def test_an_example_that_lacks_anything_is_taken_or_refused(place):
    number, way = place
    path, example = EXAMPLES[number]
    changed = deepcopy(example)
    inside = changed
    for step in way[:-1]:
        inside = inside[step]
    del inside[way[-1]]

    for route in ROUTES:
        if route.path == path:
            answered(route.translate, json.dumps(changed).encode())
