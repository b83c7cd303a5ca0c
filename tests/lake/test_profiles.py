from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.events import Event, Link, Noun
from habitue.lake.deltalog import storage_of
from habitue.lake.eventlog.records import Entry, Part, Record, encode
from habitue.lake.identity import resolve
from habitue.lake.keys import profile_id
from habitue.lake.profiles import LiveConsent, LiveProfile, Profiles
from habitue.lake.query import read
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake
from tests.lake.people import (
    ADA,
    APP,
    BOB,
    TEL,
    WEB,
    A,
    B,
    change,
    consent,
    identifier,
    link,
    rows_of,
    told,
)
from tests.lake.small import day, event

SHOWN = f"profile:{profile_id('acme', ADA)}"
KEYS = (A, B, ADA, BOB, TEL, WEB, APP, SHOWN, "profile:X")


@pytest.fixture
def profiles(tmp_path):
    opened = Profiles(tmp_path / "profiles.sqlite")
    yield opened
    opened.close()


def records(nouns: Sequence[Noun], start: int = 0) -> list[Record]:
    """A row of the log for each noun."""
    return [
        Record(place, encode(Part("r", "acme", "web", "/", noun.received, (Entry(0, (noun,)),))))
        for place, noun in enumerate(nouns, start)
    ]


def apply(profiles: Profiles, *nouns: Noun) -> Profiles:
    profiles.apply(0, records(nouns, profiles.cursor(0)))
    return profiles


def seen(key: str, at: float, name: str = "item_viewed", **changes: object) -> Event:
    told = {"customer": key, "name": name, "value": None, "order": None, "lines": ()}
    return event(changes.pop("id", f"{key}{at}"), at, **(told | changes))


def test_a_profile_is_everything_that_its_keys_tell(profiles):
    apply(
        profiles, seen(WEB, 1), link(A, WEB, 2), seen(A, 3, "order_placed"), link(A, ADA, 3),
        change(WEB, 1, '{"plan": "free", "n": 1.50}'), change(A, 3, '{"plan": "gold"}'),
        consent(ADA, 2, "subscribed"), consent(A, 4, "subscribed", method="form"),
        identifier(ADA, "ada@example.com", 3),
    )  # fmt: skip
    (found,) = profiles.find("acme", WEB, ADA)
    assert found == LiveProfile(
        shop="acme", id=profile_id("acme", A), customer=A, keys=(A, ADA, WEB),
        email="ada@example.com", phone=None, properties=msgspec.Raw(b'{"plan":"gold","n":1.50}'),
        consents={"email": LiveConsent("subscribed", day(2), "form")},
        created=day(1), updated=day(4), last_event=day(3),
        counts={"item_viewed": 1, "order_placed": 1},
    )  # fmt: skip
    assert profiles.get("acme", profile_id("acme", WEB)) == found
    assert profiles.find("acme", SHOWN) == [found]
    assert profiles.find("rival", WEB) == profiles.find("acme", "stranger") == []
    named = profiles.named("acme", WEB)
    assert (named.id, named.customer) == (found.id, found.customer)
    assert sorted(named.keys) == sorted(found.keys)
    assert named == profiles.named("acme", found.id) == profiles.named("acme", SHOWN)
    assert profiles.named("rival", WEB) is profiles.named("acme", "stranger") is None


def test_what_is_told_again_is_counted_once(profiles):
    apply(profiles, seen(A, 1), seen(A, 1))
    apply(profiles, seen(A, 1), seen(A, 2))
    assert profiles.find("acme", A)[0].counts == {"item_viewed": 2}
    assert profiles.names("acme")["item_viewed"].events == 2


def test_rows_before_the_cursor_are_not_applied_again(profiles):
    rows = records([seen(A, 1), seen(A, 2)])
    profiles.apply(0, rows)
    profiles.apply(0, rows)
    assert profiles.cursor(0) == 2
    assert profiles.find("acme", A)[0].counts == {"item_viewed": 2}


def test_a_crash_while_applying_changes_nothing(profiles):
    broken = [*records([seen(A, 1)]), Record(1, b"no part")]
    with pytest.raises(msgspec.DecodeError):
        profiles.apply(0, broken)
    assert profiles.cursor(0) == 0
    assert profiles.find("acme", A) == []


def test_a_reader_opens_while_a_writer_is_at_work_and_sees_what_was_there(profiles):
    apply(profiles, seen(A, 1))
    with profiles.writing() as connection:
        connection.execute("DELETE FROM counts")
        reader = Profiles(profiles.path)
        assert reader.find("acme", A)[0].counts == {"item_viewed": 1}
        reader.close()


def test_what_is_refused_never_enters(tmp_path):
    opened = Profiles(tmp_path / "live.sqlite", refuses=lambda noun: noun.time <= day(1))
    apply(opened, seen(A, 1), seen(A, 2))
    assert opened.find("acme", A)[0].created == day(2)
    opened.close()


