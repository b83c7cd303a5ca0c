"""Commands about who customers are: customer, links, link, unlink, conflicts, sources."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.options import (
    When,
    examples,
    with_json,
    with_known_at,
    with_output,
    with_shop,
    with_time,
)
from habitue.cli.output import Output, cell, print_grid, print_json, say
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.lake.views.customer import Customer

# one row per link, in the order in which they count
_LINKS = """
SELECT "time", key, other, source, cause, undo, public, received FROM links
ORDER BY "time", received, digest
"""


@click.command(
    epilog=examples(
        "habitue customer c_42 --shop acme",
        "habitue customer --email ada@example.com --shop acme --cutoff 2011-09-09 --json",
    )
)
@click.argument("key", required=False)
@click.option("--email", metavar="EMAIL", help="The customer who has this email.")
@click.option("--phone", metavar="PHONE", help="The customer who has this phone, as +442079460958.")
@with_shop
@with_time
@with_json
def customer(
    key: str | None, email: str | None, phone: str | None, shop: Shop, when: When, as_json: bool,
) -> None:  # fmt: skip
    """Show one customer: keys and why they are theirs, properties, consent, last events.

    KEY is an external id as the shop sends it, or another key as tables show it: email:…, phone:…,
    anonymous:…, profile:….
    """
    if [key, email, phone].count(None) != 2:
        raise click.UsageError("a customer is named by KEY, by --email or by --phone")
    found = shop.customer(
        key, email=email, phone=phone, cutoff=when.cutoff, known_at=when.known_at
    )
    if as_json:
        print_json(found)
    elif found.is_known:
        _print_customer(found)
    else:
        say(f"nothing is known of {key or email or phone}")


@click.command(epilog=examples("habitue links --shop acme", "habitue links --shop acme --json"))
@with_shop
@with_time
@with_output
def links(shop: Shop, when: When, output: Output) -> None:
    """List what was said of keys that belong together, or (undo) do not."""
    output.show(shop.query(_LINKS, cutoff=when.cutoff, known_at=when.known_at))


@click.command(epilog=examples("habitue link c_42 anonymous:web-1 --shop acme"))
@click.argument("key")
@click.argument("other")
@with_shop
@click.option("--reason", default="", help="Why, for those who look later.")
@with_json
def link(key: str, other: str, shop: Shop, reason: str, as_json: bool) -> None:
    """Say that two keys are one customer from now on.

    Answers as of an earlier cutoff stay as they were.
    """
    _told(shop, key, other, reason, undo=False, as_json=as_json)


@click.command(epilog=examples("habitue unlink c_42 anonymous:web-1 --shop acme --reason 'shared'"))
@click.argument("key")
@click.argument("other")
@with_shop
@click.option("--reason", default="", help="Why, for those who look later.")
@with_json
def unlink(key: str, other: str, shop: Shop, reason: str, as_json: bool) -> None:
    """Say that what linked two keys is void from now on.

    Only links between these two are undone; keys that are linked in other ways stay together.
    """
    _told(shop, key, other, reason, undo=True, as_json=as_json)


@click.command(epilog=examples("habitue conflicts --shop acme"))
@with_shop
@with_time
@with_output
def conflicts(shop: Shop, when: When, output: Output) -> None:
    """List keys that were linked and yet are two customers, and why.

    two_external_ids: both sides have an external id, and not the same one. public_key: a key that
    may be in a browser said it of two customers who are both known.
    """
    output.show(shop.conflicts(cutoff=when.cutoff, known_at=when.known_at))


@click.command(
    epilog=examples(
        "habitue sources --shop acme", "habitue sources --shop acme --first till --first klaviyo"
    )
)
@with_shop
@click.option(
    "--first", "first", multiple=True, metavar="SOURCE",
    help="From now on believe this one, then the next; may be repeated.",
)  # fmt: skip
@with_known_at
@with_output
def sources(
    shop: Shop, first: tuple[str, ...], known_at: datetime | None, output: Output
) -> None:
    """List who tells of orders, or choose whom to believe where two tell of the same one.

    Where nothing is chosen, an order is what was told of it first.
    """
    if first:
        shop.believe(first)
    output.show(shop.sources(known_at=known_at))


def _told(
    shop: Shop, key: str, other: str, reason: str, *, undo: bool, as_json: bool
) -> None:
    receipt = shop.link(key, other, reason=reason, undo=undo)
    if as_json:
        print_json(receipt)
    else:
        say(f"{'unlinked' if undo else 'linked'}: {key} and {other}")


def _print_customer(found: "Customer") -> None:
    import msgspec

    click.echo(f"{found.customer} · profile {found.id}")
    _print("keys", [_key_row(one) for one in found.keys], ["key", "kind", "value", "through"])
    _print("what was said of them", [list(map(cell, row.values())) for row in found.links],
           ["time", "received", "key", "other", "source", "cause", "undo", "public"])  # fmt: skip
    properties = msgspec.json.decode(found.properties, type=dict[str, msgspec.Raw])
    _print("properties", [[name, bytes(value).decode()] for name, value in properties.items()],
           ["property", "value"])  # fmt: skip
    _print_rows("consent", found.consent_history)
    _print_rows("events by name", found.totals)
    _print_rows("last events", found.events)


def _key_row(key: Any) -> list[str]:
    steps = [f"{step.cause} ({cell(step.time)}) {step.other}" for step in key.chain]
    return [key.key, key.kind, key.value or "", ", ".join(steps)]


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        _print(title, [list(map(cell, row.values())) for row in rows], list(rows[0]))


def _print(title: str, rows: list[list[str]], columns: list[str]) -> None:
    if rows:
        print_grid(columns, rows, numeric=[], title=title)
