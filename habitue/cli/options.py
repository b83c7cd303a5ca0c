"""What commands share: where, which shop, as of when, how the answer is shown."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from habitue.cli.output import Output
from habitue.config import Launch, Place, base, demo, large, load_settings, nano, utc_now, xl
from habitue.errors import NoSuchShop
from habitue.workspace import Shop, Workspace, open_workspace

Command = Callable[..., Any]

PRESETS = {"nano": nano, "demo": demo, "base": base, "large": large, "xl": xl}
YEARS = range(1900, 2200)                  # of an instant; beyond, a digit was mistyped


class WithVerbs(click.Command):
    """A command whose first word may be a verb of its own, with options of its own."""

    def __init__(self, *arguments: Any, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.commands: dict[str, click.Command] = {}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of the verb, where the first word is one; else its own."""
        if args and args[0] in self.commands:
            verb = self.commands[args[0]]
            return verb.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, and the verbs below them."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(80)) for name, one in self.commands.items()]
            )


class Instant(click.ParamType):
    """A date (its first instant), an ISO 8601 time (without a zone in UTC), or now."""

    name = "TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The aware instant that the text names."""
        if isinstance(value, datetime):
            return value
        if value == "now":
            return utc_now()
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither 2011-09-09, 2011-09-09T12:30:00Z nor now", param, ctx)
        if time.year not in YEARS:
            self.fail(f"{value!r} is not between {YEARS[0]} and {YEARS[-1]}", param, ctx)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


class Days(click.FloatRange):
    """A positive and finite number of days."""

    name = "days"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that the text says."""
        days: float = super().convert(value, param, ctx)
        if not math.isfinite(days):
            self.fail(f"{value!r} is no number of days", param, ctx)
        return days


@dataclass(frozen=True, slots=True)
class When:
    """As of when a command reads; none: no limit."""

    cutoff: datetime | None
    known_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """As of when a model is asked, and which; none: the last event, no limit, the champion."""

    cutoff: datetime | None
    known_at: datetime | None
    version: str | None


def examples(*lines: str) -> str:
    """The epilog that shows how a command is used."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def with_workspace(command: Command) -> Command:
    """Add --workspace; the command is given the open `workspace`."""

    @_workspace_option
    @functools.wraps(command)
    def opened(*, workspace: Path | None, **others: Any) -> Any:
        return command(workspace=open_workspace(workspace, create=False), **others)

    return opened


def with_shop(command: Command) -> Command:
    """Add --workspace and --shop; the command is given a `shop` that exists."""

    @_workspace_option
    @click.option(
        "--shop", metavar="NAME", help="The shop.  [default: of the settings, or the only one]"
    )
    @functools.wraps(command)
    def chosen(*, workspace: Path | None, shop: str | None, **others: Any) -> Any:
        return command(shop=choose(open_workspace(workspace, create=False), shop), **others)

    return chosen


def with_new_shop(command: Command) -> Command:
    """Add --workspace and --shop; the command is given a `shop` that may begin here."""

    @_workspace_option
    @click.option("--shop", metavar="NAME", required=True, help="The shop; made if it is new.")
    @functools.wraps(command)
    def chosen(*, workspace: Path | None, shop: str, **others: Any) -> Any:
        return command(shop=open_workspace(workspace).shop(shop), **others)

    return chosen


def with_cutoff(command: Command) -> Command:
    """Add --cutoff."""
    return click.option(
        "--cutoff",
        type=Instant(),
        help="See nothing that happened after this.  [default: the shop's last event]",
    )(command)


def with_known_at(command: Command) -> Command:
    """Add --known-at."""
    return click.option(
        "--known-at", type=Instant(), help="See nothing that reached us after this."
    )(command)


def with_time(command: Command) -> Command:
    """Add --cutoff and --known-at; the command is given `when`."""

    @click.option("--cutoff", type=Instant(), help="See nothing that happened after this.")
    @with_known_at
    @functools.wraps(command)
    def told(*, cutoff: datetime | None, known_at: datetime | None, **others: Any) -> Any:
        return command(when=When(cutoff, known_at), **others)

    return told


def with_output(command: Command) -> Command:
    """Add --json, --out and --rows; the command is given `output`."""
    rows = click.option(
        "--rows", type=click.IntRange(0), default=20, show_default=True,
        help="Rows to print; 0 prints all.",
    )  # fmt: skip
    return with_whole_output(rows(command))


def with_whole_output(command: Command) -> Command:
    """Add --json and --out; the command is given `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print every row as JSON.")
    @click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write every row to a file: .csv, .parquet or .ndjson.",
    )
    @functools.wraps(command)
    def shown(*, as_json: bool, out: Path | None, rows: int = 0, **others: Any) -> Any:
        return command(output=Output(as_json=as_json, out=out, rows=rows), **others)

    return shown


def with_json(command: Command) -> Command:
    """Add --json alone, for a command that answers with one thing."""
    return click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")(
        command
    )


def with_config(command: Command) -> Command:
    """Add --preset, --text-encoder and --seed; the command is given a `config`."""

    @click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        default="nano",
        show_default=True,
        help="The size of the model.",
    )
    @click.option(
        "--text-encoder",
        metavar="NAME",
        help="A sentence encoder that also reads item texts: a folder, or an installed package."
        "  [default: of the settings, or none]",
    )
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
    @functools.wraps(command)
    def configured(*, preset: str, text_encoder: str | None, seed: int, **others: Any) -> Any:
        encoder = load_settings().text_encoder if text_encoder is None else text_encoder
        encoder = encoder or ""
        # what a reader knows of new items would only be unlearnt, if they competed
        config = replace(
            PRESETS[preset](), text_encoder=encoder, unseen_compete=not encoder, seed=seed
        )
        return command(config=config, **others)

    return configured


def with_launch(command: Command) -> Command:
    """Add --launch and --workers; the command is given a `launch`."""

    @click.option(
        "--launch",
        "place",
        type=click.Choice(get_args(Place)),
        default="here",
        show_default=True,
        help="Where: in this process, in processes of this machine, or on a Ray cluster.",
    )
    @click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="Among how many."
    )
    @functools.wraps(command)
    def told(*, place: Place, workers: int, ray_storage: str | None = None, **others: Any) -> Any:
        launch = Launch(place=place, workers=workers, storage=ray_storage)
        return command(launch=launch, **others)

    return told


def with_asked(command: Command) -> Command:
    """Add --cutoff, --known-at and --version; the command is given what is `asked`."""

    @with_cutoff
    @with_known_at
    @click.option("--version", metavar="NAME", help="A version or an alias.  [default: champion]")
    @functools.wraps(command)
    def told(
        *, cutoff: datetime | None, known_at: datetime | None, version: str | None, **others: Any
    ) -> Any:
        return command(asked=Asked(cutoff, known_at, version), **others)

    return told


def choose(workspace: Workspace, name: str | None) -> Shop:
    """The shop that is named, or that the settings name, or the only one."""
    known = workspace.shops()
    wanted = name or load_settings().shop or (known[0] if len(known) == 1 else None)
    if wanted is None and known:
        raise click.UsageError(f"which shop? --shop takes one of: {', '.join(known)}")
    if wanted not in known:
        raise NoSuchShop(wanted or "NAME", known)
    return workspace.shop(wanted)


_workspace_option = click.option(
    "--workspace",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)
