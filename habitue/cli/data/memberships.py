"""Commands about audiences while they are kept live: members, changes."""

import time

import click

from habitue.cli.options import examples, with_output, with_shop
from habitue.cli.output import Output, json_lines
from habitue.workspace import Shop

FOLLOW_SECONDS = 0.05  # between looks at what was found since


@click.command(epilog=examples("habitue members carts --shop acme", "habitue members carts --json"))
@click.argument("audience")
@with_shop
@with_output
def members(audience: str, shop: Shop, output: Output) -> None:
    """List who is in an audience now, and since when.

    AUDIENCE has a name, and is followed by `habitue serve` or `habitue follow`.
    """
    output.show(shop.audiences.members(audience))


@click.command(
    epilog=examples(
        "habitue changes carts --shop acme",
        "habitue changes --after 1041 --json",
        "habitue changes carts --follow",
    )
)
@click.argument("audience", required=False)
@with_shop
@click.option(
    "--after", type=int, default=0, metavar="N", help="From the sequence number after this on."
)
@click.option("--follow", is_flag=True, help="Go on with what is found, as JSON, until stopped.")
@with_output
def changes(audience: str | None, shop: Shop, after: int, follow: bool, output: Output) -> None:
    """List who entered and who left, of one AUDIENCE or of all.

    Each change says when it became true (at), when that was found (detected_at), and why: by an
    event, by time, by a score, or by a definition. It is never changed afterwards.
    """
    if not follow:
        output.show(shop.audiences.changes(audience, after=after))
        return
    while True:
        found = shop.audiences.changes(audience, after=after)
        for line in json_lines(found):
            click.echo(line)
        after = max(found["sequence"].to_pylist(), default=after)
        time.sleep(FOLLOW_SECONDS)
