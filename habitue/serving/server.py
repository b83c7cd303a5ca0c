"""The server: a socket, the loop, the worker beside it, and how all of it starts and ends.

One server serves a workspace, since one process appends to its log.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import uvicorn
import uvloop

from habitue.audit import AUDIT_FILE, Audit
from habitue.config import clock, utc_now
from habitue.directory import ERASURE
from habitue.errors import Busy, HabitueError
from habitue.lake.eventlog.segments import SqliteLog
from habitue.serving.app import Application, Place, Service
from habitue.serving.auth import Keys
from habitue.serving.beside.settlement import PROGRESS_FILE, Settlement, read_progress
from habitue.serving.beside.underway import UNDERWAY_FILE, Underway
from habitue.serving.collect import Collector
from habitue.serving.connection import Connection
from habitue.serving.crowd import Crowd, places
from habitue.serving.doors.answers.reading import Reading
from habitue.serving.doors.people import People
from habitue.serving.doors.routes import ROUTES
from habitue.serving.metrics import Metrics

log = logging.getLogger(__name__)

Listening: TypeAlias = Callable[[int, Callable[[], None]], None]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROFILES_FILE = "profiles.sqlite"          # as habitue.lake.profiles calls it, which loads much
LOCK_FILE, OPERATOR_FILE, TOLD_FILE = "serve.lock", "operator.key", "serve.json"
STOP_SECONDS = 5                           # that requests get to end when the server is stopped
SETTLE_SECONDS = 10.0                      # … and then the worker, to settle what they brought
LOOK_SECONDS = 0.2                         # between looks whether the worker lives
ERASE_SECONDS = 5.0                        # between looks whether somebody is being erased
USES_SECONDS = 5.0                         # between two writings of how keys were used
MOST_PAUSE_SECONDS = 30.0                  # before one that keeps dying is started again


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How a workspace is served."""

    host: str = "127.0.0.1"
    port: int = 8787                       # 0: any that is free
    klaviyo_limits: bool | None = None     # none: unless only this machine can ask
    scores: bool = True                    # whether answers are kept up to date beside the server


class ServerTold(msgspec.Struct, frozen=True, kw_only=True):
    """What the server writes down every second for `habitue status`."""

    pid: int
    host: str
    port: int
    started: float                         # seconds since 1970
    time: float
    accepted: dict[str, int]               # by shop, since it started
    rejected: dict[str, dict[str, int]]    # by shop and reason
    rows_per_second: float
    waiting_bytes: int


