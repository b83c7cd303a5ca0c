"""Commands that ask a model: predict, why, ask, embed, recommend, items."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.bars import bars
from habitue.cli.options import (
    Asked,
    Days,
    examples,
    with_asked,
    with_json,
    with_launch,
    with_output,
    with_shop,
)
from habitue.cli.output import Output, cell, print_grid, print_json, say
from habitue.config import Launch
from habitue.predictions.scores.questions import EXPLAINED, QUESTIONS
from habitue.transfer.shelf import is_starter
from habitue.workspace import DEFAULT_HORIZONS, Shop

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.asking import Reply
    from habitue.predictions.explain.why import Explanation

_BAR = 20                                  # characters of the largest effect


@click.command(
    epilog=examples(
        "habitue predict --shop acme --question churn --horizon-days 90",
        "habitue predict --shop acme --cutoff 2011-09-09 --out predictions.parquet",
        "habitue predict --shop acme --launch ray --workers 8 --out predictions.parquet",
    )
)
@with_shop
@click.option("--question", type=click.Choice(QUESTIONS), help="One question.  [default: all]")
@click.option(
    "--horizon-days",
    "horizons",
    type=Days(),
    multiple=True,
    default=DEFAULT_HORIZONS,
    show_default=True,
    help="How far past the cutoff; may be given several times.",
)
@with_asked
@with_launch
@with_output
def predict(
    shop: Shop,
    question: str | None,
    horizons: tuple[float, ...],
    asked: Asked,
    launch: Launch,
    output: Output,
) -> None:
    """Predict orders, churn and value of customers.

    For every customer: will they order, when, how often and how much.

    Each value has low and high, the 5th and 95th percentile (of the next order's date the 10th and
    90th), and a status. --json and --out give one row per customer, question and horizon.
    """
    table = shop.predict(
        question,
        horizons=horizons,
        cutoff=asked.cutoff,
        version=asked.version,
        known_at=asked.known_at,
        launch=launch,
    )
    if output.for_people and table.num_rows:
        print_predictions(table, rows=output.rows)
    else:
        output.show(table)


@click.command(
    epilog=examples(
        "habitue ask 'count of order_placed in 60 days' --shop acme",
        "habitue ask 'did message_clicked in 14 days' --out clicks.csv",
        "habitue ask 'sum of order_placed value in 90 days where value >= 20' --json",
        "habitue ask 'did item_ordered in 28 days where category = \"mugs\"'",
    )
)
@click.argument("question")
@with_shop
@with_asked
@with_output
def ask(shop: Shop, question: str, asked: Asked, output: Output) -> None:
    """Ask any question about every customer's future.

    QUESTION is "did EVENT in N days", "count of EVENT in N days" or "sum of EVENT value in N days",
    and may go on with "where FIELD = VALUE and ...": fields are value, source, those of the lines
    (item, title, category, brand, quantity) and any property of the event.

    The answer is learnt at past cutoffs, and judged beside simpler ones on the window before the
    cutoff, which neither the answer nor the model behind it has seen.
    """
    with bars() as progress:
        reply = shop.ask(
            question,
            cutoff=asked.cutoff,
            version=asked.version,
            known_at=asked.known_at,
            progress=progress,
        )
    if output.as_json:
        print_json(
            {
                "method": reply.method,
                "missing": reply.missing,
                "judged": reply.judged,
                "answers": reply.table.to_pylist(),
            }
        )
    elif reply.judged:
        print_judged(reply)
    if reply.missing:
        say(f"no answer: {reply.missing}")
    elif output.for_people:
        columns = ["customer", "value", "low", "high", "status"]
        best = reply.table.sort_by([("value", "descending")]).select(columns)
        (first,) = reply.table.slice(0, 1).to_pylist()
        output.show(
            best, title=f"{first['question']} · as of {cell(first['cutoff'])} UTC,"
            f" {first['version']} · highest first"
        )  # fmt: skip
    if output.out is not None:
        replace(output, as_json=False).show(reply.table)


@click.command(
    epilog=examples(
        "habitue embed --shop acme --width 256 --out embeddings.parquet",
        "habitue embed --shop acme --items --width 64 --out items.ndjson",
    )
)
@with_shop
@click.option(
    "--width", type=click.Choice(["64", "256", "2048"]), default="256", show_default=True,
    help="How many numbers.",
)  # fmt: skip
@click.option("--items", is_flag=True, help="Of items; else of customers.")
@with_asked
@with_output
def embed(shop: Shop, width: str, items: bool, asked: Asked, output: Output) -> None:
    """Write what the model knows of customers or items.

    One row each, with `embedding`: as many numbers (float16) as were asked for, for models and
    indexes of your own. Only embeddings of one version can be compared.
    """
    table = shop.embeddings(
        int(width),
        of="item" if items else "customer",
        cutoff=asked.cutoff,
        version=asked.version,
        known_at=asked.known_at,
    )
    if output.for_people:
        heads = (f"{one[0]:.3f} {one[1]:.3f} {one[2]:.3f} …" for one in _numbers(table, output))
        shown = table.drop_columns("embedding").slice(0, output.rows or None)
        output.show(shown.append_column("embedding", [list(heads)]))
        say(f"{table.num_rows:,} rows, {width} numbers each; --json or --out show all")
    else:
        output.show(table)


def _numbers(table: "pa.Table", output: Output) -> list[list[float]]:
    """The embeddings of the rows that are printed."""
    found: list[list[float]] = table["embedding"].slice(0, output.rows or None).to_pylist()
    return found


def print_judged(reply: "Reply") -> None:
    """One row per way to answer, one column per metric, and whether it beat the answer."""
    told = {"win": " worse", "loss": " better", "tie": " tie", None: ""}
    cells = {
        (row["method"], row["metric"]): cell(row["value"]) + told[row["verdict"]]
        for row in reply.judged
    }
    methods = list(dict.fromkeys(method for method, _ in cells))
    metrics = list(dict.fromkeys(metric for _, metric in cells))
    first = reply.judged[0]
    print_grid(
        ["method", *metrics],
        [[method, *(cells.get((method, one), "") for one in metrics)] for method in methods],
        numeric=range(1, len(metrics) + 1),
        title=f"judged on {first['horizon_days']:g} days from {first['cutoff'][:10]},"
        f" {first['customers']:,} customers · the answer is {reply.method}, calibrated ·"
        " worse, tie, better: than the answer",
    )


@click.command(
    epilog=examples(
        "habitue why c_42 --shop acme --question churn --horizon-days 90",
        "habitue why c_42 --shop acme --question revenue --budget-ms 2000 --json",
    )
)
@click.argument("customer")
@with_shop
@click.option(
    "--question", type=click.Choice(EXPLAINED), default="churn", show_default=True,
    help="The prediction to explain.",
)
@click.option(
    "--horizon-days", type=Days(), default=90.0, show_default=True,
    help="How far past the cutoff.",
)
@click.option(
    "--budget-ms", type=click.FloatRange(0), default=500.0, show_default=True,
    help="Time for dividing the prediction; everyone is scored before.",
)
@with_asked
@with_json
def why(  # noqa: PLR0913 - one per flag
    customer: str,
    shop: Shop,
    question: str,
    horizon_days: float,
    budget_ms: float,
    asked: Asked,
    as_json: bool,
) -> None:
    """Tell what moved one customer's prediction, and how far.

    The customer is scored again without parts of their past, and without the silence since their
    last order. What each part did adds up, from a typical new customer to the prediction.
    """
    found = shop.why(
        customer,
        question,
        horizon_days=horizon_days,
        budget_ms=budget_ms,
        cutoff=asked.cutoff,
        version=asked.version,
        known_at=asked.known_at,
    )
    if as_json:
        print_json(found)
    else:
        print_explanation(found)


@click.command(
    epilog=examples(
        "habitue recommend --shop acme --k 5",
        "habitue recommend --shop acme --customer c1 --item mug --cart tea,pot",
        "habitue recommend --shop acme --customer nobody --item mug",
        "habitue recommend --shop acme --exclude-bought --not-sold-days 90 --out items.csv",
    )
)
@with_shop
@click.option("--customer", metavar="KEY", help="For whom.  [default: for everyone]")
@click.option("--item", "items", multiple=True, help="What is on the page. May be repeated.")
@click.option("--cart", metavar="ITEMS", default="", help="What is in the cart, with commas.")
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--per-category", type=click.IntRange(1), help="So many of one category at most.")
@click.option("--exclude-bought", is_flag=True, help="Leave out what the customer has bought.")
@click.option(
    "--not-sold-days", type=Days(), help="Leave out items not sold in the last so many days."
)
@with_asked
@with_output
def recommend(  # noqa: PLR0913 - the options of the command
    shop: Shop, customer: str | None, items: tuple[str, ...], cart: str, k: int,
    per_category: int | None, exclude_bought: bool, not_sold_days: float | None, asked: Asked,
    output: Output,
) -> None:  # fmt: skip
    """Rank the k best items for every customer, or for one.

    What goes with the page and the cart moves up; the shop's rules hold. A KEY of whom nothing is
    known is shown what a stranger is. Scores order one list; between lists they mean nothing.
    """
    output.show(
        shop.recommend(
            customer,
            k=k,
            page=(*items, *(one for one in cart.split(",") if one)),
            per_category=per_category,
            exclude_bought=exclude_bought,
            not_sold_days=not_sold_days,
            cutoff=asked.cutoff,
            version=asked.version,
            known_at=asked.known_at,
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
    output.show(shop.items(cutoff=asked.cutoff, version=asked.version, known_at=asked.known_at))


def _unsure(error: float | None) -> str:
    """How exact an effect is, in words, from its error as a share of it; nothing where it is."""
    if error is None:
        return " (time ended before its error was known)"
    if abs(error) >= 1:
        return " (hardly known)"
    return f" (± {abs(error):.0%} of it)" if error else ""


def print_explanation(found: "Explanation") -> None:
    """From the reference to the prediction, a row for each factor with a bar of its size."""
    name = f"{found.question} within {found.horizon_days:g} days"
    most = max((abs(one.points) for one in found.factors), default=0.0)
    chance = found.question in ("order", "churn")

    def row(points: float, words: str, error: float | None = 0.0) -> list[str]:
        bar = "█" * round(_BAR * abs(points) / most) if most else ""
        # what rounds to nothing has no sign
        shown = round(100 * points, 1) or 0.0 if chance else round(points, 2) or 0.0
        told = f"{shown:+.1f} points" if chance else f"{shown:+,.2f}"
        return [told, bar if points > 0 else "", bar if points < 0 else "", words + _unsure(error)]

    body = [
        row(one.points, one.words, one.error and one.error / (abs(one.effect) or 1))
        for one in found.factors
    ]
    if not found.exact:
        body.append(row(found.unshared, "not divided: the time was over"))
    value, reference = (
        f"{one:.1%}" if chance else f"{one:,.2f}" for one in (found.value, found.reference)
    )
    print_grid(
        ["effect", "more", "less", "because of"],
        [[reference, "", "", "a typical new customer, who ordered just now"], *body,
         [value, "", "", f"{found.customer}: {name}"]],
        numeric=[0],
        title=f"{found.customer}: {name} {value}",
    )  # fmt: skip
    if not found.exact:
        say(
            f"cut after {found.coalitions} scorings, {1_000 * found.seconds:.0f} ms; "
            "a larger --budget-ms is more exact"
        )


def print_predictions(table: "pa.Table", *, rows: int) -> None:
    """One row per customer and horizon, one column per question; its interval below each value."""
    import pyarrow.compute as pc

    asked = [one for one in QUESTIONS if one in table["question"].unique().to_pylist()]
    dated = asked == ["next_order"]
    # the date has no horizon of its own: it stands in the first row of its customer
    of_dates = pc.equal(table["question"], "next_order")
    horizons = (table if dated else table.filter(pc.invert(of_dates)))["horizon_days"].unique()
    customers = table["customer"].unique()
    count = len(customers) * len(horizons)
    shown = customers[: -(-rows // len(horizons))] if rows else customers
    body = list(_lines(table.filter(pc.is_in(table["customer"], shown)), asked, dated))
    (first,) = table.slice(0, 1).to_pylist()
    print_grid(
        ["customer", *([] if dated else ["days"]), *asked],
        body[:rows] if rows else body,
        numeric=range(1, len(asked) + 2),
        title=f"as of {cell(first['cutoff'])} UTC · {first['version']} · status {first['status']}",
    )
    if rows and rows < count:
        say(f"{rows:,} of {count:,} rows; --rows 0, --json or --out show all")
    borrowed = is_starter(first["version"].rpartition("-")[0])
    if first["missing"] and (borrowed or first["status"] == "insufficient"):
        say(f"status {first['status']}, for want of: {first['missing']}")


def _lines(table: "pa.Table", asked: Sequence[str], dated: bool) -> Iterator[list[str]]:
    """The text of every customer and horizon, in the order of the table."""
    answers: dict[str, dict[float, dict[str, str]]] = {}
    dates: dict[str, str] = {}
    for row in table.to_pylist():
        if row["question"] == "next_order":
            dates[row["customer"]] = _date(row)
        else:
            of_customer = answers.setdefault(row["customer"], {})
            of_customer.setdefault(row["horizon_days"], {})[row["question"]] = _interval(row)
    if dated:
        yield from ([customer, date] for customer, date in dates.items())
    for customer, horizons in answers.items():
        for place, (days, told) in enumerate(horizons.items()):
            if place == 0:
                told["next_order"] = dates.get(customer, "")
            texts = [told.get(question, "") for question in asked]
            yield [customer, f"{days:g}", *texts]


def _interval(row: dict[str, Any]) -> str:
    return f"{_short(row['value'])}\n{_short(row['low'])} to {_short(row['high'])}"


def _short(value: float) -> str:
    """Three significant digits; what rounds to nothing is nothing."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if value >= 0.001 else "0"


def _date(row: dict[str, Any]) -> str:
    """Median and interval as days of the calendar; past the horizon nothing is told apart."""
    def day(days: float | None) -> str:
        if days is None or days > row["horizon_days"]:
            return "later"
        return f"{row['cutoff'] + timedelta(days=days):%Y-%m-%d}"

    if day(row["low"]) == "later":
        return f"not within\n{row['horizon_days']:g} days"
    return f"{day(row['value'])}\n{day(row['low'])} to {day(row['high'])}"
