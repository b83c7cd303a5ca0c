"""A served shop with scores, beside which a scorer runs for as long as a test asks it to."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from habitue.scoring import running
from habitue.scoring.desk import DESK_FILE, Desk
from habitue.scoring.explaining import Explaining
from habitue.scoring.scorer import Scorer
from habitue.workspace import open_workspace
from tests.scoring.small import source_of
from tests.scoring.test_scorer import Clock, scorer_of, steps


@contextlib.contextmanager
def scored(folder: Path, now: int) -> Iterator[Scorer]:
    """A workspace whose shop was scored as a whole at an instant (µs)."""
    open_workspace(folder)
    source = source_of(folder)
    scorer: Scorer = scorer_of(source, Clock(now), folder / "online")
    scorer.catch_up(source.lake)
    steps(scorer)
    with contextlib.closing(scorer):
        yield scorer


@contextlib.contextmanager
def scoring(scorer: Scorer, folder: Path) -> Iterator[None]:
    """The scorer at work in a thread."""
    explaining = Explaining(scorer, Desk(folder / "online" / DESK_FILE), ())
    ended = threading.Event()
    heard = lambda pause, _: b"" if ended.wait(min(pause, 0.05)) else None  # noqa: E731
    thread = threading.Thread(
        target=running.run, args=(scorer, heard), kwargs={"also": explaining.step}
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)
        explaining.close()
    assert not thread.is_alive()
