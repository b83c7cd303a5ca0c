"""The audit: counts of uses that outlive a failure, acts with what they tell of, nobody named."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from habitue.audit import KEPT, Act, Audit, Use, Uses, minute_of
from habitue.directory import Directory, Grant, Limit
from habitue.errors import BadSetting, NoSuchKey

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def use(key: str = "k", at: datetime = NOW, status: int = 200) -> Use:
    return Use("acme", key, "GET /v1/status", status, minute_of(at))


@pytest.fixture
def audit(tmp_path):
    return Audit(tmp_path / "audit.sqlite")


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path / "work" / "directory.sqlite")
    made.shop("acme", create=True)
    return made


def test_uses_of_one_minute_are_one_row_and_two_writings_of_it_add_up(audit):
    uses = Uses()
    for _ in range(3):
        uses.add(use())
    uses.add(use(status=403))
    uses.write(audit)
    uses.add(use())
    uses.write(audit)
    told = {(one.status, one.count) for one in audit.used("acme", NOW, NOW)}
    assert told == {(200, 4), (403, 1)}
    assert audit.used("rival", NOW, NOW) == []


def test_what_could_not_be_written_is_written_with_what_comes_next(audit):
    class Full:
        def add(self, counted):
            raise sqlite3.OperationalError("disk is full")

    uses = Uses()
    uses.add(use())
    with pytest.raises(sqlite3.OperationalError):
        uses.write(Full())
    uses.add(use())
    uses.write(audit)
    assert [one.count for one in audit.used("acme", NOW, NOW)] == [2]


def test_minutes_are_let_go_after_a_while_and_the_last_use_stays(audit):
    audit.add({use("old"): 1})
    audit.add({use("young", NOW + KEPT + MINUTE): 1})
    assert audit.used("acme", NOW, NOW) == []
    assert audit.last_uses() == {"old": NOW, "young": NOW + KEPT + MINUTE}


def test_only_its_owner_reads_it(audit):
    audit.add({use(): 1})
    assert audit.path.stat().st_mode & 0o077 == 0


def test_every_change_of_a_key_is_an_act_without_the_key(directory):
    key, plain = directory.issue_key("acme", "secret", now=NOW)
    second, other = directory.rotate_key(key.id, shop="acme", now=NOW, overlap=MINUTE)
    directory.revoke(second.id, shop="acme", now=NOW)
    acts = directory.acts("acme")
    assert [(one.act, one.about) for one in acts] == [
        ("key.create", key.id), ("key.rotate", key.id), ("key.revoke", second.id),
    ]  # fmt: skip
    assert not [one for one in acts if plain in str(one) or other in str(one)]
    directory.note(Act(shop="acme", time=NOW, act="export", about=""))
    assert directory.acts("acme")[-1].who == "command line"


def test_a_limit_is_changed_for_one_key_of_the_shop_and_is_an_act(directory):
    key, plain = directory.issue_key("acme", "secret", now=NOW)
    directory.limit_key(key.id, shop="acme", now=NOW, limit=Limit(5, None))
    assert directory.key_for(plain).limit == Limit(5, None)
    assert directory.acts("acme")[-1].act == "key.limit"
    with pytest.raises(NoSuchKey):
        directory.limit_key(key.id, shop="rival", now=NOW, limit=Limit())


def test_a_rotated_key_is_in_force_until_the_overlap_is_over(directory):
    grant = Grant(scopes=frozenset({"erase"}))
    key, plain = directory.issue_key("acme", "secret", now=NOW, label="till", grant=grant)
    later, made = directory.rotate_key(key.id, shop="acme", now=NOW, overlap=MINUTE)
    former = directory.key_for(plain)
    assert not former.is_over(NOW + MINUTE - timedelta(seconds=1))
    assert former.is_over(NOW + MINUTE)
    found = directory.key_for(made)
    assert (found, found.label, found.grant) == (later, "till", grant)
    with pytest.raises(NoSuchKey):
        directory.rotate_key(key.id, shop="acme", now=NOW + MINUTE, overlap=MINUTE)


def test_rotating_again_never_lengthens_the_life_of_a_key(directory):
    key, plain = directory.issue_key("acme", "secret", now=NOW)
    directory.rotate_key(key.id, shop="acme", now=NOW, overlap=MINUTE)
    directory.rotate_key(key.id, shop="acme", now=NOW, overlap=60 * MINUTE)
    assert directory.key_for(plain).grant.expires == NOW + MINUTE


@pytest.mark.parametrize(
    ("kind", "grant"),
    [("secret", Grant(scopes=frozenset({"evrything"}))),
     ("public", Grant(scopes=frozenset({"events:write"}))), ("secret", Grant(expires=NOW))],
)  # fmt: skip
def test_a_grant_that_means_nothing_is_refused(directory, kind, grant):
    with pytest.raises(BadSetting):
        directory.issue_key("acme", kind, now=NOW, grant=grant)


def test_a_directory_of_an_earlier_release_keeps_its_keys_without_bounds(directory):
    _, plain = directory.issue_key("acme", "secret", now=NOW)
    with sqlite3.connect(directory.path) as connection:
        for statement in ("ALTER TABLE keys DROP COLUMN scopes",
                          "ALTER TABLE keys DROP COLUMN expires", "DROP TABLE acts"):  # fmt: skip
            connection.execute(statement)
    connection.close()
    opened = Directory(directory.path)
    assert opened.key_for(plain).grant == Grant()
    assert opened.acts("acme") == []
