"""The command line: data on stdout, all else on stderr, and never a traceback."""

import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from rich.console import Console

from habitue.cli import app
from habitue.cli.bars import Bars, waiting
from habitue.cli.output import Output
from habitue.config import HERE, nano
from habitue.lake.query import NAMES
from habitue.registry import Registry, Saw
from habitue.workspace import Shop, Workspace, open_workspace
from tests.test_registry import write_model

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)
ORDERS = """\
buyer,number,day,code,count,price
ann,1,2024-01-01,A,2,1.50
ann,2,2024-03-01,B,1,10.00
bob,3,2024-02-01,A,1,1.50
bob,4,never,A,1,1.50
"""
MAPPING = """\
kind = "order_lines"
[fields]
customer = "buyer"
order = "number"
time = "day"
item = "code"
quantity = "count"
unit_price = "price"
currency = "=GBP"
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A folder with a workspace of one shop, the file and the mapping that it was made from."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "orders.toml").write_text(MAPPING)
    open_workspace(folder / "work").shop("acme").ingest(
        folder / "orders.csv", folder / "orders.toml", now=CUTOFF
    )
    return folder


@pytest.fixture
def habitue(filled, monkeypatch, capsys):
    """Run one command in that folder: exit code, stdout, stderr."""
    monkeypatch.chdir(filled)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.main([str(one) for one in arguments])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    return run


@pytest.fixture
def asked(monkeypatch):
    """What the facade's methods were asked; each answers with a table of two rows."""
    calls = {}

    def answer(name):
        def method(shop, *arguments, progress=None, **others):
            calls[name] = (shop.name, arguments, others)
            if progress:
                progress("training", 1, 2)
            return pa.table({"customer": ["ann", "bob"], "value": [0.25, None]})

        return method

    for name in ("predict", "recommend", "items"):
        monkeypatch.setattr(Shop, name, answer(name))
    return calls


def test_an_import_prints_a_receipt_that_accounts_for_every_row(habitue, tmp_path):
    code, out, err = habitue(
        "import", "orders.csv", "--workspace", tmp_path / "new", "--shop", "acme", "--mapping",
        "orders.toml", "--json",
    )  # fmt: skip
    receipt = json.loads(out)
    assert code == 0
    assert (receipt["rows"], receipt["appended"], receipt["rejected"]) == (4, 3, 1)
    assert receipt["reasons"] == {"bad_time": 1}
    assert "habitue rejected --shop acme" in err


def test_an_import_for_people_shows_the_same_figures(habitue):
    code, out, _ = habitue("import", "orders.csv", "--shop", "acme", "--mapping", "orders.toml")
    assert code == 0
    shown = {line.split()[0]: line.split()[-1] for line in out.splitlines() if line.split()}
    assert (shown["duplicate"], shown["rejected"], shown["bad_time"]) == ("3", "1", "1")


