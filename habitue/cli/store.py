"""Commands about what is kept: import, rejected, shops, query, compact."""

import functools
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.bars import bars
from habitue.cli.options import (
    Command,
    Instant,
    When,
    examples,
    with_json,
    with_new_shop,
    with_output,
    with_shop,
    with_time,
    with_workspace,
)
from habitue.cli.output import Output, print_grid, print_json, say
from habitue.errors import BadSetting
from habitue.workspace import Shop, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from habitue.events import Receipt

# one row: what a shop holds
_SUMMARY = """
SELECT ? AS shop, count(DISTINCT customer) AS customers, count(*) AS orders,
    min("time") AS first_order, max("time") AS last_order
FROM orders
"""


@dataclass(frozen=True, slots=True)
class Api:
    """A tool whose API is read instead of a file."""

    key_file: Path
    url: str
    since: datetime | None


def _with_api(command: Command) -> Command:
    """Add --from, --api-key-file, --url and --since; the command is given an `api`, or files."""

    @click.option(
        "--from", "tool", type=click.Choice(["klaviyo"]), help="Read this tool's API, and no FILE."
    )
    @click.option(
        "--api-key-file",
        type=click.Path(path_type=Path),
        metavar="KEYFILE",
        help="A file that holds the tool's private API key.",
    )
    @click.option(
        "--url",
        default="https://a.klaviyo.com",
        show_default=True,
        metavar="URL",
        help="Where the API is.",
    )
    @click.option("--since", type=Instant(), help="Read no events from before this.")
    @functools.wraps(command)
    def chosen(
        *, tool: str | None, api_key_file: Path | None, url: str, since: datetime | None,
        **others: Any,
    ) -> Any:  # fmt: skip
        told = [others[name] is not None for name in ("file", "mapping")]
        if tool is None and (api_key_file or since):
            raise click.UsageError("--api-key-file and --since go with --from klaviyo")
        if tool is None and not all(told):
            raise click.UsageError("FILE and --mapping are needed, or --from klaviyo")
        if tool is not None and any(told):
            raise click.UsageError("--from klaviyo takes no FILE and no --mapping")
        if tool is not None and api_key_file is None:
            raise click.UsageError("--from klaviyo needs --api-key-file KEYFILE")
        api = None if api_key_file is None else Api(api_key_file, url, since)
        return command(api=api, **others)

    return chosen


@click.command(
    "import",
    epilog=examples(
        "habitue import orders.csv.gz --workspace work --shop acme --mapping acme.toml",
        "habitue import items.parquet --shop acme --mapping items.toml --json",
        "habitue import --from klaviyo --api-key-file klaviyo.key --shop acme",
    ),
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@_with_api
@with_new_shop
@click.option(
    "--mapping",
    type=click.Path(path_type=Path),
    metavar="MAPPING.toml",
    help="What the columns of FILE mean.",
)
@with_json
def import_(
    file: Path | None, shop: Shop, mapping: Path | None, api: Api | None, as_json: bool
) -> None:
    """Import a Parquet, CSV (also gzip) or NDJSON file, or a shop's past out of Klaviyo.

    Every row is accounted for on the receipt: appended, duplicate or rejected. Importing a file
    again appends nothing. An import out of Klaviyo that was cut short goes on where it was; a later
    one reads what is new.
    """
    with bars() as shown:
        if api is None:
            assert file is not None and mapping is not None, "there is an API or a file"
            told = shown.share(f"importing {file.name}")
            receipt = shop.ingest(file, mapping, progress=told)
        else:
            api_key = _api_key(api.key_file)
            receipt = shop.ingest_klaviyo(api_key, url=api.url, since=api.since, progress=shown)
    if as_json:
        print_json(receipt)
    else:
        _print_receipt(receipt)
    if receipt.rejected:
        say(f"hint: `habitue rejected --shop {shop.name}` shows what was rejected, and why")


def _api_key(file: Path) -> str:
    """The key that a file holds, and nothing but it."""
    held = file.read_bytes().decode(errors="replace").split()
    if len(held) != 1 or not (held[0].isascii() and held[0].isprintable()):
        raise BadSetting(
            f"{file} should hold one API key and nothing else\n"
            "hint: Klaviyo's private keys look like pk_…"
        )
    return held[0]


def _print_receipt(receipt: "Receipt") -> None:
    reasons = {f"  {reason}": count for reason, count in receipt.reasons.items()}
    counts = {
        "rows": receipt.rows,
        "appended": receipt.appended,
        "duplicate": receipt.duplicate,
        "rejected": receipt.rejected,
        **reasons,
        "events": receipt.events,
        "items": receipt.items,
    }
    rows = [[name, f"{count:,}"] for name, count in counts.items()]
    print_grid(["receipt", receipt.id], rows, numeric=[1])


@click.command(epilog=examples("habitue shops", "habitue shops --workspace work --json"))
@with_workspace
@with_time
@with_output
def shops(workspace: Workspace, when: When, output: Output) -> None:
    """List the shops and what each holds."""
    import pyarrow as pa

    names = workspace.shops()
    if not names:
        say(
            "no shops yet\nhint: `habitue import FILE --shop NAME --mapping MAPPING.toml`, or"
            " `habitue serve --shop NAME`"
        )
        return
    in_lake = set(workspace.lake.shops())
    held = [
        workspace.shop(name).query(
            _SUMMARY, [name], cutoff=when.cutoff, known_at=when.known_at
        ).cast(_summary_schema())
        for name in names
        if name in in_lake
    ]
    # a shop that has keys, and nothing came with them yet
    waiting = [{"shop": name, "customers": 0, "orders": 0} for name in names if name not in in_lake]
    held.append(pa.Table.from_pylist(waiting, schema=_summary_schema()))
    output.show(pa.concat_tables(held))


def _summary_schema() -> "pa.Schema":
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    return pa.schema(
        {
            "shop": pa.string(), "customers": pa.int64(), "orders": pa.int64(),
            "first_order": time, "last_order": time,
        }
    )  # fmt: skip


@click.command(
    epilog=examples(
        "habitue query 'SELECT count(*) FROM orders' --shop acme",
        "habitue query 'SELECT customer, sum(value_minor) AS minor FROM orders GROUP BY customer'"
        " --cutoff 2011-09-09 --out spend.parquet",
    )
)
@click.argument("sql")
@with_shop
@with_time
@with_output
def query(sql: str, shop: Shop, when: When, output: Output) -> None:
    """Answer one SELECT over a shop's views.

    The views are events, orders, lines, items, catalogue, links, identifiers, conflicts, profiles,
    profile_changes, consents, consent_history, predictions, customer_embeddings, item_embeddings,
    audiences, rejected, receipts and shop_settings; docs/reference/tables.md lists their columns.
    SQL that is - is read from stdin.
    """
    text = sys.stdin.read() if sql == "-" else sql
    output.show(shop.query(text, cutoff=when.cutoff, known_at=when.known_at))


@click.command(epilog=examples("habitue compact --workspace work"))
@with_workspace
@with_json
def compact(workspace: Workspace, as_json: bool) -> None:
    """Merge the small files that imports leave behind.

    Answers stay the same.
    """
    merged = workspace.compact()
    if as_json:
        print_json({"files_merged_away": merged})
    else:
        say(f"files merged away: {merged:,}")
