"""Commands that take in what others leave: consume a topic of Kafka, watch a folder."""

import functools
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.options import Command, examples, with_json, with_new_shop
from habitue.cli.output import print_grid, print_json, say
from habitue.config import limit_threads
from habitue.errors import NotInstalled
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.ingest.commit import Settled
    from habitue.ingest.folders import Import
    from habitue.ingest.kafka import Topic

_FORMATS = ("native", "segment", "klaviyo", "posthog")     # as habitue.ingest.kafka, which is heavy


def _with_topic(command: Command) -> Command:
    """Add what says which topic is read, and how; the command is given a `topic`."""

    @click.option("--bootstrap", required=True, metavar="HOST:PORT,…", help="Kafka's brokers.")
    @click.option("--topic", required=True, metavar="TOPIC", help="The topic to read.")
    @click.option(
        "--format", "form", type=click.Choice(_FORMATS), default="native", show_default=True,
        help="What a message is: a request's body, or one record, as that client sends it.",
    )  # fmt: skip
    @click.option(
        "--group", metavar="NAME", default="", help="Who shares.  [default: habitue-SHOP]"
    )
    @click.option(
        "--option", "options", multiple=True, metavar="NAME=VALUE", help="A setting of librdkafka."
    )
    @click.option(
        "--accept-loss", is_flag=True, help="Go on where the topic dropped what was never read."
    )
    @functools.wraps(command)
    def told(
        *, shop: Shop, bootstrap: str, topic: str, form: str, options: tuple[str, ...],
        **others: Any,
    ) -> Any:  # fmt: skip
        NotInstalled.unless("confluent_kafka", package="confluent-kafka", extra="kafka")
        from habitue.ingest.kafka import Topic
        from habitue.lake.eventlog.brokers import Cluster

        read = Topic(
            shop=shop.name, cluster=Cluster.of(bootstrap, options), name=topic, format=form,
            group=others.pop("group"), accepts_loss=others.pop("accept_loss"),
        )  # fmt: skip
        return command(shop=shop, topic=read, **others)

    return told


@click.command(
    epilog=examples(
        "habitue consume --shop acme --bootstrap localhost:9092 --topic events --follow",
        "habitue consume --shop acme --bootstrap one:9093,two:9093 --topic cdp --format segment"
        " --option security.protocol=SASL_SSL",
    )
)
@with_new_shop
@_with_topic
@click.option("--follow", is_flag=True, help="Go on for ever, sharing partitions with others.")
@with_json
def consume(shop: Shop, topic: "Topic", follow: bool, as_json: bool) -> None:
    """Take a topic of Kafka into the lake, every message exactly once.

    Without --follow it reads to where the topic ends now. How far it came is in the lake: it goes
    on from there, whatever became of it, and whatever offsets its group has.
    """
    limit_threads(1)
    counts: Counter[str] = Counter(appended=0, duplicate=0, rejected=0)

    def count(settled: "Settled") -> None:
        counts.update(
            appended=settled.appended, duplicate=settled.duplicate, rejected=settled.rejected
        )

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):      # what was not committed is read again
        shop.consume(topic, follows=follow, told=count)
    if as_json:
        print_json(dict(counts))
        return
    print_grid(["consumed", ""], [[n, f"{count:,}"] for n, count in counts.items()], numeric=[1])
    if counts["rejected"]:
        say(f"hint: `habitue rejected --shop {shop.name}` shows what was rejected, and why")


@click.command(
    epilog=examples(
        "habitue watch drop --shop acme --mapping acme.toml",
        "habitue watch s3://exports/acme --shop acme --mapping acme.toml --once",
    )
)
@click.argument("place")
@with_new_shop
@click.option(
    "--mapping", type=click.Path(path_type=Path), required=True, metavar="MAPPING.toml",
    help="What the columns of the files mean.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Import what is there, and end.")
@with_json
def watch(place: str, shop: Shop, mapping: Path, once: bool, as_json: bool) -> None:
    """Import every file that is left in a folder, or below s3://bucket/prefix.

    A file is imported once it has not changed for two seconds; names that end in .tmp or .part, or
    begin with a dot or an underscore, are left alone. Files stay where they are. One that cannot be
    imported is told once, and tried again when it or the mapping changes.
    """
    problems = 0

    def tell(found: "Import") -> None:
        nonlocal problems
        problems += found.problem is not None
        if as_json:
            print_json(found)
        elif found.receipt is None:
            say(f"{found.name}: {found.problem}")
        else:
            told = found.receipt
            click.echo(
                f"{found.name}: {told.rows:,} rows: {told.appended:,} appended,"
                f" {told.duplicate:,} duplicate, {told.rejected:,} rejected"
            )

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    left: list[str] = []
    with suppress(KeyboardInterrupt):      # a file is imported as a whole, or again
        left = shop.watch(place, mapping, told=tell, once=once)
    for name in left:
        say(f"{name}: still being written; left for the next time")
    if once and problems:
        raise click.exceptions.Exit(1)
