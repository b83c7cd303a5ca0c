"""The files that mark a folder as a workspace: its format, and where its lake is if elsewhere."""

import os
from pathlib import Path

from habitue.errors import BadWorkspace

FORMAT = 2                                 # of the folder; raised when an old one cannot be read
FORMAT_FILE = "habitue-format"
LAKE_FILE = "habitue-lake"                 # an address and an id, a line each


def read_format(folder: Path) -> int:
    """The format of a workspace; raises `BadWorkspace` where there is none."""
    marker = folder / FORMAT_FILE
    if not marker.is_file():
        raise BadWorkspace(f"no workspace at {folder}: it holds no {FORMAT_FILE}")
    text = marker.read_text().strip()
    if not text.isdecimal():
        raise BadWorkspace(f"{marker} should hold a number and holds {text[:40]!r}")
    return int(text)


def keep_private(folder: Path) -> None:
    """Make a folder that holds personal data, which nobody but its owner may enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_format(folder: Path, number: int) -> None:
    """Say which format a workspace has; from now on its folder is its owner's alone."""
    keep_private(folder)
    draft = folder / f".{FORMAT_FILE}.{os.getpid()}"
    draft.write_text(f"{number}\n")
    draft.replace(folder / FORMAT_FILE)


def lake_place(folder: Path) -> Path | str:
    """Where the lake of a workspace is: s3://bucket/prefix if it was put there, else its folder."""
    told = folder / LAKE_FILE
    return told.read_text().split()[0] if told.is_file() else folder / "lake"


def write_lake(folder: Path, address: str, id: str) -> None:
    """Say that the lake of a workspace is in a bucket."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{LAKE_FILE}.{os.getpid()}"
    draft.write_text(f"{address}\n{id}\n")
    draft.replace(folder / LAKE_FILE)


def check_format(folder: Path) -> None:
    """Raise BadWorkspace, unless this version of habitue reads the folder's format."""
    number = read_format(folder)
    if number > FORMAT:
        raise BadWorkspace(
            f"{folder} has format {number}; this version of habitue reads up to {FORMAT}\n"
            "hint: install a newer habitue"
        )
    if number < FORMAT:
        raise BadWorkspace(
            f"{folder} has format {number}, of an earlier release; this one has {FORMAT}\n"
            f"hint: `habitue upgrade --workspace {folder}` brings it up; copy the folder first"
        )
