"""Copying what was committed from the write-ahead log into the file, beside whoever writes.

A commit that has to do this itself waits for the disk, and whoever waits for the commit with it.
Here a thread with a connection of its own does it; only where it cannot keep up (`MOST_PAGES`) the
writer does it after all, so the log has an end. What a commit means is as before.
"""

import logging
import sqlite3
import threading
from pathlib import Path

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0                        # between two copies: a page that changes again goes once
MOST_PAGES = 32_000                        # of the log, until who writes has to copy


class Checkpoints:
    """A thread that copies after it was woken, until it is closed."""

    def __init__(self, path: Path) -> None:
        """For the database of this path."""
        self._path = path
        self._is_due, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was committed."""
        self._is_due.set()

    def close(self) -> None:
        """Stop, after what is being copied."""
        self._is_over.set()
        self._is_due.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            while self._is_due.wait() and not self._is_over.is_set():
                self._is_due.clear()
                try:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                except sqlite3.OperationalError as error:      # the next commit asks again
                    log.info("no checkpoint path=%s error=%s", self._path, error)
                self._is_over.wait(PAUSE_SECONDS)
        finally:
            connection.close()