def test_a_page_follows_another_in_every_order(profiles):
    apply(profiles, *(seen(f"c_{n}", n % 3) for n in range(7)), seen("c", 1, shop="rival"))
    for by in ("id", "created", "updated"):
        for descending in (False, True):
            pages, after = [], None
            while page := profiles.page("acme", most=2, by=by, descending=descending, after=after):
                pages += page
                after = page[-1]
            places = [(getattr(one, by), one.id) for one in pages]
            assert places == sorted(places, reverse=descending)
            assert len({one.id for one in pages}) == 7


def test_a_conflict_names_the_profile_that_has_the_identifier(profiles):
    apply(profiles, link(A, ADA, 1), seen(WEB, 1))
    assert profiles.conflict("acme", [WEB, ADA]) == profile_id("acme", A)
    assert profiles.conflict("acme", [WEB, BOB]) is None
    assert profiles.conflict("rival", [ADA]) is None


def test_who_is_forgotten_leaves_nothing_behind(profiles, tmp_path):
    secret = "ada@example.com"
    apply(
        profiles, seen(WEB, 1), seen(ADA, 2, id="hidden"), link(WEB, ADA, 2), link(WEB, APP, 1),
        identifier(ADA, secret, 2), change(ADA, 2, '{"plan": "gold"}'), seen(B, 1),
    )  # fmt: skip
    assert profiles.forget("acme", [ADA, "stranger"]) == 1
    assert profiles.find("acme", ADA) == []
    (left,) = profiles.find("acme", WEB, APP)
    assert (left.customer, left.keys, bytes(left.properties)) == (APP, (APP, WEB), b"{}")
    assert profiles.names("acme")["item_viewed"].events == 2
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in held
    assert ADA.encode() not in held


def test_a_pair_that_is_told_earlier_after_all_keeps_its_key(profiles):
    apply(profiles, link(A, WEB, 3))
    apply(profiles, link(B, WEB, 2))
    assert profiles.customers_of("acme", [WEB]) == {WEB: B}
    apply(profiles, link(A, WEB, 1))
    assert profiles.customers_of("acme", [WEB]) == {WEB: A}


def test_after_an_undo_a_pair_is_joined_again_by_who_means_it(profiles):
    apply(profiles, link(A, WEB, 1))
    apply(profiles, link(WEB, A, 2, undo=True))
    assert profiles.customers_of("acme", [WEB]) == {WEB: WEB}
    apply(profiles, link(A, WEB, 3))
    assert profiles.customers_of("acme", [WEB]) == {WEB: WEB}
    apply(profiles, link(A, WEB, 4, cause="person"))
    assert profiles.customers_of("acme", [WEB]) == {WEB: A}


def test_imports_are_caught_up_with_and_told_once(profiles, tmp_path):
    lake = told(Lake(tmp_path / "lake"), seen(A, 1), link(A, ADA, 1))
    apply(profiles, seen(A, 1), seen(ADA, 2))
    assert profiles.catch_up(lake) > 0
    assert profiles.catch_up(lake) == 0
    (found,) = profiles.find("acme", ADA)
    assert (found.customer, found.counts) == (A, {"item_viewed": 2})
    told(lake, seen(A, 3))
    assert profiles.catch_up(lake) == 1
    assert profiles.find("acme", A)[0].counts == {"item_viewed": 3}


