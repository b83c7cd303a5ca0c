"""The same application for a server that is not ours, such as a replica of Ray Serve.

`habitue serve --workers 0` runs beside it on the same machine: it writes, follows and scores.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from starlette.types import Receive, Scope, Send

from habitue.config import utc_now
from habitue.errors import Busy
from habitue.serving.app import Application, Place
from habitue.serving.beside.underway import SLOTS
from habitue.serving.doors.routes import ROUTES
from habitue.serving.several.answering import chores, close, service_of, tell
from habitue.serving.several.children import end
from habitue.serving.several.working import handed

FIRST_SLOT = 32                            # those below are of our own processes


class Hosted:
    """An ASGI application that opens and closes with its server's lifespan."""

    def __init__(self, place: Callable[[], Place]) -> None:
        """`place` is called when the server starts."""
        self._place = place
        self._application: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live as long as the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            assert self._application is not None, "the server has told that it starts"
            await self._application(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        place = self._place()
        with contextlib.ExitStack() as held:
            slot = held.enter_context(_slot(place.online))
            log = held.enter_context(contextlib.closing(handed(place.log, place.online)))
            service = service_of(
                dataclasses.replace(place, log=log), utc_now, klaviyo_limits=True, slot=slot
            )
            tasks = [asyncio.create_task(one) for one in (*chores(service), tell(service, slot))]
            self._application = Application(service, ROUTES)
            try:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            finally:
                service.collector.close()
                await end(tasks)
                close(service)
        await send({"type": "lifespan.shutdown.complete"})


@contextlib.contextmanager
def _slot(online: Path) -> Iterator[int]:
    """A slot that no other process has; the lock ends with the process that holds it."""
    for slot in range(FIRST_SLOT, SLOTS):
        handle = os.open(online / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield slot
            return
        finally:
            os.close(handle)
    raise Busy(f"{SLOTS - FIRST_SLOT} processes answer here already\nhint: run fewer replicas")
