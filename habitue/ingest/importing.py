"""`import_file`: a file and its mapping into the lake, with a receipt for every row."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from habitue.events import Receipt
from habitue.ingest.files import Progress, Staged, stage
from habitue.ingest.gate import Batch, Gate, Portion, Settings
from habitue.ingest.mapping import Mapping, constant
from habitue.ingest.orders import arrange, catalogue, order_portions
from habitue.ingest.records import item_rows, record_portions
from habitue.lake.query import read
from habitue.lake.tables import Lake

_READING = 0.7                             # share of the time that goes into reading the file


def import_file(
    path: Path | str,
    *,
    lake: Lake,
    shop: str,
    mapping: Mapping,
    now: datetime,
    progress: Progress | None = None,
) -> Receipt:
    """Import a file of one shop: every row is appended, a duplicate, or rejected with a reason.

    Importing a file twice appends nothing. Raises `BadFile` or `BadMapping`, and then nothing has
    changed; `progress` is called with the share that is done.
    """
    path = Path(path)
    told = progress or (lambda share: None)
    zone = mapping.shop_timezone or _zone_of(lake, shop)
    with stage(
        path, mapping, zone=zone, now=now, progress=lambda share: told(share * _READING)
    ) as staged, lake.lease():
        batch = _batch(staged, lake, shop, path.name, now)
        batch = replace(batch, portions=_counted(batch.portions, lake.buckets, told))
        receipt = Gate(lake).settle(batch)
    told(1.0)
    return receipt


def _batch(staged: Staged, lake: Lake, shop: str, origin: str, now: datetime) -> Batch:
    mapping = staged.mapping
    named = {"shop": shop, "source": mapping.source}
    empty = Batch(
        shop=shop,
        source=mapping.source,
        origin=origin,
        received=now,
        rows=staged.rows,
        rejected=staged.rejected,
        settings=_settings(mapping),
    )
    match mapping.kind:
        case "order_lines":
            documents = arrange(staged, lake, **named)
            portions = order_portions(staged, documents, lake, **named)
            return replace(empty, portions=portions, items=catalogue(staged, **named))
        case "orders" | "events":
            return replace(empty, portions=record_portions(staged, lake, **named))
        case "items":
            items = item_rows(staged, lake, **named)
            return replace(empty, items=items, counts_items=True)


def _counted(portions: Iterable[Portion], total: int, told: Progress) -> Iterator[Portion]:
    """The portions, telling the share that is done after each."""
    for done, portion in enumerate(portions, start=1):
        yield portion
        told(_READING + (1 - _READING) * done / (total + 1))


def _settings(mapping: Mapping) -> Settings:
    return Settings(
        timezone=mapping.shop_timezone,
        currency=constant(mapping.fields.currency or ""),
        not_item_codes=mapping.not_items.codes if mapping.not_items else None,
        not_item_patterns=mapping.not_items.patterns if mapping.not_items else None,
    )


def _zone_of(lake: Lake, shop: str) -> str:
    """The shop's time zone as it was declared before, else UTC."""
    if shop not in lake.shops():
        return "UTC"
    held: pa.Table = read(lake, "SELECT timezone FROM shop_settings", shop=shop)
    return str(held["timezone"][0].as_py())