def test_what_was_rejected_is_shown_with_its_reason(habitue):
    code, out, _ = habitue("rejected", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {row["reason"] for row in rows} == {"bad_time"}
    assert "never" in rows[0]["payload"]


def test_shops_tell_what_they_hold_as_of_a_cutoff(habitue):
    _, now, _ = habitue("shops", "--json")
    _, then, _ = habitue("shops", "--json", "--cutoff", "2024-02-15")
    assert (json.loads(now)[0]["orders"], json.loads(then)[0]["orders"]) == (3, 2)


def test_a_date_is_its_first_instant_and_a_naive_time_is_in_utc(habitue):
    def orders(cutoff: str) -> int:
        _, out, _ = habitue("query", "SELECT 1 FROM orders", "--json", "--cutoff", cutoff)
        return len(json.loads(out))

    assert orders("2024-02-01") == orders("2024-02-01T00:00:00") == 2
    assert orders("2024-02-01T00:00:00+01:00") == orders("2024-01-31T23:00:00Z") == 1


@pytest.mark.parametrize(
    ("suffix", "read"),
    [
        (".csv", lambda path: pyarrow.csv.read_csv(path).to_pylist()),
        (".parquet", lambda path: pyarrow.parquet.read_table(path).to_pylist()),
        (".ndjson", lambda path: [json.loads(line) for line in path.read_text().splitlines()]),
    ],
)
def test_every_row_goes_into_a_file_and_nothing_onto_stdout(habitue, tmp_path, suffix, read):
    path = tmp_path / f"rows{suffix}"
    sql = "SELECT customer, count(*) AS orders FROM orders GROUP BY customer ORDER BY customer"
    code, out, err = habitue("query", sql, "--out", path)
    assert (code, out) == (0, "")
    assert read(path) == [{"customer": "ann", "orders": 2}, {"customer": "bob", "orders": 1}]
    assert "2 rows" in err
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_lists_and_digests_survive_in_csv(habitue, tmp_path):
    path = tmp_path / "orders.csv"
    habitue("query", "SELECT digest, lines FROM events ORDER BY time", "--out", path)
    row = pyarrow.csv.read_csv(path).to_pylist()[0]
    assert len(bytes.fromhex(row["digest"])) == 16
    assert json.loads(row["lines"])[0]["item"] == "A"


def test_a_table_for_people_is_cut_and_says_so_on_stderr(habitue):
    _, out, err = habitue("query", "SELECT range AS n FROM range(50)", "--rows", 5)
    assert len([line for line in out.splitlines() if line.strip().isdecimal()]) == 5
    assert "5 of 50 rows" in err


def test_sql_can_come_from_stdin(filled):
    done = subprocess.run(
        [sys.executable, "-m", "habitue.cli.app", "query", "-", "--json"],
        input="SELECT 42 AS n", capture_output=True, text=True, check=False, cwd=filled,
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"n": 42}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "DROP TABLE events"], "SELECT"),
        (["query", "SELECT 1", "--shop", "nobody"], "no shop named 'nobody'"),
        (["shops", "--workspace", "nowhere"], "habitue import"),
        (["import", "none.csv", "--shop", "acme", "--mapping", "orders.toml"], "none.csv"),
        (["import", "orders.csv", "--shop", "acme", "--mapping", "none.toml"], "none.toml"),
        (["promote", "v9", "--reason", "a slip"], "no model 'v9'"),
        (["query", "SELECT 1", "--out", "orders.csv/rows.csv"], "orders.csv"),
    ],
)
def test_what_a_user_can_cause_is_one_message_and_exit_code_1(habitue, arguments, message):
    code, out, err = habitue(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "SELECT 1", "--cutoff", "tomorrow"],
        ["query", "SELECT 1", "--out", "rows.xls"],
        ["predict", "--question", "happiness"],
        ["evaluate"],
        ["fly"],
    ],
)
def test_what_was_not_understood_has_exit_code_2(habitue, arguments):
    code, out, err = habitue(*arguments)
    assert (code, out) == (2, "")
    assert "Error" in err


def test_a_bad_setting_is_told_before_anything_is_done(habitue, monkeypatch):
    monkeypatch.setenv("HABITUE_THREADS", "many")
    code, _, err = habitue("shops")
    assert code == 1
    assert "HABITUE_THREADS" in err


def test_of_several_shops_one_must_be_named(habitue, filled, tmp_path):
    work = tmp_path / "work"
    for name in ("one", "two"):
        open_workspace(work).shop(name).ingest(filled / "orders.csv", filled / "orders.toml")
    code, _, err = habitue("query", "SELECT 1", "--workspace", work)
    assert code == 2
    assert "one, two" in err


def test_the_shop_of_the_settings_is_the_one_that_is_meant(habitue, monkeypatch):
    monkeypatch.setenv("HABITUE_SHOP", "nobody")
    code, _, err = habitue("query", "SELECT 1")
    assert code == 1
    assert "'nobody'" in err


