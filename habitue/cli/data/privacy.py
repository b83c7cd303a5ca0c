"""Commands about what is kept of one customer: export it, erase it."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from habitue.audit import Act
from habitue.cli.options import examples, with_json, with_output, with_shop
from habitue.cli.output import Output, print_json, say
from habitue.config import utc_now
from habitue.errors import LogUnavailable
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.directory import Job


@click.command(
    epilog=examples(
        "habitue export c_42 --shop acme",
        "habitue export --email ada@example.com --shop acme --out ada.ndjson",
    )
)
@click.argument("key", required=False)
@click.option("--email", help="Name the customer by email instead.")
@click.option("--phone", help="Name the customer by phone number instead.")
@with_shop
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write there instead of to stdout.",
)  # fmt: skip
def export(
    key: str | None, email: str | None, phone: str | None, shop: Shop, out: Path | None
) -> None:
    """Write all that is kept of a customer as NDJSON."""
    from habitue import privacy

    keys = _named(shop, key, email, phone)
    lines = privacy.export(shop.workspace.places, shop.name, keys[0])
    shop.workspace.directory.note(Act(shop=shop.name, time=utc_now(), act="export", about=""))
    if out is None:
        count = _write(lines, lambda line: click.echo(line, nl=False))
    else:
        with out.open("wb") as file:
            count = _write(lines, file.write)
        say(f"wrote {count:,} lines to {out}")
    if count == 1:                         # the line that says who it is
        say(f"nothing is known of {key or email or phone}")


@click.command(
    epilog=examples(
        "habitue erase c_42 --shop acme",
        "habitue erase --email ada@example.com --shop acme --yes --json",
    )
)
@click.argument("key", required=False)
@click.option("--email", help="Name the customer by email instead.")
@click.option("--phone", help="Name the customer by phone number instead.")
@click.option("--yes", is_flag=True, help="Do not ask first; it cannot be undone.")
@with_shop
@with_json
def erase(
    key: str | None, email: str | None, phone: str | None, yes: bool, shop: Shop, as_json: bool
) -> None:
    """Erase a customer, by any of their identities, from everywhere but your copies.

    What they did up to now is refused for ever; what they do later is a new customer's.
    """
    from habitue import privacy

    keys, named = _named(shop, key, email, phone), key or email or phone
    if not _is_known(shop, keys[0]):
        say(f"nothing of {named} is in the lake; what they did up to now will be refused")
    if not yes:
        _ask(f"Erase {named} of {shop.name}, and every key that is theirs, for ever?")
    places = shop.workspace.places
    job = privacy.request(places, shop.name, keys, now=utc_now())
    try:
        # a moment later, so that its own instant is over
        job = privacy.finish(places, job, now=utc_now() + timedelta(microseconds=1))
    except LogUnavailable:
        say("a service runs here and takes the erasure to its end: see `habitue erasures`")
    if as_json:
        print_json(_told(job))
    else:
        say(f"erasure {job.id}: {job.status}")
        for name, count in (job.detail.get("rows_erased") or job.detail["rows"]).items():
            if count:
                say(f"  {name}: {count:,} rows erased")


@click.command(epilog=examples("habitue erasures --shop acme", "habitue erasures --json"))
@with_shop
@with_output
def erasures(shop: Shop, output: Output) -> None:
    """List a shop's erasures: how far each is, and its proof."""
    import pyarrow as pa

    jobs = [job for job in shop.workspace.directory.jobs(shop.name) if job.kind == "erasure"]
    if not jobs:
        say(f"nobody of {shop.name} was ever erased")
        return
    output.show(pa.Table.from_pylist([_row(job) for job in jobs]))


def _ask(question: str) -> None:
    """Go on only if someone says so."""
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        say("\nnothing was erased; --yes does it without asking")
        raise


def _named(shop: Shop, key: str | None, email: str | None, phone: str | None) -> list[str]:
    if [key, email, phone].count(None) != 2:
        raise click.UsageError("a customer is named by KEY, by --email or by --phone")
    return [shop.key_of(key, email=email, phone=phone)]


def _is_known(shop: Shop, key: str) -> bool:
    """Whether anything is kept of a customer; a shop that nothing was told to knows nobody."""
    return shop.name in shop.workspace.lake.shops() and shop.customer(key, events=0).is_known


def _write(lines: Iterable[dict[str, Any]], write: Callable[[bytes], object]) -> int:
    """Write NDJSON; returns how many lines."""
    import msgspec

    encoder, count = msgspec.json.Encoder(enc_hook=str), 0
    for line in lines:
        write(encoder.encode(line) + b"\n")
        count += 1
    return count


def _told(job: "Job") -> dict[str, object]:
    """What may be told of an erasure: never whom it is about."""
    detail = {name: value for name, value in job.detail.items() if name not in ("keys", "erasure")}
    return {"id": job.id, "shop": job.shop, "status": job.status, "detail": detail}


def _row(job: "Job") -> dict[str, object]:
    rows = job.detail.get("rows_erased") or job.detail.get("rows") or {}
    return {
        "id": job.id,
        "status": job.status,
        "requested": job.created,
        "updated": job.updated,
        "rows_erased": sum(rows.values()),
        "rows_left": job.detail.get("rows_left"),
    }
