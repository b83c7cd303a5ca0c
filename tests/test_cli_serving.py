"""The commands around the service: keys are shown once, names are edited, the status is read."""

import json
import socket
import subprocess
from datetime import timedelta

import pytest
from click.testing import CliRunner

from habitue.audit import AUDIT_FILE, Audit, Use, minute_of
from habitue.cli.app import habitue
from habitue.config import utc_now
from habitue.lake.live.scored import SCORES_FILE, Scored, ScoredCustomer
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


def test_what_runs_beside_the_service_takes_no_module_from_the_folder_it_is_in(
    run, tmp_path, monkeypatch
):
    told = {}
    monkeypatch.setattr(
        "habitue.serving.server.serve", lambda *_, beside, **__: told.update(follow=beside.follow)
    )
    assert run("serve").exit_code == 0
    (tmp_path / "json.py").write_text("raise SystemExit('taken from here')")
    done = subprocess.run([*told["follow"], "--help"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0


def test_an_address_that_is_taken_is_named(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        left = run("serve", "--port", port)
    assert f"cannot listen at 127.0.0.1 port {port}" in str(left.exception)
    assert "hint: --port 0" in str(left.exception)


def test_an_address_of_another_machine_is_told_apart_from_one_that_is_taken(run):
    left = run("serve", "--host", "192.0.2.1", "--port", "0")
    assert "cannot listen at 192.0.2.1" in str(left.exception)
    assert "hint: --host takes an address of this machine" in str(left.exception)


def test_a_shop_that_a_key_makes_is_told(run):
    made = run("keys", "create", "--shop", "acmee", "--kind", "public")
    assert "made the shop acmee in " in made.stderr
    again = run("keys", "create", "--shop", "acmee", "--kind", "public")
    assert again.exit_code == 0
    assert "made the shop" not in again.stderr


def test_a_key_is_revoked_in_the_only_shop_where_none_is_named(run):
    made = run("keys", "create", "--shop", "acme", "--kind", "secret", "--json")
    assert run("keys", "revoke", json.loads(made.stdout)["id"]).exit_code == 0


@pytest.mark.parametrize(
    "command", [["names", "--set", "a=b", "--source", "klaviyo"], ["keys", "revoke", "k"],
                ["currency", "GBP"]],
)  # fmt: skip
def test_a_mistyped_folder_or_shop_is_told_and_not_made(command, tmp_path):
    place = tmp_path / "typo"
    left = CliRunner().invoke(habitue, [*command, "--shop", "acme", "--workspace", str(place)])
    assert f"no workspace at {place}" in str(left.exception)
    assert "habitue serve --workspace" in str(left.exception)
    assert not place.exists()
    workspace = open_workspace(place)
    workspace.directory.shop("acme", create=True)
    left = CliRunner().invoke(habitue, [*command, "--shop", "acmee", "--workspace", str(place)])
    assert "no shop named 'acmee'" in str(left.exception)
    assert workspace.shops() == ["acme"]


def test_the_currency_of_a_shop_is_set_and_shown(run, tmp_path):
    directory = open_workspace(tmp_path / "work").directory
    directory.shop("acme", create=True)
    assert "no currency of its own" in run("currency").stderr
    assert run("currency", "gbp").stdout == "GBP\n"
    assert directory.shop("acme").currency == "GBP"
    assert json.loads(run("currency", "--json").stdout) == {"shop": "acme", "currency": "GBP"}
    left = run("currency", "pounds")
    assert "'pounds' is no currency" in str(left.exception)
    assert directory.shop("acme").currency == "GBP"


def test_a_name_is_set_shown_and_forgotten(run, tmp_path):
    open_workspace(tmp_path / "work").directory.shop("acme", create=True)
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


def test_the_status_counts_scores_that_live_audiences_are_yet_to_take_over(
    run, tmp_path, monkeypatch
):
    kept = Scored(tmp_path / "work" / "online" / SCORES_FILE)
    assert json.loads(run("status", "--json").stdout)["untold_scores"] == 0
    kept.put("acme", 1, [ScoredCustomer(f"c{n}", 0, 0, b"", b"") for n in range(3)])
    kept.begin("acme", 1, b"")
    kept.close()
    assert json.loads(run("status", "--json").stdout)["untold_scores"] == 3
    assert "3 scores are yet to be taken over" in run("status").stdout
    monkeypatch.setenv("HABITUE_SCORES", "redis://127.0.0.1:1/0")
    assert json.loads(run("status", "--json").stdout)["untold_scores"] is None
    assert "scores are out of reach" in run("status").stdout


def test_a_shop_that_has_keys_and_no_events_yet_is_listed(run):
    run("keys", "create", "--shop", "lonely", "--kind", "public")
    (row,) = json.loads(run("shops", "--json").stdout)
    assert (row["shop"], row["customers"], row["orders"]) == ("lonely", 0, 0)


def test_a_key_is_rotated_and_the_audit_says_so(run):
    made = run("keys", "create", "--shop", "acme", "--kind", "secret", "--scope", "erase", "--json")
    former = json.loads(made.stdout)
    rotated = run("keys", "rotate", former["id"], "--shop", "acme", "--overlap-days", "1", "--json")
    later = json.loads(rotated.stdout)
    assert "is refused from " in rotated.stderr
    listed = {row["id"]: row for row in json.loads(run("keys", "--shop", "acme", "--json").stdout)}
    assert listed[former["id"]]["expires"] is not None
    assert listed[later["id"]]["expires"] is None
    assert {row["scopes"] for row in listed.values()} == {"erase"}
    told = run("audit", "--shop", "acme", "--json", "--act", "key.rotate")
    (act,) = json.loads(told.stdout)
    assert (act["who"], act["about"], act["detail"]) == (
        "command line", former["id"], f"by {later['id']}",
    )  # fmt: skip
    assert former["key"] not in told.output + run("audit", "--shop", "acme").output


def test_uses_of_keys_are_summed_or_told_by_the_minute(run, tmp_path):
    now = utc_now()
    run("keys", "create", "--shop", "acme", "--kind", "secret")
    path = tmp_path / "work" / AUDIT_FILE
    for ago in (3, 2):
        use = Use("acme", "k", "GET /v1/status", 200, minute_of(now - timedelta(minutes=ago)))
        Audit(path).add({use: ago})
    (summed,) = json.loads(run("audit", "--shop", "acme", "--uses", "--json").stdout)
    assert (summed["key"], summed["status"], summed["count"]) == ("k", 200, 5)
    minutes = json.loads(run("audit", "--shop", "acme", "--by-minute", "--json").stdout)
    assert [row["count"] for row in minutes] == [3, 2]
    assert json.loads(run("audit", "--uses", "--key", "other", "--json").stdout) == []
