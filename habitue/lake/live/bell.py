"""`Bell`: who waits for what another process does need not look again and again whether it is done.

It is a pipe with a name. Ringing puts a byte in and never waits, whoever listens; who waits takes
out all there is. A bell only spares time: whoever waits looks now and then without it, too.
"""

import contextlib
import os
import select
from pathlib import Path

FOLLOW_BELL = "follow.bell"                # for who follows the log: there is something new
DEFINE_BELL = "define.bell"                # for who keeps audiences: one was saved
SCORE_BELL = "score.bell"                  # for who scores: somebody waits


def ring(path: Path) -> None:
    """Ring a bell once, where somebody has one there."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(handle, b"\0")
        finally:
            os.close(handle)


class Bell:
    """One bell, to be rung or to be waited for, from any thread."""

    def __init__(self, path: Path) -> None:
        """Open it, made where it is missing."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def fileno(self) -> int:
        """For `select`."""
        return self._handle

    def ring(self) -> None:
        """Wake who waits, or who will wait next; a pipe that is full was rung often enough."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._handle, b"\0")

    def wait(self, seconds: float) -> None:
        """Wait until it is rung, or so long."""
        if select.select([self], [], [], seconds)[0]:
            self.silence()

    def silence(self) -> None:
        """Forget that it was rung; whoever waits looks what there is after that."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._handle, 1 << 16)

    def close(self) -> None:
        """Give the file back; nobody rings or waits any more."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
