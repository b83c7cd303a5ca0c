"""A process that appends is killed again and again; the log holds what it acknowledged, once.

The counts are logged: `pytest --log-cli-level=INFO -m slow tests/lake/test_log_kills.py`.
"""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from habitue.lake.eventlog.segments import SqliteLog

log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
BATCH = 5                                  # bodies at most in one append

APPEND = """
import random, sys
from pathlib import Path
from habitue.lake.eventlog.segments import SqliteLog
path, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
log, rng = SqliteLog(path, segment_bytes=40_000), random.Random(seed)
while True:
    batch = range(number, number + rng.randint(1, 5))
    told = log.append(0, [b"%d " % one + b"x" * rng.choice((10, 300, 9_000)) for one in batch])
    print(*(f"{offset}:{one}" for offset, one in zip(told, batch)), flush=True)
    number = batch.stop
"""


def killed_at_random(path: Path, number: int, rng: random.Random) -> list[tuple[int, int]]:
    """What a process acknowledged, as offset and number, until it was killed."""
    command = [sys.executable, "-c", APPEND, str(path), str(number), str(rng.getrandbits(32))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        first = process.stdout.readline()              # it has begun
        time.sleep(rng.random() ** 2 * 0.15)
        process.kill()
        lines = (first + process.stdout.read()).splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    pairs = [pair.split(":") for line in whole for pair in line.split()]
    return [(int(offset), int(one)) for offset, one in pairs]


def rows_from(path: Path, offset: int) -> list[tuple[int, int]]:
    """Offset and number of every row from an offset on, read in steps."""
    found: list[tuple[int, int]] = []
    with closing(SqliteLog(path)) as opened:
        while rows := opened.read(0, offset, most_bytes=200_000):
            found += [(row.offset, int(row.body.split()[0])) for row in rows]
            offset = rows[-1].offset + 1
    return found


@pytest.mark.parametrize("kills", [20, pytest.param(250, marks=pytest.mark.slow)])
def test_every_acknowledged_row_survives_every_kill_once(tmp_path, kills):
    rng = random.Random(7)
    acknowledged: list[tuple[int, int]] = []
    end = unacknowledged = 0
    for _ in range(kills):
        told = killed_at_random(tmp_path, end, rng)
        found = rows_from(tmp_path, end)
        assert found[: len(told)] == told
        assert len(found) - len(told) <= BATCH         # at most the append it died in
        acknowledged += told
        unacknowledged += len(found) - len(told)
        end += len(found)
    assert rows_from(tmp_path, 0) == [(row, row) for row in range(end)]  # in order, none twice
    assert len(acknowledged) + unacknowledged == end
    log.info(
        "kills=%d acknowledged=%d in_the_log_unacknowledged=%d segments=%d",
        kills, len(acknowledged), unacknowledged, len(list(tmp_path.glob("shard-000/*.sqlite"))),
    )


DIE = """
import sys
from pathlib import Path
from habitue.lake.eventlog.segments import SqliteLog
log = SqliteLog(Path(sys.argv[1]), segment_bytes=1)
for number in range(4):
    print(log.append(0, [b"%d" % number]).start, flush=True)
    log.trim(0, number - 1)
"""


@pytest.mark.parametrize(
    ("fault", "acknowledged", "kept"),
    [
        ("log.before_commit:3", 2, 2),
        ("log.after_commit:3", 2, 3),      # not acknowledged, and yet there: a retry is a duplicate
        ("log.made:3", 2, 2),
        ("log.rotated:2", 2, 2),
        ("log.trim:1", 3, 3),
    ],
)
def test_a_process_that_dies_anywhere_keeps_what_it_acknowledged(
    tmp_path, fault, acknowledged, kept
):
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(tmp_path)], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "HABITUE_FAULT": fault},
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(offset) for offset in range(acknowledged)]
    assert rows_from(tmp_path, 0) == [(row, row) for row in range(kept)]
    with closing(SqliteLog(tmp_path)) as opened:
        assert opened.append(0, [b"%d" % kept]) == range(kept, kept + 1)
    assert rows_from(tmp_path, 0) == [(row, row) for row in range(kept + 1)]
