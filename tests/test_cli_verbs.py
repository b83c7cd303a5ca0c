"""The verbs that use a model, from the command line to the screen, on a small simulated shop."""

import json
from pathlib import Path

import pytest

from habitue.cli import app
from habitue.cli.evaluate import print_comparison

KEYS = [
    "shop", "cutoff", "horizon_days", "question", "method", "metric", "value", "low", "high",
    "customers",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture
def habitue(folder, monkeypatch, capsys):
    """Run one command in a folder with a workspace of two shops, one of them trained."""
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.main([str(one) for one in arguments])
        told = capsys.readouterr()
        return left.value.code, told.out, told.err

    if not (folder / "work").exists():
        for name, customers in (("acme", 40), ("tiny", 2)):
            made = run("simulate", "--customers", customers, "--items", 12, "--days", 240,
                       "--out", f"{name}.csv")  # fmt: skip
            assert made[0] == 0
            assert run("import", f"{name}.csv", "--shop", name, "--mapping", f"{name}.toml")[0] == 0
        code, out, err = run("train", "--shop", "acme")
        assert (code, out) == (0, "")
        assert "published v1, trained on acme up to 2023-08-" in err
    return run


def test_predictions_for_people_are_rows_of_customers_and_horizons(habitue):
    code, out, err = habitue("predict", "--shop", "acme", "--rows", 4)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("as of 2023-08-")
    assert lines[0].endswith("v1 · status transfer")
    (head,) = [line.split() for line in lines if "customer" in line]
    assert head == ["customer", "days", "order", "churn", "orders", "revenue", "next_order"]
    shown = [line.split()[:2] for line in lines if line.startswith("  c0")]
    first, second = "c0000000", "c0000001"
    assert shown == [[first, "30"], [first, "90"], [first, "180"], [second, "30"]]
    assert sum(" to " in line for line in lines) >= 4
    assert "4 of 120 rows" in err


def test_before_its_first_training_a_shop_is_told_what_other_shops_say(habitue):
    code, out, err = habitue("predict", "--shop", "tiny", "--rows", 0)
    assert code == 0
    assert " · starter" in out.splitlines()[0]
    assert "for want of: " in err
    _, out, _ = habitue("predict", "--shop", "tiny", "--json")
    rows = json.loads(out)
    assert {row["status"] for row in rows} <= {"transfer", "insufficient"}
    assert all(row["missing"] for row in rows)


def test_dates_of_the_next_order_are_days_of_the_calendar(habitue):
    _, out, err = habitue("predict", "--shop", "acme", "--question", "next_order", "--rows", 0)
    lines = [line.strip() for line in out.splitlines()]
    assert sum(line.startswith("c0") for line in lines) == 40
    assert any("2023-" in line for line in lines)
    assert all(" to " in line or "days" in line for line in lines if line.startswith("2023-"))
    assert err == ""


def test_predictions_for_programs_are_one_row_per_question(habitue, tmp_path):
    _, out, _ = habitue("predict", "--shop", "acme", "--json")
    rows = json.loads(out)
    assert len(rows) == 40 * (4 * 3 + 1)
    assert {row["question"] for row in rows if row["date"]} == {"next_order"}
    path = tmp_path / "churn.ndjson"
    habitue("predict", "--shop", "acme", "--question", "churn", "--out", path)
    churn = [json.loads(line) for line in path.read_text().splitlines()]
    assert churn == [row for row in rows if row["question"] == "churn"]


def test_a_question_is_answered_and_judged_on_the_screen_and_for_programs(habitue, tmp_path):
    path = tmp_path / "orders.parquet"
    question = "did order_placed in 30 days"
    code, out, err = habitue("ask", question, "--shop", "acme", "--rows", 3)
    assert code == 0
    assert "judged on 30 days from 2023-" in out
    assert {"base_rate", "linear_both", "trees_aggregates"} <= set(out.split())
    assert f"{question} · as of 2023-08-" in out
    assert "3 of 40 rows" in err
    _, out, err = habitue("ask", question, "--shop", "acme", "--json", "--out", path)
    told = json.loads(out)
    assert set(told) == {"method", "missing", "judged", "answers"}
    assert (told["missing"], len(told["answers"])) == ("", 40)
    assert "wrote 40 rows" in err


def test_a_question_without_an_answer_says_why(habitue):
    code, out, err = habitue("ask", "did order_placed in 200 days", "--shop", "acme")
    assert (code, out) == (0, "")
    assert "no answer: 200 days ahead are learnt from 660 days of past" in err


def test_a_question_that_cannot_be_read_is_pointed_at(habitue):
    code, _, err = habitue("ask", "count of order_plaed in 60 days", "--shop", "acme")
    assert code == 1
    assert "^" in err
    assert "did you mean order_placed?" in err
    assert habitue("ask", "who buys mugs", "--shop", "acme")[0] == 1


def test_embeddings_are_a_file_for_models_and_a_glance_for_people(habitue, tmp_path):
    from pyarrow import parquet

    for of, count in (((), 40), (("--items",), 12)):
        path = tmp_path / f"embeddings-{count}.parquet"
        code, out, err = habitue("embed", "--shop", "acme", "--width", 64, *of, "--out", path)
        assert (code, out) == (0, "")
        assert f"wrote {count} rows" in err
        column = parquet.read_table(path)["embedding"]
        assert str(column.type) == "fixed_size_list<element: halffloat>[64]"
        _, out, err = habitue("embed", "--shop", "acme", "--width", 64, *of, "--rows", 2)
        assert out.count("…") == 2
        assert f"{count} rows, 64 numbers each" in err
    _, out, _ = habitue("embed", "--shop", "acme", "--width", 64, "--json")
    assert {len(row["embedding"]) for row in json.loads(out)} == {64}


def test_what_was_not_known_yet_is_not_shown(habitue):
    def customers(*limits: str) -> int:
        _, out, _ = habitue(
            "predict", "--shop", "acme", "--question", "order", "--horizon-days", 30, "--json",
            *limits,
        )  # fmt: skip
        return len(json.loads(out))

    assert 0 < customers("--known-at", "2023-03-01") < customers() == 40


def test_lists_and_the_catalogue_are_shown_by_title(habitue):
    _, out, err = habitue("recommend", "--shop", "acme", "--k", 2, "--rows", 3)
    assert out.split()[:7] == [
        "customer", "rank", "item", "title", "score", "reason", "evidence",
    ]  # fmt: skip
    assert "3 of 80 rows" in err
    _, out, _ = habitue("items", "--shop", "acme", "--known-at", "2023-06-01", "--json")
    rows = json.loads(out)
    assert 0 < len(rows) <= 12
    assert all(row["title"] and row["expected_orders_28d"] > 0 for row in rows)


def test_an_evaluation_is_flat_rows_for_programs_and_one_table_per_question_for_people(
    habitue, capsys
):
    code, out, _ = habitue(
        "evaluate", "--shop", "acme", "--cutoff", "2023-07-01", "--horizon-days", 40, "--json"
    )
    rows = json.loads(out)
    assert code == 0
    assert all(list(row) == KEYS for row in rows)

    print_comparison(rows)
    lines = capsys.readouterr().out.splitlines()
    titles = [line.split()[0] for line in lines if " customers" in line]
    assert titles == ["order", "orders", "revenue", "next_order", "items"]
    assert set(titles) == {row["question"] for row in rows}
    heads = [line.split() for line in lines if line.split()[:1] == ["habitue"]]
    assert heads[0] == ["habitue", "bg_nbd", "mbg_nbd", "pareto_nbd", "lightgbm"]
    assert heads[4] == ["habitue", "popular_90d", "top_frequency", "item_neighbours"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict --shop nobody", "no shop named 'nobody'; the workspace holds: acme, tiny"),
        ("embed --shop tiny --out e.parquet", "no model 'champion'; the registry holds: "),
        ("recommend --shop acme --version v9", "no model 'v9'; the registry holds: champion, v1"),
        ("items --shop acme --cutoff 2023-07-01", "its answers would be remembered"),
        ("predict --shop acme --horizon-days 800", "beyond the 730 days"),
        ("evaluate --shop acme --cutoff 2023-08-15", "choose a cutoff up to 2023-0"),
        ("evaluate --shop acme --cutoff 2023-08-15 --horizon-days 9999", "a shorter horizon"),
        ("train --shop acme --cutoff 2023-01-01", "0 orders before the cutoff, and 20 are needed"),
    ],
)
def test_what_cannot_be_answered_says_why_and_what_to_do(habitue, arguments, message):
    code, out, err = habitue(*arguments.split())
    assert (code, out) == (1, "")
    assert message in err
    assert "\nhint: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        "predict --horizon-days inf",
        "predict --horizon-days 0",
        "evaluate --cutoff 2023-07-01 --horizon-days nan",
        "recommend --not-sold-days inf",
        "predict --cutoff 9999-12-31",
        "predict --known-at 0001-01-01T00:00:00+05:00",
    ],
)
def test_an_impossible_number_of_days_or_year_is_not_understood(habitue, arguments):
    code, out, err = habitue(*arguments.split(), "--shop", "acme")
    assert (code, out) == (2, "")
    assert "Invalid value" in err


