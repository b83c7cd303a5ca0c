"""The file that marks a folder as a workspace: the number of its format."""

import os
from pathlib import Path

from habitue.errors import BadWorkspace

FORMAT = 2                                 # of the folder; raised when an old one cannot be read
FORMAT_FILE = "habitue-format"


def read_format(folder: Path) -> int:
    """The format of a workspace; raises `BadWorkspace` where there is none."""
    marker = folder / FORMAT_FILE
    if not marker.is_file():
        raise BadWorkspace(f"no workspace at {folder}: it holds no {FORMAT_FILE}")
    text = marker.read_text().strip()
    if not text.isdecimal():
        raise BadWorkspace(f"{marker} should hold a number and holds {text[:40]!r}")
    return int(text)


def write_format(folder: Path, number: int) -> None:
    """Say which format a workspace has."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{FORMAT_FILE}.{os.getpid()}"
    draft.write_text(f"{number}\n")
    draft.replace(folder / FORMAT_FILE)
