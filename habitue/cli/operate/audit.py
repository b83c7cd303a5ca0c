"""The command that shows who did what with keys and customers' rights, and how keys are used."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from habitue.audit import AUDIT_FILE, Act, Audit, Used
from habitue.cli.options import Instant, examples, with_output, with_shop
from habitue.cli.output import Output, say
from habitue.config import utc_now
from habitue.workspace import Shop

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


@click.command(
    epilog=examples(
        "habitue audit --shop acme",
        "habitue audit --act key.rotate --since 2026-01-01 --json",
        "habitue audit --uses --key ltk3yq2a",
    )
)
@with_shop
@click.option("--uses", is_flag=True, help="How keys were used instead: by route and status.")
@click.option("--by-minute", is_flag=True, help="With --uses: minute by minute.")
@click.option("--key", metavar="ID", help="Only what this key did, or what was done with it.")
@click.option("--act", metavar="NAME", help="Only this act, as key.rotate or erasure.request.")
@click.option(
    "--since", type=Instant(), help="From then on.  [default: always; of uses, a day ago]"
)
@click.option("--until", type=Instant(), help="Up to then.  [default: now]")
@with_output
def audit(
    shop: Shop, uses: bool, by_minute: bool, since: datetime | None, until: datetime | None,
    output: Output, **only: str | None,
) -> None:  # fmt: skip
    """Show who made, rotated and revoked keys, erased and exported customers, and when.

    Nothing here says which customer. How keys are used is counted by the minute and kept for 90
    days; the rest is kept for ever.
    """
    key, now = only["key"], utc_now()
    if uses or by_minute:
        path = shop.workspace.path / AUDIT_FILE
        used = Audit(path).used(shop.name, since or now - _DAY, until or now)
        kept = [one for one in used if key in (None, one.key)]
        output.show(_minutes(kept) if by_minute else _summed(kept))
        return
    begin, end = since or _FIRST, until or now
    acts = [
        act
        for act in shop.workspace.directory.acts(shop.name)
        if begin <= act.time <= end
        and only["act"] in (None, act.act)
        and (key is None or key in (act.who, act.about))
    ]
    if not acts:
        say(f"nothing of that kind was done at {shop.name}")
    output.show(_acts(acts))


def _acts(acts: list[Act]) -> "pa.Table":
    import pyarrow as pa

    columns = {
        "time": pa.array([act.time for act in acts], pa.timestamp("us", tz="UTC")),
        **{
            name: pa.array([getattr(act, name) for act in acts], pa.string())
            for name in ("who", "act", "about", "detail")
        },
    }
    return pa.table(columns)


def _minutes(used: list[Used]) -> "pa.Table":
    import pyarrow as pa

    return pa.table(
        {
            "minute": pa.array([one.minute for one in used], pa.timestamp("us", tz="UTC")),
            "key": pa.array([one.key for one in used], pa.string()),
            "route": pa.array([one.route for one in used], pa.string()),
            "status": pa.array([one.status for one in used], pa.int64()),
            "count": pa.array([one.count for one in used], pa.int64()),
        }
    )


def _summed(used: list[Used]) -> "pa.Table":
    """One row per key, route and status."""
    table = _minutes(used).group_by(["key", "route", "status"])
    summed = table.aggregate([("count", "sum"), ("minute", "min"), ("minute", "max")])
    names = ["key", "route", "status", "count", "first", "last"]
    return summed.rename_columns(names).sort_by([("key", "ascending"), ("route", "ascending")])
