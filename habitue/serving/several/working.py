"""A process that answers beside others; the parent starts it, and starts it again when it dies.

It reads everything by itself and hands on what is to be appended, so nothing is lost with it but
requests that were not answered.
"""

import contextlib
import dataclasses
import socket
import threading
from pathlib import Path

import msgspec
import uvloop

from habitue.config import utc_now
from habitue.lake.eventlog.records import EventLog
from habitue.lake.eventlog.segments import SqliteLog
from habitue.serving.app import Place
from habitue.serving.several.answering import Answering, tell
from habitue.serving.several.handing import HANDING_FILE, HandedLog


class Working(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent tells it."""

    listener: int                          # the open file of the socket that is listened at
    slot: int                              # from 0; no other process that lives has it
    klaviyo_limits: bool


def work(place: Place, working: Working) -> None:
    """Answer until the parent is gone, or says to end; `place` may hold the log itself."""
    log = handed(place.log, place.online)
    with contextlib.closing(log):
        uvloop.run(_run(dataclasses.replace(place, log=log), working))


def handed(log: EventLog, online: Path) -> EventLog:
    """A log as a process uses it that is one of several: files have one writer, brokers many."""
    return HandedLog(online / HANDING_FILE, log) if isinstance(log, SqliteLog) else log


async def _run(place: Place, working: Working) -> None:
    answering = Answering(
        place, utc_now, klaviyo_limits=working.klaviyo_limits, slot=working.slot
    )
    threading.Thread(target=_hear, args=(answering,), name="hear", daemon=True).start()
    with socket.socket(fileno=working.listener) as listener:
        await answering.run(listener, [_tell(answering, working.slot)])


def _hear(answering: Answering) -> None:
    """Stop when the parent says so, or is gone."""
    from habitue.serving.beside.worker import hear

    while hear(3600.0) is None:
        pass
    answering.server.stop()


async def _tell(answering: Answering, slot: int) -> None:
    """Write down what was counted; the first time says that requests are answered."""
    await answering.started()
    await tell(answering.service, slot)
