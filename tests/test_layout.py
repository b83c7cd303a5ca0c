"""The house rules that a script can keep: rooms and files stay small, doors open quickly."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "habitue"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
HEAVY = {"torch", "ray", "sklearn", "lightgbm", "deltalake", "pyarrow", "pandas", "scipy", "duckdb"}
MOST_FILES, MOST_LINES = 12, 600


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_holds_at_most_twelve_files(room):
    assert len(list(room.glob("*.py"))) <= MOST_FILES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_stays_below_the_wall_and_says_what_it_is(path):
    text = path.read_text()
    assert text.strip(), "empty"
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text)), "no docstring"


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_the_init_of_a_room_holds_a_docstring_and_no_code(room):
    body = ast.parse((room / "__init__.py").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_folder_of_modules_is_a_room(path):
    assert (path.parent / "__init__.py").is_file()


def test_every_test_file_mirrors_a_room_or_a_module():
    rooms = {path.name for path in ROOMS} | {"contracts", "golden"}
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders - {"tests"} <= rooms


def run_fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def loaded_after(code: str) -> set[str]:
    told = run_fresh(f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))")
    return {name.partition(".")[0] for name in json.loads(told.splitlines()[-1])}


HELP = """
from click.testing import CliRunner
from habitue.cli.app import habitue
assert CliRunner().invoke(habitue, ["--help"]).exit_code == 0
"""


@pytest.mark.parametrize("code", ["import habitue", HELP], ids=["import", "help"])
def test_the_door_opens_without_anything_heavy(code):
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize(
    "code, most", [("import habitue", 0.15), (HELP, 1.0)], ids=["import", "help"]
)
def test_the_door_opens_within_little_processor_time(code, most):
    timed = f"import time\nbegun = time.process_time()\n{code}\nprint(time.process_time() - begun)"
    assert min(float(run_fresh(timed).splitlines()[-1]) for _ in range(5)) < most
