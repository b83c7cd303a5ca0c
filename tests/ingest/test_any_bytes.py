"""Whatever bytes come by whichever door: every input is counted once, or the whole is refused."""

import gzip
import json
from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.errors import BadFile, BadMapping
from habitue.ingest.doors import native, posthog, segment
from habitue.ingest.doors.intake import Door, Intake, Malformed
from habitue.ingest.files import stage
from habitue.ingest.history.api import Page
from habitue.ingest.history.pages import (
    last_time,
    metric_names,
    read_events,
    read_items,
    read_profiles,
)
from tests.ingest.doors import NOW, assert_counted, door
from tests.ingest.small import lines
from tests.ingest.test_klaviyo_any import JSON

TRANSLATORS: dict[str, Callable[[bytes, Door], Intake]] = {
    "native": native.translate,
    "segment": segment.translate,
    "segment, any": segment.translate_any,
    **{
        f"segment, {type}": partial(segment.translate_call, type=type) for type in segment.TYPES
    },
    "posthog": posthog.translate,
}
FEW = settings(max_examples=min(settings().max_examples, 150))       # of each of many doors

# what tears a reader of lines, of JSON, of text
PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff",
        b"\\ud83d", b"\\u0000", b'{"events":[', b'"batch":[', b'"name":"x"', b'"userId":"u"',
        b'"type":"track"', b'"event":"x"', b"1e999", b"-0", b"9" * 400, b"null", b"true",
        b"[" * 2_000, "é😀\u2028".encode(), b'"time":"9999-12-31T23:59:59-23:59"',
    ]
)  # fmt: skip
BYTES = st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join)
NAMED = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("type", "kind", "event", "name", "customer", "userId", "anonymousId", "distinct_id",
         "properties", "traits", "context", "timestamp", "time", "sentAt", "batch", "events",
         "messageId", "uuid", "api_key", "lines", "value"),
        JSON,
    ),
)  # fmt: skip


def counted(translate: Callable[[bytes, Door], Intake], body: bytes, source: str) -> None:
    for public in (False, True):
        try:
            intake = translate(body, door(source, public=public, currency="GBP"))
        except Malformed as error:
            assert 400 <= error.status < 500
            assert str(error)
        else:
            assert_counted(intake)
            for entry in intake.entries:
                msgspec.json.encode(entry)


@pytest.mark.parametrize("name", TRANSLATORS)
@FEW
@given(body=BYTES)
def test_any_bytes_are_counted_or_malformed(name, body):
    counted(TRANSLATORS[name], body, name.partition(",")[0])


@pytest.mark.parametrize("name", TRANSLATORS)
@FEW
@given(told=st.lists(NAMED | JSON, max_size=3) | NAMED)
def test_anything_under_the_names_that_a_door_knows_is_counted_or_malformed(name, told):
    body = json.dumps(told).encode()
    counted(TRANSLATORS[name], body, name.partition(",")[0])


@given(chunks=st.lists(BYTES, max_size=6))
def test_any_stream_is_counted(chunks):
    stream = native.Stream(door(currency="GBP"))
    parts = [stream.feed(one) for one in chunks]
    parts.append(stream.finish())
    found = Intake(
        rows=sum(part.rows for part in parts),
        entries=tuple(entry for part in parts for entry in part.entries),
        rejections=tuple(one for part in parts for one in part.rejections),
    )
    assert_counted(found)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "ndjson", "parquet", "csv.gz"])
@settings(max_examples=min(settings().max_examples // 2, 100))
@given(
    body=BYTES
    | st.lists(PIECES, max_size=8).map(
        lambda parts: b"customer,order,time,item,quantity,price,title\n" + b"".join(parts)
    )
    | st.lists(NAMED, max_size=3).map(
        lambda rows: b"\n".join(json.dumps(one).encode() for one in rows)
    )
)
def test_any_file_is_counted_or_refused(tmp_path_factory, suffix, body):
    path = tmp_path_factory.mktemp("any") / f"a.{suffix}"
    path.write_bytes(gzip.compress(body) if suffix.endswith("gz") else body)
    mapping, quiet = lines(), lambda share: None
    try:
        with stage(path, mapping, zone="UTC", now=NOW, progress=quiet) as staged:
            assert 0 <= staged.taken <= staged.rows
    except (BadFile, BadMapping) as error:
        assert str(error)


@given(
    resources=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "type": JSON, "id": JSON,
                "attributes": JSON | st.fixed_dictionaries(
                    {}, optional=dict.fromkeys(
                        ("datetime", "event_properties", "timestamp", "email", "name", "title",
                         "external_id", "phone_number", "properties", "updated", "uuid"), JSON)),
                "relationships": JSON | st.fixed_dictionaries(
                    {}, optional=dict.fromkeys(("profile", "metric"), JSON
                        | st.fixed_dictionaries({"data": JSON}))),
            },
        ),
        max_size=3,
    )
)  # fmt: skip
def test_any_page_of_the_past_is_told_or_rejected_one_by_one(resources):
    page, through = Page(resources=resources), door("klaviyo", currency="GBP")
    for sheet in (
        read_events(page, 0, {}, through), read_profiles(page, 0, through),
        read_items(page, 0, through),
    ):  # fmt: skip
        told = len(sheet.events) + len(sheet.entries) + len(sheet.rejections)
        assert told == len(resources)
    list(metric_names(page))
    last_time(page, through)
