"""Progress on stderr, for whatever takes longer than a second."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 1.0                     # before anything is shown


class Bars:
    """One bar per thing that is being done; call it with what, how far, of how much."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """Show that `label` has done so many steps, of so many where that is known."""
        if self._progress is None and self._clock() - self._begun < PATIENCE_SECONDS:
            return
        if self._progress is None:
            self._progress = _progress()
            self._progress.start()
        name = label.partition(":")[0]     # what follows changes: a loss, a speed
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(label, total=total)
        self._progress.update(
            self._tasks[name], description=label, completed=done, total=total
        )

    def share(self, label: str) -> Callable[[float], None]:
        """A listener that is told which share of `label` is done, 0 to 1."""
        return lambda share: self(label, round(100 * share), 100)

    def close(self) -> None:
        """Leave the bars as they stand."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars that are closed at the end, also by an error."""
    shown = Bars()
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def waiting(
    label: str, *, console: "Console | None" = None, patience: float = PATIENCE_SECONDS
) -> Iterator[None]:
    """How long something takes of which nobody knows how far it is; shown in a terminal only."""
    from rich.console import Console

    shown = console or Console(stderr=True)
    if not shown.is_terminal:
        yield
        return
    progress = _elapsed(shown)
    progress.add_task(label, total=None)
    timer = threading.Timer(patience, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


def _elapsed(console: "Console") -> "Progress":
    """A bar that tells time alone, and goes away."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
