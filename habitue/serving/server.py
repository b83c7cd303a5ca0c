"""The server: the one of a workspace, what runs beside it, and how all of it starts and ends.

One server serves a workspace, since one process appends to its log; several processes may answer.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from pathlib import Path

import uvloop

from habitue.config import clock, utc_now
from habitue.directory import ERASURE
from habitue.errors import Busy, HabitueError
from habitue.lake.eventlog.segments import SqliteLog
from habitue.serving.app import Place
from habitue.serving.beside.settlement import PROGRESS_FILE, read_progress
from habitue.serving.beside.underway import UNDERWAY_FILE, clear
from habitue.serving.several.answering import Answering
from habitue.serving.several.children import keep
from habitue.serving.several.listening import listener
from habitue.serving.several.parent import Parent
from habitue.serving.several.told import (
    LOCK_FILE,
    NOTHING,
    TOLD_FILE,
    Beside,
    Listening,
    ServeConfig,
    Telling,
)

log = logging.getLogger(__name__)

ERASE_SECONDS = 5.0                        # between looks whether somebody is being erased


def serve(
    place: Place,
    config: ServeConfig,
    *,
    listening: Listening,
    beside: Beside = NOTHING,
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Serve until a signal, or what `listening` was given, says stop.

    `listening` is told the port as soon as requests are answered, and a function that any thread
    may call to stop the server. What `beside` names runs as long as the server does; what was
    acknowledged is settled before this returns.

    Raises:
        Busy: the workspace is served already.
        OSError: the address cannot be listened at.
        NotStarted: several processes should answer, and do not.
    """
    place.online.mkdir(mode=0o700, exist_ok=True)      # emails are in there
    port = config.port if config.workers else 0        # nobody listens here
    with _alone(place.online / LOCK_FILE), listener(config.host, port) as held:
        _skip_used_offsets(place)
        clear(place.online / UNDERWAY_FILE)
        if config.workers != 1:
            uvloop.run(_several(place, config, beside, held, listening))
        else:
            uvloop.run(_one(place, config, beside, held, listening, now))


async def _one(
    place: Place,
    config: ServeConfig,
    beside: Beside,
    held: socket.socket,
    listening: Listening,
    now: Callable[[], datetime],
) -> None:
    """One process that answers and appends."""
    answering = Answering(place, now, klaviyo_limits=config.holds_klaviyo_limits)
    port = held.getsockname()[1]
    telling = Telling(place.online / TOLD_FILE, config, port, now=clock())

    async def say() -> None:
        await answering.started()
        listening(port, answering.server.stop)

    async def tell() -> None:
        service = answering.service
        while True:
            with contextlib.suppress(OSError):     # a full disk is told to those who send
                telling.tell(service.metrics, service.collector.waiting_bytes, now=clock())
            await asyncio.sleep(1.0)

    work = [say(), tell(), _end_segments(place), *map(keep, beside.commands)]
    try:
        await answering.run(held, work)
    finally:
        telling.over()


async def _several(
    place: Place,
    config: ServeConfig,
    beside: Beside,
    held: socket.socket,
    listening: Listening,
) -> None:
    """Several processes that answer, and this one, which appends."""
    others: list[Coroutine[None, None, None]] = [_end_segments(place)]
    await Parent(place, config, beside).run(held, listening, others)


def _skip_used_offsets(place: Place) -> None:
    """Where the lake is ahead of a damaged log, let the log go on where the lake stands.

    Otherwise what comes in would get offsets that the lake has read, and never reach it.
    """
    progress = read_progress(place.online / PROGRESS_FILE)
    if progress is None or not isinstance(place.log, SqliteLog):
        return
    for shard, cursor in enumerate(progress.cursors[: place.log.shards]):
        if place.log.end(shard) < cursor:
            log.warning("the log lost rows that the lake holds shard=%d cursor=%d", shard, cursor)
            place.log.rotate(shard, at=cursor)


async def _end_segments(place: Place) -> None:
    """End the log's newest segment while somebody is being erased, so that it can be dropped."""

    def look() -> None:
        if isinstance(place.log, SqliteLog) and place.directory.open_jobs(ERASURE):
            for shard in range(place.log.shards):
                place.log.rotate(shard)

    while True:
        await asyncio.sleep(ERASE_SECONDS)
        with contextlib.suppress(HabitueError, OSError):
            await asyncio.to_thread(look)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only server of a workspace; the lock ends with the process that holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"{path.parent.parent} is served by another process\n"
                "hint: `habitue status` shows it; stop it first"
            ) from error
        yield
    finally:
        os.close(handle)


def is_served(online: Path) -> bool:
    """Whether a server runs for the workspace whose folder `online` this is."""
    try:
        handle = os.open(online / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)
