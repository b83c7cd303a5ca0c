"""What every benchmark writes: flat rows, cell by cell, so that a stopped run can be resumed."""

import csv
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one method on one data set."""

    data: str
    protocol: str
    method: str
    metric: str
    value: float | None = None             # none where the metric is not defined
    low: float | None = None               # 5th percentile
    high: float | None = None              # 95th
    seed: int | None = None
    seconds: float | None = None           # of the cell that the row comes from
    peak_mb: float | None = None           # of the process that ran it
    commit: str = ""
    hardware: str = ""


class Ledger:
    """The rows of one benchmark on disk. A cell is (data, method, seed); it is run once.

    Rows of another commit or another machine are kept until their cell is run again.
    """

    def __init__(self, path: Path, commit: str, machine: str) -> None:
        self.path, self.commit, self.machine = path, commit, machine
        self.rows = read_rows(path)

    def has(self, data: str, method: str, seed: int | None) -> bool:
        """Whether this very cell was run by this harness on this machine."""
        return any(
            (row.data, row.method, row.seed) == (data, method, seed)
            and (row.commit, row.hardware) == (self.commit, self.machine)
            for row in self.rows
        )

    def put(self, rows: Iterable[Row]) -> None:
        """Replace the cells that `rows` belong to, and write the file."""
        fresh = list(rows)
        cells = {(row.data, row.method, row.seed) for row in fresh}
        kept = [row for row in self.rows if (row.data, row.method, row.seed) not in cells]
        self.rows = kept + fresh
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([field.name for field in fields(Row)])
            for row in self.rows:
                writer.writerow([_written(value) for value in asdict(row).values()])

    def write_json(self, path: Path) -> None:
        """The same rows as a JSON list."""
        path.write_text(json.dumps([asdict(row) for row in self.rows], indent=1) + "\n")


def harness_commit(*paths: str) -> str:
    """The last commit that touched `paths`, with a + where they hold uncommitted changes."""
    root = Path(__file__).parent.parent
    commit = _git(root, "log", "-1", "--format=%h", "--", *paths) or "none"
    return commit + ("+" if _git(root, "status", "--porcelain", "--", *paths) else "")


def hardware() -> str:
    """The processor and how many cores of it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
    return f"{model}, {os.cpu_count()} cores"


def peak_mb() -> float:
    """The most memory this process has held, in MB.

    By its own account where there is one: rusage starts at what the parent held when it forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 if sys.platform != "darwin" else 1024 * 1024)


def in_a_process(script: str, arguments: list[str], timeout_seconds: float) -> dict[str, Any]:
    """Run a cell alone, so that its memory is its own; what it printed last, as JSON.

    A cell that fails or takes too long tells nothing, and we say so on stderr.
    """
    command = [sys.executable, script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_seconds, env=environment
        )
    except subprocess.TimeoutExpired:
        print(f"no result within {timeout_seconds:.0f} s: {arguments}", file=sys.stderr)
        return {}
    if done.returncode:
        print(f"failed: {arguments}\n{done.stderr[-500:]}", file=sys.stderr)
        return {}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return done.stdout.strip()


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; none where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        told = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    return msgspec.convert(told, list[Row], strict=False)


def _written(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
