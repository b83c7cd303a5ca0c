"""Commands about what is kept: export, erase, rejected, replay, backup, restore, upgrade, lake."""

import io
import json

import pytest

from habitue.cli import app
from habitue.ingest.doors.keys import surrogate
from habitue.ingest.replay import Replayed
from habitue.workspace import Shop, open_workspace
from tests.first_release import unpack
from tests.lake.people import A, identifier, link, told
from tests.lake.small import event, filled

EMAIL = "ada@example.com"


@pytest.fixture
def shop(tmp_path) -> Shop:
    """A shop with two buyers, one of whom has an email."""
    shop = open_workspace(tmp_path / "work").shop("acme")
    secret = shop.workspace.directory.shop("acme", create=True).secret
    ada = surrogate(secret, email=EMAIL)
    lake = filled(shop.workspace.lake, event("o1", 2, customer=A), event("o2", 2, customer="c_9"))
    told(lake, link(A, ada, 2), identifier(ada, EMAIL, 2))
    return shop


@pytest.fixture
def habitue(tmp_path, monkeypatch, capsys):
    """Run one command beside that workspace: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.main([str(one) for one in arguments])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    return run


def test_a_customer_named_by_email_is_exported(shop, habitue, tmp_path):
    code, out, _ = habitue("export", "--email", EMAIL)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert lines[0]["customer"] == A
    assert [line["id"] for line in lines if line["line"] == "event"] == ["o1"]
    code, out, err = habitue("export", A, "--out", "ada.ndjson")
    assert (code, out) == (0, "")
    assert f"wrote {len(lines)} lines" in err
    assert len((tmp_path / "ada.ndjson").read_text().splitlines()) == len(lines)


def test_an_erasure_that_nobody_confirms_says_how_to_go_without(shop, habitue, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = habitue("erase", "--email", EMAIL)
    assert code == 130
    assert f"Erase {EMAIL} of acme" in err
    assert "nothing was erased; --yes" in err
    assert not shop.workspace.directory.erasures("acme")


def test_a_file_that_holds_no_api_key_is_told_before_anyone_is_asked(habitue, tmp_path):
    for held in ("", "pk_1\npk_2\n", "ключ"):
        (tmp_path / "klaviyo.key").write_text(held)
        code, _, err = habitue(
            "import", "--from", "klaviyo", "--api-key-file", "klaviyo.key", "--shop", "acme",
            "--url", "http://127.0.0.1:1",
        )  # fmt: skip
        assert code == 1
        assert "one API key" in err


def test_a_customer_is_named_in_one_way(shop, habitue):
    code, _, err = habitue("erase", A, "--email", EMAIL, "--yes")
    assert code == 2
    assert "by KEY, by --email or by --phone" in err


def test_an_erasure_is_asked_for_twice_and_leaves_its_proof(shop, habitue):
    code, _, _ = habitue("erase", A)       # nobody says yes
    assert code != 0
    assert shop.query("SELECT count(*) AS n FROM events")["n"][0].as_py() == 2
    code, out, _ = habitue("erase", "--email", EMAIL, "--yes", "--json")
    done = json.loads(out)
    assert (code, done["status"], done["detail"]["rows_left"]) == (0, "complete", 0)
    assert A not in out
    assert shop.query("SELECT id FROM events")["id"].to_pylist() == ["o2"]
    code, out, _ = habitue("erasures", "--json")
    assert [row["status"] for row in json.loads(out)] == ["complete"]


def test_rejected_inputs_are_counted_and_tried_again(shop, habitue):
    code, out, _ = habitue("rejected", "--counts", "--json")
    assert (code, json.loads(out)) == (0, [])
    code, out, _ = habitue("replay", "--json")
    assert (code, json.loads(out)["tried"]) == (0, 0)


def test_inputs_that_could_not_be_tried_again_are_counted(shop, habitue, monkeypatch):
    done = Replayed(
        tried=0, appended=0, duplicate=0, refused=0, reasons={}, unreadable=2, of_files=1_000
    )
    monkeypatch.setattr(Shop, "replay", lambda *_, **__: done)
    _, _, err = habitue("replay")
    assert "not tried: 2 whose payload was cut" in err
    assert "not tried: 1,000 rows of files\nhint: import the file again" in err


def test_an_export_or_erasure_of_nobody_says_so(shop, habitue):
    code, out, err = habitue("export", "nobody")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "nothing is known of nobody" in err
    assert "nothing is known" not in habitue("export", A)[2]
    code, _, err = habitue("erase", "nobody", "--yes")
    assert code == 0
    assert "nothing of nobody is in the lake" in err
    assert len(shop.workspace.directory.erasures("acme")) == 1
    assert "is in the lake" not in habitue("erase", "c_9", "--yes")[2]


def test_a_customer_of_whom_only_an_email_is_kept_is_known(shop):
    secret = shop.workspace.directory.shop("acme").secret
    told(shop.workspace.lake, identifier(surrogate(secret, email="eve@b.co"), "eve@b.co", 2))
    assert shop.customer(email="eve@b.co").is_known
    assert not shop.customer(email="nobody@b.co").is_known


def test_a_workspace_is_copied_and_put_back(shop, habitue):
    code, out, _ = habitue("backup", "copy", "--json")
    assert code == 0
    assert json.loads(out)["files"] > 3
    code, _, err = habitue("backup", "copy")
    assert code == 1
    assert "not empty" in err
    code, _, err = habitue("restore", "copy", "--workspace", "back")
    assert code == 0
    assert "restored" in err
    code, out, _ = habitue("query", "SELECT id FROM events ORDER BY id", "--workspace", "back",
                           "--json")  # fmt: skip
    assert [row["id"] for row in json.loads(out)] == ["o1", "o2"]


def test_an_old_workspace_is_brought_up(habitue, tmp_path):
    unpack(tmp_path)
    code, _, err = habitue("shops", "--workspace", "ws")
    assert code == 1
    assert "habitue upgrade --workspace ws" in err
    code, _, err = habitue("upgrade", "--workspace", "ws")
    assert (code, err.strip()) == (0, "ws: from format 1 to 2")
    code, _, err = habitue("upgrade", "--workspace", "ws")
    assert "already" in err
    code, out, _ = habitue("shops", "--workspace", "ws", "--json")
    assert json.loads(out)[0]["orders"] == 148


def test_the_lake_shows_how_it_lies(shop, habitue):
    code, out, _ = habitue("lake", "status", "--json")
    assert code == 0
    assert {row["table"]: row["rows"] for row in json.loads(out)}["events"] == 2
    code, out, _ = habitue("lake", "vacuum", "--keep-hours", "0", "--json")
    assert code == 0
    assert "files_deleted" in json.loads(out)
