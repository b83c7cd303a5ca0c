"""`Answering`: what one process does that answers requests, alone or as one of several."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
import uvicorn

from habitue.audit import AUDIT_FILE, Audit
from habitue.serving.app import Application, Place, Service
from habitue.serving.auth import Keys, Windows
from habitue.serving.beside.settlement import PROGRESS_FILE, Settlement
from habitue.serving.beside.underway import UNDERWAY_FILE, Underway
from habitue.serving.collect import Collector
from habitue.serving.connection import Connection
from habitue.serving.crowd import Crowd, places
from habitue.serving.doors.answers.reading import Reading
from habitue.serving.doors.people import People
from habitue.serving.doors.routes import ROUTES
from habitue.serving.metrics import Metrics
from habitue.serving.several.children import end
from habitue.serving.several.claiming import CLAIMS_FILE, SharedClaims
from habitue.serving.several.listening import BACKLOG
from habitue.serving.several.sharing import (
    WINDOWS_FILE,
    SharedCounts,
    counted,
    counted_file,
    read_counted,
)
from habitue.serving.several.told import OPERATOR_FILE, replace

log = logging.getLogger(__name__)

PROFILES_FILE = "profiles.sqlite"          # as habitue.lake.profiles calls it, which loads much
STOP_SECONDS = 5                           # that requests get to end when the server is stopped
TELL_SECONDS = 1.0                         # between two writings of what was counted
USES_SECONDS = 5.0                         # between two writings of how keys were used


class Server(uvicorn.Server):
    """uvicorn's server, that ends in order when it is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGINT and SIGTERM, where these are not ignored and this thread may."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = [
            one for one in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(one) != signal.SIG_IGN
        ]  # fmt: skip
        for one in wanted:
            loop.add_signal_handler(one, self.stop)
        try:
            yield
        finally:
            for one in wanted:
                loop.remove_signal_handler(one)

    def stop(self) -> None:
        """End soon; may be called from any thread."""
        self.should_exit = True


class Answering:
    """One life of a process that answers."""

    def __init__(
        self, place: Place, now: Callable[[], datetime], *, klaviyo_limits: bool,
        slot: int | None = None,
    ) -> None:  # fmt: skip
        """As one of several it has a slot of its own; called where the loop runs."""
        self.place, self.slot = place, slot
        self.service = service_of(place, now, klaviyo_limits=klaviyo_limits, slot=slot)
        self.server = Server(_uvicorn(Application(self.service, ROUTES), Crowd(places())))

    async def run(
        self, listener: socket.socket, beside: "list[Coroutine[None, None, None]]"
    ) -> None:
        """Answer until it is told to stop, then give everything back."""
        tasks = [asyncio.create_task(one) for one in (*chores(self.service), *beside)]
        try:
            await self.server.serve(sockets=[listener])
        finally:
            self.service.collector.close()
            await end(tasks)
            close(self.service)

    async def started(self) -> None:
        """Wait until requests are answered."""
        while not self.server.started:
            await asyncio.sleep(0.005)


def service_of(
    place: Place, now: Callable[[], datetime], *, klaviyo_limits: bool, slot: int | None
) -> Service:
    """What every request needs; made within the loop that answers.

    Counters go on where the former process of a slot stopped.
    """
    online, metrics = place.online, Metrics()
    former = None if slot is None else read_counted(counted_file(online, slot))
    if former is not None:
        metrics.add(former)
    underway = Underway(online / UNDERWAY_FILE, slot or 0)
    return Service(
        place=place,
        keys=Keys(place.directory),
        collector=Collector(place.log, metrics, underway.appended),
        settlement=Settlement(place.log, online / PROGRESS_FILE, is_alone=slot is None),
        people=People(
            online / PROFILES_FILE, None if slot is None else SharedClaims(online / CLAIMS_FILE)
        ),
        reading=Reading(online),
        metrics=metrics,
        underway=underway,
        now=now,
        operator_key=operator_key(online / OPERATOR_FILE),
        klaviyo_limits=klaviyo_limits,
        windows=Windows(counts=None if slot is None else SharedCounts(online / WINDOWS_FILE)),
        others=(lambda: []) if slot is None else partial(counted, online, but=slot),
    )


def chores(service: Service) -> "list[Coroutine[None, None, None]]":
    """What is done beside answering, until it is cancelled."""
    return [_open_soon(service), _write_uses(service)]


async def tell(service: Service, slot: int) -> None:
    """Write down every second what was counted, for those who answer beside."""
    path = counted_file(service.place.online, slot)
    while True:
        told = service.metrics.told(os.getpid(), service.collector.waiting_bytes)
        with contextlib.suppress(OSError):         # a full disk is told to those who send
            replace(path, msgspec.json.encode(told))
        await asyncio.sleep(TELL_SECONDS)


def close(service: Service) -> None:
    """Write down what is left to be, and give files back; the collector is closed before."""
    _write_down(service)
    service.keys.close()
    service.people.close()
    service.reading.close()
    service.windows.close()
    service.underway.close()


def operator_key(path: Path) -> str:
    """The key of whoever runs the service, made when first asked for."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"ho_{secrets.token_hex(32)}\n")
        draft.replace(path)
    return path.read_text().strip()


async def _open_soon(service: Service) -> None:
    """Load what is large a moment after the start, so that the first who asks need not wait."""
    await asyncio.sleep(1.0)
    await service.people.open()
    await service.reading.open()


async def _write_uses(service: Service) -> None:
    """Write down now and then how keys were used."""
    while True:
        await asyncio.sleep(USES_SECONDS)
        await asyncio.to_thread(_write_down, service)


def _write_down(service: Service) -> None:
    try:
        service.uses.write(Audit(service.place.path / AUDIT_FILE))
    except (sqlite3.Error, OSError) as error:      # it is tried again, with what comes until then
        log.warning("the use of keys could not be written down: %s", error)


def _uvicorn(application: Application, crowd: Crowd) -> uvicorn.Config:
    # it would write to the log about every bad request, from whoever sends one
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        application,
        http=partial(Connection, crowd=crowd),  # type: ignore[arg-type]  # it is only called
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
