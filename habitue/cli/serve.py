"""The commands that run the service, and the process beside it that fills the lake."""

import contextlib
import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from habitue.audit import BY_SERVICE
from habitue.cli.options import examples
from habitue.cli.output import say
from habitue.config import clock_ahead, collecting_rarely, limit_threads, utc_now
from habitue.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from habitue.directory import Key
    from habitue.serving.app import Place
    from habitue.serving.several.told import ServeConfig


# -P: no module is taken from the folder that one happens to be in
_OURS = [sys.executable, "-P", "-m", "habitue.cli.app"]

_folder = click.option(
    "--workspace", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)  # fmt: skip
_pace = click.option(
    "--pace", type=click.FloatRange(0.01, 3600), default=1.0, show_default=True, metavar="SECONDS",
    help="Between two commits to the lake.",
)  # fmt: skip
_commit_rows = click.option(
    "--commit-rows", type=click.IntRange(1), default=50_000, show_default=True,
    help="Commit as soon as so many rows wait.",
)  # fmt: skip


def _with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Add where and how to answer; the command is given a `config`.

    What is hidden makes it one of several processes that answer, started by the one that writes.
    """

    @click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
    @click.option(
        "--port", type=click.IntRange(0, 65535), default=8787, show_default=True,
        help="The port to listen at; 0 takes any that is free.",
    )  # fmt: skip
    @click.option(
        "--klaviyo-limits/--no-klaviyo-limits", default=None,
        help="Hold clients to Klaviyo's own rates at its paths.  [default: unless only this"
        " machine can ask]",
    )  # fmt: skip
    @click.option(
        "--scores/--no-scores", default=True, show_default=True,
        help="Keep predictions and lists of items up to date with what happens.",
    )  # fmt: skip
    @click.option(
        "--workers", type=click.IntRange(0, 32), default=1, show_default=True,
        help="How many processes answer; with several, one more writes for all of them. 0: others"
        " answer, such as Ray Serve, and hand on to this one.",
    )  # fmt: skip
    @click.option("--answer", "working", hidden=True)
    @click.option("--parent", type=int, hidden=True)
    @click.option("--again", is_flag=True, hidden=True)
    @functools.wraps(command)
    def configured(**others: Any) -> None:
        from habitue.serving.several.told import ServeConfig

        working, parent, again = (others.pop(name) for name in ("working", "parent", "again"))
        names = [field.name for field in dataclasses.fields(ServeConfig)]
        config = ServeConfig(**{name: others.pop(name) for name in names})
        if working is None:
            command(config=config, **others)
        else:
            _answer(others["folder"], working, parent, again=again)

    return configured


@click.command(
    epilog=examples(
        "habitue serve --workspace work --shop acme",
        "habitue serve --host 0.0.0.0 --port 8787 --workers 4",
    )
)
@_folder
@_with_config
@click.option("--shop", metavar="NAME", help="Make this shop and its first keys, if it has none.")
@_pace
@_commit_rows
@click.option("--json", "as_json", is_flag=True, help="Print what is listening as a line of JSON.")
def serve(
    folder: Path | None, config: "ServeConfig", shop: str | None, pace: float, commit_rows: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Take events by HTTP, as Klaviyo's, Segment's and other clients send them, and answer.

    What is acknowledged is on disk, and in the lake a second later; predictions and lists of items
    follow within that second. Ctrl-C or SIGTERM ends it in order; what kills it loses nothing that
    was acknowledged.
    """
    from habitue.serving.server import serve as run
    from habitue.serving.several.told import Beside

    workspace = open_workspace(folder)
    made = _first_keys(workspace, shop) if shop else []
    where = ["--workspace", str(workspace.path)]
    follow = [*_OURS, "follow", *where, "--pace", str(pace), "--commit-rows", str(commit_rows)]
    score = [*_OURS, "score", *where] if config.scores else []
    if clock_ahead():
        say(f"the clock runs {clock_ahead().days} days ahead: a trial, by HABITUE_CLOCK_AHEAD")
    answer = [*_OURS, "serve", *where, "--answer"]
    place = _place(workspace)
    with contextlib.closing(place.log):
        listening = _told(config, made, as_json)
        beside = Beside(follow=follow, score=score, answer=answer)
        run(place, config, listening=listening, beside=beside)


def _answer(folder: Path | None, working: str, parent: int, *, again: bool) -> None:
    """Be one of several processes that answer."""
    import msgspec

    from habitue.serving.beside.worker import live_with
    from habitue.serving.several.working import Working, work

    live_with(parent, again=again)
    limit_threads(1)
    workspace = open_workspace(folder, create=False)
    work(_place(workspace), msgspec.json.decode(working, type=Working))


