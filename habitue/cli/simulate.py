"""The command `simulate`: a made-up shop as a file of order lines, to try things on."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from habitue.cli.options import examples
from habitue.cli.output import WRITERS, say, write

if TYPE_CHECKING:
    import pyarrow as pa

MAPPING = """\
kind = "order_lines"

[fields]
customer = "customer"
order = "order"
time = "time"
item = "item"
quantity = "quantity"
unit_price = "unit_price"
currency = "currency"
title = "title"
category = "category"
"""


@click.command(
    epilog=examples(
        "habitue simulate --customers 200 --out shop.csv",
        "habitue import shop.csv --shop trial --mapping shop.toml",
    )
)
@click.option("--customers", type=click.IntRange(1), default=500, show_default=True)
@click.option("--items", type=click.IntRange(1), default=120, show_default=True)
@click.option("--days", type=click.IntRange(30), default=730, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    default="shop.parquet",
    show_default=True,
    help="Order lines: .csv, .parquet or .ndjson; the mapping is written beside it.",
)
def simulate(customers: int, items: int, days: int, seed: int, out: Path) -> None:
    """Make up a shop to try things on.

    Writes its order lines, and the mapping to import them.
    """
    from habitue import simulation

    if out.suffix not in WRITERS:
        raise click.BadParameter(f"{out.name} should end in one of: {', '.join(WRITERS)}")
    config = replace(
        simulation.ShopConfig(),
        customers=customers,
        items=items,
        days=days,
        arrival_days=max(1, int(days * 0.75)),
    )
    lines = order_lines(simulation.simulate(config, seed), simulation.catalogue(config, seed))
    mapping = out.with_suffix(".toml")
    write(lines, out)
    mapping.write_text(MAPPING)
    say(f"wrote {lines.num_rows:,} order lines to {out}, and {mapping}")
    say(f"hint: `habitue import {out} --shop simulated --mapping {mapping}`")


def order_lines(events: "Iterable[pa.Table]", catalogue: "pa.Table") -> "pa.Table":
    """One row per line of an order, with the item's title and category."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = []
    for table in events:
        orders = table.filter(pc.equal(table["name"], "order_placed")).combine_chunks()
        parent, lines = pc.list_parent_indices(orders["lines"]), pc.list_flatten(orders["lines"])
        told = orders.select(["customer", "order", "time", "currency"]).take(parent)
        for name in ("item", "quantity", "unit_price"):
            told = told.append_column(name, pc.struct_field(lines, name))
        tables.append(told)
    titles = catalogue.select(["item", "title", "category"])
    joined = pa.concat_tables(tables).join(titles, "item", join_type="left outer")
    return joined.sort_by([("time", "ascending"), ("order", "ascending"), ("item", "ascending")])
