"""The command that says whether all is well, and what to do where it is not."""

import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from habitue.cli.options import examples, with_json
from habitue.cli.output import print_json
from habitue.config import load_settings
from habitue.workspace import Workspace

if TYPE_CHECKING:
    from habitue.serving.doctor.findings import Finding

_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "problem "}


@click.command(epilog=examples("habitue doctor --workspace work", "habitue doctor --json"))
@click.option(
    "--workspace", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)  # fmt: skip
@with_json
def doctor(folder: Path | None, as_json: bool) -> None:
    """Look at the disk, the clock, versions, permissions, lags, the log and the lake.

    Each line is ok, a warning or a problem, with a hint. Exits with 1 where a problem stands. It
    reads files and changes nothing, so it works whether or not a server runs.
    """
    from habitue.serving.doctor.examine import is_well

    findings = _examined(folder or load_settings().workspace)
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        for one in findings:
            click.echo(f"{_MARKS[one.state]}{one.check:<12}{one.told}")
            if one.hint:
                click.echo(f"{'':20}hint: {one.hint}")
    if not is_well(findings):
        click.get_current_context().exit(1)


def _examined(folder: Path) -> "list[Finding]":
    from habitue.serving.app import Place
    from habitue.serving.doctor.examine import is_well, of_machine, of_service

    if not folder.is_dir():
        raise click.UsageError(f"there is no folder {folder}: --workspace names the one to look at")
    findings = of_machine(folder, os.getuid())
    if not is_well(one for one in findings if one.check == "format"):
        return findings
    workspace = Workspace(folder)
    place = Place(
        path=folder, log=workspace.log, directory=workspace.directory,
        lake=lambda: workspace.lake,
    )  # fmt: skip
    with contextlib.closing(place.log):
        return findings + of_service(place)
