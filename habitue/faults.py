"""Fault points: places where a test may ask the process to die, to prove that nothing is lost.

`habitue.config` arms at most one, from the environment variable HABITUE_FAULT: `name` dies where
`reach(name)` is first called, `name:3` at the third call. Unarmed, a point costs one comparison.
The process kills itself with SIGKILL, so that nothing is tidied up behind it.
"""

import os
import signal

_survived: dict[str, int] = {}             # the armed fault point -> calls that it lets pass


def arm(wish: str) -> None:
    """Choose the fault point that kills: `name` or `name:N` with N from 1; empty for none.

    Raises:
        ValueError: N is no number from 1.
    """
    name, _, count = wish.partition(":")
    passes = int(count or 1) - 1
    if passes < 0:
        raise ValueError(f"a fault is reached from the first time on, not {wish!r}")
    _survived.clear()
    if name:
        _survived[name] = passes


def reach(name: str) -> None:
    """Die here, if this is the armed fault point and its turn has come."""
    if name not in _survived:
        return
    if _survived[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    _survived[name] -= 1
