"""What a service that was killed again and again has left, held against what its clients know."""

import json
import re
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from habitue.lake.index import TABLES_WITH_DIGESTS
from habitue.lake.profiles import PROFILES_FILE, LiveProfile, Profiles
from habitue.lake.tables import Lake
from habitue.workspace import open_workspace
from tests.serving.crashing.killing import Crashing
from tests.serving.crashing.sending import EVENTS_OF_ONE

_PUT = re.compile(r"p\d+")                 # the properties whose values are names of inputs
_EVERYBODY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What is left; all of it counted in the lake's files, not by the service."""

    kills: dict[str, int]                  # by place
    sent: int                              # different inputs that went out
    acknowledged: int
    in_lake: int
    unacknowledged_in_lake: int            # sent, and nobody was told that they were taken
    retries: int                           # requests
    repeats: int                           # requests that were acknowledged before
    lost: int                              # acknowledged and not there
    doubled: int                           # rows beyond the first of their kind
    invented: int                          # there and never sent
    unsettled: int                         # receipts that do not add up to what was sent
    appended_beyond: int                   # by all receipts, more than were ever in the lake
    rejected: int                          # but for what erased customers sent again
    erased: int                            # customers
    resurrected: int                       # rows of erased customers
    profiles: int
    profiles_apart: int                    # live ones that are not as the lake says
    files_merged: int                      # in the lake that hold what several held before
    rows_trimmed: int                      # of the log


def tally(crashing: Crashing) -> Tally:
    """Count."""
    lake, sent = Lake(crashing.workspace / "lake"), crashing.sent()
    found = Counter(_inputs(lake))
    of_erased = len(crashing.erased) * EVENTS_OF_ONE
    rows = _rows(lake, "receipts", ["id", "rows", "appended", "duplicate", "rejected"])
    profiles, apart = _profiles(crashing.workspace, lake)
    merged = [file for name in TABLES_WITH_DIGESTS for file in lake.files(name) if "merged" in file]
    return Tally(
        kills=dict(sorted(Counter(crashing.deaths()).items())),
        sent=len(sent.begun),
        acknowledged=len(sent.acknowledged),
        in_lake=len(found),
        unacknowledged_in_lake=len(found.keys() - sent.acknowledged),
        retries=sent.retries,
        repeats=sent.repeats,
        lost=len(sent.acknowledged - found.keys()),
        doubled=found.total() - len(found) + _digests_twice(lake),
        invented=len(found.keys() - sent.begun),
        unsettled=_unsettled(rows, sent.receipts),
        appended_beyond=sum(row["appended"] for row in rows) - len(found) - of_erased,
        rejected=sum(row["reason"] != "erased" for row in _rows(lake, "rejected", ["reason"])),
        erased=len(crashing.erased),
        resurrected=_rows_of(lake, set(crashing.erased)),
        profiles=profiles,
        profiles_apart=apart,
        files_merged=len(merged),
        rows_trimmed=_trimmed(crashing.workspace / "log"),
    )


def _inputs(lake: Lake) -> list[str]:
    """The name of every input that the lake holds, as often as it does; none of erased ones."""
    events = [row["id"].rpartition("\0")[2] for row in _rows(lake, "events", ["id"])]
    changes = [json.loads(row["put"]) for row in _rows(lake, "profiles", ["put"])]
    told = [value for put in changes for name, value in put.items() if _PUT.fullmatch(name)]
    return events + told


def _digests_twice(lake: Lake) -> int:
    """Rows of each table beyond the first of their digest."""
    held = [
        (name, row["digest"])
        for name in TABLES_WITH_DIGESTS
        for row in _rows(lake, name, ["digest"])
    ]
    return len(held) - len(set(held))


def _unsettled(rows: list[dict], told: dict[str, int]) -> int:
    """Receipts that do not add up, or that count other inputs than their request had."""
    settled: Counter[str] = Counter()
    for row in rows:
        settled[row["id"]] += row["rows"]
    wrong = [
        row for row in rows if row["rows"] != row["appended"] + row["duplicate"] + row["rejected"]
    ]
    return len(wrong) + sum(settled[receipt] != count for receipt, count in told.items())


def _rows_of(lake: Lake, customers: set[str]) -> int:
    keyed = {"events": "customer", "profiles": "customer", "consents": "customer", "links": "key"}
    return sum(
        row[column] in customers
        for name, column in keyed.items()
        for row in _rows(lake, name, [column])
    )


def _profiles(workspace: Path, lake: Lake) -> tuple[int, int]:
    """How many live profiles there are, and how many are not what the lake alone says."""
    assert open_workspace(workspace).log.shards == 1
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Profiles(workspace / "online" / PROFILES_FILE)) as live,
        closing(Profiles(Path(folder) / "derived.sqlite")) as derived,
    ):
        derived.rebuild(lake)
        ours, theirs = _known(live), _known(derived)
        apart = sum(ours.get(id) != theirs.get(id) for id in ours.keys() | theirs.keys())
        return len(ours), apart + (_counts(live) != _counts(derived))


def _known(profiles: Profiles) -> dict[str, LiveProfile]:
    """Everybody, but for when they were last told of.

    The lake leaves out what is said in passing and was said before; the live state has seen it.
    """
    everybody = profiles.page("acme", most=_EVERYBODY)
    return {one.id: msgspec.structs.replace(one, updated=one.created) for one in everybody}


def _counts(profiles: Profiles) -> dict[str, int]:
    """Events by name; their first and last instants may be those of somebody who was erased."""
    return {name: told.events for name, told in profiles.names("acme").items()}


def _trimmed(folder: Path) -> int:
    """How many rows the log held once and holds no more."""
    return min(int(path.stem) for path in folder.glob("shard-000/*.sqlite"))


def _rows(lake: Lake, name: str, columns: list[str]) -> list[dict]:
    """The columns of every row of a table, read file by file."""
    return [
        row
        for file in lake.files(name)
        for row in pq.read_table(file, columns=columns, partitioning=None).to_pylist()
    ]
