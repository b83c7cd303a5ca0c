"""`habitue` as it is run, with a log that is cut and trimmed and a lake that is swept every moment.

    python -m tests.serving.crashing.hurried serve --workspace work …

So that in the few seconds that a process of the crash test lives, all that a service does in a day
is done. The folder that HURRIED names tells each worker where it shall die (`plan`) and the server,
once it shall (`arm`), and is told which worker began with what (`began`), and who died where
(`deaths`).
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from habitue import faults

if TYPE_CHECKING:
    from habitue.lake.tables import Lake

SEGMENT_BYTES = 20_000
NOWHERE = "worker at random"               # a line of the plan: it is killed from outside


def main() -> None:
    """Change the constants of the process that this command is, then run the command."""
    home = Path(os.environ["HURRIED"])
    _tell_of_death(home)
    _cut_the_log()
    if sys.argv[1] == "serve":
        _serve_in_a_hurry()
        threading.Thread(target=_arm_when_told, args=[home / "arm"], daemon=True).start()
    if sys.argv[1] == "follow":
        _follow_in_a_hurry(home)
    from habitue.cli.app import main as command

    command()


def _arm_when_told(path: Path) -> None:
    """Die where the file says, from when it is there."""
    while not path.exists() or not (fault := path.read_text()):
        time.sleep(0.02)
    faults.arm(fault)


def _tell_of_death(home: Path) -> None:
    """Whoever dies by a fault point writes its name down."""
    kill: Callable[[int, int], None] = os.kill

    def told(pid: int, number: int) -> None:
        if pid == os.getpid():
            write_line(home / "deaths", next(iter(faults._survived)))
        kill(pid, number)

    os.kill = told


def write_line(path: Path, text: str) -> None:
    """Append a line to a file that others append to, too."""
    with path.open("a") as file:
        file.write(f"{text}\n")


def _cut_the_log() -> None:
    from habitue.lake.eventlog.segments import SqliteLog

    assert SqliteLog.__init__.__kwdefaults__ is not None
    SqliteLog.__init__.__kwdefaults__["segment_bytes"] = SEGMENT_BYTES


def _serve_in_a_hurry() -> None:
    """The worker that the server starts is in a hurry, too, and is started again at once."""
    from habitue.serving import server
    from habitue.serving.several import children
    from habitue.serving.several.told import Beside

    serve = server.serve

    def with_hurried(*told: object, beside: Beside, **named: object) -> None:
        arguments = beside.follow[list(beside.follow).index("follow") :]
        command = [sys.executable, "-m", "tests.serving.crashing.hurried", *arguments]
        serve(*told, beside=replace(beside, follow=command), **named)  # type: ignore[arg-type]

    children.MOST_PAUSE_SECONDS = 0.05
    server.serve = with_hurried  # type: ignore[assignment]


def _follow_in_a_hurry(home: Path) -> None:
    from habitue.serving.beside import worker

    worker.TRIM_SECONDS, worker.GRACE_ROWS = 0.2, 5
    worker.ERASE_SECONDS, worker.TIDY_SECONDS = 0.1, 0.1
    worker.tidy = partial(_tidy_all, worker.tidy)  # type: ignore[assignment]
    worker.live_with = partial(_live_with, home, worker.live_with)  # type: ignore[assignment]


def _tidy_all(tidy: Callable[..., object], lake: "Lake", *, now: datetime) -> object:
    """Merge, and delete what was replaced at once; so nobody may write meanwhile."""
    from habitue.lake.maintenance import vacuum

    merged = tidy(lake, now=now)
    with lake.lease():
        vacuum(lake, now=now, keep_hours=0)
    return merged


def _live_with(home: Path, live_with: Callable[..., None], parent: int, *, again: bool) -> None:
    """As a worker does, and then die where the plan says."""
    live_with(parent, again=again)
    began = home / "began"
    number = len(began.read_text().splitlines()) if began.exists() else 0
    fault = (home / "plan").read_text().splitlines()[number]
    faults.arm("" if fault == NOWHERE else fault)
    write_line(began, f"{os.getpid()} {fault}")


if __name__ == "__main__":
    main()
