"""The documentation is held to the code: what is missing or out of date fails."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import page
from docs.generate import REFERENCE, pages
from habitue.cli.app import habitue
from habitue.config import SETTINGS_FILE

ROOT = Path(__file__).parent.parent
PROSE = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.parent != REFERENCE
)
WRITTEN = pages()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_generated_page_is_what_the_code_says(name):
    assert (REFERENCE / name).read_text() == WRITTEN[name], "run `make docs`"


def test_the_reference_holds_nothing_but_generated_pages():
    assert {path.name for path in REFERENCE.iterdir()} == set(WRITTEN)


@pytest.mark.parametrize("path", PROSE, ids=name_of)
def test_every_link_between_pages_leads_somewhere(path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing


def shown_commands() -> list[str]:
    """Every `habitue …` line in a shell block of the prose and in the examples of --help."""
    blocks = [
        block
        for path in PROSE
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    epilogs = [command.epilog or "" for command in habitue.commands.values()]
    lines = "\n".join(blocks + epilogs).replace("\\\n", " ").splitlines()
    shown = (line.strip().removeprefix("$ ") for line in lines)
    return sorted({line for line in shown if line.startswith("habitue ")})


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_shown_is_understood(line):
    arguments = shlex.split(line, comments=True)[1:]
    arguments = arguments[: arguments.index("|")] if "|" in arguments else arguments
    name = next(one for one in arguments if not one.startswith("-"))
    rest = arguments[arguments.index(name) + 1 :]
    habitue.commands[name].make_context(name, rest).close()


def test_every_make_target_is_explained():
    text = (ROOT / "Makefile").read_text()
    (declared,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    undocumented = [one for one in declared.split() if not re.search(rf"(?m)^{one}:.*## ", text)]
    assert not undocumented


@pytest.mark.parametrize("room", sorted(p.parent.name for p in ROOT.glob("habitue/*/__init__.py")))
def test_every_room_is_in_the_readme(room):
    assert re.search(rf"^  {room}/ ", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("module", sorted(p.name for p in ROOT.glob("habitue/[a-z]*.py")))
def test_every_loose_module_is_in_the_readme(module):
    assert re.search(rf"^  {re.escape(module)} ", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_every_decision_is_in_the_index():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    decisions = [path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")]
    assert decisions
    assert not [name for name in decisions if f"({name})" not in index]


def test_the_settings_file_is_named_in_the_reference():
    assert SETTINGS_FILE in WRITTEN["settings.md"]


def test_the_benchmarks_say_what_their_rows_say():
    assert page.with_parts(page.PAGE.read_text()) == page.PAGE.read_text(), (
        "run `python -m benchmarks.page`"
    )
    for name, content in page.figures().items():
        assert (page.FIGURES / name).read_text() == content, "run `python -m benchmarks.page`"
