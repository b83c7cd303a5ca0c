"""Erase a customer's rows from every table, and the files that held them from the disk.

What is left of a file is written anew and takes its place; then every file of the customer's
buckets that the newest snapshot does not name is deleted, so that no former version and no rest of
a merge holds a row. Versions from before an erasure can therefore not be read in those buckets.
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from habitue.events import bucket_of
from habitue.faults import reach
from habitue.lake import journal
from habitue.lake.deltalog import WrittenFile
from habitue.lake.maintenance import housekeeping
from habitue.lake.schema import TABLES
from habitue.lake.tables import Lake, conformed_rows, merged_name

log = logging.getLogger(__name__)

# table -> the columns that hold a customer's key; a link lies in the bucket of its first key
KEYED: dict[str, tuple[str, ...]] = {
    "events": ("customer",),
    "identifiers": ("key",),
    "links": ("key", "other"),
    "profiles": ("customer",),
    "consents": ("customer",),
    "predictions": ("customer",),
    "customer_embeddings": ("customer",),
}
_LEAST_DIGITS = 7                          # of a phone number that is looked for in payloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was erased."""

    rows: dict[str, int]                   # by table
    payloads: int                          # of rejected inputs that were emptied
    files_deleted: int
    digests: tuple[bytes, ...]             # of the rows, for the dedupe index to forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose rows are meant."""

    shop: str
    keys: frozenset[str]                   # every key of the customer
    until: datetime                        # rows of a later time are a new customer's
    mentions: tuple[str, ...] = ()         # raw ids, emails and phones that payloads may hold


def erase_rows(lake: Lake, whose: Whose) -> Erased:
    """Erase a customer from the lake, durable on return; doing it again erases nothing.

    Raises:
        Busy: another process keeps house or writes; try again.
    """
    rows: dict[str, int] = {}
    digests: list[bytes] = []
    deleted = payloads = 0
    with housekeeping(lake), lake.lease():
        for name in KEYED:
            if lake.table(name) is None:
                continue
            rows[name] = sum(
                _erase_file(lake, name, file, whose, digests) for file in _files(lake, name, whose)
            )
            reach("erase.before_delete")
            deleted += _delete_replaced(lake, name, _buckets(lake, name, whose))
        if lake.table("rejected") is not None:
            buckets = {bucket_of(whose.shop, "", b"", lake.buckets)}
            payloads = sum(
                _empty_payloads(lake, file, whose)
                for file in lake.written("rejected") if file.bucket in buckets
            )
            deleted += _delete_replaced(lake, "rejected", buckets)
    log.info("erased shop=%s rows=%d payloads=%d", whose.shop, sum(rows.values()), payloads)
    return Erased(rows=rows, payloads=payloads, files_deleted=deleted, digests=tuple(digests))


def count_rows(lake: Lake, whose: Whose) -> dict[str, int]:
    """How many rows of a customer each table holds, up to `until`: the proof of an erasure."""
    return {
        name: sum(_held(lake, name, file, whose) for file in lake.written(name))
        for name in KEYED if lake.table(name) is not None
    }


def _buckets(lake: Lake, name: str, whose: Whose) -> set[int]:
    """The buckets of a table that may hold the customer's rows."""
    if name == "links":                    # as the other side of somebody's key
        return set(range(lake.buckets))
    return {bucket_of(whose.shop, key, b"", lake.buckets) for key in whose.keys}


def _files(lake: Lake, name: str, whose: Whose) -> list[WrittenFile]:
    buckets = _buckets(lake, name, whose)
    return [
        file for file in lake.written(name)
        if file.bucket in buckets and _held(lake, name, file, whose)
    ]


def _held(lake: Lake, name: str, file: WrittenFile, whose: Whose) -> int:
    """How many of a file's rows are the customer's."""
    with pq.ParquetFile(_source(lake, name, file)) as source:
        columns = _asked(name, source.schema_arrow.names)
        return sum(
            pc.sum(_is_theirs(name, pa.Table.from_batches([batch]), whose)).as_py() or 0
            for batch in source.iter_batches(columns=columns)
        )


def _asked(name: str, held: Collection[str]) -> list[str]:
    return [one for one in ("shop", *KEYED[name], "time") if one in held]