def serve(
    place: Place,
    config: ServeConfig,
    *,
    listening: Listening,
    follow: Sequence[str] = (),
    score: Sequence[str] = (),
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Serve until a signal, or what `listening` was given, says stop.

    `listening` is told the port as soon as requests are answered, and a function that any thread
    may call to stop the server. `follow` is the command that follows the log beside the server;
    what was acknowledged is settled before this returns. `score` is the one that keeps scores.

    Raises:
        Busy: the workspace is served already.
        OSError: the address cannot be listened at.
    """
    place.online.mkdir(mode=0o700, exist_ok=True)      # emails are in there
    with _alone(place.online / LOCK_FILE), contextlib.closing(_socket(config)) as listener:
        _skip_used_offsets(place)
        uvloop.run(_Running(place, config, (follow, score), now).run(listener, listening))


class _Server(uvicorn.Server):
    """uvicorn's server, that ends in order when it is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGINT, signal.SIGTERM)
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


class _Running:
    """One life of the server."""

    def __init__(
        self,
        place: Place,
        config: ServeConfig,
        beside: Sequence[Sequence[str]],
        now: Callable[[], datetime],
    ) -> None:
        self.place, self.config, self.now = place, config, now
        self.beside = [tuple(command) for command in beside if command]
        self.online = place.online
        self.metrics = Metrics()

    async def run(self, listener: socket.socket, listening: Listening) -> None:
        """Listen, answer, and end."""
        service = self._service()
        server = _Server(_uvicorn(Application(service, ROUTES), Crowd(places())))
        port = listener.getsockname()[1]
        tasks = [
            asyncio.create_task(self._say_when(server, lambda: listening(port, server.stop))),
            asyncio.create_task(self._tell(service, port)),
            asyncio.create_task(_open_soon(service)),
            asyncio.create_task(_end_segments(self.place)),
            asyncio.create_task(_write_uses(service)),
        ]
        tasks += [asyncio.create_task(_keep(command)) for command in self.beside]
        try:
            await server.serve(sockets=[listener])
        finally:
            service.collector.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _write_down(service)
            service.keys.close()
            service.people.close()
            service.reading.close()
            (self.online / TOLD_FILE).unlink(missing_ok=True)

    def _service(self) -> Service:
        config, open_to_all = self.config, self.config.host not in LOOPBACK
        return Service(
            place=self.place,
            keys=Keys(self.place.directory),
            collector=Collector(self.place.log, self.metrics),
            settlement=Settlement(self.place.log, self.online / PROGRESS_FILE),
            people=People(self.online / PROFILES_FILE),
            reading=Reading(self.online),
            metrics=self.metrics,
            underway=Underway(self.online / UNDERWAY_FILE),
            now=self.now,
            operator_key=operator_key(self.online / OPERATOR_FILE),
            klaviyo_limits=open_to_all if config.klaviyo_limits is None else config.klaviyo_limits,
        )

    async def _say_when(self, server: uvicorn.Server, say: Callable[[], None]) -> None:
        while not server.started:
            await asyncio.sleep(0.005)
        say()

    async def _tell(self, service: Service, port: int) -> None:
        """Write down every second how it goes."""
        started = before = clock()
        counted, path = 0, self.online / TOLD_FILE
        while True:
            now, total = clock(), self.metrics.inputs
            told = ServerTold(
                pid=os.getpid(), host=self.config.host, port=port, started=started, time=now,
                accepted=dict(self.metrics.accepted), rejected=self.metrics.reasons(),
                rows_per_second=(total - counted) / max(now - before, 0.001),
                waiting_bytes=service.collector.waiting_bytes,
            )  # fmt: skip
            before, counted = now, total
            with contextlib.suppress(OSError):     # a full disk is told to those who send
                _replace(path, msgspec.json.encode(told))
            await asyncio.sleep(1.0)


async def _keep(command: Sequence[str]) -> None:
    """Run a worker, again whenever it dies; let it settle in the end."""
    process, began, pause = _start(command, again=False), time.monotonic(), 0.0
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if process.poll() is None:
                continue
            log.warning("a worker died, starting it again code=%s", process.returncode)
            _end(process)
            lived = time.monotonic() - began
            pause = 0.0 if lived > MOST_PAUSE_SECONDS else 2 * pause + 0.1
            await asyncio.sleep(min(pause, MOST_PAUSE_SECONDS))
            process, began = _start(command, again=True), time.monotonic()
    finally:
        _settle(process)


def _start(command: Sequence[str], *, again: bool) -> "subprocess.Popen[bytes]":
    """A process of its own, so that what it does does not take the interpreter from requests."""
    told = ("--parent", str(os.getpid()), *(("--again",) if again else ()))
    return subprocess.Popen([*command, *told], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


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


def operator_key(path: Path) -> str:
    """The key of whoever runs the service, made when first asked for."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"ho_{secrets.token_hex(32)}\n")
        draft.replace(path)
    return path.read_text().strip()


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


def _socket(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        where = f"cannot listen at {config.host} port {config.port}"
        hint = "hint: --port 0 takes any that is free"
        raise OSError(error.errno, f"{where}: {error.strerror}\n{hint}") from error
    except BaseException:
        listener.close()
        raise
    return listener


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
        backlog=1024,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _settle(process: "subprocess.Popen[bytes]") -> None:
    """Let the worker settle what is in the log, then see it end."""
    assert process.stdin is not None, "it was started with a pipe"
    with contextlib.suppress(OSError):
        process.stdin.write(b"settle\n")
        process.stdin.flush()
    try:
        process.wait(SETTLE_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("the worker did not settle in time; it will when the service starts again")
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