def test_the_log_is_followed_from_where_the_lake_was(profiles, tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = rows_of([seen(A, 1)])
    lake.append(rows, cursors={"log-0": 7})
    apply(profiles, seen(B, 1))
    profiles.rebuild(lake)
    assert profiles.cursor(0) == 7
    assert profiles.find("acme", B) == []
    assert profiles.find("acme", A)[0].counts == {"item_viewed": 1}


class Files:
    """A lake of single files, which costs a millisecond."""

    sequence = 0
    buckets = 1
    storage = storage_of(Path())
    source = storage.source

    def __init__(self, path: Path, nouns: Sequence[Noun]) -> None:
        self._files: dict[str, list[str]] = {}
        settings = {"shop": "acme", "received": day(0), "timezone": "UTC", "bucket": 0}
        begun = pa.Table.from_pylist([settings], schema=TABLES["shops"].schema)
        for name, rows in {**rows_of(nouns), "shops": begun.drop_columns("bucket")}.items():
            file = path / name / "bucket=0" / "part-00000000-0.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(rows, file)
            self._files[name] = [str(file)]

    def files(self, name: str) -> list[str]:
        return self._files.get(name, [])

    def shops(self) -> list[str]:
        return ["acme"]

    def cursor(self, application: str) -> int:
        return -1


def by_the_lake(lake: Files) -> dict[str, dict]:
    """Every customer as the views tell them."""

    def rows(sql: str) -> list[dict]:
        return read(lake, sql, shop="acme").to_pylist()

    found: dict[str, dict] = {}
    counted = "SELECT customer, name, count(*) AS n, max(time) AS t FROM events GROUP BY ALL"
    for row in rows(counted):
        held = found.setdefault(row["customer"], {})
        held.setdefault("counts", {})[row["name"]] = row["n"]
        held["last"] = max(held.get("last", row["t"]), row["t"])
    for row in rows("SELECT customer, properties FROM profiles"):
        found.setdefault(row["customer"], {})["properties"] = row["properties"]
    for row in rows("SELECT * FROM consents"):
        consents = found.setdefault(row["customer"], {}).setdefault("consents", {})
        consents[row["channel"]] = (row["status"], row["since"], row["method"])
    return found


def by_the_live_state(profiles: Profiles) -> dict[str, dict]:
    found = {}
    for one in profiles.page("acme", most=100):
        held = {
            "counts": one.counts,
            "last": one.last_event,
            "properties": bytes(one.properties).decode(),
            "consents": {
                name: (told.status, told.since, told.method) for name, told in one.consents.items()
            },
        }
        found[one.customer] = {name: value for name, value in held.items() if value}
    return found


def without_nothing(found: dict[str, dict]) -> dict[str, dict]:
    """Customers of whom anything is known; properties that were all cleared are none."""
    kept = {
        customer: {name: told for name, told in held.items() if told != "{}"}
        for customer, held in found.items()
    }
    return {customer: held for customer, held in kept.items() if held}


keys, days = st.sampled_from(KEYS), st.integers(0, 5)
later = st.integers(5, 6).map(day)
OBJECTS = ('{"a": 1}', '{"a": [1, 2]}', '{"b": "x"}', '{"a": null, "b": true}')
nouns = st.one_of(
    st.builds(link, keys, keys, days, received=later, public=st.booleans(),
              undo=st.integers(0, 3).map(lambda one: one == 0)),
    st.builds(seen, keys, days, st.sampled_from(["item_viewed", "order_placed"]), received=later),
    st.builds(change, keys, days, st.sampled_from(["{}", *OBJECTS]), received=later,
              append=st.sampled_from(["{}", '{"a": 3}', '{"a": [1, 4]}', '{"b": "y"}']),
              unappend=st.sampled_from(["{}", '{"a": 1}']),
              clear=st.sampled_from([(), ("a",), ("a", "b")])),
    st.builds(consent, keys, days, st.sampled_from(["subscribed", "unsubscribed"]), received=later,
              channel=st.sampled_from(["email", "sms"])),
)  # fmt: skip


@given(batches=st.lists(st.lists(nouns, max_size=6), max_size=5), again=st.integers(0, 4))
def test_the_live_state_says_what_the_lake_says(tmp_path_factory, batches, again):
    folder = tmp_path_factory.mktemp("live")
    live, derived = Profiles(folder / "a.sqlite"), Profiles(folder / "b.sqlite")
    first: dict[bytes, Noun] = {}
    for batch in [*batches, *batches[:again]]:
        apply(live, *batch)
        for noun in batch:
            first.setdefault(noun.digest, noun)
    lake = Files(folder, list(first.values()))
    derived.rebuild(lake)
    expected = without_nothing(by_the_lake(lake))
    assert without_nothing(by_the_live_state(live)) == expected
    assert live.page("acme", most=100) == derived.page("acme", most=100)
    everyone = [noun.key for noun in first.values() if hasattr(noun, "key")]
    sql = "SELECT key, any_value(customer) AS customer FROM events GROUP BY key"
    told_keys = {row["key"]: row["customer"] for row in read(lake, sql, shop="acme").to_pylist()}
    assert told_keys.items() <= live.customers_of("acme", [*told_keys, *everyone]).items()
    for opened in (live, derived):
        opened.close()


pairs = st.sampled_from(((A, WEB), (B, WEB), (SHOWN, WEB), (A, ADA)))
few_nouns = st.one_of(
    st.builds(lambda pair, at, **told: link(*pair, at, **told), pairs, st.integers(0, 3),
              received=later, public=st.booleans(), undo=st.booleans()),
    st.builds(seen, st.sampled_from((ADA, WEB, SHOWN)), st.integers(0, 3)),
)  # fmt: skip


@settings(max_examples=4 * settings.default.max_examples)
@given(batches=st.lists(st.lists(few_nouns, max_size=2), max_size=8))
def test_after_every_batch_keys_are_whose_all_links_so_far_say(batches):
    live = Profiles(":memory:")
    first: dict[bytes, Noun] = {}
    for batch in batches:
        apply(live, *batch)
        for noun in batch:
            first.setdefault(noun.digest, noun)        # of equal identities the first stands
        links = [noun for noun in first.values() if isinstance(noun, Link)]
        keys = {noun.customer for noun in first.values() if isinstance(noun, Event)}
        keys |= {key for one in links for key in (one.key, one.other)}
        rows = rows_of(links).get("links", TABLES["links"].schema.empty_table())
        found = resolve(rows, shop="acme", seen=sorted(keys))
        assert live.customers_of("acme", sorted(keys)) == {
            key: found.customer_of(key) for key in keys
        }
        names = set(map(found.customer_of, keys))
        assert {one.customer for one in live.page("acme", most=100)} == names
    live.close()
