"""The weights that ship with the package, by name; light enough to be asked at once."""

from importlib.resources import files
from pathlib import Path

SHELF = Path(str(files("habitue.transfer"))) / "weights"


def names(shelf: Path = SHELF) -> list[str]:
    """The starters of a shelf, in the order in which they are tried."""
    return sorted(path.parent.name for path in shelf.glob("*/config.json"))


def is_starter(name: str | None, shelf: Path = SHELF) -> bool:
    """Whether a version is named that ships, and was not trained here."""
    return name in names(shelf)
