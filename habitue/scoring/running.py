"""How a scorer runs: until whoever started it is gone, or once through all that waits."""

import logging
import time
from collections.abc import Callable

from habitue.errors import HabitueError
from habitue.lake.live.bell import Bell
from habitue.lake.tables import Lake
from habitue.scoring.scorer import LOOK_SECONDS, Scorer

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0                        # after something failed
REST_SECONDS = 1.0                         # while nobody waits, unless the bell is rung


def run(
    scorer: Scorer,
    heard: Callable[[float, Bell | None], bytes | None],
    *,
    also: Callable[[], bool] = bool,
) -> None:
    """Score until the server is gone, or says to end; what failed is told and tried again.

    `also` is done between two steps; it says whether to go on at once. `heard` waits so long for
    the server, or where nobody waited for a bell.
    """
    failure, pause, bell = "", 0.0, None
    while heard(pause, bell) is None:
        try:
            done, is_more, failure = scorer.done, scorer.step() | also(), ""
            if is_more or scorer.done != done:         # what comes in a moment is scored together
                pause, bell = 0.0 if is_more else LOOK_SECONDS, None
            else:
                pause, bell = REST_SECONDS, scorer.bell
        except Exception as error:         # noqa: BLE001 (what waits still waits)
            told, pause, bell = f"{type(error).__name__}: {error}", PAUSE_SECONDS, None
            if told != failure:
                log.warning("scoring failed, trying again: %s", told)
            failure = told


def catch_up(scorer: Scorer, lake: Lake, *, said: Callable[[str], None]) -> None:
    """Score every shop as a whole, and whoever waits."""
    scorer.catch_up(lake)
    for shop in scorer.shops():
        began = time.monotonic()
        try:
            customers = scorer.refresh(shop)
        except HabitueError as error:
            said(f"{shop}: {error}")
            continue
        said(f"{shop}: {customers:,} customers in {time.monotonic() - began:.1f} s")
    while scorer.step():
        pass
