"""The command `demo`: a real shop, from its file to a report."""

from pathlib import Path

import click

from habitue.cli.bars import bars
from habitue.cli.options import examples, with_json
from habitue.cli.output import print_json, say
from habitue.config import utc_now


@click.command(epilog=examples("habitue demo", "habitue demo --fast --json --out demo"))
@click.option("--fast", is_flag=True, help="A small model on a part of the shop, for a quick look.")
@with_json
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    default="habitue-demo",
    show_default=True,
    help="Where the workspace and the report go.",
)
def demo(fast: bool, as_json: bool, out: Path) -> None:
    """From a real shop's orders to a report.

    Imports two years of orders of a British gift wholesaler (Online Retail II, CC BY 4.0), holds
    the model and its baselines against the last 180 days, trains again on everything, and
    predicts for every customer. Runs offline, and can be run again at once.
    """
    from habitue.demo.run import run_demo
    from habitue.demo.summary import summary_lines

    with bars() as progress:
        figures, report = run_demo(out, fast=fast, now=utc_now(), progress=progress)
    if as_json:
        print_json(figures)
    else:
        click.echo("\n".join(summary_lines(figures)))
    say(f"report: {report}")
