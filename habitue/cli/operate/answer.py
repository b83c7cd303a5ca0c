"""The command that answers the questions which were asked of the service."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from habitue.cli.options import examples
from habitue.cli.output import say
from habitue.config import limit_threads, utc_now
from habitue.errors import Busy, HabitueError
from habitue.workspace import Shop, open_workspace

if TYPE_CHECKING:
    from habitue.scoring.desk import Found

LOCK_FILE = "answer.lock"
NICE = 10                                  # who is waited for goes first


@click.command(epilog=examples("habitue answer --workspace work"))
@click.option(
    "--workspace", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The folder that holds the shops.  [default: of the settings, or work]",
)  # fmt: skip
@click.option("--parent", type=int, hidden=True)
def answer(folder: Path | None, parent: int | None) -> None:
    """Answer the questions that wait, as `habitue ask` does; `habitue serve` runs this.

    By `POST /v1/questions` they are asked. It ends when none waits.
    """
    from habitue.lake.live.told import microseconds
    from habitue.scoring.desk import DESK_FILE, Desk
    from habitue.serving.beside.worker import live_with

    if parent is not None:
        live_with(parent, again=False)
    os.nice(NICE)
    limit_threads(1)
    workspace = open_workspace(folder, create=False)
    online = workspace.path / "online"
    online.mkdir(mode=0o700, exist_ok=True)
    with _alone(online / LOCK_FILE), contextlib.closing(Desk(online / DESK_FILE)) as desk:
        while (taken := desk.take(microseconds(utc_now()))) is not None:
            found = _found(workspace.shop(taken.shop), taken.question)
            desk.settle(taken, found, microseconds(utc_now()))
            say(f"{taken.shop}: {taken.question}: {found.detail or 'answered'}")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only one who answers; the lock ends with the process that holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("questions are being answered by another process") from None
        yield


def _found(shop: Shop, question: str) -> "Found":
    """What a question leads to; what keeps it from an answer is told, and not raised."""
    import msgspec

    from habitue.scoring.desk import Figure, Found

    cutoff = shop.last_event()
    try:
        reply = shop.ask(question, cutoff=cutoff)
    except HabitueError as error:
        return Found(detail=str(error).replace("\nhint:", "; hint:"))
    if reply.missing:
        return Found(detail=f"no answer: {reply.missing}")
    return Found(
        version=reply.table["version"][0].as_py() if len(reply.table) else None,
        cutoff=cutoff,
        method=reply.method,
        customers=len(reply.table),
        judged=msgspec.convert(list(reply.judged), list[Figure]),
    )