def test_a_reader_that_stops_early_is_no_error(filled):
    command = f"{sys.executable} -m habitue.cli.app query 'FROM range(200000)' --json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, check=False, cwd=filled,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


def test_a_prediction_is_asked_as_it_was_typed(habitue, asked):
    code, out, _ = habitue(
        "predict", "--question", "churn", "--horizon-days", 30, "--horizon-days", 90, "--cutoff",
        "2024-06-01", "--version", "v1", "--json",
    )  # fmt: skip
    assert code == 0
    assert asked["predict"] == (
        "acme",
        ("churn",),
        {
            "horizons": (30.0, 90.0), "cutoff": CUTOFF, "version": "v1", "known_at": None,
            "launch": HERE,
        },
    )  # fmt: skip
    assert json.loads(out)[1] == {"customer": "bob", "value": None}


def test_recommendations_are_asked_as_they_were_typed(habitue, asked):
    habitue("recommend", "--k", 3, "--exclude-bought", "--not-sold-days", 90)
    assert asked["recommend"][2] == {
        "k": 3, "exclude_bought": True, "not_sold_days": 90.0, "cutoff": None, "version": None,
        "known_at": None, "page": (), "per_category": None,
    }  # fmt: skip


def test_where_nothing_is_published_it_is_told_before_the_model_s_room_is_loaded(
    habitue, monkeypatch
):
    monkeypatch.setitem(sys.modules, "habitue.publishing", None)
    monkeypatch.delattr(sys.modules["habitue"], "publishing", raising=False)
    for verb in ("predict", "recommend", "items"):
        code, _, err = habitue(verb, "--version", "v9")
        assert (code, "no model 'v9'" in err) == (1, True)


def test_every_view_is_named_in_the_help_of_query(habitue):
    _, out, _ = habitue("query", "--help")
    assert set(re.findall(r"\w+", out)) >= NAMES


def test_items_are_shown_for_people(habitue, asked):
    _, out, _ = habitue("items")
    assert "ann" in out
    assert "0.25" in out


def test_training_says_what_it_published_and_until_when_it_saw(habitue, monkeypatch):
    monkeypatch.setattr(Shop, "train", lambda *_, **told: f"v-{told['cutoff']:%Y%m%d}")
    code, out, _ = habitue("train", "--json")
    assert code == 0
    assert json.loads(out)["version"] == "v-20240301"


def test_the_encoder_of_item_texts_is_that_of_the_flag_or_else_of_the_settings(
    habitue, monkeypatch
):
    monkeypatch.setattr(Shop, "train", lambda _, config, **told: config.text_encoder or "none")
    trained = [json.loads(habitue("train", "--json")[1])["version"]]
    monkeypatch.setenv("HABITUE_TEXT_ENCODER", "here/minilm")
    for flags in ([], ["--text-encoder", "there"], ["--text-encoder", ""]):
        trained.append(json.loads(habitue("train", "--json", *flags)[1])["version"])
    assert trained == ["none", "here/minilm", "there", "none"]


def comparison(method: str, value: float) -> dict:
    return {
        "shop": "acme", "cutoff": "2024-06-01T00:00:00Z", "horizon_days": 90.0,
        "question": "order", "method": method, "metric": "auc", "value": value,
        "low": value - 0.01, "high": value + 0.01, "customers": 1200,
    }  # fmt: skip


def test_an_evaluation_shows_methods_side_by_side(habitue, monkeypatch):
    rows = [comparison("habitue", 0.8), comparison("bg_nbd", 0.7)]
    monkeypatch.setattr(Shop, "evaluate", lambda *_, **__: rows)
    _, out, _ = habitue("evaluate", "--cutoff", "2024-06-01")
    assert out.index("habitue") < out.index("bg_nbd")
    assert "0.79 to 0.81" in out
    assert "1,200 customers" in out
    _, out, _ = habitue("evaluate", "--cutoff", "2024-06-01", "--json")
    assert json.loads(out) == rows