@click.command(epilog=examples("habitue follow --workspace work"))
@_folder
@_pace
@_commit_rows
@click.option("--parent", type=int, hidden=True)
@click.option("--again", is_flag=True, hidden=True)
def follow(
    folder: Path | None, pace: float, commit_rows: int, parent: int | None, again: bool
) -> None:
    """Take what the log holds into the lake; `habitue serve` runs this beside itself.

    By itself it settles what a service that is not running any more has acknowledged, and ends.
    """
    from habitue.serving.beside.worker import Worker, hear, live_with

    if parent is not None:
        live_with(parent, again=again)
    limit_threads(1)
    workspace = open_workspace(folder, create=False)
    place = _place(workspace)
    with contextlib.closing(place.log):
        places = dataclasses.replace(workspace.places, who=BY_SERVICE)
        worker = Worker(place, places, most_rows=commit_rows)
        with contextlib.closing(worker), collecting_rarely():
            if parent is None:
                worker.settle(within_seconds=math.inf)
            else:
                worker.run(hear, pace_seconds=pace)


@click.command(epilog=examples("habitue score --workspace work"))
@_folder
@click.option("--parent", type=int, hidden=True)
@click.option("--again", is_flag=True, hidden=True)
def score(folder: Path | None, parent: int | None, again: bool) -> None:
    """Keep predictions and lists of items up to date; `habitue serve` runs this beside itself.

    By itself it scores every shop as a whole, then whoever waits, and ends.
    """
    from habitue.lake.live.told import microseconds
    from habitue.serving.beside.worker import hear, live_with

    if parent is not None:
        live_with(parent, again=again)
    limit_threads(1)
    workspace = open_workspace(folder, create=False)
    if parent is not None:
        while not workspace.lake.files("events"):
            if hear(1.0) is not None:      # models are large: nothing is loaded for no shop
                return
    from habitue.scoring import running
    from habitue.scoring.desk import DESK_FILE, Desk
    from habitue.scoring.explaining import Explaining
    from habitue.scoring.scorer import Scorer

    with contextlib.closing(workspace.log) as event_log:
        shards = event_log.shards
    scorer = Scorer(
        workspace.path / "online",
        lambda: sorted({*workspace.directory.shops(), *workspace.lake.shops()}),
        lambda shop: workspace.shop(shop).source,
        shards=shards,
        clock=lambda: microseconds(utc_now()),
    )
    with contextlib.closing(scorer):
        if parent is None:
            running.catch_up(scorer, workspace.lake, said=say)
        else:
            answer = [*_OURS, "answer", "--workspace", str(workspace.path)]
            desk = Desk(workspace.path / "online" / DESK_FILE)
            with contextlib.closing(Explaining(scorer, desk, answer)) as explaining:
                running.run(scorer, hear, also=explaining.step)


def _place(workspace: Workspace) -> "Place":
    from habitue.serving.app import Place

    return Place(
        path=workspace.path, log=workspace.log, directory=workspace.directory,
        lake=lambda: workspace.lake,
    )  # fmt: skip


def _first_keys(workspace: Workspace, shop: str) -> "list[tuple[Key, str]]":
    """A public and a secret key of a shop that has no key yet."""
    directory = workspace.directory
    directory.shop(shop, create=True)
    if directory.keys(shop):
        return []
    return [
        directory.issue_key(shop, "public", now=utc_now(), label="first"),
        directory.issue_key(shop, "secret", now=utc_now(), label="first"),
    ]


def _told(
    config: "ServeConfig", made: "list[tuple[Key, str]]", as_json: bool
) -> Callable[[int, Callable[[], None]], None]:
    """What is printed as soon as the server answers, or writes for those who do."""
    host = f"[{config.host}]" if ":" in config.host else config.host

    def tell(port: int, _: Callable[[], None]) -> None:
        address = f"http://{host}:{port}" if config.workers else "ADDRESS"
        keys = {key.kind: plain for key, plain in made}
        if as_json:
            listening = address if config.workers else None
            click.echo(json.dumps({"listening": listening, "port": port, "keys": keys}))
            return
        say(f"listening at {address}" if config.workers else "writes for those who answer")
        if made:
            say(_HOW_TO_SEND.format(address=address, **keys))

    return tell


_HOW_TO_SEND = """
secret key  {secret}
public key  {public}
Keep them: they are not shown again. `habitue keys create` makes others.

Send an event:
  curl {address}/v1/events -H 'X-Habitue-Key: {secret}' \\
    -d '{{"name": "order_placed", "customer": "c1", "value": 25, "currency": "USD"}}'
Or let the client that you have send here:
  klaviyo-api   KlaviyoAPI("{secret}", test_host="{address}")
  segment       analytics.write_key = "{secret}"; analytics.host = "{address}"
  rudderstack   analytics.write_key = "{secret}"; analytics.dataPlaneUrl = "{address}"
  posthog       Posthog("{secret}", host="{address}")
"""