def _is_theirs(name: str, rows: pa.Table, whose: Whose) -> pa.ChunkedArray:
    """(rows,) bool: the row is the customer's."""
    keys = pa.array(sorted(whose.keys), pa.string())
    is_key = [pc.is_in(rows[column], keys) for column in KEYED[name]]
    found = is_key[0]
    for other in is_key[1:]:
        found = pc.or_(found, other)
    found = pc.and_(found, pc.equal(rows["shop"], whose.shop))
    if "time" in rows.schema.names:
        found = pc.and_(found, pc.less_equal(rows["time"], pa.scalar(whose.until)))
    return found


def _erase_file(
    lake: Lake, name: str, file: WrittenFile, whose: Whose, digests: list[bytes]
) -> int:
    """Put what is left of a file in its place; returns how many rows are gone."""
    def left() -> Iterator[pa.Table]:
        with pq.ParquetFile(_source(lake, name, file)) as source:
            for batch in source.iter_batches():
                rows = conformed_rows(TABLES[name], pa.Table.from_batches([batch]))
                theirs = _is_theirs(name, rows, whose)
                if "digest" in rows.schema.names:
                    digests.extend(rows["digest"].filter(theirs).to_pylist())
                yield rows.filter(pc.invert(theirs))

    return _rewrite(lake, name, file, left())


def _rewrite(lake: Lake, name: str, file: WrittenFile, rows: Iterable[pa.Table]) -> int:
    """Put other rows in a file's place; returns by how many they are fewer."""
    place = lake.path / name
    chunks = [chunk for chunk in rows if chunk.num_rows]
    added = []
    if chunks:
        # what the file's rows were known by stays in its name: see `merged_name`
        path = merged_name([file], lake.sequence + 1)
        added.append(journal.write_file(place, path, file.bucket, chunks))
        journal.flush_files(place, added)
    reach("erase.before_journal")
    lake.replace(name, [file], added)
    return file.rows - sum(one.rows for one in added)


def _empty_payloads(lake: Lake, file: WrittenFile, whose: Whose) -> int:
    """Empty the payloads of rejected inputs that mention the customer; returns how many."""
    pattern = _mention(whose)
    with pq.ParquetFile(_source(lake, "rejected", file)) as source:
        rows = conformed_rows(TABLES["rejected"], source.read())
    found = pc.and_(
        pc.equal(rows["shop"], whose.shop),
        pc.and_(
            pc.match_substring_regex(rows["payload"], pattern, ignore_case=True),
            pc.less_equal(rows["received"], pa.scalar(whose.until)),
        ),
    )
    count = pc.sum(found).as_py() or 0
    if count:
        at = rows.schema.get_field_index("payload")
        emptied = pc.if_else(found, "", rows["payload"])
        _rewrite(lake, "rejected", file, [rows.set_column(at, rows.schema.field(at), emptied)])
    return count


def _mention(whose: Whose) -> str:
    """RE2 for any way in which a payload may name the customer."""
    # an id stands alone: 7 is not mentioned by 17
    said = [
        rf"(?:^|[^0-9a-z_]){re.escape(one)}(?:$|[^0-9a-z_])"
        for one in sorted({*whose.keys, *whose.mentions}) if one
    ]
    for one in whose.mentions:
        digits = [character for character in one if character.isdigit()]
        if one.startswith("+") and len(digits) >= _LEAST_DIGITS:
            said.append(r"[^0-9]{0,3}".join(digits))
    return "|".join(said) or r"\b\B"


def _delete_replaced(lake: Lake, name: str, buckets: set[int]) -> int:
    """Delete the buckets' files that the newest snapshot does not name; the lease is held."""
    place = lake.path / name
    active = {file.path for file in lake.written(name)}
    replaced = [
        path
        for bucket in sorted(buckets)
        for file in lake.storage.list(place / f"bucket={bucket}")
        if (path := f"bucket={bucket}/{file.path}") not in active
        and file.path.endswith(".parquet")
    ]
    lake.confirm()                         # so none of these is being written by somebody else
    for path in replaced:
        lake.storage.delete(place / path)
    return len(replaced)


def _source(lake: Lake, name: str, file: WrittenFile) -> Any:
    return lake.storage.source(lake.path / name / file.path)
