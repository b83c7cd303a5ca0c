"""Commands that take in what others leave: consume a topic of Kafka, watch a folder."""

import functools
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from habitue.cli.options import Command, examples, with_json, with_new_shop
from habitue.cli.output import print_grid, print_json, say
from habitue.config import limit_threads
from habitue.errors import NotInstalled
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.ingest.commit import Settled
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
