"""Imports that are killed: whatever the instant, no row is lost, doubled or half there."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.small import counts, imported, row, written

IMPORT = """
import sys
from pathlib import Path
from habitue.lake.tables import Lake
from tests.ingest.small import imported
imported(Lake(sys.argv[1]), Path(sys.argv[2]))
"""
ROOT = Path(__file__).parent.parent.parent
KILLS = 12
ROWS = 20_000


@pytest.mark.slow
def test_an_import_killed_at_any_instant_is_all_there_or_not_at_all(tmp_path):
    rng = random.Random(0)
    folder, path = tmp_path / "lake", tmp_path / "a.csv"
    expected = 0
    for attempt in range(KILLS):
        rows = [row(order=f"{attempt}-{n // 3}", customer=f"c{n % 97}") for n in range(ROWS)]
        written(path, rows)
        command = [sys.executable, "-c", IMPORT, str(folder), str(path)]
        child = subprocess.Popen(command, cwd=ROOT)
        try:
            child.wait(timeout=rng.uniform(0.8, 3.0))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        lake = Lake(folder)
        assert not (folder / "journal.json").exists()
        stored = _stored(lake)
        assert stored in (expected, expected + ROWS)
        assert _settled(lake) == stored
        came, known, refused = counts(imported(lake, path))
        assert (came, known, refused) in ((ROWS, 0, 0), (0, ROWS, 0))
        expected += ROWS
        assert _stored(lake) == _settled(lake) == expected


def _stored(lake: Lake) -> int:
    """Lines in the lake."""
    if "acme" not in lake.shops():
        return 0
    found = read(lake, "SELECT sum(len(lines))::BIGINT AS n FROM events", shop="acme")
    return found["n"][0].as_py() or 0


def _settled(lake: Lake) -> int:
    """Lines that the receipts call appended."""
    if "acme" not in lake.shops():
        return 0
    found = read(lake, "SELECT sum(appended)::BIGINT AS n FROM receipts", shop="acme")
    return found["n"][0].as_py() or 0
