"""Commands about who customers are, from the command line to the screen."""

import json
from datetime import UTC, datetime

import pytest

from habitue.cli import app
from habitue.ingest.doors.keys import surrogate
from habitue.workspace import Shop, open_workspace
from tests.lake.people import ADA, WEB, A, B, change, consent, identifier, link, told
from tests.lake.small import day, event, filled


@pytest.fixture
def shop(tmp_path) -> Shop:
    """A shop with one buyer who browsed before, and one key that two customers claim."""
    shop = open_workspace(tmp_path / "work").shop("acme")
    secret = shop.workspace.directory.shop("acme", create=True).secret
    ada = surrogate(secret, email="ada@example.com")
    lake = filled(shop.workspace.lake, event("o1", 2, customer=A))
    told(
        lake, link(A, WEB, 2, cause="identify"), link(B, WEB, 3), link(A, ada, 2),
        identifier(ada, "ada@example.com", 2), change(A, 2, '{"plan": "gold"}'),
        consent(A, 2, "subscribed"),
    )  # fmt: skip
    return shop


@pytest.fixture
def habitue(shop, monkeypatch, capsys):
    """Run one command in that workspace: exit code, stdout, stderr."""
    monkeypatch.chdir(shop.workspace.path.parent)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.main([str(one) for one in arguments])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    return run


def test_a_customer_is_shown_with_keys_and_why_they_are_theirs(habitue):
    code, out, err = habitue("customer", WEB)
    assert (code, err) == (0, "")
    assert out.startswith(f"{A} · profile 01")
    through = "identify (2025-03-05 00:00) c_1"
    for text in ("ada@example.com", through, '"gold"', "subscribed", "o1"):
        assert text in out


def test_a_customer_is_found_by_email_and_as_of_a_cutoff(habitue):
    _, out, _ = habitue("customer", "--email", " ADA@example.com", "--json")
    found = json.loads(out)
    assert found["customer"] == A
    assert found["properties"] == {"plan": "gold"}
    assert [key["kind"] for key in found["keys"]] == ["external", "email", "anonymous"]
    _, out, _ = habitue("customer", WEB, "--cutoff", "2025-03-04", "--json")
    assert json.loads(out)["customer"] == WEB
    _, out, _ = habitue("customer", f"profile:{found['id']}", "--json")
    assert json.loads(out) == found


def test_who_is_not_known_or_not_named_is_said(habitue):
    assert habitue("customer", "--email", "bob@example.com") == (
        0, "", "nothing is known of bob@example.com\n"
    )  # fmt: skip
    assert habitue("customer")[0] == habitue("customer", A, "--phone", "+447")[0] == 2
    code, _, err = habitue("customer", "--phone", "12")
    assert code == 1
    assert "hint: they look like ada@example.com" in err


def test_a_person_links_two_keys_and_undoes_it(habitue, shop):
    before = datetime.now(UTC)
    assert habitue("link", B, "anonymous:b") == (0, "", f"linked: {B} and anonymous:b\n")
    assert shop.customer("anonymous:b").customer == B
    code, _, err = habitue("unlink", "anonymous:b", B, "--reason", "shared computer")
    assert (code, err) == (0, f"unlinked: anonymous:b and {B}\n")
    assert shop.customer("anonymous:b").customer == "anonymous:b"
    assert shop.customer("anonymous:b", cutoff=before).is_known is False
    _, out, _ = habitue("links", "--json")
    last = json.loads(out)[-1]
    assert (last["undo"], last["cause"]) == (True, "person: shared computer")


def test_a_link_by_hand_is_on_a_receipt_and_told_once(shop):
    first = shop.link(A, "c_3", now=day(20))
    again = shop.link(A, "c_3", now=day(20))
    assert (first.rows, first.appended, first.duplicate) == (1, 1, 0)
    assert (again.rows, again.appended, again.duplicate) == (1, 0, 1)
    sql = "SELECT count(*) AS n FROM receipts WHERE origin = 'link'"
    assert shop.query(sql)["n"].to_pylist() == [2]


def test_conflicts_are_listed_with_their_reason(habitue):
    _, out, _ = habitue("conflicts", "--json")
    (row,) = json.loads(out)
    assert (row["key"], row["other"], row["customer"], row["other_customer"], row["why"]) == (
        B, WEB, B, A, "two_external_ids",
    )  # fmt: skip
    assert habitue("conflicts", "--cutoff", "2025-03-05")[1:] == ("", "no rows\n")


def test_the_sources_of_orders_are_listed_and_chosen(habitue, shop):
    filled(shop.workspace.lake, event("w1", 1, source="web", order="o1", customer=ADA))
    _, out, _ = habitue("sources", "--first", "web", "--json")
    assert [(row["source"], row["orders"], row["believed"]) for row in json.loads(out)] == [
        ("web", 1, 1), ("till", 1, None),
    ]  # fmt: skip
