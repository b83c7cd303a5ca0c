"""The commands around the service: keys are shown once, names are edited, the status is read."""

import json

import pytest
from click.testing import CliRunner

from habitue.cli.app import habitue
from habitue.workspace import open_workspace


@pytest.fixture
def run(tmp_path):
    open_workspace(tmp_path / "work")

    def invoke(*arguments: str):
        place = ["--workspace", str(tmp_path / "work")]
        return CliRunner().invoke(habitue, [*arguments, *place])

    return invoke


def test_a_key_is_shown_when_it_is_made_and_never_again(run, tmp_path):
    made = run("keys", "create", "--shop", "acme", "--kind", "secret", "--label", "shop")
    plain = made.stdout.strip()
    assert open_workspace(tmp_path / "work").directory.key_for(plain).label == "shop"
    listed = run("keys", "--shop", "acme", "--json")
    assert plain not in listed.output
    (row,) = json.loads(listed.stdout)
    assert (row["kind"], row["label"], row["revoked"]) == ("secret", "shop", None)
    assert run("keys", "revoke", row["id"], "--shop", "acme").exit_code == 0
    assert open_workspace(tmp_path / "work").directory.key_for(plain) is None
    again = run("keys", "revoke", row["id"], "--shop", "acme")
    assert again.exit_code == 1
    assert "no key" in str(again.exception)


def test_a_name_is_set_shown_and_forgotten(run):
    source = ("--shop", "acme", "--source", "klaviyo")
    told = run("names", *source, "--set", "Viewed = Thing=item_viewed", "--json")
    assert json.loads(told.stdout) == [
        {"source": "klaviyo", "theirs": "Viewed = Thing", "ours": "item_viewed"}
    ]
    assert json.loads(run("names", *source, "--set", "Viewed = Thing=", "--json").stdout) == []
    assert run("names", "--shop", "acme", "--set", "a=b").exit_code == 2


def test_the_status_of_a_workspace_that_nobody_serves_is_read_from_its_files(run):
    seen = json.loads(run("status", "--json").stdout)
    assert seen["address"] is None
    assert (seen["log_rows"], seen["files"], seen["failure"]) == (0, 0, None)
    assert "none runs" in run("status").stdout


def test_a_shop_that_has_keys_and_no_events_yet_is_listed(run):
    run("keys", "create", "--shop", "lonely", "--kind", "public")
    (row,) = json.loads(run("shops", "--json").stdout)
    assert (row["shop"], row["customers"], row["orders"]) == ("lonely", 0, 0)
