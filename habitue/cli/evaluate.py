"""The command `evaluate`: the model beside its baselines on what really followed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from habitue.cli.bars import bars
from habitue.cli.options import Days, Instant, examples, with_config, with_shop, with_whole_output
from habitue.cli.output import Output, cell, print_grid
from habitue.config import TrainConfig
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.predictions.rows import Row


@click.command(
    epilog=examples(
        "habitue evaluate --shop acme --cutoff 2011-06-09 --horizon-days 180",
        "habitue evaluate --cutoff 2011-03-09 --cutoff 2011-06-09 --out rows.csv --json",
    )
)
@with_shop
@click.option(
    "--cutoff",
    "cutoffs",
    type=Instant(),
    multiple=True,
    required=True,
    help="Train on what happened up to here; may be given several times.",
)
@click.option(
    "--horizon-days",
    type=Days(),
    default=90.0,
    show_default=True,
    help="Compare with what followed within so many days.",
)
@with_config
@with_whole_output
def evaluate(
    shop: Shop,
    cutoffs: tuple[datetime, ...],
    horizon_days: float,
    config: TrainConfig,
    output: Output,
) -> None:
    """Hold model and baselines against what followed.

    Trains on what happened up to each cutoff and compares with what followed it.

    Intervals are the 5th and 95th percentile over customers, drawn again with replacement.
    """
    with bars() as progress:
        rows = shop.evaluate(
            config,
            cutoffs=cutoffs,
            horizon_days=horizon_days,
            progress=progress,
        )
    if output.for_people:
        print_comparison(rows)
    else:
        import pyarrow as pa

        output.show(pa.Table.from_pylist(rows))


def print_comparison(rows: "Iterable[Row]") -> None:
    """One table per cutoff and question: metrics down, methods across."""
    tables: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        key = row["cutoff"], row["horizon_days"], row["question"]
        tables.setdefault(key, []).append(row)
    for (cutoff, horizon_days, question), held in tables.items():
        columns, body = _pivot(held)
        what = f"{question} within {horizon_days:g} days of {cutoff[:10]}"
        print_grid(
            columns,
            body,
            numeric=range(1, len(columns)),
            title=f"{what} · {held[0]['customers']:,} customers",
        )


def _pivot(rows: "Sequence[Row]") -> tuple[list[str], list[list[str]]]:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    values = {(row["metric"], row["method"]): _with_interval(row) for row in rows}
    body = [[metric, *(values.get((metric, one), "") for one in methods)] for metric in metrics]
    return ["", *methods], body


def _with_interval(row: "Row") -> str:
    value, low, high = row["value"], row["low"], row["high"]
    return cell(value) if low is None else f"{cell(value)}\n{cell(low)} to {cell(high)}"
