"""Commands about audiences: audience and its verbs, audiences."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from habitue.cli.bars import waiting
from habitue.cli.data.aftermath import DaysAhead, show, show_likeness
from habitue.cli.options import (
    Instant,
    When,
    WithVerbs,
    examples,
    with_json,
    with_known_at,
    with_output,
    with_shop,
    with_time,
)
from habitue.cli.output import Output, cell, print_json, say
from habitue.workspace import Shop

if TYPE_CHECKING:
    from habitue.audiences.members import Audience


@click.command(
    cls=WithVerbs,
    epilog=examples(
        "habitue audience 'did order_placed >= 2 times in 90 days and churn_90d > 0.7'",
        "habitue audience 'did not order_placed in 26 weeks' --shop acme --out lapsed.csv",
        "habitue audience 'sum of order_placed value >= 100 in 365 days' --cutoff 2011-09-09",
        "habitue audience 'did item_ordered in 28 days where category = \"mugs\"' --size",
        "habitue audience 'did cart_added in 3 days then not order_placed within 1 hour'",
        "habitue audience 'profile.city = \"Paris\" and consent.email = \"subscribed\"'",
        "habitue audience 'rfm = \"at risk\" and not in audience \"staff\"' --save rescue",
        "habitue audience 'in audience \"rescue\"' --since 2011-06-01",
        "habitue audience 'did not order_placed in 60 days' --cutoff 2011-09-09 --then 30d",
        "habitue audience --template lapsing --size",
    )
)
@click.argument("condition", required=False)
@click.option("--template", metavar="NAME", help="A ready condition in the place of CONDITION.")
@with_shop
@with_time
@click.option(
    "--since", type=Instant(), help="Tell who entered and who left since this, instead."
)
@click.option("--size", "only_size", is_flag=True, help="Tell how many they are, and no more.")
@click.option(
    "--then", "days", type=DaysAhead(),
    help="Tell what they did in so many days after --cutoff, beside everyone else.",
)
@click.option(
    "--recompute", is_flag=True,
    help="With --then: predict now, by the newest version that had seen no further.",
)
@click.option("--save", "name", metavar="NAME", help="Keep the condition under a name.")
@with_output
def audience(  # noqa: PLR0913 - one per flag
    condition: str | None,
    template: str | None,
    shop: Shop,
    when: When,
    since: datetime | None,
    only_size: bool,
    days: int | None,
    recompute: bool,
    name: str | None,
    output: Output,
) -> None:
    """List the customers who meet a condition.

    CONDITION joins with and, or, not and parentheses what customers did (did EVENT, did not EVENT,
    did EVENT >= N times, sum of EVENT value >= N, did A then B within 1 hour; in N days, between
    two dates, before, after; where FIELD = VALUE), what is known of them (profile.NAME,
    consent.CHANNEL, rfm), what is predicted (churn_90d, order_30d, expected_orders_90d,
    expected_spend_90d, next_order_date) and other audiences (in audience "NAME"); in their time
    zone CONDITION goes by each customer's own clock. It may also be Klaviyo's segment definition,
    as JSON.

    It is answered as of --cutoff, by default the shop's last event, and of what had reached us by
    --known-at. --cutoff now finds who is in a live audience. With --then it is the last instant
    whose days are over, and what was known by it.
    """
    said = _said(condition, template)
    _refuse_both(since=since, only_size=only_size, days=days, recompute=recompute)
    if days is not None:
        with waiting("asking"):
            found_then = shop.audiences.then(
                said, cutoff=when.cutoff, days=days, known_at=when.known_at, recompute=recompute
            )
        _save(shop, name, said)
        show(found_then, output)
        return
    with waiting("asking"):
        found, before = _asked(shop, said, when, since)
        remarks = [] if found.size else shop.audiences.unheard(said, found.as_of)
    _save(shop, name, said)
    for one in remarks:
        say(one)
    number = f"{found.size:,} customer{'s' * (found.size != 1)}"
    title = f"{number} as of {cell(found.cutoff)} UTC · {found.sentence}"
    if since is not None and before is not None:
        from habitue.audiences.members import difference

        output.show(difference(before, found), title=f"{title} · since {cell(since)}")
    elif only_size and output.as_json:
        print_json({"size": found.size, "cutoff": found.cutoff, "condition": found.sentence})
    elif only_size:
        click.echo(f"{found.size}")
    else:
        output.show(found.members, title=title)


@click.command(
    epilog=examples(
        "habitue audience templates --shop acme", "habitue audience templates --rows 0 --json"
    )
)
@with_shop
@with_output
def templates(shop: Shop, output: Output) -> None:
    """List the ready conditions, and what the shop lacks for those that it cannot use.

    `habitue audience --template NAME` takes one in the place of a condition, and with --save NAME
    it is kept, to be used inside others.
    """
    with waiting("looking at what the shop has"):
        table = shop.audiences.templates()
    if output.for_people:
        table = table.select(["name", "applies", "purpose", "condition", "missing"])
    output.show(table, title=f"{sum(table['applies'].to_pylist())} of {len(table)} apply")


@click.command(
    epilog=examples(
        "habitue audience suggest 'good customers who have gone quiet this quarter'",
        "habitue audience suggest 'left a cart since yesterday' --shop acme --save carts",
    )
)
@click.argument("sentence")
@with_shop
@with_time
@click.option("--save", "name", metavar="NAME", help="Keep the condition, once it is confirmed.")
@click.option("--yes", is_flag=True, help="With --save: do not ask.")
@with_json
def suggest(
    sentence: str, shop: Shop, when: When, name: str | None, yes: bool, as_json: bool
) -> None:
    """Turn somebody's own words into a condition, by a language model.

    The settings lm_url, lm_model and lm_key name one. It is told what the shop's events and
    properties are called, and no customer's values; what it answers is read like any condition,
    and shown in full. Without one, the nearest ready conditions are named.
    """
    with waiting("asking the model"):
        found = shop.audiences.suggest(sentence, cutoff=when.cutoff, known_at=when.known_at)
    size, told = found.audience.size, found.condition
    if as_json:
        print_json(
            {
                "asked": found.asked,
                "condition": told,
                "size": size,
                "cutoff": found.audience.cutoff,
                "tries": [{"answer": one.answer, "error": one.error} for one in found.tries],
            }
        )
    else:
        click.echo(told)
        say(f"{size:,} customer{'s' * (size != 1)} as of {cell(found.audience.cutoff)} UTC")
    if name is not None and (yes or click.confirm(f"save it as {name}?", err=True)):
        _save(shop, name, told)


@click.command(
    epilog=examples(
        "habitue audience lookalike 'rfm = \"champions\"' --size 500 --shop acme",
        "habitue audience lookalike 'in audience \"vip\"' --not 'did order_placed in 30 days'",
        "habitue audience lookalike 'did order_placed >= 5 times' --channel email --out like.csv",
        "habitue audience lookalike 'rfm = \"champions\"' --cutoff 2011-09-09 --then 90d",
    )
)
@click.argument("seed")
@with_shop
@with_time
@click.option("--size", default=500, show_default=True, help="How many, at most.")
@click.option("--not", "without", metavar="CONDITION", help="Nobody who meets this.")
@click.option("--channel", help="Only who has subscribed to it: email, sms, push, whatsapp.")
@click.option(
    "--then", "days", type=DaysAhead(),
    help="Tell instead what they did in so many days after --cutoff, beside the seed and others.",
)
@with_output
def lookalike(  # noqa: PLR0913 - one per flag
    seed: str,
    shop: Shop,
    when: When,
    size: int,
    without: str | None,
    channel: str | None,
    days: int | None,
    output: Output,
) -> None:
    """List the customers who are most like those of a condition, and are none of them.

    Likeness is that of the embeddings that `habitue embed` kept last by --cutoff: the mean cosine
    with the customers of SEED. With --then, whether they did what SEED did is told beside as many
    neighbours by recency, frequency and value, and everyone else.
    """
    if days is not None:
        if without is not None or channel is not None or when.known_at is not None:
            raise click.UsageError("--then goes without --not, --channel and --known-at")
        with waiting("asking"):
            told = shop.audiences.likeness(seed, cutoff=when.cutoff, days=days, size=size)
        show_likeness(told, output)
        return
    cutoff = when.cutoff or shop.last_event()
    with waiting("asking"):
        found = shop.audiences.lookalike(
            seed, cutoff=cutoff, size=size, without=without, channel=channel,
            known_at=when.known_at,
        )  # fmt: skip
    output.show(found, title=f"{len(found):,} nearest as of {cell(cutoff)} UTC · {seed}")


audience.commands["templates"] = templates
audience.commands["lookalike"] = lookalike
audience.commands["suggest"] = suggest


def _save(shop: Shop, name: str | None, said: str) -> None:
    if name is not None:
        say(f"saved {name}: {shop.audiences.save(name, said)}")
        if problem := shop.audiences.not_live(name):
            say(problem)


def _asked(
    shop: Shop, said: str, when: When, since: datetime | None
) -> "tuple[Audience, Audience | None]":
    """Who meets a condition, and who met it before."""
    found = shop.audience(said, cutoff=when.cutoff, known_at=when.known_at)
    if since is None:
        return found, None
    if since >= found.cutoff:
        raise click.UsageError(f"--since is not before the cutoff, {cell(found.cutoff)} UTC")
    return found, shop.audience(said, cutoff=since, known_at=when.known_at)


def _said(condition: str | None, template: str | None) -> str:
    """The condition that was written, or that of a template."""
    if template is None and condition is not None:
        return condition
    if template is None or condition is not None:
        raise click.UsageError("wanted one CONDITION, or --template NAME")
    from habitue.audiences.templates import template as template_of

    return template_of(template).condition


def _refuse_both(
    *, since: datetime | None, only_size: bool, days: int | None, recompute: bool
) -> None:
    if (since is not None) + only_size + (days is not None) > 1:
        raise click.UsageError(
            "--since tells of changes, --size of a number, --then of what followed: name one"
        )
    if recompute and days is None:
        raise click.UsageError("--recompute goes with --then")


@click.command(
    epilog=examples("habitue audiences --shop acme", "habitue audiences --remove rescue")
)
@with_shop
@click.option("--remove", metavar="NAME", help="Take a name back.")
@with_known_at
@with_output
def audiences(shop: Shop, remove: str | None, known_at: datetime | None, output: Output) -> None:
    """List the audiences that have a name, or take a name back.

    `habitue audience CONDITION --save NAME` gives one. What a name meant at an earlier time is told
    by --known-at.
    """
    if remove is not None:
        shop.audiences.remove(remove)
        say(f"removed {remove}")
    output.show(shop.audiences.table(known_at=known_at))