def test_why_tells_factors_that_add_up_to_what_predict_says(habitue):
    _, out, _ = habitue("predict", "--shop", "acme", "--question", "churn", "--horizon-days", 60,
                        "--json")  # fmt: skip
    row = json.loads(out)[0]
    code, out, _ = habitue("why", row["customer"], "--shop", "acme", "--horizon-days", 60, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["value"] == row["value"]
    total = told["reference"] + sum(one["points"] for one in told["factors"]) + told["unshared"]
    assert total == pytest.approx(row["value"], abs=1e-9)


def test_why_for_people_goes_from_the_reference_to_the_prediction(habitue):
    code, out, err = habitue("why", "c0000000", "--shop", "acme", "--budget-ms", 0)
    assert code == 0
    assert out.startswith("c0000000: churn within 90 days ")
    assert "a typical new customer, who ordered just now" in out
    assert "no order for" in out
    assert "not divided: the time was over" in out
    assert "cut after 2 scorings" in err


def test_why_of_a_stranger_says_where_to_look(habitue):
    code, out, err = habitue("why", "nobody", "--shop", "acme")
    assert (code, out) == (1, "")
    assert "nothing is predicted of 'nobody'" in err
    assert "hint: `habitue predict`" in err


def test_what_came_after_an_audience_is_asked_of_a_version_that_saw_no_further(habitue):
    """The last test here, since it trains another version."""
    asked = ["audience", "order_30d >= 0.2", "--shop", "acme", "--cutoff", "2023-07-01",
             "--then", "30d"]  # fmt: skip
    assert "nothing was predicted about order in 30 days" in habitue(*asked)[2]
    code, _, err = habitue(*asked, "--recompute")
    assert code == 1
    assert "hint: `habitue train --shop acme --cutoff 2023-07-01" in err
    assert habitue("train", "--shop", "acme", "--cutoff", "2023-07-01")[0] == 0
    told = json.loads(habitue(*asked, "--recompute", "--json")[1])
    assert told["chance"]["version"] == "v2"
    assert told["chance"]["horizon_days"] == 30
    assert told["is_recomputed"]
    assert 0 < told["inside"]["customers"] < 40
    assert [one["name"] for one in told["comparison"]["balance"]][-1] == (
        "predicted chance of an order"
    )
    # nothing that was made now passes for what was recorded then
    assert "nothing was predicted about order in 30 days" in habitue(*asked)[2]
