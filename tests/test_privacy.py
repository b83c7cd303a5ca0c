"""Erasure and export: what is kept of a customer, wherever it is kept, and nobody else's."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

import habitue
from habitue import privacy, upkeep
from habitue.config import utc_now
from habitue.errors import BadSetting, LogUnavailable
from habitue.events import Event, Money, ProfileChange, Rejection
from habitue.ingest.commit import Committer
from habitue.ingest.doors.intake import Door
from habitue.ingest.doors.keys import Names, Said, identify, stitched
from habitue.lake.eventlog.records import Entry, Part, encode
from habitue.lake.profiles import Profiles
from habitue.lake.query import read
from habitue.refusals import Refusals

EMAIL, PHONE = "ada@example.com", "+442079460958"
NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def told(shop, secret: bytes, key: str, email: str | None, number: int, at=NOW) -> Entry:
    """One order of a customer who is named by an external id and an email."""
    door = Door(shop=shop, source="native", received=at, secret=secret)
    who = identify(Names(external=key, email=email, phone=PHONE if email else None), door, {}, [])
    event = Event(
        shop=shop, source="native", id=f"{key}-{number}-{at.isoformat()}", customer=who.key,
        name="order_placed", time=at, received=at, value=Money(500, "GBP"), order=f"{key}{number}",
        properties=msgspec.Raw(b'{"note":"of %s"}' % key.encode()),
    )  # fmt: skip
    change = ProfileChange(
        shop=shop, source="native", customer=who.key, time=at, received=at,
        put=msgspec.Raw(json.dumps({"first_name": key.title()}).encode()),
    )  # fmt: skip
    return Entry(number, (event, change, *stitched(who, Said(time=at, cause="event"), door)))


def request_of(shop: str, entries, *, rejections=(), receipt="r1", at=NOW) -> bytes:
    return encode(Part(receipt, shop, "native", "/v1/events", at, tuple(entries), rejections))


@pytest.fixture
def workspace(tmp_path):
    """Two shops with the same two customers each, settled; and a rejected input that names Ada."""
    workspace = habitue.open(tmp_path / "work")
    with closing(workspace.log) as log:
        for shop in ("acme", "rival"):
            secret = workspace.directory.shop(shop, create=True).secret
            entries = [
                told(shop, secret, "c_ada", EMAIL, 0), told(shop, secret, "c_bo", None, 1)
            ]
            refused = Rejection(
                position=2, pointer="/time", reason="bad_time",
                payload=json.dumps({"email": "ADA@example.com", "time": "?"}),
            )  # fmt: skip
            log.append(0, [request_of(shop, entries, rejections=(refused,), receipt=shop)])
        settle(workspace, log)
    return workspace


def settle(workspace, log) -> None:
    refuses = Refusals(workspace.directory)
    with closing(Committer(workspace.lake, log, 0, refuses=refuses)) as committer:
        while committer.step() is not None:
            pass
    with closing(Profiles(workspace.places.profiles, refuses=refuses)) as profiles:
        profiles.catch_up(workspace.lake)


def erase(workspace, shop="acme", key="c_ada", now=LATER):
    job = privacy.request(workspace.places, shop, [key], now=now)
    return privacy.finish(workspace.places, job, now=now)


def mentioned(folder: Path, *texts: str) -> set[str]:
    """Files that hold a text, Parquet and log decoded."""
    found = set()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        held = path.read_bytes()
        if path.suffix == ".parquet" and "checkpoint" not in path.name:
            held += str(pq.read_table(path, partitioning=None).to_pylist()).encode()
        if any(text.encode() in held or text.lower().encode() in held.lower() for text in texts):
            found.add(str(path.relative_to(folder)))
    return found


def test_an_erased_customer_is_nowhere_and_everybody_else_is_where_they_were(workspace):
    places = workspace.places
    before = {
        shop: read(places.lake, "SELECT * FROM events ORDER BY id", shop=shop).to_pylist()
        for shop in ("acme", "rival")
    }
    surrogate = workspace.shop("acme").key_of(email=EMAIL)
    assert mentioned(workspace.path, surrogate)
    job = erase(workspace)
    assert job.status == "complete"
    assert job.detail["rows_left"] == 0
    held = {name: count for name, count in job.detail["rows_erased"].items() if count}
    assert held == {"events": 1, "identifiers": 2, "links": 2, "profiles": 1}
    after = read(places.lake, "SELECT * FROM events ORDER BY id", shop="acme").to_pylist()
    assert after == [row for row in before["acme"] if row["key"] == "c_bo"]
    rival = read(places.lake, "SELECT * FROM events ORDER BY id", shop="rival").to_pylist()
    assert rival == before["rival"]
    assert not mentioned(workspace.path, surrogate)
    payloads = workspace.shop("acme").rejected()["payload"].to_pylist()
    assert payloads == [""]
    assert EMAIL in workspace.shop("rival").rejected()["payload"][0].as_py().lower()


def test_no_file_of_a_workspace_with_one_shop_names_the_erased(tmp_path):
    workspace = habitue.open(tmp_path / "work")
    secret = workspace.directory.shop("acme", create=True).secret
    with closing(workspace.log) as log:
        # one commit after the other, so that there are former versions and merged files
        for number in range(3):
            entry = told("acme", secret, "c_ada", EMAIL, 0, at=NOW + timedelta(hours=number))
            log.append(0, [request_of("acme", [entry], receipt=f"r{number}")])
            settle(workspace, log)
        workspace.compact()
    assert mentioned(workspace.path, EMAIL, "c_ada", PHONE)
    assert erase(workspace, now=NOW + timedelta(days=2)).status == "complete"
    assert mentioned(workspace.path, EMAIL, "c_ada", PHONE, "of c_ada", "C_Ada") == set()


def test_any_identity_finds_the_whole_customer(workspace):
    job = erase(workspace, key=workspace.shop("acme").key_of(phone=PHONE))
    assert job.detail["rows_erased"]["events"] == 1
    found = workspace.shop("acme").customer("c_ada")
    assert not found.is_known


def test_what_comes_again_from_before_is_refused_and_what_comes_later_is_a_new_customer(workspace):
    erase(workspace)
    secret = workspace.directory.shop("acme").secret
    again = told("acme", secret, "c_ada", EMAIL, 0)
    new = told("acme", secret, "c_ada", EMAIL, 1, at=LATER + timedelta(hours=1))
    with closing(workspace.log) as log:
        log.append(0, [request_of("acme", [again, new], receipt="r2")])
        settle(workspace, log)
    sql = "SELECT id FROM events WHERE key = 'c_ada'"
    ids = read(workspace.lake, sql, shop="acme")["id"].to_pylist()
    assert ids == [new.nouns[0].id]
    reasons = workspace.shop("acme").rejected()["reason"].to_pylist()
    assert sorted(reasons) == ["bad_time", "erased"]


def test_what_waits_in_the_log_is_erased_too(workspace):
    secret = workspace.directory.shop("acme").secret
    with closing(workspace.log) as log:
        log.append(0, [request_of("acme", [told("acme", secret, "c_ada", EMAIL, 7)])])
    assert erase(workspace).status == "complete"
    assert not mentioned(workspace.path / "log", "c_ada7")


def test_beside_a_service_an_erasure_waits_for_the_log_and_then_completes(workspace):
    places = workspace.places
    job = privacy.request(places, "acme", ["c_ada"], now=LATER)
    with closing(workspace.log) as service:
        secret = workspace.directory.shop("acme").secret
        service.append(0, [request_of("acme", [told("acme", secret, "c_bo", None, 5)])])
        with pytest.raises(LogUnavailable):
            privacy.finish(places, job, now=LATER)
        settle(workspace, service)
        job = privacy.advance(places, job, now=LATER)
        assert job.status == "processing"          # the log still holds it
        assert privacy.pending(places) == [job]
        service.rotate(0)
        service.trim(0, service.end(0))
        job = privacy.advance(places, job, now=LATER)
    assert job.status == "complete"
    assert privacy.pending(places) == []


def test_who_follows_the_log_and_notices_an_erasure_late_leaves_nobody_behind(workspace):
    places = workspace.places
    secret = workspace.directory.shop("acme").secret
    with closing(workspace.log) as service:
        cursor = service.end(0)
        service.append(0, [request_of("acme", [told("acme", secret, "c_ada", EMAIL, 7)])])
        late = Refusals(workspace.directory)       # as read by a process a moment before
        job = privacy.request(places, "acme", ["c_ada"], now=LATER)
        with closing(Committer(workspace.lake, service, 0)) as committer:
            while committer.step() is not None:
                pass
        job = privacy.advance(places, job, now=LATER)
        with closing(Profiles(places.profiles, refuses=late)) as profiles:
            profiles.apply(0, service.read(0, cursor, most_bytes=1_000_000))
            assert profiles.find("acme", "c_ada")
        service.rotate(0)
        service.trim(0, service.end(0))
        assert privacy.advance(places, job, now=LATER).status == "complete"
    with closing(Profiles(places.profiles)) as profiles:
        assert not profiles.find("acme", "c_ada")
        assert profiles.find("acme", "c_bo")
        assert profiles.find("rival", "c_ada")


def test_who_comes_back_while_an_erasure_goes_on_stays(workspace):
    places = workspace.places
    secret = workspace.directory.shop("acme").secret
    job = privacy.request(places, "acme", ["c_ada"], now=LATER)
    with closing(workspace.log) as service:
        job = privacy.advance(places, job, now=LATER)
        cursor, back = service.end(0), LATER + timedelta(hours=1)
        service.rotate(0)
        service.append(0, [request_of("acme", [told("acme", secret, "c_ada", None, 8, back)])])
        refuses = Refusals(workspace.directory)
        with closing(Profiles(places.profiles, refuses=refuses)) as profiles:
            profiles.apply(0, service.read(0, cursor, most_bytes=1_000_000))
        service.trim(0, cursor)
        assert privacy.advance(places, job, now=back).status == "complete"
    with closing(Profiles(places.profiles)) as profiles:
        assert [one.created for one in profiles.find("acme", "c_ada")] == [back]


def test_a_complete_erasure_keeps_its_proof_and_nobody_s_name(workspace):
    job = erase(workspace)
    (erasure,) = workspace.directory.erasures("acme")
    assert erasure.completed == LATER
    assert json.loads(erasure.proof)["rows_left"] == 0
    assert "c_ada" not in repr(erasure) + repr(job) + repr(workspace.directory.jobs("acme"))


def test_a_copy_put_back_resurrects_nobody(workspace, tmp_path):
    upkeep.backup(workspace.path, tmp_path / "copy", now=utc_now())
    erase(workspace)
    back = tmp_path / "back"
    done = upkeep.restore(tmp_path / "copy", back, erased_in=workspace.path)
    assert done.erased_rows > 0
    restored = habitue.open(back)
    assert not restored.shop("acme").customer("c_ada").is_known
    assert restored.shop("rival").customer("c_ada").is_known
    with closing(restored.log) as log:
        settle(restored, log)                      # and the log that was copied brings nobody back
    assert not restored.shop("acme").customer("c_ada").is_known


def test_nobody_is_erased_without_a_key(workspace):
    with pytest.raises(BadSetting):
        privacy.request(workspace.places, "acme", [], now=LATER)


def test_an_export_holds_all_of_one_customer_and_nothing_of_others(workspace):
    lines = list(privacy.export(workspace.places, "acme", "c_ada"))
    assert lines[0]["customer"] == "c_ada"
    assert {key["value"] for key in lines[0]["keys"]} >= {EMAIL, PHONE}
    assert lines[0]["properties"] == {"first_name": "C_Ada"}
    kinds = [line["line"] for line in lines]
    assert kinds.count("event") == 1
    assert kinds.count("identifier") == 2
    assert kinds.count("link") == 2
    assert "c_bo" not in str(lines)
