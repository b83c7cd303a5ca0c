"""Commands about what a shop says of its lists: pin, boost, bury, only these, hide."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

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
from habitue.recommendations.shelf.rules import KINDS, Kind, Match, Rule
from habitue.workspace import Shop, open_workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.recommendations.shelf.rulebook import Kept


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "habitue rules --shop acme",
        "habitue rules add pin --shop acme --item mug --position 2 --until 2026-12-27",
        "habitue rules add bury --shop acme --category outlet",
        "habitue rules remove --shop acme RULE",
    ),
)
@click.option("--shop", metavar="NAME", help="The shop whose rules to list.")
@click.option(
    "--workspace", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)  # fmt: skip
@with_output
def rules(shop: str | None, workspace: Path | None, output: Output) -> None:
    """List a shop's rules of what is recommended, add one, or remove one.

    They hold in every list, on a running server within a second.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    chosen = choose(open_workspace(workspace, create=False), shop)
    output.show(_table(chosen.rules.all()))


@rules.command(
    epilog=examples(
        "habitue rules add pin --shop acme --item mug --position 2",
        "habitue rules add boost --shop acme --brand Ton --factor 3 --since 2026-12-01",
        "habitue rules add only --shop acme --category gifts --price-to 25 --until 2026-12-25",
        "habitue rules add hide --shop acme --item postage",
    )
)
@click.argument("kind", type=click.Choice(KINDS))
@with_new_shop
@click.option("--item", "items", multiple=True, help="These items. May be repeated.")
@click.option("--category", "categories", multiple=True, help="… of these categories.")
@click.option("--brand", "brands", multiple=True, help="… of these brands.")
@click.option("--price-from", type=float, help="… that cost at least so much.")
@click.option("--price-to", type=float, help="… that cost at most so much.")
@click.option("--position", type=int, default=1, show_default=True, help="The place of a pin.")
@click.option(
    "--factor", type=float, default=2.0, show_default=True,
    help="How many times as likely a boost takes an item to be; below 1 lowers it.",
)  # fmt: skip
@click.option("--since", type=Instant(), help="In force from then on.  [default: now]")
@click.option("--until", type=Instant(), help="In force before then.  [default: for ever]")
@click.option("--note", default="", help="What it is for.")
@with_json
def add(  # noqa: PLR0913 - the options of the command
    kind: Kind, shop: Shop, items: tuple[str, ...], categories: tuple[str, ...],
    brands: tuple[str, ...], price_from: float | None, price_to: float | None, position: int,
    factor: float, since: datetime | None, until: datetime | None, note: str, as_json: bool,
) -> None:  # fmt: skip
    """Let a rule be in force; all that it names must hold of an item.

    KIND is pin (in a place), boost (more likely), bury (last), only (nothing else), or hide.
    `only` and `hide` are stronger than a pin, and a pin than the others.
    """
    match = Match(
        items=items, categories=categories, brands=brands, price_from=price_from, price_to=price_to
    )
    rule = Rule(
        kind=kind, match=match, position=position, factor=factor, since=since, until=until,
        note=note,
    )  # fmt: skip
    kept = shop.rules.add(rule)
    if as_json:
        print_json(kept)
    else:
        click.echo(kept.id)
        say(f"in force: {_words(kept)}")


@rules.command(epilog=examples("habitue rules remove --shop acme RULE"))
@click.argument("rule")
@with_shop
def remove(rule: str, shop: Shop) -> None:
    """Let a rule be in force no more; RULE is its id, as `habitue rules` lists it."""
    say(f"removed: {_words(shop.rules.remove(rule))}")


def _words(kept: "Kept") -> str:
    """A rule as people say it."""
    rule, match = kept.rule, kept.rule.match
    ends = [
        f"{word} {price:g}"
        for word, price in (("from", match.price_from), ("up to", match.price_to))
        if price is not None
    ]
    told = [
        *(f"{name} {', '.join(held)}" for name, held in (
            ("item", match.items), ("category", match.categories), ("brand", match.brands)
        ) if held),
        *([f"price {' '.join(ends)}"] if ends else []),
    ]  # fmt: skip
    how = {"pin": f" at {rule.position}", "boost": f" × {rule.factor:g}"}.get(rule.kind, "")
    return f"{rule.kind}{how}: {' and '.join(told)}"


def _table(held: "list[Kept]") -> "pa.Table":
    import pyarrow as pa

    instant = pa.timestamp("us", tz="UTC")
    columns = {
        "id": pa.array([one.id for one in held], pa.string()),
        "rule": pa.array([_words(one) for one in held], pa.string()),
        "since": pa.array([one.rule.since or one.created for one in held], instant),
        "until": pa.array([one.rule.until for one in held], instant),
        "note": pa.array([one.rule.note for one in held], pa.string()),
    }
    return pa.table(columns)
