import json

import pytest
from click.testing import CliRunner

from habitue.cli.app import habitue
from habitue.lake.tables import Lake
from habitue.marker import FORMAT, lake_place, write_format
from tests.lake.small import event, filled
from tests.lm_server import speaking


@pytest.fixture
def workspace(tmp_path):
    write_format(tmp_path, FORMAT)
    filled(Lake(lake_place(tmp_path)), event("a", 1), event("b", 2, customer="c2"), event("c", 3))
    return str(tmp_path)


def run(workspace, *arguments):
    return CliRunner().invoke(habitue, [*arguments, "--workspace", workspace])


def test_an_audience_is_listed_counted_and_written(workspace, tmp_path):
    shown = run(workspace, "audience", "did order_placed >= 2 times")
    assert "1 customer as of 2025-03-06 00:00 UTC · did order_placed >= 2 times" in shown.output
    assert "c1" in shown.stdout
    assert "c2" not in shown.stdout
    assert run(workspace, "audience", "did order_placed", "--size").stdout == "2\n"
    for ending in ("csv", "parquet", "ndjson"):
        file = tmp_path / f"who.{ending}"
        assert run(workspace, "audience", "did order_placed", "--out", str(file)).exit_code == 0
        assert file.stat().st_size
    lately = "did order_placed in 1 day"
    told = run(workspace, "audience", lately, "--json", "--since", "2025-03-05")
    assert json.loads(told.stdout) == [
        {"customer": "c1", "change": "entered"}, {"customer": "c2", "change": "left"},
    ]  # fmt: skip
    size = run(workspace, "audience", "did order_placed", "--size", "--json")
    assert json.loads(size.stdout)["size"] == 2


def test_an_audience_is_saved_listed_and_removed(workspace):
    told = run(workspace, "audience", "count of order_placed > 1", "--save", "loyal", "--size")
    assert told.stderr == "saved loyal: did order_placed > 1 time\n"
    assert run(workspace, "audience", 'in audience "loyal"', "--size").stdout == "1\n"
    (row,) = json.loads(run(workspace, "audiences", "--json").stdout)
    assert (row["name"], row["condition"]) == ("loyal", "did order_placed > 1 time")
    assert "no rows" in run(workspace, "audiences", "--remove", "loyal").output


def test_what_cannot_be_read_names_the_place_and_does_nothing(workspace):
    told = run(workspace, "audience", "did order_placd", "--save", "x")
    assert "did you mean order_placed?" in str(told.exception)
    assert run(workspace, "audiences", "--json").stdout == "[\n]\n"
    both = run(workspace, "audience", "did order_placed", "--size", "--since", "2025-03-05")
    assert both.exit_code == 2


def test_numbers_past_all_rows_are_no_more_than_all(workspace):
    shown = run(workspace, "audience", "did order_placed", "--rows", "99999999999999999999")
    assert "c2" in shown.stdout
    for after, code in (("99999999999999999999", 1), ("-1", 2)):
        assert run(workspace, "changes", "--after", after).exit_code == code


def test_who_is_found_nowhere_is_told_why(workspace):
    told = run(workspace, "audience", 'profile.city = "Paris"', "--size")
    assert (told.stdout, told.stderr) == ("0\n", "nobody has profile.city\n")
    told = run(workspace, "audience", 'did order_placed where categroy = "x"', "--json")
    assert told.stdout == "[\n]\n"
    assert told.stderr == "no order_placed was told with categroy; did you mean category?\n"


def test_changes_since_the_cutoff_or_later_are_none(workspace):
    for since in ("2025-03-06", "2026-01-01"):
        told = run(workspace, "audience", "did order_placed", "--since", since)
        assert told.exit_code == 2
        assert "--since is not before the cutoff, 2025-03-06 00:00 UTC" in told.stderr


def test_what_came_after_is_told_beside_everyone_else(workspace, tmp_path):
    shown = run(workspace, "audience", "did order_placed", "--cutoff", "2025-03-04", "--then", "1d")
    assert "did order_placed · as of 2025-03-04 00:00 UTC, and 1 day after" in shown.stdout
    assert "This is no experiment" in shown.stdout
    asked = run(workspace, "audience", "did order_placed", "--then", "1", "--json")
    told = json.loads(asked.stdout)
    assert (told["cutoff"], told["inside"]["revenue"]) == ("2025-03-05T00:00:00Z", "2.50")
    assert any("no experiment" in one for one in told["caveats"])
    file = tmp_path / "then.csv"
    kept = run(workspace, "audience", "did order_placed", "--then", "1", "--out", str(file),
               "--save", "buyers")  # fmt: skip
    assert kept.stdout == ""
    assert kept.stderr == f"saved buyers: did order_placed\nwrote 4 rows to {file}\n"
    assert file.read_text().splitlines()[2].startswith('"orders",0.5,')
    late = run(workspace, "audience", "did order_placed", "--cutoff", "2025-03-06", "--then", "1d")
    assert "the last cutoff that works is --cutoff 2025-03-05" in str(late.exception)
    for wrong in (["--then", "soon"], ["--recompute"], ["--then", "1d", "--size"]):
        assert run(workspace, "audience", "did order_placed", *wrong).exit_code == 2
    none = run(workspace, "audience", "order_30d > 0.5", "--then", "1d", "--recompute")
    assert "there are: none yet" in str(none.exception)


def test_a_template_stands_for_its_condition(workspace):
    rows = json.loads(run(workspace, "audience", "templates", "--json").stdout)
    told = {row["name"]: row for row in rows}
    assert told["new-customers"]["applies"]
    assert told["abandoned-cart"]["missing"] == "no cart_added events yet"
    assert f"{sum(row['applies'] for row in rows)} of 16 apply" in run(
        workspace, "audience", "templates"
    ).stdout
    assert run(workspace, "audience", "--template", "new-customers", "--size").stdout == "2\n"
    kept = run(workspace, "audience", "--template", "vip", "--save", "best", "--size")
    assert kept.stderr == 'saved best: rfm = "champions"\n'
    wrong = run(workspace, "audience", "--template", "lapsin")
    assert "did you mean lapsing?" in str(wrong.exception)
    for both in ([], ["did order_placed", "--template", "vip"]):
        assert run(workspace, "audience", *both).exit_code == 2


def test_a_sentence_becomes_a_condition_that_is_kept_once_it_is_confirmed(workspace, monkeypatch):
    with speaking("count of order_placed > 1") as server:
        monkeypatch.setenv("HABITUE_LM_URL", server.url)
        monkeypatch.setenv("HABITUE_LM_MODEL", "small")
        asked = ["audience", "suggest", "bought twice", "--workspace", workspace]
        shown = CliRunner().invoke(habitue, asked)
        assert shown.stdout == "did order_placed > 1 time\n"
        assert shown.stderr == "1 customer as of 2025-03-06 00:00 UTC\n"
        CliRunner().invoke(habitue, [*asked, "--save", "twice"], input="n\n")
        assert run(workspace, "audiences", "--json").stdout == "[\n]\n"
        CliRunner().invoke(habitue, [*asked, "--save", "twice"], input="y\n")
        told = CliRunner().invoke(habitue, [*asked, "--save", "again", "--yes", "--json"])
    assert json.loads(told.stdout)["size"] == 1
    kept = json.loads(run(workspace, "audiences", "--json").stdout)
    assert [row["name"] for row in kept] == ["again", "twice"]


def test_without_a_model_a_sentence_finds_the_nearest_ready_condition(workspace):
    told = run(workspace, "audience", "suggest", "who has gone quiet")
    assert told.exit_code == 1
    assert "lapsing (0." in str(told.exception)
