"""Commands that ask a model: predict, recommend, items."""

import click

from habitue.cli.options import Asked, examples, with_asked, with_output, with_shop
from habitue.cli.output import Output
from habitue.workspace import DEFAULT_HORIZONS, Shop

QUESTIONS = ("order", "churn", "orders", "revenue", "next_order")


@click.command(
    epilog=examples(
        "habitue predict --shop acme --question churn --horizon-days 90",
        "habitue predict --shop acme --cutoff 2011-09-09 --out predictions.parquet",
    )
)
@with_shop
@click.option("--question", type=click.Choice(QUESTIONS), help="One question.  [default: all]")
@click.option(
    "--horizon-days",
    "horizons",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=DEFAULT_HORIZONS,
    show_default=True,
    help="How far past the cutoff; may be given several times.",
)
@with_asked
@with_output
def predict(
    shop: Shop,
    question: str | None,
    horizons: tuple[float, ...],
    asked: Asked,
    output: Output,
) -> None:
    """Predict orders, churn and value of customers.

    For every customer: will they order, when, how often and how much.

    Each value has low and high, the 5th and 95th percentile, and a status.
    """
    output.show(
        shop.predict(question, horizons=horizons, cutoff=asked.cutoff, version=asked.version)
    )


@click.command(
    epilog=examples(
        "habitue recommend --shop acme --k 5",
        "habitue recommend --shop acme --exclude-bought --not-sold-days 90 --out items.csv",
    )
)
@with_shop
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--exclude-bought", is_flag=True, help="Leave out what the customer has bought.")
@click.option(
    "--not-sold-days",
    type=click.FloatRange(0, min_open=True),
    help="Leave out items not sold in the last so many days.",
)
@with_asked
@with_output
def recommend(
    shop: Shop,
    k: int,
    exclude_bought: bool,
    not_sold_days: float | None,
    asked: Asked,
    output: Output,
) -> None:
    """Rank the k best items for every customer."""
    output.show(
        shop.recommend(
            k=k,
            exclude_bought=exclude_bought,
            not_sold_days=not_sold_days,
            cutoff=asked.cutoff,
            version=asked.version,
        )
    )


@click.command(epilog=examples("habitue items --shop acme", "habitue items --out items.csv"))
@with_shop
@with_asked
@with_output
def items(shop: Shop, asked: Asked, output: Output) -> None:
    """List the catalogue with sales and demand.

    For every item: sales, popularity, trend and expected demand.
    """
    output.show(shop.items(cutoff=asked.cutoff, version=asked.version))
