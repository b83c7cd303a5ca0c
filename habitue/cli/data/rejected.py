"""Commands about inputs that were not taken: see them, count them, try them again."""

from datetime import datetime

import click

from habitue.cli.bars import bars
from habitue.cli.options import examples, with_json, with_known_at, with_output, with_shop
from habitue.cli.output import Output, print_grid, print_json, say
from habitue.workspace import Shop

# one row per reason: how many inputs were not taken, and how many of them were since
_COUNTS = """
SELECT source, reason, count(*) AS rejected, count(replayed) AS replayed,
    min(received) AS first, max(received) AS last
FROM rejected GROUP BY ALL ORDER BY rejected DESC, source, reason
"""


@click.command(
    epilog=examples(
        "habitue rejected --shop acme",
        "habitue rejected --shop acme --counts",
        "habitue rejected --shop acme --out bad.csv",
    )
)
@click.option("--counts", is_flag=True, help="How many for each reason, instead of each.")
@with_shop
@with_known_at
@with_output
def rejected(counts: bool, shop: Shop, known_at: datetime | None, output: Output) -> None:
    """Show the inputs that were not taken, and why."""
    if counts:
        output.show(shop.query(_COUNTS, known_at=known_at))
    else:
        output.show(shop.rejected(known_at=known_at))


@click.command(
    epilog=examples(
        "habitue replay --shop acme",
        "habitue replay --shop acme --reason no_name --reason bad_time --json",
    )
)
@click.option("--reason", "reasons", multiple=True, help="Only those of this reason.")
@with_shop
@with_json
def replay(reasons: tuple[str, ...], shop: Shop, as_json: bool) -> None:
    """Try rejected inputs again, as after a name table or a limit was mended.

    Rows of files are not tried: import the file again instead.
    """
    with bars() as shown:
        done = shop.replay(reasons, progress=shown)
    if as_json:
        print_json(done)
        return
    rows = [["tried", f"{done.tried:,}"], ["appended", f"{done.appended:,}"],
            ["duplicate", f"{done.duplicate:,}"], ["refused again", f"{done.refused:,}"]]
    rows += [[f"  {reason}", f"{count:,}"] for reason, count in done.reasons.items()]
    print_grid(["replayed", ""], rows, numeric=[1])
    if done.unreadable:
        say(f"not tried: {done.unreadable:,} whose payload was cut, or emptied by an erasure")
    if done.of_files:
        say(f"not tried: {done.of_files:,} rows of files\nhint: import the file again")
    if done.refused:
        say(f"hint: `habitue rejected --shop {shop.name}` shows what was refused, and why")
