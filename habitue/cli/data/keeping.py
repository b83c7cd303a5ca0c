"""Commands about a workspace's care: backup, restore, upgrade, lake."""

from pathlib import Path

import click

from habitue.cli.bars import bars
from habitue.cli.options import examples, with_json, with_output, with_workspace
from habitue.cli.output import Output, print_json, say
from habitue.config import load_settings, utc_now
from habitue.workspace import Workspace

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(epilog=examples("habitue backup copies/monday --workspace work"))
@click.argument("target", type=_FOLDER)
@with_workspace
@with_json
def backup(target: Path, workspace: Workspace, as_json: bool) -> None:
    """Copy a workspace into a new folder, as it is at one instant; a service may run.

    A copy holds the shops' secrets: keep it as safe as the workspace.
    """
    from habitue import upkeep

    with bars() as shown:
        made = upkeep.backup(workspace.path, target, now=utc_now(), progress=shown)
    if as_json:
        print_json(made)
    else:
        say(f"copied {made.files:,} files, {made.bytes / 1e6:,.1f} MB, to {target}")


@click.command(
    epilog=examples(
        "habitue restore copies/monday --workspace work",
        "habitue restore copies/monday --workspace new --erased-in work",
    )
)
@click.argument("copy", type=_FOLDER)
@click.option("--workspace", type=_FOLDER, required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--erased-in", type=_FOLDER, metavar="DIR",
    help="The workspace that this replaces: whoever was erased there stays erased.",
)  # fmt: skip
@with_json
def restore(copy: Path, workspace: Path, erased_in: Path | None, as_json: bool) -> None:
    """Put a copy back into a new folder; whoever was erased stays erased."""
    from habitue import upkeep

    with bars() as shown:
        done = upkeep.restore(copy, workspace, erased_in=erased_in, progress=shown)
    if as_json:
        print_json(done)
        return
    say(f"restored {done.backup.files:,} files of {done.backup.created:%Y-%m-%d %H:%M} UTC")
    if done.erased_rows:
        say(f"erased again: {done.erased_rows:,} rows of customers who were erased since")


@click.command(epilog=examples("habitue upgrade --workspace work"))
@click.option("--workspace", type=_FOLDER, metavar="DIR", help="The folder to bring up.")
@with_json
def upgrade(workspace: Path | None, as_json: bool) -> None:
    """Bring a workspace of an earlier release up to this one; copy the folder first."""
    from habitue import upkeep
    from habitue.marker import FORMAT

    folder = workspace or load_settings().workspace
    former = upkeep.upgrade(folder)
    if as_json:
        print_json({"from": former, "to": FORMAT})
    elif former == FORMAT:
        say(f"{folder} has format {FORMAT} already")
    else:
        say(f"{folder}: from format {former} to {FORMAT}")


@click.group(epilog=examples("habitue lake status --workspace work"))
def lake() -> None:
    """How the tables lie on the disk, and their care."""


@lake.command(epilog=examples("habitue lake status", "habitue lake status --json"))
@with_workspace
@with_output
def status(workspace: Workspace, output: Output) -> None:
    """Files, rows, bytes and versions of every table."""
    import pyarrow as pa

    from habitue.lake.maintenance import lake_status

    rows = [
        {
            "table": one.name,
            "rows": one.rows,
            "files": one.files,
            "small_files": one.small_files,
            "bytes": one.bytes,
            "most_in_a_bucket": one.most_files[0][1] if one.most_files else 0,
            "version": one.version,
            "oldest_readable": one.oldest_version,
        }
        for one in lake_status(workspace.lake)
    ]
    if rows:
        output.show(pa.Table.from_pylist(rows))
    else:
        say("the lake is empty yet")


@lake.command(epilog=examples("habitue lake vacuum --keep-hours 48"))
@click.option(
    "--keep-hours", type=click.IntRange(0), default=24, show_default=True,
    help="Former versions of so many hours stay readable.",
)  # fmt: skip
@with_workspace
@with_json
def vacuum(keep_hours: int, workspace: Workspace, as_json: bool) -> None:
    """Delete files that were replaced longer ago than that."""
    from habitue.lake import maintenance

    deleted = maintenance.vacuum(workspace.lake, now=utc_now(), keep_hours=keep_hours)
    if as_json:
        print_json({"files_deleted": deleted})
    else:
        say(f"files deleted: {deleted:,}")
