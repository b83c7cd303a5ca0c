"""The public names: importable, documented, and no others."""

import ast
import inspect
from pathlib import Path

import pytest

import habitue

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "python.md"
NAMES = [name for name in habitue.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported_and_says_what_it_is(name):
    assert inspect.getdoc(getattr(habitue, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_in_the_reference(name):
    assert f"habitue.{name}" in PAGE.read_text()


def test_type_checkers_see_the_public_names_and_no_others():
    tree = ast.parse(Path(habitue.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    aliases = {alias.asname for node in imported for alias in node.names if alias.asname}
    assert aliases | {"open"} == set(NAMES)


def test_dir_lists_the_public_names_and_no_others():
    assert dir(habitue) == sorted(habitue.__all__)


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'train_everything'"):
        habitue.train_everything  # noqa: B018
