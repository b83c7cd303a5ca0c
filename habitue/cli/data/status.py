"""The command that shows how the service goes, once or as a live view."""

import contextlib
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.options import examples, with_json, with_workspace
from habitue.cli.output import print_json
from habitue.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from habitue.serving.beside.overview import Overview

_MOST_SHOPS = 20                           # that the view shows, those with the most events first


@click.command(epilog=examples("habitue status --workspace work", "habitue status --watch"))
@with_workspace
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(0.2), default=1.0, show_default=True, metavar="SECONDS",
    help="Between two looks of --watch.",
)  # fmt: skip
@with_json
def status(workspace: Workspace, watch: bool, every: float, as_json: bool) -> None:
    """Show how the service goes: rates, lag, the log's depth, what was rejected, small files.

    Reads files, so it works whether or not a server runs.
    """
    from habitue.serving.app import Place
    from habitue.serving.beside.overview import overview

    place = Place(
        path=workspace.path, log=workspace.log, directory=workspace.directory,
        lake=lambda: workspace.lake,
    )  # fmt: skip
    with contextlib.closing(place.log):
        if as_json:
            print_json(asdict(overview(place)))
        elif watch:
            _watch(lambda: overview(place), every)
        else:
            _console().print(_view(overview(place)))


def _watch(look: Any, every: float) -> None:
    from rich.live import Live

    with Live(_view(look()), console=_console(), screen=True) as live, _until_interrupted():
        while True:
            time.sleep(every)
            live.update(_view(look()))


def _until_interrupted() -> contextlib.suppress:
    return contextlib.suppress(KeyboardInterrupt)


def _console() -> Any:
    from rich.console import Console

    from habitue.cli.output import PIPED_WIDTH

    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def _view(seen: "Overview") -> "Group":
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    figures = Table(box=None, show_header=False)
    for name, value in _figures(seen):
        figures.add_row(Text(name, style="dim"), Text(value))
    shops = Table(box=SIMPLE_HEAD)
    for name in ("shop", "accepted", "rejected", "by reason"):
        shops.add_column(name, justify="right" if name in {"accepted", "rejected"} else "left")
    for one in sorted(seen.shops, key=lambda one: -one.accepted)[:_MOST_SHOPS]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.reasons.items()))
        shops.add_row(Text(one.shop), f"{one.accepted:,}", f"{one.rejected:,}", Text(reasons))
    parts: list[Table | Text] = [figures]
    if seen.failure:
        parts.append(Text(f"the worker cannot go on: {seen.failure}", style="bold red"))
    if seen.shops:
        parts.append(shops)
    if seen.scoring:
        parts.append(_scoring(seen))
    return Group(*parts)


def _scoring(seen: "Overview") -> "Table":
    """How far each shop's scores are."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for name in ("scores of", "version", "as a whole", "waiting", "lag"):
        table.add_column(name, justify="right" if name in {"waiting", "lag"} else "left")
    for one in seen.scoring[:_MOST_SHOPS]:
        at = one.problem if one.cutoff is None else f"{one.cutoff:%Y-%m-%d %H:%M}Z"
        table.add_row(
            Text(one.shop), Text(one.version or "none yet"), Text(at or ""), f"{one.waiting:,}",
            f"{one.lag_seconds:,.1f} s",
        )  # fmt: skip
    return table


def _figures(seen: "Overview") -> list[tuple[str, str]]:
    """What stands above the shops, as text."""
    up = f"{seen.address}, up {seen.seconds_up:,.0f} s" if seen.address else "none runs"
    last = "never" if seen.last_commit is None else _ago(seen.last_commit)
    return [
        ("server", up),
        ("comes in", f"{seen.rows_per_second:,.0f} rows/s"),
        ("committed", f"{seen.committed_per_second:,.0f} rows/s, last {last}"),
        ("lag", f"{seen.lag_seconds:,.1f} s"),
        ("log", f"{seen.log_rows:,} requests wait, {seen.log_bytes / 1e6:,.1f} MB of files"),
        ("settled", f"{seen.appended:,} appended, {seen.duplicate:,} duplicate"),
        ("lake", f"{seen.files:,} files, {seen.small_files:,} small"),
        ("live audiences", _untold(seen.untold_scores)),
    ]


def _untold(count: int | None) -> str:
    """How many scores live audiences are yet to take over."""
    if count is None:
        return "scores are out of reach"
    return f"{count:,} scores are yet to be taken over" if count else "know all scores"


def _ago(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}Z"
