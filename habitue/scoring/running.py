"""How a scorer runs: until whoever started it is gone, or once through all that waits."""

import logging
import time
from collections.abc import Callable

from habitue.errors import HabitueError
from habitue.lake.tables import Lake
from habitue.scoring.scorer import LOOK_SECONDS, Scorer

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0                        # after something failed


def run(
    scorer: Scorer, heard: Callable[[float], bytes | None], *, also: Callable[[], bool] = bool
) -> None:
    """Score until the server is gone, or says to end; what failed is told and tried again.

    `also` is done between two steps; it says whether to go on at once.
    """
    failure, pause = "", 0.0
    while heard(pause) is None:
        try:
            pause, failure = (0.0 if scorer.step() | also() else LOOK_SECONDS), ""
        except Exception as error:         # noqa: BLE001 (what waits still waits)
            told, pause = f"{type(error).__name__}: {error}", PAUSE_SECONDS
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
