"""Commands about who may send and ask, and what they mean: keys, names, currency."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from habitue.cli.options import (
    choose,
    examples,
    with_json,
    with_new_shop,
    with_output,
    with_shop,
)
from habitue.cli.output import Output, print_json, say
from habitue.config import utc_now
from habitue.directory import Key, KeyKind, Limit
from habitue.errors import BadSetting
from habitue.workspace import Shop, open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES = ("native", "klaviyo", "segment", "posthog")


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "habitue keys --shop acme",
        "habitue keys create --shop acme --kind secret --label 'web shop'",
        "habitue keys revoke --shop acme KEY",
    ),
)
@click.option("--shop", metavar="NAME", help="The shop whose keys to list.")
@click.option(
    "--workspace", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)  # fmt: skip
@with_output
def keys(shop: str | None, workspace: Path | None, output: Output) -> None:
    """List a shop's keys, make one, or revoke one.

    A public key may be in a browser: it sends and never reads. A key is shown once, when it is
    made; only its hash is kept.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    chosen = choose(open_workspace(workspace, create=False), shop)
    output.show(_table(chosen.workspace.directory.keys(chosen.name)))


@keys.command(epilog=examples("habitue keys create --shop acme --kind public"))
@with_new_shop
@click.option(
    "--kind", type=click.Choice(["public", "secret"]), required=True,
    help="public: may send and never read; secret: may do both.",
)  # fmt: skip
@click.option("--label", default="", help="What it is for, to know it by later.")
@click.option("--per-second", type=click.IntRange(1), help="The most requests in a second.")
@click.option("--per-minute", type=click.IntRange(1), help="The most requests in a minute.")
@with_json
def create(
    shop: Shop, kind: KeyKind, label: str, per_second: int | None, per_minute: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Make a key and show it, this once; a shop that is new is made with it."""
    directory = shop.workspace.directory
    is_new = shop.name not in shop.workspace.shops()
    directory.shop(shop.name, create=True)
    if is_new:
        say(f"made the shop {shop.name} in {shop.workspace.path}")
    key, plain = directory.issue_key(
        shop.name, kind, now=utc_now(), label=label, limit=Limit(per_second, per_minute)
    )
    if as_json:
        print_json({"id": key.id, "kind": kind, "key": plain})
        return
    click.echo(plain)
    say(f"this {kind} key of {shop.name} has the id {key.id} and is not shown again")


@keys.command(epilog=examples("habitue keys revoke --shop acme KEY"))
@click.argument("key")
@with_shop
def revoke(key: str, shop: Shop) -> None:
    """Refuse a key from now on; KEY is its id, as `habitue keys` lists it."""
    shop.workspace.directory.revoke(key, shop=shop.name, now=utc_now())
    say(f"revoked: {key}")


@click.command(
    epilog=examples(
        "habitue names --shop acme --source klaviyo",
        "habitue names --shop acme --source klaviyo --set 'Viewed Thing=item_viewed'",
    )
)
@with_shop
@click.option("--source", type=click.Choice(SOURCES), help="Of which client.  [default: all]")
@click.option(
    "--set", "sets", multiple=True, metavar="THEIRS=OURS",
    help="From now on THEIRS means OURS; an empty OURS forgets it. May be repeated.",
)  # fmt: skip
@with_output
def names(shop: Shop, source: str | None, sets: tuple[str, ...], output: Output) -> None:
    """Show or change what a shop's event names mean.

    The shop's own table goes before the one that is built in. What came in before keeps its name,
    unless it is replayed.
    """
    directory = shop.workspace.directory
    if sets:
        directory.shop(shop.name, create=True)
    for one in sets:
        theirs, equals, ours = one.rpartition("=")
        if source is None or not equals or not theirs:
            raise click.UsageError("--set wants THEIRS=OURS, and --source the client that says so")
        directory.set_name(shop.name, source, theirs, ours or None)
    output.show(_names(directory.names(shop.name), source))


@click.command(
    epilog=examples("habitue currency --shop acme", "habitue currency GBP --shop acme")
)
@click.argument("code", required=False)
@with_shop
@with_json
def currency(code: str | None, shop: Shop, as_json: bool) -> None:
    """Show or set the currency of a shop's amounts that name none.

    CODE is three letters, as GBP. What came in before keeps the currency that it has.
    """
    directory = shop.workspace.directory
    directory.shop(shop.name, create=True)
    if code is not None:
        directory.set_currency(shop.name, _currency(code))
    held = directory.shop(shop.name).currency
    if as_json:
        print_json({"shop": shop.name, "currency": held})
    elif held is None:
        say(f"{shop.name} has no currency of its own: an amount without one is not taken")
    else:
        click.echo(held)


def _currency(code: str) -> str:
    from habitue.ingest.doors import fields

    found = fields.currency(code, "", [])
    if found is None:
        raise BadSetting(f"{code!r} is no currency\nhint: three letters, as EUR")
    return found


def _table(held: list[Key]) -> "pa.Table":
    import pyarrow as pa

    columns = {
        "id": pa.array([key.id for key in held], pa.string()),
        "kind": pa.array([key.kind for key in held], pa.string()),
        "label": pa.array([key.label for key in held], pa.string()),
        "per_second": pa.array([key.limit.per_second for key in held], pa.int64()),
        "per_minute": pa.array([key.limit.per_minute for key in held], pa.int64()),
        "created": pa.array([key.created for key in held], pa.timestamp("us", tz="UTC")),
        "revoked": pa.array([key.revoked for key in held], pa.timestamp("us", tz="UTC")),
    }
    return pa.table(columns)


def _names(tables: dict[str, dict[str, str]], source: str | None) -> "pa.Table":
    import pyarrow as pa

    rows = [
        (of, theirs, ours)
        for of, table in sorted(tables.items())
        for theirs, ours in sorted(table.items())
        if source in (None, of)
    ]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=["source", "theirs", "ours"])
