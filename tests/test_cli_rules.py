"""Rules of what is recommended, from the command line."""

import json
from pathlib import Path

import pytest

from habitue.cli import app


def test_a_rule_is_added_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            app.main(["rules", *map(str, arguments)])
        told = capsys.readouterr()
        return left.value.code, told.out.strip(), told.err

    code, first, err = run("add", "pin", "--shop", "acme", "--item", "mug", "--position", 2)
    assert code == 0
    assert "pin at 2: item mug" in err
    code, out, _ = run(
        "add", "boost", "--shop", "acme", "--brand", "Ton", "--price-to", 25, "--factor", 3,
        "--until", "2030-01-01", "--note", "advent", "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["rule"]["match"] == {"brands": ["Ton"], "price_to": 25.0}
    _, out, _ = run("--shop", "acme", "--json")
    rows = json.loads(out)
    assert [row["rule"] for row in rows] == [
        "pin at 2: item mug", "boost × 3: brand Ton and price up to 25",
    ]  # fmt: skip
    assert run("remove", first, "--shop", "acme")[0] == 0
    assert len(json.loads(run("--shop", "acme", "--json")[1])) == 1
    code, _, err = run("remove", first, "--shop", "acme")
    assert code == 1
    assert "`habitue rules` lists them" in err
    code, _, err = run("add", "bury", "--shop", "acme")
    assert code == 1
    assert "names nothing" in err
    assert run("add", "praise", "--shop", "acme")[0] == 2
