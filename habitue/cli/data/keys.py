"""Commands about who may send and ask, and what they mean: keys, names, currency."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from habitue.audit import AUDIT_FILE, Audit
from habitue.cli.options import (
    Instant,
    choose,
    examples,
    with_json,
    with_new_shop,
    with_output,
    with_shop,
)
from habitue.cli.output import Output, print_json, say
from habitue.config import utc_now
from habitue.directory import Grant, Key, KeyKind, Limit
from habitue.errors import BadSetting
from habitue.scopes import SCOPES
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
    """List a shop's keys, make one, rotate one, or revoke one.

    A public key may be in a browser: it sends and never reads. A key is shown once, when it is
    made; only its hash is kept.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    chosen = choose(open_workspace(workspace, create=False), shop)
    used = Audit(chosen.workspace.path / AUDIT_FILE).last_uses()
    output.show(_table(chosen.workspace.directory.keys(chosen.name), used))


def _with_grant(command: Callable[..., None]) -> Callable[..., None]:
    """Add --scope, --expires and the limits; the command is given a `grant`."""

    @click.option(
        "--scope", "scopes", type=click.Choice(list(SCOPES)), multiple=True,
        help="What a secret key may do. May be repeated.  [default: everything]",
    )  # fmt: skip
    @click.option("--expires", type=Instant(), help="Refuse it from then on.  [default: never]")
    @click.option("--per-second", type=click.IntRange(1), help="The most requests in a second.")
    @click.option("--per-minute", type=click.IntRange(1), help="The most requests in a minute.")
    @functools.wraps(command)
    def granted(
        *, scopes: tuple[str, ...], expires: datetime | None, per_second: int | None,
        per_minute: int | None, **others: object,
    ) -> None:  # fmt: skip
        grant = Grant(
            limit=Limit(per_second, per_minute), scopes=frozenset(scopes) or None, expires=expires
        )
        command(grant=grant, **others)

    return granted


@keys.command(
    epilog=examples(
        "habitue keys create --shop acme --kind public",
        "habitue keys create --shop acme --kind secret --scope predictions:read",
    )
)
@with_new_shop
@click.option(
    "--kind", type=click.Choice(["public", "secret"]), required=True,
    help="public: may send and never read; secret: may do both.",
)  # fmt: skip
@click.option("--label", default="", help="What it is for, to know it by later.")
@_with_grant
@with_json
def create(shop: Shop, kind: KeyKind, label: str, grant: Grant, as_json: bool) -> None:
    """Make a key and show it, this once; a shop that is new is made with it."""
    directory = shop.workspace.directory
    is_new = shop.name not in shop.workspace.shops()
    directory.shop(shop.name, create=True)
    if is_new:
        say(f"made the shop {shop.name} in {shop.workspace.path}")
    made = directory.issue_key(shop.name, kind, now=utc_now(), label=label, grant=grant)
    _show(*made, as_json=as_json)


@keys.command(epilog=examples("habitue keys rotate --shop acme KEY --overlap-days 7"))
@click.argument("key")
@with_shop
@click.option(
    "--overlap-days", type=click.FloatRange(0), default=7.0, show_default=True,
    help="How long KEY is in force beside the new one.",
)  # fmt: skip
@with_json
def rotate(key: str, shop: Shop, overlap_days: float, as_json: bool) -> None:
    """Make a key that may do what KEY may, and refuse KEY after the overlap.

    KEY is an id, as `habitue keys` lists it. The new key is shown this once.
    """
    overlap = timedelta(days=overlap_days)
    made = shop.workspace.directory.rotate_key(
        key, shop=shop.name, now=utc_now(), overlap=overlap
    )
    say(f"{key} is refused from {utc_now() + overlap:%Y-%m-%d %H:%M}Z on")
    _show(*made, as_json=as_json)


@keys.command(epilog=examples("habitue keys limit --shop acme KEY --per-second 50"))
@click.argument("key")
@with_shop
@click.option("--per-second", type=click.IntRange(1), help="The most in a second.  [default: any]")
@click.option("--per-minute", type=click.IntRange(1), help="The most in a minute.  [default: any]")
def limit(key: str, shop: Shop, per_second: int | None, per_minute: int | None) -> None:
    """Let a key make so many requests from now on; without a number, as many as it likes."""
    held = Limit(per_second, per_minute)
    shop.workspace.directory.limit_key(key, shop=shop.name, now=utc_now(), limit=held)
    say(f"changed: {key}")


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


def _show(key: Key, plain: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": key.id, "kind": key.kind, "key": plain})
        return
    click.echo(plain)
    say(f"this {key.kind} key of {key.shop} has the id {key.id} and is not shown again")


def _currency(code: str) -> str:
    from habitue.ingest.doors import fields

    found = fields.currency(code, "", [])
    if found is None:
        raise BadSetting(f"{code!r} is no currency\nhint: three letters, as EUR")
    return found


def _table(held: list[Key], used: Mapping[str, datetime]) -> "pa.Table":
    import pyarrow as pa

    scopes = [sorted(key.grant.scopes or ("everything",)) for key in held]
    instant = pa.timestamp("us", tz="UTC")
    columns = {
        "id": pa.array([key.id for key in held], pa.string()),
        "kind": pa.array([key.kind for key in held], pa.string()),
        "label": pa.array([key.label for key in held], pa.string()),
        "per_second": pa.array([key.limit.per_second for key in held], pa.int64()),
        "per_minute": pa.array([key.limit.per_minute for key in held], pa.int64()),
        "scopes": pa.array(
            ["send" if key.kind == "public" else " ".join(may)
             for key, may in zip(held, scopes, strict=True)], pa.string()
        ),
        "created": pa.array([key.created for key in held], instant),
        "last_used": pa.array([used.get(key.id) for key in held], instant),
        "expires": pa.array([key.grant.expires for key in held], instant),
        "revoked": pa.array([key.revoked for key in held], instant),
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
