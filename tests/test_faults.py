"""A fault point kills the process at its turn, and no other point does anything."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from habitue import faults

ROOT = Path(__file__).parent.parent
WALK = """
import habitue.config
from habitue.faults import reach
for step in range(4):
    print(step, flush=True)
    reach("here")
"""


def walked(fault: str | None) -> tuple[int, int]:
    """How many steps a process went, and how it ended."""
    told = {**os.environ, "HABITUE_FAULT": fault} if fault is not None else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", WALK], capture_output=True, text=True, cwd=ROOT, env=told
    )
    return len(done.stdout.splitlines()), done.returncode


@pytest.mark.parametrize(
    ("fault", "steps", "ending"),
    [
        ("here", 1, -signal.SIGKILL),
        ("here:1", 1, -signal.SIGKILL),
        ("here:3", 3, -signal.SIGKILL),
        ("here:9", 4, 0),
        ("there", 4, 0),
        ("", 4, 0),
        (None, 4, 0),
    ],
)
def test_a_process_dies_where_the_environment_says(fault, steps, ending):
    assert walked(fault) == (steps, ending)


@pytest.mark.parametrize("wish", ["here:0", "here:-1", "here:often"])
def test_a_wish_that_cannot_be_met_is_refused(wish):
    with pytest.raises(ValueError, match=r"here|often"):
        faults.arm(wish)