def test_models_are_listed_with_the_aliases_that_point_at_them(habitue, filled):
    registry = Registry(filled / "work")
    run = registry.start_run(nano(), shop="acme", cutoff=CUTOFF, now=CUTOFF)
    saw = [Saw(shop="acme", fingerprint="f", last_event=CUTOFF)]
    version = registry.publish(run, write_model, saw=saw, now=CUTOFF)
    assert habitue("promote", version, "--reason", "the first")[0] == 0
    _, out, _ = habitue("models", "--json")
    (row,) = json.loads(out)
    assert (row["version"], row["aliases"]) == (version, ["champion"])


def test_a_simulated_shop_can_be_imported_as_it_is(habitue, tmp_path):
    path = tmp_path / "shop.parquet"
    assert habitue("simulate", "--customers", 20, "--days", 60, "--out", path)[0] == 0
    code, out, _ = habitue(
        "import", path, "--workspace", tmp_path / "work", "--shop", "made-up", "--mapping",
        tmp_path / "shop.toml", "--json",
    )  # fmt: skip
    receipt = json.loads(out)
    assert code == 0
    assert receipt["appended"] == receipt["rows"] == pyarrow.parquet.read_metadata(path).num_rows


def test_compaction_leaves_the_answers_as_they_were(habitue):
    _, before, _ = habitue("query", 'SELECT * FROM orders ORDER BY "order"', "--json")
    assert habitue("compact")[0] == 0
    assert habitue("query", 'SELECT * FROM orders ORDER BY "order"', "--json")[1] == before


@pytest.mark.parametrize("name", app.habitue.commands)
def test_every_command_explains_itself_with_an_example(habitue, name):
    code, out, _ = habitue(name, "--help")
    assert code == 0
    assert f"habitue {name}" in out.partition("Examples:")[2]


def test_nothing_moves_on_the_screen_within_the_first_second(capsys):
    now = iter([0.0, 0.9, 1.1])
    shown = Bars(clock=lambda: next(now))
    shown("training", 1, 10)
    assert capsys.readouterr().err == ""
    shown("training", 2, 10)
    shown.close()
    told = capsys.readouterr()
    assert "training" in told.err
    assert told.out == ""


def test_what_takes_long_is_seen_in_a_terminal_and_nowhere_else():
    shown = Console(file=io.StringIO(), force_terminal=True, width=80)
    with waiting("asking", console=shown, patience=0):
        while "asking" not in shown.file.getvalue():
            pass
    piped = Console(file=io.StringIO())
    with waiting("asking", console=piped, patience=0):
        pass
    soon = Console(file=io.StringIO(), force_terminal=True)
    with waiting("asking", console=soon, patience=60):
        pass
    assert piped.file.getvalue() == soon.file.getvalue() == ""


def test_an_output_of_an_unknown_kind_cannot_be_made():
    with pytest.raises(click.BadParameter, match="xlsx"):
        Output(out=Path("rows.xlsx"))


@pytest.mark.parametrize(("text", "message"), [("99", "newer"), ("one", "number")])
def test_a_workspace_of_another_format_is_refused(habitue, tmp_path, text, message):
    (tmp_path / "habitue-format").write_text(text)
    code, _, err = habitue("shops", "--workspace", tmp_path)
    assert code == 1
    assert message in err


def test_a_folder_with_other_things_in_it_is_not_taken_over(habitue, filled, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    code, _, err = habitue(
        "import", "orders.csv", "--workspace", tmp_path, "--shop", "a", "--mapping", "orders.toml"
    )
    assert code == 1
    assert "not empty" in err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_workspace_opened_twice_is_the_same(tmp_path):
    assert open_workspace(tmp_path / "w") == open_workspace(tmp_path / "w") == Workspace(
        tmp_path / "w"
    )
