"""Commands about audiences while they are kept live: members, changes, deliver."""

import time
from pathlib import Path

import click

from habitue.cli.options import examples, with_output, with_shop
from habitue.cli.output import Output, json_lines
from habitue.workspace import Shop

LOOK_SECONDS = 0.05                        # between looks at what was found since
MOST_SEQUENCE = 2**63 - 1                  # that a file of changes can hold


@click.command(epilog=examples("habitue members carts --shop acme", "habitue members carts --json"))
@click.argument("audience")
@with_shop
@with_output
def members(audience: str, shop: Shop, output: Output) -> None:
    """List who is in an audience now, and since when.

    AUDIENCE has a name, and is followed by `habitue serve` or `habitue follow`.
    """
    output.show(shop.audiences.members(audience))


@click.command(
    epilog=examples(
        "habitue changes carts --shop acme",
        "habitue changes --after 1041 --json",
        "habitue changes carts --follow",
    )
)
@click.argument("audience", required=False)
@with_shop
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="N",
    help="From the sequence number after this on.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on with what is found, as JSON, until stopped.")
@with_output
def changes(audience: str | None, shop: Shop, after: int, follow: bool, output: Output) -> None:
    """List who entered and who left, of one AUDIENCE or of all.

    Each change says when it became true (at), when that was found (detected_at), and why: by an
    event, by time, by a score, or by a definition. It is never changed afterwards.
    """
    after = min(after, MOST_SEQUENCE)
    if not follow:
        output.show(shop.audiences.changes(audience, after=after))
        return
    while True:
        found = shop.audiences.changes(audience, after=after)
        for line in json_lines(found):
            click.echo(line)
        after = max(found["sequence"].to_pylist(), default=after)
        time.sleep(LOOK_SECONDS)


@click.command(
    epilog=examples(
        "habitue deliver changes.ndjson --shop acme",
        "habitue deliver https://example.com/hook --secret-file hook.secret --audience carts",
        "habitue deliver kafka://localhost:9092/audience-changes",
    )
)
@click.argument("target", metavar="FILE|URL|TOPIC")
@with_shop
@click.option("--audience", metavar="NAME", help="Of this audience only.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    help="A file with the secret by which calls are signed.",
)
@click.option("--once", is_flag=True, help="End when all that was found by now is told.")
def deliver(
    target: str, shop: Shop, audience: str | None, secret_file: Path | None, once: bool
) -> None:
    """Tell each change of an audience to a file (NDJSON), an address, or a topic of Kafka.

    At least once, in their order, until stopped; started again, it goes on where it was. A call
    holds a list of changes as JSON; its header Habitue-Signature is t=SECONDS,v1=HMAC, the
    HMAC-SHA256 of SECONDS, a point and the body. What is not answered by 2xx is sent again, after
    half a second and then later and later, up to a minute. A topic (kafka://HOST:PORT/TOPIC, with
    librdkafka's options behind a question mark) gets a message for each change, keyed by customer.
    """
    is_call = "://" in target and not target.startswith("kafka://")
    if is_call and secret_file is None:
        raise click.UsageError("a URL needs --secret-file: calls are signed")
    secret = secret_file.read_bytes().strip() if is_call and secret_file is not None else None
    delivery = shop.audiences.delivery(target, secret=secret, audience=audience)
    while True:
        seconds = delivery.step()
        if once and seconds == LOOK_SECONDS:
            return
        time.sleep(seconds)
