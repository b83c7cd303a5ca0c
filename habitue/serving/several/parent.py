"""The process that starts those that answer: it appends to the log for them, and answers nobody.

All take connections from one socket, which stays open here: what waits there when one of them
dies is taken by another, so a client that asks again is answered. It is started again at once.
When this one ends, all of them end.
"""

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence

import msgspec

from habitue.config import clock
from habitue.errors import HabitueError
from habitue.lake.eventlog.segments import SqliteLog
from habitue.serving.app import Place
from habitue.serving.metrics import Metrics
from habitue.serving.several.children import end, keep
from habitue.serving.several.claiming import CLAIMS_FILE
from habitue.serving.several.handing import HANDING_FILE
from habitue.serving.several.listening import BACKLOG
from habitue.serving.several.sharing import COUNTED_FILES, WINDOWS_FILE, counted
from habitue.serving.several.told import TOLD_FILE, Beside, Listening, ServeConfig, Telling
from habitue.serving.several.working import Working
from habitue.serving.several.writing import Writing

START_SECONDS = 60.0                       # that those who answer get to begin with it
_LOOK_SECONDS = 0.02

class NotStarted(HabitueError, RuntimeError):
    """The processes that answer do not come up."""


class Parent:
    """One life of several processes behind one port. Made where the loop runs."""

    def __init__(self, place: Place, config: ServeConfig, beside: Beside) -> None:
        self.place, self.config, self.beside = place, config, beside
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop(self) -> None:
        """End soon; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def run(
        self,
        held: socket.socket,
        listening: Listening,
        others: "Sequence[Coroutine[None, None, None]]",
    ) -> None:
        """Start all, and end them in order: who answers, who writes, then who reads the log.

        Raises:
            NotStarted: nobody answers after a minute.
        """
        port = held.getsockname()[1]
        if self.config.workers:
            held.listen(BACKLOG)           # who connects waits until somebody answers
        self._forget()
        telling = Telling(self.place.online / TOLD_FILE, self.config, port, now=clock())
        with self._signals(), _writing(self.place):
            following = [asyncio.create_task(keep(one)) for one in self.beside.commands]
            following += [asyncio.create_task(one) for one in (*others, self._tell(telling))]
            fd = held.fileno()
            workers = [asyncio.create_task(keep(one, [fd])) for one in self._commands(fd)]
            try:
                if await self._answered():
                    listening(port, self.stop)
                    await self._stopped.wait()
            finally:
                await end(workers)
        await end(following)               # all is in the log by now, and gets settled
        telling.over()
        self._forget()

    def _commands(self, listener: int) -> list[list[str]]:
        """How each that answers is started."""
        config = self.config
        working = [
            Working(listener=listener, slot=slot, klaviyo_limits=config.holds_klaviyo_limits)
            for slot in range(config.workers)
        ]
        return [[*self.beside.answer, msgspec.json.encode(one).decode()] for one in working]

    async def _answered(self) -> bool:
        """Wait until all answer; false if it was stopped before."""
        deadline = time.monotonic() + START_SECONDS
        while len(counted(self.place.online)) < self.config.workers:
            if self._stopped.is_set():
                return False
            if time.monotonic() > deadline:
                raise NotStarted(
                    f"the processes that answer did not start within {START_SECONDS:g} s\n"
                    "hint: what they said stands above; `habitue doctor` looks at the machine"
                )
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def _tell(self, telling: Telling) -> None:
        """Write down every second how all of them go together."""
        while True:
            total, told = Metrics(), counted(self.place.online)
            for one in told:
                total.add(one)
            waiting = sum(one.waiting_bytes for one in told)
            with contextlib.suppress(OSError):     # a full disk is told to those who send
                telling.tell(total, waiting, now=clock())
            await asyncio.sleep(1.0)

    def _forget(self) -> None:
        """Remove what processes of a former life counted; those of others may live on."""
        if not self.config.workers:
            return
        online = self.place.online
        for path in (*online.glob(COUNTED_FILES), online / WINDOWS_FILE, online / CLAIMS_FILE):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        for one in wanted:
            self._loop.add_signal_handler(one, self._stopped.set)
        try:
            yield
        finally:
            for one in wanted:
                self._loop.remove_signal_handler(one)


@contextlib.contextmanager
def _writing(place: Place) -> Iterator[None]:
    """Append what others hand on, where the log is in files; a broker takes from all of them."""
    if not isinstance(place.log, SqliteLog):
        yield
        return
    with contextlib.closing(Writing(place.online / HANDING_FILE, place.log)):
        yield
