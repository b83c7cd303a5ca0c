"""Processes that a server runs beside it: started, started again when they die, ended in order."""

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Sequence

log = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0                      # that one gets to end in order
LOOK_SECONDS = 0.2                         # between looks whether it lives
MOST_PAUSE_SECONDS = 30.0                  # before one that keeps dying is started again


async def keep(command: Sequence[str], held: Sequence[int] = ()) -> None:
    """Run a process, again whenever it dies; let it end in order in the end.

    It is given the open files that are `held`.
    """
    process, began, pause = _start(command, held, again=False), time.monotonic(), 0.0
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
            process, began = _start(command, held, again=True), time.monotonic()
    finally:
        await asyncio.to_thread(_settle, process)


async def end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks, and wait until what they ran is over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _start(
    command: Sequence[str], held: Sequence[int], *, again: bool
) -> "subprocess.Popen[bytes]":
    """A process of its own, so that what it does does not take the interpreter from requests."""
    told = ("--parent", str(os.getpid()), *(("--again",) if again else ()))
    return subprocess.Popen(
        [*command, *told], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=held
    )


def _settle(process: "subprocess.Popen[bytes]") -> None:
    """Let it settle what there is, then see it end."""
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
