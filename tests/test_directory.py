"""The directory: shops with secrets, keys that are told once, name tables, tombstones."""

import logging
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest

from habitue.directory import Directory, Grant, Job, Limit, tombstone
from habitue.errors import BadSetting, NoSuchKey, NoSuchShop

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path):
    return Directory(tmp_path / "work" / "directory.sqlite")


def test_a_shop_begins_to_exist_only_when_that_is_asked(directory):
    with pytest.raises(NoSuchShop):
        directory.shop("acme")
    made = directory.shop("acme", create=True)
    assert directory.shop("acme", create=True).secret == made.secret
    assert directory.shops() == ["acme"]


def test_two_shops_have_different_secrets_of_32_bytes(directory):
    first, second = (directory.shop(name, create=True).secret for name in ("a", "b"))
    assert first != second
    assert len(first) == len(second) == 32


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 201, "a\x00b"])
def test_a_name_that_cannot_be_seen_is_refused(directory, name):
    with pytest.raises(BadSetting):
        directory.shop(name, create=True)


def test_the_file_can_be_read_by_its_owner_alone(directory):
    directory.shop("acme", create=True)
    watch = directory.watch()
    files = list(directory.path.parent.iterdir())
    watch.close()
    assert directory.path in files
    assert {stat.S_IMODE(one.stat().st_mode) for one in files if one.exists()} == {0o600}


def test_a_key_is_found_by_its_text_and_by_no_other(directory):
    directory.shop("acme", create=True)
    grant = Grant(limit=Limit(5, 100))
    key, plain = directory.issue_key("acme", "secret", now=NOW, label="server", grant=grant)
    assert plain.startswith("hs_")
    assert directory.key_for(plain) == key
    assert directory.key_for(plain[:-1]) is None
    assert directory.key_for("") is None
    assert directory.key_for("\udc80") is None


def test_a_key_that_was_revoked_is_refused(directory):
    directory.shop("acme", create=True)
    key, plain = directory.issue_key("acme", "public", now=NOW)
    directory.revoke(key.id, shop="acme", now=NOW + timedelta(days=1))
    assert directory.key_for(plain) is None
    assert [one.revoked for one in directory.keys("acme")] == [NOW + timedelta(days=1)]
    with pytest.raises(NoSuchKey):
        directory.revoke(key.id, shop="acme", now=NOW)


def test_a_shop_cannot_revoke_the_key_of_another(directory):
    for name in ("acme", "rival"):
        directory.shop(name, create=True)
    key, plain = directory.issue_key("acme", "public", now=NOW)
    with pytest.raises(NoSuchKey):
        directory.revoke(key.id, shop="rival", now=NOW)
    assert directory.key_for(plain) == key


def test_nothing_secret_is_in_the_file_the_repr_or_the_log(directory, caplog):
    caplog.set_level(logging.DEBUG)
    entry = directory.shop("acme", create=True)
    key, plain = directory.issue_key("acme", "secret", now=NOW)
    directory.key_for(plain)
    held = b"".join(one.read_bytes() for one in directory.path.parent.iterdir())
    assert plain.encode() not in held
    told = repr((entry, key, directory)) + caplog.text
    assert plain not in told
    assert repr(entry.secret) not in told


def test_a_name_of_one_source_says_nothing_of_another(directory):
    directory.shop("acme", create=True)
    directory.set_name("acme", "klaviyo", "Viewed Thing", "item_viewed")
    assert directory.shop("acme").names == {"klaviyo": {"Viewed Thing": "item_viewed"}}
    directory.set_name("acme", "klaviyo", "Viewed Thing", None)
    assert directory.shop("acme").names == {}


def test_an_erased_key_is_refused_up_to_the_latest_of_its_erasures(directory):
    directory.shop("acme", create=True)
    later = NOW + timedelta(days=3)
    directory.erase("acme", ["email:1", "ada"], erased_at=later, requested=later)
    first = directory.erase("acme", ["ada"], erased_at=NOW, requested=NOW)
    secret = directory.shop("acme").secret
    expected = {tombstone(secret, "ada"): later, tombstone(secret, "email:1"): later}
    assert directory.erased("acme") == expected
    assert directory.erased("rival") == {}
    directory.complete_erasure(first.id, completed=later, proof="{}")
    found = {one.id: one for one in directory.erasures("acme")}
    assert found[first.id].completed == later
    assert sorted(len(one.tombstones) for one in found.values()) == [1, 2]


def test_a_job_is_known_by_its_latest_state(directory):
    directory.shop("acme", create=True)
    job = Job(id="1", shop="acme", kind="export", status="queued", created=NOW, updated=NOW)
    directory.put_job(job)
    directory.put_job(done := Job(
        id="1", shop="acme", kind="export", status="complete", created=NOW,
        updated=NOW + timedelta(hours=1), detail={"rows": 3},
    ))  # fmt: skip
    assert directory.jobs("acme") == [done]


def test_a_watch_tells_every_change_once(directory):
    directory.shop("acme", create=True)
    watch = directory.watch()
    assert not watch.changed()
    directory.issue_key("acme", "public", now=NOW)
    assert watch.changed()
    assert not watch.changed()
    watch.close()


def test_many_threads_make_one_shop(directory):
    secrets = []
    threads = [
        threading.Thread(target=lambda: secrets.append(directory.shop("acme", create=True).secret))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secrets) == 8
    assert len(set(secrets)) == 1
